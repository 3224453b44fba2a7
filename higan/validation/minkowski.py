"""Minkowski functionals of excursion sets: how much is above a threshold, how large its surface, how connected it is.

They are those of Schmalzing & Buchert 1997, of the cells at or above a threshold and per unit volume, V_j in 1 /
length^j. V_0 is the share of volume; then there are in

====  =====================================================================================================
1D    V_1, the number of pieces
2D    V_1, a quarter of the boundary's length; V_2, the Euler characteristic: pieces less holes
3D    V_1, a sixth of the surface; V_2, its mean curvature (1/r1 + 1/r2) / 2 integrated over the surface, over
      3 pi; V_3, the Euler characteristic: pieces less tunnels plus cavities
====  =====================================================================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.statistic import Number, Summary, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

# By number of dimensions, for V_0, V_1, …: weights of the numbers of cells, then of faces, edges and corners as far as
# there are such, in descending dimension. The factors allow for directions: a boundary along cells is longer than an
# isotropic one that it follows, by 4 / pi in 2D and 3 / 2 in 3D.
WEIGHTS = {
    1: [[1, 0], [-1, 1]],
    2: [[1, 0, 0], [-math.pi / 4, math.pi / 8, 0], [1, -1, 1]],
    3: [[1, 0, 0, 0], [-2 / 3, 2 / 9, 0, 0], [2 / 3, -4 / 9, 2 / 9, 0], [-1, 1, -1, 1]],
}


def minkowski(maps: Any, cell_size: float, thresholds: Any, periodic: bool = True) -> np.ndarray:
    """Densities of the Minkowski functionals of the cells at or above thresholds, for maps of 1, 2 or 3 dimensions.

    Cells are closed: those that touch at a corner are connected. For sets that are smooth on the scale of cells and
    have no direction the functionals approach those of the continuous set.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Any units.
    cell_size : float
        Side of a cell in a length unit (Mpc).
    thresholds : array_like, shape (n_thresholds,)
        Increasing, in units of the maps.
    periodic : bool
        Otherwise faces, edges and corners on the rim of a map are left out, as not all of their cells are known.

    Returns
    -------
    ndarray, shape (n, ndim + 1, n_thresholds)
        V_j in 1 / length^j, j = 0 … ndim, float64.

    Raises
    ------
    KeyError
        If maps do not have 1, 2 or 3 dimensions.

    References
    ----------
    Schmalzing & Buchert 1997, ApJ 482, L1 (astro-ph/9702130), Crofton's formula; Michielsen & De Raedt 2001, Phys.
    Rep. 347, 461 (numbers of cells, faces, edges and corners).

    Examples
    --------
    >>> field = np.zeros((1, 8, 8))
    >>> field[0, 2:5, 2:5] = 1.0  # a square of 9 cells, with a boundary of 12
    >>> area, quarter, euler = 64 * minkowski(field, 1.0, [0.5])[0, :, 0]
    >>> float(area), bool(np.isclose(quarter, np.pi / 4 * 12 / 4)), float(euler)
    (9.0, True, 1.0)
    """
    maps, thresholds = np.asarray(maps), np.asarray(thresholds)
    weights = np.array(WEIGHTS[maps.ndim - 1]) / float(cell_size) ** np.arange(maps.ndim)[:, None]
    # How many thresholds a cell reaches says in which sets it is, and fits into a byte.
    reached = np.searchsorted(thresholds, maps, side="right").astype(np.min_scalar_type(len(thresholds)))
    return np.einsum("jd,ndt->njt", weights, _elements(reached, len(thresholds), periodic))


def _elements(reached: np.ndarray, thresholds: int, periodic: bool) -> np.ndarray:
    """Numbers a cell of cells, faces, edges, corners in each map's sets, (n, ndim + 1, n_thresholds)."""
    ndim = reached.ndim - 1
    numbers = np.zeros((len(reached), ndim + 1, thresholds))
    for codimension in range(ndim + 1):
        for axes in itertools.combinations(range(1, ndim + 1), codimension):
            # What lies between cells along these axes is in the set if any of them is.
            highest = reached
            for axis in axes:
                highest = np.maximum(highest, np.roll(highest, 1, axis))
                if not periodic:
                    highest = np.delete(highest, 0, axis)
            numbers[:, codimension] += _shares(highest.reshape(len(highest), -1), thresholds)
    return numbers


def _shares(reached: np.ndarray, thresholds: int) -> np.ndarray:
    """Share of the elements of each row that reach each threshold."""
    n, bins = len(reached), thresholds + 1
    counts = np.bincount((reached + bins * np.arange(n)[:, None]).ravel(), minlength=n * bins).reshape(n, bins)
    return ratio(np.cumsum(counts[:, :0:-1], axis=1)[:, ::-1], max(reached.shape[1], 1))


@statistic("minkowski")
class Minkowski(Summary):
    """Minkowski functionals at the levels of the setting, from the mean over all test maps."""

    order = 50
    numbers = {
        "minkowski_error": Number(
            "Minkowski",
            "How far the Minkowski functionals are off, over the largest of each, averaged over thresholds.",
            "%",
            missing="every true value is the same",
        ),
    }
    curves = {
        "minkowski_levels": "thresholds of the Minkowski functionals",
        "V_truth": "Minkowski functionals of the true maps, a row each",
        "V": "Minkowski functionals of the generated maps, a row each",
    }
    bins = {"V": "largest"}

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Functionals at all levels, (n, ndim + 1, n_levels)."""
        return minkowski(maps, self.setting.cell_size, self.setting.levels, self.setting.window is None)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = self.means(sums)
        off = ratio(np.abs(generated - truth), np.abs(truth).max(axis=1, keepdims=True, initial=0.0))
        return {
            "minkowski_error": average(off),
            "minkowski_levels": self.setting.levels,
            "V_truth": truth,
            "V": generated,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Each functional against the threshold."""
        from higan.validation import plots

        setting = comparison.setting
        if not len(setting.levels):
            return None
        threshold = f"{setting.field} [{setting.units or '1'}]"
        panels = [
            plots.Panel(
                "minkowski_levels",
                "V",
                threshold,
                label,
                row=row,
                x_scale="log" if setting.logarithmic else "linear",
                ratio=False,
            )
            for row, label in enumerate(_labels(len(setting.shape), setting.length_units))
        ]
        plots.beside_truth(comparison, path, panels)
        return (
            "Above, the Minkowski functionals of the cells above a threshold; below, the difference from the truth "
            "over its largest value, with errors by bootstrap over simulations."
        )


def _labels(ndim: int, length: str) -> list[str]:
    meanings = {
        1: ["share above", "pieces"],
        2: ["share above", "boundary / 4", "pieces - holes"],
        3: ["share above", "surface / 6", "mean curvature", "pieces - tunnels + cavities"],
    }
    units = ["", f" [1/{length}]", *(f" [1/{length}$^{power}$]" for power in range(2, ndim + 1))]
    return [f"V$_{j}$: {meaning}{units[j]}" for j, meaning in enumerate(meanings[ndim])]
