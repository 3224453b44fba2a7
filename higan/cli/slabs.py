"""``higan slabs BOXES.h5``: cut 2D slabs from a 3D map set."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("boxes", metavar="BOXES.h5", help="a 3D map set")
    parser.add_argument("--output", required=True, metavar="SLABS.h5", help="the 2D map set to write")
    parser.add_argument(
        "--thickness-cells",
        type=int,
        default=4,
        metavar="N",
        help="cells that a slab is deep (default: %(default)s)",
    )
    parser.add_argument("--fields", metavar="A,B", help="fields to take, with commas between (default: all)")
    parser.add_argument("--compression", choices=["gzip", "lzf"], help="HDF5 filter")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")


def run(arguments: argparse.Namespace) -> int:
    """Cut the slabs."""
    from higan.mapset import MapSet
    from higan.slabs import slabs

    path = slabs(
        MapSet.open(arguments.boxes),
        arguments.output,
        arguments.thickness_cells,
        fields=arguments.fields.split(",") if arguments.fields else None,
        overwrite=arguments.overwrite,
        compression=arguments.compression,
    )
    print(MapSet.open(path))
    return 0
