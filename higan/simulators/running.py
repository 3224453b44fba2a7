"""Run a simulator over a design: in parallel, resumable, into one map set.

Every finished simulation, or so many of those that take no time, is a file in the folder ``OUTPUT.parts`` beside the
output, named by a digest of all it depends on (simulator, version, settings, parameters, seeds). A second run takes up
the parts that are there, whatever ended the first; parts made with other settings have other names and are left alone.
At the end they are joined into the output, which appears whole, and they go, with the folder if nothing else is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import multiprocessing
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from higan.errors import HiganError, MapSetError, MissingDependencyError, OutputError
from higan.mapset import Field, Geometry, MapSet, Parameter, first_line
from higan.mapset_writer import alone, check_output
from higan.progress import progress
from higan.simulators.design import Design

LEFT_OUT = "left_out"
"""Attribute of a map set: how many simulations are left out, since a measured parameter lies outside its range."""


class Simulator(Protocol):
    """What a simulator is: a frozen dataclass, its fields the settings, with these members."""

    name: ClassVar[str]
    fields: ClassVar[Mapping[str, tuple[str, str]]]
    """Units and long name of each field."""
    sets: ClassVar[Mapping[str, str]]
    """What each set of simulations is for; the first is taken where none is named."""
    per_part: ClassVar[int]
    """Simulations in a file, which are run one after another: 1 unless they take milliseconds."""
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Of a simulation, with the range they are sampled from or kept within."""

    def check(self) -> None:
        """Raise a HiganError if the settings make no sense or the code cannot be imported."""

    def version(self) -> str:
        """Version of the code."""

    def shape(self) -> tuple[int, ...]:
        """Shape of a map."""

    def geometry(self) -> Geometry:
        """Where the cells lie."""

    def design(self, set: str, seed: int | None = None, n: int | None = None) -> Design:
        """The simulations of `set`; `seed` moves its seeds, `n` its length where that is free."""

    def run(self, parameters: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
        """One simulation: float32 fields of one shape. A pure function of settings, parameters and seed.

        Beside the fields it may give parameters that are measured on them, in place of those it was given. Where one
        lies outside its range, the simulation is left out of the map set.
        """


def simulate(
    simulator: str | Simulator,
    *,
    output: str | os.PathLike[str],
    set: str | None = None,
    simulations: int | Sequence[int] | range | np.ndarray | None = None,
    processes: int = 1,
    seed: int | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Path:
    """Run simulations and write them as a map set; run again after a break, it goes on where it was.

    Scripts that call this need the usual ``if __name__ == "__main__":``, as the work is done in processes of
    its own.

    Parameters
    ----------
    simulator : str or Simulator
        A name in :data:`higan.simulators.SIMULATORS`.
    output : path
        The map set; while simulations run, finished ones lie in the folder ``output.parts``.
    set : str, optional
        Which design, the simulator's first where not given. For instance, "lh" fills the parameter space, "cv" has
        many seeds at the fiducial parameters, "1p" varies one parameter at a time.
    simulations : int or sequence of int, optional
        Rows of the design, or how many of the first ones; all where ``None``. In the map set they are
        numbered anew from 0, in this order, and keep their seeds and splits.
    processes : int
        Simulations run at once, each on one thread.
    seed : int, optional
        First seed of the set, in place of its own.
    overwrite : bool
        Replace an output that is there.
    **settings
        Of the simulator; ``cells=32`` for instance.

    Returns
    -------
    Path
        The map set.

    Raises
    ------
    HiganError
        If the simulator, the set, a row or a setting does not exist, or a simulation fails.
    MissingDependencyError
        If the code of the simulator is not installed.
    OutputError
        If the output exists or cannot be written.

    Examples
    --------
    >>> from higan.simulators import simulate
    >>> simulate("21cmfast", output="boxes.h5", simulations=range(40), processes=2)  # doctest: +SKIP
    """
    if isinstance(simulator, str):
        from higan.simulators import simulator as named

        simulator = named(simulator, **settings)
    set = next(iter(simulator.sets)) if set is None else set
    if set not in simulator.sets:
        raise HiganError(
            f"{simulator.name} has no set {set!r}. Those it has: "
            f"{', '.join(f'{name} ({what})' for name, what in simulator.sets.items())}."
        )
    if processes < 1:
        raise HiganError(f"Simulations cannot run in {processes} processes. Give 1 or more.")
    path = Path(output)
    check_output(path, overwrite)
    design = _choose(simulator, set, seed, simulations)
    simulator.check()
    folder = path.with_name(path.name + ".parts")
    parts = [_Part(simulator, design, rows, folder) for rows in _blocks(len(design), simulator.per_part)]
    with _writing(path):
        folder.mkdir(exist_ok=True)
    with alone(folder, path):
        _run(parts, processes, path)
        _joined(simulator, set, design, parts).save(path, overwrite=overwrite)
        _clear(folder, parts)
    return path


def _choose(
    simulator: Simulator,
    set: str,
    seed: int | None,
    simulations: int | Sequence[int] | range | np.ndarray | None,
) -> Design:
    if simulations is None:
        return simulator.design(set, seed)
    rows = np.arange(simulations) if isinstance(simulations, int) else np.asarray(simulations, dtype=np.int64)
    if len(np.unique(rows)) < len(rows):
        raise HiganError("A simulation is chosen twice. Name each once.")
    return simulator.design(set, seed, int(rows.max(initial=-1)) + 1).select(rows)


def _blocks(n: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


class _Part:
    """Simulations that share a file: `rows` of a design."""

    def __init__(self, simulator: Simulator, design: Design, rows: np.ndarray, folder: Path):
        self.simulator, self.rows = simulator, rows
        self.theta, self.seeds = design.parameters[rows], design.seeds[rows]
        inputs = {
            "simulator": simulator.name,
            "version": simulator.version(),
            "settings": dataclasses.asdict(simulator),
            "parameters": [float(value).hex() for value in self.theta.ravel()],
            "seeds": self.seeds.tolist(),
        }
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
        self.path = folder / f"{digest}.npz"

    def label(self, i: int) -> str:
        """The i-th simulation of the part, with what it was run with."""
        theta = zip((item.name for item in self.simulator.parameters), self.theta[i], strict=True)
        given = [f"{name}={value:.6g}" for name, value in theta if np.isfinite(value)]
        return f"simulation {self.rows[i]} ({', '.join([*given, f'seed {self.seeds[i]}'])})"

    def run(self) -> None:
        """In a worker: run the simulations and put the file in place, whole."""
        names = [item.name for item in self.simulator.parameters]
        made: dict[str, list[Any]] = {}
        for i, (theta, seed) in enumerate(zip(self.theta, self.seeds, strict=True)):
            try:
                found = self.simulator.run(dict(zip(names, map(float, theta), strict=True)), int(seed))
                for name, values in found.items():
                    made.setdefault(name, []).append(self._checked(name, values))
                # Results of 21cmFAST are in reference cycles, which held ten gigabytes after twenty boxes.
                gc.collect()
            except Exception as error:
                vars(error)["simulation"] = i
                raise
        partial = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                np.savez(file, **{name: np.stack(values) for name, values in made.items()})  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def read(self, name: str) -> np.ndarray | None:
        """What the file holds by one name, a row a simulation, if it does; a MapSetError where it is damaged."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                values = file[name] if name in file else None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise self.damaged(first_line(error)) from error
        if values is not None and values.shape[:1] != (len(self.rows),):
            raise self.damaged(f"{name!r} has shape {values.shape}")
        return values

    def damaged(self, why: str) -> MapSetError:
        """What is said of a file that cannot be used."""
        return MapSetError(
            f"{self.path} is damaged ({why}). Remove it and run the same command again: its simulations are run anew, "
            "the others are kept."
        )

    def _checked(self, name: str, values: Any) -> np.ndarray:
        if name not in self.simulator.fields:
            return np.array(values, dtype=np.float64)
        values = np.asarray(values, dtype=np.float32)
        if values.shape != self.simulator.shape():
            raise HiganError(f"{name!r} has shape {values.shape}, not {self.simulator.shape()}")
        if not np.isfinite(values).all():
            raise HiganError(f"{name!r} has NaN or infinite values")
        return values


def _run(parts: list[_Part], processes: int, path: Path) -> None:
    """Run what has no file yet."""
    left = [part for part in parts if not part.path.exists()]
    if not left:
        return
    pool = ProcessPoolExecutor(
        min(processes, len(left)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    total, todo = (sum(len(part.rows) for part in some) for some in (parts, left))
    with (
        progress("simulating", total=total, done=total - todo, unit="simulations", every=10) as advance,
        _one_thread(),
    ):
        try:
            jobs = {pool.submit(part.run): part for part in left}
            for job in as_completed(jobs):
                with _explained(jobs[job], path):
                    job.result()
                advance(len(jobs[job].rows))
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """A worker says nothing, and ends when the process that started it does, even by kill -9."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Workers started meanwhile inherit one OpenMP thread: their number changes the universe of 21cmFAST."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


@contextlib.contextmanager
def _explained(part: _Part, path: Path) -> Iterator[None]:
    """Turn what went wrong in a worker into one sentence."""
    kept = "Finished simulations are kept: run the same command again to go on."
    name = part.simulator.name
    try:
        yield
    except (OutputError, MissingDependencyError):
        raise
    except BrokenProcessPool as error:
        raise HiganError(
            f"A process that ran {name} was ended from outside, at {part.label(0)} or beside it; was "
            f"memory short? {kept}"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{path}.parts cannot be written ({error.strerror or error}). Make room or choose another place. {kept}"
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        label = part.label(vars(error).get("simulation", 0))
        raise HiganError(f"{name} failed at {label}: {reason}. {kept}") from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error


def _joined(simulator: Simulator, set: str, design: Design, parts: list[_Part]) -> MapSet:
    """The parts as a map set, read from disc when asked for."""
    from higan import __version__

    theta, kept = design.parameters.copy(), np.ones(len(design), dtype=bool)
    for column, item in enumerate(simulator.parameters):
        measured = _Stacked(parts, item.name)
        if measured.exists:
            theta[:, column] = measured[:]
            kept &= (theta[:, column] >= item.lower) & (theta[:, column] <= item.upper)
    rows = np.flatnonzero(kept)
    attributes = {"set": set, "simulator_settings": json.dumps(dataclasses.asdict(simulator))}
    if len(rows) < len(design):
        attributes[LEFT_OUT] = str(len(design) - len(rows))
    if not len(rows):
        raise HiganError(
            f"Of {len(design)} simulations by {simulator.name} none has its measured parameters within "
            f"{', '.join(f'{item.name} {item.lower:g} to {item.upper:g}' for item in simulator.parameters)}. "
            "Choose others."
        )
    design = dataclasses.replace(design, parameters=theta).select(rows)
    return MapSet(
        {
            name: Field(_Stacked(parts, name, rows), units, long_name)
            for name, (units, long_name) in simulator.fields.items()
        },
        design.parameters,
        list(simulator.parameters),
        np.arange(len(design)),
        simulator.geometry(),
        simulator=simulator.name,
        simulator_version=simulator.version(),
        created_by=f"higan {__version__}",
        extra={"seeds": design.seeds, "split": design.split},
        attributes=attributes,
    )


def _clear(folder: Path, parts: list[_Part]) -> None:
    """Remove these parts, what killed workers left of them, and the folder if it is empty then."""
    digests = {part.path.stem for part in parts}
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.name.removeprefix(".").partition(".")[0] in digests:
                item.unlink()
        folder.rmdir()


class _Stacked:
    """What the parts hold by one name, one row a simulation (`rows` of them), read when asked for."""

    def __init__(self, parts: list[_Part], name: str, rows: np.ndarray | None = None):
        self.parts, self.name = parts, name
        first = parts[0].read(name)
        self.exists = first is not None
        first = np.empty(0) if first is None else first
        counts = [len(part.rows) for part in parts]
        self.part = np.repeat(np.arange(len(parts)), counts)
        self.place = np.concatenate([np.arange(count) for count in counts])
        self.rows = np.arange(len(self.part)) if rows is None else rows
        self.dtype, self.shape = first.dtype, (len(self.rows), *first.shape[1:])

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self.rows[index]
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for number in np.unique(self.part[rows]):
            here = self.part[rows] == number
            part = self.parts[number]
            found = part.read(self.name)
            if found is None or found.shape[1:] != self.shape[1:]:
                raise part.damaged(f"it has no such {self.name!r} as the others")
            values[here] = found[self.place[rows[here]]]
        return values
