"""One-point distances, means, realisations and the bootstrap against known answers."""

import numpy as np
import pytest

from higan.validation.bootstrap import bootstrap
from higan.validation.mean import Mean
from higan.validation.one_point import OnePoint, default_edges, distances
from higan.validation.power_spectrum import CornerPower, LogPowerSpectrum, power_spectrum
from higan.validation.realisations import Realisations
from higan.validation.statistic import Setting, average, ratio, statistics
from tests.validation.fields import CELL

SETTING = Setting((32, 32), CELL, edges=np.linspace(0, 1, 101))


def evaluate(cls, truth, generated, setting=SETTING, bright=None):
    """A statistic of maps (n, *shape) and (n, R, *shape) that are each a simulation."""
    family = cls(setting)
    bright = np.ones(len(truth), dtype=bool) if bright is None else np.asarray(bright)
    sums = family.measure(truth.astype("float32"), generated.astype("float32"))
    sums |= family.measure_truth(truth.astype("float32"))
    return family.evaluate(sums | {"maps": np.ones(len(truth)), "bright": bright})


def test_distances_of_shifted_uniform_distributions():
    rng = np.random.default_rng(1)
    truth = rng.uniform(size=(50, 32, 32))
    values = evaluate(OnePoint, truth, truth[:, None] + 0.25)
    # The shifted one reaches beyond the last edge: its tail counts in full.
    assert values["D"] == pytest.approx(0.25, abs=0.01)
    assert values["wasserstein"] == pytest.approx(0.25, abs=0.002)
    assert evaluate(OnePoint, truth, truth[:, None])["D"] == 0
    below = evaluate(OnePoint, truth, truth[:, None] - 10)
    assert below["D"] == 1
    assert below["wasserstein"] == pytest.approx(10, abs=0.01)


def test_empty_cells():
    """Cells just above the lowest value, which half of the true ones have: D is blind to them."""
    truth = np.tile(np.where(np.arange(32) % 2, 0.5, 0.0), (4, 32, 1))
    generated = np.where(np.arange(32) % 6 == 0, truth + 1e-4, truth)[:, None]
    values = evaluate(OnePoint, truth, generated)
    assert values["D"] == 0
    assert values["empty_share_error"] == pytest.approx(-6 / 32)


def test_pdf_is_normalised_and_averages_realisations():
    truth = np.random.default_rng(2).uniform(size=(4, 32, 32))
    generated = np.stack([truth, 0.999 * truth[::-1]], axis=1)
    values = evaluate(OnePoint, truth, generated)
    assert np.sum(values["pdf"]) * 0.01 == pytest.approx(1.0)
    assert values["D"] < 0.01


def test_distances_against_scipy():
    from scipy import stats

    rng = np.random.default_rng(3)
    a, b = rng.normal(size=4000), rng.normal(0.3, 1.2, size=4000)
    edges = np.linspace(-7, 7, 4001)
    F, G = (np.searchsorted(np.sort(values), edges) / 4000 for values in (a, b))
    D, W = distances(F, G, edges)
    assert D == pytest.approx(stats.ks_2samp(a, b).statistic, abs=2e-3)
    assert W == pytest.approx(stats.wasserstein_distance(a, b), abs=2e-3)


def test_default_edges():
    np.testing.assert_array_equal(default_edges(-0.1, 1.0, 1.0, "mK"), [-0.5, 0, 0.5, 1.0, 1.5])
    edges = default_edges(-3.0, 50.0, 1.0, "")
    assert np.diff(edges)[0] == pytest.approx(0.05)
    assert edges[0] <= -3 and edges[-1] > 50
    assert len(default_edges(0.0, 1e9, 1.0, "")) <= 2002
    assert len(default_edges(0.0, 0.0, 0.0, "K")) >= 2


def test_mean_error_and_bias():
    truth = np.zeros((4, 32, 32))
    offsets = np.array([1.0, -1.0, 2.0, 0.0])
    values = evaluate(Mean, truth, truth[:, None] + offsets[:, None, None, None], bright=[True, True, True, False])
    assert values["mean_error"] == pytest.approx(1.0)
    assert values["mean_bias"] == pytest.approx(0.5)
    assert values["faint_mean_error"] == 0
    noisy = np.random.default_rng(4).normal(0, 3, size=(4, 1, 32, 32))
    assert evaluate(Mean, truth, noisy, bright=[False] * 4)["faint_rms_error"] == pytest.approx(3, rel=0.05)
    assert np.isnan(evaluate(Mean, truth, noisy)["faint_rms_error"])


def test_a_calibrated_generator():
    # Truth and realisations are one signal plus independent noise of the same power.
    rng = np.random.default_rng(5)
    n, R = 20, 16
    signal = rng.normal(size=(n, 1, 32, 32))
    draws = signal + 0.5 * rng.normal(size=(n, R + 1, 32, 32))
    setting = Setting((32, 32), CELL, large_scale_k=9.0)
    values = evaluate(Realisations, draws[:, 0], draws[:, 1:], setting)
    assert values["spread_over_error"] == pytest.approx(1.0, abs=0.01)
    # r of the mean: 1 / sqrt((1 + 0.25) (1 + 0.25 / R))
    assert values["r_mean_large_scales"] == pytest.approx(1 / np.sqrt(1.25 * (1 + 0.25 / R)), abs=0.01)
    sure = signal + 0.1 * rng.normal(size=(n, R, 32, 32))
    assert evaluate(Realisations, draws[:, 0], sure, setting)["spread_over_error"] == pytest.approx(0.2, abs=0.02)


def test_one_realisation_says_nothing_of_the_mean():
    values = evaluate(Realisations, np.ones((2, 32, 32)), np.ones((2, 1, 32, 32)))
    assert np.isnan(values["r_mean_large_scales"]) and np.isnan(values["spread_over_error"])


def test_bootstrap_error_of_a_mean():
    x = np.random.default_rng(6).normal(0, 2.0, size=200)
    errors = bootstrap(lambda i: {"mean": x[i].mean(), "both": np.array([x[i].mean(), np.nan])}, 200, resamples=2000)
    assert errors["mean"] == pytest.approx(2.0 / np.sqrt(200), rel=0.15)
    assert errors["both"][0] == pytest.approx(errors["mean"]) and np.isnan(errors["both"][1])
    assert errors["mean"] == bootstrap(lambda i: {"mean": x[i].mean()}, 200, resamples=2000)["mean"]


def test_bootstrap_of_one_simulation_has_no_error():
    assert np.isnan(bootstrap(lambda i: {"mean": 1.0}, 1, resamples=10)["mean"])


def test_ratio_and_average_keep_quiet_about_nothing():
    assert np.isnan(ratio(1.0, 0.0)) and np.isnan(average([np.nan])) and average([1.0, np.nan, 3.0]) == 2.0


def test_names_of_numbers_and_curves_are_not_shared():
    families = {cls for kind in ("box", "healpix") for cls in statistics(kind)}
    keys = [key for cls in families for key in (*cls.numbers, *cls.curves, *cls.scatter)]
    assert len(keys) == len(set(keys))


# -- fields that span decades --------------------------------------------------------------------------------


def decades(rng, n=6):
    """Fields of 10^x, x uniform between 4 and 8."""
    return 10 ** rng.uniform(4, 8, size=(n, 32, 32))


def test_edges_of_fields_that_span_decades():
    edges = default_edges(2e4, 3e8, 1e6, "solMass / Mpc3")
    np.testing.assert_allclose(np.diff(np.log10(edges)), 0.05)
    assert edges[0] <= 2e4 and edges[-2] > 3e8 / 1.13 and edges[-1] > 3e8
    assert any(np.isclose(edges, 1e6, rtol=1e-9))


def test_worst_decade():
    """A tenth of the cells of one decade lifted to the next: one has 10 % too few, the other too many."""
    rng = np.random.default_rng(7)
    truth = decades(rng)
    setting = Setting((32, 32), CELL, edges=default_edges(1e4, 1e8, 1.0, ""), logarithmic=True)
    assert evaluate(OnePoint, truth, truth[:, None], setting)["worst_decade"] == 0
    between = (truth > 1e6) & (truth < 1e7)
    lifted = np.where(between & (rng.random(truth.shape) < 0.1), 10 * truth, truth)
    values = evaluate(OnePoint, truth, lifted[:, None], setting)
    assert values["worst_decade"] == pytest.approx(0.1, abs=0.02)
    assert np.isnan(evaluate(OnePoint, truth, truth[:, None])["worst_decade"])


def test_power_spectrum_of_the_logarithm():
    """The square of the field has four times the power of its logarithm; brightness by a factor does nothing to it."""
    truth = decades(np.random.default_rng(8))
    setting = Setting((32, 32), CELL, edges=default_edges(1e4, 1e8, 1.0, ""), logarithmic=True)
    squared = evaluate(LogPowerSpectrum, truth, (truth**2)[:, None], setting)
    np.testing.assert_allclose(squared["R_log"], 4, rtol=1e-3)
    assert squared["mean_abs_R_minus_1_log"] == pytest.approx(3, rel=1e-3)
    assert evaluate(LogPowerSpectrum, truth, 30 * truth[:, None], setting)["max_abs_R_minus_1_log"] < 1e-3
    # An empty cell is taken where the lowest edge is.
    empty = np.where(truth < 2e4, 0, truth)
    assert np.isfinite(evaluate(LogPowerSpectrum, truth, empty[:, None], setting)["R_log"]).all()
    assert np.isnan(evaluate(LogPowerSpectrum, truth, truth[:, None])["mean_abs_R_minus_1_log"])


@pytest.mark.parametrize("shape", [(16, 16), (12, 12, 12)])
def test_power_in_the_corners_of_the_cube_of_modes(shape):
    """White noise without half the amplitude of what lies beyond the Nyquist sphere, whose P(k) is none the worse."""
    axes = tuple(range(1, len(shape) + 1))
    truth = np.random.default_rng(9).normal(size=(4, *shape))
    k = np.linalg.norm(np.meshgrid(*(n * np.fft.fftfreq(n) for n in shape), indexing="ij"), axis=0)
    beyond = k >= shape[0] // 2 + 0.5
    halved = np.fft.ifftn(np.fft.fftn(truth, axes=axes) * np.where(beyond, 0.5, 1.0), axes=axes).real
    setting = Setting(shape, CELL)
    values = evaluate(CornerPower, truth, halved[:, None], setting)
    assert values["R_corners_minus_1"] == pytest.approx(-0.75, abs=1e-5)
    np.testing.assert_allclose(values["P_corners"], 0.25 * values["P_corners_truth"], rtol=1e-4)
    within = [power_spectrum(maps, CELL)[1] for maps in (truth, halved)]
    np.testing.assert_allclose(*within)
    k, P = power_spectrum(truth, CELL, corners=True)
    np.testing.assert_allclose(values["P_corners_truth"], P.mean(axis=0)[within[0].shape[1] :], rtol=1e-4)
    np.testing.assert_array_equal(values["k_corners"], k[within[0].shape[1] :])
    # Of the logarithm where the field spans decades.
    setting = Setting(shape, CELL, edges=default_edges(1e-3, 1e3, 1.0, ""), logarithmic=True)
    found = evaluate(CornerPower, 10**truth, (10**halved)[:, None], setting)["R_corners_minus_1"]
    assert found == pytest.approx(-0.75, abs=0.02)


def test_maps_without_corners():
    """In one dimension the Nyquist wavenumber is the largest there is."""
    truth = np.random.default_rng(10).normal(size=(2, 32))
    assert np.isnan(evaluate(CornerPower, truth, truth[:, None], Setting((32,), CELL))["R_corners_minus_1"])
