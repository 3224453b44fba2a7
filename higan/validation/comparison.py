"""Compare models with the truth, statistic by statistic, streaming over the maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import MASKED, UNSEEN, MapSet
from higan.progress import progress
from higan.validation.bootstrap import bootstrap
from higan.validation.models import Model
from higan.validation.one_point import default_edges, spans_decades
from higan.validation.results import Comparison, ModelResult
from higan.validation.statistic import LEVELS, Setting, Statistic, statistics

BATCH_CELLS = 1 << 21  # painted at a time: 8 MB of float32, a few times that while spectra are taken
LEVEL_CELLS = 1 << 21  # that the levels of excursion sets are quantiles of
FAINT = 0.05  # mean neutral fraction below which the power of a simulation vanishes
EXAMPLES, STAMPS = 3, 48  # maps that figures show; stamps of single galaxies
RESAMPLES = 500


def compare(
    truth: MapSet,
    models: Mapping[str, Model | Callable[[np.ndarray], Any]],
    field: str,
    *,
    rows: Any = None,
    input: str | None = None,
    edges: Any = None,
    bright: Any = None,
    window: str | None = "auto",
    large_scale_k: float = 0.3,
    seed: int = 0,
    resamples: int | None = None,
) -> Comparison:
    """Compare models with the truth in every registered statistic, with errors by bootstrap over simulations.

    Maps stream through: memory holds a batch, and sums a simulation.

    Parameters
    ----------
    truth : MapSet
    models : mapping of str to Model or callable
        A callable takes rows (n,) of the truth and returns (n, *shape) or (n, realisations, *shape), in the units of
        `field`; see :mod:`higan.validation.models`.
    field : str
        The field of the truth to compare with.
    rows : array_like of int, optional
        Rows of the truth to compare; all of them where not given.
    input : str, optional
        A field to show beside example maps.
    edges : array_like, optional
        Of the one-point distribution, in units of the field; see :func:`higan.validation.one_point.default_edges`.
    bright : array_like of bool, shape (n_sim,), optional
        Which simulations of /parameters enter R_s and r_s. Where not given: those with a mean neutral fraction above
        0.05 if the truth has the field neutral_fraction, else all.
    window : str or None
        "auto" is none for periodic maps and "hann" for others.
    large_scale_k : float
        Correlations are averaged up to this k, in 1 / length unit.
    seed, resamples : int
        Of the bootstrap; 500 resamples where not given.

    Raises
    ------
    MapSetError
        If the field is missing, the maps are not flat ones of one channel, or a model's maps have another shape or are
        not finite.

    Examples
    --------
    >>> from higan.mapset import Field, Geometry
    >>> values = np.random.default_rng(1).normal(size=(4, 16, 16)).astype("float32")
    >>> geometry = Geometry(ndim=2, box_size=32.0)
    >>> truth = MapSet({"T": Field(values, "mK")}, np.zeros((2, 0)), [], [0, 0, 1, 1], geometry)
    >>> comparison = compare(truth, {"twice": lambda rows: 2 * truth.read("T", rows)}, "T", resamples=10)
    >>> round(comparison.value("twice", "mean_abs_R_minus_1")[0], 3)
    3.0
    """
    rows = np.arange(len(truth)) if rows is None else np.asarray(rows, dtype=np.int64)
    check_truth(truth, field, rows)
    resamples = RESAMPLES if resamples is None else resamples
    entries = {name: model if isinstance(model, Model) else Model(model) for name, model in models.items()}
    if not entries:
        raise MapSetError("There is nothing to compare with the truth. Give a model.")
    simulations, index = np.unique(truth.simulation[rows], return_inverse=True)
    seen = _seen(truth, field, rows)
    low, high, deviation, means = _scan(truth, field, rows, index, seen)
    _, group = np.unique(truth.parameters[simulations], axis=0, return_inverse=True)
    if bright is not None:
        bright = np.asarray(bright, dtype=bool)[simulations]
    elif "neutral_fraction" in truth.fields:
        bright = _scan(truth, "neutral_fraction", rows, index, seen)[3] > FAINT
    else:
        bright = np.ones(len(simulations), dtype=bool)
    if window == "auto":
        window = truth.geometry.window
    units = truth.field(field).units
    setting = Setting(
        shape=truth.shape,
        cell_size=truth.cell_size,
        field=field,
        units=units,
        length_units=truth.geometry.length_units,
        window=window,
        edges=default_edges(low, high, deviation, units) if edges is None else np.asarray(edges, dtype=np.float64),
        logarithmic=spans_decades(low, high),
        levels=_levels(truth, field, rows, seen),
        thickness=truth.geometry.thickness,
        redshift=truth.geometry.redshift,
        large_scale_k=large_scale_k,
        kind=truth.geometry.kind,
        seen=seen,
    )
    families = [cls(setting) for cls in statistics(setting.kind)]
    counts = np.bincount(index, minlength=len(bright))
    known = {"maps": counts, "bright": bright, "group": group.reshape(-1)}
    common = {name: sums | known for name, sums in _measure_truth(families, truth, field, rows, index).items()}
    shown = _examples(rows, index, means, bright, STAMPS if setting.kind == "image" else EXAMPLES)
    examples = {"truth": truth.read(field, shown), "simulation": truth.simulation[shown]}
    if input is not None and input in truth.fields:
        examples["input"] = truth.read(input, shown)
    ordered = sorted(entries.items(), key=lambda item: item[1].baseline)
    results = {
        name: _evaluate(name, model, truth, rows, index, families, common, shown, seed, resamples)
        for name, model in ordered
    }
    from higan.checkpoint import library_versions

    return Comparison(
        setting=setting,
        models=results,
        simulations=simulations,
        bright=bright,
        maps=len(rows),
        seed=seed,
        resamples=resamples,
        examples=examples,
        truth=_truth_facts(truth, input),
        versions=library_versions(),
    )


def _measure_truth(
    families: Sequence[Statistic], truth: MapSet, field: str, rows: np.ndarray, index: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Sums over the maps of each simulation of what every statistic takes of true maps alone."""
    sums: dict[str, dict[str, np.ndarray]] = {family.name: {} for family in families}
    size = max(1, BATCH_CELLS // int(np.prod(truth.shape)))
    with progress("measuring the truth", len(rows)) as advance:
        for start in range(0, len(rows), size):
            true = truth.read(field, rows[start : start + size])
            for family in families:
                measured = family.measure_truth(_for(family, true, truth))
                _add(sums[family.name], measured, index[start : start + size], int(index.max()) + 1)
            advance(len(true))
    return sums


def _evaluate(
    name: str,
    model: Model,
    truth: MapSet,
    rows: np.ndarray,
    index: np.ndarray,
    families: Sequence[Statistic],
    common: Mapping[str, Mapping[str, np.ndarray]],
    shown: np.ndarray,
    seed: int,
    resamples: int,
) -> ModelResult:
    """Of one model; `common` holds, for every statistic, the sums that are the same for all models."""
    setting, n = families[0].setting, int(index.max()) + 1
    sums: dict[str, dict[str, np.ndarray]] = {family.name: {} for family in families}
    examples: dict[int, np.ndarray] = {}
    size = max(1, BATCH_CELLS // (int(np.prod(setting.shape)) * model.realisations))
    with progress(f"comparing {name}", len(rows)) as advance:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            true = truth.read(setting.field, batch)
            generated = check_maps(model.maps(batch), true.shape, name, batch)
            if setting.seen is not None and (generated[..., setting.seen] <= MASKED).any():
                raise MapSetError(f"{name} masks pixels that {truth.name} does not. Compare maps of one mask.")
            examples.update({int(row): generated[i, 0] for i, row in enumerate(batch) if row in shown})
            for family in families:
                measured = family.measure(_for(family, true, truth), _for(family, generated, truth))
                _add(sums[family.name], measured, index[start : start + size], n)
            advance(len(batch))
    for family in families:
        sums[family.name] |= common[family.name]

    def evaluate(chosen: np.ndarray | slice) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for family in families:
            values |= family.evaluate({key: value[chosen] for key, value in sums[family.name].items()})
        return values

    def with_differences(chosen: np.ndarray) -> dict[str, Any]:
        values = evaluate(chosen)
        return values | {less_truth(key): values[key] - values[f"{key}_truth"] for key in paired}

    def less_truth(key: str) -> str:
        return f"{key} less truth"

    values = evaluate(slice(None))
    paired = [key for key in values if f"{key}_truth" in values]
    errors = bootstrap(with_differences, n, seed=seed, resamples=resamples)
    by_simulation: dict[str, np.ndarray] = {}
    for family in families:
        by_simulation |= family.by_simulation(sums[family.name])
    numbers = [key for family in families for key in family.numbers]
    curves = [key for family in families for key in family.curves]
    return ModelResult(
        {key: (float(values[key]), float(errors[key])) for key in numbers},
        {key: values[key] for key in curves},
        {key: errors[key] for key in curves if key not in ("k", "edges")},
        {key: errors[less_truth(key)] for key in paired},
        by_simulation,
        np.stack([examples[int(row)] for row in shown]),
        model,
    )


def _add(sums: dict[str, np.ndarray], values: Mapping[str, np.ndarray], index: np.ndarray, n: int) -> None:
    for key, value in values.items():
        if key not in sums:
            sums[key] = np.zeros((n, *value.shape[1:]))
        np.add.at(sums[key], index, value)


def check_maps(maps: Any, shape: tuple[int, ...], name: str, rows: np.ndarray) -> np.ndarray:
    """A model's maps of `rows` as (n, realisations, *shape); MapSetError where they are not of true maps' `shape`."""
    maps = np.asarray(maps, dtype=np.float32)
    if maps.ndim == len(shape):
        maps = maps[:, None]
    if maps.ndim != len(shape) + 1 or maps.shape[:1] + maps.shape[2:] != shape:
        raise MapSetError(
            f"{name} gives maps of shape {maps.shape} for {len(rows)} true maps of {shape[1:]}. "
            "It needs (n, *shape) or (n, realisations, *shape)."
        )
    finite = np.isfinite(maps).reshape(len(maps), -1).all(axis=1)
    if not finite.all():
        raise MapSetError(
            f"{name} gives NaN or infinite values for map {int(rows[~finite][0])} of the truth (counted from 0). "
            "Such a map cannot be compared."
        )
    return maps


def check_truth(truth: MapSet, field: str, rows: np.ndarray) -> None:
    """Refuse maps of several channels, skies of unknown ordering, and rows that there are not."""
    if truth.geometry.kind == "healpix" and truth.geometry.ordering not in ("RING", "NESTED"):
        raise MapSetError(
            f"{truth.name} holds maps of the sky in an ordering that it does not say. Give RING or NESTED."
        )
    shape = truth.field(field).shape
    if len(shape) != truth.geometry.ndim:
        raise MapSetError(
            f"{truth.name}: field {field!r} has maps of shape {shape}, but {truth.geometry.ndim} dimensions. "
            "Compare one channel at a time."
        )
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(truth):
        raise MapSetError(f"{truth.name} has {len(truth)} maps; none, or others than these, are to be compared.")


def _for(family: Statistic, maps: np.ndarray, truth: MapSet) -> np.ndarray:
    """What a statistic takes of maps (…, *shape): of a sky, its pixels in RING order, or those that are not masked."""
    seen = family.setting.seen
    if seen is None:
        return maps
    if family.sphere == "pixels":
        return maps[..., seen]
    maps = np.where(seen, maps, np.float32(UNSEEN))
    if truth.geometry.ordering == "RING":
        return maps
    import healpy

    return maps[..., healpy.ring2nest(healpy.npix2nside(len(seen)), np.arange(len(seen)))]


def _seen(truth: MapSet, field: str, rows: np.ndarray) -> np.ndarray | None:
    """Pixels of a sky that no map of `rows` masks; ``None`` for flat maps."""
    if truth.geometry.kind != "healpix":
        return None
    seen = np.ones(truth.shape, dtype=bool)
    for row in rows:
        seen &= truth.read(field, [row])[0] > MASKED
    if not seen.any():
        raise MapSetError(f"{truth.name}: there is no pixel that none of the maps masks. Compare fewer maps.")
    return seen


def _scan(
    truth: MapSet, field: str, rows: np.ndarray, index: np.ndarray, seen: np.ndarray | None
) -> tuple[float, float, float, np.ndarray]:
    """Lowest and highest value, standard deviation, and mean a simulation of a field."""
    low, high, total, squares, done = np.inf, -np.inf, 0.0, 0.0, 0
    sums = np.zeros(int(index.max()) + 1)
    size = max(1, BATCH_CELLS // int(np.prod(truth.shape)))
    for batch in truth.batches(field, rows, size):
        cells = (batch if seen is None else batch[:, seen]).reshape(len(batch), -1).astype(np.float64)
        low, high = min(low, cells.min()), max(high, cells.max())
        total, squares = total + cells.sum(), squares + (cells**2).sum()
        np.add.at(sums, index[done : done + len(batch)], cells.mean(axis=1))
        done += len(batch)
    n = done * (int(np.prod(truth.shape)) if seen is None else int(seen.sum()))
    return float(low), float(high), float(np.sqrt(max(squares / n - (total / n) ** 2, 0.0))), sums / np.bincount(index)


def _levels(truth: MapSet, field: str, rows: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """Thresholds at quantiles of two million of the true cells, evenly spread over maps."""
    rows = np.sort(rows)
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), 256)).round().astype(int)]
    # Odd, so that not all are of a few columns.
    stride = len(chosen) * int(np.prod(truth.shape)) // LEVEL_CELLS | 1
    kept = slice(None) if seen is None else seen
    cells = np.concatenate([truth.read(field, [row])[0][kept].ravel()[::stride] for row in chosen]).astype(np.float64)
    levels = np.unique(np.quantile(cells, LEVELS))
    # At the least value there is, every cell is at or above the threshold.
    return levels[levels > cells.min()]


def _examples(rows: np.ndarray, index: np.ndarray, means: np.ndarray, bright: np.ndarray, most: int) -> np.ndarray:
    """Rows of at most so many maps, one each of simulations from bright to dim: the first map of each."""
    candidates = np.flatnonzero(bright) if bright.any() else np.arange(len(means))
    ordered = candidates[np.argsort(-means[candidates], kind="stable")]
    count = min(most, len(ordered))
    chosen = ordered[np.linspace(0, len(ordered) - 1, 2 * count + 1).round().astype(int)[1::2]]
    return np.array([rows[np.flatnonzero(index == simulation)[0]] for simulation in chosen])


def _truth_facts(truth: MapSet, input: str | None) -> dict[str, Any]:
    geometry = truth.geometry
    facts: dict[str, Any] = {"file": truth.name, "simulator": f"{truth.simulator} {truth.simulator_version}".strip()}
    if input is not None and input in truth.fields:
        facts["input"] = input
        facts["input units"] = truth.field(input).units
    facts |= {"redshift": geometry.redshift, "slab thickness": geometry.thickness, "periodic": geometry.periodic}
    if geometry.kind == "healpix":
        facts.pop("periodic")
        facts["ordering"] = geometry.ordering
    facts["parameters"] = ", ".join(truth.parameter_names)
    return {key: value for key, value in facts.items() if value not in (None, "")}
