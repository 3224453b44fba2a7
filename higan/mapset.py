"""Map sets: paired maps of one or more fields, and the simulations and parameters they come from.

A map set lives in one HDF5 file that ``h5py`` alone can read::

    /                    attrs: format "higan-maps", format_version, geometry, ndim, simulator, created_by, …
                         for boxes: box_size, box_size_units, periodic, cosmology; redshift; for slabs
                         thickness
    /fields/<name>       float32 (n, *shape); attrs: units, long_name
    /parameters          float64 (n_sim, n_par); attrs: names, units, lower, upper
    /simulation          int32 (n,): the row of /parameters that each map came from
    /seeds, /split       (n_sim,), optional
    /axis, /slab         (n,), optional: where in its simulation a 2D map was cut
    /source_row,         (n,), in generated sets: the row of the input and which realisation of it
    /realisation

Fields are read when asked for, so a file larger than memory is no obstacle. A map set can also stand on any
other array-like (``numpy.memmap``, plain arrays): see :mod:`higan.sources`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from higan.errors import MapSetError, OutputError

FORMAT = "higan-maps"
FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")
PER_SIMULATION = ("seeds", "split")
PER_MAP = ("axis", "slab", "source_row", "realisation")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A simulation parameter: its name, unit (a string that ``astropy.units`` reads) and sampled range."""

    name: str
    units: str = ""
    lower: float = -np.inf
    upper: float = np.inf


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the cells of a map lie.

    Parameters
    ----------
    kind : {"box", "image", "healpix"}
    ndim : int
        Number of spatial axes of a map (1 for healpix).
    box_size : float, optional
        Side of the simulation box along the map's first axis, in `box_size_units`.
    box_size_units : str
        "Mpc" or "Mpc/h" for boxes.
    periodic : bool
    cell_size : float, optional
        Side of a cell in `cell_size_units`; ``None`` takes ``box_size / shape[0]``.
    cell_size_units : str, optional
        The unit of `cell_size`; ``None`` for that of the box.
    redshift : float, optional
    thickness : float, optional
        Depth over which a 2D map is averaged, in `box_size_units`.
    cosmology : mapping
        Background parameters that the simulations share.
    """

    kind: str = "box"
    ndim: int = 2
    box_size: float | None = None
    box_size_units: str = "Mpc"
    periodic: bool = True
    cell_size: float | None = None
    cell_size_units: str | None = None
    redshift: float | None = None
    thickness: float | None = None
    cosmology: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def cell(self, shape: Sequence[int]) -> float:
        """Side of a cell for maps of `shape`, in the unit of the box."""
        if self.cell_size is not None:
            return float(self.cell_size)
        if self.box_size is None:
            raise MapSetError("The size of a cell is unknown: give the map set a box_size or a cell_size.")
        return float(self.box_size) / shape[0]

    @property
    def length_units(self) -> str:
        """The unit of `cell` and the inverse of that of k."""
        return self.cell_size_units or self.box_size_units


@dataclasses.dataclass(frozen=True)
class Field:
    """The maps of one quantity: an array-like ``(n, *shape)`` that slices to numpy; its units, long name."""

    array: Any
    units: str = ""
    long_name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of one map."""
        return tuple(self.array.shape[1:])


class MapSet:
    """Paired maps, their simulations and parameters.

    Parameters
    ----------
    fields : mapping of str to Field
        Each with the same number of maps and the same spatial shape.
    parameters : array_like, shape (n_sim, n_par)
    parameter_info : sequence of Parameter
        One a column of `parameters`.
    simulation : array_like of int, shape (n,)
        The row of `parameters` each map came from.
    geometry : Geometry
    simulator, simulator_version, created_by : str
    extra : mapping of str to array
        Any of seeds, split (n_sim) and axis, slab, source_row, realisation (n).
    attributes : mapping
        Further root attributes, written as they are.
    path : Path, optional
        The file behind the arrays; it names the set in messages.

    Raises
    ------
    MapSetError
        If counts disagree, a simulation index is out of range, or the set is empty.

    Examples
    --------
    >>> import numpy as np
    >>> maps = MapSet(
    ...     fields={"density": Field(np.zeros((4, 8, 8), "float32"), units="")},
    ...     parameters=[[0.8], [0.9]],
    ...     parameter_info=[Parameter("SIGMA_8", lower=0.7, upper=0.9)],
    ...     simulation=[0, 0, 1, 1],
    ...     geometry=Geometry(ndim=2, box_size=16.0),
    ... )
    >>> len(maps), maps.n_sim, maps.cell_size
    (4, 2, 2.0)
    >>> maps.read("density", [1, 3]).shape
    (2, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        parameters: Any,
        parameter_info: Sequence[Parameter],
        simulation: Any,
        geometry: Geometry,
        *,
        simulator: str = "",
        simulator_version: str = "",
        created_by: str = "",
        extra: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ):
        self.path = path
        self.fields = dict(fields)
        self.parameters = np.asarray(parameters, dtype=np.float64)
        self.parameter_info = list(parameter_info)
        self.simulation = np.asarray(simulation, dtype=np.int32)
        self.geometry = geometry
        self.simulator = simulator
        self.simulator_version = simulator_version
        self.created_by = created_by
        self.extra = {name: np.asarray(values) for name, values in (extra or {}).items()}
        self.attributes = dict(attributes or {})
        self._check()

    @property
    def name(self) -> str:
        """The file's path, or "the map set" where there is no file."""
        return str(self.path) if self.path is not None else "the map set"

    def __len__(self) -> int:
        return int(self.simulation.shape[0])

    def __repr__(self) -> str:
        return (
            f"MapSet({self.name}: {len(self)} maps of {' x '.join(map(str, self.shape))}, {self.n_sim} "
            f"simulations, fields {', '.join(self.fields)}, parameters "
            f"{', '.join(self.parameter_names) or 'none'})"
        )

    @property
    def n_sim(self) -> int:
        """Number of simulations."""
        return int(self.parameters.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of a map."""
        return next(iter(self.fields.values())).shape

    @property
    def cell_size(self) -> float:
        """Side of a cell, in the unit of the box."""
        return self.geometry.cell(self.shape)

    @property
    def parameter_names(self) -> list[str]:
        """Names of the parameters, in the order of the columns of `parameters`."""
        return [info.name for info in self.parameter_info]

    def field(self, name: str) -> Field:
        """The field called `name`; a MapSetError that lists those there are if it is missing."""
        if name not in self.fields:
            raise MapSetError(
                f"{self.name} has no field {name!r}: it holds {', '.join(sorted(self.fields))}. "
                "Name one of these, or give a map set that has it."
            )
        return self.fields[name]

    def read(self, name: str, rows: Any = None, *, check: bool = True) -> np.ndarray:
        """Maps of field `name` as float32, shape (len(rows), *shape).

        Parameters
        ----------
        name : str
        rows : sequence of int, optional
            Any order, repeats allowed; all of them where ``None``.
        check : bool
            Refuse maps that are not finite.

        Raises
        ------
        MapSetError
            If the field is missing, the file is damaged, or a value is NaN or infinite (the map is named).
        """
        array = self.field(name).array
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        try:
            values = _take(array, rows)
        except (OSError, RuntimeError) as error:
            raise MapSetError(
                f"{self.name}: field {name!r} cannot be read ({_first_line(error)}). The file is truncated "
                "or damaged: copy or make it again."
            ) from error
        values = np.asarray(values, dtype=np.float32)
        if check and not np.isfinite(values).all():
            bad = int(rows[~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))][0])
            raise MapSetError(
                f"{self.name}: field {name!r} holds NaN or infinite values in map {bad} (counted from 0). "
                "Mend or leave out that map."
            )
        return values

    def check_units(self, name: str, units: str, other: str) -> None:
        """Refuse a set whose field `name` is missing or not in the `units` of `other`; astropy reads both."""
        from astropy import units as u

        found = self.field(name).units
        try:
            same = u.Unit(found) == u.Unit(units)
        except ValueError:
            same = found == units
        if not same:
            raise MapSetError(
                f"{self.name}: field {name!r} is in {found or '1'!r}, but {other} has it in {units or '1'!r}. "
                "Convert it first."
            )

    def batches(self, name: str, rows: Any = None, size: int | None = None) -> Iterator[np.ndarray]:
        """Maps of field `name`, `size` at a time (64 MiB of them where ``None``), in the order of `rows`."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        size = size or self._batch_size()
        for start in range(0, len(rows), size):
            yield self.read(name, rows[start : start + size])

    def select(self, rows: Any) -> MapSet:
        """The map set of `rows` alone, in that order; fields stay lazy and simulations keep their numbers."""
        rows = np.asarray(rows, dtype=np.int64)
        return self._replace(
            fields={
                name: dataclasses.replace(field, array=_Rows(field.array, rows)) for name, field in self.fields.items()
            },
            simulation=self.simulation[rows],
            extra={k: v[rows] if k in PER_MAP else v for k, v in self.extra.items()},
        )

    def with_parameters(self, parameters: Any, parameter_info: Sequence[Parameter]) -> MapSet:
        """The same maps with other parameters, one row a simulation."""
        return self._replace(parameters=parameters, parameter_info=parameter_info)

    def with_created_by(self, created_by: str) -> MapSet:
        """The same map set, said to be made by `created_by`."""
        return self._replace(created_by=created_by)

    def simulations(self) -> np.ndarray:
        """Numbers of the simulations that have at least one map, ascending."""
        return np.unique(self.simulation)

    def rows_of(self, simulations: Any) -> np.ndarray:
        """Rows of the maps that belong to `simulations`, in the set's order."""
        return np.flatnonzero(np.isin(self.simulation, simulations))

    def content_sha256(self) -> str:
        """sha256 over parameters, simulation numbers and all fields (by name), as little-endian bytes.

        It depends on the numbers alone: not on compression, chunks, time stamps or HDF5 versions.
        """
        digest = hashlib.sha256()
        digest.update(self.parameters.astype("<f8").tobytes())
        digest.update(self.simulation.astype("<i4").tobytes())
        for name in sorted(self.fields):
            digest.update(name.encode())
            for batch in self.batches(name):
                digest.update(batch.astype("<f4").tobytes())
        return digest.hexdigest()

    def _batch_size(self) -> int:
        return int(np.clip(2**24 // np.prod(self.shape), 1, 256))

    def _replace(self, **changes: Any) -> MapSet:
        keep: dict[str, Any] = dict(
            fields=self.fields,
            parameters=self.parameters,
            parameter_info=self.parameter_info,
            simulation=self.simulation,
            geometry=self.geometry,
            simulator=self.simulator,
            simulator_version=self.simulator_version,
            created_by=self.created_by,
            extra=self.extra,
            attributes=self.attributes,
            path=self.path,
        )
        return MapSet(**{**keep, **changes})

    def _check(self) -> None:
        if not self.fields:
            raise MapSetError(f"{self.name} has no fields. Give at least one.")
        n = len(self)
        if n == 0:
            raise MapSetError(f"{self.name} is empty: it holds no maps. Give a set with at least one map.")
        for name, field in self.fields.items():
            dtype = np.dtype(field.array.dtype)
            if not np.issubdtype(dtype, np.floating):
                raise MapSetError(
                    f"{self.name}: field {name!r} is of type {dtype}, but maps are floating-point numbers. "
                    "Convert it to float32."
                )
            if len(field.shape) < self.geometry.ndim or 0 in field.shape:
                raise MapSetError(
                    f"{self.name}: field {name!r} has shape {tuple(field.array.shape)}, but maps of "
                    f"{self.geometry.ndim} dimensions need (n, {', '.join('xyz'[: self.geometry.ndim])}) "
                    "with no axis of length 0."
                )
            if field.array.shape[0] != n:
                raise MapSetError(
                    f"{self.name}: field {name!r} has {field.array.shape[0]} maps, but 'simulation' has {n} "
                    "entries. Each map needs the number of its simulation."
                )
            if field.shape[: self.geometry.ndim] != self.shape[: self.geometry.ndim]:
                raise MapSetError(
                    f"{self.name}: field {name!r} has maps of shape {field.shape}, others of {self.shape}. "
                    "Paired fields need one shape."
                )
        if self.parameters.ndim != 2 or self.parameters.shape[1] != len(self.parameter_info):
            raise MapSetError(
                f"{self.name}: 'parameters' has shape {self.parameters.shape}, but "
                f"{len(self.parameter_info)} names are given. It needs a row a simulation and a column a "
                "name."
            )
        if not np.isfinite(self.parameters).all():
            row = int(np.flatnonzero(~np.isfinite(self.parameters).all(axis=1))[0])
            raise MapSetError(f"{self.name}: the parameters of simulation {row} are NaN or infinite. Mend that row.")
        if self.simulation.min() < 0 or self.simulation.max() >= self.n_sim:
            raise MapSetError(
                f"{self.name}: 'simulation' runs from {self.simulation.min()} to {self.simulation.max()}, "
                f"but there are {self.n_sim} rows of parameters (counted from 0). Maps and parameters do not "
                "belong together."
            )
        for name, values in self.extra.items():
            expected = n if name in PER_MAP else self.n_sim
            if len(values) != expected:
                raise MapSetError(f"{self.name}: {name!r} has {len(values)} entries where {expected} are needed.")

    # -- files -----------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MapSet:
        """Open a map set file; its fields stay on disc until they are read.

        Raises
        ------
        MapSetError
            If the file is missing, is not HDF5, is truncated, or is not a map set.
        """
        path = Path(path)
        if not path.exists():
            raise MapSetError(f"{path} does not exist. Give the path of a map set (HDF5).")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            kind = "is truncated or damaged" if "truncated" in str(error) else "is not an HDF5 file"
            raise MapSetError(
                f"{path} {kind} ({_first_line(error)}). Give a map set made by higan, or copy it again."
            ) from error
        try:
            return cls._from_file(file, path)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise MapSetError(
                f"{path} cannot be read as a map set ({_first_line(error)}). It is damaged or incomplete: "
                "make it again."
            ) from error

    @classmethod
    def _from_file(cls, file: h5py.File, path: Path) -> MapSet:
        attrs = dict(file.attrs)
        if attrs.get("format") != FORMAT:
            raise MapSetError(
                f"{path} is an HDF5 file but not a map set: its attribute 'format' is "
                f"{attrs.get('format')!r}, not {FORMAT!r}. Make one with 'higan simulate', or from arrays "
                "with higan.sources."
            )
        if int(attrs.get("format_version", 0)) > FORMAT_VERSION:
            raise MapSetError(
                f"{path} has map-set format {attrs['format_version']}, newer than {FORMAT_VERSION}, which "
                "this version of higan reads. Upgrade higan."
            )
        for name in ("fields", "parameters", "simulation"):
            if name not in file:
                raise MapSetError(f"{path} has no '/{name}'. It is not a complete map set: make it again.")
        table = file["parameters"]
        names = [_text(value) for value in table.attrs["names"]]
        info = [
            Parameter(name, _text(unit), float(lower), float(upper))
            for name, unit, lower, upper in zip(
                names, table.attrs["units"], table.attrs["lower"], table.attrs["upper"], strict=True
            )
        ]
        known = {field.name for field in dataclasses.fields(Geometry)} - {"kind", "cosmology"}
        geometry = Geometry(
            kind=_text(attrs.get("geometry", "box")),
            cosmology=json.loads(_text(attrs.get("cosmology", "{}"))),
            **{name: _scalar(attrs[name]) for name in known if name in attrs},
        )
        extra = {name: file[name][()] for name in PER_SIMULATION + PER_MAP if name in file}
        if "split" in extra:
            extra["split"] = np.array([_text(value) for value in extra["split"]])
        own = {
            "format",
            "format_version",
            "geometry",
            "cosmology",
            "simulator",
            "simulator_version",
            "created_by",
        }
        return cls(
            {
                name: Field(data, _text(data.attrs.get("units", "")), _text(data.attrs.get("long_name", name)))
                for name, data in file["fields"].items()
            },
            table[()],
            info,
            file["simulation"][()],
            geometry,
            simulator=_text(attrs.get("simulator", "")),
            simulator_version=_text(attrs.get("simulator_version", "")),
            created_by=_text(attrs.get("created_by", "")),
            extra=extra,
            attributes={k: _scalar(v) for k, v in attrs.items() if k not in own | known},
            path=path,
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, compression: str | None = None) -> Path:
        """Write the set to an HDF5 file, batch by batch; the file appears whole or not at all.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace a file that is there.
        compression : str, optional
            An h5py filter, "gzip" for instance.

        Raises
        ------
        OutputError
            If the file exists or cannot be written.
        """
        like = {name: (field.array.shape[1:], field.units, field.long_name) for name, field in self.fields.items()}
        with MapSetWriter(path, self, like, len(self), overwrite=overwrite, compression=compression) as writer:
            step = self._batch_size()
            for start in range(0, len(self), step):
                rows = np.arange(start, min(start + step, len(self)))
                writer.write(start, {name: self.read(name, rows) for name in self.fields})
        return Path(path)


class MapSetWriter:
    """Stream maps into a new map-set file that appears whole or not at all.

    Parameters
    ----------
    path : path
        The file; until it is complete the data lie beside it under a hidden name.
    like : MapSet
        Where geometry, parameters and simulators come from.
    fields : mapping of str to (shape, units, long_name)
    n : int
        Number of maps.
    simulation : array of int, shape (n,), optional
        Those of `like` where not given.
    extra, attributes : mapping, optional
        As of :class:`MapSet`; those of `like` where not given.
    overwrite : bool
    compression : str, optional
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: MapSet,
        fields: Mapping[str, tuple[Sequence[int], str, str]],
        n: int,
        *,
        simulation: Any = None,
        extra: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        geometry: Geometry | None = None,
        overwrite: bool = False,
        compression: str | None = None,
    ):
        self.path = Path(path)
        self._like = like
        self._fields = fields
        self._n = n
        self._simulation = like.simulation if simulation is None else np.asarray(simulation, dtype=np.int32)
        self._extra = like.extra if extra is None else extra
        self._attributes = like.attributes if attributes is None else attributes
        self._geometry = geometry or like.geometry
        self._compression = compression
        check_output(self.path, overwrite)
        self._partial = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        self._sink: _Sink | None = None
        self._file: h5py.File | None = None

    def __enter__(self) -> MapSetWriter:
        with self._writing():
            self._sink = _Sink(self._partial, "w+b")
            self._file = h5py.File(self._sink, "w")
            self._header(self._file)
        return self

    def write(self, start: int, maps: Mapping[str, np.ndarray]) -> None:
        """Put `maps`, one array (m, *shape) a field, at rows start … start + m - 1."""
        assert self._file is not None
        with self._writing():
            for name, values in maps.items():
                self._file["fields"][name][start : start + len(values)] = values

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        try:
            if kind is None:
                assert self._file is not None and self._sink is not None
                with self._writing():
                    self._file.close()
                    self._sink.check()
                    os.fsync(self._sink.fileno())
                    self._sink.close()
                    os.replace(self._partial, self.path)
        finally:
            self._discard()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
            if self._sink is not None and not self._sink.closed:
                self._sink.check()
        except (OSError, RuntimeError) as error:
            self._discard()
            raise OutputError(
                f"{self.path} cannot be written ({_reason(error)}). Nothing was left behind: make room, "
                "or choose another place."
            ) from error

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(Exception):
                self._file.close()
        if self._sink is not None:
            self._sink.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def _header(self, file: h5py.File) -> None:
        like, geometry = self._like, self._geometry
        text = h5py.string_dtype()
        attrs: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "geometry": geometry.kind,
            "cosmology": json.dumps(dict(geometry.cosmology)),
            "simulator": like.simulator,
            "simulator_version": like.simulator_version,
            "created_by": like.created_by,
        }
        for item in dataclasses.fields(Geometry):
            value = getattr(geometry, item.name)
            if item.name not in ("kind", "cosmology") and value is not None:
                attrs[item.name] = value
        file.attrs.update({**attrs, **self._attributes})
        group = file.create_group("fields")
        for name, (shape, units, long_name) in self._fields.items():
            options = {"compression": self._compression, "shuffle": True} if self._compression else {}
            data = group.create_dataset(name, (self._n, *shape), "float32", chunks=(1, *shape), **options)
            data.attrs.update({"units": units, "long_name": long_name})
        table = file.create_dataset("parameters", data=like.parameters)
        table.attrs.create("names", [info.name for info in like.parameter_info], dtype=text)
        table.attrs.create("units", [info.units for info in like.parameter_info], dtype=text)
        table.attrs["lower"] = np.array([info.lower for info in like.parameter_info], dtype=np.float64)
        table.attrs["upper"] = np.array([info.upper for info in like.parameter_info], dtype=np.float64)
        file.create_dataset("simulation", data=self._simulation)
        for name, values in self._extra.items():
            values = np.asarray(values)
            if values.dtype.kind in "US":
                file.create_dataset(name, data=[str(value) for value in values], dtype=text)
            else:
                file.create_dataset(name, data=values)


class _Sink(io.FileIO):
    """The file that HDF5 writes to, which keeps a failed write to itself until it is asked.

    HDF5 cannot close a file that it cannot flush, and brings the process down when it ends. So after the
    first failure (a full disc) writes only seem to work, HDF5 closes in peace, and `check` raises what
    happened.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists (unless `overwrite`) or whose folder cannot be written to."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Choose another name, or add --overwrite to replace it.")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}. Choose another place.")


class _Rows:
    """Some rows of an array-like, looked up when read."""

    def __init__(self, array: Any, rows: np.ndarray):
        self.array, self.rows = array, rows
        self.dtype = array.dtype
        self.shape = (len(rows), *array.shape[1:])

    def __getitem__(self, index: Any) -> np.ndarray:
        return _take(self.array, self.rows[index])


def _take(array: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of an array-like in any order; h5py wants them ascending, without repeats."""
    if isinstance(array, np.ndarray | _Rows):
        return array[rows]
    unique, inverse = np.unique(rows, return_inverse=True)
    if len(unique) and unique[-1] - unique[0] + 1 == len(unique):
        values = array[int(unique[0]) : int(unique[-1]) + 1]
    else:
        values = array[unique]
    return values if np.array_equal(unique, rows) else values[inverse]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
