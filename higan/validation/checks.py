"""What is asked of a model once, beside the statistics: are ranks uniform, parameters recovered, maps memorised?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from higan.mapset import MapSet
from higan.progress import progress
from higan.scaling import fit
from higan.validation.calibration import uniformity
from higan.validation.models import Model
from higan.validation.neighbours import SYMMETRIES, memorisation
from higan.validation.recovery import FEWEST, recovery
from higan.validation.results import Comparison, plain
from higan.validation.statistic import Setting

TRAINING_CELLS = 1 << 28  # 1 GB of training maps to look for copies in


def check_models(
    comparison: Comparison,
    models: Mapping[str, Model],
    truth: MapSet,
    rows: np.ndarray,
    training: MapSet | None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Checks of every model that is no baseline, as numbers with the words a report has for them.

    Parameters
    ----------
    comparison : Comparison
        Of `models` with the maps `rows` of `truth`.
    models : mapping of str to Model
        Recovery and memorisation take what they paint in a single realisation.
    truth : MapSet
    rows : array of int
    training : MapSet, optional
        The maps that the models were trained on, those of its split "train" where it has one: for recovery and
        memorisation.
    seed : int
        Of the bootstraps.

    Returns
    -------
    dict of str to dict
        For each model, each where it can be made: "ranks" (:func:`higan.validation.calibration.uniformity`: p-values),
        "recovery" (:func:`higan.validation.recovery.recovery`: for each parameter the bias in sigma, the ratio of
        errors and their errors) and "memorisation" (:func:`higan.validation.neighbours.memorisation`: p-values, and the
        median distances to the nearest training map).

    Examples
    --------
    >>> check_models(comparison, models, truth, rows, training)["eor21cm-2d"]["ranks"]  # doctest: +SKIP
    {'smallest p, Holm-corrected': 0.21, 'quantities': 8}
    """
    found = {}
    train_rows = np.empty(0, dtype=np.int64) if training is None else _train_rows(training)
    judged = [name for name, model in models.items() if not model.baseline]
    with progress("checking ranks, recovery and memorisation", len(judged), unit="models") as advance:
        for name in judged:
            checks: dict[str, Any] = {}
            histograms = comparison.models[name].by_simulation["rank_histograms"]
            if comparison.models[name].model.realisations > 1 and len(comparison.simulations) > 1:
                p = uniformity(histograms, seed=seed)
                checks["ranks"] = {"smallest p, Holm-corrected": float(np.min(p)), "quantities": len(p)}
            if training is not None and len(train_rows):
                checks |= _against_training(
                    name, models[name], truth, rows, training, train_rows, comparison.setting, seed
                )
            found[name] = plain(checks)
            advance()
    return found


def _against_training(
    name: str,
    model: Model,
    truth: MapSet,
    rows: np.ndarray,
    training: MapSet,
    train_rows: np.ndarray,
    setting: Setting,
    seed: int,
) -> dict[str, Any]:
    field, logarithmic = setting.field, setting.logarithmic
    checks: dict[str, Any] = {}
    parameters = training.parameters[np.unique(training.simulation[train_rows])]
    if len(parameters) >= FEWEST and np.ptp(parameters, axis=0).any():
        result = recovery(training, truth, {name: model}, field, train_rows=train_rows, rows=rows, seed=seed)
        checks["recovery"] = {
            parameter: {
                "bias [sigma]": result.bias[name][i],
                "its error": result.bias_error[name][i],
                "error / that of truth": result.error_ratio[name][i],
                "error of the ratio": result.error_ratio_error[name][i],
            }
            for i, parameter in enumerate(result.parameters)
        }
    # One map a simulation: maps of one are not independent.
    first = rows[np.unique(truth.simulation[rows], return_index=True)[1]]
    most = max(1, TRAINING_CELLS // int(np.prod(training.shape)))
    known = training.read(field, train_rows[:: -(-len(train_rows) // most)])
    symmetries = SYMMETRIES if training.geometry.periodic else SYMMETRIES[1:]
    painted = np.asarray(model.maps(first)).reshape(len(first), -1, *truth.shape)[:, 0]
    # Linearly scaled, a field that spans decades would be its brightest cell.
    scaling = fit("log", [known]) if logarithmic else None
    copies = memorisation(painted, truth.read(field, first), known, scaling=scaling, symmetries=symmetries)
    checks["memorisation"] = {
        "p, generated maps no nearer to training maps": copies.p_value,
        "generated maps nearer than any true one": copies.closer,
        "p of so many": copies.p_closer,
        "median distance, generated": float(np.median(copies.generated)),
        "median distance, true": float(np.median(copies.truth)),
        "maps": len(first),
        "training maps": len(known),
    }
    return checks


def _train_rows(training: MapSet) -> np.ndarray:
    labels = training.extra.get("split")
    return np.arange(len(training)) if labels is None else np.flatnonzero(labels[training.simulation] == "train")
