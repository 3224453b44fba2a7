"""The one-point distribution of a map as a loss: how many cells lie below a value, map by map."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from keras import ops
from scipy.special import expit

from higan.adversarial.objectives import crps
from higan.networks.layers import within

LEVELS = np.linspace(-2.5, 2.5, 16, dtype=np.float32)  # in scaled space: standard deviations
SPACING = float(LEVELS[1] - LEVELS[0])
FAR_SPACING = 0.5
FAR_LEVELS = np.arange(1.0, 8.5, FAR_SPACING, dtype=np.float32)  # on either side
REACH = 10.5  # standard deviations; cells further out are as good as here
BIN = 1 / 64  # in which cells are counted
BINS = int(2 * REACH / BIN) + 1


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
    return SPACING * _over_levels(*(shares(maps, LEVELS) for maps in (first, second, real)))


def tail_crps(first: Any, second: Any, real: Any) -> Any:
    """CRPS of two realisations' ln(1 + cells beyond each of 30 levels), mean over maps and channels; lower is better.

    Where a field spans decades, a few cells in ten thousand hold most of the signal. To the shares of
    :func:`one_point_crps` they are nothing; here a tenth too many of them costs as much as a tenth too many of any.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each, in scaled space.

    Returns
    -------
    scalar tensor
        The sum over levels, 1 to 8 standard deviations above and below 0, times their spacing of a half. Steps are
        smoothed as those of :func:`one_point_crps`.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, section 4.2 (:func:`higan.adversarial.objectives.crps`).

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> float(tail_crps(maps[:, ::-1], maps[:, :, ::-1], maps)) < 1e-5  # the same cells elsewhere
    True
    >>> bright = np.where(maps > 2, maps + 6, maps)  # 2 % of the cells
    >>> one_point, tail = (float(score(bright, bright, maps)) for score in (one_point_crps, tail_crps))
    >>> one_point < 0.01, tail > 1
    (True, True)
    """

    def logarithms(maps: Any) -> Any:
        levels = np.concatenate([-FAR_LEVELS, FAR_LEVELS])
        beyond = shares(maps, levels, above=levels > 0)
        return ops.log(1.0 + math.prod(maps.shape[1:-1]) * beyond)

    return FAR_SPACING * _over_levels(*(logarithms(maps) for maps in (first, second, real)))


def _over_levels(first: Any, second: Any, real: Any) -> Any:
    """CRPS of numbers (n, c, levels): the sum over levels of its mean over maps and channels."""
    return ops.sum(ops.mean(crps(first, second, real), axis=(0, 1)))


def peaks_and_holes(maps: Any, lag: int) -> tuple[Any, Any]:
    """Maps (n, *shape, c) without the peaks, and without the holes, that cells are among those `lag` from them.

    The first has the fainter of each cell and the brightest so far from it along an axis: of the cells above a level
    that leaves out those with no other so far away. The second has the brighter of each cell and the faintest so far
    from it, which fills those that are below a level alone. Cells so near an edge are left out.
    """
    ndim, parts = len(maps.shape) - 2, []
    for axis in range(ndim):
        for start in (0, 2 * lag):
            index = [slice(lag, n - lag) for n in maps.shape[1:-1]]
            index[axis] = slice(start, maps.shape[1 + axis] - 2 * lag + start)
            parts.append(maps[(slice(None), *index)])
    cells = within(maps, lag)
    brightest, faintest = (functools.reduce(choose, parts) for choose in (ops.maximum, ops.minimum))
    return ops.minimum(cells, brightest), ops.maximum(cells, faintest)


def shares(maps: Any, levels: np.ndarray, *, above: bool | np.ndarray = False) -> Any:
    """Share of each map's cells below each level, or above it, smoothed: (n, c, levels).

    Cells are counted in fine bins, between which the smoothed steps are interpolated: to a thousandth of what is
    beyond a level, at the cost of one pass for all levels.
    """
    grid = BIN * np.arange(BINS, dtype=np.float32) - REACH
    steps = expit((levels - grid[:, None]) * np.where(above, -2.0, 2.0) / SPACING).astype(np.float32)
    return ops.matmul(_counts(maps), steps / math.prod(maps.shape[1:-1]))


def _counts(maps: Any) -> Any:
    """Cells of each map at each bin's place, (n, c, bins), those between two places shared by nearness."""
    n, channels = ops.shape(maps)[0], maps.shape[-1]
    place = (ops.clip(maps, -REACH, REACH) + REACH) / BIN
    lower = ops.stop_gradient(ops.minimum(ops.floor(place), BINS - 2.0))
    first = BINS * ops.reshape(ops.arange(n * channels), (n, *(1,) * (len(maps.shape) - 2), channels))
    index = ops.reshape(ops.cast(lower, "int32") + first, (-1,))
    counts, beyond = (
        ops.reshape(ops.segment_sum(ops.reshape(x, (-1,)), index, n * channels * BINS), (n, channels, BINS))
        for x in (ops.ones_like(lower), place - lower)
    )
    # Of those above a place, what is nearer the next belongs there; none is above the last.
    return counts - beyond + ops.roll(beyond, 1, axis=-1)
