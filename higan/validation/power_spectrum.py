"""Power and cross spectra, and what they say of generated maps: R(k), R_s(k), r(k), T(k).

Convention: for a map f of N cells of volume V_cell, P(k) = V_cell / N |sum_x (f - <f>) exp(-i k x)|^2, averaged over
the modes of a bin, in units of the field squared times length^ndim. The field is the physical one, not its logarithm.

Bins are centred on the multiples i = 1, 2, … of the fundamental k_f = 2 pi / (longest side), from (i - 1/2) k_f to (i
+ 1/2) k_f; the last ends at the Nyquist wavenumber pi / (largest cell), so that no corner modes enter. A map of 64 x
64 cells has 32 bins. Squared wavenumbers of a cube are integers and the edges' are not, so that none of its modes lies
on an edge; elsewhere one on an edge goes to the upper bin. k is the mean wavenumber of a bin's modes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
import scipy.sparse

from higan.validation.statistic import Number, Setting, Statistic, Summary, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

NO_DECADES = "the field does not span decades"
CHUNK_CELLS = 1 << 21  # 16 MB of float64 at a time: cache-friendly, and memory stays flat


def power_spectrum(
    maps: Any, cell_size: float | Sequence[float], window: str | None = None, *, corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum P(k) of each of a batch of maps of 1, 2 or 3 dimensions.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Any units.
    cell_size : float or sequence of float
        Side of a cell, or one a dimension where cells are not square, in a length unit (Mpc).
    window : str, optional
        A window of :func:`scipy.signal.get_window` ("hann") for maps that are not periodic. It multiplies the map,
        less its windowed mean, along each axis; P is divided by the mean squared window, so that its level is unbiased
        where P(k) varies little over the window's width (two bins for "hann"); the first bin loses power to the mean.
    corners : bool
        Go on beyond the Nyquist wavenumber, as :func:`bin_weights` does.

    Returns
    -------
    k : ndarray, shape (nk,)
        Mean wavenumber of each bin's modes, in 1 / length.
    P : ndarray, shape (n, nk)
        float64, in units of the field squared times length^ndim.

    Raises
    ------
    ValueError
        If `maps` has fewer than two axes, or an axis with fewer than two cells.

    References
    ----------
    Feldman, Kaiser & Peacock 1994, ApJ 426, 23, section 2 (estimator and windows).

    Examples
    --------
    >>> x = np.arange(64)
    >>> wave = np.cos(2 * np.pi * 3 * x / 64)  # three periods in 128 Mpc: all power in the third bin
    >>> k, P = power_spectrum(wave[None], cell_size=2.0)
    >>> int(P[0].argmax()), bool(np.isclose(P[0, 2], 128 / 4))
    (2, True)
    """
    maps = np.asarray(maps)
    modes = _modes(maps.shape[1:], cell_size, corners)
    P = np.empty((len(maps), len(modes.k)))
    for rows in _chunks(maps.shape):
        P[rows] = modes.average(np.abs(_transform(maps[rows], window)) ** 2)
    return modes.k, P * _normalisation(maps.shape[1:], modes.cell_volume, window)


def logarithm(maps: np.ndarray, lowest: float) -> np.ndarray:
    """Decimal logarithm; what is below `lowest` is taken there."""
    return np.log10(np.maximum(maps, lowest))


def log_power(maps: Any, lowest: float, cell_size: float | Sequence[float], window: str | None = None) -> np.ndarray:
    """P(k) of the :func:`logarithm` of maps (n, *shape), (n, nk).

    Examples
    --------
    >>> maps = 10 ** np.random.default_rng(1).normal(size=(2, 16, 16))
    >>> bool(np.allclose(log_power(100 * maps, 1e-9, 1.0), power_spectrum(np.log10(maps), 1.0)[1]))
    True
    """
    return power_spectrum(logarithm(maps, lowest), cell_size, window)[1]


def cross_spectrum(
    a: Any, b: Any, cell_size: float | Sequence[float], window: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cross spectrum P_ab(k) = Re <a_k b_k*> of two batches of maps, map by map.

    Parameters
    ----------
    a, b : array_like, shape (n, *shape)
        Any units.
    cell_size, window
        As of :func:`power_spectrum`.

    Returns
    -------
    k : ndarray, shape (nk,)
    P_ab : ndarray, shape (n, nk)
        float64, in units of both fields times length^ndim.

    Raises
    ------
    ValueError
        If shapes differ, or are not maps of two or more cells an axis.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(2, 16, 16))
    >>> bool(np.allclose(cross_spectrum(maps, 2 * maps, 1.0)[1], 2 * power_spectrum(maps, 1.0)[1]))
    True
    """
    k, _, _, P_ab = spectra(a, b, cell_size, window)
    return k, P_ab


def spectra(
    a: Any, b: Any, cell_size: float | Sequence[float], window: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both power spectra and the cross spectrum of two batches of maps, with one transform of each.

    Parameters
    ----------
    a, b : array_like, shape (n, *shape)
    cell_size, window
        As of :func:`power_spectrum`.

    Returns
    -------
    k : ndarray, shape (nk,)
    P_aa, P_bb, P_ab : ndarray, shape (n, nk)

    Raises
    ------
    ValueError
        If shapes differ, or are not maps of two or more cells an axis.

    Examples
    --------
    >>> maps = np.random.default_rng(1).normal(size=(2, 16))
    >>> k, P_aa, P_bb, P_ab = spectra(maps, -maps, 1.0)
    >>> bool(np.allclose(P_ab, -P_aa))
    True
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {a.shape} and {b.shape} cannot be paired: give as many of one shape")
    modes = _modes(a.shape[1:], cell_size)
    P = np.empty((3, len(a), len(modes.k)))
    for rows in _chunks(a.shape):
        a_k, b_k = _transform(a[rows], window), _transform(b[rows], window)
        P[0, rows] = modes.average(np.abs(a_k) ** 2)
        P[1, rows] = modes.average(np.abs(b_k) ** 2)
        P[2, rows] = modes.average((a_k * b_k.conj()).real)
    P *= _normalisation(a.shape[1:], modes.cell_volume, window)
    return modes.k, P[0], P[1], P[2]


def correlation(P_aa: Any, P_bb: Any, P_ab: Any) -> np.ndarray:
    """Cross-correlation coefficient r(k) = P_ab / sqrt(P_aa P_bb), any shapes; NaN where a power is zero.

    Examples
    --------
    >>> float(correlation(4.0, 1.0, 1.0))
    0.5
    """
    return ratio(P_ab, np.sqrt(np.asarray(P_aa) * np.asarray(P_bb)))


def wavevectors(shape: Sequence[int], cell_size: float | Sequence[float]) -> list[np.ndarray]:
    """Components of k of the modes of :func:`numpy.fft.rfftn` of a map of `shape`, in 1 / length.

    Each varies along its own axis and broadcasts with the others.

    Examples
    --------
    >>> [k.shape for k in wavevectors((6, 4), np.pi)]
    [(6, 1), (1, 3)]
    """
    cells, components = _cells(cell_size, len(shape)), []
    for axis, (n, cell) in enumerate(zip(shape, cells, strict=True)):
        frequencies = scipy.fft.rfftfreq(n, cell) if axis == len(shape) - 1 else scipy.fft.fftfreq(n, cell)
        along = [1] * len(shape)
        along[axis] = -1
        components.append((2 * np.pi * frequencies).reshape(along))
    return components


def wavenumbers(shape: Sequence[int], cell_size: float | Sequence[float]) -> np.ndarray:
    """|k| of every mode of :func:`numpy.fft.rfftn` of a map of `shape`, in 1 / length.

    Examples
    --------
    >>> wavenumbers((4,), np.pi)
    array([0. , 0.5, 1. ])
    """
    squared: Any = 0.0
    for component in wavevectors(shape, cell_size):
        squared = squared + component**2
    return np.sqrt(squared)


def axis_shares(shape: Sequence[int], cell_size: float | Sequence[float] = 1.0, *, corners: bool = False) -> np.ndarray:
    """How much each mode of :func:`numpy.fft.rfftn` of a map of `shape` counts for the power along each axis.

    A mode counts for the axis that its wavevector lies nearest to, in equal parts where there are several. In each bin
    of k, those of :func:`bin_weights`, the shares of an axis have the mean 1 (0 where no mode lies near it), so that
    ``bin_weights(shape) @ (shares[axis] * power)`` is the mean power of its modes.

    Returns
    -------
    ndarray, shape (ndim, modes)

    Examples
    --------
    >>> shares = axis_shares((8, 8))
    >>> shares.shape, bool(np.allclose(bin_weights((8, 8)) @ shares.T, 1))
    ((2, 40), True)
    """
    return _modes(shape, cell_size, corners).shares


def axis_powers(maps: Any, cell_size: float | Sequence[float] = 1.0, window: str | None = None) -> np.ndarray:
    """Mean power of the modes near each axis, in the bins of :func:`power_spectrum`.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
    cell_size, window
        As of that function.

    Returns
    -------
    ndarray, shape (n, ndim, nk)
        Squares of Fourier modes, not normalised; 0 in bins where no mode lies near the axis.

    Examples
    --------
    >>> x = np.arange(16)
    >>> wave = np.cos(2 * np.pi * 3 * x / 16) + np.zeros((16, 1))  # varies along the second axis
    >>> P = axis_powers(wave[None])[0]
    >>> P.shape, bool(P[1, 2] > 1), bool(P[0].max() < 1e-12 * P[1, 2])
    ((2, 8), True, True)
    """
    maps = np.asarray(maps)
    modes = _modes(maps.shape[1:], cell_size)
    P = np.empty((len(maps), len(modes.shares), len(modes.k)))
    for rows in _chunks(maps.shape):
        squares = np.abs(_transform(maps[rows], window)) ** 2
        squares = squares.reshape(len(squares), -1)
        for axis, share in enumerate(modes.shares):
            P[rows, axis] = modes.average(share * squares)
    return P


def bin_weights(
    shape: Sequence[int], cell_size: float | Sequence[float] = 1.0, *, corners: bool = False
) -> scipy.sparse.sparray:
    """What averages the modes of :func:`numpy.fft.rfftn` of a map of `shape` over bins: a sparse (nk, modes) matrix.

    Bins end at the Nyquist wavenumber; with `corners` they go on, as wide, to the corners of the cube of modes, where
    a fifth of them lies in 2D and half in 3D.

    Examples
    --------
    >>> weights = bin_weights((8, 8))
    >>> weights.shape, bool(np.allclose(weights.sum(axis=1), 1))
    ((4, 40), True)
    >>> bin_weights((8, 8), corners=True).shape
    (6, 40)
    """
    return _modes(shape, cell_size, corners).weights


def bin_modes(
    shape: Sequence[int], cell_size: float | Sequence[float] = 1.0, *, corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean wavenumber and number of the modes of each bin, k and -k counted as two: two arrays (nk,).

    Examples
    --------
    >>> bin_modes((8, 8))[1]
    array([ 8., 12., 16., 10.])
    """
    modes = _modes(shape, cell_size, corners)
    return modes.k, modes.count


@statistic("power_spectrum")
class PowerSpectrum(Statistic):
    """P(k), R(k), R_s(k), T(k) and r(k) of one realisation.

    With sums over all test maps, R(k) = sum P / sum P_truth, T(k) = sqrt(R(k)) and r(k) = sum P_x / sqrt(sum P sum
    P_truth), where P_x is the cross spectrum with the truth; R_s(k) and r_s(k) are the same for the maps of one
    simulation. Several realisations of a map are averaged in P and P_x.
    """

    order = 0
    numbers = {
        "mean_abs_R_minus_1": Number(
            "mean |R-1|", "How far the power of generated maps is off, averaged over all scales.", "%"
        ),
        "max_abs_R_minus_1": Number("worst |R-1|", "The same at the scale where it is worst.", "%"),
        "max_abs_R_minus_1_k": Number("at k", "The wavenumber of that scale.", "1/{length}"),
        "mean_abs_R_minus_1_small_scales": Number(
            "mean |R-1|, small scales", "The same averaged over scales above half the Nyquist wavenumber.", "%"
        ),
        "median_abs_R_s_minus_1": Number(
            "median |R_s-1|",
            "How far the power of a single simulation's maps is off, averaged over scales, for the median simulation.",
            "%",
            missing="no simulation is bright enough",
        ),
        "r_large_scales": Number(
            "r, large scales",
            "How well one generated map follows the true one where k is small: 1 is perfect, 0 is unrelated. A "
            "calibrated generator has the square of what its mean has.",
            missing="no wavenumber is small enough, or a power is zero",
        ),
    }
    curves = {
        "k": "mean wavenumber of each bin",
        "P_truth": "mean power spectrum of the true maps",
        "P": "mean power spectrum of the generated maps",
        "R": "sum of P over sum of P_truth",
        "T": "transfer function, sqrt(R)",
        "r": "cross-correlation coefficient of one realisation with the truth",
    }
    bins = {"P": "truth"}
    scatter = {
        "R_s": "R of a simulation alone, a row a simulation",
        "r_s": "r of a simulation alone, a row a simulation",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        modes = _modes(setting.shape, setting.cell_size)
        self.k = modes.k
        self.small_scales = self.k > 0.5 * modes.nyquist

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Spectra a map, averaged over realisations."""
        cell, window = self.setting.cell_size, self.setting.window
        realisations = range(generated.shape[1])
        P = sum(power_spectrum(generated[:, i], cell, window)[1] for i in realisations) / len(realisations)
        # The mean of the cross spectra is the cross spectrum of the mean.
        _, P_truth, _, P_cross = spectra(truth, generated.mean(axis=1, dtype=np.float64), cell, window)
        return {"P_truth": P_truth, "P": np.asarray(P), "P_cross": P_cross}

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        P_truth, P, P_cross = (sums[name].sum(axis=0) for name in ("P_truth", "P", "P_cross"))
        maps = sums["maps"].sum()
        R, r = ratio(P, P_truth), correlation(P_truth, P, P_cross)
        off = np.abs(R - 1)
        worst = int(np.nanargmax(off)) if np.isfinite(off).any() else None
        of_simulations = average(np.abs(self.by_simulation(sums)["R_s"][sums["bright"]] - 1), axis=1)
        return {
            "mean_abs_R_minus_1": average(off),
            "max_abs_R_minus_1": np.nan if worst is None else float(off[worst]),
            "max_abs_R_minus_1_k": np.nan if worst is None else float(self.k[worst]),
            "mean_abs_R_minus_1_small_scales": average(off[self.small_scales]),
            "median_abs_R_s_minus_1": float(np.median(of_simulations)) if of_simulations.size else np.nan,
            "r_large_scales": average(r[self.k <= self.setting.large_scale_k]),
            "k": self.k,
            "P_truth": P_truth / maps,
            "P": P / maps,
            "R": R,
            "T": np.sqrt(R),
            "r": r,
        }

    def by_simulation(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """R_s and r_s."""
        return {
            "R_s": ratio(sums["P"], sums["P_truth"]),
            "r_s": correlation(sums["P_truth"], sums["P"], sums["P_cross"]),
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """P(k) above R(k)."""
        from higan.validation import plots

        return plots.power_spectra(comparison, path)


@statistic("log_power_spectrum")
class LogPowerSpectrum(Summary):
    """P(k) of the decimal logarithm of fields that span decades: the physical field's is that of its brightest cells.

    Generated cells below the lowest edge of the one-point distribution, which is below all true ones, are taken there:
    an empty cell has no logarithm.
    """

    order = 5
    numbers = {
        "mean_abs_R_minus_1_log": Number(
            "mean |R-1|, log field",
            "How far the power of the logarithm of generated maps is off, averaged over all scales.",
            "%",
            missing=NO_DECADES,
        ),
        "max_abs_R_minus_1_log": Number(
            "worst |R-1|, log field", "The same at the scale where it is worst.", "%", missing=NO_DECADES
        ),
    }
    curves = {
        "k_log": "mean wavenumber of each bin, for the logarithm",
        "P_log_truth": "mean power spectrum of the logarithm of the true maps",
        "P_log": "mean power spectrum of the logarithm of the generated maps",
        "R_log": "sum of P_log over sum of P_log_truth",
    }
    bins = {"P_log": "truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.k = _modes(setting.shape, setting.cell_size).k

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Spectra a map."""
        if not self.setting.logarithmic:
            return np.full((len(maps), len(self.k)), np.nan)
        return log_power(maps, self.setting.edges[0], self.setting.cell_size, self.setting.window)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        P_truth, P = self.means(sums)
        R = ratio(P, P_truth)
        off = np.abs(R - 1)
        return {
            "mean_abs_R_minus_1_log": average(off),
            "max_abs_R_minus_1_log": float(off.max()),
            "k_log": self.k,
            "P_log_truth": P_truth,
            "P_log": P,
            "R_log": R,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """P(k) of the logarithm above its ratio to the truth."""
        from higan.validation import plots

        if not comparison.setting.logarithmic:
            return None
        k, P = f"k [1/{comparison.setting.length_units}]", "P(k) of the logarithm"
        plots.beside_truth(comparison, path, [plots.Panel("k_log", "P_log", k, P, x_scale="log", y_scale="log")])
        return "Power spectrum of the logarithm of the field, and its ratio to the truth less 1."


@statistic("corner_power")
class CornerPower(Summary):
    """Power beyond the Nyquist wavenumber, in the corners of the cube of modes: a fifth of all in 2D, half in 3D.

    P(k) ends before them, and networks may leave them nearly empty. Of the decimal logarithm of fields that span
    decades.
    """

    order = 6
    numbers = {
        "R_corners_minus_1": Number(
            "R-1 beyond Nyquist",
            "How far power is off in the corners of the cube of modes, where P(k) does not reach; of the logarithm "
            "where the field spans decades.",
            "%",
            missing="no mode of the true maps has power there",
        ),
    }
    curves = {
        "k_corners": "mean wavenumber of each bin beyond the Nyquist wavenumber",
        "P_corners_truth": "mean power there of the true maps",
        "P_corners": "mean power there of the generated maps",
    }
    bins = {"P_corners": "truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.within = len(bin_modes(setting.shape, setting.cell_size)[0])
        k, count = bin_modes(setting.shape, setting.cell_size, corners=True)
        self.k, self.count = k[self.within :], count[self.within :]

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Spectra a map."""
        setting = self.setting
        maps = logarithm(maps, setting.edges[0]) if setting.logarithmic else maps
        return power_spectrum(maps, setting.cell_size, setting.window, corners=True)[1][:, self.within :]

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        P_truth, P = self.means(sums)
        return {
            "R_corners_minus_1": float(ratio(self.count @ P, self.count @ P_truth)) - 1,
            "k_corners": self.k,
            "P_corners_truth": P_truth,
            "P_corners": P,
        }


class _Modes:
    """Which modes of a real transform fall in which bin, and how often each one counts."""

    def __init__(self, shape: tuple[int, ...], cells: tuple[float, ...], corners: bool):
        self.shape, self.cells = shape, cells
        sides = np.multiply(shape, cells)
        fundamental, nyquist = 2 * np.pi / sides.max(), np.pi / max(cells)
        self.nyquist = nyquist
        k: Any = wavenumbers(shape, cells)
        # The real transform keeps half the modes: those off the planes 0 and n/2 of the last axis stand for two.
        count: Any = np.full(k.shape, 2.0)
        count[..., 0] = 1.0
        if shape[-1] % 2 == 0:
            count[..., -1] = 1.0
        k, count = k.reshape(-1), count.reshape(-1)
        index = np.floor(k / fundamental + 0.5 + 1e-9).astype(int) - 1
        bins = int(index.max()) + 1 if corners else int(np.floor(nyquist / fundamental + 1e-9))
        inside = np.flatnonzero((index >= 0) & (index < bins) & (corners | (k <= nyquist * (1 + 1e-9))))
        weights = scipy.sparse.csr_array((count[inside], (index[inside], inside)), shape=(bins, k.size))
        self.count = np.bincount(index[inside], count[inside], bins)
        self.weights = scipy.sparse.diags_array(1 / self.count) @ weights
        self.cell_volume = float(np.prod(cells))
        self.k = self.weights @ k
        self.k.flags.writeable = self.count.flags.writeable = False

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """See :func:`axis_shares`."""
        components = np.stack(np.broadcast_arrays(*(np.abs(k) for k in wavevectors(self.shape, self.cells))))
        longest = components.max(axis=0)
        # But for rounding, as cells may differ between axes.
        nearest = (components >= longest * (1 - 1e-9)).reshape(len(self.shape), -1)
        shares = nearest / nearest.sum(axis=0)
        means = self.weights @ shares.T
        share_of_bin = np.divide(1.0, means, out=np.zeros_like(means), where=means > 0)
        shares = shares * ((self.weights > 0).T @ share_of_bin).T
        shares.flags.writeable = False
        return shares

    def average(self, values: np.ndarray) -> np.ndarray:
        """Mean over the modes of each bin: (n, *transform) to (n, nk)."""
        return (self.weights @ values.reshape(len(values), -1).T).T


def _modes(shape: Sequence[int], cell_size: float | Sequence[float], corners: bool = False) -> _Modes:
    return _modes_of(tuple(shape), _cells(cell_size, len(shape)), corners)


_modes_of = functools.lru_cache(maxsize=4)(_Modes)


def _cells(cell_size: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    if ndim < 1:
        raise ValueError("maps need a leading axis that counts them: (n, *shape)")
    return tuple(float(cell) for cell in np.broadcast_to(cell_size, (ndim,)))


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    if min(shape[1:]) < 2:
        raise ValueError(f"maps of shape {shape[1:]} have no modes: every axis needs two cells or more")
    step = max(1, CHUNK_CELLS // int(np.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def _transform(maps: np.ndarray, window: str | None) -> np.ndarray:
    return scipy.fft.rfftn(tapered(maps, window), axes=tuple(range(1, maps.ndim)), overwrite_x=True)


def tapered(maps: np.ndarray, window: str | None) -> np.ndarray:
    """Maps (n, *shape) less their mean, in float64; with a window, less their windowed mean and multiplied by it.

    Examples
    --------
    >>> tapered(np.array([[1, 3, 5, 7]]), None), tapered(np.array([[1, 3, 5, 7]]), "hann").sum().round(6) + 0.0
    (array([[-3., -1.,  1.,  3.]]), np.float64(0.0))
    """
    maps = maps.astype(np.float64)
    axes = tuple(range(1, maps.ndim))
    if window is None:
        maps -= maps.mean(axis=axes, keepdims=True)
    else:
        weights = taper(maps.shape[1:], window)
        maps -= (maps * weights).sum(axis=axes, keepdims=True) / weights.sum()
        maps *= weights
    return maps


def taper(shape: Sequence[int], window: str) -> np.ndarray:
    """A window of :func:`scipy.signal.get_window` for maps of `shape`: the product of one along each axis.

    Examples
    --------
    >>> taper((4,), "hann").round(3)
    array([0.146, 0.854, 0.854, 0.146])
    """
    import scipy.signal  # takes a second to import, for what periodic maps never need

    product = np.ones(tuple(shape))
    for axis, n in enumerate(shape):
        along = [1] * len(shape)
        along[axis] = n
        # Sampled at cell centres, so that the window is the same seen from either side.
        product *= scipy.signal.get_window(window, 2 * n)[1::2].reshape(along)
    return product


def _normalisation(shape: Sequence[int], cell_volume: float, window: str | None) -> float:
    mean_square = 1.0 if window is None else float((taper(shape, window) ** 2).mean())
    return cell_volume / (float(np.prod(shape)) * mean_square)
