"""Training and painting on TensorFlow by batch, size, dimensions, precision and cores: maps/s, share of the peak.

    python benchmarks/throughput.py [--repeats 3] [--only batch size 3d cores] [--precisions float32 bfloat16]

The peak is what a product of large matrices reaches on the same cores in the same run, at the same precision. What the
networks need is counted in their convolutions and dense layers: F_G and F_D for a map forwards. Painting takes F_G;
training at least 3 F_G + 9 F_D (the generator forwards and backwards; the discriminator of true and generated maps
forwards and backwards for itself, and once more for the generator, there backwards to the generated maps alone).
Penalties, activations, padding and Adam are left out: shares of training are lower bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from networks import PRECISIONS, Setting, higan_tasks, keras_networks
from side_by_side import Task, Worker, alternate, machine, summary, write

FLAT = Setting(
    widths=(16, 48, 96, 128),
    discriminator_widths=(16, 48, 96, 160),
    size=64,
    batch=16,
    sample_batch=16,
    steps=4,
    sample_batches=4,
    precision="float32",
)
BOX = dataclasses.replace(FLAT, widths=(16, 32, 64), discriminator_widths=(8, 24, 48, 64), ndim=3, sample_batches=2)
CELLS = 16 * 64**2  # in a batch of any map size
MATRIX = 3072


def variants() -> dict[str, dict[str, Setting]]:
    """Settings by what they vary."""

    def flat(size: int, batch: int) -> Setting:
        return dataclasses.replace(FLAT, size=size, batch=batch, sample_batch=batch)

    def box(size: int) -> Setting:
        batch = max(1, CELLS // size**3)
        return dataclasses.replace(BOX, size=size, batch=batch, sample_batch=batch)

    return {
        "batch": {f"{n} maps of 64²": flat(64, n) for n in (1, 4, 16, 64)},
        "size": {f"{CELLS // n**2} maps of {n}²": flat(n, CELLS // n**2) for n in (32, 64, 128, 256)},
        "3d": {f"{box(n).batch} maps of {n}³": box(n) for n in (16, 32, 64)},
    }


def tasks(setting: Setting) -> dict[str, Task]:
    """Of one process: maps/s of training and painting, FLOP of a map forwards, and FLOP/s of a product of matrices."""
    generator, discriminator = keras_networks(setting)
    measured = higan_tasks(setting, trains=True)
    return {
        "train": measured["train"],
        "paint": measured["paint"],
        "generator": lambda: operations(generator, setting),
        "discriminator": lambda: operations(discriminator, setting),
        "peak": functools.partial(matrix_product, "bfloat16" if "bfloat16" in setting.precision else "float32"),
    }


def operations(network: Any, setting: Setting) -> float:
    """FLOP of one map forwards, in convolutions and dense layers."""
    import keras

    made = setting.make_batch(1)
    inputs = [made["fields"], made["parameters"], *made["noise"]]
    if len(inputs) != len(network.inputs):
        inputs = [made["maps"], made["fields"], made["parameters"]]
    total = 0.0
    kernels = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv3D)

    def count(layer: Any, call: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal total
        values = call(*arguments, **named)
        total += 2.0 * math.prod(layer.kernel.shape) * math.prod(values.shape[1:-1])
        return values

    layers = [layer for layer in network._flatten_layers() if isinstance(layer, kernels)]
    for layer in layers:
        layer.call = functools.partial(count, layer, layer.call)
    network(inputs)
    for layer in layers:
        del layer.call
    return total


def matrix_product(precision: str) -> float:
    """FLOP/s."""
    import tensorflow as tf

    matrix = tf.cast(np.random.default_rng(0).normal(size=(MATRIX, MATRIX)), precision)
    product = tf.function(tf.matmul)
    product(matrix, matrix)
    best = math.inf
    for _ in range(4):
        began = time.perf_counter()
        product(matrix, matrix).numpy()
        best = min(best, time.perf_counter() - began)
    return 2.0 * MATRIX**3 / best


def measure(settings: dict[str, Setting], repeats: int, cores: dict[str, int | None]) -> dict[str, Any]:
    """A row a setting, measured in turns."""
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                contextlib.closing(
                    Worker(tasks, setting, environment={"KERAS_BACKEND": "tensorflow"}, cores=cores.get(name))
                )
            )
            for name, setting in settings.items()
        }
        rates = {
            task: alternate({name: functools.partial(worker, task) for name, worker in workers.items()}, repeats)
            for task in ("train", "paint", "peak")
        }
        for name, worker in workers.items():
            generator, discriminator = worker("generator"), worker("discriminator")
            needed = {"train": 3 * generator + 9 * discriminator, "paint": generator}
            peak = max(rates["peak"][name])
            found[name] = {"F_G": generator, "F_D": discriminator, "peak": peak}
            for task, flop in needed.items():
                found[name][task] = summary(rates[task][name])
                found[name][task]["share of peak"] = found[name][task]["median"] * flop / peak
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["batch", "size", "3d", "cores"], default=None)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    groups = variants() | {"cores": {"one core": FLAT, "two cores": FLAT}}
    for precision in options.precisions:
        policy = PRECISIONS[precision]
        for group in options.only or groups:
            settings = {name: dataclasses.replace(s, precision=policy) for name, s in groups[group].items()}
            cores = {"one core": 1, "two cores": 2}
            found = results.setdefault(precision, {})[group] = measure(settings, options.repeats, cores)
            print(f"{group}, {precision}")
            for name, row in found.items():
                print(
                    f"  {name:<16} peak {row['peak'] / 1e9:5.0f} GFLOP/s"
                    + "".join(
                        f"   {task} {row[task]['median']:7.2f} maps/s, {row[task]['share of peak']:4.0%}"
                        for task in ("train", "paint")
                    ),
                    flush=True,
                )
    write(options.output, results)


if __name__ == "__main__":
    main()
