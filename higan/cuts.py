"""Cut 3D boxes into smaller maps: 2D slabs, the mean over a few cells along an axis, or cubes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import PER_MAP, PER_SIMULATION, MapSet
from higan.mapset_writer import MapSetWriter
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
    fields = list(boxes.fields) if fields is None else list(fields)
    if not fields:
        raise MapSetError(f"No fields are chosen to cut {what} from. Name at least one.")
    chosen = {name: boxes.field(name) for name in fields}
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
            writer.write(row * per_box, {name: cut(boxes.read(name, [row])[0]) for name in fields})
            advance()
    return Path(path)
