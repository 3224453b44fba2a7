"""``higan demo``: a shipped checkpoint on shipped held-out maps, beside the truth, in a minute."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

CHECKPOINT, MEAN, MAPS = "eor21cm-2d", "eor21cm-2d-mean", "eor21cm-demo.h5"
REALISATIONS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder's report if it is there")


def run(arguments: argparse.Namespace) -> None:
    """Paint, compare, report."""
    from higan.checkpoint import shipped_folder
    from higan.cli.backend import import_backend

    started = time.monotonic()
    import_backend()
    from higan.emulator import load
    from higan.mapset import MapSet
    from higan.validation import validate

    truth = MapSet.open(shipped_folder("maps") / MAPS)
    comparison = validate(
        load(CHECKPOINT),
        truth,
        arguments.output,
        seed=arguments.seed,
        realisations=REALISATIONS,
        mean_emulator=load(MEAN),
        overwrite=arguments.overwrite,
    )
    comparison.show()
    print(f"{len(truth)} maps, {REALISATIONS} realisations each, in {time.monotonic() - started:.0f} s")
    print(f"look at {arguments.output / 'report.html'}")
