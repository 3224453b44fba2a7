"""The noise fields that make a generator stochastic.

Each value is a pure function of (seed, row, realisation, level, channel, absolute cell): the same bit for bit
whatever the batch, tile, shard, device or backend. It is a counter-based generator: the counter of a cell is hashed
with a key of the rest by SplitMix64 (Steele, Lea & Flood 2014, OOPSLA, 453), and each 16 bits of the result pick a
quantile of the normal distribution from a table. Integers and a table look-up are exact everywhere; a logarithm or a
cosine would not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from higan.networks.config import GeneratorConfig

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LANES = 4  # values of 16 bits in one hash


def noise_field(
    shape: Sequence[int],
    channels: int,
    *,
    seed: int,
    rows: Any,
    realisations: Any = 0,
    level: int = 0,
    origin: Sequence[int] | None = None,
    period: Sequence[int] | None = None,
) -> np.ndarray:
    """Gaussian white noise of zero mean and unit variance for a batch of maps.

    Parameters
    ----------
    shape : sequence of int
        Cells along each axis of the region, at this level.
    channels : int
    seed : int
        0 … 2⁶⁴ - 1.
    rows : array_like of int, shape (batch,)
        The global number of each map.
    realisations : array_like of int, broadcast against `rows`
    level : int
        Resolution level of the generator; levels are independent.
    origin : sequence of int, optional
        Absolute cell of the region's first corner; 0 where not given.
    period : sequence of int, optional
        Cells after which the box repeats, along each axis.

    Returns
    -------
    array of float32, shape (batch, *shape, channels)

    Examples
    --------
    >>> whole = noise_field((8, 8), 1, seed=1, rows=[5])
    >>> tile = noise_field((4, 4), 1, seed=1, rows=[5], origin=(4, 6), period=(8, 8))
    >>> bool((tile[0, :, :2] == whole[0, 4:, 6:]).all() and (tile[0, :, 2:] == whole[0, 4:, :2]).all())
    True
    """
    rows, realisations = np.broadcast_arrays(np.atleast_1d(rows), realisations)
    origin = (0,) * len(shape) if origin is None else tuple(origin)
    counter: np.ndarray = np.zeros((1,) * len(shape), dtype=np.uint64)
    for axis, cells in enumerate(shape):
        index = np.arange(origin[axis], origin[axis] + cells, dtype=np.int64)
        if period is not None:
            index %= period[axis]
        along = [1] * len(shape)
        along[axis] = cells
        # 21 bits an axis: two million cells on a side.
        counter = (counter << np.uint64(21)) | (index & 0x1FFFFF).astype(np.uint64).reshape(along)
    return _draw(_keys(seed, rows.ravel(), realisations.ravel(), level), counter, channels)


def noise_of_cells(
    config: GeneratorConfig, cells: Sequence[np.ndarray], *, seed: int, rows: Any, realisations: Any = 0
) -> list[np.ndarray]:
    """All the noise that a generator takes for a region whose cells have numbers, as on the sphere.

    Parameters
    ----------
    config : GeneratorConfig
    cells : sequence of array of int
        Numbers of the region's cells at each level, (*shape / 2^level); the same number is given the same noise.
    seed, rows, realisations
        As of :func:`noise_field`.

    Returns
    -------
    list of array
        As of :func:`generator_noise`.

    Examples
    --------
    >>> from higan.networks.config import GeneratorConfig
    >>> config = GeneratorConfig(widths=[4], noise_channels=2)
    >>> noise, = noise_of_cells(config, [np.array([[7, 8], [9, 7]])], seed=1, rows=[0])
    >>> noise.shape, bool((noise[0, 0, 0] == noise[0, 1, 1]).all())
    ((1, 2, 2, 2), True)
    """
    rows, realisations = np.broadcast_arrays(np.atleast_1d(rows), realisations)

    def draw(number: np.ndarray, channels: int, level: int) -> np.ndarray:
        return _draw(_keys(seed, rows.ravel(), realisations.ravel(), level), number.astype(np.uint64), channels)

    found = []
    if config.noise_channels:
        found = [draw(number, config.noise_channels, level) for level, number in enumerate(cells)]
    if config.latent:
        found.append(draw(np.zeros((), dtype=np.uint64), config.random_numbers, config.levels))
    return found


def generator_noise(
    config: GeneratorConfig,
    shape: Sequence[int],
    *,
    seed: int,
    rows: Any,
    realisations: Any = 0,
    origin: Sequence[int] | None = None,
    period: Sequence[int] | None = None,
    around: Sequence[int] = (),
) -> list[np.ndarray]:
    """All the noise that a generator takes for a region of `shape` cells, in the order it takes it in.

    Parameters
    ----------
    config : GeneratorConfig
    shape, origin, period : sequence of int
        Of the region, in cells of the finest level, multiples of the stride; see :func:`noise_field`.
    seed, rows, realisations
        As of :func:`noise_field`.
    around : sequence of int, optional
        Cells of the region on either side of each axis that are not painted: the noise of finer levels is of what is
        needed of them alone (:meth:`higan.networks.config.GeneratorConfig.spared`).

    Returns
    -------
    list of array
        The field of each level (batch, *shape / 2^level, noise_channels), and the latent vector (batch, latent), each
        if there is any.

    Examples
    --------
    >>> from higan.networks.config import GeneratorConfig
    >>> config = GeneratorConfig(widths=[4, 8], noise_channels=2, latent=3)
    >>> [noise.shape for noise in generator_noise(config, (8, 8), seed=1, rows=[0])]
    [(1, 8, 8, 2), (1, 4, 4, 2), (1, 3)]
    """
    draw = partial(noise_field, seed=seed, rows=rows, realisations=realisations)
    found = []
    if config.noise_channels:
        for level, spared in enumerate(config.spared(around or [0] * len(shape))):
            corner = [0] * len(shape) if origin is None else origin
            cells = [(n >> level) - 2 * less for n, less in zip(shape, spared, strict=True)]
            first = [(n >> level) + less for n, less in zip(corner, spared, strict=True)]
            repeat = None if period is None else [n >> level for n in period]
            found.append(draw(cells, config.noise_channels, level=level, origin=first, period=repeat))
    if config.latent:
        found.append(draw((), config.random_numbers, level=config.levels))
    return found


def _draw(keys: np.ndarray, counter: np.ndarray, channels: int) -> np.ndarray:
    """Normal numbers (keys, *counter, channels), each a function of its key, its counter and its channel alone."""
    groups = -(-channels // _LANES)
    out = np.empty((keys.size, *counter.shape, groups * _LANES), dtype=np.float32)
    table = _quantiles()
    for group in range(groups):
        with np.errstate(over="ignore"):
            key = _mix(keys + np.uint64(group + 1) * _GOLDEN)
        bits = _mix(key.reshape(-1, *(1,) * counter.ndim) + counter * _GOLDEN)
        lanes = bits.view(np.uint16).reshape(*bits.shape, _LANES)
        out[..., group * _LANES : (group + 1) * _LANES] = table[lanes]
    return out[..., :channels]


def _keys(seed: int, rows: np.ndarray, realisations: np.ndarray, level: int) -> np.ndarray:
    key: np.ndarray = np.full(rows.shape, np.uint64(int(seed) & 0xFFFFFFFFFFFFFFFF))
    with np.errstate(over="ignore"):
        for part in (rows, realisations, np.full(rows.shape, level)):
            key = _mix(key * np.uint64(3) + _GOLDEN) ^ part.astype(np.int64).view(np.uint64)
        return _mix(key + _GOLDEN)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (variant 13 of Stafford's mixers)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@cache
def _quantiles() -> np.ndarray:
    """Normal quantiles at the centres of 2¹⁶ equal steps of probability, scaled to unit variance."""
    from scipy.special import ndtri

    table = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return (table / table.std()).astype(np.float32)
