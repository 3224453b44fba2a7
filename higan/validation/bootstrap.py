"""Errors by bootstrap over simulations: maps of one simulation share structure, so that maps are not resampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def bootstrap(
    evaluate: Callable[[np.ndarray], Mapping[str, Any]], n: int, *, seed: int = 0, resamples: int = 500
) -> dict[str, Any]:
    """Standard errors of whatever `evaluate` computes, by resampling `n` simulations with replacement.

    Parameters
    ----------
    evaluate : callable
        Takes the indices (n,) of a resample, with repeats, and returns floats or arrays by name.
    n : int
        Number of simulations.
    seed : int
        The same seed gives the same errors.
    resamples : int

    Returns
    -------
    dict of str to float or ndarray
        The standard deviation over resamples of each value: NaN where it does not vary among them (as with a single
        simulation), or is defined in less than half of them.

    References
    ----------
    Efron 1979, Annals of Statistics 7, 1, section 2.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=400)
    >>> error = bootstrap(lambda index: {"mean": x[index].mean()}, 400)["mean"]
    >>> bool(abs(error / (x.std() / 20) - 1) < 0.1)
    True
    """
    rng = np.random.default_rng(seed)
    draws: dict[str, list[Any]] = {}
    for _ in range(resamples):
        for name, value in evaluate(rng.integers(n, size=n)).items():
            draws.setdefault(name, []).append(value)
    return {name: _deviation(np.asarray(values, dtype=np.float64)) for name, values in draws.items()}


def _deviation(values: np.ndarray) -> Any:
    """Standard deviation along the first axis of the values that are finite."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    safe = np.maximum(count, 2)
    mean = np.where(known, values, 0.0).sum(axis=0) / safe
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    error = np.sqrt(squares / (safe - 1))
    varies = error > 1e-12 * np.abs(mean)
    error = np.where((count >= max(0.5 * len(values), 2)) & varies, error, np.nan)
    return float(error) if error.ndim == 0 else error
