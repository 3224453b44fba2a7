"""Put a trained checkpoint among the shipped ones, and its test figures on its card.

    python training/ship.py runs/eor21cm-2d/checkpoint
    higan validate eor21cm-2d data/eor21cm-slabs.h5 --realisations 32 --output report
    python training/ship.py checkpoints/eor21cm-2d report/metrics.json

and the last again for the checkpoint that was given as --baseline-checkpoint.

Weights are shipped in half precision, half the bytes; what is validated is what is shipped. The card takes the headline
numbers of the test simulations, each with its error; the report's page, which has the curves, lies beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

from higan.checkpoint import CARD, WEIGHTS, card_json, load_card, save_checkpoint
from higan.validation.report import REPORT

SHIPPED = Path(__file__).parent.parent / "checkpoints"


def main(source: str, *metrics: str) -> None:
    """Ship the checkpoint folder `source`; `metrics`, files of ``higan validate``, are of a shipped one."""
    card = load_card(Path(source))
    folder = SHIPPED / card.name
    if not folder.exists() or not folder.samefile(source):
        card = save_checkpoint(folder, card, _halved(Path(source) / WEIGHTS), overwrite=True)
        (folder / REPORT).unlink(missing_ok=True)  # of the weights that were there before
        for other in Path(source).iterdir():
            if other.name not in (CARD, WEIGHTS):
                shutil.copy(other, folder)
    found = dict(card.metrics)
    for path in metrics:
        report = json.loads(Path(path).read_text())
        # By the weights: names may be those of an older checkpoint, or of a role ("mean network").
        models = [m for m in report["models"].values() if m["facts"].get("weights sha256") == card.weights_sha256]
        if not models:
            raise SystemExit(f"{path} is of other weights than {folder}: validate what is shipped.")
        model = models[0]
        found["test"] = {
            "maps": report["maps"],
            "simulations": len(report["simulations"]),
            "realisations": model["realisations"],
            **{name: {"value": n["value"], "error": n["error"]} for name, n in model["numbers"].items()},
        }
        if not model["baseline"]:
            shutil.copy(Path(path).with_name(REPORT), folder)
    (folder / CARD).write_text(card_json(card.model_copy(update={"metrics": found})))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {size:.1f} MB")


def _halved(path: Path) -> dict[str, np.ndarray]:
    """The weights of an HDF5 file, by name, in half precision."""
    weights: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: weights.update(
                {name: item[()].astype(np.float16)} if isinstance(item, h5py.Dataset) else {}
            )
        )
    if not all(np.isfinite(values).all() for values in weights.values()):
        raise SystemExit(f"{path} holds weights beyond what half precision can hold (65504).")
    return weights


if __name__ == "__main__":
    main(*sys.argv[1:])
