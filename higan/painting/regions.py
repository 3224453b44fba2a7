"""Maps of any size, whole or in tiles that agree with the whole.

A region starts and ends at multiples of the generator's stride s, so that every coarse cell of the network covers
the same cells as when the map is painted whole, and it is painted with a margin of at least the receptive radius h,
cut off afterwards. Its noise is looked up by absolute cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from higan.painting.painter import Painter

# A map of more cells is painted in tiles: it bounds the memory of the features (about 1 kB a cell).
LARGEST_WHOLE = 1 << 20


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
        Side of a tile in cells, rounded up to a multiple of the stride; whole maps where not given, unless they are
        larger than about a million cells.

    Returns
    -------
    array of float32, shape (batch, *shape, n_outputs)
        In physical units. An axis that is no multiple of the stride is extended (wrapped, or reflected), painted and
        cropped.
    """
    shape = fields.shape[1:-1]
    s = painter.card.stride
    extent = [-(-n // s) * s for n in shape]
    if tile is None and np.prod(extent) > LARGEST_WHOLE:
        tile = int(np.ceil(LARGEST_WHOLE ** (1 / len(shape)) / 2))
    margin = -(-painter.card.receptive_radius // s) * s
    sides = [n if tile is None else min(-(-tile // s) * s, n) for n in extent]
    # A periodic axis that one tile covers needs no margin: the network's own padding wraps it.
    margins = [0 if periodic and side == n else margin for side, n in zip(sides, extent, strict=True)]
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
