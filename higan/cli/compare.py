"""``higan compare``: several models on one test set, one table and one figure."""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.cli.validate import add_options, assess


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints or generated map sets, one or more")
    parser.add_argument("truth", type=Path, metavar="TRUTH.h5", help="the map set to compare with")
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compare them."""
    assess(arguments.models, arguments)
