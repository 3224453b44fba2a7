"""Making training batches alone, maps/s, beside what training consumes; ten times as much is the aim.

    python benchmarks/input_pipeline.py [MAPSET.h5] [--log RUN/log.jsonl] [--backend tensorflow] [--repeats 5]

Batches are made as a training makes them: read from the file in shuffled order, scaled, rolled, rotated, reflected, and
given their noise, by one thread, as on a CPU. Two further rows leave out the noise, then the augmentation too, to show
where the time goes. Training is the whole step on a batch that is ready (as networks.py measures it), in turns with
them; with --log the speed of a real run is compared as well. Without a map set one of noise is written to a temporary
folder; its pages are in memory then, as a small set's are while it trains.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from networks import Setting, higan_tasks, timed
from side_by_side import Task, Worker, alternate, line, machine, ratios, summary, write

from higan.networks.config import GeneratorConfig

AIM = 10
VARIANTS = {
    "batches": (True, True),
    "batches without noise": (False, True),
    "batches without noise and augmentation": (False, False),
}


def make_batches(path: str, batch_size: int, steps: int, network: GeneratorConfig) -> dict[str, Task]:
    """Tasks that make `steps` batches; maps/s."""
    from higan.adversarial.batches import Batches
    from higan.mapset import MapSet
    from higan.scaling import Linear

    maps = MapSet.open(path)
    names = ("density", "brightness_temp")
    scaled = {name: [(name, Linear(shift=0.5, scale=2.0))] for name in names}

    def task(noise: bool, augmented: bool) -> Task:
        batches = Batches(
            maps,
            np.arange(len(maps)),
            scaled["density"],
            scaled["brightness_temp"],
            np.clip(maps.parameters, -1, 1),
            batch_size=batch_size,
            seed=1,
            symmetries=("roll", "rotate", "reflect") if augmented else (),
            network=network if noise else None,
        )
        number = itertools.count()

        def work() -> None:
            for _ in range(steps):
                batches(next(number))

        return timed(work, steps * batch_size)

    return {name: task(*flags) for name, flags in VARIANTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", nargs="?", type=Path, help="with density and brightness_temp (default: noise)")
    parser.add_argument("--log", type=Path, help="log.jsonl of a training run")
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--precision", default="mixed_bfloat16", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 48, 96, 128], help="of the generator")
    parser.add_argument("--discriminator-widths", type=int, nargs="+", default=[16, 48, 96, 160])
    parser.add_argument("--size", type=int, default=64, help="of the maps of noise")
    parser.add_argument("--n", type=int, default=7680, help="maps of noise")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="training steps a repetition")
    parser.add_argument("--batches", type=int, default=64, help="batches a repetition")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    from higan.mapset import MapSet

    results: dict[str, Any] = {"machine": machine()}
    with contextlib.ExitStack() as stack:
        path = options.maps
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "maps.h5"
            synthetic.map_set(path, options.n, options.size)
        maps = MapSet.open(path)
        print(f"{maps!r}, batches of {options.batch}\n")
        setting = Setting(
            widths=tuple(options.widths),
            discriminator_widths=tuple(options.discriminator_widths),
            size=maps.shape[0],
            batch=options.batch,
            sample_batch=options.batch,
            steps=options.steps,
            sample_batches=1,
            precision=options.precision,
        )
        config = setting.generator
        pipeline = Worker(make_batches, str(path), options.batch, options.batches, config)
        training = Worker(higan_tasks, setting, True, environment={"KERAS_BACKEND": options.backend})
        for worker in (pipeline, training):
            stack.enter_context(contextlib.closing(worker))
        contenders = {name: functools.partial(pipeline, name) for name in VARIANTS}
        values = alternate({**contenders, "training": functools.partial(training, "train")}, options.repeats)
    for name in values:
        results[name] = summary(values[name])
        print(line(name, results[name], "maps/s"))
    results["over training"] = over = ratios(values["batches"], values["training"])
    print(line("batches over training", over, verdict(over["median"])))
    if options.log is not None:
        speeds = [row["maps_per_s"] for row in map(json.loads, options.log.read_text().splitlines())]
        if not speeds:
            raise SystemExit(f"{options.log} is empty: the run has not come to its first tick.")
        results["over run"] = over = results["batches"]["median"] / float(np.median(speeds))
        print(f"batches over {options.log} ({np.median(speeds):.4g} maps/s): {over:.4g} {verdict(over)}")
    write(options.output, results)


def verdict(ratio: float) -> str:
    return f"(aim: {AIM}, {'reached' if ratio >= AIM else 'missed'})"


if __name__ == "__main__":
    main()
