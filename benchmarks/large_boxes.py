"""Peak memory of `higan sample` on larger and larger boxes: it paints by tiles, so the peak must stay flat.

    python benchmarks/large_boxes.py [CHECKPOINT] [--sides 128 256 512]

Without a checkpoint a small three-dimensional generator that was not trained paints: memory and time depend on the
network's widths, not on its weights. Input and output lie in a temporary folder, 8 bytes a cell: zarr arrays, or, for
the output, a map set (--format h5). Each run is a fresh process; its peak is the greatest resident memory that the
system saw (VmHWM), libraries included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory import SAMPLE, run
from side_by_side import machine, write

from higan.checkpoint import find_checkpoint, load_card

LIMIT_MB, FLAT = 4000, 1.1  # greatest peak, and greatest ratio of peaks
INITIAL = """
import sys, synthetic
from pathlib import Path
synthetic.checkpoint(Path(sys.argv[1]), [int(width) for width in sys.argv[2:]], ndim=3, bottom_blocks=1)
"""


def box(path: Path, side: int) -> None:
    """Write a box of noise, slab by slab."""
    import zarr

    array = zarr.create_array(str(path), shape=(side,) * 3, chunks=(64,) * 3, dtype="float32")
    rng = np.random.default_rng(0)
    for start in range(0, side, 64):
        array[start : start + 64] = 0.1 * rng.standard_normal((min(64, side - start), side, side), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="a 3D one: a shipped name, or a folder")
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4], help="of the generator that was not trained")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--tile", type=int, help="as of higan sample")
    parser.add_argument("--format", choices=["zarr", "h5"], default="zarr", help="of the output")
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    results: dict[str, Any] = {"machine": machine(), "widths": options.widths, "tile": options.tile}
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or str(folder / "initial")
        if not options.checkpoint:
            run([INITIAL, checkpoint, *map(str, options.widths)], options.backend)
        card = load_card(find_checkpoint(checkpoint))
        theta = ",".join(f"{item.name}={(item.lower + item.upper) / 2:g}" for item in card.parameters)
        for side in options.sides:
            source, target = folder / f"{side}.zarr", folder / f"{side}-painted.{options.format}"
            box(source, side)
            words = ["sample", checkpoint, "--input", source, "--output", target, "--seed", "1", "--parameters", theta]
            words += ["--tile", options.tile] if options.tile else []
            began = time.monotonic()
            out = run([SAMPLE, *map(str, words)], options.backend)
            seconds = time.monotonic() - began
            peaks.append(int(out.split()[-1]) / 1000)
            results[str(side)] = {"peak_MB": peaks[-1], "seconds": seconds, "cells_per_s": side**3 / seconds}
            print(
                f"{side:>5}³  peak {peaks[-1]:7.0f} MB  {seconds:7.1f} s  {side**3 / seconds / 1e6:.2f} million cells/s"
            )
    growth = max(peaks) / min(peaks)
    verdict = "reached" if max(peaks) < LIMIT_MB and growth < FLAT else "missed"
    print(f"greatest over least {growth:.3f} (aim: flat and under {LIMIT_MB} MB, {verdict})")
    write(options.output, {**results, "growth": growth})


if __name__ == "__main__":
    main()
