"""Cut smaller maps: from 3D boxes slabs, the mean over a few cells along an axis, or cubes; from skies patches."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import MASKED, PER_MAP, PER_SIMULATION, Field, MapSet
from higan.mapset_writer import MapSetWriter
from higan.painting.faces import FACES, side_of, to_faces
from higan.progress import progress


def slabs(
    boxes: MapSet,
    path: str | os.PathLike[str],
    thickness_cells: int = 4,
    *,
    fields: Sequence[str] | None = None,
    overwrite: bool = False,
    compression: str | None = None,
) -> Path:
    """Write the slabs of a 3D map set as a 2D one: all slabs along all three axes.

    Maps follow the order box, axis, slab; a box of N³ cells gives 3 N / `thickness_cells` of them. A slab is
    the mean of its cells in float64, its remaining axes in their order in the box. One box is in memory at a
    time.

    Parameters
    ----------
    boxes : MapSet
        Cubes.
    path : path
        The new file, which appears whole or not at all; it gains /axis, /slab and the attribute thickness.
    thickness_cells : int
        Cells that a slab is deep; divides the number of cells of an axis.
    fields : sequence of str, optional
        All of them where ``None``.
    overwrite : bool
    compression : str, optional
        An h5py filter.

    Raises
    ------
    MapSetError
        If the maps are not cubes of the simulation box, a field is missing, or the thickness does not divide
        the axis.
    OutputError
        If the file exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from higan.mapset import Field, Geometry
    >>> box = np.arange(64, dtype="float32").reshape(1, 4, 4, 4)
    >>> boxes = MapSet({"density": Field(box)}, np.zeros((1, 0)), [], [0], Geometry(ndim=3, box_size=8.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maps = MapSet.open(slabs(boxes, f"{folder}/slabs.h5", 2))
    ...     len(maps), maps.geometry.thickness, float(maps.read("density")[0, 0, 0])
    (6, 4.0, 8.0)
    """
    cells = _side(boxes, "slabs")
    _must_divide(cells, thickness_cells, "Slabs", "thickness")
    per_axis = cells // thickness_cells

    def cut(box: np.ndarray) -> np.ndarray:
        along = [np.moveaxis(box, axis, 0).reshape(-1, thickness_cells, *box.shape[1:]) for axis in range(3)]
        return np.concatenate([part.mean(axis=1, dtype=np.float64) for part in along]).astype(np.float32)

    return _write(
        boxes,
        path,
        cut,
        (cells, cells),
        3 * per_axis,
        "slabs",
        {"ndim": 2, "thickness": thickness_cells * boxes.cell_size},
        {
            "axis": np.tile(np.repeat(np.arange(3, dtype=np.int32), per_axis), len(boxes)),
            "slab": np.tile(np.arange(per_axis, dtype=np.int32), 3 * len(boxes)),
        },
        fields=fields,
        overwrite=overwrite,
        compression=compression,
    )


def cubes(
    boxes: MapSet,
    path: str | os.PathLike[str],
    side_cells: int,
    *,
    fields: Sequence[str] | None = None,
    overwrite: bool = False,
    compression: str | None = None,
) -> Path:
    """Write the cubes of `side_cells`³ cells that fill the boxes of a 3D map set.

    Maps follow the order box, then the cube's place along the first, second and third axis. They are not periodic. One
    box is in memory at a time.

    Parameters
    ----------
    boxes : MapSet
        Cubes.
    path : path
        The new file, which appears whole or not at all.
    side_cells : int
        Divides the number of cells of an axis.
    fields, overwrite, compression
        As of :func:`slabs`.

    Raises
    ------
    MapSetError
        If the maps are not cubes of the simulation box, a field is missing, or the side does not divide the axis.
    OutputError
        If the file exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from higan.mapset import Field, Geometry
    >>> box = np.arange(64, dtype="float32").reshape(1, 4, 4, 4)
    >>> boxes = MapSet({"density": Field(box)}, np.zeros((1, 0)), [], [0], Geometry(ndim=3, box_size=8.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maps = MapSet.open(cubes(boxes, f"{folder}/cubes.h5", 2))
    ...     len(maps), maps.geometry.box_size, maps.geometry.periodic, maps.read("density")[1, 0].tolist()
    (8, 4.0, False, [[2.0, 3.0], [6.0, 7.0]])
    """
    cells = _side(boxes, "cubes")
    _must_divide(cells, side_cells, "Cubes", "side")
    along = cells // side_cells

    def cut(box: np.ndarray) -> np.ndarray:
        parts = box.reshape(along, side_cells, along, side_cells, along, side_cells, *box.shape[3:])
        return np.moveaxis(parts, (0, 2, 4), (0, 1, 2)).reshape(-1, *(side_cells,) * 3, *box.shape[3:])

    return _write(
        boxes,
        path,
        cut,
        (side_cells,) * 3,
        along**3,
        "cubes",
        {"box_size": side_cells * boxes.cell_size, "periodic": boxes.geometry.periodic and along == 1},
        {},
        fields=fields,
        overwrite=overwrite,
        compression=compression,
    )


def patches(
    skies: MapSet,
    path: str | os.PathLike[str],
    side_cells: int,
    *,
    fields: Sequence[str] | None = None,
    overwrite: bool = False,
    compression: str | None = None,
) -> Path:
    """Write the patches of `side_cells`² pixels that fill HEALPix's base faces, for training at the sky's own cells.

    Maps follow the order sky, face, then the patch's place along the face's x and y (:mod:`higan.painting.faces`).
    Patches that hold a masked pixel are left out. Where all skies are of one simulation, each patch counts as
    a simulation of its own, so that regions of the sky can be kept for validation and test. One sky is in memory at a
    time.

    Parameters
    ----------
    skies : MapSet
        Of geometry "healpix".
    path : path
        The new file, which appears whole or not at all; it gains /patch, the number of each among those of its sky.
    side_cells : int
        Divides nside.
    fields, overwrite, compression
        As of :func:`slabs`.

    Raises
    ------
    MapSetError
        If the maps are not skies in a known ordering, their thickness is not in Mpc, a field is missing, the side does
        not divide nside, or every patch is masked.
    OutputError
        If the file exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from higan.mapset import Field, Geometry
    >>> sky = np.arange(192, dtype="float32").reshape(1, 192)
    >>> geometry = Geometry(kind="healpix", ndim=1, periodic=False, ordering="NESTED")
    >>> skies = MapSet({"dust": Field(sky)}, np.zeros((1, 0)), [], [0], geometry)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maps = MapSet.open(patches(skies, f"{folder}/patches.h5", 2))
    ...     len(maps), maps.n_sim, maps.read("dust")[1].tolist()
    (48, 48, [[8.0, 10.0], [9.0, 11.0]])
    """
    geometry = skies.geometry
    if geometry.kind != "healpix" or geometry.ordering not in ("RING", "NESTED"):
        raise MapSetError(
            f"{skies.name} holds geometry {geometry.kind!r}, ordering {geometry.ordering!r}, but patches are cut "
            "from HEALPix maps. Give such, in RING or NESTED order."
        )
    if geometry.thickness is not None and geometry.depth_units != "Mpc":
        raise MapSetError(
            f"{skies.name} has shells measured in {geometry.depth_units}, but those of patches are in Mpc. Convert the "
            "thickness first."
        )
    try:
        n, ordering = side_of(skies.shape[0]), str(geometry.ordering)
    except ValueError as error:
        raise MapSetError(f"{skies.name}: {error}. Give maps of all their pixels, masked ones UNSEEN.") from None
    _must_divide(n, side_cells, "Patches", "side")
    chosen = _chosen(skies, fields, "patches")

    def cut(name: str, row: int) -> np.ndarray:
        faces = to_faces(skies.read(name, [row])[0], ordering)
        return _split(faces, side_cells)

    number = np.arange(FACES * (n // side_cells) ** 2)
    kept = []
    for row in range(len(skies)):
        seen = np.all([(cut(name, row) > MASKED).all(axis=(1, 2)) for name in chosen], axis=0)
        kept.append(number[seen])
    sky, patch = np.repeat(np.arange(len(skies)), [len(found) for found in kept]), np.concatenate(kept)
    if not len(patch):
        raise MapSetError(f"No patch of {side_cells} pixels of {skies.name} is without masked ones. Take smaller ones.")
    per_simulation = {name: skies.extra[name] for name in PER_SIMULATION if name in skies.extra}
    like, simulation = skies, skies.simulation[sky]
    if skies.n_sim == 1:
        like = MapSet(
            skies.fields,
            np.repeat(skies.parameters, FACES * (n // side_cells) ** 2, axis=0),
            skies.parameter_info,
            skies.simulation,
            geometry,
            simulator=skies.simulator,
            simulator_version=skies.simulator_version,
            created_by=skies.created_by,
            attributes=skies.attributes,
        )
        simulation, per_simulation = patch.astype(np.int32), {}
    writer = MapSetWriter(
        path,
        like,
        {name: ((side_cells,) * 2, field.units, field.long_name) for name, field in chosen.items()},
        len(patch),
        simulation=simulation,
        extra=per_simulation
        | {name: skies.extra[name][sky] for name in PER_MAP if name in skies.extra}
        | {"patch": patch.astype(np.int32)},
        geometry=dataclasses.replace(
            geometry,
            kind="patch",
            ndim=2,
            cell_size=skies.cell_size,
            cell_size_units=geometry.length_units,
            ordering=None,
        ),
        overwrite=overwrite,
        compression=compression,
    )
    with writer, progress("patches", total=len(skies), unit="skies") as advance:
        for row, found in enumerate(kept):
            if len(found):
                writer.write(int((sky < row).sum()), {name: cut(name, row)[found] for name in chosen})
            advance()
    return Path(path)


def _split(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps (n, m, m) as their squares, (n (m / side)², side, side), row by row."""
    n, m = maps.shape[:2]
    along = m // side
    return maps.reshape(n, along, side, along, side).swapaxes(2, 3).reshape(-1, side, side)


def _chosen(maps: MapSet, fields: Sequence[str] | None, what: str) -> dict[str, Field]:
    """The fields to cut, all of them where none are named."""
    fields = list(maps.fields) if fields is None else list(fields)
    if not fields:
        raise MapSetError(f"No fields are chosen to cut {what} from. Name at least one.")
    return {name: maps.field(name) for name in fields}


def _side(boxes: MapSet, what: str) -> int:
    """Cells along an axis of boxes that can be cut."""
    if boxes.geometry.ndim != 3 or boxes.geometry.kind != "box" or len(set(boxes.shape[:3])) != 1:
        raise MapSetError(
            f"{boxes.name} holds maps of {' x '.join(map(str, boxes.shape))} ({boxes.geometry.kind}, "
            f"{boxes.geometry.ndim} dimensions), but {what} are cut from cubic boxes. Give a 3D map set."
        )
    return int(boxes.shape[0])


def _must_divide(cells: int, part: int, what: str, name: str) -> None:
    if part < 1 or cells % part:
        divisors = [str(d) for d in range(1, cells + 1) if cells % d == 0]
        raise MapSetError(
            f"{what} of {part} cells do not fill an axis of {cells}. Take a {name} of {', '.join(divisors)}."
        )


def _write(
    boxes: MapSet,
    path: str | os.PathLike[str],
    cut: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, ...],
    per_box: int,
    what: str,
    geometry: dict[str, Any],
    extra: dict[str, np.ndarray],
    *,
    fields: Sequence[str] | None,
    overwrite: bool,
    compression: str | None,
) -> Path:
    """Write what `cut` makes of each box: `per_box` maps of `shape`."""
    chosen = _chosen(boxes, fields, what)
    kept = {name: boxes.extra[name] for name in PER_SIMULATION if name in boxes.extra}
    kept |= {name: np.repeat(boxes.extra[name], per_box) for name in PER_MAP if name in boxes.extra}
    writer = MapSetWriter(
        path,
        boxes,
        {name: ((*shape, *field.shape[3:]), field.units, field.long_name) for name, field in chosen.items()},
        len(boxes) * per_box,
        simulation=np.repeat(boxes.simulation, per_box),
        extra=kept | extra,
        geometry=dataclasses.replace(boxes.geometry, **geometry),
        overwrite=overwrite,
        compression=compression,
    )
    with writer, progress(what, total=len(boxes), unit="boxes") as advance:
        for row in range(len(boxes)):
            writer.write(row * per_box, {name: cut(boxes.read(name, [row])[0]) for name in chosen})
            advance()
    return Path(path)
