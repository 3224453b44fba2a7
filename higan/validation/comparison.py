"""Compare models with the truth, statistic by statistic, streaming over the maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import MapSet
from higan.progress import progress
from higan.validation.bootstrap import bootstrap
from higan.validation.models import Model
from higan.validation.one_point import default_edges
from higan.validation.statistic import Number, Setting, statistics

if TYPE_CHECKING:
    from rich.table import Table

BATCH_CELLS = 1 << 21  # painted at a time: 8 MB of float32, a few times that while spectra are taken
FAINT = 0.05  # mean neutral fraction below which the power of a simulation vanishes
EXAMPLES = 3
FORMAT, FORMAT_VERSION = "higan-metrics", 1


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """What one model has in each statistic.

    Parameters
    ----------
    numbers : dict of str to (float, float)
        Headline numbers with their bootstrap errors; NaN where not defined.
    curves, curve_errors : dict of str to ndarray
    by_simulation : dict of str to ndarray, shape (n_sim, …)
    examples : ndarray, shape (EXAMPLES, *shape)
        First realisation of the example maps.
    model : Model
    """

    numbers: dict[str, tuple[float, float]]
    curves: dict[str, np.ndarray]
    curve_errors: dict[str, np.ndarray]
    by_simulation: dict[str, np.ndarray]
    examples: np.ndarray
    model: Model


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models beside the truth; made by :func:`compare`.

    Parameters
    ----------
    setting : Setting
    models : dict of str to ModelResult
        In the order of tables: models, then baselines.
    simulations : ndarray of int, shape (n_sim,)
        Their rows of /parameters.
    bright : ndarray of bool, shape (n_sim,)
        Whether a simulation enters R_s and r_s.
    maps : int
        Number of true maps.
    seed, resamples : int
        Of the bootstrap.
    examples : dict of str to ndarray
        "input" (where there is one), "truth", and "simulation" of the maps that figures show.
    truth : dict
        Facts of the true map set.
    versions : dict
        Of the libraries.
    """

    setting: Setting
    models: dict[str, ModelResult]
    simulations: np.ndarray
    bright: np.ndarray
    maps: int
    seed: int
    resamples: int
    examples: dict[str, np.ndarray]
    truth: dict[str, Any]
    versions: dict[str, str]

    @property
    def definitions(self) -> dict[str, Number]:
        """What every headline number is, in the order of tables."""
        return {key: number for cls in statistics() for key, number in cls.numbers.items()}

    def units(self, number: Number) -> str:
        """The unit of a number for this field; "%" is the caller's to apply."""
        return number.units.format(units=self.setting.units, length=self.setting.length_units)

    def value(self, model: str, key: str) -> tuple[float, float]:
        """A headline number of a model and its bootstrap error; NaN where not defined."""
        return self.models[model].numbers[key]

    def to_dict(self) -> dict[str, Any]:
        """The content of metrics.json: only str, bool, int, float, null, and lists and mappings of these.

        ================== ============================================================================================
        key                meaning
        ================== ============================================================================================
        format             "higan-metrics"
        format_version     1
        field              the field compared
        units              of the field
        length_units       of cells; k is in their inverse, P in units^2 length_units^ndim
        cell_size          side of a cell
        shape              cells of a map along each axis
        window             null, or the window that multiplies maps that are not periodic
        large_scale_k      "large scales" are k up to this
        maps               number of true maps
        simulations        rows of the truth's /parameters that were compared
        bright             for each, whether it enters the statistics of single simulations (R_s, r_s); the others count as
                           faint
        bootstrap          seed and resamples of the errors
        truth              facts of the true map set
        versions           of the libraries
        definitions        for every headline number: label, units, meaning
        curve_definitions  for every curve and value a simulation: what it is
        models             for every model: baseline, realisations, facts; numbers, each with value and error (one standard
                           deviation by bootstrap over simulations) and, where value is null, why; curves and
                           curve_errors (lists); by_simulation (lists, a row a simulation)
        ================== ============================================================================================

        A number that is not defined is null, never NaN. Fractions are fractions: 0.02, where tables show 2 %.
        """
        families = statistics()
        described: dict[str, str] = {}
        for cls in families:
            described |= {**cls.curves, **cls.scatter}
        setting, definitions = self.setting, self.definitions
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "field": setting.field,
            "units": setting.units,
            "length_units": setting.length_units,
            "cell_size": float(setting.cell_size),
            "shape": list(setting.shape),
            "window": setting.window,
            "large_scale_k": float(setting.large_scale_k),
            "maps": self.maps,
            "simulations": plain(self.simulations),
            "bright": plain(self.bright),
            "bootstrap": {"seed": self.seed, "resamples": self.resamples},
            "truth": plain(self.truth),
            "versions": dict(self.versions),
            "definitions": {
                key: {
                    "label": number.label,
                    "units": "" if number.units == "%" else self.units(number),
                    "meaning": number.meaning,
                }
                for key, number in definitions.items()
            },
            "curve_definitions": described,
            "models": {
                name: {
                    "baseline": result.model.baseline,
                    "realisations": result.model.realisations,
                    "facts": plain(dict(result.model.facts)),
                    "numbers": {
                        key: self._number(value, error, definitions[key])
                        for key, (value, error) in result.numbers.items()
                    },
                    "curves": plain(result.curves),
                    "curve_errors": plain(result.curve_errors),
                    "by_simulation": plain(result.by_simulation),
                }
                for name, result in self.models.items()
            },
        }

    @staticmethod
    def _number(value: float, error: float, number: Number) -> dict[str, Any]:
        entry = {"value": plain(value), "error": plain(error)}
        if entry["value"] is None:
            entry["why"] = number.missing
        elif entry["error"] is None:
            entry["why"] = "an error takes two or more simulations"
        return entry

    def rows(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        """The table, a line a number: its heading with the unit, and (model, value, error) as text for every model."""
        lines = []
        for key, number in self.definitions.items():
            cells = []
            for name in self.models:
                value, error = self.value(name, key)
                percent = number.units == "%"
                cells.append((name, *written(100 * value if percent else value, 100 * error if percent else error)))
            if any(value for _, value, _ in cells):
                units = self.units(number)
                lines.append((f"{number.label} [{units}]" if units else number.label, cells))
        return lines

    def show(self) -> None:
        """Print the headline numbers; where all models do not fit side by side, in several tables."""
        from rich.console import Console
        from rich.measure import Measurement

        console = Console()
        group: list[str] = []
        for name in self.models:
            wide = Measurement.get(console, console.options.update(width=10_000), self.table([*group, name])).maximum
            if group and wide > console.width:
                console.print(self.table(group))
                group = []
            group.append(name)
        console.print(self.table(group))

    def table(self, models: Sequence[str] | None = None) -> Table:
        """The headline numbers for the terminal: a line a number, a column for each of `models` (all by default)."""
        from rich.table import Table
        from rich.text import Text

        title = f"{self.setting.field}: {self.maps} maps of {len(self.simulations)} simulations"
        table = Table(title=title, caption="± is one standard deviation by bootstrap over simulations")
        table.add_column("")
        for name in models or self.models:
            table.add_column(name, justify="right")
        for label, cells in self.rows():
            # Text: rich would take a unit in brackets for markup.
            table.add_row(
                Text(label),
                *(
                    f"{value} ± {error}" if error else value or "–"
                    for name, value, error in cells
                    if name in (models or self.models)
                ),
            )
        return table


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
    resamples: int = 500,
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
        Of the bootstrap.

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
    _check_truth(truth, field, rows)
    entries = {name: model if isinstance(model, Model) else Model(model) for name, model in models.items()}
    if not entries:
        raise MapSetError("There is nothing to compare with the truth. Give a model.")
    simulations, index = np.unique(truth.simulation[rows], return_inverse=True)
    low, high, deviation, means = _scan(truth, field, rows, index)
    if bright is not None:
        bright = np.asarray(bright, dtype=bool)[simulations]
    elif "neutral_fraction" in truth.fields:
        bright = _scan(truth, "neutral_fraction", rows, index)[3] > FAINT
    else:
        bright = np.ones(len(simulations), dtype=bool)
    if window == "auto":
        window = None if truth.geometry.periodic else "hann"
    units = truth.field(field).units
    setting = Setting(
        shape=truth.shape,
        cell_size=truth.cell_size,
        field=field,
        units=units,
        length_units=truth.geometry.length_units,
        window=window,
        edges=default_edges(low, high, deviation, units) if edges is None else np.asarray(edges, dtype=np.float64),
        large_scale_k=large_scale_k,
    )
    shown = _examples(rows, index, means, bright)
    examples = {"truth": truth.read(field, shown), "simulation": truth.simulation[shown]}
    if input is not None and input in truth.fields:
        examples["input"] = truth.read(input, shown)
    ordered = sorted(entries.items(), key=lambda item: item[1].baseline)
    results = {
        name: _evaluate(name, model, truth, rows, index, bright, setting, shown, seed, resamples)
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


def _evaluate(
    name: str,
    model: Model,
    truth: MapSet,
    rows: np.ndarray,
    index: np.ndarray,
    bright: np.ndarray,
    setting: Setting,
    shown: np.ndarray,
    seed: int,
    resamples: int,
) -> ModelResult:
    families = [cls(setting) for cls in statistics()]
    sums: dict[str, dict[str, np.ndarray]] = {family.name: {} for family in families}
    examples: dict[int, np.ndarray] = {}
    size = max(1, BATCH_CELLS // (int(np.prod(setting.shape)) * model.realisations))
    with progress(f"comparing {name}", len(rows)) as advance:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            true = truth.read(setting.field, batch)
            generated = _checked(model.maps(batch), true.shape, name, batch)
            examples.update({int(row): generated[i, 0] for i, row in enumerate(batch) if row in shown})
            for family in families:
                _add(sums[family.name], family.measure(true, generated), index[start : start + size], len(bright))
            advance(len(batch))
    counts = np.bincount(index, minlength=len(bright))
    for family in families:
        sums[family.name] |= {"maps": counts, "bright": bright}

    def evaluate(chosen: np.ndarray | slice) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for family in families:
            values |= family.evaluate({key: value[chosen] for key, value in sums[family.name].items()})
        return values

    values = evaluate(slice(None))
    errors = bootstrap(evaluate, len(bright), seed=seed, resamples=resamples)
    by_simulation: dict[str, np.ndarray] = {}
    for family in families:
        by_simulation |= family.by_simulation(sums[family.name])
    numbers = [key for family in families for key in family.numbers]
    curves = [key for family in families for key in family.curves]
    return ModelResult(
        {key: (float(values[key]), float(errors[key])) for key in numbers},
        {key: values[key] for key in curves},
        {key: errors[key] for key in curves if key not in ("k", "edges")},
        by_simulation,
        np.stack([examples[int(row)] for row in shown]),
        model,
    )


def _add(sums: dict[str, np.ndarray], values: Mapping[str, np.ndarray], index: np.ndarray, n: int) -> None:
    for key, value in values.items():
        if key not in sums:
            sums[key] = np.zeros((n, *value.shape[1:]))
        np.add.at(sums[key], index, value)


def _checked(maps: Any, shape: tuple[int, ...], name: str, rows: np.ndarray) -> np.ndarray:
    """A model's maps as (n, realisations, *shape)."""
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


def _check_truth(truth: MapSet, field: str, rows: np.ndarray) -> None:
    if truth.geometry.kind == "healpix":
        raise MapSetError(f"{truth.name} holds maps on the sphere, which cannot be compared yet. Give flat ones.")
    shape = truth.field(field).shape
    if len(shape) != truth.geometry.ndim:
        raise MapSetError(
            f"{truth.name}: field {field!r} has maps of shape {shape}, but {truth.geometry.ndim} dimensions. "
            "Compare one channel at a time."
        )
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(truth):
        raise MapSetError(f"{truth.name} has {len(truth)} maps; none, or others than these, are to be compared.")


def _scan(truth: MapSet, field: str, rows: np.ndarray, index: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Lowest and highest value, standard deviation, and mean a simulation of a field."""
    low, high, total, squares, done = np.inf, -np.inf, 0.0, 0.0, 0
    sums = np.zeros(int(index.max()) + 1)
    size = max(1, BATCH_CELLS // int(np.prod(truth.shape)))
    for batch in truth.batches(field, rows, size):
        cells = batch.reshape(len(batch), -1).astype(np.float64)
        low, high = min(low, cells.min()), max(high, cells.max())
        total, squares = total + cells.sum(), squares + (cells**2).sum()
        np.add.at(sums, index[done : done + len(batch)], cells.mean(axis=1))
        done += len(batch)
    n = done * int(np.prod(truth.shape))
    return float(low), float(high), float(np.sqrt(max(squares / n - (total / n) ** 2, 0.0))), sums / np.bincount(index)


def _examples(rows: np.ndarray, index: np.ndarray, means: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Rows of a few maps, one each of simulations from bright to dim: the first map of each."""
    candidates = np.flatnonzero(bright) if bright.any() else np.arange(len(means))
    ordered = candidates[np.argsort(-means[candidates], kind="stable")]
    count = min(EXAMPLES, len(ordered))
    chosen = ordered[np.linspace(0, len(ordered) - 1, 2 * count + 1).round().astype(int)[1::2]]
    return np.array([rows[np.flatnonzero(index == simulation)[0]] for simulation in chosen])


def _truth_facts(truth: MapSet, input: str | None) -> dict[str, Any]:
    geometry = truth.geometry
    facts: dict[str, Any] = {"file": truth.name, "simulator": f"{truth.simulator} {truth.simulator_version}".strip()}
    if input is not None and input in truth.fields:
        facts["input"] = input
        facts["input units"] = truth.field(input).units
    facts |= {"redshift": geometry.redshift, "slab thickness": geometry.thickness, "periodic": geometry.periodic}
    facts["parameters"] = ", ".join(truth.parameter_names)
    return {key: value for key, value in facts.items() if value not in (None, "")}


def plain(value: Any) -> Any:
    """Numbers, arrays, mappings and sequences as JSON takes them; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def written(value: float, error: float) -> tuple[str, str]:
    """A value and its error as text, to two digits of the error; "" where not defined.

    Examples
    --------
    >>> written(2.3456, 0.123), written(0.98765, np.nan), written(np.nan, np.nan)
    (('2.35', '0.12'), ('0.988', ''), ('', ''))
    """
    if not np.isfinite(value):
        return "", ""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.3g}", ""
    digits = min(max(1 - int(np.floor(np.log10(error))), 0), 6)
    return f"{value:.{digits}f}", f"{error:.{digits}f}"
