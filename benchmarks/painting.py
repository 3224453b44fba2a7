"""Painting the slabs of a 64³ box beside 21cmFAST making that box, on one core and on two.

    python benchmarks/painting.py [CHECKPOINT] [--backends tensorflow jax] [--repeats 5]

higan's emulator is given the box's density and paints 16 slabs (the box once, along one axis) and 48 (all three
axes), maps in memory to maps in memory, noise included. 21cmFAST makes its whole box, and, for what is replaced, the
part that comes after the density: ionisation and brightness temperature. On several cores 21cmFAST runs with as many
threads. What either needs to start (imports, loading weights, compiling) is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from side_by_side import Task, Worker, alternate, line, machine, ratios, summary, write

CELLS, DEPTH = 64, 4
THETA = {"F_STAR10": -1.4, "ALPHA_STAR": 0.5, "SIGMA_8": 0.8}
SIMULATED = ("box", "after density")
PAINTED = ("16 slabs", "48 slabs")


def simulate(threads: int) -> dict[str, Task]:
    """Seconds of 21cmFAST, seed 1."""
    import py21cmfast

    from higan.simulators.twentyonecmfast import TwentyOneCmFast

    class Threaded(TwentyOneCmFast):
        """The reference set's simulator, which runs on one thread, with a number of them."""

        def _inputs(self, parameters: Any, seed: int) -> Any:
            return super()._inputs(parameters, seed).evolve_input_structs(N_THREADS=threads)

    simulator = Threaded(cells=CELLS, box_size=2.0 * CELLS)
    inputs = simulator._inputs(THETA, 1)
    initial = py21cmfast.compute_initial_conditions(inputs=inputs)
    density = py21cmfast.perturb_field(redshift=simulator.redshift, initial_conditions=initial)

    def after_density() -> None:
        ionized = py21cmfast.compute_ionization_field(perturbed_field=density, initial_conditions=initial)
        py21cmfast.brightness_temperature(ionized_box=ionized, perturbed_field=density)

    return {"box": timed(lambda: simulator.run(THETA, 1)), "after density": timed(after_density)}


def paint(checkpoint: str | None) -> dict[str, Task]:
    """Seconds of the emulator on the backend of this process."""
    from higan.cli.backend import import_backend

    import_backend()
    import higan

    with tempfile.TemporaryDirectory() as folder:
        emulator = higan.load(checkpoint or synthetic.checkpoint(Path(folder) / "initial"))
    slabs = np.random.default_rng(1).normal(0.0, 0.25, (3 * CELLS // DEPTH, CELLS, CELLS)).astype(np.float32)
    one_axis = slabs[: CELLS // DEPTH]
    return {
        "16 slabs": timed(lambda: emulator.sample(one_axis, THETA, seed=1)),
        "48 slabs": timed(lambda: emulator.sample(slabs, THETA, seed=1)),
    }


def timed(work: Callable[[], Any]) -> Task:
    """A task that says how many seconds `work` takes."""

    def task() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="eor21cm-2d", help="a shipped name, or a folder")
    parser.add_argument("--initial-weights", action="store_true", help="instead: a generator that was not trained")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"], choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    checkpoint = None if options.initial_weights else options.checkpoint

    results: dict[str, Any] = {"machine": machine(), "checkpoint": checkpoint}
    for cores in options.cores:
        results[f"{cores} cores"] = found = {}
        with contextlib.ExitStack() as stack:
            simulator = stack.enter_context(contextlib.closing(Worker(simulate, cores, cores=cores)))
            contenders: dict[str, Task] = {
                f"21cmFAST, {task}": functools.partial(simulator, task) for task in SIMULATED
            }
            for backend in options.backends:
                painter = Worker(paint, checkpoint, environment={"KERAS_BACKEND": backend}, cores=cores)
                stack.enter_context(contextlib.closing(painter))
                contenders |= {f"higan on {backend}, {task}": functools.partial(painter, task) for task in PAINTED}
            values = alternate(contenders, options.repeats)
        print(f"\n{cores} core{'s' * (cores > 1)}")
        for name in values:
            found[name] = summary(values[name])
            print(line(name, found[name], "s"))
            if name.startswith("higan"):
                for task in SIMULATED:
                    found[name][f"21cmFAST, {task}, over this"] = over = ratios(
                        values[f"21cmFAST, {task}"], values[name]
                    )
                    print(line(f"    times faster than 21cmFAST, {task}", over))
    write(options.output, results)


if __name__ == "__main__":
    main()
