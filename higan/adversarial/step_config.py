"""What a training step minimises."""

from __future__ import annotations

import dataclasses

import numpy as np

from higan.adversarial.objectives import Objective
from higan.scaling import Linear, Scaling


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step minimises.

    Attributes
    ----------
    objective : Objective, optional
        ``None`` trains without an adversary.
    pixel : {"l1", "l2", "crps"}
        What is taken of the difference between generated and true maps in scaled space; "crps" generates two
        realisations of each map, which are to differ as much as they miss the truth
        (:func:`higan.adversarial.objectives.crps`).
    pixel_weight : float
    pixel_scales : tuple of int
        Sides of the blocks of cells whose means, of physical values, the pixel loss compares in scaled space.
    margin : float
        Cells on a physical bound are aimed at so far beyond it, in scaled space, by the pixel loss.
    spectral_weight : float
    spectral : {"ratio", "crps"}
        :func:`higan.adversarial.spectrum.spectral_loss` or :func:`higan.adversarial.spectrum.spectral_crps`.
    spectral_fields : tuple of {"physical", "scaled"}
        What it is taken of.
    spectral_by_axis : bool
        Whether it is taken of the power along each axis for itself.
    spectral_floor, spectral_slope_weight : float
        Of :func:`higan.adversarial.spectrum.spectral_crps`.
    mean_power_weight : float
        Of a loss on R(k) of running means of generated and true power (:func:`higan.adversarial.spectrum.surplus`), of
        the same fields: of all true maps seen and of about the last eighth of the generated ones.
    mode_weight : float
        Of the energy score of Fourier modes (:func:`higan.adversarial.spectrum.mode_score`), of the same fields; with
        "crps".
    octave_weight : float
        Of the score of octaves of scale (:func:`higan.adversarial.octaves.octave_crps`); with "crps".
    one_point_weight : float
        Of the score of one-point distributions (:func:`higan.adversarial.one_point.one_point_crps`); with "crps".
    tail_weight : float
        Of the score of the numbers of cells in the tails (:func:`higan.adversarial.one_point.tail_crps`); with "crps".
    half_light_weight : float
        Of the error of half-light radii (:func:`higan.adversarial.half_light.half_light_error`).
    asymmetry_weight : float
        Of the score of asymmetries (:func:`higan.adversarial.asymmetry.asymmetry_crps`); with "crps".
    shape : tuple of int
        Of the maps, for these means.
    kernel : array, optional
        What maps are convolved with, in physical units, before the discriminator sees them; of odd sides.
    noise : float
        Standard deviation of the noise that is added to them then, in the output's unit.
    window : str, optional
        Of the spectral loss, for maps that are not periodic.
    context : int
        Cells on every side that fields and noise have beyond the maps: painted, and cut off before any loss.
    maps_per_simulation : int
        Maps of each simulation in a batch, which are neighbours: the groups of the spectral loss.
    r1, r2 : float
        γ of the zero-centred penalties on true and generated maps (γ/2 multiplies the penalty).
    interpolated : float
        λ of WGAN-GP's penalty, for the objective that asks for it.
    penalty_every : int
        The penalties are taken every so many steps, with as many times their weight (Karras et al. 2020, 1912.04958,
        sec. 3.1).
    beta1 : float
        Of Adam.
    accumulate : int
        Parts of a batch that the networks see one after another, so that less memory is needed.
    xla : bool
        Compile with XLA where the backend does not anyway.
    outputs : tuple of Scaling
        Of each output channel.
    """

    objective: Objective | None
    pixel: str = "l1"
    pixel_weight: float = 0.0
    pixel_scales: tuple[int, ...] = (1,)
    margin: float = 0.0
    spectral_weight: float = 0.0
    spectral: str = "ratio"
    spectral_fields: tuple[str, ...] = ("physical",)
    spectral_by_axis: bool = False
    spectral_floor: float = 0.1
    spectral_slope_weight: float = 0.0
    mean_power_weight: float = 0.0
    mode_weight: float = 0.0
    octave_weight: float = 0.0
    one_point_weight: float = 0.0
    tail_weight: float = 0.0
    half_light_weight: float = 0.0
    asymmetry_weight: float = 0.0
    shape: tuple[int, ...] = ()
    kernel: np.ndarray | None = None
    noise: float = 0.0
    window: str | None = None
    context: int = 0
    maps_per_simulation: int = 1
    r1: float = 0.0
    r2: float = 0.0
    interpolated: float = 0.0
    penalty_every: int = 1
    beta1: float = 0.5
    accumulate: int = 1
    xla: bool = False
    outputs: tuple[Scaling, ...] = (Linear(),)

    @property
    def realisations(self) -> int:
        """Generated of each map."""
        return 2 if self.pixel == "crps" else 1
