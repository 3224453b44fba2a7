"""Shapes of galaxies on stamps: adaptive moments, concentration, asymmetry, Gini and M20.

They are taken within apertures of the Petrosian radius, of stamps that were first shifted so that the galaxy's centre
lies in the middle; stamps count as periodic in that, and their galaxies are to lie in the middle half. There is no
background to subtract: noise, where a map set has it, counts as asymmetry.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy import fft

from higan import photometry
from higan.errors import MissingDependencyError
from higan.simulators.galaxy_population import import_galsim
from higan.validation.statistic import ratio

PETROSIAN = 0.2  # surface brightness at the Petrosian radius over the mean within it
EXTENT = 1.5  # Petrosian radii, of the apertures of concentration and asymmetry
RADII, FINE = 128, 8  # of growth curves, evenly to half the side; parts that a pixel's side is cut into for them
NEWTON = 4  # iterations, which leave 1e-4 pixels
STEPS = (1.0, 0.5, 0.25, 0.12, 0.06)  # pixels, of the search for the centre, on nine points each
AROUND = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)])
CHUNK_CELLS = 1 << 16  # measured at a time: what a cache holds


def recentred(stamps: Any) -> np.ndarray:
    """Stamps shifted so that the point about which half a turn changes them least lies in the middle.

    That is the centre of which Conselice et al. 2000 (ApJ 529, 886) take the asymmetry: sum |I - I_180| is least. It is
    looked for around the point where the sum of squares is, by ever smaller steps: twice that point is where the
    stamp's convolution with itself has its peak. Shifts are of phases of Fourier modes.

    Parameters
    ----------
    stamps : array_like, shape (n, ny, nx)

    Returns
    -------
    ndarray, shape (n, ny, nx)

    Examples
    --------
    >>> y, x = np.indices((32, 32))
    >>> blob = np.exp(-((y - 14.2) ** 2 + (x - 16.7) ** 2) / 8)
    >>> moved = recentred(blob[None])
    >>> bool(np.abs(moved - moved[:, ::-1, ::-1]).max() < 1e-3)
    True
    """
    stamps = np.asarray(stamps, dtype=np.float64)
    ny, nx = stamps.shape[1:]
    spectrum, (ky, kx) = fft.rfft2(stamps), _frequencies(ny, nx)

    def shifted(by: np.ndarray) -> np.ndarray:
        return (
            spectrum * np.exp(2j * np.pi * ky * by[:, 0, None, None]) * np.exp(2j * np.pi * kx * by[:, 1, None, None])
        )

    # A stamp that is symmetric about its middle has the peak at -1 along both axes.
    peak = fft.irfft2(spectrum**2, (ny, nx)).reshape(len(stamps), -1).argmax(axis=1)
    away, middle = np.stack(np.unravel_index(peak, (ny, nx)), axis=1) + 1, np.array([ny // 2, nx // 2])
    shift = ((away + middle) % (ny, nx) - middle) / 2
    for _ in range(NEWTON):
        near = fft.irfft2(shifted(shift) ** 2, (ny, nx))[:, [[-2], [-1], [0]], [-2, -1, 0]]
        gradient = np.stack([near[:, 2, 1] - near[:, 0, 1], near[:, 1, 2] - near[:, 1, 0]], axis=1) / 2
        yy, xx = (line[:, 0] - 2 * line[:, 1] + line[:, 2] for line in (near[:, :, 1], near[:, 1, :]))
        xy = (near[:, 0, 0] + near[:, 2, 2] - near[:, 0, 2] - near[:, 2, 0]) / 4
        inverse = np.stack([np.stack([xx, -xy], 1), np.stack([-xy, yy], 1)], 1)
        step = ratio((inverse @ gradient[..., None])[..., 0], (yy * xx - xy**2)[:, None])
        shift -= np.clip(np.nan_to_num(step), -0.5, 0.5) / 2

    def change(by: np.ndarray) -> np.ndarray:
        moved = fft.irfft2(shifted(by), (ny, nx))
        half = slice((ny + 1) // 2)  # the other half is the same turned
        return np.abs(moved[:, half] - moved[:, ::-1, ::-1][:, half]).sum(axis=(1, 2))

    for length in STEPS:
        tried = shift + length * AROUND[:, None]
        shift = tried[np.stack([change(by) for by in tried]).argmin(axis=0), np.arange(len(stamps))]
    return fft.irfft2(shifted(shift), (ny, nx))


def gini(stamps: Any, pixels: Any) -> np.ndarray:
    """Gini coefficient of the chosen pixels of every stamp: 0 where they are alike, 1 where one has all light.

    G = sum_i (2 i - n - 1) X_i / (mean(X) n (n - 1)), X being the absolute values of the n pixels in ascending order:
    Lotz et al. 2004 (AJ 128, 163; astro-ph/0311352), eq. 6.

    Parameters
    ----------
    stamps : array_like, shape (n_stamps, ny, nx)
    pixels : array_like of bool, shape (n_stamps, ny, nx)

    Returns
    -------
    ndarray, shape (n_stamps,)
        NaN for less than two pixels, or no light.

    Examples
    --------
    >>> gini([[[1.0, 1.0, 9.0]], [[0.0, 0.0, 5.0]]], [[[True, True, False]], [[True, True, True]]])
    array([0., 1.])
    """
    X = np.where(pixels, np.abs(stamps), 0.0).reshape(len(stamps), -1)
    n = np.asarray(pixels).reshape(X.shape).sum(axis=1)
    X.sort(axis=1)
    # Pixels that are not chosen come first, as zeros, with i up to 0.
    i = np.arange(1, X.shape[1] + 1) - (X.shape[1] - n)[:, None]
    return ratio((X * (2 * i - n[:, None] - 1)).sum(axis=1), X.sum(axis=1) * (n - 1))


def m20(stamps: Any, pixels: Any) -> np.ndarray:
    """Second moment of the brightest pixels that hold a fifth of the light, log10 of its share in that of all.

    M20 = log10 (sum over the brightest of f r² / sum over all of f r²), r being the distance from the point where the
    latter is least, the centroid: Lotz et al. 2004, eqs. 7 and 8. Of the pixel with which a fifth is passed the part
    counts that reaches it.

    Parameters
    ----------
    stamps : array_like, shape (n_stamps, ny, nx)
    pixels : array_like of bool, shape (n_stamps, ny, nx)

    Returns
    -------
    ndarray, shape (n_stamps,)
        -inf where a fifth of the light is in the centroid's pixel.

    Examples
    --------
    >>> row = np.array([[[0.2, 0.3, 0.0, 0.3, 0.2]]])
    >>> m20(row, row > 0).round(3)  # a fifth of the light one pixel off, of 0.6 there and 0.4 two off
    array([-1.041])
    """
    f = np.where(pixels, stamps, 0.0)
    n, ny, nx = f.shape
    y, x = np.arange(ny), np.arange(nx)
    light = f.sum(axis=(1, 2))
    y0, x0 = ratio(f.sum(axis=2) @ y, light), ratio(f.sum(axis=1) @ x, light)
    squared = (y - y0[:, None])[:, :, None] ** 2 + (x - x0[:, None])[:, None, :] ** 2
    f, squared = f.reshape(n, -1), squared.reshape(n, -1)
    brightest = np.argsort(-f, axis=1)
    ordered = np.take_along_axis(f, brightest, 1)
    before = np.cumsum(ordered, axis=1) - ordered
    taken = np.clip(0.2 * light[:, None] - before, 0.0, np.maximum(ordered, 0.0))
    with np.errstate(divide="ignore"):
        return np.log10(
            ratio((taken * np.take_along_axis(squared, brightest, 1)).sum(axis=1), (f * squared).sum(axis=1))
        )


def morphology(stamps: Any) -> dict[str, np.ndarray]:
    """Concentration, asymmetry, Gini and M20 of stamps, within apertures about the centre of :func:`recentred`.

    - The Petrosian radius r_p is where the mean brightness of a ring one pixel wide falls below 0.2 of that within the
      radius (Petrosian 1976, ApJ 209, L1; Lotz et al. 2004, eq. 4), at most half the stamp's side.
    - C = 5 log10(r_80 / r_20), of circles that hold 80 and 20 % of the light within 1.5 r_p (Conselice 2003, ApJS 147,
      1; Lotz et al. 2004, eq. 9).
    - A = sum |I - I_180| / sum |I| within 1.5 r_p, I_180 being the stamp after half a turn (Conselice 2003; Lotz et al.
      2004, eq. 10).
    - Gini and M20 are of the pixels at least as bright as the ring at r_p in a stamp smoothed by a Gaussian of
      σ = r_p / 5 (Lotz et al. 2004), connected or not.

    Parameters
    ----------
    stamps : array_like, shape (n, ny, nx)
        Any units, background subtracted.

    Returns
    -------
    dict of ndarray, shape (n,)
        concentration, asymmetry, gini, m20; NaN where there is no light.

    Notes
    -----
    statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140) finds the same of round galaxies. For Gini and M20 it has
    Petrosian ellipses, so that those of flattened ones differ.

    Examples
    --------
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> found = morphology([np.exp(-(y**2 + x**2) / (2 * 5**2))])
    >>> round(float(found["concentration"][0]), 1), round(float(found["asymmetry"][0]), 6)
    (2.1, 0.0)
    """
    stamps = recentred(stamps)
    n, ny, nx = stamps.shape
    radii, shares = _apertures(ny, nx)
    light, area = stamps.reshape(n, -1) @ shares, shares.sum(axis=0)
    half = max(1, round(0.5 / radii[1]))
    ring = (light[:, 2 * half :] - light[:, : -2 * half]) / (area[2 * half :] - area[: -2 * half])
    within = light[:, half:-half] / area[half:-half]
    falls = ratio(ring, np.where(within > 0, within, np.nan))
    r_p = _first(radii[half:-half], -falls, np.full(n, -PETROSIAN))
    r_p = np.where(light[:, -1] > 0, np.where(np.isnan(r_p), radii[-1], r_p), np.nan)
    extent = np.minimum(EXTENT * r_p, radii[-1])
    total = np.array([np.interp(r, radii, row) for r, row in zip(extent, light, strict=True)])
    r_80, r_20 = (_first(radii, light, share * np.where(total > 0, total, np.nan)) for share in (0.8, 0.2))

    y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
    distance = np.hypot(y[:, None], x)
    aperture = distance < extent[:, None, None]
    turned = np.abs(stamps - stamps[:, ::-1, ::-1])
    ky, kx = _frequencies(ny, nx)
    blur = np.exp(-2 * (np.pi * r_p[:, None, None] / 5) ** 2 * (ky**2 + kx**2))
    smooth = fft.irfft2(fft.rfft2(stamps) * blur, (ny, nx))
    at_r_p = np.abs(distance - r_p[:, None, None]) < 0.5
    level = ratio(np.where(at_r_p, smooth, 0.0).sum(axis=(1, 2)), at_r_p.sum(axis=(1, 2)))
    pixels = smooth >= level[:, None, None]
    return {
        "concentration": 5 * np.log10(ratio(r_80, r_20)),
        "asymmetry": ratio((turned * aperture).sum(axis=(1, 2)), (np.abs(stamps) * aperture).sum(axis=(1, 2))),
        "gini": gini(stamps, pixels),
        "m20": m20(stamps, pixels),
    }


def adaptive_moments(stamps: Any, sigma: Any) -> dict[str, np.ndarray]:
    """Size and ellipticity of the elliptical Gaussian that fits a stamp best, its own weight in the fit.

    By GalSim (Hirata & Seljak 2003, MNRAS 343, 459, after Bernstein & Jarvis 2002, AJ 123, 583): sigma is the fourth
    root of the determinant of the matrix of second moments M, and the ellipticity the distortion
    |e| = sqrt((M_xx - M_yy)² + 4 M_xy²) / (M_xx + M_yy), (1 - q²) / (1 + q²) for an axis ratio q.

    Parameters
    ----------
    stamps : array_like, shape (n, ny, nx)
    sigma : array_like, shape (n,)
        Where the fit starts, pixels: a half-light radius will do.

    Returns
    -------
    dict of ndarray, shape (n,)
        sigma (pixels) and ellipticity; NaN where the fit fails, and for all stamps where GalSim is not installed.

    Examples
    --------
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> found = adaptive_moments([np.exp(-(y**2 / 4**2 + x**2 / 8**2) / 2)], [5.0])  # q = 1/2: 3/5
    >>> {name: round(float(values[0]), 3) for name, values in found.items()}  # sqrt(4 x 8)
    {'sigma': 5.657, 'ellipticity': 0.6}
    """
    found = np.full((len(stamps), 2), np.nan)
    try:
        galsim = import_galsim()
    except MissingDependencyError:
        return {"sigma": found[:, 0], "ellipticity": found[:, 1]}
    for i in np.flatnonzero(np.isfinite(sigma)):
        image = galsim.Image(np.array(stamps[i], dtype=np.float64))
        fit = galsim.hsm.FindAdaptiveMom(image, guess_sig=float(sigma[i]), strict=False)
        if not fit.error_message:
            found[i] = fit.moments_sigma, fit.observed_shape.e
    return {"sigma": found[:, 0], "ellipticity": found[:, 1]}


def shapes(stamps: Any) -> dict[str, np.ndarray]:
    """All that is measured of stamps (..., ny, nx), each of shape (...): the quantities of `EDGES`, and mag_auto."""
    stamps = np.asarray(stamps, dtype=np.float64)
    flat = stamps.reshape(-1, *stamps.shape[-2:])
    found = photometry.measure(flat)
    found |= adaptive_moments(flat, found["flux_radius"])
    step = max(1, CHUNK_CELLS // flat[0].size)
    chunks = [morphology(flat[start : start + step]) for start in range(0, len(flat), step)]
    found |= {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return {name: values.reshape(stamps.shape[:-2]) for name, values in found.items()}


def _frequencies(ny: int, nx: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the modes of rfft2, in cycles a pixel; 0 for the highest of an even number, which has no half to shift by."""
    ky, kx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)
    return np.where(ky == -0.5, 0.0, ky), np.where(kx == 0.5, 0.0, kx)


@functools.lru_cache(maxsize=4)
def _apertures(ny: int, nx: int) -> tuple[np.ndarray, np.ndarray]:
    """Radii (pixels) of circles about the middle, and which share of each pixel they hold: (r,) and (ny nx, r)."""
    radii = np.linspace(0.0, min(ny, nx) / 2, RADII + 1)
    y, x = ((np.arange(FINE * n) + 0.5) / FINE for n in (ny, nx))
    first = np.searchsorted(radii, np.hypot(y[:, None] - ny / 2, x - nx / 2))
    pixel = y.astype(int)[:, None] * nx + x.astype(int)
    bins = RADII + 2
    counts = np.bincount((pixel * bins + first).ravel(), minlength=ny * nx * bins).reshape(ny * nx, bins)
    return radii, np.cumsum(counts, axis=1)[:, :-1] / FINE**2


def _first(x: np.ndarray, y: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The first x (m,) at which each row of y (n, m) reaches its level (n,), straight between; NaN where none does."""
    above = y >= level[:, None]
    rows, i = np.arange(len(y)), above.argmax(axis=1)
    before = np.maximum(i - 1, 0)
    part = np.where(i > 0, ratio(level - y[rows, before], y[rows, i] - y[rows, before]), 0.0)
    return np.where(above.any(axis=1), x[before] + part * (x[i] - x[before]), np.nan)
