"""``higan slabs BOXES.h5``: cut 2D slabs from a 3D map set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--thickness-cells",
        type=int,
        default=4,
        metavar="N",
        help="cells that a slab is deep (default: %(default)s)",
    )
    add_cut_arguments(parser, "SLABS.h5", "the 2D map set to write")


def add_cut_arguments(parser: argparse.ArgumentParser, output: str, what: str) -> None:
    """Arguments of all verbs that cut boxes."""
    parser.add_argument("maps", metavar="BOXES.h5", help="a 3D map set")
    add_output_arguments(parser, output, what)


def add_output_arguments(parser: argparse.ArgumentParser, output: str, what: str) -> None:
    """Arguments of all verbs that cut maps."""
    parser.add_argument("--output", required=True, metavar=output, help=what)
    parser.add_argument("--fields", metavar="A,B", help="fields to take, with commas between (default: all)")
    parser.add_argument("--compression", choices=["gzip", "lzf"], help="HDF5 filter")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")


def run(arguments: argparse.Namespace) -> None:
    """Cut the slabs."""
    from higan.cuts import slabs

    run_cut(slabs, arguments.thickness_cells, arguments)


def run_cut(cut: Callable[..., Path], cells: int, arguments: argparse.Namespace) -> None:
    """Cut as the arguments of :func:`add_output_arguments` say, and show what came out."""
    from higan.mapset import MapSet

    path = cut(
        MapSet.open(arguments.maps),
        arguments.output,
        cells,
        fields=arguments.fields.split(",") if arguments.fields else None,
        overwrite=arguments.overwrite,
        compression=arguments.compression,
    )
    print(MapSet.open(path))
