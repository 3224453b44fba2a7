"""P(k) against fields whose spectrum is known, and against powerbox."""

import numpy as np
import pytest

from higan.validation.power_spectrum import (
    PowerSpectrum,
    correlation,
    cross_spectrum,
    power_spectrum,
    spectra,
)
from higan.validation.statistic import Setting
from tests.validation.fields import CELL, gaussian


@pytest.mark.parametrize("shape", [(256,), (64, 64), (24, 24, 24), (48, 80), (33, 33)])
def test_gaussian_field_has_the_power_it_was_drawn_with(shape):
    def power(k):
        return 3.0 * k**-1.2

    n = 40
    maps = gaussian(np.random.default_rng(1), n, shape, power)
    k, P = power_spectrum(maps, CELL)
    # Bins hold modes of different k: what is expected is the mean of the power over them, not the power at the mean k.
    modes = np.array([mode_power(shape, power, i) for i in range(len(k))])
    expected, count = modes.T
    # Each complex mode and its conjugate are one: the variance of a bin's mean is 2 / (n_maps n_modes).
    pull = (P.mean(axis=0) / expected - 1) / np.sqrt(2 / (n * count))
    assert np.abs(pull).max() < 4.5
    assert 0.5 < pull.std() < 1.7


def mode_power(shape, power, i):
    axes = [2 * np.pi * np.fft.fftfreq(m, CELL) for m in shape]
    k = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    fundamental = 2 * np.pi / (CELL * max(shape))
    inside = (k >= (i + 0.5) * fundamental) & (k < (i + 1.5) * fundamental) & (k <= np.pi / CELL * (1 + 1e-9))
    return power(k[inside]).mean(), inside.sum()


@pytest.mark.parametrize("shape", [(64, 64), (48, 48, 48), (33, 33), (30, 50)])
def test_same_as_powerbox_in_the_same_bins(shape):
    powerbox = pytest.importorskip("powerbox")
    maps = np.random.default_rng(2).normal(2.0, 3.0, size=(1, *shape))
    k, P = power_spectrum(maps, CELL)
    # powerbox leaves shot noise in if asked, normalises by the volume, and subtracts no mean (k = 0 is in no bin).
    sides = [CELL * m for m in shape]
    edges = np.append(np.arange(len(k)) + 0.5, len(k) + 0.5) * 2 * np.pi / max(sides)
    edges[-1] = min(edges[-1], np.pi / CELL * (1 + 1e-12))
    theirs = powerbox.get_power(maps[0], sides, bins=edges, remove_shotnoise=False, bins_upto_boxlen=True)
    np.testing.assert_allclose(P[0], theirs.power, rtol=1e-12)
    np.testing.assert_allclose(k, theirs.bin_avg, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("mode", [1, 5, 16])
def test_a_wave_has_its_power_in_its_bin(axis, mode):
    shape = (32, 32)
    wave = 2.0 * np.cos(2 * np.pi * mode * np.arange(32) / 32)
    maps = np.broadcast_to(np.moveaxis(wave[:, None], 0, axis), shape)[None]
    _, P = power_spectrum(maps, CELL)
    assert (P[0] > 1e-9 * P[0].max()).nonzero()[0].tolist() == [mode - 1]
    total = P[0, mode - 1] * mode_power(shape, np.ones_like, mode - 1)[1] / (32 * CELL) ** 2
    assert total == pytest.approx(maps.var())


def test_parseval_in_one_dimension():
    maps = np.random.default_rng(3).normal(size=(5, 64))
    _, P = power_spectrum(maps, CELL)
    # In 1D no mode is a corner mode: two modes a bin, one at the Nyquist frequency.
    count = np.full(32, 2.0)
    count[-1] = 1.0
    np.testing.assert_allclose((P * count).sum(axis=1) / (64 * CELL), maps.var(axis=1))


def test_bins_go_from_the_fundamental_to_nyquist():
    k, P = power_spectrum(np.zeros((3, 64, 64)), CELL)
    assert P.shape == (3, 32)
    assert k.dtype == P.dtype == np.float64
    assert 2 * np.pi / 128 <= k[0] < 1.5 * 2 * np.pi / 128
    assert k[-1] <= np.pi / CELL
    assert len(power_spectrum(np.zeros((1, 33, 33)), CELL)[0]) == 16


def test_cells_that_are_not_square():
    # The same waves seen with cells half as wide along one axis.
    x, y = np.meshgrid(np.arange(32) * 2.0, np.arange(64) * 1.0, indexing="ij")
    wave = np.cos(2 * np.pi * (3 * x + 4 * y) / 64)
    k, P = power_spectrum(wave[None], (2.0, 1.0))
    assert P[0].argmax() == 4  # |(3, 4)| = 5 fundamentals
    assert k[-1] <= np.pi / 2.0


def test_power_does_not_depend_on_mean_chunks_or_dtype(monkeypatch):
    maps = np.random.default_rng(4).normal(size=(7, 16, 16)).astype("float32")
    _, P = power_spectrum(maps, CELL)
    monkeypatch.setattr("higan.validation.power_spectrum.CHUNK_CELLS", 2 * 256)
    np.testing.assert_allclose(power_spectrum(maps.astype("float64") + 1e4, CELL)[1], P, rtol=1e-8)


def test_window_keeps_the_level_of_the_power():
    maps = np.random.default_rng(5).normal(size=(400, 64, 48))
    _, P = power_spectrum(maps, CELL, window="hann")
    np.testing.assert_allclose(P.mean(axis=0)[2:], CELL**2, rtol=0.05)


def test_window_stops_the_leak_of_a_map_that_is_not_periodic():
    ramp = np.broadcast_to(np.arange(64.0)[:, None], (64, 64))[None]
    open_, windowed = (power_spectrum(ramp, CELL, window)[1][0] for window in (None, "hann"))
    assert windowed[10:30].max() < 1e-3 * open_[10:30].min()


def test_cross_spectrum_and_correlation_of_noisy_maps():
    rng = np.random.default_rng(6)
    signal, noise = rng.normal(size=(2, 200, 32, 32))
    _, P_aa, P_bb, P_ab = spectra(signal, signal + 0.75 * noise, CELL)
    r = correlation(P_aa.mean(0), P_bb.mean(0), P_ab.mean(0))
    np.testing.assert_allclose(r[2:], 0.8, atol=0.02)  # 1 / sqrt(1 + 0.75^2)
    np.testing.assert_allclose(correlation(P_aa, P_aa, spectra(signal, signal, CELL)[3]), 1.0)
    unrelated = correlation(P_aa.mean(0), P_bb.mean(0), cross_spectrum(signal, noise, CELL)[1].mean(0))
    assert np.abs(unrelated[2:]).max() < 0.05
    assert np.isnan(correlation(0.0, 1.0, 0.0))


@pytest.mark.parametrize("maps", [np.zeros((2, 1)), np.zeros((2, 8, 1)), np.zeros(3)])
def test_maps_without_modes_are_refused(maps):
    with pytest.raises(ValueError):
        power_spectrum(maps, CELL)


def test_maps_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="cannot be paired"):
        spectra(np.zeros((2, 8)), np.zeros((3, 8)), CELL)


def test_ratio_over_simulations():
    rng = np.random.default_rng(7)
    statistic = PowerSpectrum(Setting((16, 16), CELL))
    truth = rng.normal(size=(2, 16, 16)).astype("float32")
    # Simulation 0 is generated twice as bright, simulation 1 as it is, from two equal realisations.
    generated = np.stack([truth, truth], axis=1) * np.array([2, 1], "float32")[:, None, None, None]
    sums = statistic.measure(truth, generated) | {"maps": np.ones(2), "bright": np.array([True, True])}
    of_simulations = statistic.by_simulation(sums)["R_s"]
    np.testing.assert_allclose(of_simulations[0], 4.0, rtol=1e-5)
    np.testing.assert_allclose(of_simulations[1], 1.0, rtol=1e-5)
    values = statistic.evaluate(sums)
    P = sums["P_truth"]
    np.testing.assert_allclose(values["R"], (4 * P[0] + P[1]) / P.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(values["T"] ** 2, values["R"])
    assert values["median_abs_R_s_minus_1"] == pytest.approx(1.5, rel=1e-5)  # between 3 and 0
    assert values["max_abs_R_minus_1"] == pytest.approx(np.abs(values["R"] - 1).max())
    faint = sums | {"bright": np.array([False, True])}
    assert statistic.evaluate(faint)["median_abs_R_s_minus_1"] == pytest.approx(0.0, abs=1e-5)
