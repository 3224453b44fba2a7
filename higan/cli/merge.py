"""``higan merge SHARD.h5 …``: join the shards of a job array."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "shards", nargs="+", type=Path, metavar="SHARD.h5", help="all that --shard i/n painted, in any order"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="OUT.h5", help="the map set to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> None:
    """Merge the shards."""
    from higan.mapset import MapSet
    from higan.painting.shards import merge

    path = merge(arguments.shards, arguments.output, overwrite=arguments.overwrite)
    print(f"{path}: {len(MapSet.open(path))} maps of {len(arguments.shards)} shards")
