"""Put a trained checkpoint among the shipped ones, with its test figures on the card.

    higan validate runs/eor21cm-2d/checkpoint data/eor21cm-slabs.h5 --realisations 32 --output report
    python training/ship.py runs/eor21cm-2d/checkpoint report/metrics.json

and again for the checkpoint that was given as --baseline-checkpoint.

The weights are copied as they are; the card takes the headline numbers of the test simulations, each with its error.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from higan.checkpoint import CARD, card_json, load_card

SHIPPED = Path(__file__).parent.parent / "checkpoints"


def main(source: str, *metrics: str) -> None:
    """Ship the checkpoint folder `source`; `metrics` are metrics.json files of ``higan validate``."""
    card = load_card(Path(source))
    found = dict(card.metrics)
    for path in metrics:
        report = json.loads(Path(path).read_text())
        # By the weights: names may be those of an older checkpoint, or of a role ("mean network").
        models = [m for m in report["models"].values() if m["facts"].get("weights sha256") == card.weights_sha256]
        if not models:
            raise SystemExit(f"{path} is of other weights than {source}: validate that checkpoint.")
        model = models[0]
        found["test"] = {
            "maps": report["maps"],
            "simulations": len(report["simulations"]),
            "realisations": model["realisations"],
            **{name: {"value": n["value"], "error": n["error"]} for name, n in model["numbers"].items()},
        }
    folder = SHIPPED / card.name
    if not folder.exists() or not folder.samefile(source):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
    (folder / CARD).write_text(card_json(card.model_copy(update={"metrics": found})))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {size:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
