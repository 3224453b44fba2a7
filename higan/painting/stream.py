"""Paint a map set of any length into a file, batch by batch: memory does not grow with the number of maps.

What ends the process, kill -9 included, leaves ``path.partial`` beside the output; the same call goes on there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import higan
from higan.errors import ParameterError
from higan.mapset import MapSet
from higan.mapset_writer import MapSetWriter
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
    periodic: bool | None = None,
    allow_extrapolation: bool = False,
    overwrite: bool = False,
) -> Path:
    """Paint every map of a map set, map-major over realisations, into a new map set.

    A call that was interrupted is taken up by one of the same maps, and the result is that of one that was
    not: bit for bit where `batch_size` is the same, else as near as batches of other sizes are.

    Parameters
    ----------
    emulator : Emulator
    maps : MapSet
        With the card's input fields, units, cell size and thickness; one that a checkpoint without input fields paints
        for gives parameters and shapes alone.
    path : path
        Appears whole or not at all; unfinished, the maps lie in ``path.partial``.
    seed, realisations, batch_size, allow_extrapolation
        As :meth:`higan.emulator.Emulator.sample`.
    periodic : bool, optional
        As the map set says where not given.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    MapSetError, ParameterError, OutputError
        Nothing is left behind then, neither at `path` nor beside it.
    """
    from higan.emulator import check_seed

    card = emulator.card
    check_seed(seed)
    for name, value in (("realisations", realisations), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} must be at least 1, received {value}.")
    emulator.check_mapset(maps)
    names = [p.name for p in card.parameters]
    theta = _parameters(emulator, maps, names, allow_extrapolation)
    size = batch_size or emulator.default_batch(maps.shape)
    n = len(maps) * realisations
    row, draw = np.arange(n) // realisations, np.arange(n) % realisations
    attributes = {
        "checkpoint": card.name,
        "checkpoint_version": card.version,
        "checkpoint_sha256": card.weights_sha256,
        "seed": np.uint64(seed),
        "realisations": realisations,
        "extrapolated": emulator.extrapolates(theta),
    }
    extra = {name: values for name, values in maps.extra.items() if name in ("seeds", "split")}
    extra |= {name: maps.extra[name][row] for name in ("axis", "slab") if name in maps.extra}
    extra |= {"source_row": row.astype(np.int32), "realisation": draw.astype(np.int32)}
    like = maps.with_created_by(f"higan {higan.__version__}")
    shape = maps.shape[: card.ndim]
    fields = {item.field: (shape, item.units, item.long_name) for item in card.outputs}
    wrap = maps.geometry.periodic if periodic is None else periodic
    with (
        MapSetWriter(
            path,
            like,
            fields,
            n,
            simulation=maps.simulation[row],
            extra=extra,
            attributes=attributes,
            geometry=dataclasses.replace(maps.geometry, periodic=wrap),
            overwrite=overwrite,
            made_from=_digest(emulator, maps),
        ) as writer,
        progress("painting", n, done=n - int(writer.left.sum())) as advance,
    ):
        for start in range(0, n, size):
            # Whole batches, so that each map is painted beside the same ones as without an interruption.
            index = np.arange(start, min(start + size, n))
            if not writer.left[index].any():
                continue
            # A batch is always full: a backend that compiles by shape would compile the last one anew.
            full = np.resize(index, size) if n > size else index
            painted = emulator.paint_rows(
                emulator.painter.read_inputs(maps, row[full]),
                theta[row[full]],
                seed=seed,
                rows=row[full],
                realisations=draw[full],
                periodic=wrap,
            )
            writer.write(start, {item.field: painted[: len(index), ..., i] for i, item in enumerate(card.outputs)})
            advance(int(writer.left[index].sum()))
    return Path(path)


def _digest(emulator: Emulator, maps: MapSet) -> str:
    """sha256 over what the maps are made from: the checkpoint's card, the sha256 of its weights, the input fields."""
    digest = hashlib.sha256(emulator.card.model_dump_json().encode())
    digest.update(maps.content_sha256(item.field for item in emulator.card.inputs).encode())
    return digest.hexdigest()


def _parameters(emulator: Emulator, maps: MapSet, names: list[str], allow_extrapolation: bool) -> np.ndarray:
    """Parameters of every map, (n, n_par), in the card's order; those the generator does not know are left out."""
    for name in names:
        if name not in maps.parameter_names:
            raise ParameterError(
                f"{maps.name} has no parameter {name!r}: it has {', '.join(maps.parameter_names) or 'none'}."
            )
    columns = {name: maps.parameters[maps.simulation, maps.parameter_names.index(name)] for name in names}
    return emulator.check_parameters(columns, len(maps), allow_extrapolation=allow_extrapolation)
