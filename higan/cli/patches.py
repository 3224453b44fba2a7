"""``higan patches SKIES.h5``: cut square patches from maps of the sky, to train on."""

from __future__ import annotations

import argparse

from higan.cli.slabs import add_output_arguments, run_cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("maps", metavar="SKIES.h5", help="a map set of HEALPix maps")
    parser.add_argument("--side-cells", type=int, required=True, metavar="N", help="pixels along a side of a patch")
    add_output_arguments(parser, "PATCHES.h5", "the 2D map set to write")


def run(arguments: argparse.Namespace) -> None:
    """Cut the patches."""
    from higan.cuts import patches

    run_cut(patches, arguments.side_cells, arguments)
