"""Octaves of scale as a loss, place by place: how much realisations should differ at each scale, and where."""

from __future__ import annotations

from typing import Any

from keras import ops

from higan.adversarial.objectives import crps
from higan.adversarial.spectrum import Mean, alone, quotient


def octave_crps(first: Any, second: Any, real: Any, mean: Mean = alone) -> Any:
    """CRPS of two realisations' octaves, cell by cell, mean over octaves, maps and channels; lower is better.

    A score of cells is decided by the scales that hold most of the variance, one of Fourier modes weighs every scale
    alike but not where in a map realisations should differ: at the rim of a bubble, say, and not within. This one does
    both.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each, in scaled space.
    mean : callable, optional
        As of :func:`higan.adversarial.spectrum.spectral_loss`.

    Returns
    -------
    scalar tensor
        An octave is what means of blocks of 1, 2, 4, … cells differ by from those of blocks of twice the side that they
        lie in (the Laplacian pyramid of Burt & Adelson 1983, IEEE Trans. Comm. 31, 532, with boxes for its Gaussians),
        over its standard deviation in the true maps, or a third of that in the generated ones where that is more. Sides
        go up to what divides each axis; the last means are an octave, too.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, section 4.2 (:func:`higan.adversarial.objectives.crps`).

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.random.default_rng(1).normal(size=(3, 64, 8, 8, 1)).astype("float32")
    >>> round(float(octave_crps(*maps)), 1)  # 1 / sqrt(π) where nothing tells the truth
    0.6
    >>> float(octave_crps(maps[0], maps[0], maps[0]))
    0.0
    """
    scores, axes = [], tuple(range(len(real.shape) - 1))
    octaves = [_octaves(maps) for maps in (first, second, real)]
    generated, true = _scatter([[ops.stop_gradient(x) for x in octaves[0]], octaves[2]], axes, mean)
    for parts, made, scatter in zip(zip(*octaves, strict=True), generated, true, strict=True):
        # Next to a batch of empty maps all else would be small.
        measure = ops.maximum(scatter, made / 3)
        # A scale without scatter, as of a batch of empty maps, says nothing.
        scores.append(quotient(ops.mean(crps(*parts), axis=axes), measure, 1e-6))
    return ops.mean(ops.stack(scores))


def block_means(maps: Any, side: int) -> Any:
    """Means of blocks of `side` cells along each axis of (n, *shape, c)."""
    return ops.average_pool(maps, side, strides=side, data_format="channels_last")


def block_extremes(maps: Any, side: int) -> tuple[Any, Any]:
    """The brightest and the faintest cell of blocks of `side` cells along each axis of (n, *shape, c)."""
    brightest, darkest = (ops.max_pool(x, side, strides=side, data_format="channels_last") for x in (maps, -maps))
    return brightest, -darkest


def _scatter(octaves: list[list[Any]], axes: tuple[int, ...], mean: Mean) -> list[list[Any]]:
    """Standard deviation of each octave of some maps over cells and the whole batch."""
    means = mean([[ops.mean(x, axis=axes) for x in parts] for parts in octaves])
    squares = [
        [ops.mean(ops.square(x - m), axis=axes) for x, m in zip(*pair, strict=True)]
        for pair in zip(octaves, means, strict=True)
    ]
    return [[ops.sqrt(x) for x in parts] for parts in mean(squares)]


def _octaves(maps: Any) -> list[Any]:
    """What means of blocks differ by from those of twice the side, from cells upwards, and the last means."""
    ndim, found = len(maps.shape) - 2, []
    while all(n % 2 == 0 for n in maps.shape[1:-1]):
        means = block_means(maps, 2)
        repeated = means
        for axis in range(1, ndim + 1):
            repeated = ops.repeat(repeated, 2, axis=axis)
        found.append(maps - repeated)
        maps = means
    return [*found, maps]
