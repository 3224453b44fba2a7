"""Writing map sets: maps stream into a file that appears whole or not at all, and can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import io
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from higan.errors import HiganError, MapSetError, OutputError
from higan.mapset import FORMAT, FORMAT_VERSION, Geometry, MapSet, first_line, parts, text, text_array

MADE_FROM = "made_from_sha256"
# HDF5 refuses chunks of 4 GiB, and one that is compressed has to fit into memory.
CHUNK_BYTES = 2**28


class MapSetWriter:
    """Stream maps into a new map-set file that appears whole or not at all.

    Until it is complete the data lie beside it in a file of their own, which is locked: hidden and gone when
    the writer is, or, where the writer is resumable, as ``path.partial``.

    Parameters
    ----------
    path : path
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
        An h5py filter.
    made_from : str, optional
        Makes the writer resumable, and says what the maps are computed from (a digest). ``path.partial`` then
        outlives all that ends the process, but for a HiganError; a writer of the same maps takes it up, and
        its `left` tells what is to be written. Such files are not compressed.

    Attributes
    ----------
    left : array of bool, shape (n,)
        The maps that are not, or not all, in the file yet, as it was found.

    Raises
    ------
    MapSetError
        If there are no maps, or the header cannot be written as HDF5.
    OutputError
        If the file exists, cannot be written, or is being written by another process.
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
        made_from: str | None = None,
    ):
        self.path = Path(path)
        self._like = like
        self._fields = fields
        self._n = n
        self._simulation = like.simulation if simulation is None else np.asarray(simulation, dtype=np.int32)
        self._extra = {k: text_array(v) for k, v in (like.extra if extra is None else extra).items()}
        self._attributes = dict(like.attributes if attributes is None else attributes)
        self._geometry = geometry or like.geometry
        self._overwrite = overwrite
        self._made_from = made_from
        self._compression = compression if made_from is None else None
        if n < 1:
            raise MapSetError(f"{self.path}: there are {n} maps to write. Give at least one.")
        check_output(self.path, overwrite)
        self.left = np.ones(n, dtype=bool)
        self._committed = self._resumed = False
        hidden = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        self._partial = hidden if made_from is None else partial_path(self.path)
        self._sink: _Sink | None = None
        self._file: h5py.File | None = None

    def __enter__(self) -> MapSetWriter:
        try:
            with self._writing():
                self._sweep()
                self._sink = _Sink.locked(self._partial)
                if self._sink is None:
                    raise OutputError(
                        f"{self.path} is being written by another process. Wait for it, or choose another name."
                    )
                # That process may have finished just now.
                check_output(self.path, self._overwrite)
                digest = None if self._made_from is None else self._sha256()
                self._resumed = digest is not None and self._taken_up(digest)
                if not self._resumed:
                    self._sink.truncate(0)
                    self._file = h5py.File(self._sink, "w")
                    self._header(self._file)
                    if digest is not None:
                        self._commit(self._file, digest)
        except BaseException as error:
            self._release(self._keeps(type(error)))
            if isinstance(error, TypeError | ValueError):
                raise MapSetError(
                    f"{self.path} cannot be written as a map set: {first_line(error).rstrip('.')}. Mend the fields, "
                    "cosmology, extras or compression that it is to have."
                ) from error
            raise
        return self

    def write(self, start: int, maps: Mapping[str, np.ndarray], place: tuple[slice, ...] = ()) -> None:
        """Put `maps`, one array (m, *shape) a field, at rows start … start + m - 1; or a part of them at `place`."""
        assert self._file is not None
        with self._writing():
            for name, values in maps.items():
                self._file["fields"][name][(slice(start, start + len(values)), *place)] = values

    def lacks(self, start: int, stop: int, place: tuple[slice, ...] = ()) -> bool:
        """Whether any of the maps start … stop - 1, at `place`, are not in the file."""
        assert self._file is not None
        if not (self._resumed and self.left[start:stop].any()):
            return bool(self.left[start:stop].any())
        return any(bool(np.isnan(data[(slice(start, stop), *place)]).any()) for data in self._file["fields"].values())

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        try:
            if kind is None:
                assert self._file is not None and self._sink is not None
                with self._writing():
                    self._file.close()
                    os.fsync(self._sink.fileno())
                    self._sink.check()
                    os.replace(self._partial, self.path)
                    self._sink.close()
                    self._sink = None
        finally:
            self._release(self._keeps(kind))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._signals_held():
                yield
            if self._sink is not None:
                self._sink.check()
        except (OSError, RuntimeError) as error:
            self._release(keep=False)
            raise OutputError(
                f"{self.path} cannot be written ({_reason(error)}). Nothing was left behind: make room, "
                "or choose another place."
            ) from error

    @contextlib.contextmanager
    def _signals_held(self) -> Iterator[None]:
        """Keep what Ctrl-C or SIGTERM raise until HDF5 is left, which would lose it, and data with it."""
        before: dict[int, Any] = {}

        def hold(number: int, frame: Any) -> None:
            try:
                before[number](number, frame)
            except BaseException as error:
                if self._sink is None:
                    raise
                self._sink.error = error

        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if callable(signal.getsignal(number)) and threading.current_thread() is threading.main_thread():
                before[number] = signal.getsignal(number)
                signal.signal(number, hold)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keeps(self, kind: type[BaseException] | None) -> bool:
        """Whether the partial stays: a HiganError is one that the same command would meet again."""
        return self._committed and not (kind is not None and issubclass(kind, HiganError))

    def _release(self, keep: bool) -> None:
        if self._sink is None:
            return
        if self._file is not None:
            with contextlib.suppress(Exception):
                self._file.close()
        if not keep:
            # While it is locked: without the lock it may be another's.
            with contextlib.suppress(OSError):
                self._partial.unlink()
        self._sink.close()
        self._sink = None

    def _sweep(self) -> None:
        """Remove the hidden partials of processes that are dead."""
        for path in self.path.parent.glob(f".{glob.escape(self.path.name)}.partial-*"):
            with contextlib.suppress(OSError), open(path, "r+b") as file:
                if _lock(file):
                    path.unlink()

    def _sha256(self) -> str:
        """sha256 over all that the file says and is made from."""
        like = self._like
        says = [
            *(FORMAT_VERSION, self._made_from, self._n, dict(self._fields), dataclasses.asdict(self._geometry)),
            *(like.simulator, like.simulator_version, like.created_by, self._attributes),
            *([dataclasses.asdict(info) for info in like.parameter_info], like.parameters, self._simulation),
            self._extra,
        ]

        def plain(value: Any) -> Any:
            return value.tolist() if isinstance(value, np.generic | np.ndarray) else repr(value)

        return hashlib.sha256(json.dumps(says, default=plain, sort_keys=True).encode()).hexdigest()

    def _taken_up(self, digest: str) -> bool:
        """Open the partial and see what is left, if it is one of these maps and whole."""
        try:
            with h5py.File(self._sink, "r") as file:
                if text(file.attrs[MADE_FROM]) != digest:
                    return False
                self._committed = True
                self.left[:] = False
                for data in file["fields"].values():
                    for rows, place in parts(self._n, data.shape[1:]):
                        missing = np.isnan(data[(rows, *place)])
                        self.left[rows] |= missing.reshape(len(missing), -1).any(axis=1)
            self._file = h5py.File(self._sink, "r+")
        except (OSError, RuntimeError, KeyError, ValueError):
            self._committed = False
            self.left[:] = True
        return self._committed

    def _commit(self, file: h5py.File, digest: str) -> None:
        """Say, once all else is on the disc, that from here on the partial can be taken up.

        What is written after this lies in places that HDF5 knows already, so that it can end anywhere.
        """
        assert self._sink is not None
        file.flush()
        self._sink.check()
        os.fsync(self._sink.fileno())
        file.attrs.modify(MADE_FROM, np.bytes_(digest))
        file.flush()
        self._sink.check()
        self._committed = True

    def _header(self, file: h5py.File) -> None:
        like, geometry = self._like, self._geometry
        string = h5py.string_dtype()
        attrs: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "geometry": geometry.kind,
            "cosmology": json.dumps(dict(geometry.cosmology), default=_plain),
            "simulator": like.simulator,
            "simulator_version": like.simulator_version,
            "created_by": like.created_by,
        }
        for item in dataclasses.fields(Geometry):
            value = getattr(geometry, item.name)
            if item.name not in ("kind", "cosmology") and value is not None:
                attrs[item.name] = value
        # As HDF5 lists them: the shards of a set, read back and merged, make the file that the set makes.
        attrs |= dict(sorted(self._attributes.items()))
        options: dict[str, Any] = {}
        if self._made_from is not None:
            attrs[MADE_FROM] = np.bytes_("0" * 64)
            # Every chunk has its place, filled with NaN, from the start.
            options["dcpl"] = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            options["dcpl"].set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            options["dcpl"].set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
            options["fillvalue"] = np.nan
        elif self._compression:
            options = {"compression": self._compression, "shuffle": True}
        for name, value in attrs.items():
            try:
                file.attrs[name] = value
            except (TypeError, ValueError, RuntimeError, OSError) as error:
                raise MapSetError(
                    f"{self.path}: the attribute {name!r} cannot be written as HDF5 ({first_line(error)}). Give a "
                    "number, a text, or a short array of them."
                ) from error
        group = file.create_group("fields")
        for name, (shape, units, long_name) in self._fields.items():
            data = group.create_dataset(name, (self._n, *shape), "float32", chunks=_chunk(shape), **options)
            data.attrs.update({"units": units, "long_name": long_name})
        table = file.create_dataset("parameters", data=like.parameters)
        table.attrs.create("names", [info.name for info in like.parameter_info], dtype=string)
        table.attrs.create("units", [info.units for info in like.parameter_info], dtype=string)
        table.attrs["lower"] = np.array([info.lower for info in like.parameter_info], dtype=np.float64)
        table.attrs["upper"] = np.array([info.upper for info in like.parameter_info], dtype=np.float64)
        file.create_dataset("simulation", data=self._simulation)
        for name, values in self._extra.items():
            if values.dtype.kind in "UO":
                file.create_dataset(name, data=[text(value) for value in values], dtype=string)
            else:
                file.create_dataset(name, data=values)


class _Sink(io.FileIO):
    """The file that HDF5 writes to, which keeps a failed write to itself until it is asked.

    HDF5 cannot close a file that it cannot flush, and brings the process down when it ends. So after the
    first failure (a full disc, Ctrl-C) writes only seem to work, HDF5 closes in peace, and `check` raises
    what happened.
    """

    error: BaseException | None = None

    @classmethod
    def locked(cls, path: Path) -> _Sink | None:
        """Open `path`, made where it is not there, and lock it; ``None`` if another process has it."""
        while True:
            sink = cls(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            if _lock(sink) is False:
                sink.close()
                return None
            # Whoever had it before may have moved it away between the two.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(sink.fileno()), os.stat(path)):
                    return sink
            sink.close()

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except BaseException as error:
            self.error = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Zeros for what lies beyond the end, as HDF5's own files give: it would take what the memory held before."""
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            while part := super().readinto(view[done:]):
                done += part
        except BaseException as error:
            self.error = error
        view[done:] = bytes(len(view) - done)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except BaseException as error:
            self.error = error
        return self.tell() if size is None else size

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def partial_path(path: Path) -> Path:
    """Where the unfinished file of a resumable writer lies."""
    return path.with_name(f"{path.name}.partial")


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that is a folder, exists (unless `overwrite`), or whose folder cannot be written to."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the name of a file.")
    check_place(path, overwrite)


def check_place(path: Path, overwrite: bool) -> None:
    """Refuse a place that is taken (unless `overwrite`) or whose folder cannot be written to."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Choose another name, or add --overwrite to replace it.")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}. Choose another place.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the name `path`, whole, when it is done; OutputError where it cannot be."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). Nothing was left behind: make room, or choose "
            "another place."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path, path: Path) -> Iterator[None]:
    """Hold the folder that `path` is made in; OutputError while another process does."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{folder} cannot be read ({error.strerror}). Choose another place.") from error
    try:
        if _lock(held) is False:
            raise OutputError(f"{path} is being made by another process. Wait for it, or choose another name.")
        yield
    finally:
        os.close(held)


def _lock(file: Any) -> bool | None:
    """Lock an open file until it is closed; whether it could be, ``None`` where files cannot be locked."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _chunk(shape: Sequence[int]) -> tuple[int, ...]:
    """The chunk of HDF5 for maps of `shape`: one map, or a part of its first axis where it is large."""
    row = 4 * int(np.prod(shape[1:]))
    return (1, max(1, min(shape[0], CHUNK_BYTES // row)), *shape[1:])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is neither a number nor a text")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or first_line(error)
