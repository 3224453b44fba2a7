"""Cut 2D slabs from 3D boxes: the mean over a few cells along each axis in turn."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

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
    fields = list(boxes.fields) if fields is None else list(fields)
    if not fields:
        raise MapSetError("No fields are chosen to cut slabs from. Name at least one.")
    chosen = {name: boxes.field(name) for name in fields}
    shape = boxes.shape[:3]
    if boxes.geometry.ndim != 3 or boxes.geometry.kind != "box" or len(set(shape)) != 1:
        raise MapSetError(
            f"{boxes.name} holds maps of {' x '.join(map(str, boxes.shape))} ({boxes.geometry.kind}, "
            f"{boxes.geometry.ndim} dimensions), but slabs are cut from cubes. Give a 3D map set."
        )
    cells = shape[0]
    if thickness_cells < 1 or cells % thickness_cells:
        divisors = [str(d) for d in range(1, cells + 1) if cells % d == 0]
        raise MapSetError(
            f"Slabs of {thickness_cells} cells do not fill an axis of {cells}. Take a thickness of "
            f"{', '.join(divisors)}."
        )
    per_axis = cells // thickness_cells
    per_box = 3 * per_axis
    n = len(boxes) * per_box
    extra = {name: boxes.extra[name] for name in PER_SIMULATION if name in boxes.extra}
    extra |= {name: np.repeat(boxes.extra[name], per_box) for name in PER_MAP if name in boxes.extra}
    extra["axis"] = np.tile(np.repeat(np.arange(3, dtype=np.int32), per_axis), len(boxes))
    extra["slab"] = np.tile(np.arange(per_axis, dtype=np.int32), 3 * len(boxes))
    writer = MapSetWriter(
        path,
        boxes,
        {name: (field.shape[1:], field.units, field.long_name) for name, field in chosen.items()},
        n,
        simulation=np.repeat(boxes.simulation, per_box),
        extra=extra,
        geometry=dataclasses.replace(boxes.geometry, ndim=2, thickness=thickness_cells * boxes.cell_size),
        overwrite=overwrite,
        compression=compression,
    )
    with writer, progress("slabs", total=len(boxes), unit="boxes") as advance:
        for row in range(len(boxes)):
            writer.write(row * per_box, {name: _cut(boxes.read(name, [row])[0], thickness_cells) for name in fields})
            advance()
    return Path(path)


def _cut(box: np.ndarray, thickness: int) -> np.ndarray:
    along = [np.moveaxis(box, axis, 0).reshape(-1, thickness, *box.shape[1:]) for axis in range(3)]
    return np.concatenate([part.mean(axis=1, dtype=np.float64) for part in along]).astype(np.float32)
