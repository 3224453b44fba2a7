"""The global mean of each simulation, and the cells of simulations with hardly any signal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.statistic import Number, Statistic, average, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

_FAINT = "no simulation is nearly ionised, or the truth has no field neutral_fraction to tell"


@statistic("mean")
class Mean(Statistic):
    """Mean of all cells of a simulation's maps, generated less true.

    Simulations that are nearly ionised, whose power vanishes, are judged by the mean and the RMS of their cells' errors
    instead of by ratios. Means are arithmetic, over all cells and realisations: the global signal of Furlanetto, Oh &
    Briggs 2006, Phys. Rep. 433, 181, or, over the critical density, Ω_HI.
    """

    order = 30
    sphere = "pixels"
    numbers = {
        "mean_error": Number(
            "error of mean", "How far the global mean of a simulation is off, averaged over simulations.", "{units}"
        ),
        "mean_bias": Number(
            "bias of mean", "The same with its sign: above zero, generated maps are too bright.", "{units}"
        ),
        "faint_mean_error": Number(
            "mean error, faint", "How far the mean of a nearly ionised simulation is off.", "{units}", missing=_FAINT
        ),
        "faint_rms_error": Number(
            "RMS error, faint",
            "How far single cells of a nearly ionised simulation are off.",
            "{units}",
            missing=_FAINT,
        ),
    }
    scatter = {
        "mean_truth": "global mean of the true maps of each simulation",
        "mean": "global mean of the generated maps of each simulation",
        "rms_error": "root mean square of generated less true cells, for each simulation",
    }

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Mean of a map."""
        return {"mean_truth": truth.mean(axis=tuple(range(1, truth.ndim)), dtype=np.float64)}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Means and mean square errors a map."""
        difference = generated.astype(np.float64) - truth[:, None]
        return {
            "mean": generated.mean(axis=tuple(range(1, generated.ndim)), dtype=np.float64),
            "square_error": (difference**2).mean(axis=tuple(range(1, generated.ndim))),
        }

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        values, faint = self.by_simulation(sums), ~sums["bright"]
        error = values["mean"] - values["mean_truth"]
        return {
            "mean_error": average(np.abs(error)),
            "mean_bias": average(error),
            "faint_mean_error": average(np.abs(error[faint])),
            "faint_rms_error": float(np.sqrt(average(values["rms_error"][faint] ** 2))),
        }

    def by_simulation(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Means and RMS errors."""
        return {
            "mean_truth": sums["mean_truth"] / sums["maps"],
            "mean": sums["mean"] / sums["maps"],
            "rms_error": np.sqrt(sums["square_error"] / sums["maps"]),
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Generated against true means."""
        from higan.validation import plots

        return plots.means(comparison, path)
