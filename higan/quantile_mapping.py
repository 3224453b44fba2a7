"""Quantile mapping: painted values are given the one-point distribution of true ones.

Networks give the values of a field over decades to some hundredths of a decade, which in its sum and its power, decided
by few bright cells, are a tenth or a fifth. A monotone function of the painted value mends that and leaves every cell
its rank: the one that takes the quantiles of painted training maps to those of the true ones.

Reference: Panofsky & Brier 1968, Some Applications of Statistics to Meteorology; Cannon, Sobie & Murdock 2015, Journal
of Climate 28, 6938, eq. 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

OUTERMOST = 20  # cells beyond the outermost quantiles: these are known to a quarter
BEYOND = 0.01  # of a standard deviation: so far beyond a bound lie cells that are to be on it, whatever is rounded
PER_DECADE = 12  # quantiles a decade of the share of cells beyond


@dataclasses.dataclass(frozen=True)
class QuantileMapping:
    """A piecewise linear, monotone function of scaled values; beyond its knots a shift.

    Parameters
    ----------
    generated, true : sequence of float
        Quantiles of equal levels, both ascending, `generated` strictly.

    Examples
    --------
    >>> mapping = QuantileMapping([0.0, 1.0], [0.0, 3.0])
    >>> mapping(np.array([-1.0, 0.5, 2.0]))
    array([-1. ,  1.5,  4. ])
    """

    generated: Sequence[float]
    true: Sequence[float]

    @classmethod
    def fit(cls, generated: np.ndarray, true: np.ndarray) -> QuantileMapping:
        """That of two samples of cells, in scaled space.

        Parameters
        ----------
        generated, true : array, shape (n,)
            Of the same maps. Sorted in place.
        """
        n = len(true)
        generated.sort()
        true.sort()
        # Levels by the share of cells beyond them, from the few last to the few first.
        beyond = np.geomspace(min(OUTERMOST / n, 0.5), 0.5, 2 + int(PER_DECADE * np.log10(max(n / OUTERMOST, 1))))
        ranks = (np.concatenate([beyond, 1 - beyond]) * (n - 1)).round().astype(int)
        # And where cells on a bound end, which are alike.
        ends = [np.searchsorted(values, values[0], side="right") + i for values in (generated, true) for i in (-1, 0)]
        ranks = np.unique(np.clip([*ranks, *ends], ranks.min(), ranks.max()))
        # Painted cells that lie on a bound stay there: of their levels the first counts.
        x, first = np.unique(generated[ranks], return_index=True)
        y = true[ranks][first]
        y = y + BEYOND * (y == true[-1]) - BEYOND * (y == true[0])
        known = np.isfinite(x) & np.isfinite(y)  # a logarithm's bound is none of its values
        return cls(x[known].tolist(), y[known].tolist())

    def __call__(self, y: Any, xp: Any = np) -> Any:
        """The mapped values of scaled `y`, any shape: numpy arrays or, with ``xp=keras.ops``, tensors."""
        x, t = (np.asarray(values, np.float32) for values in (self.generated, self.true))
        # Knot and slope of the piece on either side of every knot.
        slopes = np.concatenate([[1.0], np.diff(t) / np.diff(x), [1.0]]).astype(np.float32)
        x, t = np.insert(x, 0, x[0]), np.insert(t, 0, t[0])
        x, t, slopes, knots = (xp.convert_to_tensor(a) if xp is not np else a for a in (x, t, slopes, x[1:]))
        piece = xp.reshape(xp.searchsorted(knots, xp.reshape(y, (-1,))), xp.shape(y))  # TensorFlow's are flat
        return xp.take(t, piece) + xp.take(slopes, piece) * (y - xp.take(x, piece))
