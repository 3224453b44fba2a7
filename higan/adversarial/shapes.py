"""Shapes of galaxies as a loss: how their light lies about the middle, all of it together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from keras import ops

from higan.adversarial.objectives import crps

RINGS = np.array([0.0, 0.12, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0], np.float32)  # edges, in half-light radii
WEIGHTS = (0.5, 1.0, 2.0)  # standard deviations of the Gaussians that moments are weighted by, in half-light radii
FLOOR = 0.01  # of the light: galaxies that differ by less from themselves turned are smooth to the eye
FAINT = 1e-3  # likewise, of the root of a sum of squares
RING, ELLIPTICITY, OF_KNOTS = 0.03, 0.2, 0.2  # by which these are measured: about what they scatter by among galaxies


def shape_score(first: Any, second: Any, real: Any, radii: Any) -> Any:
    """Energy score of two realisations' shapes, and the CRPS of each of their numbers; lower is better.

    A shape is the shares of light in rings, the ellipticity within three Gaussians, and what half a turn about the
    stamp's middle moves, where smooth profiles cancel: the logarithms of the asymmetry (Conselice et al. 2000, ApJ 529,
    886, eq. 1), of its share within the half-light radius, and of its root mean square over it, which say how much
    light is in knots, where they lie, and how many they are. Scores of one number at a time leave open which go
    together, as flat galaxies and exponential ones do; that of all of them hardly sees what scatters by little.

    Parameters
    ----------
    first, second, real : tensors, shape (n, ny, nx, c)
        Two realisations and the truth of one condition each; light, nowhere negative.
    radii : tensor, shape (n,)
        Half-light radii that were asked for, in pixels.

    Returns
    -------
    scalar tensor
        The mean over stamps and channels: the energy score over the root of the count of numbers, plus the mean CRPS.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, eqs. 21, 22.

    Examples
    --------
    >>> y, x = np.indices((32, 32)) - 15.5
    >>> galaxy, flat = (np.exp(-0.1 * (x**2 + q * y**2)).astype("float32")[None, ..., None] for q in (1, 4))
    >>> radius = np.array([4.0], "float32")
    >>> float(shape_score(galaxy, galaxy, galaxy, radius)) < 1e-5, float(shape_score(flat, flat, galaxy, radius)) > 1
    (True, True)
    """
    first, second, real = (shape_numbers(stamps, radii) for stamps in (first, second, real))

    def distance(one: Any, other: Any) -> Any:
        return ops.sqrt(ops.mean(ops.square(one - other), axis=-1) + 1e-12)

    together = 0.5 * (distance(first, real) + distance(second, real) - distance(first, second))
    return ops.mean(together) + ops.mean(crps(first, second, real))


def shape_numbers(stamps: Any, radii: Any) -> Any:
    """Of each stamp and channel, each in units of about its scatter: (n, c, 14)."""
    y, x = np.indices(stamps.shape[1:3], np.float32) - (np.array(stamps.shape[1:3], np.float32)[:, None, None] - 1) / 2
    light = ops.moveaxis(stamps, -1, 1)
    light = light / (ops.sum(light, axis=(2, 3), keepdims=True) + 1e-12)
    radii = ops.reshape(radii, (-1, 1, 1, 1))
    away = np.hypot(x, y)
    apertures = [ops.clip(edge * radii - away + 0.5, 0.0, 1.0) for edge in RINGS[1:].tolist()]
    within = [ops.sum(light * aperture, axis=(2, 3)) for aperture in apertures]
    numbers = [within[0] / RING, *((b - a) / RING for a, b in pairwise(within))]
    for width in WEIGHTS:
        weighted = light * ops.exp(-0.5 * ops.square(away / (width * radii)))
        xx, yy, xy = (ops.sum(weighted * moment, axis=(2, 3)) for moment in (x * x, y * y, x * y))
        flat = ops.sqrt(ops.square(xx - yy) + 4.0 * ops.square(xy) + 1e-8)
        numbers.append(flat / (xx + yy + 1e-6) / ELLIPTICITY)
    moved = ops.abs(light - ops.flip(light, axis=(2, 3)))
    near = apertures[RINGS[1:].tolist().index(1.0)]
    asymmetry = ops.log(ops.sum(moved, axis=(2, 3)) + FLOOR)
    inner = ops.log(ops.sum(moved * near, axis=(2, 3)) + FLOOR)
    root = ops.log(ops.sqrt(ops.sum(ops.square(moved), axis=(2, 3)) + 1e-12) + FAINT)
    numbers += [asymmetry, (inner - asymmetry) / OF_KNOTS, (root - asymmetry) / OF_KNOTS]
    return ops.stack(numbers, axis=-1)
