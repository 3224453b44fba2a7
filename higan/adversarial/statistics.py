"""Statistics of maps as a loss, all of them together: power spectrum, one-point distribution, shape.

Powers at neighbouring scales rise and fall together by far more than they differ; what tells a map's texture are their
small differences, which a score of each power hardly sees.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from higan.adversarial.batches import Batches
from higan.adversarial.objectives import crps
from higan.adversarial.one_point import LEVELS, shares
from higan.adversarial.shapes import shape_numbers
from higan.adversarial.spectrum import bright_cells, power
from higan.errors import TrainingError
from higan.networks.layers import by_channel, restore
from higan.scaling import Scaling

FITTED = 4096  # maps
FLOOR = 1e-5  # of the mean power: maps with less of it, in a bin of k, are alike
LEAST = 1e-3  # variance of what is seen: of directions in which statistics, each of variance 1, hardly vary


@dataclasses.dataclass(frozen=True)
class Statistics:
    """ln P(k) in physical and in scaled space; mean, deviation, skewness, one-point distribution of the latter; shapes.

    They are turned to be uncorrelated, and of mean 0 and variance 1, among true maps (principal components).

    Attributes
    ----------
    outputs : sequence of Scaling
        Of the channels.
    window : str, optional
        For maps that are not periodic, as of :func:`higan.validation.power_spectrum.power_spectrum`.
    floor : array, shape (2, bins, c)
        That is added to power in physical and in scaled space.
    mean, matrix : array, shape (numbers,), (numbers, numbers)
        Of the statistics of true maps; what makes differences from it uncorrelated.
    """

    outputs: Sequence[Scaling]
    window: str | None
    floor: np.ndarray
    mean: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1, np.float32))
    matrix: np.ndarray | None = None

    @classmethod
    def fit(cls, batches: Batches, outputs: Sequence[Scaling], window: str | None) -> Statistics:
        """Of the first maps to train on, the same for all who share a batch."""
        whole = copy.copy(batches)
        whole.share, whole.network, whole.inputs, whole.flux = (0, 1), None, [], None
        size = whole.batch_size
        kept = [whole(step) for step in range(math.ceil(min(FITTED, len(whole.rows)) / size))]
        powers = [_powers(by_channel(restore, outputs, b["maps"]), b["maps"], outputs, window) for b in kept]
        floor = FLOOR * np.mean([ops.convert_to_numpy(ops.mean(ops.stack(p), axis=2)) for p in powers], axis=0)
        found = cls(outputs, window, floor.astype(np.float32) + np.float32(1e-30))
        numbers = np.concatenate([ops.convert_to_numpy(found._numbers(b["maps"], b.get("radius"))) for b in kept])
        if len(numbers) <= numbers.shape[1] or not np.isfinite(numbers).all():
            raise TrainingError(
                f"objective.statistics_weight: {len(numbers)} maps to train on do not tell how {numbers.shape[1]} "
                "statistics vary. Give more, or leave it out."
            )
        mean, deviation = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6
        standard = (numbers - mean) / deviation
        variances, directions = np.linalg.eigh(np.cov(standard.T.astype(np.float64)))
        matrix = directions / np.sqrt(np.maximum(variances, 0) + LEAST) / deviation[:, None]
        return dataclasses.replace(found, mean=mean, matrix=matrix.astype(np.float32))

    def __call__(self, maps: Any, radii: Any = None) -> Any:
        """Of maps (n, *shape, c) in scaled space, and the half-light radii that stamps were asked for: (n, numbers)."""
        return ops.matmul(self._numbers(maps, radii) - self.mean, self.matrix)

    def score(self, first: Any, second: Any, real: Any, radii: Any = None) -> Any:
        """Mean over maps and uncorrelated statistics of the CRPS of two realisations; lower is better.

        References
        ----------
        Gneiting & Raftery 2007, JASA 102, 359, section 4.2 (:func:`higan.adversarial.objectives.crps`).
        """
        return ops.mean(crps(*(self(maps, radii) for maps in (first, second, real))))

    def _numbers(self, scaled: Any, radii: Any) -> Any:
        axes = tuple(range(1, len(scaled.shape) - 1))
        physical = by_channel(restore, self.outputs, scaled)
        powers = _powers(physical, scaled, self.outputs, self.window)
        found = [
            ops.transpose(ops.log(x + floor[:, None]), (1, 2, 0)) for x, floor in zip(powers, self.floor, strict=True)
        ]
        mean = ops.mean(scaled, axis=axes, keepdims=True)
        deviation = ops.sqrt(ops.mean(ops.square(scaled - mean), axis=axes, keepdims=True) + 1e-6)
        skewness = ops.mean(((scaled - mean) / deviation) ** 3, axis=axes)
        of_cells = [ops.reshape(x, (-1, x.shape[-1])) for x in (mean, deviation)]
        found += [ops.stack([*of_cells, skewness], axis=-1), shares(scaled, LEVELS)]
        if radii is not None:
            found.append(shape_numbers(physical, radii))
        every = ops.concatenate(found, axis=-1)
        return ops.reshape(every, (-1, every.shape[1] * every.shape[2]))


def _powers(physical: Any, scaled: Any, outputs: Sequence[Scaling], window: str | None) -> list[Any]:
    """Of maps in both spaces, up to the Nyquist wavenumber: in the corners beyond, what simulators round off shows."""
    half = min(scaled.shape[1:-1]) // 2
    return [power(maps, window)[:half] for maps in (physical / bright_cells(outputs), scaled)]
