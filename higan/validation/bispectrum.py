"""The bispectrum: what phases add to the power spectrum.

Convention: for a map f of N cells of volume V_cell, B(k1, k2, k3) = V_cell^2 / N <F(q1) F(q2) F(q3)>, where F(q) is the
sum of (f - <f>) exp(-i q x) over cells x, averaged over the triangles q1 + q2 + q3 = 0 whose sides lie in three bins of
k, in units of the field cubed times length^(2 ndim). The bins are those of the power spectrum. B vanishes for Gaussian
fields, and is 1 / n^2 for the overdensity of points of number density n without structure.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from higan.validation.power_spectrum import NO_DECADES, bin_modes, bin_weights, logarithm, taper, tapered
from higan.validation.statistic import Number, Setting, Summary, median, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

CHUNK_CELLS = 1 << 16  # transformed at a time: a shell of them stays in the cache
MOST_SIDES = 16
MOST_ANGLES = 9


def bispectrum(maps: Any, cell_size: float, triangles: Any, window: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Bispectrum of each of a batch of maps of 1, 2 or 3 dimensions, for triangles of bins of k.

    The modes of a bin are filtered out and transformed back; the sum over cells of the product of three such fields is
    the sum over all triangles, and the same with all amplitudes 1 counts them.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Any units.
    cell_size : float
        Side of a cell in a length unit (Mpc).
    triangles : array_like of int, shape (n_triangles, 3)
        Bins of the three sides, counted from 1: bin i is around i times the fundamental.
    window : str, optional
        For maps that are not periodic, as of :func:`higan.validation.power_spectrum.power_spectrum`; B is divided by
        the mean cubed window.

    Returns
    -------
    k : ndarray, shape (n_triangles, 3)
        Mean wavenumber of the modes of each side's bin, in 1 / length.
    B : ndarray, shape (n, n_triangles)
        float64, in units of the field cubed times length^(2 ndim); NaN for bins without a triangle.

    Raises
    ------
    ValueError
        If a bin does not exist, or sides are so long that modes would close around the box and not to a triangle: if
        the bins sum to more than :func:`longest`.

    References
    ----------
    Watkinson et al. 2017, MNRAS 472, 2436 (1705.06284, the estimator); Sefusatti et al. 2016, MNRAS 460, 3624
    (1512.07295, what modes close around the box).

    Examples
    --------
    >>> x = np.arange(32)
    >>> three = sum(np.cos(2 * np.pi * i * x / 32) for i in (2, 3, 5))  # 2 + 3 = 5: the waves keep in step
    >>> k, B = bispectrum(three[None], 1.0, [(2, 3, 5), (2, 2, 4)])
    >>> (B.round(6) + 0.0).tolist()  # 32^2 / 8
    [[128.0, 0.0]]
    """
    maps, triangles = np.asarray(maps), np.asarray(triangles, dtype=int).reshape(-1, 3)
    shape, axes = maps.shape[1:], tuple(range(1, maps.ndim))
    bins = bin_weights(shape, cell_size).shape[0]
    if triangles.min(initial=1) < 1 or triangles.max(initial=1) > bins:
        raise ValueError(
            f"maps of shape {shape} have bins 1 to {bins} of k, and triangles bins {triangles.min()} to "
            f"{triangles.max()}"
        )
    if triangles.sum(axis=1).max(initial=0) > longest(bins):
        raise ValueError(
            f"the bins of a triangle sum to {triangles.sum(axis=1).max()}: beyond {longest(bins)} modes close around "
            "the box"
        )
    k, modes, counts = _prepared(shape, float(cell_size), tuple(map(tuple, triangles.tolist())))
    B = np.empty((len(maps), len(triangles)))
    step = max(1, CHUNK_CELLS // int(np.prod(shape)))
    for start in range(0, len(maps), step):
        F = scipy.fft.rfftn(tapered(maps[start : start + step], window), axes=axes)
        B[start : start + step] = _products(F, modes, triangles, shape)
    cells = float(np.prod(shape)) * (1.0 if window is None else float((taper(shape, window) ** 3).mean()))
    return k[triangles - 1], ratio(B, counts) * float(cell_size) ** (2 * len(shape)) / cells


def longest(bins: int) -> int:
    """What the bins of a triangle's sides may sum to, of maps with so many bins.

    Those of bin i have wavenumbers below i + 1/2 fundamentals, and must not add up to twice the Nyquist wavenumber.

    Examples
    --------
    >>> longest(32)
    62
    """
    return max(2 * bins - 2, 0)


def equilateral(bins: int) -> np.ndarray:
    """Triangles with three equal sides of at most 16 sizes in equal ratios, as far as bins allow: (n, 3).

    Examples
    --------
    >>> equilateral(8).tolist()
    [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]]
    >>> equilateral(32)[:, 0].tolist()
    [1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 20]
    """
    largest = longest(bins) // 3
    sizes = np.unique(np.geomspace(1, largest, MOST_SIDES).round().astype(int)) if largest else np.arange(0)
    return np.repeat(sizes[:, None], 3, axis=1)


def two_sides(bins: int) -> np.ndarray:
    """Triangles with sides k1, k2 = 2 k1 and at most 9 third sides from k1 to 3 k1: (n, 3); k1 is an eighth of bins.

    Examples
    --------
    >>> two_sides(16).tolist()
    [[2, 4, 2], [2, 4, 3], [2, 4, 4], [2, 4, 5], [2, 4, 6]]
    """
    first = max(1, bins // 8)
    third = np.unique(np.linspace(first, 3 * first, MOST_ANGLES).round().astype(int))
    third = third[3 * first + third <= longest(bins)]
    return np.stack([np.full_like(third, first), np.full_like(third, 2 * first), third], axis=1)


def _products(F: np.ndarray, modes: Sequence[np.ndarray], triangles: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over cells of the product of the fields of three shells of transforms F (n, …): (n, n_triangles)."""
    n, axes = len(F), tuple(range(1, F.ndim))
    last = {side: row for row, sides in enumerate(triangles.tolist()) for side in sides}
    shells: dict[int, np.ndarray] = {}
    sums = np.empty((n, len(triangles)))
    for row, sides in enumerate(triangles.tolist()):
        for side in set(sides) - shells.keys():
            shell = np.zeros_like(F)
            chosen = modes[side - 1]
            shell.reshape(n, -1)[:, chosen] = F.reshape(n, -1)[:, chosen]
            shells[side] = scipy.fft.irfftn(shell, s=shape, axes=axes, overwrite_x=True).reshape(n, -1)
        a, b, c = (shells[side] for side in sides)
        sums[:, row] = np.einsum("nx,nx,nx->n", a, b, c)
        # Shells of a large box fill memory: each is dropped after its last triangle.
        shells = {side: shell for side, shell in shells.items() if last[side] > row}
    return sums


@functools.lru_cache(maxsize=4)
def _prepared(
    shape: tuple[int, ...], cell_size: float, triangles: tuple[tuple[int, int, int], ...]
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Mean wavenumber and modes of each bin, and the triangles of modes, counted as :func:`_products` does."""
    weights = bin_weights(shape, cell_size).tocsr()
    modes = np.split(weights.indices, weights.indptr[1:-1])
    ones = np.ones((1, *shape[:-1], shape[-1] // 2 + 1), dtype=complex)
    cells = float(np.prod(shape))
    # Sums are those over triangles divided by cells^2: whole numbers, which tells none from few.
    counts = np.round(_products(ones, modes, np.array(triangles, dtype=int).reshape(-1, 3), shape)[0] * cells**2)
    return bin_modes(shape, cell_size)[0], modes, counts / cells**2


def _numbers(of: str, suffix: str) -> dict[str, Number]:
    missing = "no such triangle fits the maps, or their true bispectrum is zero"
    label = "median |B/B_t-1|" + (", log field" if suffix else "")
    return {
        f"median_abs_B_ratio_minus_1{suffix}": Number(
            label,
            f"How far the bispectrum{of} of equilateral triangles is off, for the median of all scales.",
            "%",
            NO_DECADES if suffix else missing,
        ),
        f"median_abs_B_angle_ratio_minus_1{suffix}": Number(
            f"{label}, angles",
            f"How far the bispectrum{of} of triangles with sides k1 and 2 k1 is off, for the median of all angles.",
            "%",
            NO_DECADES if suffix else missing,
        ),
    }


def _curves(of: str, suffix: str) -> dict[str, str]:
    found = {
        "k_equilateral": f"side of equilateral triangles{of and ', for the logarithm'}",
        "B_truth": f"mean bispectrum{of} of the true maps, equilateral triangles",
        "B": f"mean bispectrum{of} of the generated maps, equilateral triangles",
        "B_ratio": f"B{suffix} over B{suffix}_truth",
        "B_angle_cosine": "cosine of the angle between k1 and k2 = 2 k1: 1 where the third side is 3 k1, -1 where k1",
        "B_angle_truth": f"mean bispectrum{of} of the true maps at these angles",
        "B_angle": f"mean bispectrum{of} of the generated maps at these angles",
        "B_angle_ratio": f"B_angle{suffix} over B_angle{suffix}_truth",
    }
    return {_named(name, suffix): text for name, text in found.items()}


def _named(name: str, suffix: str) -> str:
    """A curve's name, that of the truth at its end."""
    return name.removesuffix("_truth") + suffix + ("_truth" if name.endswith("_truth") else "")


@statistic("bispectrum")
class Bispectrum(Summary):
    """B of equilateral triangles, and of those with sides k1, 2 k1 and any third, from the mean over all test maps.

    The latter shows how B depends on the angle between k1 and k2 = 2 k1. Where the true B passes through zero its ratio
    is large whatever the model, so that the medians say more than the means.
    """

    order = 40
    suffix = ""
    numbers = _numbers("", suffix)
    curves = _curves("", suffix)
    bins = {"B": "truth", "B_angle": "truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        bins = bin_weights(setting.shape, setting.cell_size).shape[0]
        sides = equilateral(bins)
        self.split, self.triangles = len(sides), np.concatenate([sides, two_sides(bins)])
        self.k, _ = bispectrum(np.empty((0, *setting.shape)), setting.cell_size, self.triangles)

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """B of all triangles, (n, n_triangles)."""
        return bispectrum(maps, self.setting.cell_size, self.triangles, self.setting.window)[1]

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = self.means(sums)
        B_ratio, n = ratio(generated, truth), self.split
        off = np.abs(B_ratio - 1)
        first, second, third = self.k[n:].T
        # The law of cosines with q1 + q2 = -q3; mean wavenumbers of bins may lie just beyond a flat triangle.
        cosine = np.clip((third**2 - first**2 - second**2) / (2 * first * second), -1, 1)
        found = {
            "median_abs_B_ratio_minus_1": median(off[:n]),
            "median_abs_B_angle_ratio_minus_1": median(off[n:]),
            "k_equilateral": self.k[:n, 0],
            "B_truth": truth[:n],
            "B": generated[:n],
            "B_ratio": B_ratio[:n],
            "B_angle_cosine": cosine,
            "B_angle_truth": truth[n:],
            "B_angle": generated[n:],
            "B_angle_ratio": B_ratio[n:],
        }
        return {_named(name, self.suffix): value for name, value in found.items()}

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """B against scale, and against the angle."""
        from higan.validation import plots

        setting, curves = comparison.setting, next(iter(comparison.models.values())).curves
        if cls.suffix and not setting.logarithmic:
            return None
        power = 2 * len(setting.shape)
        of = " of the logarithm" if cls.suffix else ""
        units = f"({setting.units})$^3$" if setting.units and not of else ""
        steep = f"[{units}{' ' if units else ''}{setting.length_units}$^{power}$]"
        # Of either sign, B spans too many decades for one axis as it is.
        panels = [
            plots.Panel(
                _named("k_equilateral", cls.suffix),
                _named("B", cls.suffix),
                f"k [1/{setting.length_units}]",
                f"k$^{power}$ B(k, k, k){of} {f'[{units}]' if units else ''}",
                x_scale="log",
                power=power,
            ),
            plots.Panel(
                _named("B_angle_cosine", cls.suffix),
                _named("B_angle", cls.suffix),
                "cos θ",
                f"B(k$_1$, 2 k$_1$, θ){of} {steep}",
            ),
        ]
        # On a line only flat triangles close: two points, which make no curve.
        panels = [panel for panel in panels if np.isfinite(curves[f"{panel.y}_truth"]).sum() > 2]
        if not panels:
            return None
        plots.beside_truth(comparison, path, panels)
        return (
            f"Above, the mean bispectrum{of} of equilateral triangles, and of those with sides k1 and 2 k1 against the "
            "angle θ between these, as far as maps have any; below, its ratio to the truth less 1, with errors by "
            "bootstrap over simulations."
        )


@statistic("log_bispectrum")
class LogBispectrum(Bispectrum):
    """The same of the decimal logarithm of fields that span decades, whose own is that of their brightest cells.

    Generated cells are taken at the lowest edge of the one-point distribution at least, as for
    :class:`higan.validation.power_spectrum.LogPowerSpectrum`.
    """

    order = 41
    suffix = "_log"
    numbers = _numbers(" of the logarithm", suffix)
    curves = _curves(" of the logarithm", suffix)
    bins = {"B_log": "truth", "B_angle_log": "truth"}

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """B of all triangles, (n, n_triangles)."""
        if not self.setting.logarithmic:
            return np.full((len(maps), len(self.triangles)), np.nan)
        return super().summarise(logarithm(maps, self.setting.edges[0]))
