"""Whether maps have the same power along each axis as the truth has: what spherical averages do not see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.covariance import merged_bins
from higan.validation.power_spectrum import axis_powers, logarithm
from higan.validation.statistic import Number, Setting, Summary, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

BANDS = 8
_LINE = "maps of one dimension have a single axis"


@statistic("isotropy")
class Isotropy(Summary):
    """Power of the modes near each axis over that of all axes, in bands of k, beside the same of the truth.

    A mode belongs to the axis that its wavevector lies nearest to (clustering wedges). Of a field that spans decades
    its logarithm is taken. A network that paints streaks along an axis of its grid shows here, and in no spherical
    average.

    References
    ----------
    Kazin, Sanchez & Blanton 2012, MNRAS 419, 3223, section 2 (wedges, about the line of sight).
    """

    order = 16
    numbers = {
        "axis_error": Number(
            "power along axes",
            "How far the share of the power that lies along each axis is off, averaged over axes and scales.",
            "%",
            missing=_LINE,
        ),
        "axis_worst_error": Number(
            "power along axes, worst", "The same for the axis and scale where it is worst.", "%", missing=_LINE
        ),
    }
    curves = {
        "k_axis": "mean wavenumber of each band of k",
        "axis_power_truth": "power of true modes near an axis over that near all of them, a row an axis",
        "axis_power": "the same of generated modes",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.k, _, self.bands = merged_bins(setting.shape, setting.cell_size, BANDS)

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Powers near each axis, in bands of k: (n, ndim, bands)."""
        setting = self.setting
        if len(setting.shape) == 1:
            return np.full((len(maps), 1, len(self.k)), np.nan)
        if setting.logarithmic:
            maps = logarithm(maps, setting.edges[0])
        return axis_powers(maps, setting.cell_size, setting.window) @ self.bands.T

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = (ratio(P, P.mean(axis=0)) for P in self.means(sums))
        off = np.abs(ratio(generated, truth) - 1)
        return {
            "axis_error": average(off),
            "axis_worst_error": float(np.fmax.reduce(off, axis=None)),
            "k_axis": self.k,
            "axis_power_truth": truth,
            "axis_power": generated,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Power along each axis."""
        from higan.validation import plots

        axes = len(comparison.setting.shape)
        if axes == 1:
            return None
        k = f"k [1/{comparison.setting.length_units}]"
        panels = [
            plots.Panel("k_axis", "axis_power", k, f"power along axis {i + 1} / mean", row=i, x_scale="log")
            for i in range(axes)
        ]
        plots.beside_truth(comparison, path, panels)
        return "Power of the modes near each axis over that near all axes; below, over the truth's: 1 without streaks."
