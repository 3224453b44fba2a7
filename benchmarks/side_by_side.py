"""Contenders side by side: each in a process of its own, in turns A B A B …, so that all see the same machine.

Keras has one backend a process, and threads of one library disturb another's; a process that waits for its turn
costs nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Task = Callable[[], float]  # does one repetition and returns what is measured
CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
# The first GPU; none of those who share it takes its memory for itself.
GPU = {
    "CUDA_VISIBLE_DEVICES": "0",
    "JAX_PLATFORMS": "cuda",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}


class Worker:
    """A process that prepares once and then does one of its tasks whenever it is called.

    Parameters
    ----------
    prepare : function
        Of `arguments`; runs in the process and returns its tasks by name. A backend is imported here, nowhere sooner.
    arguments
        Pickled.
    environment : mapping
        Set before `prepare`.
    cores : int, optional
        Run on so many of the machine's cores; libraries start as many threads.
    """

    def __init__(
        self,
        prepare: Callable[..., Mapping[str, Task]],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        cores: int | None = None,
    ):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, prepare, arguments, dict(environment or {}), cores), daemon=True
        )
        self._process.start()
        theirs.close()
        self._receive()

    def __call__(self, task: str) -> float:
        self._connection.send(task)
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            value = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a worker ended with exit code {self._process.exitcode}") from None
        if isinstance(value, _Failure):
            raise RuntimeError(f"a worker failed:\n{value}")
        return value


class _Failure(str):
    """A traceback on its way to the process that asked."""


def _serve(
    connection: Any, prepare: Callable[..., Mapping[str, Task]], arguments: Any, environment: Any, cores: Any
) -> None:
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", **CPU})
    os.environ.update(environment)
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    try:
        tasks = prepare(*arguments)
        connection.send(None)
        while True:
            connection.send(tasks[connection.recv()]())
    except (EOFError, KeyboardInterrupt):
        return
    except BaseException:
        connection.send(_Failure(traceback.format_exc()))


def alternate(contenders: Mapping[str, Task], repeats: int) -> dict[str, list[float]]:
    """Every contender once unmeasured, then `repeats` rounds of all of them in turn."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, task in contenders.items():
            value = task()
            if turn:
                values[name].append(value)
            _note(f"round {turn}/{repeats}: {name} {value:.4g}")
    _note("")
    return values


def summary(values: list[float]) -> dict[str, Any]:
    """Median, least and greatest of the repetitions, and all of them."""
    return {"median": float(np.median(values)), "min": min(values), "max": max(values), "values": values}


def ratios(values: list[float], others: list[float]) -> dict[str, Any]:
    """:func:`summary` of `values` over `others`, round by round: what slows one round slows both."""
    return summary([a / b for a, b in zip(values, others, strict=True)])


def line(name: str, found: Mapping[str, Any], unit: str = "") -> str:
    """A row of a table: name, median, least and greatest."""
    return f"{name:<44}{found['median']:>10.4g}  ({found['min']:.4g} – {found['max']:.4g}) {unit}".rstrip()


def machine() -> dict[str, Any]:
    """Processor, cores, load and library versions; a warning where other work is running."""
    processor = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [row.partition(":")[2].strip() for row in info.read_text().splitlines() if row.startswith("model name")]
        processor = names[0] if names else processor
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): speeds are of a shared machine, ratios less reliable.")
    versions = {}
    for name in ("higan", "keras", "tensorflow", "jax", "torch", "numpy", "h5py", "21cmFAST"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "gpus": _gpus(),
        "load": load,
        "python": platform.python_version(),
        "versions": versions,
    }


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(results, indent=2) + "\n")
    os.replace(partial, path)
    print(f"\nwritten: {path}")


def _note(text: str) -> None:
    """A line that overwrites itself, on terminals only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
