"""Whether a generator uses its parameters: responses of P(k) beside simulations, and shuffled parameters.

Responses take a map set in which one parameter at a time leaves a fiducial row, all with one seed ("1P"). The maps of
each simulation are painted on its own input: where a parameter does not touch the input, that is the response at fixed
density; where it does (SIGMA_8 moves the density too), truth and generator both answer to input and parameter together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import MapSet
from higan.validation.bootstrap import bootstrap
from higan.validation.power_spectrum import correlation, power_spectrum, spectra
from higan.validation.statistic import average, ratio

Paint = Callable[[np.ndarray, np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class Response:
    """d ln P / d theta of one parameter, between neighbouring simulations; made by :func:`responses`.

    Parameters
    ----------
    parameter, units : str
    theta : ndarray, shape (m,)
        Midpoints of the neighbours.
    k : ndarray, shape (nk,)
    truth, truth_error, model, model_error : ndarray, shape (m, nk)
        In 1 / `units`; errors by bootstrap over the maps of the simulations, NaN where there is only one.
    input_moves : bool
        Whether the input differs between the simulations: then the response is not at fixed density.
    """

    parameter: str
    units: str
    theta: np.ndarray
    k: np.ndarray
    truth: np.ndarray
    truth_error: np.ndarray
    model: np.ndarray
    model_error: np.ndarray
    input_moves: bool

    @property
    def significant(self) -> np.ndarray:
        """Where the true response is larger than its error, shape (m, nk)."""
        return np.abs(self.truth) > self.truth_error

    def disagreement(self) -> float:
        """RMS difference of model and truth over the RMS of the truth, where the truth is larger than its error.

        NaN where it nowhere is.
        """
        at = self.significant & np.isfinite(self.model) & np.isfinite(self.truth)
        return float(np.sqrt(ratio(((self.model - self.truth)[at] ** 2).sum(), (self.truth[at] ** 2).sum())))


def responses(
    truth: MapSet, input: str, field: str, paint: Paint, *, seed: int = 0, resamples: int = 200
) -> dict[str, Response]:
    """Responses of P(k) to every parameter of a 1P set, of the truth and of a generator.

    d ln P / d theta = (ln P_b - ln P_a) / (theta_b - theta_a) between neighbours a, b in a parameter, from the mean
    P(k) of the maps of each.

    Parameters
    ----------
    truth : MapSet
        Rows of /parameters differ from a fiducial one, which is among them, in one column at a time.
    input, field : str
    paint : callable
        Takes inputs (n, *shape) and parameters (n, n_par), returns maps (n, *shape). The same noise in every call makes
        the difference of neighbours quiet.
    seed, resamples : int
        Of the bootstrap; maps at one place of neighbouring simulations are drawn together.

    Returns
    -------
    dict of str to Response
        One a parameter that varies.

    Raises
    ------
    MapSetError
        If no row is a fiducial one, or simulations have different numbers of maps.

    References
    ----------
    Villaescusa-Navarro et al. 2021, ApJ 915, 71, section 3.1 (one-parameter sets).

    Examples
    --------
    >>> def paint(maps, theta):
    ...     return emulator.sample(maps, dict(zip(names, theta.T)), seed=1)  # doctest: +SKIP
    >>> responses(truth, "density", "brightness_temp", paint)["F_STAR10"].disagreement()  # doctest: +SKIP
    0.07
    """
    simulations = truth.simulations()
    theta = truth.parameters[simulations]
    fiducial = fiducial_row(theta, truth.name)
    rows = [truth.rows_of(simulation) for simulation in simulations]
    if len({len(own) for own in rows}) > 1:
        raise MapSetError(f"{truth.name}: simulations have different numbers of maps. Responses need as many of each.")
    P_truth, P_model = [], []
    reference = truth.read(input, rows[fiducial])
    moves = []
    k, window = np.empty(0), truth.geometry.window
    for own, parameters in zip(rows, theta, strict=True):
        inputs = truth.read(input, own)
        painted = np.asarray(paint(inputs, np.broadcast_to(parameters, (len(own), len(parameters)))))
        k, P = power_spectrum(painted, truth.cell_size, window)
        P_model.append(P)
        P_truth.append(power_spectrum(truth.read(field, own), truth.cell_size, window)[1])
        moves.append(not np.allclose(inputs, reference, rtol=1e-4, atol=1e-5))
    found = {}
    for column, info in enumerate(truth.parameter_info):
        others = np.delete(np.arange(theta.shape[1]), column)
        chosen = np.flatnonzero((theta[:, others] == theta[fiducial][others]).all(axis=1))
        chosen = chosen[np.argsort(theta[chosen, column])]
        if len(chosen) < 2:
            continue
        values = theta[chosen, column]
        true, true_error = _slopes(np.stack([P_truth[i] for i in chosen]), values, seed, resamples)
        model, model_error = _slopes(np.stack([P_model[i] for i in chosen]), values, seed, resamples)
        found[info.name] = Response(
            parameter=info.name,
            units=info.units,
            theta=(values[1:] + values[:-1]) / 2,
            k=k,
            truth=true,
            truth_error=true_error,
            model=model,
            model_error=model_error,
            input_moves=any(moves[i] for i in chosen),
        )
    return found


def fiducial_row(theta: np.ndarray, name: str = "the map set") -> int:
    """The row from which all others differ in one column.

    Raises
    ------
    MapSetError
        If there is none.

    Examples
    --------
    >>> fiducial_row(np.array([[1.0, 3.0], [1.0, 2.0], [0.0, 2.0]]))
    1
    """
    differing = (theta[:, None] != theta[None]).sum(axis=2)
    rows = np.flatnonzero((differing <= 1).all(axis=1))
    if len(rows) == 0 or len(theta) < 2:
        raise MapSetError(
            f"{name} is no set of one parameter at a time: no row of /parameters differs from all others in one "
            "column. Make one with 'higan simulate … --set 1p'."
        )
    return int(rows[0])


def shuffled_parameters(
    truth: MapSet, input: str, field: str, paint: Paint, *, rows: Any = None, seed: int = 0, large_scale_k: float = 0.3
) -> dict[str, dict[str, float]]:
    """How R(k), R_s(k) and r(k) suffer when simulations exchange their parameters.

    A generator that ignores its parameters does not mind; one that uses them gets clearly worse.

    Parameters
    ----------
    truth : MapSet
        With two or more simulations.
    input, field : str
    paint : callable
        As of :func:`responses`.
    rows : array_like of int, optional
        All maps where not given.
    seed : int
        Of the shuffle, in which every simulation gets the parameters of another.
    large_scale_k : float

    Returns
    -------
    dict
        "own" and "shuffled", each with mean_abs_R_minus_1, median_abs_R_s_minus_1 and r_large_scales.

    Raises
    ------
    MapSetError
        If there is one simulation only.

    Examples
    --------
    >>> shuffled_parameters(truth, "density", "brightness_temp", paint)["shuffled"]  # doctest: +SKIP
    {'mean_abs_R_minus_1': 0.09, 'median_abs_R_s_minus_1': 0.6, 'r_large_scales': 0.7}
    """
    rows = np.arange(len(truth)) if rows is None else np.asarray(rows, dtype=np.int64)
    simulations, index = np.unique(truth.simulation[rows], return_inverse=True)
    if len(simulations) < 2:
        raise MapSetError(f"{truth.name} has one simulation: there is nothing to shuffle. Give a set with several.")
    order = np.random.default_rng(seed).permutation(len(simulations))
    other = np.empty(len(simulations), dtype=int)
    other[order] = np.roll(order, 1)  # one cycle: nobody keeps its own
    size = max(1, (1 << 20) // int(np.prod(truth.shape)))
    results = {}
    for name, source in (("own", np.arange(len(simulations))), ("shuffled", other)):
        sums: Any = None
        k = np.empty(0)
        for start in range(0, len(rows), size):
            batch, which = rows[start : start + size], index[start : start + size]
            painted = paint(truth.read(input, batch), truth.parameters[simulations[source[which]]])
            k, *batch_spectra = spectra(truth.read(field, batch), painted, truth.cell_size, truth.geometry.window)
            if sums is None:
                sums = np.zeros((3, len(simulations), len(k)))
            for i, P in enumerate(batch_spectra):
                np.add.at(sums[i], which, P)
        P_truth, P, _ = sums
        pooled = [values.sum(axis=0) for values in sums]
        r = correlation(*pooled)
        of_simulations = average(np.abs(ratio(P, P_truth) - 1), axis=1)
        results[name] = {
            "mean_abs_R_minus_1": average(np.abs(ratio(pooled[1], pooled[0]) - 1)),
            "median_abs_R_s_minus_1": float(np.nanmedian(of_simulations)),
            "r_large_scales": average(r[k <= large_scale_k]),
        }
    return results


def _slopes(P: np.ndarray, theta: np.ndarray, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """d ln P / d theta between neighbours and its error, from P (n_theta, n_maps, nk)."""

    def slopes(index: np.ndarray | slice) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log(P[:, index].mean(axis=1))
            slope = np.diff(logarithm, axis=0) / np.diff(theta)[:, None]
        return {"slope": np.where(np.isfinite(slope), slope, np.nan)}

    return slopes(slice(None))["slope"], bootstrap(slopes, P.shape[1], seed=seed, resamples=resamples)["slope"]
