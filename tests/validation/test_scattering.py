"""Scattering coefficients: direct convolutions, waves, scalings, rotations; Fréchet distances of known Gaussians."""

import itertools

import numpy as np
import pytest

from higan.validation.scattering import Scattering, _wavelets, frechet_distance, n_scales, scattering_coefficients
from higan.validation.statistic import Setting
from tests.validation.fields import CELL, gaussian


def maps_of(shape, n=4, seed=1, slope=-1.5):
    """Lognormal maps of a red spectrum, with phases."""
    return np.exp(gaussian(np.random.default_rng(seed), n, shape, lambda k: 2 * k ** (slope - 0.5 * (len(shape) - 2))))


def evaluate(truth, generated, window=None, levels=(0.5, 4.0)):
    """Numbers and curves of maps (n, *shape) and (n, R, *shape) that are each a simulation."""
    family = Scattering(Setting(truth.shape[1:], CELL, levels=np.array(levels), window=window))
    sums = family.measure_truth(truth.astype("float32"))
    sums |= family.measure(truth.astype("float32"), generated.astype("float32"))
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def morlet(n, j, angle):
    """A Morlet wavelet on a periodic grid of n x n cells, from its formula at the cells."""
    width, centre = 0.8 * 2**j, 0.75 * np.pi / 2**j
    x = np.arange(-3 * n, 3 * n)
    x, y = np.meshgrid(x, x, indexing="ij")
    envelope = np.exp(-(x**2 + y**2) / (2 * width**2)) / (2 * np.pi * width**2)
    wave = np.exp(1j * centre * (x * np.cos(angle) + y * np.sin(angle)))
    psi = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    return psi.reshape(6, n, 6, n).sum(axis=(0, 2))


def convolve(a, b):
    return np.fft.ifft2(np.fft.fft2(a) * np.fft.fft2(b))


def direct(field, psi):
    """S_1 and S_2 of one map from wavelets psi[j][direction], all on the grid of the map."""
    moduli = [[np.abs(convolve(field, wavelet)) for wavelet in scale] for scale in psi]
    first = [np.mean(scale) for scale in moduli]
    pairs = itertools.combinations(range(len(psi)), 2)
    second = [np.mean([np.abs(convolve(m, w)) for m in moduli[a] for w in psi[b]]) for a, b in pairs]
    return np.array(first), np.array(second)


def test_against_direct_convolutions():
    n = 64
    (field,) = maps_of((n, n), n=1)
    psi = [[morlet(n, j, np.pi * i / 4) for i in range(4)] for j in range(n_scales((n, n)))]
    S_1, S_2 = direct(field, psi)
    first, second = scattering_coefficients(field[None])
    np.testing.assert_allclose(first[0], S_1, rtol=0.02)
    np.testing.assert_allclose(second[0], S_2, rtol=0.03)


def test_against_the_filters_of_kymatio():
    bank = pytest.importorskip("kymatio.scattering2d.filter_bank")
    n = 32
    (field,) = maps_of((n, n), n=1)
    J = n_scales((n, n))
    psi = [
        [np.fft.ifft2(f["levels"][0]) for f in bank.filter_bank(n, n, J, L=4)["psi"] if f["j"] == j] for j in range(J)
    ]
    S_1, S_2 = direct(field, psi)
    first, second = scattering_coefficients(field[None])
    np.testing.assert_allclose(first[0], S_1, rtol=0.02)
    np.testing.assert_allclose(second[0], S_2, rtol=0.03)


def test_isotropic_wavelets_against_direct_convolutions():
    n = 32
    (field,) = maps_of((n, n, n), n=1)
    k = 2 * np.pi * np.fft.fftfreq(n)
    k = np.sqrt(sum(np.ix_(k**2, k**2, k**2)))
    k[0, 0, 0] = 1e-9
    psi = [np.exp(-(np.log2(k / (0.75 * np.pi / 2**j)) ** 2) / (2 * 0.5**2)) for j in range(n_scales((n,)))]
    moduli = [np.abs(np.fft.ifftn(np.fft.fftn(field) * wavelet)) for wavelet in psi]
    first, second = scattering_coefficients(field[None])
    np.testing.assert_allclose(first[0], [modulus.mean() for modulus in moduli], rtol=0.03)
    pairs = itertools.combinations(range(len(psi)), 2)
    again = [np.abs(np.fft.ifftn(np.fft.fftn(moduli[a]) * psi[b])).mean() for a, b in pairs]
    np.testing.assert_allclose(second[0], again, rtol=0.05)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_plane_wave_excites_one_scale(ndim):
    n = 64
    for j, periods in enumerate((24, 12, 6, 3)):  # the centre of each wavelet: 8/3 2^j cells
        wave = np.cos(2 * np.pi * periods * np.arange(n) / n).reshape(-1, *(1,) * (ndim - 1)) * np.ones((n,) * ndim)
        first, second = scattering_coefficients(wave[None])
        assert first[0].argmax() == j
        # A cosine is half a wave, which passes whole.
        if ndim == 1:
            assert first[0, j] == pytest.approx(0.5, rel=0.03)
        # A pure wave has a flat modulus, with nothing for a second wavelet in it, but where the finest wavelet also has
        # the opposite frequency, as real ones have.
        if ndim < 3 and j > 0:
            assert second.max() < 0.05 * first.max()


def test_a_plane_wave_excites_one_direction():
    n, j = 64, 2
    for direction, (a, b) in enumerate([(6, 0), (4, 4), (0, 6), (-4, 4)]):
        x = 2 * np.pi * np.arange(n) / n
        modes = np.fft.fft2(np.cos(np.add.outer(a * x, b * x)), norm="forward")
        m = _wavelets((n, n))[j].shape[1]
        kept = np.fft.fftfreq(m, 1 / m).astype(int) % n
        power = (np.abs(modes[np.ix_(kept, kept)] * _wavelets((n, n))[j]) ** 2).sum(axis=(1, 2))
        assert power.argmax() == direction
        assert power[(direction + 2) % 4] < 0.01 * power[direction]


@pytest.mark.parametrize("shape", [(256,), (64, 64), (32, 32, 32)])
def test_scaling_and_a_constant(shape):
    maps = maps_of(shape)
    first, second = scattering_coefficients(maps)
    tripled = scattering_coefficients(3 * maps + 1e6)
    np.testing.assert_allclose(tripled[0], 3 * first, rtol=1e-3)
    np.testing.assert_allclose(tripled[1], 3 * second, rtol=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (32, 32, 32)])
def test_rotations_and_translations_change_nothing(shape):
    maps = maps_of(shape)
    first, second = scattering_coefficients(maps)
    for moved in (np.rot90(maps, axes=(1, 2)), np.roll(maps, 5, axis=1)):
        again = scattering_coefficients(moved)
        np.testing.assert_allclose(again[0], first, rtol=0.02)
        np.testing.assert_allclose(again[1], second, rtol=0.02)


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(4)
    # Of covariances that commute: sum of (standard deviations' difference)^2 along their common axes.
    axes, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    a, b = rng.uniform(0, 3, size=(2, 5))
    a[0] = b[1] = 0.0  # singular
    mean_a, mean_b = rng.normal(size=(2, 5))
    expected = np.sqrt(np.sum((mean_a - mean_b) ** 2) + np.sum((a - b) ** 2))
    distance = frechet_distance(mean_a, (axes * a**2) @ axes.T, mean_b, (axes * b**2) @ axes.T)
    assert distance == pytest.approx(expected)


def test_frechet_distance_against_the_matrix_square_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(5)
    A, B = (x @ x.T for x in rng.normal(size=(2, 4, 6)))
    expected = np.sqrt(np.trace(A + B - 2 * sqrtm(A @ B).real))
    assert frechet_distance(np.zeros(4), A, np.zeros(4), B) == pytest.approx(expected)


def test_identical_and_shifted_distributions():
    truth = np.concatenate([maps_of((32, 32), 40, seed) for seed in (1, 2)])
    same = evaluate(truth, truth[:, None])
    assert same["frechet_scattering"] < 1e-3 and same["scattering_error"] == 0
    np.testing.assert_allclose(same["scattering_1"], same["scattering_1_truth"])
    # Other maps of one law: of the order of sqrt(K / n) apart, K = 9.
    other = evaluate(truth, maps_of((32, 32), 80, 3)[:, None])
    assert other["frechet_scattering"] < 0.5
    # Phases at random, with the power they had: the second order sees it.
    phases = np.angle(np.fft.rfft2(np.random.default_rng(6).normal(size=truth.shape)))
    random = np.fft.irfft2(np.abs(np.fft.rfft2(truth)) * np.exp(1j * phases), (32, 32))
    assert evaluate(truth, random[:, None])["frechet_scattering"] > 3 * other["frechet_scattering"]


def test_numbers_are_those_of_the_logarithms():
    truth = maps_of((16, 16), 30)
    values = evaluate(truth, 2 * truth[:, None], levels=(0.0, 1e-3))
    S_1, S_2 = scattering_coefficients(truth)  # far above the floor
    s = np.log(np.concatenate([S_1, S_2 / S_1[:, [0, 0, 1]]], axis=1))
    # Twice the maps: log 2 in S_1, nothing in S_2 / S_1; the covariances are the same.
    shift = np.log(2) / s.std(axis=0) * (np.arange(s.shape[1]) < S_1.shape[1])
    assert values["scattering_error"] == pytest.approx(shift.mean(), rel=1e-3)
    assert values["frechet_scattering"] == pytest.approx(np.sqrt((shift**2).mean()), rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 2), (8,), (8, 8), (12, 9), (8, 8, 8), (63, 64)])
@pytest.mark.parametrize("window", [None, "hann"])
def test_small_odd_and_empty_maps(shape, window):
    truth = maps_of(shape, 6) * np.array([0, 1, 1, 2, 3, 0]).reshape(-1, *(1,) * len(shape))
    values = evaluate(truth, truth[::-1, None], window)
    assert np.isfinite([values["frechet_scattering"], values["scattering_error"]]).all()
    empty = np.zeros_like(truth)
    assert np.isfinite(evaluate(truth, empty[:, None], window)["frechet_scattering"])
    assert np.isnan(evaluate(empty, truth[:, None], window)["frechet_scattering"])
    assert np.isnan(evaluate(truth[1:2], truth[1:2, None], window)["frechet_scattering"])
    assert np.isfinite(evaluate(truth, truth[:, None], window, levels=())["scattering_error"])


def test_dimensions():
    with pytest.raises(ValueError, match="1, 2 or 3 dimensions"):
        scattering_coefficients(np.zeros((1, 2, 2, 2, 2)))
