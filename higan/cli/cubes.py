"""``higan cubes BOXES.h5``: cut smaller cubes from a 3D map set."""

from __future__ import annotations

import argparse

from higan.cli.slabs import add_cut_arguments, run_cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--side-cells", type=int, required=True, metavar="N", help="cells along a side of a cube")
    add_cut_arguments(parser, "CUBES.h5", "the 3D map set to write")


def run(arguments: argparse.Namespace) -> None:
    """Cut the cubes."""
    from higan.cuts import cubes

    run_cut(cubes, arguments.side_cells, arguments)
