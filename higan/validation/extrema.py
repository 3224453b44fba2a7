"""Peaks and minima of maps, counted by their height."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.statistic import Number, Setting, Summary, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison


def peaks(maps: Any, periodic: bool = True) -> np.ndarray:
    """Which cells are peaks: higher than all that touch them at a face, an edge or a corner (8 in 2D, 26 in 3D).

    Cells as high as a neighbour are none, as those on the floor of a field that is bounded. Minima are the peaks of
    minus the maps.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Of any number of dimensions, any units.
    periodic : bool
        Otherwise cells on the rim of a map are no peaks, as not all of their neighbours are known.

    Returns
    -------
    ndarray of bool, shape (n, *shape)

    Examples
    --------
    >>> peaks([[0.0, 1.0, 0.0, 0.0, 2.0, 2.0]]).astype(int)
    array([[0, 1, 0, 0, 0, 0]])
    """
    maps = np.asarray(maps)
    axes = range(1, maps.ndim)
    # Highest of the neighbours along the axes so far, without the cell itself and with it.
    around: Any = None
    block = maps
    for axis in axes:
        beside = np.maximum(np.roll(block, 1, axis), np.roll(block, -1, axis))
        around = beside if around is None else np.maximum(around, beside)
        block = np.maximum(block, beside)
    found = maps > around
    if not periodic:
        for axis in axes:
            np.moveaxis(found, axis, 0)[[0, -1]] = False
    return found


def peak_counts(maps: Any, edges: Any, periodic: bool = True) -> np.ndarray:
    """Number of peaks of each of a batch of maps whose height lies between edges.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Any units.
    edges : array_like, shape (n_edges,)
        Increasing, in units of the maps; a peak on an edge is above it.
    periodic : bool
        As of :func:`peaks`.

    Returns
    -------
    ndarray of int, shape (n, n_edges + 1)
        Below the first edge, between edges, above the last.

    References
    ----------
    Jain & Van Waerbeke 2000, ApJ 530, L1, section 2 (counts by height); Bond & Efstathiou 1987, MNRAS 226, 655
    (Gaussian fields).

    Examples
    --------
    >>> maps = np.zeros((1, 6, 6))
    >>> maps[0, 1, 1], maps[0, 4, 4], maps[0, 4, 5] = 1.0, 3.0, 2.0  # the third touches the second
    >>> peak_counts(maps, [0.5, 2.5])
    array([[0, 1, 1]])
    """
    maps = np.asarray(maps)
    return _by_height(maps, peaks(maps, periodic), np.asarray(edges))


def _by_height(maps: np.ndarray, chosen: np.ndarray, edges: np.ndarray) -> np.ndarray:
    n, bins = len(maps), len(edges) + 1
    index = bins * np.nonzero(chosen)[0] + np.searchsorted(edges, maps[chosen], side="right")
    return np.bincount(index, minlength=n * bins).reshape(n, bins)


@statistic("extrema")
class Extrema(Summary):
    """Peaks and minima of all test maps, counted between the levels of the setting, below the first and above the last.

    Heights are those of single cells, so that models are told apart down to the smallest scales.
    """

    order = 60
    numbers = {
        "peaks_error": Number(
            "error of peaks",
            "How many peaks of a height are missing or too many, summed over heights, as a share of all true peaks.",
            "%",
            missing="the true maps have no peaks",
        ),
        "minima_error": Number(
            "error of minima",
            "The same for minima.",
            "%",
            missing="the true maps have no minima, as where they are flat",
        ),
        "peaks_excess": Number(
            "excess of peaks",
            "Number of generated peaks of any height over that of true ones, less 1.",
            "%",
            missing="the true maps have no peaks",
        ),
    }
    curves = {
        "extrema_levels": "heights between which peaks and minima are counted",
        "extrema_heights": "the middle of each bin, half a bin beyond the first and last level",
        "peaks_truth": "mean number of peaks of a true map in each bin, those below the first and above the last level",
        "peaks": "mean number of peaks of a generated map in each bin",
        "minima_truth": "mean number of minima of a true map in each bin",
        "minima": "mean number of minima of a generated map in each bin",
    }
    bins = {"peaks": "largest", "minima": "largest"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        levels = setting.levels
        self.heights = 10 ** _middles(np.log10(levels)) if setting.logarithmic else _middles(levels)

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Numbers of peaks and of minima of each height, (n, 2, n_levels + 1)."""
        levels, periodic = self.setting.levels, self.setting.window is None
        highs, lows = peaks(maps, periodic), peaks(-maps, periodic)
        return np.stack([_by_height(maps, highs, levels), _by_height(maps, lows, levels)], axis=1)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = self.means(sums)
        difference, total = generated - truth, truth.sum(axis=1)
        peaks_error, minima_error = ratio(np.abs(difference).sum(axis=1), total)
        return {
            "peaks_error": float(peaks_error),
            "minima_error": float(minima_error),
            "peaks_excess": float(ratio(difference[0].sum(), total[0])),
            "extrema_levels": self.setting.levels,
            "extrema_heights": self.heights,
            "peaks_truth": truth[0],
            "peaks": generated[0],
            "minima_truth": truth[1],
            "minima": generated[1],
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Numbers of peaks and of minima by height."""
        from higan.validation import plots

        setting = comparison.setting
        if len(setting.levels) < 2:
            return None
        heights = f"{setting.field} [{setting.units or '1'}]"
        panels = [
            plots.Panel(
                "extrema_heights",
                name,
                heights,
                f"{name} a map and bin",
                x_scale="log" if setting.logarithmic else "linear",
                ratio=False,
            )
            for name in ("peaks", "minima")
        ]
        plots.beside_truth(comparison, path, panels)
        return (
            "Above, mean number of peaks and of minima of a map in bins of height, which are of unequal width and the "
            "first and last of them open; below, the difference from the truth over its largest number, with errors by "
            "bootstrap over simulations."
        )


def _middles(levels: np.ndarray) -> np.ndarray:
    """Of the bins between levels; the open ones are taken as wide as their neighbours."""
    if len(levels) < 2:
        return np.full(len(levels) + 1, np.nan)
    edges = np.concatenate([[2 * levels[0] - levels[1]], levels, [2 * levels[-1] - levels[-2]]])
    return (edges[1:] + edges[:-1]) / 2
