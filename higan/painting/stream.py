"""Paint a map set of any length into a file, batch by batch: memory does not grow with the number of maps.

Maps too large to be painted whole are painted, read and written tile by tile: nor does it grow with their size, but
where an excursion set looks at whole maps first. What ends the process, kill -9 included, leaves ``path.partial``
beside the output; the same call goes on there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import higan
from higan.errors import MapSetError, ParameterError
from higan.mapset import PER_SIMULATION, MapSet
from higan.mapset_writer import MapSetWriter
from higan.painting.cluster import connect, paint_on
from higan.painting.lazy import paint_alone
from higan.painting.regions import lay_tiles, once_each
from higan.painting.shards import Shard
from higan.painting.zarr_array import ZarrWriter, is_zarr
from higan.progress import progress

if TYPE_CHECKING:
    from higan.emulator import Emulator


def paint_to_file(
    emulator: Emulator,
    maps: MapSet,
    path: str | os.PathLike[str],
    *,
    seed: int,
    realisations: int = 1,
    batch_size: int | None = None,
    tile: int | None = None,
    periodic: bool | None = None,
    shard: Shard | None = None,
    scheduler: str | None = None,
    drawn: bool = False,
    allow_extrapolation: bool = False,
    overwrite: bool = False,
) -> Path:
    """Paint every map of a map set, map-major over realisations, into a new map set or a zarr array.

    A call that was interrupted is taken up by one of the same maps, and the result is that of one that was
    not: bit for bit where `batch_size` is the same, else as near as batches of other sizes are.

    Parameters
    ----------
    emulator : Emulator
    maps : MapSet
        With the card's input fields, units, cell size and thickness; one that a checkpoint without input fields paints
        for gives parameters and shapes alone.
    path : path
        Appears whole or not at all; unfinished, the maps lie in ``path.partial``. Called .zarr, it is one array
        (:mod:`higan.painting.zarr_array`).
    seed, realisations, batch_size, tile, allow_extrapolation
        As :meth:`higan.emulator.Emulator.sample`.
    periodic : bool, optional
        As the map set says where not given.
    shard : Shard, optional
        Paint this part alone: of the maps, as a map set for :func:`higan.painting.shards.merge`; or of the tiles, in a
        zarr array that all shards write to.
    scheduler : str, optional
        Paint on a dask.distributed cluster: its address, or "processes" for one of processes on this machine. This
        process reads and writes.
    drawn : bool
        The input is drawn for every map and realisation, as :meth:`higan.emulator.Emulator.draw_density` does; `maps`
        gives parameters and shapes alone.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    MapSetError, ParameterError, OutputError, ClusterError, MissingDependencyError
        Nothing is left behind then, neither at `path` nor beside it.
    """
    from higan.emulator import check_seed

    card = emulator.card
    check_seed(seed)
    for name, value in (("realisations", realisations), ("batch_size", batch_size), ("tile", tile)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} must be at least 1, received {value}.")
    emulator.check_mapset(maps, drawn=drawn)
    theta = parameters_of(emulator, maps, allow_extrapolation)
    shape = maps.shape[: card.ndim]
    if drawn:
        emulator.painter.universes(theta)  # all of them, before anything is painted
    elif card.inputs:
        with contextlib.suppress(MapSetError):  # what cannot be read is told of where it is painted
            emulator.warn_of_unlike(
                emulator.painter.read_inputs(maps, [0], tuple(slice(0, min(n, 128)) for n in shape))
            )
    wrap = maps.geometry.periodic if periodic is None else periodic
    tiling = lay_tiles(card, shape, periodic=wrap, tile=tile)
    n = len(maps) * realisations
    row, draw = np.arange(n) // realisations, np.arange(n) % realisations
    made_from = digest_of(emulator, maps, drawn=drawn)
    attributes = provenance_of(emulator, seed, realisations, theta)
    like = maps.with_created_by(f"higan {higan.__version__}")
    size = batch_size or (emulator.default_batch(shape, realisations) if len(tiling) == 1 else 1)
    tiles = range(len(tiling))
    writer: MapSetWriter | ZarrWriter
    if is_zarr(path):
        size = min(size, n)
        work = [(start, number) for start in range(0, n, size) for number in tiles]
        work = work[shard.of_items(len(work), "tiles") if shard else slice(None)]
        writer = ZarrWriter(
            path,
            like,
            card.outputs,
            (n, *shape),
            (size, *tiling.sides),
            parameters={p.name: values[row].tolist() for p, values in zip(card.parameters, theta.T, strict=True)},
            attributes=attributes,
            periodic=wrap,
            overwrite=overwrite,
            made_from=made_from,
        )
    else:
        if shard:
            ours = shard.of_items(n, "maps", "Take fewer shards, or write .zarr, whose tiles are shared.")
            row, draw = row[ours], draw[ours]
            n = len(row)
            attributes |= {**shard.attributes, "painted_from_sha256": made_from}
        work = [(start, number) for start in range(0, n, size) for number in tiles]
        writer = MapSetWriter(
            path,
            like,
            {item.field: (shape, item.units, item.long_name) for item in card.outputs},
            n,
            simulation=maps.simulation[row],
            extra=extra_of(maps, row, draw, ("axis", "slab")),
            attributes=attributes,
            geometry=dataclasses.replace(maps.geometry, periodic=wrap),
            overwrite=overwrite,
            made_from=made_from,
        )

    @functools.lru_cache(maxsize=1)
    def draw_all(start: int) -> np.ndarray:
        """What the maps of a batch are painted on, all tiles of them."""
        index = np.arange(start, min(start + size, n))
        fields = emulator.painter.draw_inputs(
            shape, theta[row[index]], seed=seed, rows=row[index], realisations=draw[index]
        )
        return fields[full_batch(start) - start]

    @functools.lru_cache(maxsize=1)
    def above(once: tuple[int, ...], start: int) -> np.ndarray:
        """By how much whole maps are above a barrier; drawn ones are those of the batch that begins at `start`."""
        whole = draw_all(start) if drawn else emulator.painter.read_inputs(maps, once)
        return emulator.painter.above_barrier(whole, theta[list(once)], wrap)

    def maps_of(start: int) -> np.ndarray:
        """The maps that a batch is painted on."""
        full = row[full_batch(start)]
        return once_each(full) if card.inputs and not drawn else full

    def full_batch(start: int) -> np.ndarray:
        """Numbers of a batch's maps, always as many: a backend that compiles by shape would compile the last anew."""
        index = np.arange(start, min(start + size, n))
        return np.resize(index, size) if n > size else index

    def arguments(start: int, number: int) -> tuple[Any, ...]:
        """What :func:`paint_alone` takes after the painter."""
        full, part = full_batch(start), tiling[number]
        once = maps_of(start)

        def read(place: tuple[slice, ...]) -> np.ndarray:
            fields = draw_all(start)[:, *place] if drawn else emulator.painter.read_inputs(maps, once, place)
            if not card.network.excursion_set:
                return fields
            whole = above(tuple(once.tolist()), start if drawn else 0)
            return np.concatenate([fields, whole[:, *place]], axis=-1)

        return part.join(map(read, part.places())), theta[once], part, seed, row[full], draw[full]

    in_this_process = scheduler in (None, "threads")
    with contextlib.nullcontext() if in_this_process else connect(str(scheduler)) as client, writer:
        # Whole batches, so that each map is painted beside the same ones as without an interruption.
        left = [(a, number) for a, number in work if writer.lacks(a, min(a + size, n), tiling[number].place)]
        if len(tiling) == 1 and isinstance(writer, MapSetWriter):
            unfinished = writer.left
            bar = progress("painting", n, done=n - int(unfinished.sum()))
        else:
            unfinished = None
            bar = progress("painting", len(work), done=len(work) - len(left), unit="tiles")
        todo = ((job, arguments(*job)) for job in left)
        results: Iterator[tuple[tuple[int, int], np.ndarray]]
        if client is None:
            results = ((job, paint_alone(emulator.painter, *rest)) for job, rest in todo)
        else:
            results = paint_on(client, emulator.painter, todo)
        with bar as advance:
            for (start, number), painted in results:
                stop = min(start + size, n)
                part = painted[: stop - start]
                values = {item.field: part[..., i] for i, item in enumerate(card.outputs)}
                writer.write(start, values, tiling[number].place)
                advance(1 if unfinished is None else int(unfinished[start:stop].sum()))
    return Path(path)


def digest_of(emulator: Emulator, maps: MapSet, *, drawn: bool = False) -> str:
    """sha256 over what the maps are made from: the checkpoint's card, the sha256 of its weights, the input fields."""
    inputs = [] if drawn else emulator.card.inputs
    digest = hashlib.sha256(emulator.card.model_dump_json().encode())
    digest.update(maps.content_sha256(item.field for item in inputs).encode())
    return digest.hexdigest()


def provenance_of(emulator: Emulator, seed: int, realisations: int, parameters: np.ndarray) -> dict[str, Any]:
    """What painted map sets say, as attributes, of how they were made."""
    card = emulator.card
    return {
        "checkpoint": card.name,
        "checkpoint_version": card.version,
        "checkpoint_sha256": card.weights_sha256,
        "seed": np.uint64(seed),
        "realisations": realisations,
        "extrapolated": emulator.extrapolates(parameters),
    }


def extra_of(maps: MapSet, row: np.ndarray, draw: np.ndarray, own: Sequence[str]) -> dict[str, np.ndarray]:
    """What painted maps take over: what is of simulations, `own` of single maps; and their row and realisation."""
    extra = {name: values for name, values in maps.extra.items() if name in PER_SIMULATION}
    extra |= {name: maps.extra[name][row] for name in own if name in maps.extra}
    return extra | {"source_row": row.astype(np.int32), "realisation": draw.astype(np.int32)}


def parameters_of(emulator: Emulator, maps: MapSet, allow_extrapolation: bool) -> np.ndarray:
    """Parameters of every map, (n, n_par), in the card's order; those the generator does not know are left out."""
    return emulator.check_parameters(emulator.columns_of(maps), len(maps), allow_extrapolation=allow_extrapolation)
