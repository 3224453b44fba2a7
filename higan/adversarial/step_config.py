"""What a training step is to know: the recipe's losses, and of the maps what these need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from higan.adversarial.objectives import Objective, objective
from higan.recipe import ObjectiveConfig
from higan.scaling import Linear, Scaling

if TYPE_CHECKING:
    from higan.adversarial.statistics import Statistics


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step minimises, and of what.

    Attributes
    ----------
    losses : ObjectiveConfig
        The adversarial objective, the other losses and their weights.
    outputs : tuple of Scaling
        Of each output channel.
    shape : tuple of int
        Of the maps, for the running means of power.
    window : str, optional
        Of losses in Fourier space, for maps that are not periodic.
    context : int
        Cells on every side that noise has beyond the maps, and fields at least: painted, and cut off before any loss.
    maps_per_simulation : int
        Maps of each simulation in a batch, which are neighbours: the groups of the spectral loss.
    kernel : array, optional
        What maps are convolved with, in physical units, before the discriminator sees them; of odd sides.
    noise : float
        Standard deviation of the noise that is added to them then, in the output's unit.
    statistics : Statistics, optional
        Of maps, with `statistics_weight`.
    beta1 : float
        Of Adam.
    accumulate : int
        Parts of a batch that the networks see one after another, so that less memory is needed.
    xla : bool
        Compile with XLA where the backend does not anyway.
    """

    losses: ObjectiveConfig
    outputs: tuple[Scaling, ...] = (Linear(),)
    shape: tuple[int, ...] = ()
    window: str | None = None
    context: int = 0
    maps_per_simulation: int = 1
    kernel: np.ndarray | None = None
    noise: float = 0.0
    statistics: Statistics | None = None
    beta1: float = 0.5
    accumulate: int = 1
    xla: bool = False

    @property
    def objective(self) -> Objective | None:
        """The adversarial one; ``None`` trains without an adversary."""
        return None if self.losses.name == "none" else objective(self.losses.name)
