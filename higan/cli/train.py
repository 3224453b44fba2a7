"""``higan train``: train a generator by a recipe."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from higan.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("recipe", type=Path, help="the recipe, a TOML file")
    parser.add_argument("--output", type=Path, metavar="RUN", help="the run's folder (default: runs/<name>)")
    parser.add_argument("--data", type=Path, metavar="MAPSET.h5", help="train on this map set, not the recipe's source")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state, and do not begin")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the full recipe, check it and its maps, and leave"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, or print the recipe."""
    from higan.adversarial.interruption import stoppable

    with stoppable():
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    from higan.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    if arguments.data is not None:
        data = recipe.data.model_copy(update={"source": str(arguments.data), "simulate": None})
        recipe = recipe.model_copy(update={"data": data})
    if arguments.dry_run:
        print(json.dumps(recipe.model_dump(mode="json"), indent=2))
        return _check(recipe)
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


def _check(recipe: Recipe) -> None:
    """Refuse what a training would refuse before its first step; maps that it would simulate are not there to see."""
    from higan.adversarial.preparation import find_initial, select, simulation_of, to_simulate
    from higan.sources import open_source

    missing = to_simulate(recipe)
    if missing is None:
        select(open_source(recipe.data.source), recipe)
    else:
        target, how = missing
        simulation_of(how)
        print(f"{target} would be simulated first: its fields were not checked", file=sys.stderr)
    if recipe.training.initial is not None:
        find_initial(Path(recipe.training.initial))
