"""``higan train``: train a generator by a recipe."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("recipe", type=Path, help="the recipe, a TOML file")
    parser.add_argument("--output", type=Path, metavar="RUN", help="the run's folder (default: runs/<name>)")
    parser.add_argument("--data", type=Path, metavar="MAPSET.h5", help="train on this map set, not the recipe's source")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state, and do not begin")
    parser.add_argument("--dry-run", action="store_true", help="print the full validated recipe and leave")


def run(arguments: argparse.Namespace) -> None:
    """Train, or print the recipe."""
    from higan.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    if arguments.data is not None:
        data = recipe.data.model_copy(update={"source": str(arguments.data), "simulate": None})
        recipe = recipe.model_copy(update={"data": data})
    if arguments.dry_run:
        print(json.dumps(recipe.model_dump(mode="json"), indent=2))
        return
    from higan.cli.backend import import_backend

    import_backend(touch=False)
    from higan.adversarial.loop import train
    from higan.adversarial.step import load_backend

    folder = train(recipe, arguments.output or Path("runs") / recipe.name, resume=arguments.resume or None)
    rank, _ = load_backend().workers()
    if rank:
        return  # the first of several processes speaks for all
    card = json.loads((folder / "card.json").read_text())
    kept = card["metrics"]["validation"]
    statistic = "mean_abs_R_minus_1" if recipe.validation.select == "last" else recipe.validation.select
    print(f"{folder}: {statistic} = {kept[statistic]:.4g} at {kept['maps_seen']} maps seen")
    print(f"next: higan validate {folder} TRUTH.h5 --output report", file=sys.stderr)
