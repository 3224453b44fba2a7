"""Galaxy stamps a second: a checkpoint beside GalSim, which draws the galaxies it was trained on.

    python benchmarks/galaxies.py [CHECKPOINT] [--stamps 512] [--repeats 5]

The checkpoint draws stamps for a list of parameters, noise included. GalSim draws as many of the same population
(bulge, disc and knots of star formation, through the stamps' own point-spread function), and as many single Sérsic
profiles, the least that a galaxy can be drawn with. GalSim runs in as many processes as there are cores. What either
needs to start is not counted; nor is measuring the labels on GalSim's stamps.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Task, Worker, alternate, line, machine, ratios, summary, write

DRAWN = ("population", "Sérsic")


def emulate(checkpoint: str, stamps: int) -> dict[str, Task]:
    """Stamps a second of the checkpoint."""
    from higan.cli.backend import import_backend

    import_backend()
    import higan

    emulator = higan.load(checkpoint)
    rng = np.random.default_rng(1)
    theta = {p.name: rng.uniform(p.lower, p.upper, stamps) for p in emulator.card.parameters}
    return {"sample": rate(stamps, lambda: emulator.sample(parameters=theta, seed=1))}


def draw(stamps: int) -> dict[str, Task]:
    """Stamps a second of GalSim, in this process."""
    import galsim

    from higan.photometry import PIXEL
    from higan.simulators.galaxies import Galaxies
    from higan.simulators.galaxy_population import Population

    simulator, population = Galaxies(), Population()
    psf = galsim.Gaussian(fwhm=simulator.psf_fwhm)

    def image(parts: Sequence[Any]) -> None:
        stamp = galsim.Image(simulator.cells, simulator.cells, scale=PIXEL, dtype=np.float64)
        for part in parts:
            galsim.Convolve(part, psf).drawImage(stamp, add_to_image=True)

    def of_population() -> None:
        rng = np.random.default_rng(1)
        for _ in range(stamps):
            image(population.profiles(population.draw(rng), rng))

    def of_one_profile() -> None:
        rng = np.random.default_rng(1)
        for _ in range(stamps):
            galaxy = population.draw(rng)
            # Sérsic indices in steps, as the population has them: GalSim keeps what it computed for each.
            profile = galsim.Sersic(round(galaxy["index"], 1), half_light_radius=galaxy["radius"] * PIXEL)
            image([profile.shear(q=galaxy["axis_ratio"], beta=rng.uniform(0, 180) * galsim.degrees)])

    return {"population": rate(stamps, of_population), "Sérsic": rate(stamps, of_one_profile)}


def rate(stamps: int, work: Callable[[], Any]) -> Task:
    """A task that says how many stamps a second `work` draws."""

    def task() -> float:
        began = time.perf_counter()
        work()
        return stamps / (time.perf_counter() - began)

    return task


def together(workers: Sequence[Worker], task: str) -> float:
    """What all workers draw a second, side by side."""
    with ThreadPoolExecutor(len(workers)) as threads:
        return sum(threads.map(lambda worker: worker(task), workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="cosmos-like", help="a shipped name, or a folder")
    parser.add_argument("--stamps", type=int, default=512)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    results: dict[str, Any] = {"machine": machine(), "checkpoint": options.checkpoint, "cores": options.cores}
    with contextlib.ExitStack() as stack:

        def worker(*arguments: Any) -> Worker:
            return stack.enter_context(contextlib.closing(Worker(*arguments, cores=options.cores)))

        painter = worker(emulate, options.checkpoint, options.stamps)
        peers = [worker(draw, options.stamps // options.cores) for _ in range(options.cores)]
        contenders: dict[str, Task] = {f"GalSim, {task}": functools.partial(together, peers, task) for task in DRAWN}
        contenders["higan"] = functools.partial(painter, "sample")
        values = alternate(contenders, options.repeats)
    for name in values:
        results[name] = summary(values[name])
        print(line(name, results[name], "stamps/s"))
    for task in DRAWN:
        results[f"higan over GalSim, {task}"] = over = ratios(values["higan"], values[f"GalSim, {task}"])
        print(line(f"    times faster than GalSim, {task}", over))
    write(options.output, results)


if __name__ == "__main__":
    main()
