"""Whether parameters inferred from generated maps are those inferred from true ones.

Parameters are regressed on summaries of the true maps of training simulations, and then inferred for test simulations,
once from the true maps and once from generated ones. Where the two disagree, an analysis that rests on generated maps
is biased. The regression is simple on purpose: it needs no more than a few dozen simulations, and is the same for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import MapSet
from higan.validation.bootstrap import bootstrap
from higan.validation.comparison import BATCH_CELLS, RESAMPLES, check_maps, check_truth
from higan.validation.covariance import merged_bins
from higan.validation.models import Model
from higan.validation.power_spectrum import logarithm, power_spectrum
from higan.validation.results import plain, written
from higan.validation.statistic import ratio

if TYPE_CHECKING:
    from rich.table import Table

BINS = 8
FEWEST = 8  # simulations to fit
BEYOND = 0.25  # of the range of a feature
PENALTIES = np.logspace(-6, 4, 41)


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Inferred parameters of test simulations; made by :func:`recovery`.

    Parameters
    ----------
    parameters, units : list of str
        Those that vary among the training simulations.
    simulations : ndarray of int, shape (n_sim,)
        Rows of /parameters.
    actual, from_truth : ndarray, shape (n_sim, n_par)
        Actual parameters, and those inferred from true maps.
    from_model : dict of str to ndarray, shape (n_sim, n_par)
        Those inferred from each model's maps.
    error : ndarray, shape (n_par,)
        Root-mean-square error of what is inferred from true maps, in units of the parameter.
    bias, bias_error : dict of str to ndarray, shape (n_par,)
        Mean of what is inferred from a model's maps less what is from true ones, in standard deviations of what is
        inferred from true maps less the actual value; and its error by bootstrap over simulations.
    error_ratio, error_ratio_error : dict of str to ndarray, shape (n_par,)
        Root-mean-square error of what is inferred from a model's maps, over `error`.
    """

    parameters: list[str]
    units: list[str]
    simulations: np.ndarray
    actual: np.ndarray
    from_truth: np.ndarray
    from_model: dict[str, np.ndarray]
    error: np.ndarray
    bias: dict[str, np.ndarray]
    bias_error: dict[str, np.ndarray]
    error_ratio: dict[str, np.ndarray]
    error_ratio_error: dict[str, np.ndarray]

    def table(self) -> Table:
        """For the terminal: a line a parameter, bias and ratio of errors a model."""
        from rich.table import Table
        from rich.text import Text

        table = Table()
        table.add_column(f"{len(self.simulations)} simulations")
        table.add_column("error", justify="right")
        for name in self.bias:
            table.add_column(Text(f"{name}: bias [sigma]"), justify="right")
            table.add_column("error / that of truth", justify="right")
        for i, (parameter, unit) in enumerate(zip(self.parameters, self.units, strict=True)):
            cells = [f"{self.error[i]:.3g}"]
            for name in self.bias:
                for values, errors in ((self.bias, self.bias_error), (self.error_ratio, self.error_ratio_error)):
                    value, error = written(values[name][i], errors[name][i])
                    cells.append(f"{value} ± {error}" if error else value or "–")
            table.add_row(Text(f"{parameter} [{unit}]" if unit else parameter), *cells)
        return table

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it, by the names of the class."""
        return plain(dataclasses.asdict(self))


def recovery(
    train: MapSet,
    truth: MapSet,
    models: Mapping[str, Model | Callable[[np.ndarray], Any]],
    field: str,
    *,
    train_rows: Any = None,
    rows: Any = None,
    lowest: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Recovery:
    """Infer parameters from true and from generated maps of test simulations.

    The summaries of a simulation are ln P(k) of its mean power in at most eight bins of k, and mean, standard deviation
    and skewness of all its cells. Parameters are quadratic polynomials of these, by :func:`quadratic_ridge`. Maps
    stream through.

    Parameters
    ----------
    train, truth : MapSet
        Training and test simulations; may be one set, with other rows.
    models : mapping of str to Model or callable
        As of :func:`higan.validation.comparison.compare`; rows are those of `truth`.
    field : str
    train_rows, rows : array_like of int, optional
        All maps where not given.
    lowest : float, optional
        Take summaries of the decimal logarithm of cells, fainter ones as this
        (:func:`higan.validation.power_spectrum.logarithm`): those of a field that spans decades are of its brightest
        cells.
    seed, resamples : int
        Of the bootstrap over test simulations; the regression stays the same.

    Returns
    -------
    Recovery

    Raises
    ------
    MapSetError
        If the two sets do not fit together, training simulations are fewer than eight or have all the same parameters,
        or a model's maps have another shape or are not finite.

    References
    ----------
    Villaescusa-Navarro et al. 2022, ApJS 259, 61 (parameters regressed on summaries of maps of many simulations).

    Examples
    --------
    >>> found = recovery(train, test, {"eor21cm-2d": model}, "brightness_temp")  # doctest: +SKIP
    >>> found.bias["eor21cm-2d"]  # doctest: +SKIP
    array([ 0.05, -0.12,  0.03])
    """
    options: dict[str, Any] = {"train_rows": train_rows, "rows": rows, "seed": seed, "resamples": resamples}
    return recoveries(train, truth, models, field, [lowest], **options)[0]


def recoveries(
    train: MapSet,
    truth: MapSet,
    models: Mapping[str, Model | Callable[[np.ndarray], Any]],
    field: str,
    lowest: Sequence[float | None],
    *,
    train_rows: Any = None,
    rows: Any = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Recovery]:
    """:func:`recovery` for each of `lowest`, from maps that are read and painted once.

    Examples
    --------
    >>> linear, log = recoveries(train, test, {"hi-z5-2d": model}, "hi_density", [None, 1.0])  # doctest: +SKIP
    """
    truth.check_units(field, train.field(field).units, train.name)
    if train.parameter_names != truth.parameter_names or train.shape != truth.shape:
        raise MapSetError(
            f"{train.name} and {truth.name} have other parameters or maps of another shape. Give two of one kind."
        )
    train_rows = np.arange(len(train)) if train_rows is None else np.asarray(train_rows, dtype=np.int64)
    rows = np.arange(len(truth)) if rows is None else np.asarray(rows, dtype=np.int64)
    for maps, chosen in ((train, train_rows), (truth, rows)):
        check_truth(maps, field, chosen)
    entries = {name: model if isinstance(model, Model) else Model(model) for name, model in models.items()}

    known = train.parameters[np.unique(train.simulation[train_rows])]
    varying = np.flatnonzero(np.ptp(known, axis=0) > 0)
    if len(known) < FEWEST or not len(varying):
        raise MapSetError(
            f"{train.name}: {len(known)} training simulations, {len(varying)} parameters that vary among them. To fit "
            f"parameters takes {FEWEST} or more that differ."
        )
    simulations = np.unique(truth.simulation[rows])
    actual = truth.parameters[simulations][:, varying]
    fitted = _means(train, field, train_rows, lowest)
    measured = _means(truth, field, rows, lowest)
    painted = {name: _means(truth, field, rows, lowest, name, model) for name, model in entries.items()}

    def found(i: int) -> Recovery:
        """For the i-th of `lowest`."""
        regression = quadratic_ridge(summaries(fitted[i], fitted[i]), known[:, varying])
        from_truth = regression(summaries(measured[i], fitted[i]))
        from_model = {name: regression(summaries(means[i], fitted[i])) for name, means in painted.items()}

        def evaluate(chosen: np.ndarray | slice) -> dict[str, np.ndarray]:
            true_error = (from_truth - actual)[chosen]
            values = {"error": np.sqrt((true_error**2).mean(axis=0))}
            for name, inferred in from_model.items():
                off, error = (inferred - from_truth)[chosen], (inferred - actual)[chosen]
                values[f"bias {name}"] = ratio(off.mean(axis=0), true_error.std(axis=0))
                values[f"ratio {name}"] = ratio(np.sqrt((error**2).mean(axis=0)), values["error"])
            return values

        values = evaluate(slice(None))
        errors = bootstrap(evaluate, len(actual), seed=seed, resamples=resamples)
        return Recovery(
            parameters=[truth.parameter_names[i] for i in varying],
            units=[truth.parameter_info[i].units for i in varying],
            simulations=simulations,
            actual=actual,
            from_truth=from_truth,
            from_model=from_model,
            error=values["error"],
            bias={name: values[f"bias {name}"] for name in entries},
            bias_error={name: errors[f"bias {name}"] for name in entries},
            error_ratio={name: values[f"ratio {name}"] for name in entries},
            error_ratio_error={name: errors[f"ratio {name}"] for name in entries},
        )

    return [found(i) for i in range(len(lowest))]


def quadratic_ridge(x: Any, y: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Fit quadratic polynomials with a penalty on coefficients, chosen by leaving out one sample at a time.

    Features are standardised, then their squares and products are too. The penalty, one for each target, is the one of
    least squared error of samples left out, (residual / (1 - leverage))^2. Features are clipped to the range of those
    of the fit and a quarter of it beyond either end, as polynomials run away outside.

    Parameters
    ----------
    x : array_like, shape (n, n_features)
    y : array_like, shape (n, n_targets)

    Returns
    -------
    callable
        Takes features (m, n_features), returns targets (m, n_targets).

    References
    ----------
    Hoerl & Kennard 1970, Technometrics 12, 55, eq. 2.1 (ridge regression); Allen 1974, Technometrics 16, 125 (errors
    of samples left out).

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(50, 2))
    >>> infer = quadratic_ridge(x, x[:, :1] * x[:, 1:] + 3)
    >>> infer(np.array([[0.5, 2.0]])).round(2)
    array([[4.]])
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    standard = _standardiser(x)
    low, high = standard(x).min(axis=0), standard(x).max(axis=0)
    reach = BEYOND * (high - low)

    def terms(features: np.ndarray) -> np.ndarray:
        return _monomials(np.clip(standard(features), low - reach, high + reach))

    quadratic = _standardiser(terms(x))
    phi, centre = quadratic(terms(x)), y.mean(axis=0)
    u, s, vt = np.linalg.svd(phi, full_matrices=False)
    projected = u.T @ (y - centre)
    errors = []
    for penalty in PENALTIES:
        kept = s**2 / (s**2 + penalty)
        leverage = 1 / len(x) + u**2 @ kept
        left_out = (y - centre - u @ (kept[:, None] * projected)) / np.maximum(1 - leverage, 1e-9)[:, None]
        errors.append((left_out**2).sum(axis=0))
    best = PENALTIES[np.argmin(errors, axis=0)]
    coefficients = vt.T @ (s[:, None] / (s[:, None] ** 2 + best) * projected)
    return lambda features: centre + quadratic(terms(np.asarray(features))) @ coefficients


def _standardiser(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """To mean 0 and standard deviation 1 of the columns of `x`; one that varies by rounding alone becomes zero."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-6 * np.abs(mean), 1 / np.maximum(deviation, 1e-300), 0.0)
    return lambda values: (values - mean) * scale


def _monomials(x: np.ndarray) -> np.ndarray:
    """Features, their squares and products."""
    i, j = np.triu_indices(x.shape[1])
    return np.hstack([x, x[:, i] * x[:, j]])


def _means(
    maps: MapSet,
    field: str,
    rows: np.ndarray,
    lowest: Sequence[float | None],
    name: str = "",
    model: Model | None = None,
) -> np.ndarray:
    """P(k) in bins and moments 1 to 3 of the maps of each simulation, the true ones or those of a model.

    Of the maps, or their logarithms, as `lowest` says: (len(lowest), n_sim, …).
    """
    _, index = np.unique(maps.simulation[rows], return_inverse=True)
    sums = np.zeros((len(lowest), int(index.max()) + 1, len(merged_bins(maps.shape, maps.cell_size, BINS)[2]) + 3))
    realisations = 1 if model is None else model.realisations
    size = max(1, BATCH_CELLS // (int(np.prod(maps.shape)) * realisations))
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        if model is None:
            values = maps.read(field, batch)[:, None]
        else:
            values = check_maps(model.maps(batch), (len(batch), *maps.shape), name, batch)
        for total, floor in zip(sums, lowest, strict=True):
            taken = values if floor is None else logarithm(values, floor)
            for i in range(taken.shape[1]):
                measured = power_and_moments(taken[:, i], maps.cell_size, maps.geometry.window, BINS)
                np.add.at(total, index[start : start + size], measured / taken.shape[1])
    return sums / np.bincount(index)[:, None]


def power_and_moments(maps: np.ndarray, cell_size: float, window: str | None, bins: int) -> np.ndarray:
    """P(k) in so many bins, fewer on small maps, and moments 1 to 3 of maps (n, *shape): (n, bins + 3)."""
    maps = maps.astype(np.float64)
    P = power_spectrum(maps, cell_size, window)[1] @ merged_bins(maps.shape[1:], cell_size, bins)[2].T
    cells = tuple(range(1, maps.ndim))
    return np.hstack([P, *((maps**power).mean(axis=cells)[:, None] for power in (1, 2, 3))])


def summaries(means: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """ln P(k), mean, standard deviation and skewness of what :func:`power_and_moments` gives.

    What has no power, as where all is ionised, is far below the rest, that of `fitted`, but finite.
    """
    floor = 1e-8 * fitted[:, :-3].max(axis=0) + 1e-300
    P, (mean, square, cube) = means[:, :-3], means[:, -3:].T
    variance = np.maximum(square - mean**2, 0.0)
    skewness = ratio(cube - 3 * mean * variance - mean**3, variance**1.5)
    return np.column_stack([np.log(np.maximum(P, floor)), mean, np.sqrt(variance), np.nan_to_num(skewness)])
