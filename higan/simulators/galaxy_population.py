"""A population of parametric galaxies with the joint distribution of what COSMOS galaxies are like."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from higan.errors import MissingDependencyError
from higan.photometry import PIXEL, flux

SERSIC_STEP = 0.05  # GalSim is much faster with few values of the index


@dataclasses.dataclass(frozen=True)
class Population:
    """Parametric galaxies whose sizes, redshifts, Sérsic indices and shapes are distributed as in COSMOS.

    Fitted to the 596 usable of the 600 galaxies brighter than 23.5 in the COSMOS samples that go with GalSim
    (single-Sérsic and bulge + disc fits: Mandelbaum et al. 2012, MNRAS 420, 1518; Leauthaud et al. 2007, ApJS 172,
    219), outliers beyond 3 σ left out.

    - Counts rise with the F814W magnitude m as 10^(0.3 m), from 20 to 23.5.
    - ln of the circularised half-light radius (pixels of 0.03"), ln(1 + z), ln of the Sérsic index n, and
      ln((q - 0.02) / (1 - q)) of the axis ratio q are jointly Gaussian, about means linear in m - 22.5.
    - A share 0.8 / (1 + (1.7 / n)^(1 / 0.3)) of the galaxies has a bulge (de Vaucouleurs) and a disc (exponential),
      which together hold half of their light within the half-light radius; the bulge's share of the light is
      0.22 + 0.24 ln n, ± 0.2, and the ratio of its half-light radius to the disc's exp(-0.96 ± 0.78). Bulges are
      aligned with their discs and have axis ratios √q. The rest are Sérsic profiles.
    - Discs, and Sérsic profiles of n < 1.5, have a share of their light, uniform from 0 to 0.3, in 5 to 40 point-like
      knots of star formation that follow the profile. (No catalogue tells these numbers.)

    References
    ----------
    Sérsic profiles: Graham & Driver 2005, PASA 22, 118, eqs. 1-4.
    """

    faintest: float = 23.5
    brightest: float = 20.0
    counts_slope: float = 0.3
    # Of ln r, ln(1 + z), ln n, logit q: mean at m = 22.5, its slope with m, scatter, and correlation of the scatter.
    mean: tuple[float, ...] = (2.380, 0.504, 0.292, 0.239)
    slope: tuple[float, ...] = (-0.278, 0.076, -0.204, -0.169)
    scatter: tuple[float, ...] = (0.471, 0.176, 0.723, 1.070)
    correlation: tuple[tuple[float, ...], ...] = (
        (1.0, 0.139, -0.188, 0.066),
        (0.139, 1.0, 0.151, 0.175),
        (-0.188, 0.151, 1.0, 0.195),
        (0.066, 0.175, 0.195, 1.0),
    )

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """One galaxy: magnitude, half-light radius (pixels), redshift, Sérsic index, axis ratio.

        Examples
        --------
        >>> galaxy = Population().draw(np.random.default_rng(1))
        >>> sorted(galaxy), 20 <= galaxy["magnitude"] <= 23.5
        (['axis_ratio', 'index', 'magnitude', 'radius', 'redshift'], True)
        """
        low, high = (10 ** (self.counts_slope * m) for m in (self.brightest, self.faintest))
        magnitude = np.log10(rng.uniform(low, high)) / self.counts_slope
        scatter = np.array(self.scatter)
        covariance = scatter[:, None] * np.array(self.correlation) * scatter
        mean = np.array(self.mean) + np.array(self.slope) * (magnitude - 22.5)
        ln_r, ln_1_z, ln_n, logit = rng.multivariate_normal(mean, covariance, method="cholesky")
        odds = np.exp(logit)
        return {
            "magnitude": float(magnitude),
            "radius": float(np.exp(ln_r)),
            "redshift": float(np.expm1(ln_1_z)),
            "index": float(np.clip(np.exp(ln_n), 0.3, 6.0)),
            "axis_ratio": float((0.02 + odds) / (1.0 + odds)),
        }

    def profiles(self, galaxy: Mapping[str, float], rng: np.random.Generator) -> list[Any]:
        """The parts of `galaxy` as GalSim objects, in arcsec and counts per second, at a random position angle."""
        galsim = import_galsim()
        total = flux(galaxy["magnitude"])
        radius, n, q = galaxy["radius"] * PIXEL, galaxy["index"], galaxy["axis_ratio"]
        angle = rng.uniform(0.0, 180.0) * galsim.degrees
        if rng.uniform() < 0.8 / (1 + (1.7 / n) ** (1 / 0.3)):
            bulge_share = np.clip(rng.normal(0.22 + 0.24 * np.log(n), 0.2), 0.05, 0.95)
            ratio = np.exp(rng.normal(-0.96, 0.78))
            disc_radius = radius / half_light_radius(bulge_share, ratio)
            bulge = galsim.DeVaucouleurs(half_light_radius=ratio * disc_radius, flux=bulge_share * total)
            disc = galsim.Exponential(half_light_radius=disc_radius, flux=(1 - bulge_share) * total)
            parts, knotted = [bulge.shear(q=np.sqrt(q), beta=angle)], disc
        else:
            sersic = galsim.Sersic(round(n / SERSIC_STEP) * SERSIC_STEP, half_light_radius=radius, flux=total)
            parts, knotted = ([], sersic) if n < 1.5 else ([sersic.shear(q=q, beta=angle)], None)
        if knotted is not None:
            share = rng.uniform(0.0, 0.3)
            knots = galsim.RandomKnots(
                int(rng.integers(5, 41)),
                profile=knotted.withFlux(share * knotted.flux),
                rng=galsim.BaseDeviate(int(rng.integers(1, 2**31))),
            )
            parts += [part.shear(q=q, beta=angle) for part in (knotted.withFlux((1 - share) * knotted.flux), knots)]
        return parts


def half_light_radius(bulge_share: float, ratio: float) -> float:
    """Half-light radius of bulge + disc in units of the disc's, for a bulge `ratio` times as large (both circular).

    Examples
    --------
    >>> half_light_radius(0.0, 0.5), round(half_light_radius(0.3, 1.0), 6)
    (1.0, 1.0)
    """

    def missing(radius: float) -> float:
        """Half less the light within `radius`: Graham & Driver 2005, eq. 2 over its limit."""
        disc, bulge = (
            gammainc(2 * n, gammaincinv(2 * n, 0.5) * r ** (1 / n)) for n, r in ((1.0, radius), (4.0, radius / ratio))
        )
        return 0.5 - (1 - bulge_share) * disc - bulge_share * bulge

    low, high = min(1.0, ratio), max(1.0, ratio)
    return 1.0 if bulge_share == 0 or low == high else float(brentq(missing, low, high))


def import_galsim() -> Any:
    """The package GalSim; MissingDependencyError that says what to install where it is not there."""
    try:
        import galsim
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"GalSim is not installed ({error}). Install it: pip install 'higan[simulate]'."
        ) from error
    return galsim
