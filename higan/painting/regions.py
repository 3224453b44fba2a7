"""Maps of any size, whole or in tiles that agree with the whole.

A region starts and ends at multiples of the generator's stride s, so that every coarse cell of the network covers
the same cells as when the map is painted whole, and the network looks at a margin around it, beyond which nothing
reaches it: all of it on the way down, and less and less on the way up. Its noise is looked up by absolute cell.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.checkpoint import Card
from higan.errors import ParameterError

if TYPE_CHECKING:
    from higan.painting.painter import Painter

# Realisations of a map, and parts of skies, are painted together up to so many cells.
LARGEST_WHOLE = 1 << 20
# Cells whose features, 1 to 2 kB each, a tile may take.
MOST_AT_ONCE = 2_500_000
# As how much of such a cell one counts that is seen on the way down alone.
SEEN = 0.25
# Cells in a batch: 64 maps of 64². More costs memory and gains nothing on a CPU.
BATCH_CELLS = 1 << 18


def batch_of(shape: Sequence[int], realisations: int = 1) -> int:
    """Maps of `shape` to paint at a time, where there are so many realisations of each, one after another.

    Those of a map share what does not depend on noise: a batch holds all of some maps, or a whole part of one map's.

    Examples
    --------
    >>> batch_of((64, 64)), batch_of((128, 128, 128))
    (64, 1)
    >>> batch_of((64, 64), 20), batch_of((64, 64, 64), 10)
    (60, 2)
    """
    cells = math.prod(shape)
    size = max(1, BATCH_CELLS // cells)
    if size >= realisations:
        return size - size % realisations
    most = max(size, LARGEST_WHOLE // cells)
    return max(part for part in range(1, most + 1) if realisations % part == 0)


def once_each(maps: np.ndarray) -> np.ndarray:
    """The numbers of `maps` once each, where neighbours are one map's and everywhere as many; else as they are.

    Examples
    --------
    >>> once_each(np.array([4, 4, 5, 5])).tolist(), once_each(np.array([4, 4, 4, 5])).tolist()
    ([4, 5], [4, 4, 4, 5])
    """
    starts = np.flatnonzero(np.diff(maps, prepend=-1))
    lengths = np.diff(starts, append=len(maps))
    return maps[starts] if (lengths == lengths[0]).all() else maps


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of a map, and the region it is painted from: the part with a margin.

    Attributes
    ----------
    first, last : tuple of int
        The region's cells are first … last - 1 of every axis, in absolute cells.
    place : tuple of slice
        Where in the map the part lies.
    margins : tuple of int
        Cells of the region on either side of each axis that are not painted.
    shape : tuple of int
        Of the map.
    period : tuple of int, optional
        Cells after which the map repeats; ``None`` where it is continued by reflection.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    place: tuple[slice, ...]
    margins: tuple[int, ...]
    shape: tuple[int, ...]
    period: tuple[int, ...] | None

    @property
    def cells(self) -> tuple[int, ...]:
        """The region's shape."""
        return tuple(b - a for a, b in zip(self.first, self.last, strict=True))

    def places(self) -> Iterator[tuple[slice, ...]]:
        """The pieces of the map that the region consists of: slices of the spatial axes, ascending."""
        runs = [[cells for cells, _ in self._runs(axis)] for axis in range(len(self.shape))]
        return itertools.product(*runs)

    def join(self, pieces: Iterable[np.ndarray]) -> np.ndarray:
        """The region of a batch of maps: its cells, and beyond them the maps wrapped or reflected.

        Parameters
        ----------
        pieces : iterable of array, shape (batch, *cells, …)
            The maps at each of :meth:`places`.
        """
        return self._joined(iter(pieces), 0)

    def _joined(self, pieces: Iterator[np.ndarray], axis: int) -> np.ndarray:
        if axis == len(self.shape):
            return next(pieces)
        parts = []
        for _, backwards in self._runs(axis):
            part = self._joined(pieces, axis + 1)
            parts.append(np.flip(part, axis + 1) if backwards else part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis + 1)

    def _runs(self, axis: int) -> Iterator[tuple[slice, bool]]:
        """The map's cells along an axis of the region, in stretches of neighbours; whether one is to be reversed."""
        cells, index = self.shape[axis], np.arange(self.first[axis], self.last[axis])
        if self.period is not None:
            # First the extent, which the noise repeats by too, then the map's own cells within it.
            index = (index % self.period[axis]) % cells
        elif cells > 1:
            index = np.abs((index + cells - 1) % (2 * cells - 2) - (cells - 1))
        else:
            index[:] = 0
        while len(index):
            step = int(index[1] - index[0]) if len(index) > 1 else 1
            n = 1
            if abs(step) == 1:
                n += int(np.argmin(np.append(np.diff(index) == step, False)))
            low, high = sorted((int(index[0]), int(index[n - 1])))
            yield slice(low, high + 1), n > 1 and step < 0
            index = index[n:]


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How maps of one shape are cut into tiles; numbered, the last axis running fastest.

    Attributes
    ----------
    shape : tuple of int
        Of a map.
    extent : tuple of int
        The same, in multiples of the stride.
    sides, margins : tuple of int
        Of a tile, along each axis; a tile at the end may be shorter.
    periodic : bool

    Examples
    --------
    >>> tiling = Tiling((50, 64), (56, 64), (32, 64), (8, 0), True)
    >>> len(tiling), tiling[1].place
    (2, (slice(32, 50, None), slice(0, 64, None)))
    >>> tiling[1].first, tiling[1].last
    ((24, 0), (64, 64))
    """

    shape: tuple[int, ...]
    extent: tuple[int, ...]
    sides: tuple[int, ...]
    margins: tuple[int, ...]
    periodic: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-n // side) for n, side in zip(self.extent, self.sides, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Tile]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Tile:
        start = [int(i) * side for i, side in zip(np.unravel_index(number, self.counts), self.sides, strict=True)]
        stop = [min(a + side, n) for a, side, n in zip(start, self.sides, self.extent, strict=True)]
        ends = [min(b, n) for b, n in zip(stop, self.shape, strict=True)]
        return Tile(
            first=tuple(a - m for a, m in zip(start, self.margins, strict=True)),
            last=tuple(b + m for b, m in zip(stop, self.margins, strict=True)),
            place=tuple(slice(a, b) for a, b in zip(start, ends, strict=True)),
            margins=self.margins,
            shape=self.shape,
            period=self.extent if self.periodic else None,
        )


def lay_tiles(card: Card, shape: Sequence[int], *, periodic: bool = True, tile: int | None = None) -> Tiling:
    """How the maps of `shape` are cut; the arguments are those of :func:`paint_maps`."""
    if tile is not None:
        check_count("tile", tile)
    if card.network.centred:
        # A map with a middle is painted as it was trained: at once, its sides together.
        tile, periodic = max(shape), True
    s = card.stride
    extent = [-(-n // s) * s for n in shape]
    margin = card.network.tile_margin(bool(card.inputs))
    if tile is None:
        sides = _default_sides(extent, s, margin, card.network.reaches[0], periodic)
    else:
        sides = [min(-(-tile // s) * s, n) for n in extent]
    margins = _margins(sides, extent, margin, periodic)
    return Tiling(tuple(shape), tuple(extent), tuple(sides), tuple(margins), periodic)


def paint_tile(
    painter: Painter,
    region: np.ndarray,
    parameters: np.ndarray,
    tile: Tile,
    *,
    seed: int,
    rows: Any,
    realisations: Any = 0,
) -> np.ndarray:
    """Paint a tile of a batch of maps.

    Parameters
    ----------
    painter : Painter
    region : array, shape (maps, *tile.cells, n_inputs)
        The input fields there, as :meth:`Tile.join` gives them, and after them what
        :meth:`~higan.painting.painter.Painter.above_barrier` gives.
    parameters : array, shape (maps, n_par)
    tile : Tile
    seed : int
    rows, realisations : array_like of int, shape (batch,)
        Of one map after the other, each as many times.

    Returns
    -------
    array of float32
        The tile without its margin, (batch, *shape, n_outputs).
    """
    rows, realisations = np.broadcast_arrays(rows, realisations)
    # The generator takes a realisation of all maps, then the next.
    places = np.arange(len(rows)).reshape(len(region), -1)
    order = places.T.ravel()
    noise = painter.noise(
        tile.cells,
        seed=seed,
        rows=rows[order],
        realisations=realisations[order],
        origin=tile.first,
        period=tile.period,
        around=tile.margins,
    )
    painted = painter.paint_host(region, parameters, noise, tile.margins)
    painted = painted[:, *(slice(place.stop - place.start) for place in tile.place)]
    return painted if min(places.shape) == 1 else painted[np.argsort(order)]


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
    fields : array, shape (maps, *shape, n_inputs)
        Physical units.
    parameters : array, shape (maps, n_par)
    seed : int
    rows, realisations : array_like of int, shape (batch,)
        Of one map after the other, each as many times.
    periodic : bool
        Whether the map's opposite sides touch; otherwise it is continued by reflection.
    tile : int, optional
        Side of a tile in cells, rounded up to a multiple of the stride. Where not given, maps are painted whole unless
        tiles of some 3 GB take half of the memory or less (boxes beyond five million cells, say); those that cost the
        least work a cell are chosen.

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
    out = np.empty((len(rows), *fields.shape[1:-1], len(painter.outputs)), dtype=np.float32)
    above = painter.above_barrier(fields, parameters, periodic)
    for part in lay_tiles(painter.card, fields.shape[1:-1], periodic=periodic, tile=tile):
        region = part.join(np.concatenate([x[:, *place] for x in (fields, above)], axis=-1) for place in part.places())
        out[:, *part.place] = paint_tile(
            painter, region, parameters, part, seed=seed, rows=rows, realisations=realisations
        )
    return out


def check_count(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1."""
    if not (isinstance(value, int | np.integer) and value >= 1):
        raise ParameterError(f"{name} must be a whole number of at least 1, received {value!r}.")


def _default_sides(extent: Sequence[int], s: int, margin: int, reach: int, periodic: bool) -> list[int]:
    """Sides of the tiles of a map where none are asked for; those of the map itself where it is painted whole."""

    def at_once(sides: Sequence[int]) -> float:
        """Cells whose features are in memory; those of the way up are of a tile and `reach` cells around it."""
        margins = _margins(sides, extent, margin, periodic)
        painted, seen = (
            math.prod(side + 2 * min(m, most) for side, m in zip(sides, margins, strict=True))
            for most in (reach, margin)
        )
        return painted + SEEN * (seen - painted)

    # Axes that are short are cut or not; the others into tiles of much the same length, at least half a margin.
    whole, least = list(extent), max(s, margin // (2 * s) * s)
    found = [
        [n if n <= kept else -(-n // (-(-n // longest) * s)) * s for n in extent]
        for kept in {0, *extent}
        for longest in range(max(least, max(extent)), least - 1, -s)
    ]
    fitting = [sides for sides in found if at_once(sides) <= MOST_AT_ONCE]
    if fitting:
        best = min(fitting, key=lambda sides: at_once(sides) / math.prod(sides))
    else:
        best = min(found, key=at_once)
    return best if 2 * at_once(best) <= at_once(whole) else whole


def _margins(sides: Sequence[int], extent: Sequence[int], margin: int, periodic: bool) -> list[int]:
    # A periodic axis that one tile covers needs no margin: the network's own padding wraps it.
    return [0 if periodic and side == n else margin for side, n in zip(sides, extent, strict=True)]
