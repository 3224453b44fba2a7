"""Shapes of galaxies on stamps (:mod:`higan.morphology`), true beside generated; and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan import photometry
from higan.morphology import shapes
from higan.validation.statistic import Number, Setting, Statistic, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

SIDES = (16, 256)  # pixels: what is an image of one galaxy

EDGES = {
    "flux_radius": np.geomspace(0.5, 64.0, 51),
    "sigma": np.geomspace(0.5, 64.0, 51),
    "ellipticity": np.linspace(0.0, 1.0, 51),
    "concentration": np.linspace(1.5, 5.5, 51),  # a Gaussian has 2.1, a de Vaucouleurs profile 4.3
    "asymmetry": np.append(0.0, np.geomspace(1e-3, 1.0, 50)),  # what is less is a matter of rounding
    "gini": np.linspace(0.2, 0.9, 51),
    "m20": np.linspace(-3.5, 0.0, 51),
}
"""Of the histograms of every quantity, sizes in pixels: its known range, with an open bin on either side."""

RADIUS_EDGES, RADII_SHOWN = 2 ** np.arange(0.0, 5.5, 0.5), 2 ** np.arange(-0.25, 5.5, 0.5)  # pixels
MAGNITUDE_EDGES, MAGNITUDES_SHOWN = np.arange(20.0, 25.5, 0.5), np.arange(19.75, 25.5, 0.5)
"""Of bins whose outer ones are open, and where they are drawn."""

DIVERSE = ("ellipticity", "concentration")
_LABELS = {
    "flux_radius": "half-light radius",
    "sigma": "adaptive size",
    "ellipticity": "ellipticity",
    "concentration": "concentration",
    "asymmetry": "asymmetry",
    "gini": "Gini",
    "m20": "M20",
}
_NO_GALAXIES = "the maps are no images of single galaxies, or have no light"
_NO_MOMENTS = "the maps are no images of single galaxies, or GalSim is not installed"
_ALONE = "the maps are no images of single galaxies, or there is one realisation of each"


@statistic("galaxy_shapes")
class GalaxyShapes(Statistic):
    """How large and how shaped galaxies are on true and generated stamps, and whether they are as they were asked for.

    A generated stamp is painted for the parameters of a true one, among them mag_auto and flux_radius as measured on
    that: what the same measurement finds on the generated stamp, less what it finds on the true one, is its error.
    Relations are means in bins of flux_radius, those of flux_radius itself in bins of mag_auto.
    """

    order = 75
    numbers = {
        f"D_{name}": Number(
            f"D of {label}",
            f"Largest difference between the shares of galaxies below a value of their {label}, generated and true.",
            missing=_NO_MOMENTS if name in ("sigma", "ellipticity") else _NO_GALAXIES,
        )
        for name, label in _LABELS.items()
    } | {
        "magnitude_bias": Number(
            "magnitude, bias", "Mean magnitude of generated galaxies less the one asked for.", "mag", _NO_GALAXIES
        ),
        "magnitude_scatter": Number("magnitude, scatter", "Standard deviation of the same.", "mag", _NO_GALAXIES),
        "radius_bias": Number(
            "radius, bias", "Mean ln of generated half-light radii over the one asked for.", "%", _NO_GALAXIES
        ),
        "radius_scatter": Number("radius, scatter", "Standard deviation of the same.", "%", _NO_GALAXIES),
        "diversity_ellipticity": Number(
            "diversity of ellipticity",
            "Standard deviation among realisations of a galaxy, over that of true galaxies of its half-light radius.",
            missing=f"{_ALONE}, or GalSim is not installed",
        ),
        "diversity_concentration": Number("diversity of concentration", "The same for concentration.", "", _ALONE),
        "without_moments": Number(
            "without moments", "Share of generated stamps for which adaptive moments fail.", "%", _NO_MOMENTS
        ),
        "without_moments_true": Number("without moments, true", "The same of true stamps.", "%", _NO_MOMENTS),
    }
    curves = {
        "shape_edges": f"values at which the CDFs are taken, a row each: {', '.join(_LABELS.values())}",
        "shape_cdf_truth": "share of true galaxies below each edge",
        "shape_cdf": "share of generated galaxies below each edge",
        "shape_bins": "centres of bins of mag_auto for the first row, of flux_radius for others; the outer are open",
        "shape_means_truth": "mean of each quantity over the true galaxies in a bin",
        "shape_means": "mean of each quantity over the generated galaxies in a bin",
        "asked_bins": "centres of bins of true mag_auto and flux_radius, the outer ones open",
        "asked_errors": "mean of generated less true mag_auto and ln flux_radius in a bin",
        "asked_scatter": "standard deviation of the same",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        sides = setting.shape
        self.stamps = setting.kind == "image" and len(sides) == 2 and SIDES[0] <= min(sides) <= max(sides) <= SIDES[1]

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """As of generated stamps; nothing of other maps."""
        if not self.stamps:
            return {}
        return {f"{name}_truth": values for name, values in _summary(shapes(truth[:, None])).items()}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Histograms, and counts and sums of powers in bins, averaged over realisations; nothing of other maps."""
        if not self.stamps:
            return {}
        found, asked = shapes(generated), photometry.measure(truth[:, None])
        brighter, larger = found["mag_auto"] - asked["mag_auto"], np.log(found["flux_radius"] / asked["flux_radius"])
        by_magnitude = _binned(brighter, MAGNITUDE_EDGES, asked["mag_auto"])
        by_radius = _binned(larger, RADIUS_EDGES, asked["flux_radius"])
        several = generated.shape[1] > 1
        within = [found[name].var(axis=1, ddof=1) if several else np.full(len(truth), np.nan) for name in DIVERSE]
        return _summary(found) | {
            "asked": np.stack([by_magnitude, by_radius], axis=1),
            "within": _powers(np.stack(within, axis=1)),
        }

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        if not self.stamps:
            return dict.fromkeys(self.numbers, np.nan) | dict.fromkeys(self.curves, np.empty(0))
        total = {name: values.sum(axis=0) for name, values in sums.items()}
        counts = np.stack([total["histogram_truth"], total["histogram"]])
        known = counts.sum(axis=2)
        cdf_truth, cdf = np.cumsum(ratio(counts, known[..., None]), axis=2)[..., :-1]
        D = np.abs(cdf - cdf_truth).max(axis=1)
        sigma = list(EDGES).index("sigma")
        missed = 1 - known[:, sigma] / total["maps"] if known[0, sigma] else np.full(2, np.nan)
        bias, scatter = _mean_and_scatter(total["asked"].sum(axis=1))
        count, x, squares = np.moveaxis(total["relations_truth"], -1, 0)
        variance = dict(zip(EDGES, ratio(np.nansum(squares - ratio(x**2, count), 1), count.sum(axis=1)), strict=True))
        within = dict(zip(DIVERSE, _mean_and_scatter(total["within"])[0], strict=True))
        asked_errors, asked_scatter = _mean_and_scatter(total["asked"])
        return {
            **{f"D_{name}": float(distance) for name, distance in zip(EDGES, D, strict=True)},
            "magnitude_bias": float(bias[0]),
            "magnitude_scatter": float(scatter[0]),
            "radius_bias": float(bias[1]),
            "radius_scatter": float(scatter[1]),
            **{f"diversity_{name}": float(np.sqrt(ratio(within[name], variance[name]))) for name in DIVERSE},
            "without_moments": float(missed[1]),
            "without_moments_true": float(missed[0]),
            "shape_edges": np.stack(list(EDGES.values())),
            "shape_cdf_truth": cdf_truth,
            "shape_cdf": cdf,
            "shape_bins": np.stack([MAGNITUDES_SHOWN] + [RADII_SHOWN] * (len(EDGES) - 1)),
            "shape_means_truth": _mean_and_scatter(total["relations_truth"])[0],
            "shape_means": _mean_and_scatter(total["relations"])[0],
            "asked_bins": np.stack([MAGNITUDES_SHOWN, RADII_SHOWN]),
            "asked_errors": asked_errors,
            "asked_scatter": asked_scatter,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Distributions, relations, and what was asked for."""
        import matplotlib
        from matplotlib.figure import Figure

        from higan.validation import plots

        curves = next(iter(comparison.models.values())).curves
        if not np.isfinite(curves["shape_cdf_truth"]).any():
            return None

        def pixels(axes: Any) -> None:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")

        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(11.5, 10.5), dpi=plots.DPI)
            grid = figure.subplots(4, 4)
            for i, label in enumerate(_LABELS.values()):
                above, below = grid[i // 4, i % 4], grid[2 + i // 4, i % 4]
                edges, bins = curves["shape_edges"][i], curves["shape_bins"][i]
                truth = np.diff(curves["shape_cdf_truth"][i])
                above.stairs(truth, edges, fill=True, color="0.82", label="truth")
                below.plot(bins, curves["shape_means_truth"][i], color=plots.TRUTH, lw=2.2)
                shown = truth > 0
                for name, result, style in plots.lines(comparison):
                    share, mean = np.diff(result.curves["shape_cdf"][i]), result.curves["shape_means"][i]
                    error = np.nan_to_num(result.curve_errors["shape_means"][i])
                    above.stairs(share, edges, baseline=None, label=name, **style)
                    below.plot(bins, mean, **style)
                    below.fill_between(bins, mean - error, mean + error, color=style["color"], alpha=0.35, lw=0)
                    shown |= share > 0.002
                if shown.any():
                    above.set_xlim(edges[:-1][shown].min(), edges[1:][shown].max())
                if i < 2:
                    pixels(above)
                    label += " [pix]"
                if i:
                    pixels(below)
                above.set_xlabel(label)
                below.set_ylabel(f"mean {label}")
                below.set_xlabel("half-light radius [pix]" if i else "magnitude")
            for i, axes in enumerate(grid[[1, 3], 3]):
                axes.axhline(0.0, color=plots.TRUTH, lw=0.8)
                for _, result, style in plots.lines(comparison):
                    x, mean, scatter = (result.curves[f"asked_{name}"][i] for name in ("bins", "errors", "scatter"))
                    axes.plot(x, mean, **style)
                    axes.fill_between(x, mean - scatter, mean + scatter, color=style["color"], alpha=0.2, lw=0)
                axes.set_xlabel("true half-light radius [pix]" if i else "true magnitude")
                axes.set_ylabel("Δ ln half-light radius" if i else "Δ magnitude")
            pixels(axes)
            for axes in grid[:2, 0]:
                axes.set_ylabel("share of galaxies")
            plots.legend(grid[0, 0])
            plots.save(figure, path)
        return (
            "Above, distributions of sizes and shapes of galaxies, the truth as an area; below, their means in bins "
            "of half-light radius (of magnitude for that itself), with errors by bootstrap. On the right, generated "
            "less true magnitude and half-light radius: mean, and as a band the standard deviation."
        )


def _summary(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of quantities (n, realisations): histograms (n, 7, bins), and means in bins of magnitude or radius."""
    histograms, relations = [], []
    for name, edges in EDGES.items():
        values = found[name]
        known = np.zeros((*values.shape, len(edges) + 1))
        place = np.searchsorted(edges, values, side="right")[..., None]
        np.put_along_axis(known, place, 1.0 - np.isnan(values)[..., None], axis=2)
        histograms.append(known.mean(axis=1))
        by = (MAGNITUDE_EDGES, found["mag_auto"]) if name == "flux_radius" else (RADIUS_EDGES, found["flux_radius"])
        relations.append(_binned(values, *by))
    return {"histogram": np.stack(histograms, axis=1), "relations": np.stack(relations, axis=1)}


def _binned(values: np.ndarray, edges: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Powers of values (n, realisations) in bins of what `by` holds, (n, bins, 3), averaged over realisations."""
    powers = np.zeros((*values.shape, len(edges) + 1, 3))
    place = np.broadcast_to(np.searchsorted(edges, by, side="right"), values.shape)[..., None, None]
    np.put_along_axis(powers, place, _powers(values)[..., None, :], axis=2)
    return powers.mean(axis=1)


def _powers(values: np.ndarray) -> np.ndarray:
    """1, x and x² of values (…) that are finite, and 0 of others: (…, 3)."""
    known = np.isfinite(values)
    x = np.where(known, values, 0.0)
    return np.stack([known, x, x**2], axis=-1)


def _mean_and_scatter(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From sums of :func:`_powers`, NaN where there are no values."""
    count, x, squares = np.moveaxis(sums, -1, 0)
    mean = ratio(x, count)
    return mean, np.sqrt(np.maximum(ratio(squares, count) - mean**2, 0.0))
