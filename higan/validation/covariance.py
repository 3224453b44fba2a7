"""The covariance of P(k) among maps of the same parameters: what error bars are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.power_spectrum import bin_modes, power_spectrum
from higan.validation.statistic import Number, Setting, Statistic, average, median, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

MOST_BINS = 16
_ALONE = "no two maps have the same parameters, or their power does not vary"


def merged_bins(
    shape: Sequence[int], cell_size: float | Sequence[float] = 1.0, most: int = MOST_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of P(k) joined to at most `most`, evenly in ln k where there are more than that.

    Parameters
    ----------
    shape : sequence of int
        Of a map.
    cell_size : float or sequence of float
        In a length unit.
    most : int

    Returns
    -------
    k : ndarray, shape (n,)
        Mean wavenumber of the modes of each, in 1 / length.
    modes : ndarray, shape (n,)
        Number of modes, k and -k counted as two.
    weights : ndarray, shape (n, nk)
        What takes the P(k) of :func:`higan.validation.power_spectrum.power_spectrum` to its mean over these modes.

    Examples
    --------
    >>> k, modes, weights = merged_bins((64, 64), most=4)
    >>> modes
    array([   8.,   88.,  480., 2630.])
    >>> weights.shape, bool(np.allclose(weights.sum(axis=1), 1))
    ((4, 32), True)
    """
    k, modes = bin_modes(shape, cell_size)
    n = len(k)
    first = np.arange(n) if n <= most else np.unique(np.geomspace(1, n + 1, most + 1).round().astype(int) - 1)[:-1]
    index = np.searchsorted(first, np.arange(n), side="right") - 1
    weights = np.where(index == np.arange(len(first))[:, None], modes, 0.0)
    total = weights.sum(axis=1)
    weights /= total[:, None]
    return weights @ k, total, weights


@statistic("covariance")
class Covariance(Statistic):
    """Covariance of P(k) among maps of the same parameters, C_ij = <dP_i dP_j> / (P_i P_j).

    P is that of a bin of :func:`merged_bins` and dP the difference of a map's from the mean of its group; the P_i of
    the denominator are means of the true maps. A group holds the maps of all simulations with the same parameters: all
    maps of a set that varies initial conditions alone, and those of one simulation where parameters differ. Each is
    divided by its level, the geometric mean of its true P(k), so that bright parameters do not outweigh others, and
    counts by its number of maps less one; faint simulations do not count. Several realisations give the mean of their
    covariances.

    A Gaussian field has C_ij = 2 delta_ij / N_i, with N_i modes in a bin; what is above it is not Gaussian.

    References
    ----------
    Scoccimarro, Zaldarriaga & Hui 1999, ApJ 527, 1, section 2 (Gaussian and non-Gaussian parts); Hamilton, Rimes &
    Scoccimarro 2006, MNRAS 371, 1188.
    """

    order = 85
    numbers = {
        "covariance_diagonal": Number(
            "variance of P(k)",
            "How far the variance of the power among maps of the same parameters is off, at the median scale.",
            "%",
            missing=_ALONE,
        ),
        "covariance_mean_ratio": Number(
            "bias of variance of P(k)",
            "The same with its sign, averaged over scales: below zero, error bars from generated maps are too small.",
            "%",
            missing=_ALONE,
        ),
        "correlation_error": Number(
            "correlation of P(k)",
            "How far the correlation coefficients of the power on different scales are off, on average.",
            missing=_ALONE,
        ),
    }
    curves = {
        "covariance_k": "mean wavenumber of the merged bins of the covariance",
        "scatter_truth": "relative scatter of P among true maps of the same parameters, sqrt(C_ii)",
        "scatter": "the same of generated maps, relative to the power of the true ones",
        "variance_ratio": "variance of P among generated maps of the same parameters over that among true ones",
        "correlation_matrix_truth": "correlation coefficients of P between merged bins, true maps",
        "correlation_matrix": "correlation coefficients of P between merged bins, generated maps",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.k, _, self.weights = merged_bins(setting.shape, setting.cell_size)

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """P of a map and its outer product."""
        P, outer = self._power(truth[:, None])
        return {"P_truth": P, "outer_truth": outer}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """P of every realisation, and its outer product averaged over them."""
        P, outer = self._power(generated)
        return {"P": P, "outer": outer}

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        values = {key: value[sums["bright"]] for key, value in sums.items()}
        group = np.unique(values["group"], return_inverse=True)[1].reshape(-1)
        size = np.bincount(group, values["maps"])
        power = _pooled(values["P_truth"], group, len(size))[:, 0] / size[:, None]
        # The level is of all bins: the mean of few modes in one bin would bias what is divided by its square.
        with np.errstate(divide="ignore"):
            level = np.exp(average(np.log(power), axis=1))
        weight = np.nan_to_num(ratio(1, level))
        freedom = np.where(weight > 0, size - 1, 0)
        mean = ratio((freedom * weight) @ power, freedom.sum())

        def covariance(P: np.ndarray, outer: np.ndarray) -> np.ndarray:
            # Realisation by realisation: the mean of a group is taken from it as it varies within it.
            means = _pooled(P, group, len(size)) * (weight / np.sqrt(size * P.shape[1]))[:, None, None]
            scatter = np.tensordot(weight[group] ** 2, outer, 1) - np.einsum("gri,grj->ij", means, means)
            return ratio(scatter, freedom.sum() * np.outer(mean, mean))

        C_truth = covariance(values["P_truth"], values["outer_truth"])
        C = covariance(values["P"], values["outer"])
        variance_truth, variance = _variance(C_truth), _variance(C)
        variance_ratio = ratio(variance, variance_truth)
        rho_truth = ratio(C_truth, np.sqrt(np.outer(variance_truth, variance_truth)))
        rho = ratio(C, np.sqrt(np.outer(variance, variance)))
        above = np.triu_indices(len(self.k), 1)
        return {
            "covariance_diagonal": median(np.abs(variance_ratio - 1)),
            "covariance_mean_ratio": average(variance_ratio) - 1,
            "correlation_error": average(np.abs(rho - rho_truth)[above]),
            "covariance_k": self.k,
            "scatter_truth": np.sqrt(variance_truth),
            "scatter": np.sqrt(variance),
            "variance_ratio": variance_ratio,
            "correlation_matrix_truth": rho_truth,
            "correlation_matrix": rho,
        }

    def _power(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, realisations, *shape) to P (n, realisations, bins) and the mean outer product (n, bins, bins)."""
        cell, window = self.setting.cell_size, self.setting.window
        P = np.stack([power_spectrum(maps[:, i], cell, window)[1] for i in range(maps.shape[1])], 1) @ self.weights.T
        return P, np.einsum("nri,nrj->nij", P, P) / maps.shape[1]

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Relative scatter above the ratio of variances, beside the correlation matrices of truth and first model."""
        import matplotlib
        from matplotlib.figure import Figure

        from higan.validation import plots

        first, result = next(iter(comparison.models.items()))
        curves, units = result.curves, comparison.setting.length_units
        if not np.isfinite(curves["scatter_truth"]).any():
            return None
        k = curves["covariance_k"]
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(10.5, 4.8), dpi=plots.DPI)
            grid = figure.add_gridspec(2, 3, width_ratios=(1.3, 1, 1))
            above = figure.add_subplot(grid[0, 0])
            below = figure.add_subplot(grid[1, 0], sharex=above)
            above.loglog(k, curves["scatter_truth"], color=plots.TRUTH, lw=2.2, label="truth")
            shown = []
            for name, model, style in plots.lines(comparison):
                above.plot(k, model.curves["scatter"], label=name, **style)
                value, error = model.curves["variance_ratio"], np.nan_to_num(model.curve_errors["variance_ratio"])
                below.plot(k, value, **style)
                below.fill_between(k, value - error, value + error, color=style["color"], alpha=0.35, lw=0)
                shown += [value - error, value + error]
            above.set_ylabel("scatter of P(k) / P(k)")
            plots.ratio_axes(below, k, np.stack(shown), units)
            below.set_ylabel("variance / true variance")
            matrices = {"truth": curves["correlation_matrix_truth"], first: curves["correlation_matrix"]}
            at = np.linspace(0, len(k) - 1, min(len(k), 4)).round().astype(int)
            squares = [figure.add_subplot(grid[:, column]) for column in (1, 2)]
            for axes, (name, matrix) in zip(squares, matrices.items(), strict=True):
                image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
                axes.set_title(name)
                axes.set_xticks(at, [f"{k[i]:.2g}" for i in at])
                axes.set_yticks(at, [f"{k[i]:.2g}" for i in at])
                axes.set_xlabel(f"k [1/{units}]")
            figure.colorbar(image, ax=squares, shrink=0.6, label="correlation of P(k)")
            plots.legend(above)
            plots.save(figure, path)
        return (
            "Scatter of the power among maps of the same parameters, relative to the true power, and its variance over "
            "that of the truth; on the right, how the power on one scale varies with that on another, for the truth "
            f"and {first}."
        )


def _pooled(P: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums over the simulations of each group."""
    total = np.zeros((groups, *P.shape[1:]))
    np.add.at(total, group, P)
    return total


def _variance(C: np.ndarray) -> np.ndarray:
    """The diagonal, exactly zero where it is so but for rounding."""
    variance = np.diag(C)
    return np.where(variance < 1e-12, 0.0, variance)
