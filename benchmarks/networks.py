"""Training and sampling, maps/s: higan on TensorFlow and JAX beside the same networks in plain PyTorch.

    python benchmarks/networks.py [--gpu] [--widths 16 48 96 128] [--size 64] [--batch 16] [--repeats 5]

Three tasks, each contender in turn: "train" is the whole training step (relativistic objective, R1 and R2 every 4
steps, L1, Adam, averaged weights) on a batch that is ready; "paint" is the generator on inputs that are ready, numpy
in and numpy out; "sample" draws the noise as well, higan's by absolute cell, PyTorch's by `torch.randn`. Before
anything is timed the PyTorch networks take the Keras weights and train a few steps beside higan's: as many weights,
the same losses.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from side_by_side import CPU, GPU, Task, Worker, alternate, line, machine, ratios, summary, write

from higan.networks.config import DiscriminatorConfig, GeneratorConfig

OURS, PEER = "higan on ", "PyTorch, "
# PyTorch's settings; the fastest at a task is the peer. (memory format, periodic padding, through torch.compile)
TORCH = {
    "channels_last": ("channels_last", "cat", False),
    "contiguous": ("contiguous_format", "pad", False),
    "compiled": ("channels_last", "cat", True),
}
TASKS = ("train", "paint", "sample")
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
TOLERANCE = 1e-3  # of losses; sums of float32 differ in order
N_PARAMETERS = len(synthetic.PARAMETERS)
OBJECTIVE = {"pixel_weight": 0.5, "r1": 0.02, "r2": 0.02, "penalty_every": 4}
BETA1 = 0.5
LOWER = -1.8  # of the maps in scaled space, so that the clipping is paid for
RATES, DECAY = (1e-3, 1e-3), 0.999


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured: sizes, repetitions, precision, and how PyTorch is set."""

    widths: tuple[int, ...]
    discriminator_widths: tuple[int, ...]
    size: int
    batch: int
    sample_batch: int
    steps: int
    sample_batches: int
    precision: str
    torch: str = "channels_last"
    ndim: int = 2

    @property
    def generator(self) -> GeneratorConfig:
        return GeneratorConfig(widths=list(self.widths))

    @property
    def discriminator(self) -> DiscriminatorConfig:
        return DiscriminatorConfig(widths=list(self.discriminator_widths))

    def make_batch(self, n: int) -> dict[str, Any]:
        generator = self.generator
        return synthetic.batch(self.size, n, generator.levels, generator.noise_channels, ndim=self.ndim)

    def draw_noise(self) -> list[np.ndarray]:
        levels, channels = self.generator.levels, self.generator.noise_channels
        return synthetic.noise(self.size, self.sample_batch, levels, channels, ndim=self.ndim)


def keras_networks(setting: Setting) -> tuple[Any, Any]:
    """Both networks on the backend of this process."""
    from higan.cli.backend import import_backend

    import_backend()
    from higan.networks.discriminator import build_discriminator
    from higan.networks.generator import build_generator

    options: dict[str, Any] = dict(
        ndim=setting.ndim, n_inputs=1, n_outputs=1, n_parameters=N_PARAMETERS, dtype=setting.precision
    )
    return build_generator(setting.generator, **options), build_discriminator(setting.discriminator, **options)


def keras_step(generator: Any, discriminator: Any) -> Any:
    from higan.adversarial.step import Step
    from higan.adversarial.step_config import StepConfig
    from higan.recipe import ObjectiveConfig
    from higan.scaling import Linear

    config = StepConfig(ObjectiveConfig(**OBJECTIVE), outputs=(Linear(lower=LOWER),), beta1=BETA1)
    return Step(generator, discriminator, config)


def torch_networks(setting: Setting) -> tuple[Any, Any]:
    from torch_networks import Discriminator, Generator

    g, d = setting.generator, setting.discriminator
    generator = Generator(g.widths, g.bottom_blocks, g.noise_channels, g.embedding, N_PARAMETERS)
    return generator, Discriminator(d.widths, d.embedding, N_PARAMETERS)


def compare(setting: Setting) -> dict[str, Task]:
    """The tasks of a process that holds both: the greatest relative difference of losses, and the weights."""
    from torch_networks import check

    ours, theirs = torch_networks(setting), keras_networks(setting)
    batches = [setting.make_batch(2)] * (OBJECTIVE["penalty_every"] + 1)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True)]
    return {
        "difference": lambda: check(pairs[0], pairs[1], keras_step(*theirs), batches),
        "generator": lambda: theirs[0].count_params(),
        "discriminator": lambda: theirs[1].count_params(),
    }


def higan_tasks(setting: Setting, trains: bool) -> dict[str, Task]:
    """Tasks on the backend of this process; maps/s."""
    generator, discriminator = keras_networks(setting)
    tasks = {}
    if trains:
        from higan.adversarial.step import load_backend

        backend = load_backend()
        backend.deterministic()  # as trainings are
        step, batch = keras_step(generator, discriminator), setting.make_batch(setting.batch)
        state = step.initial_state()
        number = itertools.count()

        def train() -> float:
            nonlocal state
            for _ in range(setting.steps):
                state, losses = step(state, batch, next(number), RATES, DECAY)
            return float(backend.to_host(losses)["pixel"])

        tasks["train"] = timed(train, setting.steps * setting.batch)

    made = setting.make_batch(setting.sample_batch)
    condition = [made["fields"], made["parameters"]]

    def sample(draw: Callable[[], list[np.ndarray]]) -> None:
        for _ in range(setting.sample_batches):
            generator.predict_on_batch([*condition, *draw()])

    maps = setting.sample_batches * setting.sample_batch
    return tasks | {
        "paint": timed(lambda: sample(lambda: made["noise"]), maps),
        "sample": timed(lambda: sample(setting.draw_noise), maps),
    }


def torch_tasks(setting: Setting) -> dict[str, Task]:
    """The same tasks in plain PyTorch."""
    import torch
    from torch_networks import DEVICE, Convolution, Step, as_tensors, channels_first

    memory_format, Convolution.padding_by, compiled = TORCH[setting.torch]
    form = getattr(torch, memory_format)
    bfloat16 = setting.precision != "float32"
    generator, discriminator = (network.to(DEVICE, memory_format=form) for network in torch_networks(setting))
    step = Step(
        generator,
        discriminator,
        {**OBJECTIVE, "beta1": BETA1, "lower": LOWER, "upper": np.inf},
        bfloat16=bfloat16,
        compiled=compiled,
    )
    batch = setting.make_batch(setting.batch)
    number = itertools.count()

    def train() -> float:
        for _ in range(setting.steps):
            losses = step(as_tensors(batch, form), next(number), RATES, DECAY)
        return float(losses["pixel"])

    config, made = setting.generator, setting.make_batch(setting.sample_batch)
    forward = torch.compile(generator) if compiled else generator

    def given() -> list[torch.Tensor]:
        return [channels_first(x, form) for x in made["noise"]]

    def drawn() -> list[torch.Tensor]:
        sides = [setting.size >> level for level in range(config.levels)]
        return [
            torch.randn(setting.sample_batch, config.noise_channels, side, side, device=DEVICE).to(memory_format=form)
            for side in sides
        ]

    def sample(noise: Callable[[], list[torch.Tensor]]) -> None:
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=bfloat16):
            for _ in range(setting.sample_batches):
                fields, parameters = channels_first(made["fields"], form), channels_first(made["parameters"])
                forward(fields, parameters, *noise()).permute(0, 2, 3, 1).cpu().numpy()

    maps = setting.sample_batches * setting.sample_batch
    return {
        "train": timed(train, setting.steps * setting.batch),
        "paint": timed(lambda: sample(given), maps),
        "sample": timed(lambda: sample(drawn), maps),
    }


def timed(work: Callable[[], Any], maps: int) -> Task:
    """A task that says how many maps a second `work` does."""

    def task() -> float:
        began = time.perf_counter()
        work()
        return maps / (time.perf_counter() - began)

    return task


def start(setting: Setting, contender: str, cores: int | None, device: dict[str, str]) -> Worker:
    """A process for one contender."""
    if contender.startswith(PEER):
        setting = dataclasses.replace(setting, torch=contender.removeprefix(PEER))
        return Worker(torch_tasks, setting, environment=device, cores=cores)
    backend = contender.removeprefix(OURS)
    # Keras on Torch paints, but trainings run on TensorFlow and JAX.
    environment = {"KERAS_BACKEND": backend, **device}
    return Worker(higan_tasks, setting, backend != "torch", environment=environment, cores=cores)


def show_sameness(setting: Setting, backend: str) -> dict[str, Any]:
    """Check that both sides are the same networks and step, in a process that holds both."""
    setting = dataclasses.replace(setting, precision="float32", size=min(setting.size, 32))
    with contextlib.closing(Worker(compare, setting, environment={"KERAS_BACKEND": backend})) as both:
        found = {name: both(name) for name in ("difference", "generator", "discriminator")}
    if not found["difference"] < TOLERANCE:
        raise SystemExit(f"PyTorch and Keras train differently: losses differ by {found['difference']:.2g}.")
    print(
        f"generator {found['generator']:,} weights, discriminator {found['discriminator']:,}, the same in PyTorch; "
        f"losses of the first steps agree to {found['difference']:.1g}\n"
    )
    return found


def show(found: dict[str, Any], values: dict[str, list[float]]) -> None:
    """Print a task's table and add the ratios over the fastest PyTorch to it."""
    best = max((name for name in values if name.startswith(PEER)), key=lambda name: found[name]["median"])
    for name, measured in values.items():
        print(line(f"  {name}", found[name], "maps/s"))
        if name.startswith(OURS):
            found[name][f"over {best}"] = over = ratios(measured, values[best])
            print(line(f"    over {best}", over))


def main() -> None:
    # torch.compile needs a C++ compiler.
    settings = [name for name in TORCH if name != "compiled" or shutil.which("g++")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 48, 96, 128], help="of the generator")
    parser.add_argument("--discriminator-widths", type=int, nargs="+", default=[16, 48, 96, 160])
    parser.add_argument("--size", type=int, default=64, help="cells along a side of a map")
    parser.add_argument("--batch", type=int, default=16, help="maps in a training batch")
    parser.add_argument("--sample-batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="training steps a repetition, a multiple of 4")
    parser.add_argument("--sample-batches", type=int, default=4, help="batches a repetition")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"], choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=list(PRECISIONS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--cores", type=int, help="of the machine's (default: all)")
    parser.add_argument("--gpu", action="store_true", help="on the first GPU instead")
    parser.add_argument("--torch", nargs="+", default=settings, choices=list(TORCH), help="settings to try")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.steps % OBJECTIVE["penalty_every"]:
        parser.error(f"--steps is to be a multiple of {OBJECTIVE['penalty_every']}, the steps between penalties")

    setting = Setting(
        widths=tuple(options.widths),
        discriminator_widths=tuple(options.discriminator_widths),
        size=options.size,
        batch=options.batch,
        sample_batch=options.sample_batch,
        steps=options.steps,
        sample_batches=options.sample_batches,
        precision="float32",
    )
    results: dict[str, Any] = {"machine": machine(), "setting": dataclasses.asdict(setting), "cores": options.cores}
    device = GPU if options.gpu else CPU
    results["sameness"] = show_sameness(setting, next(b for b in [*options.backends, "tensorflow"] if b != "torch"))
    for precision in options.precisions:
        results[precision] = found = {}
        setting = dataclasses.replace(setting, precision=PRECISIONS[precision])
        with contextlib.ExitStack() as stack:
            names = [OURS + backend for backend in options.backends] + [PEER + name for name in options.torch]
            workers = {
                name: stack.enter_context(contextlib.closing(start(setting, name, options.cores, device)))
                for name in names
            }
            for task in options.tasks:
                able = [name for name in names if not (name == f"{OURS}torch" and task == "train")]
                values = alternate({name: functools.partial(workers[name], task) for name in able}, options.repeats)
                found[task] = {name: summary(v) for name, v in values.items()}
                print(f"{task}, {precision}")
                show(found[task], values)
    write(options.output, results)


if __name__ == "__main__":
    main()
