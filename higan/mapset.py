"""Map sets: paired maps of one or more fields, and the simulations and parameters they come from.

A map set lives in one HDF5 file that ``h5py`` alone can read::

    /                    attrs: format "higan-maps", format_version, geometry, ndim, simulator, created_by, …
                         for boxes: box_size, box_size_units, periodic, cosmology; redshift; for slabs
                         thickness; in painted sets made_from_sha256, of all that the file is made from;
                         in shards of one shard, shards (number, of how many) and painted_from_sha256
    /fields/<name>       float32 (n, *shape) or (n, *shape, channels); attrs: units, long_name
    /parameters          float64 (n_sim, n_par); attrs: names, units, lower, upper
    /simulation          int32 (n,): the row of /parameters that each map came from
    /seeds, /split       (n_sim,), optional
    /axis, /slab,        (n,), optional: where in its simulation, or on its sky, a 2D map was cut
    /patch
    /redshift,           (n,), optional: of the shells of a lightcone
    /thickness
    /source_row,         (n,), in generated sets: the row of the input and which realisation of it
    /realisation

Fields are read when asked for, so a file larger than memory is no obstacle. A map set can also stand on any
other array-like (``numpy.memmap``, plain arrays): see :mod:`higan.sources`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from higan import hdf5
from higan.errors import MapSetError

FORMAT = "higan-maps"
FORMAT_VERSION = 1
UNSEEN = -1.6375e30  # HEALPix's mark of a masked pixel
MASKED = 0.9 * UNSEEN  # pixels of at most this are masked
SPLITS = ("train", "validation", "test")
PER_SIMULATION = ("seeds", "split")
PER_MAP = ("axis", "slab", "patch", "source_row", "realisation", "redshift", "thickness")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A simulation parameter: its name, unit (a string that ``astropy.units`` reads) and sampled range."""

    name: str
    units: str = ""
    lower: float = -np.inf
    upper: float = np.inf


def outside(values: np.ndarray, parameter: Any) -> np.ndarray:
    """Which of `values` are out of the range, lower to upper, of `parameter`; NaN is not.

    Examples
    --------
    >>> outside(np.array([0.7, 1.0]), Parameter("SIGMA_8", "", 0.7, 0.9)).tolist()
    [False, True]
    """
    # A range read back from float32 may miss its own ends by a rounding.
    slack = 1e-6 * (parameter.upper - parameter.lower)
    return (values < parameter.lower - slack) | (values > parameter.upper + slack)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the cells of a map lie.

    Parameters
    ----------
    kind : {"box", "image", "patch", "healpix"}
        A patch is a square of one of HEALPix's base faces.
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
        Depth over which a 2D map is averaged, in `depth_units`.
    cosmology : mapping
        Background parameters that the simulations share.
    ordering : str, optional
        Of HEALPix pixels, "RING" or "NESTED". A cell is a pixel then, in arcmin; masked pixels hold healpy's UNSEEN.
    coordinates : str, optional
        Of a healpix map: "G", "E" or "C", as COORDSYS of its FITS files.
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
    ordering: str | None = None
    coordinates: str | None = None

    def cell(self, shape: Sequence[int]) -> float:
        """Side of a cell for maps of `shape`, in `length_units`."""
        if self.kind == "healpix":
            # Of a square of a pixel's area.
            return float(np.sqrt(4 * np.pi / shape[0]) * 10800 / np.pi)
        if self.cell_size is not None:
            return float(self.cell_size)
        if self.box_size is None:
            raise MapSetError("The size of a cell is unknown: give the map set a box_size or a cell_size.")
        return float(self.box_size) / shape[0]

    @property
    def length_units(self) -> str:
        """The unit of `cell`, and the inverse of that of k."""
        if self.kind == "healpix":
            return "arcmin"
        return (self.cell_size is not None and self.cell_size_units) or self.box_size_units

    @property
    def depth_units(self) -> str:
        """The unit of `thickness`: a length, also where cells are angles."""
        return self.box_size_units if self.kind in ("patch", "healpix") else self.length_units

    @property
    def window(self) -> str | None:
        """The window that spectra of such maps need: none where they are periodic."""
        return None if self.periodic else "hann"


@dataclasses.dataclass(frozen=True)
class Field:
    """The maps of one quantity: an array-like ``(n, *shape)`` that slices to numpy; its units, long name."""

    array: Any
    units: str = ""
    long_name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one map: its spatial axes, then that of its channels where it has any."""
        return tuple(self.array.shape[1:])


class MapSet:
    """Paired maps, their simulations and parameters.

    Parameters
    ----------
    fields : mapping of str to Field
        Each with the same number of maps and the same spatial shape, with or without an axis of channels
        after it.
    parameters : array_like, shape (n_sim, n_par)
    parameter_info : sequence of Parameter
        One a column of `parameters`.
    simulation : array_like of int, shape (n,)
        The row of `parameters` each map came from.
    geometry : Geometry
    simulator, simulator_version, created_by : str
    extra : mapping of str to array
        Any of seeds, split (n_sim) and axis, slab, source_row, realisation, redshift, thickness (n).
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
        self.extra = {name: text_array(values) for name, values in (extra or {}).items()}
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
        """Shape of a map of the first field: its spatial axes (`geometry.ndim`), then that of its channels."""
        return next(iter(self.fields.values())).shape

    @property
    def cell_size(self) -> float:
        """Side of a cell, in `geometry.length_units`."""
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

    def read(self, name: str, rows: Any = None, *, place: tuple[slice, ...] = (), check: bool = True) -> np.ndarray:
        """Maps of field `name` as float32, shape (len(rows), *shape).

        Parameters
        ----------
        name : str
        rows : sequence of int, or of bool, shape (n,), optional
            Counted from 0, in any order, repeats allowed, or a mask; all of them where ``None``.
        place : tuple of slice
            Which cells of the maps, an axis each; all of those it does not reach.
        check : bool
            Refuse maps that are not finite.

        Raises
        ------
        MapSetError
            If the field or a row is missing, the file is damaged, or a value is NaN or infinite (the map is
            named).
        """
        array = self.field(name).array
        rows = self._rows(rows)
        try:
            values = _take(array, rows, place)
        except (OSError, RuntimeError, ValueError) as error:
            where = _first_bad(array, rows, place)
            raise MapSetError(
                f"{self.name}: field {name!r} cannot be read{where} ({first_line(error)}). The file is truncated or "
                "damaged: copy or make it again."
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
        found = self.field(name).units
        if found != units and not _same_unit(found, units):
            raise MapSetError(
                f"{self.name}: field {name!r} is in {found or '1'!r}, but {other} has it in {units or '1'!r}. "
                "Convert it first."
            )

    def batches(self, name: str, rows: Any = None, size: int | None = None) -> Iterator[np.ndarray]:
        """Maps of field `name`, `size` at a time (64 MiB of them where ``None``), in the order of `rows`."""
        rows = self._rows(rows)
        size = size or self._batch_size()
        for start in range(0, len(rows), size):
            yield self.read(name, rows[start : start + size])

    def select(self, rows: Any) -> MapSet:
        """The map set of `rows` alone, as of `read`; fields stay lazy and simulations keep their numbers."""
        rows = self._rows(rows)
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

    def with_fields(self, fields: Mapping[str, Field]) -> MapSet:
        """The same map set with other `fields`."""
        return self._replace(fields=fields)

    def with_geometry(self, geometry: Geometry) -> MapSet:
        """The same maps with another geometry."""
        return self._replace(geometry=geometry)

    def with_created_by(self, created_by: str) -> MapSet:
        """The same map set, said to be made by `created_by`."""
        return self._replace(created_by=created_by)

    def simulations(self) -> np.ndarray:
        """Numbers of the simulations that have at least one map, ascending."""
        return np.unique(self.simulation)

    def rows_of(self, simulations: Any) -> np.ndarray:
        """Rows of the maps that belong to `simulations`, in the set's order."""
        return np.flatnonzero(np.isin(self.simulation, simulations))

    def content_sha256(self, fields: Iterable[str] | None = None) -> str:
        """sha256 over parameters, simulation numbers and `fields` (all; by name), as little-endian bytes.

        It depends on the numbers alone: not on compression, chunks, time stamps or HDF5 versions.
        """
        digest = hashlib.sha256()
        digest.update(self.parameters.astype("<f8").tobytes())
        digest.update(self.simulation.astype("<i4").tobytes())
        for name in sorted(self.fields if fields is None else fields):
            digest.update(name.encode())
            shape = self.field(name).shape
            for rows, place in parts(len(self), shape):
                digest.update(self.read(name, range(rows.start, rows.stop), place=place).astype("<f4").tobytes())
        return digest.hexdigest()

    def _rows(self, rows: Any) -> np.ndarray:
        """`rows` as numbers, those of a mask where it is one; refuse what is not there."""
        n = len(self)
        if rows is None:
            return np.arange(n)
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (n,):
            return np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise MapSetError(
                f"{self.name}: rows of type {rows.dtype} and shape {rows.shape} do not choose maps. Give whole "
                f"numbers from 0 to {n - 1}, or a mask of {n} truth values."
            )
        rows = rows.astype(np.int64)
        outside = rows[(rows < 0) | (rows >= n)]
        if outside.size:
            raise MapSetError(f"{self.name} has no map {outside[0]}. Name maps from 0 to {n - 1}.")
        return rows

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
        if self.simulation.ndim != 1:
            raise MapSetError(
                f"{self.name}: 'simulation' has shape {self.simulation.shape}, but it is a list: one number a map."
            )
        n = len(self)
        if n == 0:
            raise MapSetError(f"{self.name} is empty: it holds no maps. Give a set with at least one map.")
        if self.geometry.ndim not in (1, 2, 3):
            raise MapSetError(f"{self.name}: 'ndim' is {self.geometry.ndim!r:.40}, but maps have 1, 2 or 3 dimensions.")
        if not isinstance(self.geometry.periodic, bool | np.bool_):
            raise MapSetError(f"{self.name}: 'periodic' is {self.geometry.periodic!r:.40}, neither true nor false.")
        for name in ("box_size", "cell_size", "redshift", "thickness"):
            value = getattr(self.geometry, name)
            if not (value is None or isinstance(value, int | float | np.number)):
                raise MapSetError(
                    f"{self.name}: {name!r} is {' '.join(repr(value).split())}, but it is one number that all maps "
                    "and axes share. Give one."
                )
            if name in ("box_size", "cell_size", "thickness") and value is not None and not 0 < value < np.inf:
                raise MapSetError(f"{self.name}: {name!r} is {value:g}, but it is a length above 0. Give one.")
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
            if values.shape != (expected,):
                found = f"{len(values)} entries" if values.ndim == 1 else f"shape {values.shape}"
                raise MapSetError(f"{self.name}: {name!r} has {found} where {expected} are needed.")
            if name != "split" and values.dtype.kind not in "iuf":
                raise MapSetError(
                    f"{self.name}: {name!r} holds {values.dtype}, but it is of numbers. Mend or remove it."
                )
        if not isinstance(self.geometry.cosmology, Mapping):
            raise MapSetError(f"{self.name}: the cosmology is {self.geometry.cosmology!r}, but it names parameters.")

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
            file = hdf5.open_file(path)
        except OSError as error:
            known = any(word in str(error) for word in ("truncated", "damaged"))
            kind = "is truncated or damaged" if known else "is not an HDF5 file"
            raise MapSetError(
                f"{path} {kind} ({first_line(error)}). Give a map set made by higan, or copy it again."
            ) from error
        try:
            return cls._from_file(file, path)
        except MapSetError:
            file.close()
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            file.close()
            raise MapSetError(
                f"{path} cannot be read as a map set ({first_line(error)}). It is damaged or incomplete: make it again."
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
        table = hdf5.dataset(file, "parameters")
        names = [text(value) for value in table.attrs["names"]]
        info = [
            Parameter(name, text(unit), float(lower), float(upper))
            for name, unit, lower, upper in zip(
                names, table.attrs["units"], table.attrs["lower"], table.attrs["upper"], strict=True
            )
        ]
        known = {field.name for field in dataclasses.fields(Geometry)} - {"kind", "cosmology"}
        geometry = Geometry(
            kind=text(attrs.get("geometry", "box")),
            cosmology=json.loads(text(attrs.get("cosmology", "{}"))),
            **{name: _scalar(attrs[name]) for name in known if name in attrs},
        )
        extra = {name: hdf5.read(file, name) for name in PER_SIMULATION + PER_MAP if name in file}
        if "split" in extra:
            extra["split"] = np.array([text(value) for value in extra["split"]])
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
                name: Field(rows, text(rows.attrs.get("units", "")), text(rows.attrs.get("long_name", name)))
                for name, rows in ((name, hdf5.Rows(file, f"fields/{name}")) for name in hdf5.names(file, "fields"))
            },
            hdf5.read(file, "parameters"),
            info,
            hdf5.read(file, "simulation"),
            geometry,
            simulator=text(attrs.get("simulator", "")),
            simulator_version=text(attrs.get("simulator_version", "")),
            created_by=text(attrs.get("created_by", "")),
            extra=extra,
            attributes={text(k): _scalar(v) for k, v in attrs.items() if k not in own | known},
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
        from higan.mapset_writer import MapSetWriter

        with MapSetWriter(path, self, like, len(self), overwrite=overwrite, compression=compression) as writer:
            step = self._batch_size()
            for start in range(0, len(self), step):
                rows = np.arange(start, min(start + step, len(self)))
                writer.write(start, {name: self.read(name, rows) for name in self.fields})
        return Path(path)


class _Rows:
    """Some rows of an array-like, looked up when read."""

    def __init__(self, array: Any, rows: np.ndarray):
        self.array, self.rows = array, rows
        self.dtype = array.dtype
        self.shape = (len(rows), *array.shape[1:])

    def __getitem__(self, index: Any) -> np.ndarray:
        return _take(self.array, self.rows[index])


def parts(n: int, shape: Sequence[int], cells: int = 2**24) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """`n` maps of `shape` in parts of at most `cells`: some maps, or, of a larger one, a part of its first axis.

    Examples
    --------
    >>> list(parts(3, (4, 5), cells=40))
    [(slice(0, 2, None), ()), (slice(2, 3, None), ())]
    >>> list(parts(1, (4, 5), cells=15))
    [(slice(0, 1, None), (slice(0, 3, None),)), (slice(0, 1, None), (slice(3, 4, None),))]
    """
    at_once = cells // math.prod(shape)
    for start in range(0, n, max(1, at_once)):
        if at_once:
            yield slice(start, min(start + at_once, n)), ()
            continue
        step = max(1, cells // math.prod(shape[1:]))
        for first in range(0, shape[0], step):
            yield slice(start, start + 1), (slice(first, min(first + step, shape[0])),)


def _take(array: Any, rows: np.ndarray, place: tuple[slice, ...] = ()) -> np.ndarray:
    """Rows of an array-like in any order, cut to `place`."""
    if isinstance(array, _Rows):
        return _take(array.array, array.rows[rows], place)
    if isinstance(array, np.ndarray) and not place:
        return array[rows]
    # Run by run: HDF5 takes thirty times as long for a list of rows as for each of them.
    starts = [0, *np.flatnonzero(np.diff(rows) != 1) + 1]
    runs = [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, starts[1:]) if len(run)]
    if len(runs) < 2:
        return array[(runs[0] if runs else slice(0), *place)]
    first = array[(runs[0], *place)]
    values = np.empty((len(rows), *first.shape[1:]), first.dtype)
    values[: len(first)] = first
    for start, run in zip(starts[1:], runs[1:], strict=True):
        values[start : start + run.stop - run.start] = array[(run, *place)]
    return values


def _first_bad(array: Any, rows: np.ndarray, place: tuple[slice, ...]) -> str:
    """Which of `rows` is the first that cannot be read."""
    for row in rows:
        try:
            _take(array, np.array([row]), place)
        except (OSError, RuntimeError, ValueError):
            return f" at map {row}"
    return ""


def _same_unit(one: str, other: str) -> bool:
    """Whether astropy reads one unit in both, littleh among them."""
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units

    try:
        with u.add_enabled_units(cosmology_units):
            return u.Unit(one) == u.Unit(other)
    except ValueError:
        return False


def text_array(values: Any) -> np.ndarray:
    """As an array, its text as str."""
    values = np.asarray(values)
    return np.char.decode(values) if values.dtype.kind == "S" else values


def text(value: Any) -> str:
    """Text of HDF5, bytes or str, as str."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value


def plain_name(name: str) -> str:
    """`name`, if it can be that of a dataset, a column and a word in a message; a ValueError otherwise."""
    if not name.isprintable() or "/" in name or name in ("", "."):
        raise ValueError(f"{name[:80]!a} cannot be the name of a field")
    return name


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
