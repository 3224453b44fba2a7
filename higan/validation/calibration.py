"""Whether the truth is as one more realisation: ranks, coverage, spread scale by scale, error of the mean."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.covariance import merged_bins
from higan.validation.power_spectrum import NO_DECADES, logarithm, power_spectrum
from higan.validation.statistic import Number, Setting, Statistic, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

BANDS = 4
COVERAGES = (0.68, 0.95)
MOST_RANK_BINS = 16
_ALONE = "it takes two or more realisations of each map"


@statistic("calibration")
class Calibration(Statistic):
    """Ranks of the truth among the R realisations of its map, and what their spread says of their mean.

    Ranked are, for every map, P in four bands of k (evenly in ln k; fewer for few bins) and the shares of cells in four
    bands of value (between levels of the setting; fewer where there are not as many). If the truth is as one more
    realisation, its rank is uniform on 0 … R; too narrow realisations have it at the ends, a bias at one of them. A
    rank that several values tie for is shared among the tied ranks.

    The share of truths within the central interval of a probability follows from the ranks, as if each were uniform
    within its 1 / (R + 1): that is exact for a calibrated model whatever R.

    Scale by scale, (1 + 1/R) times the power of the realisations about their mean, over the power of the truth about
    that mean, is 1 for a calibrated model. The square error of the mean, less what the spread of R realisations adds to
    it, is that of the mean of infinitely many: what a network trained for the mean is to be compared with. Of a field
    that spans decades both are taken of its decimal logarithm, too (:func:`higan.validation.power_spectrum.logarithm`):
    the physical field's are those of its brightest cells.

    Maps of one simulation are correlated: see :func:`uniformity` for a test of the ranks that allows for it.

    References
    ----------
    Anderson 1996, J. Climate 9, 1518; Hamill 2001, Mon. Weather Rev. 129, 550 (rank histograms); Fortin et al. 2014,
    J. Hydrometeorol. 15, 1708 (spread against error, with its factor of 1 + 1/R).
    """

    order = 15
    numbers = {
        "coverage_68_error": Number(
            "68 % coverage, off by",
            "How far the share of truths within the central 68 % of their realisations is from 68 %, for the quantity "
            "where it is worst.",
            "%",
            missing=_ALONE,
        ),
        "coverage_95_error": Number(
            "95 % coverage, off by",
            "The same for 95 %.",
            "%",
            missing=_ALONE,
        ),
        "rank_distance": Number(
            "rank distance",
            "How far the ranks of the truth among its realisations are from uniform, for the quantity where they are "
            "farthest: the largest difference of the shares below a rank.",
            missing=_ALONE,
        ),
        "spread_mean": Number(
            "spread by scale",
            "How far the power of the realisations about their mean is from what the truth has about it, on average "
            "over scales.",
            "%",
            missing=_ALONE,
        ),
        "spread_worst": Number(
            "spread by scale, worst", "The same at the scale where it is worst.", "%", missing=_ALONE
        ),
        "mse_mean": Number(
            "square error of mean",
            "Mean square error of cells of the mean of infinitely many realisations: the network trained for the mean "
            "is what to compare it with.",
            "{units}^2",
            missing=_ALONE,
        ),
        "spread_mean_log": Number(
            "spread by scale, log field",
            "How far the spread by scale of the logarithm of the field is off, averaged over scales.",
            "%",
            missing=f"{NO_DECADES}, or {_ALONE}",
        ),
        "mse_mean_log": Number(
            "square error of mean, log field",
            "Mean square error of cells of the mean logarithm of infinitely many realisations.",
            "dex^2",
            missing=f"{NO_DECADES}, or {_ALONE}",
        ),
    }
    curves = {
        "rank_pdf": "rank of the truth among its realisations, over what is uniform, a row a quantity: P in bands of "
        "k, then shares of cells in bands of value",
        "coverage": "share of truths within the central 68 and 95 % of their realisations, a row a quantity",
        "spread_ratio": "power of realisations about their mean, times 1 + 1/R, over that of the truth about it",
        "spread_ratio_log": "the same of the decimal logarithm of the field",
    }
    scatter = {"rank_histograms": "number of maps at each rank of the truth, a row a quantity"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.k, _, self.bands = merged_bins(setting.shape, setting.cell_size, BANDS)
        levels = np.asarray(setting.levels, dtype=np.float64)
        inner = np.linspace(0, len(levels) - 1, BANDS + 1).round().astype(int)[1:-1]
        self.thresholds = np.unique(levels[inner]) if len(levels) else levels

    @property
    def quantities(self) -> list[str]:
        """What is ranked, in the order of rows."""
        setting = self.setting
        values = [f"{value:.3g}" for value in self.thresholds]
        shares = [f"{low} to {high}" for low, high in itertools.pairwise(values)]
        if values:
            shares = [f"< {values[0]}", *shares, f"> {values[-1]}"]
        return [f"P, k = {k:.2g}/{setting.length_units}" for k in self.k] + [f"cells {share}" for share in shares]

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Shares of each map at every rank, and powers and mean squares about the mean of realisations."""
        n, count = generated.shape[:2]
        powers = [self._power(maps) for maps in (truth, *np.moveaxis(generated, 1, 0))]
        drawn = np.stack(
            [np.hstack([p @ self.bands.T, s]) for p, s in zip(powers, self._shares(truth, generated), strict=True)]
        )
        ranks = _ranks(drawn[0], drawn[1:]) if count > 1 else np.full((n, drawn.shape[2], 2), np.nan)
        sums = {"ranks": ranks, **self._about_mean(truth, generated, powers[1:])}
        if self.setting.logarithmic:
            truth, generated = (logarithm(maps, self.setting.edges[0]) for maps in (truth, generated))
            powers = [self._power(maps) for maps in np.moveaxis(generated, 1, 0)]
            sums |= {f"{key}_log": value for key, value in self._about_mean(truth, generated, powers).items()}
        return sums

    def _power(self, maps: np.ndarray) -> np.ndarray:
        return power_spectrum(maps, self.setting.cell_size, self.setting.window)[1]

    def _about_mean(
        self, truth: np.ndarray, generated: np.ndarray, powers: Sequence[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Powers of realisations and truth about the mean, and its square error, of realisations of these `powers`."""
        n, count = generated.shape[:2]
        if count == 1:
            nothing = np.full_like(powers[0], np.nan)
            return {"spread_power": nothing, "miss_power": nothing, "mse_mean": np.full(n, np.nan)}
        cells = tuple(range(1, truth.ndim))
        mean = generated.mean(axis=1, dtype=np.float64)
        # Power is quadratic: the sum about the mean is the sum about zero less that of the mean.
        variance_power = (sum(powers) - count * self._power(mean)) / (count - 1)
        variance = generated.var(axis=1, ddof=1, dtype=np.float64).mean(axis=cells)
        return {
            "spread_power": (1 + 1 / count) * variance_power,
            "miss_power": self._power(truth - mean),
            "mse_mean": ((truth - mean) ** 2).mean(axis=cells) - variance / count,
        }

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        maps = sums["maps"].sum()
        cdf = _cdf(sums["ranks"].sum(axis=0) / maps)
        uniform = np.linspace(0, 1, cdf.shape[1])
        bins = np.linspace(0, 1, min(cdf.shape[1] - 1, MOST_RANK_BINS) + 1)
        coverage = _at(cdf, 0.5 + 0.5 * np.array(COVERAGES)) - _at(cdf, 0.5 - 0.5 * np.array(COVERAGES))
        worst = np.abs(coverage - COVERAGES).max(axis=0)
        values: dict[str, Any] = {}
        for kind in ("", "_log"):
            if f"mse_mean{kind}" in sums:
                spread, miss = (sums[f"{name}_power{kind}"].sum(axis=0) for name in ("spread", "miss"))
                mse = float(sums[f"mse_mean{kind}"].sum() / maps)
            else:
                spread = miss = np.full(sums["miss_power"].shape[1], np.nan)
                mse = np.nan
            spread_ratio = ratio(spread, miss)
            off = np.abs(spread_ratio - 1)
            values |= {
                f"spread_mean{kind}": average(off),
                f"mse_mean{kind}": mse,
                f"spread_ratio{kind}": spread_ratio,
            }
        return values | {
            "coverage_68_error": float(worst[0]),
            "coverage_95_error": float(worst[1]),
            "rank_distance": float(np.abs(cdf - uniform).max()),
            "spread_worst": float(np.fmax.reduce(np.abs(values["spread_ratio"] - 1))),
            "rank_pdf": np.diff(_at(cdf, bins), axis=1) * (len(bins) - 1),
            "coverage": coverage,
        }

    def by_simulation(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rank histograms."""
        return {"rank_histograms": sums["ranks"]}

    def _shares(self, truth: np.ndarray, generated: np.ndarray) -> np.ndarray:
        """Shares of cells in the bands of value, of truth and realisations: (1 + realisations, n, bands)."""
        maps = np.concatenate([truth[:, None], generated], axis=1)
        cells = tuple(range(2, maps.ndim))
        above = [(maps > threshold).mean(axis=cells) for threshold in self.thresholds]
        if not above:
            return np.empty((maps.shape[1], len(maps), 0))
        one = np.ones_like(above[0])
        return -np.diff(np.stack([one, *above, 0 * one]), axis=0).transpose(2, 1, 0)

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Rank histograms, and the spread scale by scale."""
        import matplotlib
        from matplotlib.figure import Figure

        from higan.validation import plots

        lines = [line for line in plots.lines(comparison) if np.isfinite(line[1].curves["rank_pdf"]).any()]
        if not lines:
            return None
        quantities = cls(comparison.setting).quantities
        highest = max(np.nanmax(result.curves["rank_pdf"]) for _, result, _ in lines)
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(9.6, 6.8), dpi=plots.DPI)
            grid = figure.add_gridspec(3, BANDS, height_ratios=(1, 1, 1.3))
            for i, quantity in enumerate(quantities):
                axes = figure.add_subplot(grid[i // BANDS, i % BANDS])
                for name, result, style in lines:
                    pdf = result.curves["rank_pdf"][i]
                    axes.stairs(pdf, np.linspace(0, 1, len(pdf) + 1), baseline=None, label=name, **style)
                axes.axhline(1.0, color=plots.TRUTH, lw=0.8)
                axes.set_ylim(0, 1.05 * max(highest, 1.5))
                axes.set_title(quantity, fontsize=8)
                if i % BANDS == 0:
                    axes.set_ylabel("share / uniform")
                if i >= len(quantities) - BANDS:
                    axes.set_xlabel("rank of the truth")
            axes = figure.add_subplot(grid[2, :])
            shown = []
            for name, result, style in lines:
                k = result.curves["k"]
                for kind, line in (("", style), ("_log", {**style, "ls": ":"})):
                    value = result.curves[f"spread_ratio{kind}"]
                    if not np.isfinite(value).any():
                        continue
                    error = np.nan_to_num(result.curve_errors[f"spread_ratio{kind}"])
                    axes.plot(k, value, label=name + (kind and ", logarithm"), **line)
                    axes.fill_between(k, value - error, value + error, color=style["color"], alpha=0.35, lw=0)
                    shown += [value - error, value + error]
            plots.ratio_axes(axes, k, np.stack(shown), comparison.setting.length_units)
            axes.set_ylabel("spread / error, in power")
            plots.legend(axes)
            plots.save(figure, path)
        return (
            "Above, where the truth ranks among its realisations, for the power on a few scales and the share of cells "
            "of a few values: flat is calibrated, a valley too sure, a slope biased. Below, the power of the "
            "realisations about their mean over that of the truth about it: 1 is calibrated."
        )


def uniformity(histograms: Any, *, seed: int = 0, resamples: int = 10_000) -> np.ndarray:
    """Whether ranks are uniform: p-values that allow for maps of one simulation being correlated.

    The distance is the largest one of the CDF of all ranks from a uniform one. What it would be by chance comes from
    resampling simulations with replacement and taking the distance from the CDF of all instead, times
    sqrt(n_sim / (n_sim - 1)) for the mean that was taken out. With less than some ten simulations p-values come out a
    little too small.

    Parameters
    ----------
    histograms : array_like, shape (n_sim, n_quantities, n_ranks)
        Number of maps of each simulation at each rank, as `rank_histograms` of :class:`Calibration` by simulation.
    seed, resamples : int

    Returns
    -------
    ndarray, shape (n_quantities,)
        Corrected for their number by :func:`holm`; NaN for one simulation or one realisation.

    References
    ----------
    Field & Welsh 2007, J. R. Stat. Soc. B 69, 369, section 3 (bootstrap over clusters); Smirnov 1948 (the distance).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> fair, sure = rng.multinomial(10, [0.25] * 4, size=50), rng.multinomial(10, [0.4, 0.1, 0.1, 0.4], size=50)
    >>> uniformity(np.stack([fair, sure], axis=1)) < 0.05
    array([False,  True])
    """
    histograms = np.asarray(histograms, dtype=np.float64)
    n, quantities, ranks = histograms.shape
    if n < 2 or not np.isfinite(histograms).all():
        return np.full(quantities, np.nan)
    maps = histograms[:, 0].sum(axis=1)
    below = _cdf(histograms)[..., 1:-1]
    pooled = below.sum(axis=0) / maps.sum()
    distance = np.abs(pooled - np.arange(1, ranks) / ranks).max(axis=1)
    rng = np.random.default_rng(seed)
    reached = np.zeros(quantities)
    for _ in range(resamples):
        times = rng.multinomial(n, np.full(n, 1 / n))
        resampled = np.tensordot(times, below, 1) / (times @ maps)
        # But for rounding: ranks that are all tied are uniform in every resample.
        reached += np.sqrt(n / (n - 1)) * np.abs(resampled - pooled).max(axis=1) >= distance - 1e-9
    return holm((1 + reached) / (1 + resamples))


def holm(p: Any) -> np.ndarray:
    """p-values of several tests, corrected so that any of them is below alpha by chance with probability alpha.

    Parameters
    ----------
    p : array_like, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        The i-th smallest is (n - i + 1) p_i, at least as large as the one before and at most 1.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6, 65, section 2.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1.0)
    return corrected


def _ranks(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Truth (n, q) among realisations (R, n, q): the share of each rank 0 … R, (n, q, R + 1)."""
    below, tied = (drawn < truth).sum(axis=0)[..., None], (drawn == truth).sum(axis=0)[..., None]
    rank = np.arange(len(drawn) + 1)
    return ((rank >= below) & (rank <= below + tied)) / (tied + 1)


def _cdf(histograms: np.ndarray) -> np.ndarray:
    """Sums of what is below each rank, and of all: (…, ranks) to (…, ranks + 1)."""
    return np.concatenate([np.zeros((*histograms.shape[:-1], 1)), np.cumsum(histograms, axis=-1)], axis=-1)


def _at(cdf: np.ndarray, share: np.ndarray) -> np.ndarray:
    """CDFs (q, ranks + 1), straight between ranks, at shares of all ranks (m,): (q, m)."""
    edges = np.linspace(0, 1, cdf.shape[1])
    return np.stack([np.interp(share, edges, row) for row in cdf])
