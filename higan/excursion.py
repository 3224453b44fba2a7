"""What an excursion set looks at: a field of a whole map, cut off sharply at one wavenumber after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from higan.cores import cores

# k R at which the cut of radius R lies: a sphere of that radius has the volume of the filter, 6 π² / k³ (Lacey & Cole
# 1993, MNRAS 262, 627, sec. 2.2.2).
CUT = (9 * math.pi / 2) ** (1 / 3)
SLAB = 1 << 22  # cells that are smoothed at a time
LEAST = 1e-6  # variance that is taken for what has less, in squares of the scaled field's units


class SharpCuts:
    """A field smoothed by filters that are sharp in wavenumber.

    Iterating gives it smoothed over each radius R, without the modes beyond k = 2.418 / R, and multiplied by 1 + R / 3,
    about what the scatter of a matter field falls by. Where no mode is left, as the map is too small for that radius
    (:func:`widest`), there is nothing to be above a barrier: -inf. Keeps the modes, not the field; they take as much
    memory.

    Parameters
    ----------
    field : array, shape (\*shape)
    radii : sequence of float
        R, in cells, ascending.
    periodic : bool
        Whether opposite sides touch; otherwise the field is continued by reflection.

    Examples
    --------
    >>> x = np.arange(64)
    >>> wave = np.sin(2 * np.pi * x / 16)  # k = 0.39, which a radius of 6.2 cells cuts off
    >>> [round(float(np.abs(cut).max()), 3) for cut in SharpCuts(wave, [3.0, 9.0])]
    [2.0, 0.0]
    """

    def __init__(self, field: np.ndarray, radii: Sequence[float], periodic: bool = True):
        import scipy.fft

        field = np.asarray(field, np.float32)
        self.shape, self.radii, self.periodic = field.shape, list(radii), periodic
        self._options: dict[str, Any] = {"workers": cores(), "norm": "forward"}
        if periodic:
            self._modes = scipy.fft.rfftn(field, **self._options)
        else:
            axes = [axis for axis, n in enumerate(field.shape) if n > 1]
            self._modes = scipy.fft.dctn(field, type=1, axes=axes, **self._options)

    def __iter__(self) -> Iterator[np.ndarray]:
        for radius in self.radii:
            smooth = np.empty(self.shape, np.float32)
            for place, slab in self._slabs(radius):
                smooth[place] = slab
            yield smooth

    def maximum(self, heights: Sequence[float], out: np.ndarray) -> None:
        """Raise `out`, cell by cell, to the most by which the smoothed field is above its height.

        Parameters
        ----------
        heights : sequence of float
            For each radius.
        out : array, shape (\*shape)
            Beside it and the modes this takes the memory of one map.
        """
        for radius, height in zip(self.radii, heights, strict=True):
            for place, slab in self._slabs(radius):
                np.maximum(out[place], slab - height, out=out[place])

    def _slabs(self, radius: float) -> Iterator[tuple[slice, np.ndarray]]:
        """The field smoothed over a radius, some planes across the first axis at a time."""
        if radius > widest(self.shape, self.periodic):
            yield slice(None), np.broadcast_to(np.float32(-np.inf), self.shape)
            return
        # Lines of modes none of which is kept are not transformed.
        limit, (squares, _) = square(radius), wavenumbers(self.shape, self.periodic)
        kept = [np.flatnonzero(along <= limit) for along in squares]
        first, *others = (along.ravel()[indices] for along, indices in zip(squares, kept, strict=True))
        across = sum(np.ix_(*others), np.float32(0))
        rest = np.ix_(*kept[1:])
        modes = np.zeros((len(self._modes), *map(len, others)), self._modes.dtype)
        for i, along in zip(kept[0], first, strict=True):
            modes[i] = np.where(along + across <= limit, self._modes[i][rest], 0)
        modes *= np.float32(1 + radius / 3)
        modes = self._inverse(modes, 0)
        planes = max(SLAB // math.prod(self.shape[1:]), 1)
        for start in range(0, self.shape[0], planes):
            place = slice(start, start + planes)
            slab = modes[place]
            for axis in range(1, len(self.shape)):
                if self.periodic and axis < len(self.shape) - 1:
                    every = np.zeros((*slab.shape[:axis], self.shape[axis], *slab.shape[axis + 1 :]), slab.dtype)
                    every[(slice(None),) * axis + (kept[axis],)] = slab
                    slab = every
                slab = self._inverse(slab, axis)
            yield place, slab

    def _inverse(self, modes: np.ndarray, axis: int) -> np.ndarray:
        """The inverse transform along an axis; modes that are missing at the end of its last are 0."""
        import scipy.fft

        n, options = self.shape[axis], {"axis": axis, "overwrite_x": True, **self._options}
        if not self.periodic:
            return scipy.fft.idct(modes, 1, n, **options) if n > 1 else modes
        if axis < len(self.shape) - 1:
            return scipy.fft.ifft(modes, **options)
        return scipy.fft.irfft(modes, n, **options)

    def scatter(self) -> np.ndarray:
        """Logarithm of the variance of the field and of each, (1 + len(radii),): what this map has, not many."""
        squares, counts = wavenumbers(self.shape, self.periodic)
        others, count = sum(squares[1:], np.zeros(1))[0], math.prod(counts[1:], start=np.ones(1))[0]
        limits = np.array([0.0, *map(square, reversed(self.radii))], np.float32)
        between = np.zeros(len(limits) + 1)
        for along, times, plane in zip(squares[0].flat, counts[0].flat, self._modes, strict=True):
            where = np.searchsorted(limits, np.broadcast_to(along + others, plane.shape))
            between += np.bincount(where.ravel(), (times * count * np.square(np.abs(plane))).ravel(), len(between))
        # Of the field itself all, and of the narrowest filter all but the last; the first is the mean.
        variance = np.cumsum(between[1:])[::-1] * np.array([1.0, *((1 + radius / 3) ** 2 for radius in self.radii)])
        return np.log(np.maximum(variance, LEAST)).astype(np.float32)


def widest(shape: Sequence[int], periodic: bool = True) -> float:
    """The largest radius, in cells, whose filter leaves maps of `shape` more than their mean.

    Examples
    --------
    >>> round(widest((64, 64, 64)), 1)
    24.6
    """
    longest = max(n if periodic else 2 * (n - 1) for n in shape)
    # A little less, for the rounding of squares.
    return CUT * max(longest, 1) / (2 * math.pi) * (1 - 1e-6)


def wavenumbers(shape: Sequence[int], periodic: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Squares of k along each axis, and how often modes count: to be added, and multiplied, over the axes."""
    squares, counts = [], []
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
        squares.append(np.square(k).astype(np.float32).reshape(around))
        counts.append(count.astype(np.float32).reshape(around))
    return squares, counts


def square(radius: float) -> np.float32:
    """Of the wavenumber beyond which a filter of so many cells keeps nothing."""
    return np.float32((CUT / radius) ** 2)
