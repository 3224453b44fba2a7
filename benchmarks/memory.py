"""Peak memory of `higan sample` on more and more maps: it streams, so the peak must stay flat and under 2 GB.

    python benchmarks/memory.py [CHECKPOINT] [--maps 1000 10000]

The input sets are written to a temporary folder. Each run is a fresh process; its peak is the greatest resident
memory that the system saw (VmHWM), libraries included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import synthetic
from side_by_side import machine, write

LIMIT_MB, FLAT = 2000, 1.1  # greatest peak, and greatest ratio of peaks

# The memory of a child counts what its parent held when it was forked, so it reports on itself.
SAMPLE = """
import sys
from higan.cli import main
code = main(sys.argv[1:])
status = dict(row.split(":", 1) for row in open("/proc/self/status"))
print("VmHWM", status["VmHWM"].split()[0])
sys.exit(code)
"""
INITIAL = "import sys, synthetic; from pathlib import Path; synthetic.checkpoint(Path(sys.argv[1]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="eor21cm-2d", help="a shipped name, or a folder")
    parser.add_argument("--initial-weights", action="store_true", help="instead: a generator that was not trained")
    parser.add_argument("--maps", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--backends", nargs="+", default=["tensorflow"], choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    results: dict[str, Any] = {"machine": machine(), "size": options.size}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint
        if options.initial_weights:
            checkpoint = str(folder / "initial")
            run([INITIAL, checkpoint], options.backends[0])
        for backend in options.backends:
            peaks = []
            for n in options.maps:
                source, target = folder / f"{n}.h5", folder / f"{n}-painted.h5"
                if not source.exists():
                    synthetic.map_set(source, n, options.size, fields=["density"])
                began = time.monotonic()
                words = ["sample", checkpoint, "--input", source, "--output", target, "--seed", "1", "--overwrite"]
                out = run([SAMPLE, *map(str, words)], backend)
                seconds = time.monotonic() - began
                peaks.append(int(out.split()[-1]) / 1000)
                print(
                    f"{backend:<12}{n:>7} maps  peak {peaks[-1]:7.0f} MB  {seconds:6.1f} s  {n / seconds:6.1f} maps/s"
                )
            growth = max(peaks) / min(peaks)
            fine = max(peaks) < LIMIT_MB and growth < FLAT
            verdict = f"aim: flat and under {LIMIT_MB} MB, {'reached' if fine else 'missed'}"
            print(f"{backend:<12}greatest over least {growth:.3f} ({verdict})")
            results[backend] = {"maps": options.maps, "peak_MB": peaks, "growth": growth, "reached": fine}
    write(options.output, results)


def run(words: list[str], backend: str) -> str:
    """Run Python code with arguments; its standard output."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    done = subprocess.run([sys.executable, "-c", *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words[1:])} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
