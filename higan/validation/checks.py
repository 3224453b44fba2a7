"""What is asked of a model once, beside the statistics: are ranks uniform, parameters recovered, maps memorised?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from higan.mapset import MapSet
from higan.morphology import shapes
from higan.progress import progress
from higan.scaling import Scaling, fit
from higan.split import training_rows
from higan.validation.calibration import Calibration, uniformity
from higan.validation.comparison import check_maps
from higan.validation.galaxy_shapes import EDGES, GalaxyShapes
from higan.validation.models import Model
from higan.validation.neighbours import SYMMETRIES, memorisation
from higan.validation.recovery import FEWEST, recoveries
from higan.validation.results import Comparison, plain

FEWEST_GALAXIES = 30
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
        For each model, each where it can be made: "ranks" (:func:`higan.validation.calibration.uniformity`: p-values of
        each quantity ranked, corrected for their number), "relations" (of galaxies, :func:`relations`),
        "recovery" (:func:`higan.validation.recovery.recovery`: for each parameter the bias in sigma, the ratio of
        errors and their errors), of a field that spans decades "recovery_log", by its logarithm, too, and
        "memorisation" (:func:`higan.validation.neighbours.memorisation`: p-values, and the median distances to the
        nearest training map).

    Examples
    --------
    >>> check_models(comparison, models, truth, rows, training)["eor21cm-2d"]["ranks"]  # doctest: +SKIP
    {'p (Holm) of P, k = 0.12/Mpc': 0.21, …}
    """
    field = comparison.setting.field
    galaxies = GalaxyShapes(comparison.setting).stamps and len(rows) >= FEWEST_GALAXIES
    judged = {name: model for name, model in models.items() if not model.baseline}
    found: dict[str, dict[str, Any]] = {name: {} for name in judged}
    train_rows = np.empty(0, dtype=np.int64) if training is None else training_rows(training)
    steps = 3 if len(train_rows) else 1
    with progress("checking ranks, recovery and memorisation", steps, unit="steps") as advance:
        for name, checks in found.items():
            result = comparison.models[name]
            if result.model.realisations > 1 and len(comparison.simulations) > 1:
                p = uniformity(result.by_simulation["rank_histograms"], seed=seed)
                quantities = Calibration(comparison.setting).quantities
                checks["ranks"] = {f"p (Holm) of {q}": float(x) for q, x in zip(quantities, p, strict=True)}
            if galaxies and truth.parameter_names:
                checks["relations"] = relations(judged[name], truth, rows, field)
        advance()
        if training is not None and len(train_rows):
            kinds: dict[str, float | None] = {"recovery": None}
            if comparison.setting.logarithmic:
                kinds["recovery_log"] = comparison.setting.edges[0]
            for name, recovered in _recovery(judged, truth, rows, training, train_rows, field, kinds, seed).items():
                found[name] |= recovered
            advance()
            most = max(1, TRAINING_CELLS // int(np.prod(training.shape)))
            known = training.read(field, train_rows[:: -(-len(train_rows) // most)])
            # Linearly scaled, a field that spans decades would be its brightest cell.
            scaling = fit("log", [known]) if comparison.setting.logarithmic else None
            for name, values in _memorisation(judged, truth, rows, known, field, scaling).items():
                found[name]["memorisation"] = values
            advance()
    return plain(found)


def relations(model: Model, truth: MapSet, rows: np.ndarray, field: str) -> dict[str, dict[str, float]]:
    """How shapes of galaxies depend on their parameters: slopes of linear regressions on all parameters together.

    Parameters
    ----------
    model : Model
    truth : MapSet
        Of stamps.
    rows : array of int
    field : str

    Returns
    -------
    dict of str to dict
        For each shape and parameter the slope among "true" and "generated" galaxies and the "error" of their
        difference, in standard deviations of true shapes for one of the parameter. Shapes that cannot be measured are
        left out.

    Examples
    --------
    >>> relations(model, truth, rows, "image")["concentration against zphot"]  # doctest: +SKIP
    {'true': -0.11, 'generated': -0.09, 'error': 0.03}
    """
    theta = truth.parameters[truth.simulation[rows]]
    varied = np.ptp(theta, axis=0) > 0
    names = [name for name, varies in zip(truth.parameter_names, varied, strict=True) if varies]
    design = (theta[:, varied] - theta[:, varied].mean(axis=0)) / theta[:, varied].std(axis=0)
    true = truth.read(field, rows)
    painted = check_maps(model.maps(rows), true.shape, "the model", rows)[:, :1]
    measured = [shapes(true[:, None]), shapes(painted)]
    found = {}
    for shape in (name for name in EDGES if name != "flux_radius"):
        values = [np.ravel(kind[shape]) for kind in measured]
        known = np.isfinite(values).all(axis=0)
        if known.sum() < FEWEST_GALAXIES or not values[0][known].std():
            continue
        x = np.column_stack([np.ones(known.sum()), design[known]])
        unit, inverse = values[0][known].std(), np.linalg.pinv(x.T @ x)
        slopes, errors = [], []
        for kind in values:
            y = kind[known] / unit
            slopes.append(inverse @ x.T @ y)
            errors.append(np.sqrt(np.mean((y - x @ slopes[-1]) ** 2) * np.diag(inverse)))
        for i, name in enumerate(names, start=1):
            found[f"{shape} against {name}"] = {
                "true": float(slopes[0][i]),
                "generated": float(slopes[1][i]),
                "error": float(np.hypot(errors[0][i], errors[1][i])),
            }
    return found


def figure(comparison: Comparison, path: Path) -> str | None:
    """Bias of recovered parameters, and distances to the nearest training map; returns the caption, if there is any.

    Examples
    --------
    >>> figure(comparison, Path("checks.png"))  # doctest: +SKIP
    """
    import matplotlib
    from matplotlib.figure import Figure

    from higan.validation import plots

    recovered = {"recovery": "", "recovery_log": ", by the logarithm"}
    drawn = [part for part in (*recovered, "memorisation") if any(part in c for c in comparison.checks.values())]
    if not drawn:
        return None
    with matplotlib.rc_context(plots.STYLE):
        canvas = Figure(figsize=(4.2 * len(drawn) + 0.6, 3.2), dpi=plots.DPI)
        panels: Any = dict(zip(drawn, np.atleast_1d(canvas.subplots(1, len(drawn))), strict=True))
        for i, (name, checks) in enumerate(comparison.checks.items()):
            colour = plots.COLOURS[i % len(plots.COLOURS)]
            for part in (part for part in recovered if part in checks):
                found = checks[part]
                bias, error = ([values[key] for values in found.values()] for key in ("bias [sigma]", "its error"))
                places = np.arange(len(found)) + 0.15 * i
                panels[part].errorbar(bias, places, xerr=error, fmt="o", color=colour, label=name)
                panels[part].set_yticks(np.arange(len(found)), list(found))
            if "memorisation" in checks:
                for kind, style in (("true", {"color": plots.TRUTH, "lw": 2.2}), ("generated", {"color": colour})):
                    deciles = checks["memorisation"][f"deciles of the distance, {kind}"]
                    label = name if kind == "generated" else "truth" if i == 0 else None
                    panels["memorisation"].plot(deciles, np.linspace(0, 1, len(deciles)), label=label, **style)
        captions = []
        for part, how in recovered.items():
            if part in panels:
                panels[part].axvline(0, color=plots.TRUTH, lw=1)
                panels[part].set_xlabel(f"bias of recovered parameters{how} [σ]")
        if "recovery" in panels:
            captions.append(
                "Parameters that a regression on true statistics recovers from generated maps, less those it recovers "
                "from true ones, in units of the latter's scatter"
            )
        if "memorisation" in panels:
            panels["memorisation"].set_xlabel("distance to the nearest training map")
            panels["memorisation"].set_ylabel("share of maps that are nearer")
            captions.append("Share of maps whose nearest training map is nearer than a distance: to the left is copied")
        for axes in panels.values():
            axes.legend()
        plots.save(canvas, path)
    return ". ".join(captions) + "."


def _deciles(distances: np.ndarray) -> list[float]:
    return [float(x) for x in np.quantile(distances, np.linspace(0, 1, 11))]


def _recovery(
    models: Mapping[str, Model],
    truth: MapSet,
    rows: np.ndarray,
    training: MapSet,
    train_rows: np.ndarray,
    field: str,
    kinds: Mapping[str, float | None],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Of each model, by `kinds`, which say of what logarithm, if any."""
    parameters = training.parameters[np.unique(training.simulation[train_rows])]
    if len(parameters) < FEWEST or not np.ptp(parameters, axis=0).any():
        return {}
    lowest = list(kinds.values())
    results = recoveries(training, truth, models, field, lowest, train_rows=train_rows, rows=rows, seed=seed)
    return {
        name: {
            kind: {
                parameter: {
                    "bias [sigma]": result.bias[name][i],
                    "its error": result.bias_error[name][i],
                    "error / that of truth": result.error_ratio[name][i],
                    "error of the ratio": result.error_ratio_error[name][i],
                }
                for i, parameter in enumerate(result.parameters)
            }
            for kind, result in zip(kinds, results, strict=True)
        }
        for name in models
    }


def _memorisation(
    models: Mapping[str, Model],
    truth: MapSet,
    rows: np.ndarray,
    known: np.ndarray,
    field: str,
    scaling: Scaling | None,
) -> dict[str, dict[str, Any]]:
    """Beside the training maps `known`."""
    # One map a simulation: maps of one are not independent.
    first = rows[np.unique(truth.simulation[rows], return_index=True)[1]]
    true = truth.read(field, first)
    symmetries = SYMMETRIES if truth.geometry.periodic else SYMMETRIES[1:]
    found = {}
    for name, model in models.items():
        painted = check_maps(model.maps(first), true.shape, name, first)[:, 0]
        copies = memorisation(painted, true, known, scaling=scaling, symmetries=symmetries)
        found[name] = {
            "p, generated maps no nearer to training maps": copies.p_value,
            "generated maps nearer than any true one": copies.closer,
            "p of so many": copies.p_closer,
            "median distance, generated": float(np.median(copies.generated)),
            "median distance, true": float(np.median(copies.truth)),
            "maps": len(first),
            "training maps": len(known),
            "deciles of the distance, generated": _deciles(copies.generated),
            "deciles of the distance, true": _deciles(copies.truth),
        }
    return found
