"""Voids: the largest spheres (discs in 2D, intervals in 1D) without a bright cell, and how many there are of each size.

A cell is a wall where the field is at or above a level that four fifths of the true cells are below. The largest open
ball around the centre of a cell that holds the centre of no wall has as its radius the distance to the nearest wall.
Balls are picked largest first, each one that overlaps none picked before, down to 1.5 cells. So are the spherical
voids of Banerjee & Dalal 2016 (JCAP 11, 015), which Zamudio-Fernandez et al. 2019 (arXiv:1904.12846) count in maps of
neutral hydrogen; theirs have a mean overdensity below a threshold, while these are empty of walls, as the spheres of
Hoyle & Vogeley 2002 (ApJ 566, 641) are of galaxies. That needs only the order of cell values, so that it suits fields
of any sign and of many decades alike.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.statistic import LEVELS, Number, Setting, Summary, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

SHARE = 0.8  # of the true cells that are no walls: the rest walls in voids of many sizes, in 2D and in 3D
SMALLEST = 1.5  # cells: smaller balls are single cells
GROWTH = 1.2  # of radii from bin to bin, where that is more than a cell
CHUNK_CELLS = 1 << 18  # whose distances are taken at a time: 1 MB, which a cache holds


def wall_distance(walls: Any, periodic: bool = True) -> np.ndarray:
    """Distance from every cell to the nearest wall, at most half the shortest side: that of a map without any.

    A squared Euclidean distance is the least of (distance along one axis)^2 + (that along the others)^2, axis by axis.

    Parameters
    ----------
    walls : array_like of bool, shape (n, *shape)
    periodic : bool
        Whether cells have neighbours across the boundary; otherwise all that is outside is wall.

    Returns
    -------
    ndarray, shape (n, *shape)
        float32, between centres of cells, in cells; 0 in walls.

    References
    ----------
    Felzenszwalb & Huttenlocher 2012, Theory of Computing 8, 415, section 2 (one axis after the other).

    Examples
    --------
    >>> wall_distance([[True, False, False, False, False, False]])
    array([[0., 1., 2., 3., 2., 1.]], dtype=float32)
    """
    walls = np.asarray(walls, dtype=bool)
    farthest = min(walls.shape[1:]) / 2
    squared = np.where(walls, np.float32(0), np.float32(farthest**2))
    reach = int(farthest)
    for axis in range(1, walls.ndim):
        width = [(reach, reach) if a == axis else (0, 0) for a in range(walls.ndim)]
        wide = np.moveaxis(np.pad(squared, width, mode="wrap" if periodic else "constant"), axis, 0)
        nearest, candidate = np.moveaxis(squared, axis, 0), np.empty_like(np.moveaxis(squared, axis, 0))
        for step in range(1, reach + 1):
            if step**2 >= nearest.max(initial=0):  # farther walls cannot be nearest to any cell
                break
            for start in (reach - step, reach + step):
                np.add(wide[start : start + len(nearest)], np.float32(step**2), out=candidate)
                np.minimum(nearest, candidate, out=nearest)
    return np.sqrt(squared)


def void_radii(distance: np.ndarray, periodic: bool = True) -> np.ndarray:
    """Radii of the balls picked largest first, each one that overlaps none picked before, from 1.5 cells upwards.

    Parameters
    ----------
    distance : ndarray, shape (*shape)
        To the nearest wall, in cells, as :func:`wall_distance` gives it.
    periodic : bool

    Returns
    -------
    ndarray, shape (n_voids,)
        In cells, descending.

    Examples
    --------
    >>> distance = wall_distance([[True, False, False, False, False, False, True, False, False, False]])[0]
    >>> void_radii(distance)
    array([3., 2.], dtype=float32)
    """
    shape, flat = distance.shape, distance.ravel()
    candidates = np.flatnonzero(flat >= SMALLEST)
    taken = np.zeros(flat.size, dtype=bool)
    radii = []
    farthest = max(shape) // 2 if periodic else max(shape) - 1
    for centre in candidates[np.argsort(-flat[candidates], kind="stable")].tolist():
        if taken[centre]:
            continue
        radius = float(flat[centre])
        radii.append(radius)
        # No ball to come is larger, so that one whose centre is two radii away does not overlap.
        reach = min(int(np.ceil(2 * radius)) - 1, farthest)
        places = np.ix_(*[int(c) + np.arange(-reach, reach + 1) for c in np.unravel_index(centre, shape)])
        # Cells outside a map that is not periodic stand for the nearest inside, which overlap if they would.
        cells = np.ravel_multi_index(places, shape, mode="wrap" if periodic else "clip")
        taken[cells[_separations(reach, len(shape)) < radius + flat[cells]]] = True
    return np.array(radii, dtype=np.float32)


def radius_edges(shape: Sequence[int]) -> np.ndarray:
    """Edges of bins of radius for maps of `shape`, in cells, from 1.5 to beyond half the shortest side.

    They lie half-way between integers, a cell apart where voids are small and a fifth of the radius where large.

    Examples
    --------
    >>> radius_edges((32, 32))
    array([ 1.5,  2.5,  3.5,  4.5,  5.5,  6.5,  7.5,  9.5, 11.5, 13.5, 16.5])
    """
    edges = [2.0]
    while edges[-1] - 0.5 <= max(min(shape) / 2, SMALLEST):
        edges.append(max(edges[-1] + 1, float(np.round(GROWTH * edges[-1]))))
    return np.array(edges) - 0.5


@statistic("voids")
class Voids(Summary):
    """Void size function: voids per volume (area in 2D) and interval of ln R, and their mean radius.

    Walls are as bright as the brightest fifth of the true cells; where fewer than a fifth are brighter than the lowest
    of all, they are the cells at or above the lowest level of the setting. Maps that are not periodic have walls around
    them. A map without walls is one void of half its side.
    """

    order = 70
    numbers = {
        "void_error": Number(
            "voids, error",
            "How far the numbers of voids of each size are off: sum of the differences, over the number of true voids.",
            "%",
            missing="the true maps have no voids",
        ),
        "void_radius_error": Number(
            "void radius",
            "Mean radius of voids, generated over true, less one.",
            "%",
            missing="the true or the generated maps have no voids",
        ),
    }
    curves = {
        "void_radius": "geometric centre of each bin of void radius",
        "void_size_function_truth": "true voids per volume and interval of ln R",
        "void_size_function": "generated voids per volume and interval of ln R",
    }
    bins = {"void_size_function": "largest"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        levels = setting.levels
        # Where levels coincide it is the lowest ones: the others keep their places from the top.
        self.level = levels[max(len(levels) - len(LEVELS) + LEVELS.index(SHARE), 0)] if len(levels) else np.nan
        self.edges = radius_edges(setting.shape)

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Number of voids in each bin of radius and, last, the sum of all radii in cells: (n, bins + 1)."""
        if np.isnan(self.level):
            return np.full((len(maps), len(self.edges)), np.nan)
        periodic = self.setting.window is None
        step = max(1, CHUNK_CELLS // int(np.prod(maps.shape[1:])))
        values = np.empty((len(maps), len(self.edges)))
        for start in range(0, len(maps), step):
            distances = wall_distance(maps[start : start + step] >= self.level, periodic)
            for row, distance in enumerate(distances, start):
                radii = void_radii(distance, periodic)
                values[row, :-1] = np.histogram(radii, self.edges)[0]
                values[row, -1] = radii.sum()
        return values

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = self.means(sums)
        setting, edges = self.setting, self.edges * self.setting.cell_size
        volume = float(np.prod(setting.shape)) * setting.cell_size ** len(setting.shape)
        per_volume = volume * np.diff(np.log(edges))
        radius, radius_truth = (ratio(values[-1], values[:-1].sum()) for values in (generated, truth))
        return {
            "void_error": float(ratio(np.abs(generated - truth)[:-1].sum(), truth[:-1].sum())),
            "void_radius_error": float(ratio(radius, radius_truth) - 1),
            "void_radius": np.sqrt(edges[1:] * edges[:-1]),
            "void_size_function_truth": truth[:-1] / per_volume,
            "void_size_function": generated[:-1] / per_volume,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """The void size function."""
        from higan.validation import plots

        curves = next(iter(comparison.models.values())).curves
        if not (curves["void_size_function_truth"] > 0).any():
            return None
        length, ndim = comparison.setting.length_units, len(comparison.setting.shape)
        panel = plots.Panel(
            "void_radius",
            "void_size_function",
            f"R [{length}]",
            f"dn / dlnR [1/{length}$^{ndim}$]",
            x_scale="log",
            y_scale="log",
        )
        plots.beside_truth(comparison, path, [panel])
        return (
            "Voids, the largest balls that hold none of the brightest cells and do not overlap, per volume and "
            "interval of ln R; below, their ratio to those of the truth with errors by bootstrap."
        )


@functools.lru_cache(maxsize=32)
def _separations(reach: int, ndim: int) -> np.ndarray:
    """Lengths of the offsets of -reach to reach along every axis."""
    squared = np.arange(-reach, reach + 1, dtype=np.float32) ** 2
    return np.sqrt(sum(np.ix_(*[squared] * ndim)))
