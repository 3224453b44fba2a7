"""The power spectrum as a loss: what a discriminator notices late, said outright."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from higan.adversarial.objectives import crps
from higan.networks.layers import fourier_along
from higan.scaling import Scaling
from higan.validation.power_spectrum import axis_shares, bin_weights, taper

FULL = 0.1  # of R - 1: from there on power is punished at full strength
Mean = Callable[[Any], Any]  # of nested tensors over the replicas of a batch that is shared; gradients do not pass
LEAST = 0.01  # of the amplitude of true modes: what a score of modes is measured by, at least
EMPTY = 0.1  # of the mean power over groups; true power that is less is taken for this much


def alone(values: Any) -> Any:
    """The mean over replicas of a batch that is not shared."""
    return values


def spectral_loss(
    fake: Any,
    real: Any,
    window: str | None = None,
    group: int | None = None,
    by_axis: bool = False,
    mean: Mean = alone,
) -> Any:
    """Mean over bins of k, groups of maps and channels of |R - 1|, R = sum P_fake / sum P_real over a group's maps.

    Parameters
    ----------
    fake, real : tensors, shape (n, *shape, c)
        Maps of one condition each, in physical units; cells are square.
    window : str, optional
        For maps that are not periodic, as of :func:`higan.validation.power_spectrum.power_spectrum`.
    group : int, optional
        Maps in a group, which are neighbours; n is a multiple of it. All are one group where not given.
    by_axis : bool
        Take the power along each axis for itself (:func:`higan.validation.power_spectrum.axis_shares`): too much along
        one then does not make up for too little along another.
    mean : callable, optional
        Mean over replicas where these maps are one's part of a batch: what losses are measured by is of all of it.

    Returns
    -------
    scalar tensor
        Bins are those of :func:`higan.validation.power_spectrum.power_spectrum`, and go on into the corners of the
        cube of modes: texture lies there that no other loss sees. Sums are over a group because the
        power of one map scatters about what its condition implies, which the generator cannot know; a group should
        be of one simulation, for too much power at some parameters makes up for too little at others within it.
        Absolute values, because squares would outweigh every other loss while R is still far from 1.

    Notes
    -----
    A group with less than a tenth of the mean power of all is measured by that tenth instead of its own power: next
    to empty maps, whose R may be anything, would outweigh all others.

    Where the truth's power scatters by σ about what the condition implies, the loss is least at R = exp(-σ²): below
    1 by half a percent for σ = 0.07, which a few maps exceed in the largest-scale bins.

    Losses on the power spectrum of generated maps: Durall, Keuper & Keuper 2020, 2003.01826, sec. 4 (azimuthal
    averages); Jiang et al. 2021, 2012.12821 (mode by mode). This one compares R(k) with 1, bin by bin.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> round(float(spectral_loss(2 * maps, maps)), 3)  # R = 4 everywhere
    3.0
    >>> halves = np.array([0.5, 0.5, 2, 2], "float32").reshape(4, 1, 1, 1)
    >>> round(float(spectral_loss(halves**0.5 * maps, maps, group=2)), 3)  # R = 1/2 of one group, 2 of the other
    0.75
    """
    group = real.shape[0] if group is None else group
    fake_power, real_power = (power(maps, window, group, by_axis) for maps in _of_order_one(mean, fake, real))
    measure = ops.maximum(real_power, EMPTY * mean(ops.mean(real_power, axis=1, keepdims=True)))
    # A bin without power, as of a batch of empty maps, says nothing.
    return ops.mean(quotient(ops.abs(fake_power - real_power), measure, 1e-12))


def spectral_crps(
    first: Any,
    second: Any,
    real: Any,
    window: str | None = None,
    group: int = 1,
    by_axis: bool = False,
    mean: Mean = alone,
    floor: float = EMPTY,
    slope_weight: float = 0.0,
) -> Any:
    """CRPS of two realisations' ln(P + floor), mean over bins of k, groups of maps and channels; lower is better.

    Where the power of a map scatters widely about what its condition implies, as that of a few bright cells does, a
    proper score wants generated power to scatter alike, so that its mean is right; the least absolute difference wants
    the median, which may lie far below.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each; cells are square.
    window, group, by_axis, mean
        As of :func:`spectral_loss`; powers are summed over a group.
    floor : float
        Of the true mean power over groups, in each bin: groups with less power than that count little.
    slope_weight : float
        Of the CRPS of the differences between neighbouring bins of k, which is added. Where ln P of a map scatters
        widely, but in all bins together, its slopes tell what its values hide.

    Returns
    -------
    scalar tensor

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, section 4.2 (:func:`higan.adversarial.objectives.crps`).

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> float(spectral_crps(maps, maps, maps))
    0.0
    >>> round(float(spectral_crps(2 * maps, 2 * maps, maps, group=4)), 3)  # ln(4.1 / 1.1)
    1.316
    """
    powers = [power(maps, window, group, by_axis) for maps in _of_order_one(mean, first, second, real)]
    true = mean(ops.mean(powers[-1], axis=1, keepdims=True))
    logs = [ops.log(quotient(power, true, 1e-12) + floor) for power in powers]
    score = ops.mean(crps(*logs))
    if not slope_weight:
        return score
    axes = len(real.shape) - 2 if by_axis else 1
    logs = [ops.reshape(values, (axes, -1, *values.shape[1:])) for values in logs]
    return score + slope_weight * ops.mean(crps(*(values[:, 1:] - values[:, :-1] for values in logs)))


def mode_score(
    first: Any, second: Any, real: Any, window: str | None = None, mean: Mean = alone, by_octave: bool = False
) -> Any:
    """Energy score of two realisations' Fourier modes, mean over maps, bins of k and channels; lower is better.

    A score of cells is decided by the scales that hold most of the variance; on the others realisations may differ by
    much less than they miss the truth. Here every scale weighs the same, those that the condition tells nearly all of
    as well as those it tells nothing of.

    Parameters
    ----------
    first, second, real : tensors, shape (n, *shape, c)
        Two realisations and the truth of one condition each; cells are square.
    window, mean
        As of :func:`spectral_loss`.
    by_octave : bool
        Weigh octaves of k alike instead of bins. The lowest bin is an octave of its own, the mean of a map counts as
        one more, and the last is cut short where the corners of the cube of modes end.

    Returns
    -------
    scalar tensor
        ½ (|f1 - f| + |f2 - f|) - ½ |f1 - f2| of every complex mode, over sqrt(2) times what the mean of many
        realisations would miss the truth by in its bin: the root-mean-square that realisations themselves should. It is
        told by the two, and is a third of what they do and a hundredth of the true modes at least. The mean of a map
        counts as one bin more, measured as the modes of largest scale are. Of Gaussian modes it is sqrt(π) / 4 = 0.44
        where realisations differ as much as they miss the truth, 0.63 where they are all alike, and 0 where they are
        the truth.

    References
    ----------
    Gneiting & Raftery 2007, JASA 102, 359, eq. 22, in the two dimensions of a complex number.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(3, 256, 8, 8, 1)).astype("float32")
    >>> round(float(mode_score(*maps)), 1), round(float(mode_score(maps[0], maps[0], maps[0])), 3)
    (0.4, 0.0)
    >>> round(float(mode_score(maps[0], maps[0], maps[1])), 1)
    0.6
    """
    shape = real.shape[1:-1]
    sums, modes = _transforms(first, second, real, window, mean)
    first, second, real = modes
    score = 0.5 * (_modulus(first - real) + _modulus(second - real) - _modulus(first - second))
    score = _binned(ops.mean(score, axis=0), shape)
    both, apart, true = mean([ops.stop_gradient(_binned(ops.mean(x, axis=0), shape)) for x in _parted(*modes)])
    root = ops.sqrt(ops.maximum(2.0 * (both - apart), ops.maximum(0.1 * (both + apart), LEAST**2 * true)))
    score = ops.concatenate([ops.mean(crps(*sums), axis=0)[None], score])
    return _over_scales(quotient(score, ops.concatenate([root[:1], root]), 1e-6), by_octave)


def spread_loss(
    first: Any, second: Any, real: Any, window: str | None = None, mean: Mean = alone, by_octave: bool = False
) -> tuple[Any, Any]:
    """How far two realisations' modes differ by more or less than they miss the truth, and a loss that mends it.

    Proper scores are best where realisations differ as much as they miss the truth, but say so faintly where they are
    nearly alike: noise is given up early in a training, and what a little of it gains is of the second order. This
    wants the ratio of the two to be right at every scale, as scores in the end do, and nothing of the maps themselves.

    Parameters
    ----------
    first, second, real, window, mean, by_octave
        As of :func:`mode_score`.

    Returns
    -------
    scalar tensor
        Mean over maps, bins of k, the mean of a map among them, and channels of |ln q|, at most 1, map by map, with
        q = 3 <|f1 - f2|²> / <|f1 + f2 - 2 f|²> over the modes of a bin: 1, but for chance, where truth and realisations
        are draws alike. What is below a hundredth of the true modes does not count.
    scalar tensor
        Whose gradient is that of the mean of ½ (ln q)², of q as far as f1 - f2 goes, beyond |ln q| = 1 that of |ln q|:
        half of it with the q of each map, half with that of all maps together.

    Notes
    -----
    With the q of all maps alone those that are hardest to tell would decide, and the others be given their noise. With
    that of each alone a spread that is too large in maps that are easy to tell would make up for one that is too small
    where nearly all of the error is. Both means of q are of as many modes, so that chance moves ln q up as often as
    down.

    References
    ----------
    Bendel, Ahmad & Schniter 2023, 2210.13389, section 3.2, reward the spread of a map's cells such that it is right.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(3, 256, 8, 8, 1)).astype("float32")
    >>> [round(float(spread_loss(first, *maps[1:])[0]), 1) for first in (maps[1], 10 * maps[0])]
    [1.0, 0.9]
    >>> abs(float(spread_loss(*maps)[1])) < 0.1
    True
    """
    shape = real.shape[1:-1]
    sums, modes = _transforms(first, second, real, window, mean)
    both, apart, true = (
        ops.concatenate([of_sums[None], _binned(of_modes, shape)])
        for of_sums, of_modes in zip(_parted(*(x[..., None] for x in sums)), _parted(*modes), strict=True)
    )
    both, now = ops.stop_gradient(both), ops.stop_gradient(apart)
    # Next to the square of a field's mean any scatter of it is small: it is measured by the largest scales.
    least = LEAST**2 * mean(ops.mean(ops.concatenate([true[1:2], true[1:]]), axis=1, keepdims=True))

    def measured(both: Any, now: Any) -> tuple[Any, Any]:
        excess = ops.clip(ops.log(quotient(3.0 * now + least, both + least, 1e-12) + 1e-12), -1.0, 1.0)
        excess = ops.where(least > 0, excess, 0.0)
        return excess, excess * quotient(apart, now + least, 1e-12)

    excess, of_each = measured(both, now)
    _, of_all = measured(*mean([ops.mean(x, axis=1, keepdims=True) for x in (both, now)]))
    return _over_scales(ops.abs(excess), by_octave), _over_scales(0.5 * (of_each + of_all), by_octave)


def mean_power(maps: Any, window: str | None = None) -> Any:
    """Power at k = 0 and in each bin of k, mean over a batch of maps (n, *shape, c), shape (1 + bins, c).

    It is not normalised; at k = 0 it is the square of the sum over cells, which holds the mean of a field.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> power = ops.convert_to_numpy(mean_power(maps))
    >>> power.shape, bool(np.allclose(mean_power(3 * maps), 9 * power, rtol=1e-4))
    ((7, 1), True)
    """
    sums, modes = _transform(maps, window)
    power = _binned(ops.mean(_squared(modes), axis=0), maps.shape[1:-1])
    return ops.concatenate([ops.mean(ops.square(sums), axis=0)[None], power])


def power(maps: Any, window: str | None = None, group: int = 1, by_axis: bool = False) -> Any:
    """Mean power of the modes of each bin, summed over a group's maps, (bins, groups, c); one axis upon another."""
    squares, shape = _squared(_transform(maps, window)[1]), maps.shape[1:-1]
    n, c, modes = squares.shape
    squares = ops.sum(ops.reshape(squares, (n // group, group, c, modes)), axis=1)
    if not by_axis:
        return _binned(squares, shape)
    shares = axis_shares(shape, corners=True).astype(np.float32)
    return ops.concatenate([_binned(squares * share, shape) for share in shares])


def bright_cells(outputs: Sequence[Scaling]) -> np.ndarray:
    """Three standard deviations up, (c,): of physical maps in units of these squares stay within single precision."""
    return np.array([abs(float(scaling.restore(3.0))) for scaling in outputs], np.float32)


def surplus(generated: Any, true: Any) -> Any:
    """What to punish power by, from running means of generated and true power: R - 1 in tenths, from -1 to 1.

    Times the logarithm of a batch's power it is a loss that is at rest where the mean R is 1, however widely the power
    of single batches scatters: a batch alone cannot tell too much power from a bright map.

    Examples
    --------
    >>> ops.convert_to_numpy(surplus(np.array([1.05, 3.0, 0.0]), np.array([1.0, 1.0, 0.0]))).round(6).tolist()
    [0.5, 1.0, 0.0]
    """
    return ops.clip(quotient(generated - true, true) / FULL, -1.0, 1.0)


def quotient(values: Any, measure: Any, least: float = 0.0) -> Any:
    """`values` over `measure`, 0 with a gradient of 0 where `measure` is not above `least`.

    Examples
    --------
    >>> ops.convert_to_numpy(quotient(np.array([3.0, 3.0]), np.array([2.0, 0.0]))).tolist()
    [1.5, 0.0]
    """
    filled = measure > least
    return ops.where(filled, values / ops.where(filled, measure, 1.0), 0.0)


def _of_order_one(mean: Mean, *maps: Any) -> list[Any]:
    """Batches relative to the highest cell of the last, the truth: no unit makes a square that float32 cannot hold."""
    real = maps[-1]
    largest = mean(ops.max(ops.abs(real), axis=tuple(range(len(real.shape) - 1)), keepdims=True))
    scale = ops.where(largest > 0, largest, 1.0)
    return [batch / scale for batch in maps]


def _transform(maps: Any, window: str | None) -> tuple[Any, Any]:
    """Sums over cells (n, c), and the modes of the real transform (n, c, modes, 2), real and imaginary parts."""
    ndim = len(maps.shape) - 2
    maps = ops.moveaxis(ops.cast(maps, "float32"), -1, 1)
    shape, axes = tuple(maps.shape[2:]), tuple(range(2, ndim + 2))
    weights = np.ones(shape, np.float32) if window is None else taper(shape, window).astype(np.float32)
    sums = ops.sum(maps * weights, axis=axes, keepdims=True)
    # The mean is no mode that counts, but large means would cost the others their precision.
    maps = (maps - sums / weights.sum()) * weights
    modes = ops.rfft(maps)
    for axis in range(2, ndim + 1):
        modes = fourier_along(axis, modes)
    n, c, *sides = modes[0].shape
    modes = ops.stack([ops.reshape(part, (n, c, math.prod(sides))) for part in modes], axis=-1)
    return ops.reshape(sums, (n, c)), modes


def _transforms(first: Any, second: Any, real: Any, window: str | None, mean: Mean) -> tuple[Any, Any]:
    """Sums, and modes, of two realisations and the truth."""
    pairs = [_transform(maps, window) for maps in _of_order_one(mean, first, second, real)]
    return [sums for sums, _ in pairs], [modes for _, modes in pairs]


def _parted(first: Any, second: Any, real: Any) -> list[Any]:
    """|½ (f1 + f2) - f|², |½ (f1 - f2)|², the sum of which is the mean square of what each misses, and |f|²."""
    return [_squared(modes) for modes in (0.5 * (first + second) - real, 0.5 * (first - second), real)]


def _squared(modes: Any) -> Any:
    return ops.sum(ops.square(modes), axis=-1)


def _modulus(modes: Any) -> Any:
    """|f|, with a gradient of 0 at 0."""
    return ops.sqrt(_squared(modes) + 1e-12)


def over_octaves(values: Any) -> tuple[Any, int]:
    """Mean of `values` (bins, …) over octaves of k and all else, each octave weighing alike; how many these are.

    Bin i, from 1, is of i times the lowest k, and an octave of its own where it is the first; the last is cut short.

    Examples
    --------
    >>> mean, count = over_octaves(np.array([1.0, 2.0, 4.0, 9.0], "float32"))
    >>> float(mean), count
    (4.333333492279053, 3)
    """
    octaves = np.log2(np.arange(1, values.shape[0] + 1)).astype(int)
    counts = np.bincount(octaves)
    weights = (1 / (len(counts) * counts[octaves])).astype(np.float32)
    return ops.sum(weights * ops.mean(ops.reshape(values, (values.shape[0], -1)), axis=1)), len(counts)


def _over_scales(values: Any, by_octave: bool) -> Any:
    """Mean of `values` (1 + bins, …), of a map's mean and of each bin of k, over scales and all else."""
    if not by_octave:
        return ops.mean(values)
    others, count = over_octaves(values[1:])
    return (ops.mean(values[0]) + count * others) / (count + 1)


def _binned(values: Any, shape: Sequence[int]) -> Any:
    """Means of `values` (..., modes) over the modes of each bin, shape (bins, ...)."""
    mode_weights, bins, n_bins = _bins(tuple(shape))
    *others, modes = values.shape
    by_mode = ops.transpose(ops.reshape(values, (-1, modes))) * mode_weights
    return ops.reshape(ops.segment_sum(by_mode, bins, n_bins + 1)[:n_bins], (n_bins, *others))


@functools.lru_cache(maxsize=4)
def _bins(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Weight (modes, 1) and bin (modes,) of every mode, and how many bins there are; the mean goes to one bin more."""
    weights = bin_weights(shape, corners=True).tocoo()
    n_bins, n_modes = weights.shape
    bins, mode_weights = np.full(n_modes, n_bins, np.int32), np.zeros((n_modes, 1), np.float32)
    bins[weights.col], mode_weights[weights.col, 0] = weights.row, weights.data
    return mode_weights, bins, n_bins
