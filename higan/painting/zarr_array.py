"""Painted maps as a zarr array, and zarr arrays as input maps.

An output is one array of float32, (n, *shape), n counting maps, then their realisations; a tile, or a batch of small
maps, is a chunk. Its attributes say what it is: field, units, long_name, cell_size and its units, thickness, redshift,
periodic, parameters (each a list, one value a map), checkpoint, seed, realisations, made_from_sha256, created_by.
Unfinished it lies in ``path.partial``, where each chunk that is written stays; the shards of a job array write to one
such array, and it gets its name when the last chunk is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.checkpoint import FieldCard
from higan.errors import MapSetError, MissingDependencyError, OutputError
from higan.mapset import MapSet, first_line
from higan.mapset_writer import MADE_FROM, check_place, partial_path


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is called .zarr."""
    return Path(path).suffix.lower() == ".zarr"


def import_zarr() -> Any:
    """The package zarr; MissingDependencyError where it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError(
            f"A .zarr array needs zarr, which cannot be imported ({error}): pip install 'higan[dask]'."
        ) from error
    return zarr


def open_maps(path: Path, ndim: int) -> Any:
    """The maps of a zarr array, (n, *shape) whether it holds several or one (*shape); read when they are cut.

    Raises
    ------
    MapSetError
        If there is no such array.
    """
    zarr = import_zarr()
    try:
        array = zarr.open_array(str(path), mode="r")
    except Exception as error:  # zarr has its own for each kind of damage
        raise MapSetError(
            f"{path} cannot be read as a zarr array ({first_line(error)}). Give an array, not a group of them."
        ) from error
    return _OneMap(array) if array.ndim == ndim else array


class ZarrWriter:
    """Stream maps, or tiles of them, into a zarr array that appears whole or not at all, and can be resumed.

    Several processes may write to it, each its own chunks; it takes its name when the last is there.

    Parameters
    ----------
    path : path
    like : MapSet
        Where the geometry comes from, and who made the array.
    outputs : sequence of FieldCard
        One.
    shape, chunks : sequence of int
        (n, *shape of a map), and of a chunk.
    parameters : mapping of str to list
        A value a map.
    attributes : mapping
        Further ones.
    periodic : bool
    overwrite : bool
    made_from : str
        What the maps are computed from (a digest).

    Raises
    ------
    OutputError
        If the array exists, cannot be written, is one of several fields, or an unfinished one of other maps is there.
    MissingDependencyError
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: MapSet,
        outputs: Sequence[FieldCard],
        shape: Sequence[int],
        chunks: Sequence[int],
        *,
        parameters: Mapping[str, Any],
        attributes: Mapping[str, Any],
        periodic: bool,
        overwrite: bool,
        made_from: str,
    ):
        self.path = Path(path)
        self._zarr = import_zarr()
        self._shape, self._chunks, self._overwrite = tuple(shape), tuple(chunks), overwrite
        check_zarr(self.path, [item.field for item in outputs], overwrite)
        (self._field,) = outputs
        geometry = like.geometry
        described = {
            "field": self._field.field,
            "units": self._field.units,
            "long_name": self._field.long_name,
            "cell_size": like.cell_size,
            "cell_size_units": geometry.length_units,
            "thickness": geometry.thickness,
            "redshift": geometry.redshift,
            "periodic": periodic,
            "parameters": dict(parameters),
            **{k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()},
            "created_by": like.created_by,
        }
        said = json.dumps([described, self._shape, self._chunks, made_from], sort_keys=True)
        self._attributes = {**described, MADE_FROM: hashlib.sha256(said.encode()).hexdigest()}
        self._resumed = False
        self._array: Any = None

    def __enter__(self) -> ZarrWriter:
        partial = partial_path(self.path)
        try:
            if not partial.exists():
                self._make(partial)
            self._array = self._zarr.open_array(str(partial), mode="r+")
            if self._array.attrs.get(MADE_FROM) != self._attributes[MADE_FROM]:
                if not self._overwrite:
                    raise OutputError(
                        f"{partial} holds unfinished maps of another command. Run that again, choose another name, or "
                        "add --overwrite to give them up."
                    )
                shutil.rmtree(partial)
                self._make(partial)
                self._array = self._zarr.open_array(str(partial), mode="r+")
        except OSError as error:
            raise self._unwritable(error) from error
        self._resumed = self._array.nchunks_initialized > 0
        return self

    def lacks(self, start: int, stop: int, place: tuple[slice, ...]) -> bool:
        """Whether the maps start … stop - 1, at `place`, are not in the array."""
        return not self._resumed or bool(np.isnan(self._array[(slice(start, stop), *place)]).any())

    def write(self, start: int, maps: Mapping[str, np.ndarray], place: tuple[slice, ...]) -> None:
        """Put `maps`, an array (m, *shape) of the field, at `place` of the rows from `start`: a chunk."""
        values = maps[self._field.field]
        try:
            self._array[(slice(start, start + len(values)), *place)] = values
        except OSError as error:
            raise self._unwritable(error) from error

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is None and self._array.nchunks_initialized == self._array.nchunks:
            try:
                self._finish()
            except OSError as error:
                raise self._unwritable(error) from error

    def _make(self, partial: Path) -> None:
        """An empty array; where another process makes it at the same time, one of the two stays."""
        private = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self._zarr.create_array(
                str(private),
                shape=self._shape,
                chunks=self._chunks,
                dtype="float32",
                fill_value=np.nan,
                attributes=self._attributes,
                dimension_names=["map", *"xyz"[: len(self._shape) - 1]],
            )
            os.rename(private, partial)
        except OSError:
            if not partial.exists():
                raise
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _finish(self) -> None:
        partial, old = partial_path(self.path), self.path.with_name(f".{self.path.name}.old")
        if self.path.exists() and self._overwrite and partial.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(self.path, old)
        try:
            os.rename(partial, self.path)
        except FileNotFoundError:
            # Another shard, that was done at the same moment, has done it.
            if not self.path.exists():
                raise
        shutil.rmtree(old, ignore_errors=True)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written ({error.strerror or first_line(error)}). What is painted is kept in "
            f"{partial_path(self.path)}: make room, and run the same command again."
        )


def check_zarr(path: Path, fields: Sequence[str], overwrite: bool) -> None:
    """Refuse an output that exists (unless `overwrite`), several fields, or a folder that cannot be written to.

    Raises
    ------
    OutputError
    """
    if len(fields) != 1:
        raise OutputError(
            f"{path} would hold {', '.join(fields)}, and one field at most. Write a map set: name it .h5."
        )
    check_place(path, overwrite)


class _OneMap:
    """An array (*shape) as (1, *shape)."""

    def __init__(self, array: Any):
        self.array, self.dtype = array, array.dtype
        self.shape = (1, *array.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        maps, *place = index if isinstance(index, tuple) else (index,)
        return self.array[tuple(place) or ...][None][maps]
