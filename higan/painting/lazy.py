"""Maps larger than memory: dask arrays painted tile by tile, when they are computed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import MapSetError, MissingDependencyError
from higan.painting.painter import Painter
from higan.painting.regions import Tile, batch_of, lay_tiles, paint_tile

if TYPE_CHECKING:
    import dask.array as da

# A backend uses all cores for one tile; tiles at the same time would take memory and gain nothing.
_one_at_a_time = threading.Lock()


def is_lazy(array: Any) -> bool:
    """Whether `array` is one of dask's; dask is not imported to see that."""
    return type(array).__module__.partition(".")[0] == "dask" and hasattr(array, "chunks")


def paint_lazily(
    painter: Painter,
    fields: Sequence[Any],
    parameters: np.ndarray,
    *,
    seed: int,
    rows: np.ndarray,
    realisations: int = 1,
    periodic: bool = True,
    tile: int | None = None,
    batch_size: int | None = None,
) -> da.Array:
    """Paint maps when they are computed, one task a tile.

    A task takes its region of the input alone, so that computing a block reads and paints no other, and a process
    paints one tile at a time, however many threads it has: its memory is that of a tile.
    What an excursion set smooths is a whole map, which a task of its own then reads, in the memory of four of them.

    Parameters
    ----------
    painter : Painter
        Goes along with its weights: processes and clusters need no checkpoint.
    fields : sequence of dask or numpy array, shape (n, *shape), or (*shape) for a single map
        One an input, in physical units; any chunks.
    parameters : array, shape (n, n_par)
    seed : int
    rows : array of int, shape (n,)
    realisations : int
        Of each map.
    periodic, tile
        As of :func:`higan.painting.regions.paint_maps`.
    batch_size : int, optional
        Maps painted at a time, where a map is one tile.

    Returns
    -------
    dask array of float32, shape (n, realisations, *shape, n_outputs)
        A chunk is a tile. Computing it raises a MapSetError where the fields are not finite.
    """
    dask, da = import_dask()
    from dask.highlevelgraph import HighLevelGraph

    n, shape = len(rows), fields[0].shape[-painter.card.ndim :]
    tiling = lay_tiles(painter.card, shape, periodic=periodic, tile=tile)
    size = batch_size or batch_of(shape)
    if len(tiling) > 1:
        size = 1
    token = dask.base.tokenize(painter, fields, parameters, seed, rows, realisations, tiling, size)
    name, task = f"higan-{token}", dask.delayed(_paint)
    shared = dask.delayed(painter, name=f"painter-{token}", traverse=False)
    if painter.card.network.excursion_set:
        # Of whole maps, in a task each.
        (field,) = fields
        of_map, whole = dask.delayed(_excursion), tuple(slice(0, cells) for cells in shape)
        above = [
            of_map(shared, _piece(field, slice(i, i + 1), whole), parameters[i : i + 1], periodic) for i in range(n)
        ]
        fields = [field, da.concatenate([da.from_delayed(each, (1, *shape), np.float32) for each in above])]
    layer: dict[Any, Any] = {}
    tasks = []
    for start in range(0, n, size):
        maps = slice(start, start + size)
        for number, part in enumerate(tiling):
            # Each delayed apart from all else: dask then reads from a file what is in the slice, and no more.
            pieces = [[dask.delayed(_piece(field, maps, place)) for place in part.places()] for field in fields]
            for draw in range(realisations):
                key: Any = (name, start // size, draw, *map(int, np.unravel_index(number, tiling.counts)), 0)
                painted = task(
                    *(shared, pieces, parameters[maps], part, seed, rows[maps], draw, start),
                    dask_key_name="-".join(map(str, ("paint", *key))),
                )
                layer[key] = painted.key
                tasks.append(painted)
    chunks = (
        tuple(min(size, n - start) for start in range(0, n, size)),
        (1,) * realisations,
        *(
            tuple(min(side, cells - a) for a in range(0, side * count, side))
            for cells, side, count in zip(shape, tiling.sides, tiling.counts, strict=True)
        ),
        (len(painter.outputs),),
    )
    graph = HighLevelGraph.from_collections(name, layer, dependencies=tasks)
    return da.Array(graph, name, chunks, dtype=np.float32)


def import_dask() -> tuple[Any, Any]:
    """The packages dask and dask.array; MissingDependencyError where they are not installed."""
    try:
        import dask
        import dask.array
    except ImportError as error:
        raise MissingDependencyError(
            f"Painting dask arrays needs dask, which cannot be imported ({error}): pip install 'higan[dask]'."
        ) from error
    return dask, dask.array


def _piece(field: Any, maps: slice, place: tuple[slice, ...]) -> Any:
    return field[maps, *place] if field.ndim > len(place) else field[place]


def _excursion(painter: Painter, field: np.ndarray, parameters: np.ndarray, periodic: bool) -> np.ndarray:
    """By how much one map, (*shape) or (1, *shape), is above its barrier, (1, *shape)."""
    whole = np.asarray(field, np.float32).reshape(1, *field.shape[-painter.card.ndim :], 1)
    with _one_at_a_time:
        return painter.above_barrier(whole, parameters, periodic)[..., 0]


def _paint(
    painter: Painter,
    pieces: Sequence[Sequence[np.ndarray]],
    parameters: np.ndarray,
    tile: Tile,
    seed: int,
    rows: np.ndarray,
    draw: int,
    start: int,
) -> np.ndarray:
    """A chunk of the result; `start` is the number of its first map, for messages."""
    batches = [[np.asarray(x, np.float32).reshape(len(rows), *x.shape[-len(tile.shape) :]) for x in f] for f in pieces]
    region = np.stack([tile.join(batch) for batch in batches], axis=-1)
    finite = np.isfinite(region).reshape(len(region), -1).all(axis=1)
    if not finite.all():
        bad = start + int(np.flatnonzero(~finite)[0])
        raise MapSetError(f"map {bad} (counted from 0) holds NaN or infinite values.")
    return paint_alone(painter, region, parameters, tile, seed, rows, draw)[:, None]


def paint_alone(
    painter: Painter, region: np.ndarray, parameters: np.ndarray, tile: Tile, seed: int, rows: Any, draws: Any
) -> np.ndarray:
    """Paint a tile as :func:`higan.painting.regions.paint_tile` does, while no other thread of the process does."""
    with _one_at_a_time:
        painted = paint_tile(painter, region, parameters, tile, seed=seed, rows=rows, realisations=draws)
        # Alone: what a tile at the end of an odd map has beyond it would stay in memory.
        return np.ascontiguousarray(painted)
