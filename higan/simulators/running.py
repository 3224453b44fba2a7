"""Run a simulator over a design: in parallel, resumable, into one map set.

Every finished simulation is a file in the folder ``OUTPUT.parts`` beside the output, named by a digest of all
it depends on (simulator, version, settings, parameters, seed). A second run takes up the parts that are
there, whatever ended the first; parts made with other settings have other names and are left alone. At the
end they are joined into the output, which appears whole, and they go, with the folder if nothing else is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from higan.errors import HiganError, MissingDependencyError, OutputError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.mapset_writer import check_output
from higan.progress import progress
from higan.simulators.design import Design


class Simulator(Protocol):
    """What a simulator is: a frozen dataclass, its fields the settings, with these members."""

    name: ClassVar[str]
    parameters: ClassVar[Sequence[Parameter]]
    fields: ClassVar[Mapping[str, tuple[str, str]]]
    """Units and long name of each field."""
    sets: ClassVar[Mapping[str, str]]
    """What each set of simulations is for."""
    __dataclass_fields__: ClassVar[dict[str, Any]]

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
        """One simulation: float32 fields of one shape. A pure function of settings, parameters and seed."""


def simulate(
    simulator: str | Simulator,
    *,
    output: str | os.PathLike[str],
    set: str = "lh",
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
    set : str
        Which design: "lh" fills the parameter space, "cv" has many seeds at the fiducial parameters, "1p"
        varies one parameter at a time.
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
    parts = [
        folder / f"{_digest(simulator, theta, seed)}.npz"
        for theta, seed in zip(design.parameters, design.seeds, strict=True)
    ]
    with _writing(path):
        folder.mkdir(exist_ok=True)
    _run(simulator, design, parts, processes, path)
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


def _digest(simulator: Simulator, theta: np.ndarray, seed: int) -> str:
    inputs = {
        "simulator": simulator.name,
        "version": simulator.version(),
        "settings": dataclasses.asdict(simulator),
        "parameters": [float(value).hex() for value in theta],
        "seed": int(seed),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]


def _run(simulator: Simulator, design: Design, parts: list[Path], processes: int, path: Path) -> None:
    """Run what has no part yet."""
    left = [row for row, part in enumerate(parts) if not part.exists()]
    if not left:
        return
    names = [item.name for item in simulator.parameters]
    pool = ProcessPoolExecutor(
        min(processes, len(left)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    with (
        progress("simulating", total=len(parts), done=len(parts) - len(left), unit="simulations", every=10) as advance,
        _one_thread(),
    ):
        try:
            jobs = {}
            for row in left:
                theta = dict(zip(names, map(float, design.parameters[row]), strict=True))
                jobs[pool.submit(_simulate_one, simulator, theta, int(design.seeds[row]), parts[row])] = row
            for job in as_completed(jobs):
                with _explained(simulator, design, jobs[job], path):
                    job.result()
                advance()
        finally:
            pool.shutdown(cancel_futures=True)


def _simulate_one(simulator: Simulator, theta: dict[str, float], seed: int, part: Path) -> None:
    """In a worker: run one simulation and put its part in place, whole."""
    maps = {name: np.asarray(values, dtype=np.float32) for name, values in simulator.run(theta, seed).items()}
    for name, values in maps.items():
        if values.shape != simulator.shape():
            raise HiganError(f"{name!r} has shape {values.shape}, not {simulator.shape()}")
        if not np.isfinite(values).all():
            raise HiganError(f"{name!r} has NaN or infinite values")
    partial = part.with_name(f".{part.name}-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **maps)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, part)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


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
def _explained(simulator: Simulator, design: Design, row: int, path: Path) -> Iterator[None]:
    """Turn what went wrong in a worker into one sentence."""
    kept = "Finished simulations are kept: run the same command again to go on."
    theta = zip((item.name for item in simulator.parameters), design.parameters[row], strict=True)
    label = f"simulation {row} ({', '.join(f'{k}={v:.6g}' for k, v in theta)}, seed {design.seeds[row]})"
    try:
        yield
    except (OutputError, MissingDependencyError):
        raise
    except BrokenProcessPool as error:
        raise HiganError(
            f"A process that ran {simulator.name} was ended from outside, at {label} or beside it; was "
            f"memory short? {kept}"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{path}.parts cannot be written ({error.strerror or error}). Make room or choose another place. {kept}"
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        raise HiganError(f"{simulator.name} failed at {label}: {reason}. {kept}") from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error


def _joined(simulator: Simulator, set: str, design: Design, parts: list[Path]) -> MapSet:
    """The parts as a map set, read from disc when asked for."""
    from higan import __version__

    return MapSet(
        {
            name: Field(_Parts(parts, name, simulator.shape()), units, long_name)
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
        attributes={"set": set, "simulator_settings": json.dumps(dataclasses.asdict(simulator))},
    )


def _clear(folder: Path, parts: list[Path]) -> None:
    """Remove these parts, what killed workers left of them, and the folder if it is empty then."""
    digests = {part.stem for part in parts}
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.name.removeprefix(".").partition(".")[0] in digests:
                item.unlink()
        folder.rmdir()


class _Parts:
    """Simulations in files of their own, stacked when read."""

    dtype = np.dtype(np.float32)

    def __init__(self, parts: list[Path], name: str, shape: tuple[int, ...]):
        self.parts, self.name = parts, name
        self.shape = (len(parts), *shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self.parts))[index]
        values = np.empty((len(rows), *self.shape[1:]), np.float32)
        for value, row in zip(values, rows, strict=True):
            with np.load(self.parts[row]) as part:
                value[...] = part[self.name]
        return values
