"""Scalings of a field that spans nine decades, side by side: the same small training with each.

    python benchmarks/scalings.py --data data/hi-z5-slabs.h5      # about a quarter of an hour on two cores

Everything but the scaling of hi_density is the same: generator, seed, batches, and the CRPS of cells in scaled space
alone, with no adversary and no loss on power, so that it is the scaling that is judged. What is judged has nothing to
do with any of them: shares of cells decade by decade, and power spectra of the physical field and of its logarithm.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from higan.adversarial import loop
from higan.emulator import load
from higan.errors import TrainingError
from higan.mapset import MapSet
from higan.recipe import validate_recipe
from higan.validation.comparison import compare
from higan.validation.models import from_emulator

FIELD = "hi_density"
DECADES = np.logspace(4, 12, 9)


CONTENDERS: dict[str, dict[str, Any]] = {
    "linear": {"name": "linear"},
    "asinh, linear below 1e7": {"name": "asinh", "softening": 1e7},
    "asinh, linear below 1e5": {"name": "asinh", "softening": 1e5},
    "log, floor 1e5": {"name": "log", "floor": 1e5},
    "log": {"name": "log"},
    "Yeo-Johnson, power -0.1": {"name": "yeo-johnson", "softening": 1e5, "power": -0.1},
}


def measure(recipe: dict[str, Any], options: dict[str, Any], maps: MapSet) -> dict[str, float]:
    """Train with a scaling, and compare with maps of the validation simulations."""
    recipe = {**recipe, "scaling": {**recipe["scaling"], FIELD: {"lower": 0.0, "upper": 1e13, **options}}}
    rows = maps.rows_of(np.flatnonzero(maps.extra["split"] == "validation"))[::4]
    with tempfile.TemporaryDirectory() as folder:
        emulator = load(loop.train(validate_recipe(recipe), Path(folder, "run"), maps=maps))
    model = from_emulator(emulator, maps, seed=1)
    found = compare(maps, {"generated": model}, FIELD, rows=rows, seed=1, resamples=2).models["generated"].numbers
    painted = np.concatenate([model.maps(part) for part in np.array_split(rows, -(-len(rows) // 16))])
    true, generated = (np.histogram(values, DECADES)[0] for values in (maps.read(FIELD, rows), painted))
    names = ("D", "mean_abs_R_minus_1_log", "mean_abs_R_minus_1")
    return {
        "worst decade": float(np.abs(generated / true - 1).max()),
        **{name: float(found[name][0]) for name in names},
    }


def main() -> None:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/hi-z5-slabs.h5")
    parser.add_argument("--maps", type=int, default=2000, help="crops to train on with each")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    recipe = tomllib.loads(Path(__file__).parents[1].joinpath("training/hi-z5-2d.toml").read_text())
    recipe["objective"] = {"name": "none", "pixel": "crps", "pixel_weight": 1.0}
    training = {"maps": arguments.maps, "batch_size": 8, "crop": 64, "context": 8, "learning_rate": 5e-4}
    training |= {
        "warmup_maps": 200,
        "average_half_life": 200,
        "tick_maps": arguments.maps,
        "precision": "mixed_bfloat16",
    }
    recipe |= {
        "training": training,
        "tracking": {"wandb": "off"},
        "validation": {"maps_per_simulation": 1, "select": "last"},
    }
    maps, results = MapSet.open(arguments.data), {}
    for name, options in CONTENDERS.items():
        try:
            results[name] = measure(recipe, options, maps)
        except TrainingError as error:
            results[name] = {"failed": str(error)}
        print(name, {key: value if isinstance(value, str) else round(value, 3) for key, value in results[name].items()})
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
