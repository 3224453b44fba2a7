"""Errors by bootstrap over simulations: maps of one simulation share structure, so that simulations are resampled, not maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def bootstrap(
    evaluate: Callable[[np.ndarray], Mapping[str, Any]], n: int, *, seed: int = 0, resamples: int = 1000
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
        The standard deviation over resamples of each value: NaN where there are fewer than two simulations, or where the
        value is defined in less than half of the resamples.

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
    counts: dict[str, Any] = {}
    means: dict[str, Any] = {}
    squares: dict[str, Any] = {}
    for _ in range(resamples):
        for name, value in evaluate(rng.integers(n, size=n)).items():
            value = np.asarray(value, dtype=np.float64)
            known = np.isfinite(value)
            count = counts[name] = counts.get(name, 0) + known
            # Welford's update: no difference of large sums.
            step = np.where(known, value - means.get(name, 0.0), 0.0)
            means[name] = means.get(name, 0.0) + step / np.maximum(count, 1)
            squares[name] = squares.get(name, 0.0) + step * np.where(known, value - means[name], 0.0)
    errors = {}
    for name, count in counts.items():
        error = np.sqrt(squares[name] / np.maximum(count - 1, 1))
        error = np.where((count >= max(0.5 * resamples, 2)) & (n > 1), error, np.nan)
        errors[name] = float(error) if error.ndim == 0 else error
    return errors
