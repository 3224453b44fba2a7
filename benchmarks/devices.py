"""Trainings by `higan train` in one process and in two that talk over the loopback, maps/s: what sharing a batch costs.

    python benchmarks/devices.py [--backends tensorflow jax] [--repeats 3]

One process on one core, one on two cores, and two processes of one core each, which take halves of the same batches and
sum their gradients. The last over the first is the gain by a second device, at the price of a real protocol and of no
network.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import synthetic
from side_by_side import alternate, line, machine, ratios, summary, write

RECIPE = """
name = "devices"
[data]
source = "{maps}"
inputs = ["density"]
outputs = ["brightness_temp"]
[generator]
widths = [16, 48, 96, 128]
[discriminator]
widths = [16, 48, 96, 160]
[training]
maps = {maps_seen}
tick_maps = {tick}
batch_size = {batch}
precision = "{precision}"
[validation]
select = "last"
maps_per_simulation = 1
"""
LAYOUTS = {"one process, one core": (1, 1), "one process, two cores": (1, 2), "two processes, one core each": (2, 1)}
TICK, TICKS = 96, 3  # maps; the last tick is measured, when everything is compiled


def train(layout: tuple[int, int], backend: str, folder: Path, recipe: Path) -> float:
    """Maps/s."""
    processes, cores = layout
    hosts = [f"localhost:{port}" for port in free_ports(processes)]
    run = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "higan", "train", str(recipe), "--output", str(run / "run")]
    started = []
    for rank in range(processes):
        mine = sorted(os.sched_getaffinity(0))[rank * cores : (rank + 1) * cores]
        found = {**os.environ, "KERAS_BACKEND": backend, "WANDB_MODE": "disabled", "TF_CPP_MIN_LOG_LEVEL": "3"}
        found |= membership(backend, hosts, rank) if processes > 1 else {}
        bound = ["taskset", "--cpu-list", ",".join(map(str, mine)), *command]
        started.append(subprocess.Popen(bound, env=found, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in started:
        told, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"a training ended with exit code {process.returncode}:\n{told}")
    return float(json.loads((run / "run" / "log.jsonl").read_text().splitlines()[-1])["maps_per_s"])


def membership(backend: str, hosts: list[str], rank: int) -> dict[str, str]:
    """The environment by which a process finds the others."""
    if backend == "tensorflow":
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": rank}})}
    return {"JAX_COORDINATOR_ADDRESS": hosts[0], "JAX_NUM_PROCESSES": str(len(hosts)), "JAX_PROCESS_ID": str(rank)}


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"], choices=["tensorflow", "jax"])
    parser.add_argument("--precision", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maps = synthetic.map_set(folder / "maps.h5", 960, 64)
        recipe = folder / "recipe.toml"
        sizes = {"maps_seen": TICK * TICKS, "tick": TICK, "batch": options.batch, "precision": options.precision}
        recipe.write_text(RECIPE.format(maps=maps.path, **sizes))
        for backend in options.backends:
            contenders = {
                name: functools.partial(train, layout, backend, folder, recipe) for name, layout in LAYOUTS.items()
            }
            values = alternate(contenders, options.repeats)
            results[backend] = found = {name: summary(v) for name, v in values.items()}
            first, *others = values
            print(f"{backend}\n{line(f'  {first}', found[first], 'maps/s')}")
            for name in others:
                found[name]["over one core"] = over = ratios(values[name], values[first])
                print(line(f"  {name}", found[name], "maps/s"))
                print(line("    over one core", over), flush=True)
    write(options.output, results)


if __name__ == "__main__":
    main()
