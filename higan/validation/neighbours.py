"""Whether generated maps are copies of training maps: how near the nearest one is, beside the same for true maps.

These are functions, not a :class:`higan.validation.statistic.Statistic`: they need the maps that a generator was
trained on, which no comparison with test simulations has.

Maps are compared modulo the symmetries of the box, as a training that rolls, turns and mirrors its maps could remember
any of these: all translations at once by cross-correlation, the at most 8 (2D) or 48 (3D) exchanges of axes and
reflections one by one. Before that, fields are scaled and wavelengths below two cells of a coarse grid taken out, 32
along an axis (16 in 3D): a copy stays a copy, wherever it was moved to, even if small scales differ.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft

from higan.adversarial.batches import Symmetry
from higan.scaling import Scaling, fit

SYMMETRIES = ("roll", "rotate", "reflect")
COARSE = {1: 32, 2: 32, 3: 16}
CHUNK = 128  # training maps at a time: their correlations stay in the cache
CANDIDATES = 8  # training maps whose translations are looked at more finely


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training map; made by :func:`memorisation`.

    Parameters
    ----------
    generated, truth : ndarray, shape (n,), (m,)
        Of generated and true maps, in standard deviations of the scaled field.
    generated_nearest, truth_nearest : ndarray of int, shape (n,), (m,)
        Rows of the nearest training maps.
    p_value : float
        That generated maps are no nearer to training maps than true ones are: one-sided, of the two samples.
    closer : int
        Number of generated maps that are nearer than any true map.
    p_closer : float
        Of as many or more, if generated maps were as near as true ones.
    """

    generated: np.ndarray
    truth: np.ndarray
    generated_nearest: np.ndarray
    truth_nearest: np.ndarray
    p_value: float
    closer: int
    p_closer: float


def memorisation(
    generated: Any,
    truth: Any,
    training: Any,
    *,
    simulation: Any = None,
    scaling: Scaling | None = None,
    symmetries: Sequence[str] = SYMMETRIES,
) -> Memorisation:
    """Test whether generated maps lie nearer to training maps than true maps of other simulations do.

    There are two one-sided tests: that of Smirnov on both samples of distances, for a generator that keeps close to its
    training maps in general; and the number of generated maps nearer than any true one, for one that copies now and
    then. If the two samples are alike, any k of the n + m maps are as likely as others to be the k nearest: the
    probability that all of these are generated is the product of (n - i) / (n + m - i) over i < k.

    Parameters
    ----------
    generated, truth : array_like, shape (n, *shape), (m, *shape)
        Maps of test simulations, one realisation each.
    training : array_like, shape (M, *shape)
        Of the field that the generator was trained on; read in slices, so that it may lie in a file.
    simulation : array_like of int, shape (n,), optional
        Of the maps of both, which are then equally many: one map of each is taken, the first, as maps of one
        simulation are not independent.
    scaling : Scaling, optional
        That the generator was trained with; linear, fitted to the training maps, where not given.
    symmetries : sequence of str
        Those of "roll", "rotate", "reflect" that hold; no "roll" for maps that are not periodic.

    Raises
    ------
    ValueError
        If shapes of maps differ, or there are no maps.

    References
    ----------
    Meehan, Chaudhuri & Dasgupta 2020, AISTATS, section 3 (distances to training points beside those of held-out
    points); Smirnov 1948, Ann. Math. Stat. 19, 279 (two samples).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> training, truth = rng.normal(size=(50, 16, 16)), rng.normal(size=(20, 16, 16))
    >>> copies = np.roll(training[:20, ::-1], 5, axis=2)
    >>> found = memorisation(copies, truth, training)
    >>> found.closer, found.p_value < 1e-6, found.generated_nearest[:4]
    (20, True, array([0, 1, 2, 3]))
    """
    from scipy.stats import ks_2samp

    generated, truth = np.asarray(generated), np.asarray(truth)
    if simulation is not None:
        if not len(generated) == len(truth) == len(simulation):
            raise ValueError(
                f"{len(generated)} generated and {len(truth)} true maps do not go with {len(simulation)} simulations"
            )
        first = np.unique(simulation, return_index=True)[1]
        generated, truth = generated[first], truth[first]
    if scaling is None:
        scaling = fit("linear", (training[i : i + CHUNK] for i in range(0, len(training), CHUNK)))
    n, m = len(generated), len(truth)
    distances, nearest = nearest_distances(
        np.concatenate([generated, truth]), training, scaling=scaling, symmetries=symmetries
    )
    closer = int((distances[:n] < distances[n:].min()).sum())
    before = np.arange(closer)
    return Memorisation(
        generated=distances[:n],
        truth=distances[n:],
        generated_nearest=nearest[:n],
        truth_nearest=nearest[n:],
        p_value=float(ks_2samp(distances[:n], distances[n:], alternative="greater").pvalue),
        closer=closer,
        p_closer=float(np.prod((n - before) / (n + m - before))),
    )


def nearest_distances(
    maps: Any, training: Any, *, scaling: Scaling | None = None, symmetries: Sequence[str] = SYMMETRIES
) -> tuple[np.ndarray, np.ndarray]:
    """Least root-mean-square distance of each map to any training map, modulo symmetries.

    The nearest training maps are found with translations by cells of the coarse grid, the distance to these with
    translations by cells of the maps.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
    training : array_like, shape (M, *shape)
    scaling : Scaling, optional
        Distances are taken between scaled values; between values where not given.
    symmetries : sequence of str

    Returns
    -------
    distances : ndarray, shape (n,)
        Between maps on scales above two cells of the coarse grid.
    nearest : ndarray of int, shape (n,)
        Row of the training map.

    Raises
    ------
    ValueError
        If shapes differ, or there are no maps.

    Examples
    --------
    >>> training = np.random.default_rng(1).normal(size=(3, 8, 8))
    >>> distances, nearest = nearest_distances(np.roll(training[2], 3, axis=0).T[None], training)
    >>> bool(distances[0] < 1e-6), nearest
    (True, array([2]))
    """
    maps = np.asarray(maps)
    shape = maps.shape[1:]
    if len(maps) == 0 or len(training) == 0 or training.shape[1:] != shape:
        raise ValueError(
            f"{len(maps)} maps of shape {shape} have no neighbours in {len(training)} maps of {training.shape[1:]}"
        )
    moves = _moves(shape, symmetries)
    grid = tuple(min(n, COARSE[len(shape)]) for n in shape)
    known = np.concatenate(
        [_coarse(training[i : i + CHUNK], grid, scaling).astype(np.complex64) for i in range(0, len(training), CHUNK)]
    )
    squares = _correlations(np.abs(known) ** 2, grid)[:, 0]
    distances, nearest = np.empty(len(maps)), np.empty(len(maps), dtype=int)
    for i, values in enumerate(maps):
        own = _coarse(np.stack([move(values) for move in moves]), grid, scaling)
        best = np.empty((len(moves), len(known)), dtype=np.float32)
        for start in range(0, len(known), CHUNK):
            part = slice(start, start + CHUNK)
            best[:, part] = _largest(own.astype(np.complex64), known[part], grid, symmetries)
        near = np.argsort(squares - 2 * best.max(axis=0), kind="stable")[:CANDIDATES]
        square = _correlations(np.abs(own[:1]) ** 2, grid)[0, 0]
        gaps = np.empty(len(near))
        for j, row in enumerate(near):
            training_map = _coarse(training[row : row + 1], grid, scaling)
            moved = own[best[:, row].argmax()][None]
            correlation = _largest(_padded(moved, grid, shape), _padded(training_map, grid, shape), shape, symmetries)[
                0, 0
            ]
            gaps[j] = square + _correlations(np.abs(training_map) ** 2, grid)[0, 0] - 2 * correlation
        nearest[i] = near[gaps.argmin()]
        distances[i] = np.sqrt(max(gaps.min(), 0.0))
    return distances, nearest


def _moves(shape: Sequence[int], symmetries: Sequence[str]) -> list[Symmetry]:
    """All exchanges of axes with reflections that :meth:`Symmetry.draw` draws from."""
    ndim = len(shape)
    turn, mirror = "rotate" in symmetries and len(set(shape)) == 1, "reflect" in symmetries
    axes = itertools.permutations(range(ndim)) if turn else [tuple(range(ndim))]
    flips = list(itertools.product((0, 1), repeat=ndim)) if turn or mirror else [(0,) * ndim]
    return [
        Symmetry([0] * ndim, order, np.flatnonzero(flip).tolist())
        for order in axes
        for flip in flips
        # Without mirrors, proper rotations alone.
        if mirror or np.linalg.det(np.eye(ndim)[list(order)]) * (-1) ** sum(flip) > 0
    ]


def _coarse(maps: Any, grid: tuple[int, ...], scaling: Scaling | None) -> np.ndarray:
    """Modes of scaled maps (n, *shape), as those of a real transform on `grid`: the sum of squares is the mean one."""
    values = np.asarray(maps, dtype=np.float64)
    if scaling is not None:
        values = np.asarray(scaling.forward(values))
    modes = scipy.fft.rfftn(values, axes=tuple(range(1, values.ndim)), norm="forward")
    for axis, (n, coarse) in enumerate(zip(values.shape[1:], grid, strict=True), 1):
        modes = modes.take(_places(n, coarse, last=axis == len(grid)), axis=axis)
        if coarse < n and coarse % 2 == 0:
            # The Nyquist mode of a coarser grid has lost its phase.
            modes[(slice(None),) * axis + (coarse // 2,)] = 0.0
    return modes


def _padded(modes: np.ndarray, grid: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Modes on `grid` as those of maps of `shape`."""
    ndim = len(shape)
    full = np.zeros((len(modes), *shape[:-1], shape[-1] // 2 + 1), dtype=modes.dtype)
    places = [_places(n, coarse, last=i == ndim - 1) for i, (n, coarse) in enumerate(zip(shape, grid, strict=True))]
    full[np.ix_(np.arange(len(modes)), *places)] = modes
    return full


def _places(n: int, coarse: int, last: bool) -> np.ndarray:
    """Where the modes of an axis of `coarse` cells are among those of n; the last one has half of them."""
    return np.arange(coarse // 2 + 1) if last else np.fft.fftfreq(coarse, 1 / coarse).round().astype(int) % n


def _correlations(product: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mean product of two maps for every translation, (n, cells), none of it first."""
    lags = scipy.fft.irfftn(product, s=shape, axes=tuple(range(1, product.ndim)), norm="forward")
    return lags.reshape(len(product), -1)


def _largest(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...], symmetries: Sequence[str]) -> np.ndarray:
    """The largest mean products (n, m) of n and m maps, by their modes, over translations, where there are any."""
    if "roll" in symmetries:
        conjugate = second.conj()
        return np.stack([_correlations(one * conjugate, shape).max(axis=1) for one in first])
    # The last axis has half of the modes; those in between stand for two.
    columns = np.arange(second.shape[-1])
    weights = np.where((columns == 0) | (2 * columns == shape[-1]), 1, 2).astype(first.real.dtype)
    # Re(a b*) is the product of real and imaginary parts, side by side.
    flat = [
        np.ascontiguousarray(modes).reshape(len(modes), -1).view(modes.real.dtype)
        for modes in (first * weights, second)
    ]
    return flat[0] @ flat[1].T
