"""What an excursion set looks at: a field of a whole map, cut off sharply at one wavenumber after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from higan.cores import cores

# k R at which the cut of radius R lies: a sphere of that radius has the volume of the filter, 6 π² / k³ (Lacey & Cole
# 1993, MNRAS 262, 627, sec. 2.2.2).
CUT = (9 * math.pi / 2) ** (1 / 3)
LEAST = 1e-6  # variance that is taken for what has less, in squares of the scaled field's units


class SharpCuts:
    """A field smoothed by filters that are sharp in wavenumber.

    Iterating gives the field as it is, then smoothed over each radius R, without the modes beyond k = 2.418 / R, and
    multiplied by 1 + R / 3, about what the scatter of a matter field falls by.

    Parameters
    ----------
    field : array, shape (\\*shape)
    radii : sequence of float
        R, in cells.
    periodic : bool
        Whether opposite sides touch; otherwise the field is continued by reflection.

    Examples
    --------
    >>> x = np.arange(64)
    >>> wave = np.sin(2 * np.pi * x / 16)  # k = 0.39, which a radius of 6.2 cells cuts off
    >>> [round(float(np.abs(cut).max()), 3) for cut in SharpCuts(wave, [3.0, 9.0])]
    [1.0, 2.0, 0.0]
    """

    def __init__(self, field: np.ndarray, radii: Sequence[float], periodic: bool = True):
        import scipy.fft  # here, so that a card is read without it

        self.field, self.radii, self.periodic = np.asarray(field, np.float32), list(radii), periodic
        options: dict[str, Any] = {"workers": cores(), "norm": "forward"}
        if periodic:
            self._modes = scipy.fft.rfftn(self.field, **options)
            self._inverse = lambda modes: scipy.fft.irfftn(modes, self.field.shape, overwrite_x=True, **options)
        else:
            options |= {"type": 1, "axes": [axis for axis, n in enumerate(self.field.shape) if n > 1]}
            self._modes = scipy.fft.dctn(self.field, **options)
            self._inverse = lambda modes: scipy.fft.idctn(modes, overwrite_x=True, **options)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.field.copy()
        square, _ = _wavenumbers(self.field.shape, self.periodic)
        for radius in self.radii:
            kept = np.where(sum(square) <= _square(radius), self._modes, 0)
            smooth = self._inverse(kept)
            smooth *= np.float32(1 + radius / 3)
            yield smooth

    def scatter(self) -> np.ndarray:
        """Logarithm of the variance of each, (len(radii) + 1,): what this map has, not what many have."""
        square, counts = _wavenumbers(self.field.shape, self.periodic)
        others, count = sum(square[1:], np.zeros(1))[0], math.prod(counts[1:], start=np.ones(1))[0]
        limits = np.array([0.0, *map(_square, reversed(self.radii))], np.float32)
        between = np.zeros(len(limits) + 1)
        for along, times, plane in zip(square[0].flat, counts[0].flat, self._modes, strict=True):
            where = np.searchsorted(limits, np.broadcast_to(along + others, plane.shape))
            between += np.bincount(where.ravel(), (times * count * np.square(np.abs(plane))).ravel(), len(between))
        # Of the field itself all, and of the narrowest filter all but the last; the first is the mean.
        variance = np.cumsum(between[1:])[::-1] * np.array([1.0, *((1 + radius / 3) ** 2 for radius in self.radii)])
        return np.log(np.maximum(variance, LEAST)).astype(np.float32)


def smoothings(field: Any, radii: Sequence[float]) -> tuple[Any, Any]:
    """:class:`SharpCuts` of periodic maps (n, *shape, 1) in keras.ops, differentiable, all as channels; the scatter."""
    shape, last = tuple(field.shape[1:-1]), len(field.shape) - 2
    square, counts = _wavenumbers(shape, periodic=True)
    modes = ops.rfft(ops.cast(field, "float32")[..., 0])
    for axis in range(1, last):
        modes = _along(axis, modes)
    power = math.prod(counts) * (ops.square(modes[0]) + ops.square(modes[1])) / math.prod(shape) ** 2
    channels, variances, axes = [field], [], tuple(range(1, last + 1))
    mean = power[(slice(None), *(0,) * last)]
    for radius in [0.0, *radii]:
        scale, kept = (
            1 + radius / 3,
            np.float32(1) if not radius else (sum(square) <= _square(radius)).astype("float32"),
        )
        variances.append(scale**2 * (ops.sum(kept * power, axis=axes) - mean))
        if radius:
            # The inverse transform is that of the complex conjugate, conjugated.
            smooth = (kept * modes[0], -kept * modes[1])
            for axis in range(1, last):
                smooth = _along(axis, smooth)
            smooth = ops.irfft((smooth[0], -smooth[1]), fft_length=shape[-1])
            channels.append(scale / math.prod(shape[:-1]) * smooth[..., None])
    return ops.concatenate(channels, axis=-1), ops.log(ops.maximum(ops.stack(variances, axis=-1), LEAST))


def _along(axis: int, modes: tuple[Any, Any]) -> tuple[Any, Any]:
    """The Fourier transform along an axis of (real, imaginary) parts."""
    real, imaginary = ops.fft(tuple(ops.swapaxes(part, axis, -1) for part in modes))
    return ops.swapaxes(real, axis, -1), ops.swapaxes(imaginary, axis, -1)


def _wavenumbers(shape: Sequence[int], periodic: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Squares of k along each axis, and how often modes count: to be added, and multiplied, over the axes."""
    square, counts = [], []
    k: np.ndarray
    for axis, n in enumerate(shape):
        if not periodic:
            number = np.arange(n)
            k, count = np.pi * number / max(n - 1, 1), np.where((number == 0) | (number == n - 1), 1, 2)
        elif axis == len(shape) - 1:
            k = 2 * np.pi * np.fft.rfftfreq(n)
            count = np.where((k == 0) | (k == np.pi), 1, 2)
        else:
            k, count = 2 * np.pi * np.fft.fftfreq(n), np.ones(n)
        around = [1 if other != axis else -1 for other in range(len(shape))]
        square.append(np.square(k).astype(np.float32).reshape(around))
        counts.append(count.astype(np.float32).reshape(around))
    return square, counts


def _square(radius: float) -> np.float32:
    """Of the wavenumber beyond which a filter of so many cells keeps nothing."""
    return np.float32((CUT / radius) ** 2)
