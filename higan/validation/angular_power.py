"""Angular power and cross spectra of maps of the sky, by healpy's anafast.

A map is taken less the mean of its pixels that are not masked; masked ones are then zero, and C_l is divided by the
share of the sky that is left, f_sky (Hivon et al. 2002, ApJ 567, 2, eq. 17 at leading order). That is right for spectra
that vary little over the width of the mask's own, about 180° over its extent; the coupling of multipoles by the mask is
not undone. Bands are of equal width from l = 2 to 2 nside, up to which anafast is accurate, its C_l weighted by
2 l + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.mapset import MASKED
from higan.validation.statistic import Number, Setting, Statistic, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

BANDS = 32
LARGE_SCALES = 0.125  # of the largest multipole: up to where correlations are averaged


def angular_power(sky: np.ndarray, other: np.ndarray | None = None, lmax: int | None = None) -> np.ndarray:
    """Power spectrum of a map of the sky, or cross spectrum of two, at every multipole.

    Parameters
    ----------
    sky, other : array, shape (12 nside²,)
        RING order; pixels that either masks (UNSEEN) are left out of both.
    lmax : int, optional
        2 nside where not given.

    Returns
    -------
    array of float64, shape (lmax + 1,)
        C_l, in the units of both maps times steradian.

    Examples
    --------
    >>> import healpy
    >>> _, phi = healpy.pix2ang(16, np.arange(12 * 16**2))
    >>> theta, _ = healpy.pix2ang(16, np.arange(12 * 16**2))
    >>> C = angular_power(5.0 + np.cos(theta))  # a dipole: a_10 = sqrt(4 pi / 3)
    >>> int(C.argmax()), round(float(3 * C[1]), 3)
    (1, 4.189)
    """
    import healpy

    maps = [np.asarray(x, dtype=np.float64) for x in ([sky] if other is None else [sky, other])]
    seen = np.all([x > MASKED for x in maps], axis=0)
    lmax = 2 * healpy.npix2nside(len(seen)) if lmax is None else lmax
    cleaned = [np.where(seen, x - x[seen].mean(), 0.0) for x in maps]
    return np.asarray(healpy.anafast(cleaned[0], cleaned[-1] if len(maps) > 1 else None, lmax=lmax)) / seen.mean()


def bands(lmax: int) -> np.ndarray:
    """Weights (bands, lmax + 1) that average C_l over bands of equal width from l = 2 on.

    Examples
    --------
    >>> bands(5).shape, bool(np.allclose(bands(5).sum(axis=1), 1))
    ((4, 6), True)
    """
    multipoles = np.arange(lmax + 1)
    width = max(1, -(-(lmax - 1) // BANDS))
    index = np.where(multipoles < 2, -1, (multipoles - 2) // width)
    member = index == np.arange(index.max() + 1)[:, None]
    weights = member * (2 * multipoles + 1.0)
    return weights / weights.sum(axis=1, keepdims=True)


@statistic("angular_power")
class AngularPower(Statistic):
    """C_l, R_l = sum C_l / sum C_l of the truth, and r_l, in bands: P(k), R(k), r(k) of the sky."""

    order = 0
    sphere = "only"
    numbers = {
        "mean_abs_R_l_minus_1": Number(
            "mean |R_l-1|", "How far the angular power of generated maps is off, averaged over all bands of l.", "%"
        ),
        "max_abs_R_l_minus_1": Number("worst |R_l-1|", "The same in the band where it is worst.", "%"),
        "max_abs_R_l_minus_1_l": Number("at l", "The multipole of that band."),
        "r_l_large_scales": Number(
            "r_l, large scales",
            "How well one generated map follows the true one at multipoles up to an eighth of the largest.",
            missing="a power is zero",
        ),
    }
    curves = {
        "l": "mean multipole of each band, modes weighted equally",
        "C_l_truth": "mean angular power spectrum of the true maps",
        "C_l": "mean angular power spectrum of the generated maps",
        "R_l": "sum of C_l over sum of C_l_truth",
        "r_l": "cross-correlation coefficient of one realisation with the truth",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        if setting.kind == "healpix":
            self.lmax = 2 * round((setting.shape[0] / 12) ** 0.5)
            self.bands = bands(self.lmax)
            self.l = self.bands @ np.arange(self.lmax + 1)

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra a true map."""
        return {"C_truth": np.stack([self.bands @ angular_power(sky, lmax=self.lmax) for sky in truth])}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra a map, averaged over realisations."""
        C = [[angular_power(sky, lmax=self.lmax) for sky in draws] for draws in generated]
        cross = [
            [angular_power(true, sky, self.lmax) for sky in draws] for true, draws in zip(truth, generated, strict=True)
        ]
        return {"C": np.mean(C, axis=1) @ self.bands.T, "C_cross": np.mean(cross, axis=1) @ self.bands.T}

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        C_truth, C, C_cross = (sums[name].sum(axis=0) for name in ("C_truth", "C", "C_cross"))
        R, r = ratio(C, C_truth), ratio(C_cross, np.sqrt(C * C_truth))
        off = np.abs(R - 1)
        worst = int(np.nanargmax(off)) if np.isfinite(off).any() else None
        maps = sums["maps"].sum()
        return {
            "mean_abs_R_l_minus_1": average(off),
            "max_abs_R_l_minus_1": np.nan if worst is None else float(off[worst]),
            "max_abs_R_l_minus_1_l": np.nan if worst is None else float(self.l[worst]),
            "r_l_large_scales": average(r[self.l <= max(LARGE_SCALES * self.lmax, self.l[0])]),
            "l": self.l,
            "C_l_truth": C_truth / maps,
            "C_l": C / maps,
            "R_l": R,
            "r_l": r,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """C_l above its ratio to the truth."""
        from higan.validation import plots

        panel = plots.Panel("l", "C_l", "multipole l", r"$C_\ell$", x_scale="log", y_scale="log")
        plots.beside_truth(comparison, path, [panel])
        return "Angular power spectrum, and its ratio to the truth less 1; grey marks 5 %."
