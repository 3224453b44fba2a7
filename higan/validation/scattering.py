"""Wavelet scattering coefficients, and the Fréchet distance between those of generated and of true maps.

A map is convolved with wavelets of dyadic scales, its modulus taken, and that done once more: with <> the mean over
cells and directions, S_1(j) = <|m * psi_j|> is how strong structure of scale 2^j is, and S_2(j_1, j_2) = <||m *
psi_j1| * psi_j2|>, j_1 < j_2, over S_1(j_1) how clustered it is on scale 2^j_2. Phases enter, unlike in a power
spectrum, while no value enters at more than its first power, unlike in higher moments: a stable description of texture
(Mallat 2012, Communications on Pure and Applied Mathematics 65, 1331; Cheng et al. 2020, arXiv:2006.08561).

Frequencies of psi_j above 2 pi / 2^j along an axis, where it has hardly any, are dropped, so that coarse scales are
computed on coarse grids.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from higan.validation.power_spectrum import tapered
from higan.validation.statistic import Number, Setting, Summary, average, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

DIRECTIONS = 4  # over half a turn
CENTRE = 0.75 * np.pi  # frequency of the finest wavelet, in 1 / cell
WIDTH = 0.8  # of its envelope, in cells
OCTAVES = 0.5  # width of isotropic wavelets in log2 k
FLOOR = 1e-3  # added to coefficients, in units of the range of the setting's levels
CHUNK_CELLS = 1 << 16  # convolved at a time in one direction: what a cache holds


def scattering_coefficients(maps: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scattering coefficients of first and second order, averaged over cells and directions, of periodic maps.

    In 2D psi_j are Morlet wavelets in four directions: exp(-x^2 / 2 s^2) (exp(i xi x) - beta) / (2 pi s^2) sampled at
    cells, with s = 0.8 2^j cells, xi = 3 pi / (4 2^j) along the direction and beta such that the mean is zero, as in
    Cheng et al. 2020; in 1D the same along the line. In 3D they are isotropic and real, Gaussians in
    log k of half an octave around the same xi: one in place of many directions. There are J scales, j = 0 … J - 1,
    with J = log2(shortest side) - 1 rounded down: the wavelength of the last one, 8/3 2^j cells, fits in the map.

    Parameters
    ----------
    maps : array_like, shape (n, *shape)
        Of 1, 2 or 3 dimensions, any units.

    Returns
    -------
    S_1 : ndarray, shape (n, J)
        In units of the maps.
    S_2 : ndarray, shape (n, J (J - 1) / 2)
        The same, for (j_1, j_2) = (0, 1), (0, 2), …, (1, 2), ….

    Raises
    ------
    ValueError
        If the maps are not of 1, 2 or 3 dimensions.

    Examples
    --------
    >>> x = np.arange(64)
    >>> wave = np.cos(2 * np.pi * 6 * x / 64) * np.ones((64, 1))  # 10.7 cells long: j = 2
    >>> S_1, S_2 = scattering_coefficients(wave[None])
    >>> int(S_1[0].argmax()), S_1.shape, S_2.shape
    (2, (1, 5), (1, 10))
    """
    maps = np.asarray(maps)
    shape = maps.shape[1:]
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"maps of shape {shape} have no scattering coefficients: 1, 2 or 3 dimensions are needed")
    scales = n_scales(shape)
    first = np.empty((len(maps), scales))
    second = np.empty((len(maps), scales * (scales - 1) // 2))
    step = max(1, CHUNK_CELLS // int(np.prod(shape)))
    for start in range(0, len(maps), step):
        rows = slice(start, start + step)
        # Without the mean, which wavelets do not see, float32 is precise however large it is.
        mean = maps[rows].mean(axis=tuple(range(1, maps.ndim)), dtype=np.float64, keepdims=True)
        first[rows], second[rows] = _scatter((maps[rows] - mean).astype(np.float32), _wavelets(shape))
    return first, second


def n_scales(shape: Sequence[int]) -> int:
    """Number of scales J for maps of `shape`.

    Examples
    --------
    >>> n_scales((64, 64)), n_scales((8,)), n_scales((2, 2))
    (5, 2, 1)
    """
    return max(1, int(np.log2(min(shape))) - 1)


def frechet_distance(mean_a: Any, covariance_a: Any, mean_b: Any, covariance_b: Any) -> float:
    """Fréchet distance of two Gaussians, the Wasserstein-2 one: d^2 = |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    Parameters
    ----------
    mean_a, mean_b : array_like, shape (n,)
    covariance_a, covariance_b : array_like, shape (n, n)
        They may be singular.

    Returns
    -------
    float
        d, in units of the means.

    References
    ----------
    Dowson & Landau 1982, Journal of Multivariate Analysis 12, 450; Heusel et al. 2017, arXiv:1706.08500, eq. 6.

    Examples
    --------
    >>> frechet_distance([0.0, 0.0], np.eye(2), [3.0, 0.0], np.diag([25.0, 1.0]))  # 3^2 + (5 - 1)^2
    5.0
    """
    a, b = np.asarray(covariance_a, dtype=np.float64), np.asarray(covariance_b, dtype=np.float64)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # A B and A^(1/2) B A^(1/2) share their eigenvalues, and the latter is symmetric.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    squared = np.sum(np.subtract(mean_a, mean_b) ** 2) + np.trace(a) + np.trace(b) - 2 * shared
    return float(np.sqrt(max(squared, 0.0)))


@statistic("scattering")
class Scattering(Summary):
    """Fréchet distance of the logarithms of scattering coefficients of generated and true maps, and their means.

    A map is described by s = {log(S_1(j) / u + 0.001), log(S_2(j_1, j_2) / u + 0.001) - log(S_1(j_1) / u + 0.001)}, u
    being the range of the setting's levels: a map without structure has the floor alone. The field is the physical one,
    not its logarithm. Maps that are not periodic are tapered, less their mean, by the setting's window.

    Each of the K entries of s is divided by its standard deviation over all true maps, and the Fréchet distance of the
    Gaussians with the means and covariances of true and of generated maps by sqrt(K): 1 is what true maps moved by one
    standard deviation in every entry would have. Zhao et al. 2023 (arXiv:2307.09568) compare generated maps so. Few
    maps make it larger than it is: two sets of n maps of one distribution are of the order of sqrt(K / n) apart.
    """

    order = 80
    numbers = {
        "frechet_scattering": Number(
            "Fréchet scattering distance",
            "How far apart the distributions of the texture of generated and true maps are, in units of the scatter of "
            "true maps.",
            missing="there are too few true maps, or they are all alike",
        ),
        "scattering_error": Number(
            "scattering error",
            "How far the mean texture is off, averaged over scales and pairs of them, in units of the scatter of true "
            "maps.",
            missing="there are too few true maps, or they are all alike",
        ),
    }
    curves = {
        "scattering_scale": "wavelength of the wavelets",
        "scattering_1_truth": "geometric mean over true maps of S_1 and its floor",
        "scattering_1": "geometric mean over generated maps of S_1 and its floor",
        "scattering_pair": "number of the pair of scales: (0, 1), (0, 2), …, (1, 2), …",
        "scattering_2_truth": "geometric mean over true maps of S_2 / S_1, each with its floor",
        "scattering_2": "geometric mean over generated maps of S_2 / S_1, each with its floor",
    }

    def __init__(self, setting: Setting):
        super().__init__(setting)
        levels = np.asarray(setting.levels, dtype=np.float64)
        spread = np.ptp(levels) if levels.size else 0.0
        self.unit = float(spread or np.abs(levels).max(initial=0.0) or 1.0)
        self.scales = n_scales(setting.shape)
        self.first = [one for one, _ in itertools.combinations(range(self.scales), 2)]

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """s and the outer product s s^T of each map, one after the other: (n, K + K^2)."""
        if self.setting.window is not None:
            maps = tapered(maps, self.setting.window)
        log_1, log_2 = (np.log(S / self.unit + FLOOR) for S in scattering_coefficients(maps))
        s = np.concatenate([log_1, log_2 - log_1[:, self.first]], axis=1)
        return np.concatenate([s, (s[:, :, None] * s[:, None]).reshape(len(s), -1)], axis=1)

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        (mean_truth, covariance_truth), (mean, covariance) = (self._gaussian(moments) for moments in self.means(sums))
        J = self.scales
        values: dict[str, Any] = {
            "frechet_scattering": np.nan,
            "scattering_error": np.nan,
            "scattering_scale": 2 * np.pi / CENTRE * 2.0 ** np.arange(J) * self.setting.cell_size,
            "scattering_1_truth": np.exp(mean_truth[:J]) * self.unit,
            "scattering_1": np.exp(mean[:J]) * self.unit,
            "scattering_pair": 1.0 + np.arange(len(self.first)),
            "scattering_2_truth": np.exp(mean_truth[J:]),
            "scattering_2": np.exp(mean[J:]),
        }
        variance = np.diag(covariance_truth)
        # What true maps share to rounding has no scatter to be measured in.
        vary = variance > 1e-10 * (1 + mean_truth**2)
        if vary.any() and np.isfinite(covariance).all():
            scatter = np.sqrt(variance[vary])
            chosen, each = np.ix_(vary, vary), np.outer(scatter, scatter)
            true = mean_truth[vary] / scatter, covariance_truth[chosen] / each
            distance = frechet_distance(*true, mean[vary] / scatter, covariance[chosen] / each)
            values["frechet_scattering"] = distance / np.sqrt(len(scatter))
            values["scattering_error"] = average(np.abs(mean - mean_truth)[vary] / scatter)
        return values

    def _gaussian(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of s from the means of what `summarise` gives."""
        K = self.scales + len(self.first)
        mean, second = moments[:K], moments[K:].reshape(K, K)
        return mean, second - np.outer(mean, mean)

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Coefficients of first and of second order."""
        from higan.validation import plots

        curves = next(iter(comparison.models.values())).curves
        setting = comparison.setting
        units = f" [{setting.units}]" if setting.units else ""
        panels = [
            plots.Panel(
                "scattering_scale",
                "scattering_1",
                f"wavelength [{setting.length_units}]",
                f"S$_1${units}",
            ),
            plots.Panel(
                "scattering_pair",
                "scattering_2",
                "number of the pair of scales",
                "S$_2$ / S$_1$",
            ),
        ]
        plots.beside_truth(comparison, path, panels if len(curves["scattering_pair"]) else panels[:1])
        return (
            "Scattering coefficients: the strength of structure of each scale, and how clustered it is on each larger "
            "one; below, their ratio to those of the truth with errors by bootstrap."
        )


def _scatter(maps: np.ndarray, wavelets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """S_1 and S_2 of a few maps."""
    axes = tuple(range(-maps.ndim + 1, 0))
    modes = scipy.fft.fftn(maps, axes=axes, norm="forward")
    first = np.zeros((len(wavelets), len(maps)))
    second = {}
    for j_1, psi_1 in enumerate(wavelets):
        second.update({(j_1, j_2): np.zeros(len(maps)) for j_2 in range(j_1 + 1, len(wavelets))})
        cropped = _crop(modes, psi_1.shape[1:])
        for wavelet in psi_1:
            modulus = np.abs(scipy.fft.ifftn(cropped * wavelet, axes=axes, norm="forward", overwrite_x=True))
            first[j_1] += modulus.mean(axis=axes) / len(psi_1)
            if j_1 + 1 == len(wavelets):
                continue
            modulus_modes = scipy.fft.fftn(modulus, axes=axes, norm="forward")
            for j_2, psi_2 in enumerate(wavelets[j_1 + 1 :], j_1 + 1):
                both = _crop(modulus_modes, psi_2.shape[1:])[:, None] * psi_2
                again = np.abs(scipy.fft.ifftn(both, axes=axes, norm="forward", overwrite_x=True))
                second[j_1, j_2] += again.mean(axis=(1, *axes)) / len(psi_1)
    return first.T, np.stack(list(second.values()), axis=1) if second else np.empty((len(maps), 0))


def _crop(modes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The modes of a transform that one of fewer cells has."""
    ndim = len(shape)
    if modes.shape[-ndim:] == tuple(shape):
        return modes
    kept = [_frequencies(m) % n for m, n in zip(shape, modes.shape[-ndim:], strict=True)]
    return modes[(slice(None), *np.ix_(*kept))]


def _frequencies(n: int) -> np.ndarray:
    """The integer frequencies of a transform of n cells, in its order."""
    return np.fft.ifftshift(np.arange(n) - n // 2)


@functools.lru_cache(maxsize=4)
def _wavelets(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Transforms of the wavelets of each scale: (directions, *coarse shape), float32."""
    wavelets = []
    for j in range(n_scales(shape)):
        coarse = [-(-n // 2 ** max(j - 1, 0)) for n in shape]
        k = [2 * np.pi * _frequencies(m) / n for m, n in zip(coarse, shape, strict=True)]
        wavelets.append((_isotropic if len(shape) == 3 else _morlet)(k, 2.0**j).astype(np.float32))
    return tuple(wavelets)


def _morlet(k: Sequence[np.ndarray], scale: float) -> np.ndarray:
    """Morlet wavelets at wavenumbers `k` along each axis: one in 1D, one a direction in 2D."""
    angles = np.pi * np.arange(DIRECTIONS if len(k) == 2 else 1) / DIRECTIONS
    return np.stack([_sampled_morlet(k, scale, (np.cos(angle), np.sin(angle))) for angle in angles])


def _sampled_morlet(k: Sequence[np.ndarray], scale: float, direction: Sequence[float]) -> np.ndarray:
    def gaussian(along: Sequence[np.ndarray], centre: float) -> np.ndarray:
        # A wavelet known at cells alone has all frequencies that differ by 2 pi in one.
        product: np.ndarray = np.ones(())
        for values, cosine in zip(along, direction, strict=False):
            shifted = values[:, None] + 2 * np.pi * np.arange(-2, 3) - centre * cosine
            product = np.multiply.outer(product, np.exp(-((WIDTH * scale * shifted) ** 2) / 2).sum(axis=1))
        return product

    zero = [np.zeros(1)] * len(k)
    centre = CENTRE / scale
    return gaussian(k, centre) - gaussian(k, 0.0) * (gaussian(zero, centre) / gaussian(zero, 0.0)).item()


def _isotropic(k: Sequence[np.ndarray], scale: float) -> np.ndarray:
    """A Gaussian in log k, of no direction."""
    squared = sum(np.ix_(*[values**2 for values in k]))
    # Nothing at k = 0, to rounding: the wavelet has no mean.
    octaves = np.log2(np.maximum(squared, 1e-30)) / 2 - np.log2(CENTRE / scale)
    return np.exp(-((octaves / OCTAVES) ** 2) / 2)[None]
