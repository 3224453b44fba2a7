"""Neutral hydrogen after reionisation: in haloes, and in the ionised gas between them.

Masses are in solar masses, lengths in comoving Mpc; no little h anywhere.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammainc, gammaincinv

HELIUM = 0.245  # mass fraction Y
CRITICAL = 2.77536627e11  # critical density today in h² M_sun / Mpc³
SCATTER = 0.2  # dex, of the HI mass of haloes of one mass

_PROTON_MASS = 1.67262192e-24  # g
_SOLAR_MASS = 1.98840987e33  # g
_MPC = 3.08567758e24  # cm


def halo_hi_mass(
    halo_mass: np.ndarray, minimum: float, normalisation: float = 2.8e9, slope: float = 0.74
) -> np.ndarray:
    """Mean HI mass of haloes: M_0 (M / M_min)^α exp(-(M_min / M)^0.35).

    Parameters
    ----------
    halo_mass : array
        M in M_sun.
    minimum : float
        M_min in M_sun: haloes below it hold next to no HI.
    normalisation : float
        M_0 in M_sun; 1.9e9 M_sun/h at z = 5.
    slope : float
        α; 0.74 at z = 5.

    Returns
    -------
    array
        In M_sun.

    References
    ----------
    Villaescusa-Navarro et al. 2018, ApJ 866, 135 (1804.09180), equation 13 and table 1.

    Examples
    --------
    >>> float(halo_hi_mass(np.array(3e10), 3e10, 1.0, 0.74))  # at M_min, 1/e of M_0
    0.36787944117144233
    """
    ratio = np.asarray(halo_mass, dtype=float) / minimum
    return normalisation * ratio**slope * np.exp(-(ratio**-0.35))


def virial_radius(halo_mass: np.ndarray, redshift: float, h: float, omega_m: float) -> np.ndarray:
    """Comoving radius in Mpc of haloes of these masses in M_sun, flat ΛCDM; any shape, the same out.

    The mean density within is Δ_c times critical, Δ_c = 18π² + 82 x - 39 x² with x = Ω_m(z) - 1 (Bryan & Norman 1998,
    ApJ 495, 80, equation 6); `h` is H_0 / (100 km/s/Mpc), `omega_m` today's.

    Examples
    --------
    >>> round(float(virial_radius(np.array(1e11), 5.0, 0.68, 0.31)), 3)
    0.15
    """
    matter = omega_m * (1 + redshift) ** 3
    expansion = matter + 1 - omega_m
    x = matter / expansion - 1
    overdensity = 18 * np.pi**2 + 82 * x - 39 * x**2
    comoving = CRITICAL * h**2 * expansion / (1 + redshift) ** 3 * overdensity
    return (3 * np.asarray(halo_mass, dtype=float) / (4 * np.pi * comoving)) ** (1 / 3)


def hi_concentration(halo_mass: np.ndarray, redshift: float) -> np.ndarray:
    """R_vir / r_s of the HI in haloes of these masses in M_sun, whose density falls as exp(-r / r_s).

    c = 28.65 (M / 1e11 M_sun)^-0.109 4 / (1 + z)^1.45: Padmanabhan, Refregier & Amara 2017, MNRAS 469, 2323
    (1611.06235), equation 7 and table 3.

    Examples
    --------
    >>> round(float(hi_concentration(np.array(1e11), 5.0)), 2)
    8.53
    """
    return 28.65 * (np.asarray(halo_mass, dtype=float) / 1e11) ** -0.109 * 4 / (1 + redshift) ** 1.45


def draw_radii(concentration: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Radii, in units of R_vir, of points whose density falls as exp(-r / r_s) out to R_vir; one a concentration.

    Examples
    --------
    >>> radii = draw_radii(np.full(100_000, 1e3), np.random.default_rng(1))
    >>> round(float(radii.mean()) * 1e3, 1)  # the mean of r is 3 r_s
    3.0
    """
    return gammaincinv(3, rng.random(np.shape(concentration)) * gammainc(3, concentration)) / concentration


def recombination(temperature: np.ndarray) -> np.ndarray:
    """Case A recombination coefficient of hydrogen in cm³/s (Hui & Gnedin 1997, MNRAS 292, 27, appendix A).

    Examples
    --------
    >>> round(float(recombination(np.array(1e4))) * 1e13, 1)
    4.3
    """
    scaled = 2 * 157807.0 / np.asarray(temperature, dtype=float)
    return 1.269e-13 * scaled**1.503 / (1 + (scaled / 0.522) ** 0.470) ** 1.923


def intergalactic_hi(
    overdensity: np.ndarray,
    redshift: float,
    baryon_density: float,
    ionisation_rate: float,
    temperature: float = 8000.0,
    gamma: float = 1.3,
) -> np.ndarray:
    """HI density of gas that follows the dark matter and is in photo-ionisation equilibrium with a uniform background.

    The fluctuating Gunn-Peterson approximation (Hui & Gnedin 1997, MNRAS 292, 27): T = T_0 Δ^(γ - 1), and
    Γ x = α(T) n_e (1 - x) with helium singly ionised wherever hydrogen is.

    Parameters
    ----------
    overdensity : array
        Δ = ρ / mean ρ.
    redshift : float
    baryon_density : float
        Mean comoving density of baryons in M_sun / Mpc³.
    ionisation_rate : float
        Γ of hydrogen in 1/s.
    temperature : float
        T_0 in K. The default and that of γ are rounded from what is measured near z = 5 (Becker et al. 2011, MNRAS 410,
        1096; Walther et al. 2019, ApJ 872, 13).
    gamma : float

    Returns
    -------
    array
        Comoving M_sun / Mpc³.

    Examples
    --------
    >>> mean = 0.0486 * CRITICAL * 0.68**2
    >>> x = intergalactic_hi(np.array(1.0), 5.0, mean, 5e-13) / (0.755 * mean)
    >>> round(float(x) * 1e5, 1)  # neutral fraction at the mean density, 1e-5
    4.5
    """
    overdensity = np.asarray(overdensity, dtype=float)
    hydrogen = (1 - HELIUM) * baryon_density * overdensity
    per_cm3 = hydrogen * (1 + redshift) ** 3 * _SOLAR_MASS / _MPC**3 / _PROTON_MASS
    electrons = 1 + HELIUM / (4 * (1 - HELIUM))
    # No gas, no temperature: the smallest number stands in for it.
    heat = temperature * np.maximum(overdensity, np.finfo(float).tiny) ** (gamma - 1)
    # Γ x = α n (1 - x)², the root of the quadratic in the form that loses no digits where x is small.
    with np.errstate(divide="ignore"):
        a = ionisation_rate / (recombination(heat) * electrons * per_cm3)
    return hydrogen * 2 / (2 + a + np.sqrt(a * (a + 4)))


def haloes_on_grid(
    positions: np.ndarray,
    hi_mass: np.ndarray,
    radius: np.ndarray,
    concentration: np.ndarray,
    cells: int,
    box_size: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """HI of haloes as density on a periodic grid, each halo spread over its profile.

    A halo becomes points of equal mass, more of them where it is larger than a cell; cells get what falls in them.

    Parameters
    ----------
    positions : array, shape (n, 3)
        Mpc.
    hi_mass, radius, concentration : arrays, shape (n,)
        M_sun, virial radius in Mpc, and R_vir / r_s.
    cells : int
        Along a side.
    box_size : float
        Mpc.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (cells, cells, cells)
        M_sun / Mpc³.
    """
    cell = box_size / cells
    grid = np.zeros(cells**3)
    points = np.clip(np.ceil(64 * (radius / cell) ** 2), 4, 1024).astype(int)
    # In blocks, so that the points of many haloes need little memory.
    for block in np.array_split(np.arange(len(points)), max(1, points.sum() // 2_000_000)):
        halo = np.repeat(block, points[block])
        direction = rng.normal(size=(len(halo), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        away = draw_radii(concentration[halo], rng) * radius[halo]
        place = np.floor((positions[halo] + away[:, None] * direction) / cell).astype(np.int64) % cells
        index = np.ravel_multi_index(tuple(place.T), (cells,) * 3)
        grid += np.bincount(index, weights=hi_mass[halo] / points[halo], minlength=cells**3)
    return grid.reshape((cells,) * 3) / cell**3
