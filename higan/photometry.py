"""Galaxy stamps: their flux, what is measured on them, and how a telescope sees them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from higan.mapset import MapSet

ZERO_POINT = 25.94
"""AB magnitude of one count a second in the COSMOS F814W images (Leauthaud et al. 2007, ApJS 172, 219)."""

PIXEL = 0.03
"""Side of a pixel of these images, arcsec."""

PSF_FWHM = 0.075
"""Full width at half maximum of the Gaussian that stamps are seen through before any telescope, arcsec."""

SKY_NOISE = 3.16e-3
"""Standard deviation of the noise in a pixel of these images, counts per second (``galsim.getCOSMOSNoise``)."""

_WAVELENGTH, _DIAMETER, _OBSCURATION, _BLUR = 814e-9, 2.4, 0.33, 0.093  # m, m, of the diameter, arcsec


def flux(magnitude: Any) -> Any:
    """Counts per second of a magnitude.

    Examples
    --------
    >>> flux(25.94), round(flux(20.94), 6)
    (1.0, 100.0)
    """
    return 10.0 ** (0.4 * (ZERO_POINT - magnitude))


def sersic_light(n: Any) -> Any:
    """Light of a round Sérsic profile of index `n`, over its intensity at half light times that radius squared.

    References
    ----------
    Graham & Driver 2005, PASA 22, 118, eq. 4.

    Examples
    --------
    >>> round(float(sersic_light(0.5) / (np.pi / np.log(2) * 2)), 6)  # a Gaussian's is π / ln 2 of its peak, twice that
    1.0
    """
    from scipy.special import gamma, gammaincinv

    b = gammaincinv(2 * n, 0.5)
    return 2 * np.pi * n * np.exp(b) * b ** (-2 * n) * gamma(2 * n)


def of_pixels(maps: MapSet) -> bool:
    """Whether the cells of a map set are pixels of these images, to a thousandth of their side."""
    return maps.geometry.length_units == "arcsec" and abs(maps.cell_size - PIXEL) <= 1e-3 * PIXEL


class UnitFlux:
    """Maps (n, *shape) divided by their `fluxes` (n,), when they are read."""

    dtype = np.dtype(np.float32)

    def __init__(self, array: Any, fluxes: np.ndarray):
        self.array, self.fluxes = array, fluxes
        self.shape = tuple(array.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        maps = np.asarray(self.array[index])
        rows = index[0] if isinstance(index, tuple) else index
        return (maps / self.fluxes[rows].reshape(-1, *(1,) * (maps.ndim - 1))).astype(np.float32)


def measure(stamps: Any) -> dict[str, np.ndarray]:
    """Magnitude and half-light radius of galaxy stamps, by the names that COSMOS catalogues give them.

    Parameters
    ----------
    stamps : array_like, shape (..., ny, nx)
        Counts per second in each pixel, background subtracted.

    Returns
    -------
    dict of ndarray, shape (...)
        mag_auto: ``ZERO_POINT`` - 2.5 log10 of the sum over the stamp. flux_radius, in pixels: the radius of the circle
        about the stamp's centroid that holds half of that sum. Pixels are taken in the order of their distance from the
        centroid; N of them that hold half of the light stand for a circle of radius sqrt(N / π), N interpolated between
        whole numbers. NaN where the sum is not positive.

    Notes
    -----
    SExtractor's quantities of these names (Bertin & Arnouts 1996, A&AS 117, 393) take an elliptical aperture in place
    of the stamp, which they need for their noise and their neighbours; a stamp here has neither.

    Examples
    --------
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> disc = 100 * (np.hypot(y, x) < 20)
    >>> found = measure(disc / disc.sum())
    >>> round(float(found["mag_auto"]), 2), round(float(found["flux_radius"]))  # 20 / sqrt(2)
    (25.94, 14)
    """
    stamps = np.asarray(stamps, dtype=np.float64)
    ny, nx = stamps.shape[-2:]
    flat = stamps.reshape(-1, ny * nx)
    total = flat.sum(axis=1)
    y, x = (axis.ravel() for axis in np.indices((ny, nx)))
    with np.errstate(invalid="ignore", divide="ignore"):
        y0, x0 = flat @ y / total, flat @ x / total
        magnitude = ZERO_POINT - 2.5 * np.log10(np.where(total > 0, total, np.nan))
    radius = np.full(len(flat), np.nan)
    for i in np.flatnonzero(total > 0):
        order = np.argsort((y - y0[i]) ** 2 + (x - x0[i]) ** 2)
        growth = np.cumsum(flat[i, order]) / total[i]
        n = int(np.argmax(growth >= 0.5))
        before = growth[n - 1] if n else 0.0
        radius[i] = np.sqrt((n + (0.5 - before) / (growth[n] - before)) / np.pi)
    shape = stamps.shape[:-2]
    return {"flux_radius": radius.reshape(shape), "mag_auto": magnitude.reshape(shape)}


@functools.cache
def acs_kernel(half: int = 15) -> np.ndarray:
    """What a stamp is convolved with to be seen as the Advanced Camera for Surveys (ACS) of Hubble sees it in F814W.

    Its point-spread function is taken to be that of a circular aperture of 2.4 m with an obscuration of 0.33 at 814 nm
    (Born & Wolf 1999, section 8.6.2), through a Gaussian of 0.093" for all that blurs it further. With the response of
    a pixel of 0.03" that follows the mean profile of a hundred of COSMOS' own (those of GalSim's example catalogue) to
    12 % within 0.15" and to 30 % at the first ring; one of them is rounder than 0.05 in ellipticity. The kernel leaves
    out what a stamp holds already: the pixel, and a Gaussian of :data:`PSF_FWHM`.

    Parameters
    ----------
    half : int
        Pixels from the middle to an edge.

    Returns
    -------
    ndarray, shape (2 half + 1, 2 half + 1)
        Its sum is 1.

    Examples
    --------
    >>> kernel = acs_kernel()
    >>> kernel.shape, round(float(kernel.sum()), 6), bool(kernel[15, 15] == kernel.max())
    ((31, 31), 1.0, True)
    """
    from scipy.special import j1

    fine = 8  # points along a side of a pixel
    n = fine * (2 * half + 1)
    axis = (np.arange(n) - (n - 1) / 2) * PIXEL / fine
    radius = np.hypot(*np.meshgrid(axis, axis, indexing="ij")) * np.pi * _DIAMETER / _WAVELENGTH / 206264.806
    amplitude = j1(radius) / radius - _OBSCURATION * j1(_OBSCURATION * radius) / radius
    k = np.meshgrid(*(np.fft.fftfreq(n, PIXEL / fine),) * 2, indexing="ij")
    sigma = np.sqrt((_BLUR**2 - PSF_FWHM**2) / (8 * np.log(2)))
    blur = np.exp(-2 * (np.pi * sigma) ** 2 * (k[0] ** 2 + k[1] ** 2))
    psf = np.fft.ifft2(np.fft.fft2(amplitude**2) * blur).real
    # The pixel's response is in the stamps: the value in its middle, between the four points about it, is what counts.
    first = fine // 2 - 1
    sampled = np.sum([psf[first + i :: fine, first + j :: fine] for i in (0, 1) for j in (0, 1)], axis=0)
    return sampled / sampled.sum()


def observe(stamps: Any, rng: np.random.Generator | None = None, *, noise: float = SKY_NOISE) -> np.ndarray:
    """Stamps as the ACS sees them: through its point-spread function (:func:`acs_kernel`), with the noise of the sky.

    Parameters
    ----------
    stamps : array_like, shape (..., ny, nx)
        Counts per second in pixels of 0.03", as ``higan simulate galaxies`` and checkpoints trained on them make them.
    rng : numpy.random.Generator, optional
        Of the noise; without one there is none.
    noise : float
        Standard deviation in a pixel, Gaussian and independent, counts per second.

    Returns
    -------
    ndarray of float32, the same shape

    Examples
    --------
    >>> point = np.zeros((33, 33))
    >>> point[16, 16] = 1.0
    >>> bool(np.allclose(observe(point)[1:-1, 1:-1], acs_kernel(), atol=1e-6))
    True
    """
    from scipy.signal import oaconvolve

    stamps = np.asarray(stamps, dtype=np.float32)
    kernel = acs_kernel().astype(np.float32).reshape(*(1,) * (stamps.ndim - 2), *acs_kernel().shape)
    seen = oaconvolve(stamps, kernel, mode="same", axes=(-2, -1))
    if rng is not None:
        seen = seen + noise * rng.standard_normal(seen.shape, dtype=np.float32)
    return seen.astype(np.float32)
