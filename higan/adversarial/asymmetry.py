"""Asymmetry of stamps as a loss: how much of a galaxy's light half a turn moves."""

from __future__ import annotations

from typing import Any

from keras import ops

from higan.adversarial.objectives import crps

FLOOR = 0.01  # of the light: galaxies that differ by less from themselves turned are smooth to the eye


def asymmetry_crps(first: Any, second: Any, real: Any) -> Any:
    """CRPS of two realisations' logarithms of asymmetry, mean over stamps and channels; lower is better.

    The asymmetry, sum |I - I_180| / sum I (Conselice et al. 2000, ApJ 529, 886, eq. 1), is about the stamp's middle.
    Faint lumps that a smooth galaxy should not have hardly count in any cell; here they do, and how many galaxies are
    smooth comes out as in the truth.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each; light, nowhere negative.

    Returns
    -------
    scalar tensor
        In units of the natural logarithm of asymmetry + 0.01.

    Examples
    --------
    >>> import numpy as np
    >>> smooth, lopsided = np.ones((2, 1, 8, 8, 1), "float32")
    >>> lopsided[:, :4] = 0.0
    >>> smooth[:, ::2] = 0.5
    >>> smooth = smooth + smooth[:, ::-1]
    >>> float(asymmetry_crps(smooth, smooth, smooth)), round(float(asymmetry_crps(smooth, smooth, lopsided)), 2)
    (0.0, 5.3)
    """
    return ops.mean(crps(*(ops.log(asymmetry(stamps) + FLOOR) for stamps in (first, second, real))))


def asymmetry(stamps: Any) -> Any:
    """Of each stamp and channel: (n, c)."""
    axes = tuple(range(1, len(stamps.shape) - 1))
    moved = ops.sum(ops.abs(stamps - ops.flip(stamps, axis=axes)), axis=axes)
    return moved / (ops.sum(stamps, axis=axes) + 1e-12)
