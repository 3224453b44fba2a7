"""Angular power and cross spectra of maps of the sky: healpy's anafast, and MASTER where they are masked.

A map is taken less the mean of its pixels that are not masked; masked ones are then zero. Bands are of equal width from
l = 2 to 2 nside, up to which anafast is accurate, its C_l weighted by 2 l + 1. A mask couples multipoles; where there
is one, the powers of bands are those whose coupled sum is what was measured (Hivon et al. 2002, ApJ 567, 2), as
NaMaster has them; where little of the sky is seen, or in small pieces, bands are wider, as narrow ones cannot be told
apart.
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

BANDS, FEWEST = 32, 4
AMPLIFIED = 3.0  # times the errors of modes of as much sky: what undoing a mask may come to, by the norm of its matrix
LARGE_SCALES = 0.125  # of the largest multipole: up to where correlations are averaged


def angular_power(sky: np.ndarray, other: np.ndarray | None = None, lmax: int | None = None) -> np.ndarray:
    """Power spectrum of a map of the sky, or cross spectrum of two, at every multipole.

    Where pixels are masked it is over the share of the sky that is left, f_sky, which is right to leading order for
    spectra that vary little over the width of the mask's own; :class:`Decoupling` does better, in bands.

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

    power, seen = _pseudo_power(sky, other, 2 * healpy.npix2nside(len(sky)) if lmax is None else lmax)
    return power / seen.mean()


def _pseudo_power(sky: np.ndarray, other: np.ndarray | None, lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of maps that are 0 where either is masked, and which pixels are not."""
    import healpy

    maps = [np.asarray(x, dtype=np.float64) for x in ([sky] if other is None else [sky, other])]
    seen = np.all([x > MASKED for x in maps], axis=0)
    cleaned = [np.where(seen, x - x[seen].mean(), 0.0) for x in maps]
    return np.asarray(healpy.anafast(cleaned[0], cleaned[-1] if len(maps) > 1 else None, lmax=lmax)), seen


def bands(lmax: int, width: int | None = None) -> np.ndarray:
    """Weights (bands, lmax + 1) that average C_l over bands of equal width from l = 2 on, at most 32 by default.

    Examples
    --------
    >>> bands(5).shape, bands(5, 2).shape, bool(np.allclose(bands(5).sum(axis=1), 1))
    ((4, 6), (2, 6), True)
    """
    multipoles = np.arange(lmax + 1)
    width = width or max(1, -(-(lmax - 1) // BANDS))
    index = np.where(multipoles < 2, -1, (multipoles - 2) // width)
    return _averages(index == np.arange(index.max() + 1)[:, None])


def _averages(member: np.ndarray) -> np.ndarray:
    """Weights that average over the multipoles of each band (bands, lmax + 1), modes weighted equally."""
    weights = member * (2 * np.arange(member.shape[1]) + 1.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


class Decoupling:
    """The powers of bands that a mask let through: MASTER, with (l + ½)² C_l constant within each band.

    Undoing the mask amplifies errors, the more the narrower bands are beside the multipoles that it mixes: roughly by
    the norm of the matrix that undoes it times f_sky. Where that is above :data:`AMPLIFIED` bands are made twice as
    wide, and again, while there are :data:`FEWEST` of them. Wide bands are biased where C_l is not as steep as assumed.

    Parameters
    ----------
    seen : array of bool, shape (12 nside²,)
        Pixels that are not masked, in RING order.
    lmax : int
        Up to which bands go. Multipoles below and above are in bands of their own, which are thrown away.

    Attributes
    ----------
    bands : array, shape (bands, lmax + 1)
        Their weights, as of :func:`bands`.

    References
    ----------
    Hivon et al. 2002, ApJ 567, 2, astro-ph/0105302: the coupling kernel is eq. A31, here as an integral over the
    mask's correlation function instead of a sum over 3j symbols; the powers of bands are eqs. 19 to 24, flattened by
    l (l + 1) there. Alonso, Sanchez & Slosar 2019, 1809.09603 (NaMaster), eq. 17 and 20.

    Examples
    --------
    >>> sky = np.random.default_rng(1).normal(size=12 * 8**2)
    >>> decoupling = Decoupling(np.ones(12 * 8**2, bool), 16)  # nothing is masked
    >>> bool(np.allclose(decoupling(sky), bands(16) @ angular_power(sky, lmax=23)[:17], rtol=1e-3))
    True
    """

    def __init__(self, seen: np.ndarray, lmax: int):
        import healpy

        self.lmax = 3 * healpy.npix2nside(len(seen)) - 1
        coupled = coupling(healpy.anafast(seen.astype(np.float64), lmax=self.lmax), self.lmax)
        width = None
        while True:
            self.bands = bands(lmax, width)
            self._average, self._inverse = self._undo(coupled)
            width = 2 * int(np.count_nonzero(self.bands[0]))
            if np.linalg.norm(self._inverse, 2) * seen.mean() <= AMPLIFIED or lmax - 1 <= (FEWEST - 1) * width:
                break

    def _undo(self, coupled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Averages over all bands, and the matrix from those of measured power to the powers of bands."""
        width = np.count_nonzero(self.bands[0])
        known = np.where(self.bands.any(axis=0), self.bands.argmax(axis=0), -1)
        index = np.concatenate([known, len(self.bands) + np.arange(self.lmax + 1 - len(known)) // width])
        member = index == np.arange(-1, index.max() + 1)[:, None]
        average = _averages(member)
        shape = member / (np.arange(self.lmax + 1) + 0.5) ** 2
        shape /= (average * shape).sum(axis=1, keepdims=True)
        return average, np.linalg.inv(average @ coupled @ shape.T)[1 : len(self.bands) + 1]

    def __call__(self, sky: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
        """Powers of the bands, or cross powers of two maps; masked pixels are those that the mask leaves out."""
        return np.asarray(self._inverse @ (self._average @ _pseudo_power(sky, other, self.lmax)[0]))


def coupling(mask: np.ndarray, lmax: int) -> np.ndarray:
    """How a mask mixes multipoles: the expected spectrum of a masked map is this matrix times the true one.

    Parameters
    ----------
    mask : array, shape (l,)
        Power spectrum of the mask, from l = 0 on; up to 2 lmax all of it counts.
    lmax : int

    Returns
    -------
    array, shape (lmax + 1, lmax + 1)

    Notes
    -----
    M_l1l2 = (2 l2 + 1) / (4 π) Σ_l3 (2 l3 + 1) W_l3 (l1 l2 l3; 0 0 0)² (Hivon et al. 2002, eq. A31), and the squared 3j
    symbol is ½ ∫ P_l1 P_l2 P_l3 dx: so M is the integral of P_l1 P_l2 times the mask's correlation function, exact by
    Gauss-Legendre quadrature.

    Examples
    --------
    >>> bool(np.allclose(coupling(np.array([4 * np.pi]), 5), np.eye(6)))  # a mask that is 1 everywhere
    True
    """
    mask = mask[: 2 * lmax + 1]
    x, weight = np.polynomial.legendre.leggauss(2 * lmax + 1)
    correlation = np.polynomial.legendre.legval(x, (2 * np.arange(len(mask)) + 1) / (4 * np.pi) * mask)
    P = np.polynomial.legendre.legvander(x, lmax)
    return np.asarray(P.T @ ((0.5 * weight * correlation)[:, None] * P) * (2 * np.arange(lmax + 1) + 1.0))


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
    bins = {"C_l": "truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        if setting.kind == "healpix":
            self.lmax = 2 * round((setting.shape[0] / 12) ** 0.5)
            seen = setting.seen
            self.decoupling = None if seen is None or seen.all() else Decoupling(seen, self.lmax)
            self.bands = self.decoupling.bands if self.decoupling else bands(self.lmax)
            self.l = self.bands @ np.arange(self.lmax + 1)

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra a true map."""
        return {"C_truth": np.stack([self._powers(sky) for sky in truth])}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra a map, averaged over realisations."""
        C = [[self._powers(sky) for sky in draws] for draws in generated]
        cross = [[self._powers(true, sky) for sky in draws] for true, draws in zip(truth, generated, strict=True)]
        return {"C": np.mean(C, axis=1), "C_cross": np.mean(cross, axis=1)}

    def _powers(self, sky: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
        """In bands."""
        if self.decoupling is None:
            return np.asarray(self.bands @ angular_power(sky, other, self.lmax))
        return self.decoupling(sky, other)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        C_truth, C, C_cross = (sums[name].sum(axis=0) for name in ("C_truth", "C", "C_cross"))
        # Undoing a mask may leave a band without power, whose ratio says nothing.
        C_known = np.where(C_truth > 0, C_truth, np.nan)
        R, r = ratio(C, C_known), ratio(C_cross, np.sqrt(np.maximum(C, 0.0) * C_known))
        off = np.abs(R - 1)
        worst = int(np.nanargmax(off)) if np.isfinite(off).any() else None
        maps = sums["maps"].sum()
        return {
            "mean_abs_R_l_minus_1": average(off),
            "max_abs_R_l_minus_1": np.nan if worst is None else float(off[worst]),
            "max_abs_R_l_minus_1_l": np.nan if worst is None else float(self.l[worst]),
            "r_l_large_scales": average(r[self.l <= max(LARGE_SCALES * self.lmax, self.l[0])]),
            "l": self.l,
            "C_l_truth": C_known / maps,
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
