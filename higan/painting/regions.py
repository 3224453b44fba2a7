"""Maps of any size, whole or in tiles that agree with the whole.

A region starts and ends at multiples of the generator's stride s, so that every coarse cell of the network covers
the same cells as when the map is painted whole, and it is painted with a margin of at least the receptive radius h,
cut off afterwards. Its noise is looked up by absolute cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from higan.errors import ParameterError
from higan.painting.painter import Painter

# A map of more cells is painted in tiles where that helps: the features take about 1 kB a cell.
LARGEST_WHOLE = 1 << 20
# Cells in a batch: 64 maps of 64². More costs memory and gains nothing on a CPU.
BATCH_CELLS = 1 << 18


def batch_of(shape: Sequence[int]) -> int:
    """Maps of `shape` to paint at a time.

    Examples
    --------
    >>> batch_of((64, 64)), batch_of((128, 128, 128))
    (64, 1)
    """
    return max(1, BATCH_CELLS // int(np.prod(shape)))


def paint_maps(
    painter: Painter,
    fields: np.ndarray,
    parameters: np.ndarray,
    *,
    seed: int,
    rows: Any,
    realisations: Any = 0,
    periodic: bool = True,
    tile: int | None = None,
) -> np.ndarray:
    """Paint a batch of maps of one shape.

    Parameters
    ----------
    painter : Painter
    fields : array, shape (batch, *shape, n_inputs)
        Physical units.
    parameters : array, shape (batch, n_par)
    seed : int
    rows, realisations : array_like of int, shape (batch,)
    periodic : bool
        Whether the map's opposite sides touch; otherwise it is continued by reflection.
    tile : int, optional
        Side of a tile in cells, rounded up to a multiple of the stride. Where not given, maps are painted whole, but
        those of more than about a million cells in tiles whose sides are at least twice the margin, if that at least
        halves the cells painted at once: margins double the work along an axis at most.

    Returns
    -------
    array of float32, shape (batch, *shape, n_outputs)
        In physical units. An axis that is no multiple of the stride is extended (wrapped, or reflected), painted and
        cropped.

    Raises
    ------
    ParameterError
        If `tile` is no whole number of at least 1.
    """
    if tile is not None:
        check_count("tile", tile)
    shape = fields.shape[1:-1]
    if painter.card.network.centred:
        # A map with a middle is painted as it was trained: at once, its sides together.
        tile, periodic = max(shape), True
    s = painter.card.stride
    extent = [-(-n // s) * s for n in shape]
    margin = -(-painter.card.receptive_radius // s) * s
    if tile is None:
        sides = _default_sides(extent, s, margin, periodic)
    else:
        sides = [min(-(-tile // s) * s, n) for n in extent]
    margins = _margins(sides, extent, margin, periodic)
    out = np.empty((*fields.shape[:-1], len(painter.outputs)), dtype=np.float32)
    for start in _corners(extent, sides):
        stop = [min(a + side, n) for a, side, n in zip(start, sides, extent, strict=True)]
        first = [a - m for a, m in zip(start, margins, strict=True)]
        last = [b + m for b, m in zip(stop, margins, strict=True)]
        noise = painter.noise(
            [b - a for a, b in zip(first, last, strict=True)],
            seed=seed,
            rows=rows,
            realisations=realisations,
            origin=first,
            period=extent if periodic else None,
        )
        painted = painter.paint_host(_region(fields, first, last, extent, periodic), parameters, noise)
        inner = tuple(slice(m, m + min(b, n) - a) for m, a, b, n in zip(margins, start, stop, shape, strict=True))
        place = tuple(slice(a, min(b, n)) for a, b, n in zip(start, stop, shape, strict=True))
        out[:, *place] = painted[:, *inner]
    return out


def check_count(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1."""
    if not (isinstance(value, int | np.integer) and value >= 1):
        raise ParameterError(f"{name} must be a whole number of at least 1, received {value!r}.")


def _default_sides(extent: Sequence[int], s: int, margin: int, periodic: bool) -> list[int]:
    """Sides of the tiles of a map where none are asked for; those of the map itself where it is painted whole."""

    def painted_at_once(sides: Sequence[int]) -> int:
        margins = _margins(sides, extent, margin, periodic)
        return math.prod(side + 2 * m for side, m in zip(sides, margins, strict=True))

    if math.prod(extent) <= LARGEST_WHOLE:
        return list(extent)
    least = max(LARGEST_WHOLE ** (1 / len(extent)) / 2, 2 * margin)
    tiles = [max(1, int(n / least)) for n in extent]
    sides = [-(-n // (k * s)) * s for n, k in zip(extent, tiles, strict=True)]
    return sides if 2 * painted_at_once(sides) <= painted_at_once(extent) else list(extent)


def _margins(sides: Sequence[int], extent: Sequence[int], margin: int, periodic: bool) -> list[int]:
    # A periodic axis that one tile covers needs no margin: the network's own padding wraps it.
    return [0 if periodic and side == n else margin for side, n in zip(sides, extent, strict=True)]


def _corners(extent: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(0, n, side) for n, side in zip(extent, sides, strict=True)))


def _region(
    fields: np.ndarray, first: Sequence[int], last: Sequence[int], extent: Sequence[int], periodic: bool
) -> np.ndarray:
    """Cells first … last - 1 of every axis; beyond the map they are wrapped at `extent`, or reflected."""
    for axis, (a, b, n) in enumerate(zip(first, last, extent, strict=True), start=1):
        cells = fields.shape[axis]
        index = np.arange(a, b)
        if periodic:
            # First the extent, which the noise repeats by too, then the map's own cells within it.
            index = (index % n) % cells
        elif cells > 1:
            index = np.abs((index + cells - 1) % (2 * cells - 2) - (cells - 1))
        else:
            index[:] = 0
        if len(index) != cells or not np.array_equal(index, np.arange(cells)):
            fields = np.take(fields, index, axis=axis)
    return fields
