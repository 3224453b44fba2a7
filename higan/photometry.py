"""What is measured on galaxy stamps, true and generated alike: magnitude and half-light radius."""

from __future__ import annotations

from typing import Any

import numpy as np

ZERO_POINT = 25.94
"""AB magnitude of one count a second in the COSMOS F814W images (Leauthaud et al. 2007, ApJS 172, 219)."""

PIXEL = 0.03
"""Side of a pixel of these images, arcsec."""


def flux(magnitude: Any) -> Any:
    """Counts per second of a magnitude.

    Examples
    --------
    >>> flux(25.94), round(flux(20.94), 6)
    (1.0, 100.0)
    """
    return 10.0 ** (0.4 * (ZERO_POINT - magnitude))


class UnitFlux:
    """Maps (n, *shape) divided by the flux of their `magnitudes` (n,), when they are read."""

    dtype = np.dtype(np.float32)

    def __init__(self, array: Any, magnitudes: np.ndarray):
        self.array, self.magnitudes = array, magnitudes
        self.shape = tuple(array.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        maps = np.asarray(self.array[index])
        return (maps / flux(self.magnitudes[index]).reshape(-1, *(1,) * (maps.ndim - 1))).astype(np.float32)


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
    >>> round(float(found["mag_auto"]), 2), round(float(found["flux_radius"]), 1)  # 20 / sqrt(2)
    (25.94, 14.1)
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
