"""The one-point distribution: PDF, pooled CDF, their distances D and Wasserstein-1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.statistic import Number, Statistic, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

STEP_MK = 0.5
STEP_DEX = 0.05
FEWEST = 1e-5  # share of the true cells below which a decade is left out
MOST_EDGES = 2000


def spans_decades(low: float, high: float) -> bool:
    """Whether a field of this range is one to look at the logarithm of: positive, over three decades or more.

    Examples
    --------
    >>> spans_decades(1e4, 1e11), spans_decades(0.0, 1e11)
    (True, False)
    """
    return low > 0 and high > 1e3 * low


def default_edges(low: float, high: float, deviation: float, units: str) -> np.ndarray:
    """Edges at multiples of a step, from below `low` to above `high`: the range of the truth.

    For a field that spans decades they are powers of ten, in steps of 0.05 dex. For others the step is 0.5 for a field
    in mK, and else the 1, 2 or 5 times a power of ten next below a twentieth of the standard deviation, wider where
    that would take more than 2000 edges.

    Examples
    --------
    >>> default_edges(0.0, 1.9, 0.7, "mK")
    array([0. , 0.5, 1. , 1.5, 2. ])
    """
    if spans_decades(low, high):
        return 10 ** (STEP_DEX * np.arange(np.floor(np.log10(low) / STEP_DEX), np.log10(high) / STEP_DEX + 2))
    if units == "mK":
        step = STEP_MK
    else:
        power = 10.0 ** np.floor(np.log10(max(deviation, 1e-30) / 20))
        step = power * max(digit for digit in (1, 2, 5) if digit * power <= max(deviation, 1e-30) / 20 * (1 + 1e-9))
    while (high - low) / step > MOST_EDGES:
        step *= 2
    first = np.floor(low / step)
    # An edge above every value, so that the pooled CDF of the truth reaches 1 at the last.
    return step * np.arange(first, np.floor(high / step) + 2)


def distances(cdf_a: np.ndarray, cdf_b: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Distance D and Wasserstein-1 distance of two distributions from their CDFs at fixed edges.

    D = max |F_a - F_b| over the edges, the Kolmogorov-Smirnov distance; it comes without a p-value, as the cells of a
    map are correlated. W_1 = integral |F_a - F_b| dx, by trapezoids between the edges.

    Parameters
    ----------
    cdf_a, cdf_b : ndarray, shape (n_edges,)
        Fraction of cells below each edge.
    edges : ndarray, shape (n_edges,)

    Returns
    -------
    D : float
    W_1 : float
        In the units of `edges`.

    References
    ----------
    Kolmogorov 1933; Kantorovich 1942; W_1 as an integral of CDFs: Vallender 1974, Theory Probab. Appl. 18, 784.

    Examples
    --------
    >>> edges = np.linspace(0, 2, 201)
    >>> D, W = distances(np.clip(edges, 0, 1), np.clip(edges - 0.5, 0, 1), edges)  # uniform, and shifted by a half
    >>> round(D, 6), round(W, 6)
    (0.5, 0.5)
    """
    gap = np.abs(cdf_a - cdf_b)
    return float(gap.max()), float(np.trapezoid(gap, edges))


def shares(maps: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of each map's cells below the first edge, between edges, and above the last: (n, …) to (n, n_edges + 1).

    Examples
    --------
    >>> shares(np.array([[0.5, 1.5, 1.0, 3.0]]), np.array([1.0, 2.0]))
    array([[0.25, 0.5 , 0.25]])
    """
    n, bins = len(maps), len(edges) + 1
    cells = np.asarray(maps, dtype=np.float64).reshape(n, -1)
    index = np.searchsorted(edges, cells, side="right") + bins * np.arange(n)[:, None]
    return np.bincount(index.ravel(), minlength=n * bins).reshape(n, bins) / cells.shape[1]


@statistic("one_point")
class OnePoint(Statistic):
    """PDF and CDF of the values of all cells of all test maps, at the edges of the setting.

    Beyond the edges W_1 takes the integral of each tail as it is, so that a few wild cells count for what they are.
    """

    order = 20
    sphere = "pixels"
    numbers = {
        "D": Number("D", "Largest difference between the shares of cells below a value, generated and true."),
        "wasserstein": Number(
            "Wasserstein", "How far cell values have to move, on average, for the distributions to agree.", "{units}"
        ),
        "empty_share_error": Number(
            "empty cells", "Share of cells at or below the lowest edge, generated less true: the empty ones.", "%"
        ),
        "worst_decade": Number(
            "worst decade",
            "How far the share of cells in a decade of values is off, for the worst decade that holds more than one in "
            "a hundred thousand of the true cells.",
            "%",
            missing="the field does not span decades",
        ),
    }
    curves = {
        "edges": "values at which the CDFs are taken",
        "pdf_truth": "one-point PDF of the truth between edges",
        "pdf": "one-point PDF of the generated maps between edges",
        "cdf_truth": "share of true cells below each edge",
        "cdf": "share of generated cells below each edge",
    }

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """As of generated maps."""
        return {f"{name}_truth": values for name, values in self._measure(truth).items()}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Histograms a map, each of sum 1, with what lies below and above the edges, and the integrals of the tails."""
        return self._measure(generated)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        edges, maps = self.setting.edges, sums["maps"].sum()
        true, generated = (sums[name].sum(axis=0) / maps for name in ("histogram_truth", "histogram"))
        cdf_truth, cdf = np.cumsum(true)[:-1], np.cumsum(generated)[:-1]
        D, W = distances(cdf_truth, cdf, edges)
        tails = np.abs((sums["tails"] - sums["tails_truth"]).sum(axis=0))
        return {
            "D": D,
            "wasserstein": W + float(tails.sum()) / maps,
            "empty_share_error": float((sums["empty"] - sums["empty_truth"]).sum() / maps),
            "worst_decade": self._worst_decade(cdf_truth, cdf),
            "edges": edges,
            "pdf_truth": ratio(true[1:-1], np.diff(edges)),
            "pdf": ratio(generated[1:-1], np.diff(edges)),
            "cdf_truth": cdf_truth,
            "cdf": cdf,
        }

    def _worst_decade(self, cdf_truth: np.ndarray, cdf: np.ndarray) -> float:
        if not self.setting.logarithmic:
            return np.nan
        logs = np.log10(self.setting.edges)
        # Edges are rounded; the last decade ends where the edges do.
        decades = np.append(np.flatnonzero(np.abs(logs - np.round(logs)) < 1e-6), len(logs) - 1)
        true, generated = (np.diff(np.concatenate([[0.0], F[decades]])) for F in (cdf_truth, cdf))
        filled = true > FEWEST
        return float(np.abs(ratio(generated, true) - 1)[filled].max()) if filled.any() else np.nan

    def _measure(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        edges, cells = self.setting.edges, maps.reshape(len(maps), -1).astype(np.float64)
        tails = [np.maximum(edges[0] - cells, 0).mean(axis=1), np.maximum(cells - edges[-1], 0).mean(axis=1)]
        return {
            "histogram": shares(cells, edges),
            "tails": np.stack(tails, 1),
            "empty": (cells <= edges[0]).mean(axis=1),
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """PDFs."""
        from higan.validation import plots

        return plots.one_point(comparison, path)
