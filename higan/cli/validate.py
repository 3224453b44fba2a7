"""``higan validate``: a checkpoint, or maps it made, beside the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higan.emulator import Emulator
    from higan.mapset import MapSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("model", help="a checkpoint (a folder or a shipped name), or a generated map set")
    parser.add_argument("truth", type=Path, metavar="TRUTH.h5", help="the map set to compare with")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that ``validate`` and ``compare`` share."""
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for report, metrics, figures")
    parser.add_argument("--seed", type=int, default=1, help="of noise and bootstrap (default 1)")
    parser.add_argument("--realisations", type=int, default=1, metavar="R", help="a checkpoint draws of each map (1)")
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test", "all"),
        help="simulations of the truth to compare, where it says which is which (default test)",
    )
    parser.add_argument("--field", help="to compare, where a generated map set holds several")
    parser.add_argument("--baseline-checkpoint", metavar="CHECKPOINT", help="the network trained for the mean")
    parser.add_argument("--baselines", type=Path, metavar="BASELINES.h5", help="fitted baselines (default: found)")
    parser.add_argument(
        "--baseline-field",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field of the truth that is a model of the one compared; may be repeated",
    )
    parser.add_argument(
        "--training",
        type=Path,
        metavar="MAPSET.h5",
        help="the maps it was trained on, to see whether it memorised them (default: those in TRUTH.h5, if any)",
    )
    parser.add_argument(
        "--classifier", action="store_true", help="train a classifier to tell generated maps from true ones (minutes)"
    )
    parser.add_argument(
        "--ring-test", action="store_true", help="bias of the shear measured on true and generated galaxies, by GalSim"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in the folder")


def run(arguments: argparse.Namespace) -> None:
    """Compare one model."""
    assess([arguments.model], arguments)


def assess(models: list[str], arguments: argparse.Namespace) -> None:
    """Check, compare, write the report, print the table."""
    from higan.mapset import MapSet
    from higan.validation.assessment import BASELINES, compare_models, model_name
    from higan.validation.report import check_folder

    check_folder(arguments.output, arguments.overwrite)
    truth = MapSet.open(arguments.truth)
    named: dict[str, Emulator | MapSet] = {}
    baselines = arguments.baselines
    for text in models:
        model, folder = _open(text)
        if baselines is None and folder is not None and (folder / BASELINES).is_file():
            baselines = folder / BASELINES
        name = model_name(model)
        if name in named:
            name = f"{name} ({Path(text).name})" if f"{name} ({Path(text).name})" not in named else f"{name} ({text})"
        named[name] = model
    mean: Any = None if arguments.baseline_checkpoint is None else _open(arguments.baseline_checkpoint)[0]
    comparison = compare_models(
        named,
        truth,
        arguments.output,
        seed=arguments.seed,
        realisations=arguments.realisations,
        baselines=baselines,
        mean_emulator=mean,
        field=arguments.field,
        split=arguments.split,
        baseline_fields=arguments.baseline_field,
        training=None if arguments.training is None else MapSet.open(arguments.training),
        classifier=arguments.classifier,
        ring_test=arguments.ring_test,
        overwrite=arguments.overwrite,
    )
    comparison.show()
    print(f"look at {arguments.output / 'report.html'}")


def _open(text: str) -> tuple[Emulator | MapSet, Path | None]:
    """A generated map set where `text` is a file, else a checkpoint and its folder."""
    from higan.mapset import MapSet

    if Path(text).is_file() or Path(text).suffix in (".h5", ".hdf5"):
        return MapSet.open(text), None
    from higan.checkpoint import find_checkpoint

    folder = find_checkpoint(text)

    from higan.cli.backend import import_backend

    import_backend()
    from higan.emulator import load

    return load(folder), folder
