"""Hyperparameters of the networks, validated; no backend is imported to read a recipe or a card."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GeneratorConfig(BaseModel):
    """Hyperparameters of the generator.

    Attributes
    ----------
    network : {"unet"}
    widths : list of int
        Channels at each resolution, finest first; each step down halves the map, so the stride is 2^(levels - 1).
    bottom_blocks : int
        Residual blocks at the coarsest resolution.
    noise_channels : int
        Channels of the noise field of each level; 0 leaves them out.
    latent : int
        Length of a random vector that a map has as a whole. Like the parameters it modulates every block, for what is
        common to all of a map, such as the position angle of a galaxy.
    centred : bool
        Maps have a middle, like stamps of single galaxies: the networks know where a cell lies. Such maps are painted
        whole, and shifting what goes in does not shift what comes out.
    embedding : int
        Width of the embedding of the parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["unet"] = "unet"
    widths: list[int] = Field(default=[20, 48, 96, 160], min_length=1, max_length=8)
    bottom_blocks: int = Field(default=2, ge=1, le=16)
    noise_channels: int = Field(default=4, ge=0, le=64)
    latent: int = Field(default=0, ge=0, le=4096)
    centred: bool = False
    embedding: int = Field(default=64, ge=1, le=4096)

    @property
    def random(self) -> bool:
        """Whether realisations of a map differ."""
        return bool(self.noise_channels or self.latent)

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.widths)

    @property
    def stride(self) -> int:
        """Total stride s: maps are multiples of it, and a roll by it commutes with the generator."""
        return 2 ** (self.levels - 1)


class DiscriminatorConfig(BaseModel):
    """Hyperparameters of the discriminator.

    Attributes
    ----------
    network : {"patch"}
    widths : list of int
        Channels at each resolution, finest first.
    embedding : int
        Width of the embedding of the parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["patch"] = "patch"
    widths: list[int] = Field(default=[20, 48, 96, 160], min_length=1, max_length=8)
    embedding: int = Field(default=64, ge=1, le=4096)
