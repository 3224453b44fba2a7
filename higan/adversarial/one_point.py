"""The one-point distribution of a map as a loss: how many cells lie below a value, map by map."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from higan.adversarial.objectives import crps

LEVELS = np.linspace(-2.5, 2.5, 16, dtype=np.float32)  # in scaled space: standard deviations
SPACING = float(LEVELS[1] - LEVELS[0])


def one_point_crps(first: Any, second: Any, real: Any) -> Any:
    """CRPS of two realisations' shares of cells below each of 16 levels, mean over maps and channels; lower is better.

    A cell-by-cell score is content with realisations whose cells differ independently, so that the shares of a whole
    map hardly differ; this one wants them to differ as much as they miss the truth's.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each, in scaled space.

    Returns
    -------
    scalar tensor
        The sum over levels, -2.5 to 2.5, times their spacing: in standard deviations, as the Wasserstein distance. A
        step at a level is smoothed by a logistic function half a spacing wide, so that it has a gradient.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, section 4.2 (:func:`higan.adversarial.objectives.crps`).

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> float(one_point_crps(maps[:, ::-1], maps[:, :, ::-1], maps)) < 1e-6  # the same cells elsewhere
    True
    >>> round(float(one_point_crps(maps + 0.1, maps + 0.1, maps)), 2)  # all of them a little higher
    0.1
    """
    return SPACING * ops.sum(ops.mean(crps(*(_shares(maps) for maps in (first, second, real))), axis=(0, 1)))


def _shares(maps: Any) -> Any:
    """Share of each map's cells below each level, smoothed: (n, c, levels)."""
    axes = tuple(range(1, len(maps.shape) - 1))
    below = [ops.mean(ops.sigmoid((level - maps) * (2.0 / SPACING)), axis=axes) for level in LEVELS.tolist()]
    return ops.stack(below, axis=-1)
