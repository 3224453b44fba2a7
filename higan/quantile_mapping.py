"""Quantile mapping: painted values are given the one-point distribution of true ones.

Networks give the values of a field over decades to some hundredths of a decade, which in its sum and its power, decided
by few bright cells, are a tenth or a fifth. A monotone function of the painted value mends that and leaves every cell
its rank: the one that takes the quantiles of painted training maps to those of the true ones. By how much the brightest
cells are off goes with the parameters; so do both quantiles, as polynomials, where there are simulations enough.

Reference: Panofsky & Brier 1968, Some Applications of Statistics to Meteorology; Cannon, Sobie & Murdock 2015, Journal
of Climate 28, 6938, eq. 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

OUTERMOST = 20  # cells, of all simulations, beyond the outermost quantiles: these are known to a quarter
BEYOND = 0.01  # of a standard deviation: so far beyond a bound lie cells that are to be on it, whatever is rounded
PER_DECADE = 6  # quantiles a decade of the share of cells beyond
SIMULATIONS = 5  # for each term of a polynomial in the parameters, at least
DEGREE = 2
SMALLEST = 1e-7  # standard deviations between knots that a slope is taken over


def n_terms(n_parameters: int, degree: int) -> int:
    """Of a polynomial.

    Examples
    --------
    >>> n_terms(4, 2)
    15
    """
    return math.comb(n_parameters + degree, degree)


@dataclasses.dataclass(frozen=True)
class QuantileMapping:
    """A piecewise linear, monotone function of scaled values; beyond its knots a shift.

    Parameters
    ----------
    generated, true : list of list of float, shape (n_quantiles, n_terms)
        Quantiles of equal levels, ascending: each the coefficients of a polynomial in the scaled parameters, of the
        degree that has so many terms: 1; then each parameter; then products of two, the first with itself and each
        later one, and so on. Parameters outside of the trained range count as its end.

    Examples
    --------
    >>> mapping = QuantileMapping([[0.0], [1.0]], [[0.0], [3.0]])
    >>> mapping(np.array([[-1.0, 0.5, 2.0]]), np.zeros((1, 0)))
    array([[-1. ,  1.5,  4. ]])

    One whose upper quantile goes with a parameter:

    >>> mapping = QuantileMapping([[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [3.0, 1.0]])
    >>> mapping(np.array([[0.5], [0.5]]), np.array([[0.0], [1.0]]))
    array([[1.5],
           [2. ]])
    """

    generated: list[list[float]]
    true: list[list[float]]

    @classmethod
    def fit(
        cls, generated: Sequence[np.ndarray], true: Sequence[np.ndarray], parameters: np.ndarray
    ) -> QuantileMapping:
        """That of two samples of cells, in scaled space.

        Parameters
        ----------
        generated, true : sequence of array, shape (n,)
            Cells of the same maps, for each simulation; `n` may differ. May be sorted in place.
        parameters : array, shape (n_simulations, n_par)
            Scaled to [-1, 1]. Quantiles go with them where there are simulations enough, and where in none of them a
            share of the cells lies on a bound, which is no smooth function of anything.
        """
        count, n_parameters = parameters.shape
        told = [d for d in range(1, DEGREE + 1) if n_parameters and count >= SIMULATIONS * n_terms(n_parameters, d)]
        if told:
            for cells in (*generated, *true):
                cells.sort()
        if not told or any(map(_bounded, (*generated, *true))):
            return cls._alike(np.concatenate(generated), np.concatenate(true))
        # Least squares of every simulation's quantiles, which of painted and true maps scatter together.
        levels, terms = _levels(min(map(len, true)), OUTERMOST / count), _terms(parameters, max(told))
        fits = []
        for maps in (generated, true):
            quantiles = [cells[_ranks(levels, len(cells))] for cells in maps]
            fits.append(np.linalg.lstsq(terms, np.array(quantiles, float), rcond=None)[0].T.tolist())
        return cls(*fits)

    @classmethod
    def _alike(cls, generated: np.ndarray, true: np.ndarray) -> QuantileMapping:
        """One for all parameters."""
        generated.sort()
        true.sort()
        ranks = _ranks(_levels(len(true), OUTERMOST), len(true))
        # And where cells on a bound end, which are alike.
        ends = [np.searchsorted(values, values[0], side="right") + i for values in (generated, true) for i in (-1, 0)]
        ranks = np.unique(np.clip([*ranks, *ends], ranks.min(), ranks.max()))
        # Painted cells that lie on a bound stay there: of their levels the first counts.
        x, first = np.unique(generated[ranks], return_index=True)
        y = true[ranks][first]
        y = y + BEYOND * (y == true[-1]) - BEYOND * (y == true[0])
        known = np.isfinite(x) & np.isfinite(y)  # a logarithm's bound is none of its values
        return cls(x[known, None].tolist(), y[known, None].tolist())

    def __call__(self, y: Any, parameters: Any, xp: Any = np) -> Any:
        """The mapped values of scaled maps.

        Parameters
        ----------
        y : array, shape (n, *shape)
            With ``xp=keras.ops`` a tensor.
        parameters : array, shape (n, n_par)
            Likewise, scaled.
        """
        coefficients = [np.asarray(values, np.float32).T for values in (self.generated, self.true)]
        count, n_quantiles = coefficients[0].shape
        degree = next(d for d in range(DEGREE + 1) if n_terms(parameters.shape[-1], d) == count)
        if xp is not np:
            coefficients = [xp.convert_to_tensor(values) for values in coefficients]
        terms = _terms(xp.clip(parameters, -1.0, 1.0), degree, xp)
        # A sum, as matrix products of accelerators have fewer digits.
        x, t = (_ascending(xp.sum(terms[:, :, None] * values, axis=1), xp) for values in coefficients)
        # Knot and slope of the piece on either side of every knot.
        one = xp.ones_like(x[:, :1])
        steps = x[:, 1:] - x[:, :-1]
        steps = xp.where(steps > SMALLEST, steps, 1.0)  # of no length: no cell lies there, and no gradient either
        slopes = xp.concatenate([one, (t[:, 1:] - t[:, :-1]) / steps, one], axis=1)
        starts, values = (xp.concatenate([knots[:, :1], knots], axis=1) for knots in (x, t))
        cells = xp.reshape(y, (xp.shape(y)[0], -1))
        piece = xp.zeros_like(cells, dtype="int32")  # how many knots are below, by bisection
        for step in (1 << np.arange(n_quantiles.bit_length())[::-1]).tolist():
            probe = xp.minimum(piece + step, n_quantiles)
            piece = xp.where(xp.take_along_axis(x, probe - 1, axis=1) < cells, probe, piece)
        start, value, slope = (xp.take_along_axis(of, piece, axis=1) for of in (starts, values, slopes))
        return xp.reshape(value + slope * (cells - start), xp.shape(y))


def _bounded(cells: np.ndarray) -> bool:
    """Whether sorted `cells` are the same where they end, or none of the numbers."""
    i = min(OUTERMOST, len(cells) // 2)
    return not np.isfinite(cells[[0, -1]]).all() or cells[0] == cells[i] or cells[-1] == cells[-1 - i]


def _ascending(values: Any, xp: Any) -> Any:
    """The running maximum of `values` (n, quantiles): where few simulations tell, polynomials may cross."""
    step = 1
    while step < values.shape[1]:
        rest = xp.maximum(values[:, step:], values[:, :-step])
        values = xp.concatenate([values[:, :step], rest], axis=1)
        step *= 2
    return values


def _levels(n: int, outermost: float) -> np.ndarray:
    """Of quantiles, by the share of `n` cells beyond them, from `outermost` last ones to as many first ones."""
    beyond = np.geomspace(min(outermost / n, 0.5), 0.5, 2 + int(PER_DECADE * np.log10(max(n / outermost, 1))))
    return np.unique(_ranks(np.concatenate([beyond, 1 - beyond]), n)) / (n - 1)  # each cell's but once


def _ranks(levels: np.ndarray, n: int) -> np.ndarray:
    """Of `n` sorted cells those at these levels."""
    return (levels * (n - 1)).round().astype(int)


def _terms(parameters: Any, degree: int, xp: Any = np) -> Any:
    """Products of scaled parameters, shape (n, n_terms)."""
    columns = [xp.ones_like(xp.sum(parameters, axis=-1))]
    for order in range(1, degree + 1):
        for factors in combinations_with_replacement(range(parameters.shape[-1]), order):
            columns.append(math.prod(parameters[:, i] for i in factors))
    return xp.stack(columns, axis=-1)
