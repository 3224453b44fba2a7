"""What the half-light radius that a stamp was asked for says of it: half of its light lies within."""

from __future__ import annotations

from typing import Any

from keras import ops


def half_light_error(maps: Any, radii: Any) -> Any:
    """Mean square of 2 s - 1, s being the share of a stamp's light within its radius of its centroid.

    The radius is that of :func:`higan.photometry.measure`; a pixel that the circle cuts counts in part,
    min(1, max(0, R - r + ½)).

    Parameters
    ----------
    maps : tensor, shape (n, ny, nx, c)
        Light, nowhere negative; each channel for itself.
    radii : tensor, shape (n,)
        In pixels.

    Returns
    -------
    scalar tensor

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> disc = (np.hypot(y, x) < 20).astype("float32")[None, ..., None]
    >>> wanted, twice = (float(half_light_error(disc, np.array([r], "float32"))) for r in (20 / 2**0.5, 20.0))
    >>> wanted < 1e-4, 0.9 < twice < 1.0
    (True, True)
    """
    ny, nx = maps.shape[1:3]
    y = ops.reshape(ops.arange(ny, dtype="float32"), (1, -1, 1, 1))
    x = ops.reshape(ops.arange(nx, dtype="float32"), (1, 1, -1, 1))

    def total(weighted: Any) -> Any:
        return ops.sum(weighted, axis=(1, 2), keepdims=True)

    light = total(maps) + 1e-12
    distance = ops.sqrt(ops.square(y - total(maps * y) / light) + ops.square(x - total(maps * x) / light) + 1e-6)
    within = ops.clip(ops.reshape(radii, (-1, 1, 1, 1)) - distance + 0.5, 0.0, 1.0)
    return ops.mean(ops.square(2.0 * total(maps * within) / light - 1.0))
