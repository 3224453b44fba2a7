"""The power spectrum as a loss: what a discriminator notices late, said outright."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import ops

from higan.validation.power_spectrum import bin_weights, taper


def spectral_loss(fake: Any, real: Any, window: str | None = None) -> Any:
    """Mean over bins of k of |R - 1|, R = sum P_fake / sum P_real over the maps of a batch; mean over channels.

    Parameters
    ----------
    fake, real : tensors, shape (n, *shape, c)
        Maps of one condition each, in physical units; cells are square.
    window : str, optional
        For maps that are not periodic, as of :func:`higan.validation.power_spectrum.power_spectrum`.

    Returns
    -------
    scalar tensor
        Bins are those of :func:`higan.validation.power_spectrum.power_spectrum`. Sums are over the batch because the
        power of one map scatters about what its condition implies, which the generator cannot know. Absolute values,
        because squares would outweigh every other loss while R is still far from 1.

    Notes
    -----
    Where the truth's power scatters by σ about what the condition implies, the loss is least at R = exp(-σ²): below
    1 by half a percent for σ = 0.07, which a batch of 16 maps exceeds in the few largest-scale bins at most.

    Losses on the power spectrum of generated maps: Durall, Keuper & Keuper 2020, 2003.01826, sec. 4 (azimuthal
    averages); Jiang et al. 2021, 2012.12821 (mode by mode). This one compares R(k) with 1, bin by bin.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    >>> round(float(spectral_loss(2 * maps, maps)), 3)  # R = 4 everywhere
    3.0
    """
    mode_weights, bins, n_bins = _bins(tuple(real.shape[1:-1]))
    # Relative to the truth, so that no unit makes a square that float32 cannot hold.
    axes = tuple(range(len(real.shape) - 1))
    largest = ops.max(ops.abs(real), axis=axes, keepdims=True)
    scale = ops.where(largest > 0, largest, 1.0)
    fake_power, real_power = (
        ops.segment_sum(_squared_modes(maps / scale, window) * mode_weights, bins, n_bins + 1)[:n_bins]
        for maps in (fake, real)
    )
    # A bin without power, as of a batch of empty maps, says nothing.
    filled = real_power > 1e-12
    off = ops.abs(fake_power / ops.where(filled, real_power, 1.0) - 1.0)
    return ops.mean(ops.where(filled, off, 0.0))


def _squared_modes(maps: Any, window: str | None) -> Any:
    """|f_k|² of the real transform, summed over the batch, shape (modes, c)."""
    ndim = len(maps.shape) - 2
    maps = ops.moveaxis(ops.cast(maps, "float32"), -1, 1)
    # The mean is no mode that counts, but large means would cost the others their precision.
    shape, axes = tuple(maps.shape[2:]), tuple(range(2, ndim + 2))
    weights = np.ones(shape, np.float32) if window is None else taper(shape, window).astype(np.float32)
    maps = (maps - ops.sum(maps * weights, axis=axes, keepdims=True) / weights.sum()) * weights
    modes = ops.rfft(maps)
    for axis in range(2, ndim + 1):
        modes = tuple(ops.swapaxes(part, axis, -1) for part in modes)
        modes = tuple(ops.swapaxes(part, axis, -1) for part in ops.fft(modes))
    squares = ops.sum(ops.square(modes[0]) + ops.square(modes[1]), axis=0)
    return ops.transpose(ops.reshape(squares, (squares.shape[0], -1)))


@functools.lru_cache(maxsize=4)
def _bins(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Weight (modes, 1) and bin (modes,) of every mode, and how many bins there are; the rest go to one bin more."""
    weights = bin_weights(shape).tocoo()
    n_bins, n_modes = weights.shape
    bins, mode_weights = np.full(n_modes, n_bins, np.int32), np.zeros((n_modes, 1), np.float32)
    bins[weights.col], mode_weights[weights.col, 0] = weights.row, weights.data
    return mode_weights, bins, n_bins
