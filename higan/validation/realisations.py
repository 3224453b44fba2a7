"""What several realisations of the same map say: the mean of them, and whether their spread is honest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.power_spectrum import correlation, power_spectrum, spectra
from higan.validation.statistic import Number, Setting, Statistic, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

_ALONE = "it takes two or more realisations of each map"


@statistic("correlation")
class Realisations(Statistic):
    """r_mean(k), the cross-correlation of the mean of the realisations with the truth, and the spread of realisations.

    For a calibrated stochastic model the truth is as one more realisation: one sample has r = r_mean^2 for many
    realisations, and the variance among R of them, times 1 + 1/R, is the mean square of truth less their mean (Fortin,
    Abaza, Anctil & Turcotte 2014, J. Hydrometeorol. 15, 1708).
    """

    order = 10
    numbers = {
        "r_mean_large_scales": Number(
            "r of mean, large scales",
            "How well the mean of the realisations follows the true map where k is small; the network trained for the "
            "mean is what to compare it with.",
            missing=_ALONE,
        ),
        "spread_over_error": Number(
            "spread / error",
            "Spread of the realisations over the error of their mean: 1 is calibrated, below 1 is too sure of itself.",
            missing=_ALONE,
        ),
    }
    curves = {"r_mean": "cross-correlation coefficient of the mean of the realisations with the truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.k, _ = power_spectrum(np.zeros((1, *setting.shape)), setting.cell_size)

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra of the mean, the variance among realisations and the mean square error of their mean, a map."""
        count = generated.shape[1]
        if count == 1:
            nothing = np.full((len(truth), len(self.k)), np.nan)
            names = ("P_truth", "P_mean", "P_mean_cross")
            return {**dict.fromkeys(names, nothing), **dict.fromkeys(("spread", "miss"), np.full(len(truth), np.nan))}
        mean = generated.mean(axis=1, dtype=np.float64)
        cells = tuple(range(1, truth.ndim))
        _, P_truth, P_mean, P_cross = spectra(truth, mean, self.setting.cell_size, self.setting.window)
        variance = generated.var(axis=1, ddof=1, dtype=np.float64).mean(axis=cells)
        return {
            "P_truth": P_truth,
            "P_mean": P_mean,
            "P_mean_cross": P_cross,
            "spread": (1 + 1 / count) * variance,
            "miss": ((truth - mean) ** 2).mean(axis=cells),
        }

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        r_mean = correlation(*(sums[name].sum(axis=0) for name in ("P_truth", "P_mean", "P_mean_cross")))
        return {
            "r_mean_large_scales": average(r_mean[self.k <= self.setting.large_scale_k]),
            "spread_over_error": float(np.sqrt(ratio(sums["spread"].sum(), sums["miss"].sum()))),
            "r_mean": r_mean,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """r(k), and r_mean(k) where there is one."""
        from higan.validation import plots

        return plots.correlations(comparison, path)
