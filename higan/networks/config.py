"""Hyperparameters of the networks, validated; no backend is imported to read a recipe or a card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

WIDEST = 4.0  # radius, in cells, of the largest top-hat that is taken of a map as it is
DENSE_LAYERS = 4  # of the network "profiles"
OF_GALAXIES = {"network", "latent", "profiles", "knots", "psf", "embedding"}  # what that one is told
WITHOUT_CONVOLUTIONS = {"widths": [1], "noise_channels": 0, "centred": True}  # what it has of the rest


def halvings(radius: float) -> int:
    """How often a map is halved for its means in top-hats of `radius` cells."""
    return max(0, math.ceil(math.log2(radius / WIDEST)))


def half_width(radius: float) -> int:
    """Cells of the map halved so often, on each side, that a mean in a top-hat of `radius` cells is of."""
    return math.ceil(radius / 2 ** halvings(radius) + 0.5) - 1


Width = Annotated[int, Field(ge=1, le=8192)]


class ExcursionSet(BaseModel):
    """The radii, in cells, over which an excursion set smooths: `smallest` × `step`^i, i = 0 … `radii` - 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    smallest: float = Field(ge=0.1, le=1e3)
    step: float = Field(default=1.1, gt=1.0, le=10.0)
    radii: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _within_any_map(self) -> ExcursionSet:
        if self.cells[-1] > 1e4:
            raise ValueError(f"the largest of these radii is {self.cells[-1]:.3g} cells, and 10000 are the most")
        return self

    @property
    def cells(self) -> list[float]:
        """All radii, ascending."""
        return [self.smallest * self.step**i for i in range(self.radii)]


class GeneratorConfig(BaseModel):
    """Hyperparameters of the generator.

    Attributes
    ----------
    network : {"unet", "profiles"}
        The latter paints galaxies as profiles and knots alone: dense layers, as wide as `embedding`, say from the
        parameters and the latent vector what these are like, and what is a matter of convolutions and their noise is
        left out. Catalogues of parametric fits are of such galaxies; real ones have arms and dust besides.
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
        Maps have a middle and edges, like stamps of single galaxies: the networks know where a cell lies, and do not
        join opposite sides. Such maps are painted whole, and shifting what goes in does not shift what comes out.
    profiles : int
        Sérsic profiles about the middle of centred maps in two dimensions, for galaxies. The latent vector and the
        parameters give each a shape, a share of the light and an index (:class:`higan.networks.galaxies.Galaxies`); a
        U-Net knows where a cell lies in them, and paints what they do not hold: arms, all that is not smooth. They
        turn with the first two numbers of the latent vector, so that all position angles are as likely. Without them
        it knows the cell's coordinates alone.
    knots : int
        Point-like knots, of star formation say, at most, which lie as the first profile does, each at a place of its
        own: convolutions make lumps of a scale, not points.
    psf : float
        Standard deviation, in pixels, of a Gaussian that profiles and knots are seen through: that of the point-spread
        function that the true galaxies are given with.
    normalised : bool
        Features have unit mean square before the last block of every scale, whatever flows past it from coarser ones:
        in three dimensions that grows until what the block adds, and the noise in it, no longer counts.
    isotropic : bool
        All axes and directions are alike to the convolutions: exchanging or reflecting axes of what goes in does the
        same to what comes out, so that no texture along the grid can be learnt. Fewer weights, a third in
        two dimensions and a seventh in three, for the same work.
    interpolated : bool
        Maps are enlarged by linear interpolation, in place of repeating cells, whose blocks a short training does not
        get rid of.
    tracing : bool
        The output has a part that is linear in the scaled input fields of the same cell, with slopes that the features
        around it give. Where it traces the matter, the network then has to say how much, not to copy it.
    gated : bool
        The strength of the noise is a function of the features of the place it enters at: large where much is left
        open, next to none where the input says what comes out.
    cellwise : bool
        The output has a part that is drawn cell by cell: a function of the noise of a cell, that of coarser levels
        interpolated, and of the features there, which no convolution follows. What of a field is independent from cell
        to cell, as the shot noise of haloes is, has power up to the corners of the cube of modes, which kernels of
        three cells hardly give; and noise of every scale gets to the output straight away.
    spilled : bool
        Cells share their amounts, what is above the lower bound of an output in physical units, with the cells that
        they have a face in common with: a halo lies anywhere in its cell and reaches beyond it, which cells drawn one
        by one do not know. How much depends on the amount and on the features there, and on the first channel of the
        neighbour's finest noise, which does nothing else. Nothing is lost but where cells are out of bounds, as
        `margin` makes empty ones; maps are then bounded, and mapped, as others are.
    exclusion : list of int
        Half-widths, in cells, of windows: what is drawn in a cell is then changed by a network of the same cell alone,
        which sees the features there, what is drawn and how far below the brightest of each window that is. No halo
        lies within another: pairs of them closer than the sphere of matter that one comes from are rarer than among
        cells that are drawn each for itself. It starts without effect.
    diffuse : bool
        The output is the sum of two amounts, above its lower bound in physical units: what is drawn, all of the above,
        and a diffuse part, a function of the parameters (and latent vector) and of the fields of the same cell alone.
        No noise of cells changes that, nothing excludes it, and it is not shared: between haloes lies gas that follows
        the matter, and no cell has less of it, whatever is drawn. It starts in the middle of the scaling, so that it
        has a say in what is faint from the first step on.
    top_hats : list of float
        Radii, in cells, of top-hats: a network of the same cell alone sees the parameters, the fields and their means
        within these spheres (discs in two dimensions). What an excursion set decides (Furlanetto, Zaldarriaga &
        Hernquist 2004, ApJ 613, 1: gas is ionised where the density within any sphere about it is above a barrier) is
        such a function, which convolutions take long to learn. Up to 4 times the stride.
    excursion_set : ExcursionSet, optional
        The same, exactly as 21cmFAST does it with filters that are sharp in wavenumber (its HII_FILTER "sharp-k"): of
        the field, and of what the filter of each of these radii leaves of it, the most by which one is above a barrier
        goes to the networks beside the field. A barrier depends on the radius, on the parameters, and on the variance
        that the field of this very box has at that radius, as 21cmFAST gives every box the mean collapsed fraction of
        all. Such filters see the whole map (:mod:`higan.excursion`), which has one input field, no middle and no latent
        vector.
    top_hat_widths : list of int
        Channels of the layers of the network that sees the means in top-hats, or what is above the barrier.
    stochastic_barrier : bool
        That network sees the noise of every level, too, interpolated: what it decides depends on what no map says, such
        as the density in front of a slab and behind it, which is alike over as large scales. Noise that comes up
        through the U-Net gets there late in a training.
    smoothed_noise : int
        So many times the noise of the coarsest level is smoothed, each time over twice as many of its cells, and given
        beside it wherever it goes: noise is white on scales larger than a coarse cell, and what a map leaves open there
        may not be. To the barrier, and where it is drawn cell by cell, no level's is made fainter then than
        interpolation makes it. Maps that are trained on need 2^(smoothed_noise + 1) - 1 coarse cells.
    embedding : int
        Width of the embedding of the parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["unet", "profiles"] = "unet"
    widths: list[Width] = Field(default=[20, 48, 96, 160], min_length=1, max_length=8)
    bottom_blocks: int = Field(default=2, ge=1, le=16)
    noise_channels: int = Field(default=4, ge=0, le=64)
    latent: int = Field(default=0, ge=0, le=4096)
    centred: bool = False
    profiles: int = Field(default=0, ge=0, le=64)
    knots: int = Field(default=0, ge=0, le=1024)
    psf: float = Field(default=0.0, ge=0.0, le=64.0)
    normalised: bool = False
    isotropic: bool = False
    interpolated: bool = False
    tracing: bool = False
    gated: bool = False
    cellwise: bool = False
    spilled: bool = False
    exclusion: list[Annotated[int, Field(ge=1, le=64)]] = Field(default=[], max_length=8)
    diffuse: bool = False
    top_hats: list[Annotated[float, Field(ge=0.5, le=1e4)]] = Field(default=[], max_length=32)
    excursion_set: ExcursionSet | None = None
    top_hat_widths: list[Width] = Field(default=[64, 64, 64], min_length=1, max_length=8)
    stochastic_barrier: bool = False
    smoothed_noise: int = Field(default=0, ge=0, le=4)
    embedding: int = Field(default=64, ge=1, le=4096)

    @model_validator(mode="before")
    @classmethod
    def _without_convolutions(cls, values: Any) -> Any:
        of_profiles = isinstance(values, dict) and values.get("network") == "profiles"
        return {**WITHOUT_CONVOLUTIONS, **values} if of_profiles else values

    @model_validator(mode="after")
    def _turned(self) -> GeneratorConfig:
        if self.network == "profiles":
            for name, field in type(self).model_fields.items():
                fixed = WITHOUT_CONVOLUTIONS.get(name, field.default)
                if name not in OF_GALAXIES and getattr(self, name) != fixed:
                    raise ValueError(f"network 'profiles' has no convolutions that {name} is of: leave it out")
            if not self.profiles:
                raise ValueError("network 'profiles' paints galaxies of profiles: say how many")
        if self.profiles and not (self.centred and self.latent > 2):
            raise ValueError(
                "profiles lie about the middle of a map and turn with its latent vector: they need centred = true and "
                "latent above 2"
            )
        if self.knots and not self.profiles:
            raise ValueError("knots lie as profiles do: give profiles, or leave knots out")
        if self.psf and not self.profiles:
            raise ValueError("psf is what galaxies of profiles are seen through: give profiles, or leave psf out")
        for name in ("gated", "cellwise", "stochastic_barrier", "smoothed_noise"):
            if getattr(self, name) and not self.noise_channels:
                raise ValueError(
                    f"{name} is of noise, of which there is none: give noise_channels, or leave {name} out"
                )
        if any(low >= high for low, high in pairwise(self.top_hats)):
            raise ValueError(f"top_hats are radii in ascending order, each once, not {self.top_hats}")
        if self.top_hats and (self.centred or self.levels == 1 or self.top_hats[-1] > WIDEST * self.stride):
            raise ValueError(
                f"top_hats are of maps without edges, with two widths or more, and of {WIDEST:g} times the stride at "
                f"most ({WIDEST * self.stride:g} cells here): give others, or leave them out"
            )
        for name in ("stochastic_barrier", "top_hat_widths"):
            if not self.knows_matter and getattr(self, name) != type(self).model_fields[name].get_default():
                raise ValueError(
                    f"{name} is of the network that sees top_hats or an excursion_set: give one, or leave {name} out"
                )
        if self.excursion_set and (self.centred or self.latent):
            raise ValueError("an excursion_set is of maps without edges or latent vector: leave one of them out")
        if any(low >= high for low, high in pairwise(self.exclusion)):
            raise ValueError(f"exclusion are half-widths in ascending order, each once, not {self.exclusion}")
        for name in ("smoothed_noise", "exclusion"):
            if getattr(self, name) and self.centred:
                raise ValueError(f"{name} is for maps without edges: leave {name} or centred out")
        # With one width the finest noise, of which it takes a channel, would be the coarsest, too.
        if self.spilled and (self.centred or self.levels == 1 or self.noise_channels < 2):
            raise ValueError(
                "spilled is of maps without edges, with two widths and two noise_channels or more: give these, or "
                "leave spilled out"
            )
        if self.isotropic and self.centred:
            raise ValueError("centred maps tell directions apart by coordinates: leave isotropic or centred out")
        return self

    def count_weights(self, ndim: int, n_inputs: int, n_outputs: int, n_parameters: int) -> int:
        """Numbers in the network of these hyperparameters (:mod:`higan.networks.generator`), which is not built.

        Examples
        --------
        >>> GeneratorConfig(widths=[1], bottom_blocks=1, noise_channels=0).count_weights(1, 1, 1, 0)
        16
        """
        if self.network == "profiles":
            dense = (n_parameters + self.latent - 1 + (DENSE_LAYERS - 1) * (self.embedding + 1)) * self.embedding
            return dense + (self.embedding + 1) * self.numbers_told(n_outputs)
        modulating, centre = n_parameters + self.latent, ndim + 4 if self.centred else 0
        if self.profiles:
            modulating, centre = modulating - 2, 2 * self.profiles

        def convolution(channels: int, width: int, kernel: int = 3) -> int:
            cells = ndim + 1 if self.isotropic and kernel == 3 else kernel**ndim
            return (channels * cells + 1) * width

        def block(width: int, noise: int) -> int:
            film = (self.embedding + 1) * 2 * width if modulating else 0
            gate = convolution(width, width, 1) if self.gated else 0
            injected = convolution(noise, width, 1) + film + gate if noise else 0
            return 2 * (convolution(width, width) + film) + injected

        def pointwise(channels: int, widths: list[int], told: int) -> int:
            films = (self.embedding + 1) * 2 * sum(widths) if modulating else 0
            return films + sum(convolution(*pair, 1) for pair in pairwise([channels, *widths, told]))

        bottom, coarsest, count = self.widths[-1], (1 + self.smoothed_noise) * self.noise_channels, 0
        if modulating:
            count += (modulating + 1) * self.embedding + (self.embedding + 1) * self.embedding
        if self.profiles:
            count += (self.embedding + 1) * self.numbers_told(n_outputs)
        if n_inputs:
            count += convolution(n_inputs + centre + bool(self.excursion_set), self.widths[0])
            for width, wider in pairwise(self.widths):
                count += block(width, 0) + convolution(width, wider, 1)
        else:
            count += convolution(coarsest + centre, bottom)
        count += self.bottom_blocks * block(bottom, coarsest)
        for level, (width, wider) in enumerate(pairwise(self.widths)):
            joined = 2 * width if n_inputs else width + centre
            drawn = self.noise_channels - (self.spilled and not level)
            count += convolution(wider, width, 1) + convolution(joined, width) + block(width, drawn)
        first, everywhere = self.widths[0], (self.levels + self.smoothed_noise) * self.noise_channels - self.spilled
        if n_inputs and self.knows_matter:
            told = n_inputs * (1 + len(self.top_hats)) + bool(self.excursion_set)
            told += everywhere if self.stochastic_barrier else 0
            count += pointwise(told, self.top_hat_widths, first + n_outputs)
        if self.excursion_set:
            embedded = (max(n_parameters, 1) + 1 + self.embedding + 1) * self.embedding
            count += embedded + 2 * (self.embedding + 1) * self.smoothings
        if n_inputs and self.diffuse:
            count += pointwise(n_inputs, self.diffuse_widths, n_outputs)
        if self.cellwise:
            hidden = 2 * convolution(first, first, 1) + convolution(everywhere, first, 1)
            count += hidden + convolution(first, n_outputs, 1)
        count += convolution(first, 4 * n_outputs, 1) if self.spilled else 0
        if self.exclusion:
            seen = first + n_outputs * (1 + len(self.exclusion))
            count += convolution(seen, first, 1) + convolution(first, first, 1) + convolution(first, n_outputs, 1)
        return count + convolution(first, n_outputs * (1 + (n_inputs if self.tracing else 0)))

    def numbers_told(self, n_outputs: int) -> int:
        """How many numbers tell what a galaxy is like (:class:`higan.networks.galaxies.Galaxies`)."""
        return (3 + n_outputs) * (self.profiles + bool(self.knots))

    @property
    def knows_matter(self) -> bool:
        """Whether a network of the same cell alone sees the field on many scales."""
        return bool(self.top_hats or self.excursion_set)

    @property
    def smoothings(self) -> int:
        """In how many ways an excursion set sees the field: as it is, and smoothed over each radius."""
        return 1 + self.excursion_set.radii if self.excursion_set else 0

    @property
    def diffuse_widths(self) -> list[int]:
        """Channels of the network that says how much is diffuse."""
        return [self.widths[0]] * 2

    @property
    def beyond(self) -> int:
        """Cells around a crop of a larger map that its top-hats look at, and nothing else.

        Whole cells of every halved map, with one more to interpolate with.
        """
        levels = {radius: halvings(radius) for radius in self.top_hats}
        reached = [(math.ceil(r / 2**level) + (level > 0)) * 2**level for r, level in levels.items()]
        return -(-max(reached, default=0) // self._whole) * self._whole

    @property
    def _whole(self) -> int:
        """Cells along a side of one of the map that is halved most often for means in top-hats."""
        return 2 ** max(map(halvings, self.top_hats), default=0)

    @property
    def reaches(self) -> list[int]:
        """Cells of each level, finest first, that the way up starts with on every side of a tile of a larger map.

        What lies farther out has no say in the tile any more but through coarser levels.
        """
        reaches: list[int] = []
        needed = 1 + max(self.exclusion, default=0) + self.spilled  # from the head on
        for level in range(self.levels):
            if level:  # to be doubled; interpolation takes the coarse cell beside, too
                needed = -(-(needed + self.interpolated) // 2)
            needed += 3 if level < self.levels - 1 else 2 * self.bottom_blocks  # a merge and a block, or the bottom
            reaches.append(needed)
        return reaches

    def tile_margin(self, fields: bool = True) -> int:
        """Cells of larger maps, a multiple of the stride, that a tile is painted with on every side.

        Its `fields`, where there are any, and the noise of the coarsest level extend so far; noise of finer levels
        need not (:meth:`spared`).
        """
        s, bottom = self.stride, self.reaches[-1]
        found = [bottom + (min(2, s) if fields else 1)]  # the way down, 2 s - 1 cells, or the stem
        if self.smoothed_noise:
            found.append(bottom + 2**self.smoothed_noise - 1 + (not fields))
        if fields and self.top_hats:
            found.append(-(-(self.halved_from + self.beyond) // s))
        return s * max(found)

    @property
    def halved_from(self) -> int:
        """Cells, on every side of a tile, from which on means in top-hats are taken: whole cells of all halved maps."""
        return -(-self.reaches[0] // self._whole) * self._whole

    def spared(self, around: Sequence[int]) -> list[list[int]]:
        """Cells of each level, on either side of every axis, that noise has less than a region that reaches `around`.

        Parameters
        ----------
        around : sequence of int
            Cells that fields extend beyond what is painted, for each axis: `tile_margin`, or 0 where a map wraps.

        Examples
        --------
        >>> config = GeneratorConfig(widths=[4, 8], bottom_blocks=1)
        >>> config.reaches, config.tile_margin(), config.spared([12, 0])
        ([4, 4], 12, [[8, 0], [0, 0]])
        """
        return [
            [(cells >> level) - reach if cells and level < self.levels - 1 else 0 for cells in around]
            for level, reach in enumerate(self.reaches)
        ]

    @property
    def random_numbers(self) -> int:
        """Of a map as a whole: its latent vector, then five of each knot."""
        return self.latent + 5 * self.knots

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
    widths: list[Width] = Field(default=[20, 48, 96, 160], min_length=1, max_length=8)
    embedding: int = Field(default=64, ge=1, le=4096)
