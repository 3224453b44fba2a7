"""The matter of a periodic box from parameters alone: what a generator paints on where there is no simulation.

White noise is given the linear power spectrum of Eisenstein & Hu (1999, ApJ 511, 5) without neutrinos, and matter is
moved from there by second-order Lagrangian perturbation theory (Scoccimarro 1998, MNRAS 299, 1097, appendix D), as
21cmFAST does. Lengths are comoving, in Mpc.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from higan.cores import cores
from higan.errors import ParameterError
from higan.noise import noise_field

T_CMB = 2.7255  # K, Fixsen 2009, ApJ 707, 916
FINER = 2  # cells of the initial conditions in one of the box, along each axis
SMOOTHING = 0.620350491  # cells: (3 / 4π)^(1/3), the radius of a sphere with a cell's volume
LEVEL = 64  # of the noise that makes initial conditions, beyond all levels of a generator
PLANES = 16  # of cells whose matter is laid on the grid at a time


@dataclass(frozen=True)
class Cosmology:
    """A flat universe of matter and a cosmological constant.

    Attributes
    ----------
    h : float
        H_0 / (100 km/s/Mpc).
    Omega_m, Omega_b : float
        Densities of matter, and of baryons, today.
    n_s : float
        Slope of the primordial power spectrum.
    sigma_8 : float
        Standard deviation of the linear overdensity today in spheres of 8 Mpc/h.

    Raises
    ------
    ParameterError
        If there is no such universe.
    """

    h: float
    Omega_m: float
    Omega_b: float
    n_s: float
    sigma_8: float

    def __post_init__(self) -> None:
        baryons = 0 < self.Omega_b < self.Omega_m <= 1
        if not (baryons and 0.1 <= self.h <= 10 and 0 < self.sigma_8 <= 10 and abs(self.n_s) <= 5):
            raise ParameterError(
                f"No density can be drawn in a universe of {self}: give 0 < Omega_b < Omega_m <= 1, h from 0.1 to 10, "
                "sigma_8 up to 10 and n_s from -5 to 5."
            )


def transfer_function(k: np.ndarray, cosmology: Cosmology) -> np.ndarray:
    """What is left of matter fluctuations, smooth in k (Eisenstein & Hu 1999, eqs. 1–4 and 15–24, no neutrinos).

    Parameters
    ----------
    k : array, 1/Mpc, above zero
    cosmology : Cosmology

    Returns
    -------
    array
        1 for k → 0.

    Examples
    --------
    >>> cosmology = Cosmology(h=0.68, Omega_m=0.31, Omega_b=0.049, n_s=0.97, sigma_8=0.81)
    >>> transfer_function(np.array([1e-4, 0.1, 1.0]), cosmology).round(3)
    array([1.   , 0.083, 0.002])
    """
    theta, total, baryons = T_CMB / 2.7, cosmology.Omega_m * cosmology.h**2, cosmology.Omega_b * cosmology.h**2
    f_b = cosmology.Omega_b / cosmology.Omega_m
    f_c = 1.0 - f_b
    b_1, b_2 = 0.313 * total**-0.419 * (1.0 + 0.607 * total**0.674), 0.238 * total**0.223
    z_drag = 1291.0 * total**0.251 / (1.0 + 0.659 * total**0.828) * (1.0 + b_1 * baryons**b_2)
    y_d = 2.5e4 * total * theta**-4 / (1.0 + z_drag)
    s = 44.5 * np.log(9.83 / total) / np.sqrt(1.0 + 10.0 * baryons**0.75)
    p = 0.25 * (5.0 - np.sqrt(1.0 + 24.0 * f_c))
    alpha = f_c * (5.0 - 2.0 * p) / 5.0 * (1.0 - 0.553 * f_b + 0.126 * f_b**3) * (1.0 + y_d) ** -p
    alpha *= 1.0 + 0.5 * p * (1.0 + 1.0 / ((3.0 - 4.0 * p) * 7.0)) / (1.0 + y_d)
    beta = 1.0 / (1.0 - 0.949 * f_b)
    root = np.sqrt(alpha)
    q = k * theta**2 / total / (root + (1.0 - root) / (1.0 + (0.43 * k * s) ** 4))
    logarithm = np.log(np.e + 1.84 * beta * root * q)
    return logarithm / (logarithm + q**2 * (14.4 + 325.0 / (1.0 + 60.5 * q**1.11)))


def linear_power_spectrum(k: np.ndarray, cosmology: Cosmology) -> np.ndarray:
    """P(k) of the linear overdensity today, Mpc³.

    Parameters
    ----------
    k : array, 1/Mpc
        0 is given no power.
    cosmology : Cosmology

    Examples
    --------
    >>> cosmology = Cosmology(h=0.68, Omega_m=0.31, Omega_b=0.049, n_s=0.97, sigma_8=0.81)
    >>> k = np.geomspace(1e-4, 1e2, 2000)
    >>> x = k * 8.0 / cosmology.h
    >>> window = 3.0 * (np.sin(x) - x * np.cos(x)) / x**3
    >>> integrand = k**3 * linear_power_spectrum(k, cosmology) * window**2 / (2.0 * np.pi**2)
    >>> variance = integrand.sum() * np.log(k[1] / k[0])
    >>> bool(abs(variance**0.5 - 0.81) < 1e-3)
    True
    """

    def shape(k: np.ndarray) -> np.ndarray:
        return k**cosmology.n_s * transfer_function(k, cosmology) ** 2

    fine = np.geomspace(1e-5, 1e3, 4096)
    integrand = fine**3 * shape(fine) * top_hat(fine * 8.0 / cosmology.h) ** 2
    variance = integrand.sum() * np.log(fine[1] / fine[0]) / (2.0 * np.pi**2)
    return np.where(k > 0, cosmology.sigma_8**2 / variance * shape(np.where(k > 0, k, 1.0)), 0.0)


def top_hat(x: np.ndarray) -> np.ndarray:
    """A sphere of radius R in Fourier space, 3 (sin x - x cos x) / x³, of x = k R, any shape.

    Examples
    --------
    >>> top_hat(np.array([0.0, 1.0])).round(4)
    array([1.    , 0.9035])
    """
    near = np.maximum(x, 1e-2)
    return np.where(x < 1e-2, 1.0 - x**2 / 10.0, 3.0 * (np.sin(near) - near * np.cos(near)) / near**3)


def growth_factor(redshift: float, cosmology: Cosmology) -> float:
    """D(z) of linear fluctuations, 1 today (Carroll, Press & Turner 1992, ARA&A 30, 499, eq. 29).

    Examples
    --------
    >>> cosmology = Cosmology(h=0.68, Omega_m=1.0, Omega_b=0.049, n_s=0.97, sigma_8=0.81)
    >>> round(growth_factor(4.0, cosmology), 3)
    0.2
    """

    def suppression(a: float) -> float:
        matter = cosmology.Omega_m / (cosmology.Omega_m + (1.0 - cosmology.Omega_m) * a**3)
        vacuum = 1.0 - matter
        return 2.5 * matter / (matter ** (4 / 7) - vacuum + (1.0 + matter / 2.0) * (1.0 + vacuum / 70.0))

    a = 1.0 / (1.0 + redshift)
    return a * suppression(a) / suppression(1.0)


def draw_density(
    cells: int,
    cell_size: float,
    redshift: float,
    cosmology: Cosmology,
    *,
    seed: int,
    row: int = 0,
    realisation: int = 0,
    coarse: bool = False,
) -> np.ndarray:
    """The overdensity of a box.

    Its fluctuations are those of a simulation of the same size: none are larger than the box, and its mean is that of
    the universe. Initial conditions δ are Gaussian, on cells half as wide. Matter moves by -D ∇φ - (3/7) D² ∇χ with
    ∇²φ = δ and ∇²χ = Σ_{i>j} [∂_i∂_i φ ∂_j∂_j φ - (∂_i∂_j φ)²] (Scoccimarro 1998, eqs. D2, D3 and D8), and is shared
    among the eight nearest cells where it arrives; these are seen through a sphere with a cell's volume.

    Parameters
    ----------
    cells : int
        Along each side.
    cell_size : float
        Mpc.
    redshift : float
    cosmology : Cosmology
    seed, row, realisation : int
        As of :func:`higan.noise.noise_field`; the density is the same up to rounding whatever the machine.
    coarse : bool
        Matter moves as the cells of the box do that it lies in, and arrives in such cells: what 21cmFAST makes unless
        PERTURB_ON_HIGH_RES is set. The smallest scales then have a fifth of the power.

    Returns
    -------
    array of float32, shape (cells, cells, cells)

    Examples
    --------
    >>> cosmology = Cosmology(h=0.68, Omega_m=0.31, Omega_b=0.049, n_s=0.97, sigma_8=0.81)
    >>> density = draw_density(16, 2.0, 8.0, cosmology, seed=1)
    >>> density.shape, bool(abs(density.mean()) < 0.01), bool(density.min() > -1.0)
    ((16, 16, 16), True, True)
    """
    growth = growth_factor(redshift, cosmology)
    linear = _initial_conditions(FINER * cells, cells * cell_size, cosmology, seed, row, realisation)
    return evolve(np.float32(growth) * linear, cell_size, coarse=coarse)


def _initial_conditions(n: int, side: float, cosmology: Cosmology, seed: int, row: int, realisation: int) -> np.ndarray:
    """The linear overdensity today on n³ cells of a box of this side in Mpc, in Fourier space."""
    _, number = _waves(n)
    amplitude = np.sqrt(linear_power_spectrum(_lengths(n, side), cosmology) * n**3 / side**3).astype(np.float32)
    white = noise_field((n,) * 3, 1, seed=seed, rows=[row], realisations=[realisation], level=LEVEL)[0, ..., 0]
    return _transform(white) * amplitude[number]


def evolve(linear: np.ndarray, cell_size: float, *, coarse: bool = False) -> np.ndarray:
    """Move matter from initial conditions, as :func:`draw_density` tells.

    Parameters
    ----------
    linear : array, shape (n, n, n // 2 + 1)
        D δ in Fourier space (``scipy.fft.rfftn`` of its n³ cells), n even.
    cell_size : float
        Of the box's cells, Mpc: two cells of the initial conditions.
    coarse : bool

    Returns
    -------
    array of float32, shape (n / 2, n / 2, n / 2)
        The overdensity.

    Examples
    --------
    >>> import scipy.fft
    >>> density = evolve(scipy.fft.rfftn(0.3 * np.random.default_rng(1).normal(size=(32, 32, 32))), 1.0)
    >>> density.shape, bool(density.min() > -1.0)
    ((16, 16, 16), True)
    """
    n = linear.shape[0]
    cells, side = n // FINER, n // FINER * cell_size
    index, number = _waves(n)
    k = _lengths(n, side)
    wave = [np.float32(2.0 * np.pi / side) * i.astype(np.float32) for i in index]
    inverse = np.divide(1.0, k**2, out=np.zeros_like(k), where=k > 0).astype(np.float32)[number]

    # The source of the second order is what the tides of the first make.
    potential = linear * inverse
    tides = {(i, j): _back(potential * (wave[i] * wave[j]), n) for i in range(3) for j in range(i, 3)}
    source = tides[0, 0] * tides[1, 1] + (tides[0, 0] + tides[1, 1]) * tides[2, 2]
    source -= tides[0, 1] ** 2 + tides[0, 2] ** 2 + tides[1, 2] ** 2
    del tides, potential
    moved = (linear + np.float32(3.0 / 7.0) * _transform(source)) * inverse
    del source, inverse
    # What depends on |k| alone is made for each of its few values.
    window = top_hat(k * cell_size * SMOOTHING).astype(np.float32)[number]
    if coarse:
        moved *= window
    displacement = [_back(1j * w * moved, n) * np.float32(n / side) for w in wave]
    del moved
    every = (slice(None, None, FINER),) * 3
    if coarse:
        # The cells of the box are centred on every second fine one; those between go with the next.
        nearest = np.ix_(*[(np.arange(n) + 1) // FINER % cells] * 3)
        displacement = [x[every][nearest] for x in displacement]
        return _lay(displacement, cells) - np.float32(1.0)
    # A sphere in Fourier space rings beside what is dense.
    seen = _back(_transform(_lay(displacement, n)) * window, n)[every]
    return np.maximum(seen, 0.0) - np.float32(1.0)


def _waves(n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Of the modes of n³ cells: whole waves in the box along each axis, and the sum of their squares."""
    whole, last = (f(n, 1.0 / n).round().astype(np.int32) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    index = [whole[:, None, None], whole[None, :, None], last[None, None, :]]
    return index, index[0] ** 2 + index[1] ** 2 + index[2] ** 2


def _lengths(n: int, side: float) -> np.ndarray:
    """|k| in 1/Mpc for each sum of squares that modes of n³ cells may have."""
    return 2.0 * np.pi / side * np.sqrt(np.arange(3 * (n // 2) ** 2 + 1))


def _transform(x: np.ndarray) -> np.ndarray:
    import scipy.fft  # here, so that a card is read without it

    return scipy.fft.rfftn(x, workers=cores())


def _back(x: np.ndarray, n: int) -> np.ndarray:
    import scipy.fft

    return scipy.fft.irfftn(x.astype(np.complex64, copy=False), s=(n,) * 3, workers=cores())


def _lay(displacement: Sequence[np.ndarray], cells: int) -> np.ndarray:
    """Equal masses, one a cell, moved by `displacement` (in such cells) and shared among the nearest of `cells`³.

    In units of the mean, float32.
    """
    n = displacement[0].shape[0]
    ratio = cells / n
    out = np.zeros((cells, cells * cells))
    for start in range(0, n, PLANES):
        stop = min(start + PLANES, n)
        cell: list[tuple[np.ndarray, np.ndarray]] = []  # along each axis, those on either side
        share: list[tuple[np.ndarray, np.ndarray]] = []
        for axis, moves in enumerate(displacement):
            index = np.arange(start, stop) if axis == 0 else np.arange(n)
            place = moves[start:stop] + index.reshape([-1 if i == axis else 1 for i in range(3)]).astype(np.float32)
            place = (ratio * place).ravel()
            whole = np.floor(place)
            share.append((1.0 - (place - whole), place - whole))
            below = whole.astype(np.int64)
            # Matter moves by a few cells: only planes nearby are touched, unless it goes round the box.
            round_the_box = axis > 0 or below.max() - below.min() >= cells - 1
            if round_the_box:
                below %= cells
            above = below + 1
            if round_the_box:
                above[above == cells] = 0
            cell.append((below, above))
        first, last = int(min(x.min() for x in cell[0])), int(max(x.max() for x in cell[0]))
        nearby = np.zeros((last + 1 - first) * cells * cells)
        for i, j in itertools.product((0, 1), repeat=2):
            row = ((cell[0][i] - first) * cells + cell[1][j]) * cells
            weight = share[0][i] * share[1][j]
            for k in (0, 1):
                nearby += np.bincount(row + cell[2][k], weight * share[2][k], minlength=len(nearby))
        for i, values in enumerate(nearby.reshape(-1, cells * cells)):
            out[(first + i) % cells] += values
    return (out * ratio**3).reshape((cells,) * 3).astype(np.float32)
