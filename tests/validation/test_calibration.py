"""Ranks, coverage and spread of draws that are calibrated, too sure or biased."""

import dataclasses

import numpy as np
import pytest

from higan.validation.calibration import Calibration, holm, uniformity
from higan.validation.comparison import compare
from higan.validation.models import Model
from higan.validation.statistic import Setting
from tests.validation.fields import CELL, gaussian, map_set

SETTING = Setting((16, 16), CELL, levels=np.linspace(-3, 3, 13))
R = 9


def evaluate(truth, generated, setting=SETTING):
    """Numbers, curves and rank histograms of maps (n, *shape) and (n, R, *shape) that are each a simulation."""
    family = Calibration(setting)
    sums = family.measure(truth.astype("float32"), generated.astype("float32"))
    sums |= {"maps": np.ones(len(truth))}
    return family.evaluate(sums) | family.by_simulation(sums)


def draws(rng, n, realisations=R, noise=0.5):
    """A signal with noise of equal shape: a truth, and realisations beside it."""
    signal = gaussian(rng, n, (16, 16), lambda k: 10 * k**-1.0)[:, None]
    scatter = gaussian(rng, n * (realisations + 1), (16, 16), lambda k: 10 * k**-1.0)
    both = signal + noise * scatter.reshape(n, realisations + 1, 16, 16)
    return both[:, 0], both[:, 1:]


def test_calibrated_draws_are_uniform():
    truth, generated = draws(np.random.default_rng(1), 600)
    values = evaluate(truth, generated)
    assert values["rank_histograms"].shape == (600, 8, R + 1)
    assert values["rank_distance"] < 0.06
    assert values["coverage_68_error"] < 0.06 and values["coverage_95_error"] < 0.03
    assert values["spread_worst"] < 0.1 and values["spread_mean"] < 0.05
    assert (uniformity(values["rank_histograms"], resamples=1000) > 0.05).all()
    np.testing.assert_allclose(values["rank_pdf"].mean(axis=1), 1)
    assert values["rank_pdf"].shape == (8, 10)


def test_draws_that_are_too_sure_are_caught():
    """Of the right power, but three quarters of their noise are the same in all realisations of a map."""
    rng = np.random.default_rng(2)
    signal, common, alone = (gaussian(rng, 300, (16, 16), lambda k: 10 * k**-1.0) for _ in range(3))
    own = gaussian(rng, 300 * R, (16, 16), lambda k: 10 * k**-1.0).reshape(300, R, 16, 16)
    generated = (signal + np.sqrt(0.75) * common)[:, None] + np.sqrt(0.25) * own
    values = evaluate(signal + alone, generated)
    expected = (1 + 1 / R) * 0.25 / (1 + 0.75 + 0.25 / R)
    np.testing.assert_allclose(values["spread_ratio"], expected, rtol=0.1)
    assert values["spread_mean"] == pytest.approx(1 - expected, abs=0.01)
    assert values["coverage_68_error"] > 0.3 and values["coverage_95_error"] > 0.08
    assert values["rank_pdf"][:4, [0, -1]].min() > 1.5
    assert uniformity(values["rank_histograms"], resamples=1000).min() < 0.01


def test_biased_draws_are_caught():
    truth, generated = draws(np.random.default_rng(3), 300)
    values = evaluate(truth, 1.2 * generated)
    p = uniformity(values["rank_histograms"], resamples=1000)
    assert (p[:4] < 0.01).all()
    assert values["rank_pdf"][0, 0] > 2 * values["rank_pdf"][0, -1]
    assert values["rank_distance"] > 0.2


def test_coverage_is_exact_for_few_realisations():
    """All ranks alike, whatever R: the central 68 and 95 % hold as many."""
    family = Calibration(SETTING)
    for count in (2, 5, 19, 40):
        sums = {
            "ranks": np.ones((3, 8, count + 1)) / (count + 1),
            "spread_power": np.ones((3, 8)),
            "miss_power": np.ones((3, 8)),
            "mse_mean": np.ones(3),
            "maps": np.ones(3),
        }
        values = family.evaluate(sums)
        np.testing.assert_allclose(values["coverage"], np.tile([0.68, 0.95], (8, 1)))
        assert values["rank_distance"] == pytest.approx(0)
        assert values["rank_pdf"].shape == (8, min(count + 1, 16))
        np.testing.assert_allclose(values["rank_pdf"], 1)


def test_tied_ranks_are_shared():
    flat = np.zeros((2, 16, 16))
    values = evaluate(flat, np.zeros((2, R, 16, 16)))
    np.testing.assert_allclose(values["rank_histograms"], 1 / (R + 1))
    assert np.isnan(values["spread_mean"]) and np.isnan(values["spread_worst"])
    half = np.zeros((1, 4, 16, 16))
    half[0, :2] = 5.0  # two realisations have all cells in the band above, two none, as the truth
    above = evaluate(flat[:1], half)["rank_histograms"][0, -1]
    np.testing.assert_allclose(above, [1 / 3, 1 / 3, 1 / 3, 0, 0])


def test_square_error_of_the_mean_does_not_depend_on_realisations():
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(400, 1, 16, 16))
    truth = signal[:, 0] + 0.7 * rng.normal(size=(400, 16, 16))
    for count in (2, 8):
        values = evaluate(truth, signal + rng.normal(size=(400, count, 16, 16)))
        assert values["mse_mean"] == pytest.approx(0.49, rel=0.02)
        # A spread of variance 1 where the truth has 0.49.
        expected = (1 + 1 / count) / (0.49 + 1 / count)
        assert values["spread_ratio"].mean() == pytest.approx(expected, rel=0.02)


def test_the_logarithm_of_a_field_that_spans_decades():
    truth, generated = draws(np.random.default_rng(9), 40)
    edges = np.logspace(-9, 9, 37)
    physical = evaluate(10**truth, 10**generated, dataclasses.replace(SETTING, logarithmic=True, edges=edges))
    plain = evaluate(truth, generated)
    for key in ("spread_mean", "mse_mean", "spread_ratio"):
        np.testing.assert_allclose(physical[f"{key}_log"], plain[key], rtol=1e-4)
        assert np.isnan(plain[f"{key}_log"]).all()


def test_one_realisation_says_nothing():
    truth, generated = draws(np.random.default_rng(5), 4)
    values = evaluate(truth, generated[:, :1])
    assert all(np.isnan(values[key]) for key in Calibration.numbers)
    assert all(np.isnan(values[key]).all() for key in (*Calibration.curves, *Calibration.scatter))
    assert np.isnan(uniformity(values["rank_histograms"])).all()


def clustered(rng, simulations, maps, ranks=10):
    """Uniform ranks of maps that have most of their offset in common with others of their simulation."""
    from scipy.special import ndtr

    offset = np.sqrt(0.9) * rng.normal(size=(simulations, 1)) + np.sqrt(0.1) * rng.normal(size=(simulations, maps))
    rank = (ndtr(offset) * ranks).astype(int)
    return (rank[..., None] == np.arange(ranks)).sum(axis=1)[:, None].astype(float)


def test_maps_of_one_simulation_are_no_independent_evidence():
    from scipy.stats import chisquare

    rng = np.random.default_rng(6)
    sets = [clustered(rng, 40, 16) for _ in range(60)]
    naive = [chisquare(histograms.sum(axis=(0, 1))).pvalue for histograms in sets]
    own = [uniformity(histograms, resamples=300)[0] for histograms in sets]
    assert np.mean(np.array(naive) < 0.01) > 0.7
    assert np.mean(np.array(own) < 0.01) < 0.1
    assert 0.3 < np.mean(own) < 0.7


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.02, 0.005, 0.4, 0.015]), [0.045, 0.02, 0.4, 0.045])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("shape", [(2,), (8, 8), (8, 12), (4, 4, 4)])
def test_small_maps_and_few_levels(shape):
    rng = np.random.default_rng(7)
    for levels in ([], [0.5], np.linspace(-1, 1, 13)):
        setting = Setting(shape, CELL, levels=np.array(levels))
        values = evaluate(rng.normal(size=(3, *shape)), rng.normal(size=(3, 2, *shape)), setting)
        assert values["rank_histograms"].shape[1] == len(Calibration(setting).quantities)
        assert np.isfinite(values["rank_distance"])


def test_through_the_stream_and_drawn(tmp_path):
    truth = map_set()
    rng = np.random.default_rng(8)

    def noisy(rows):
        return truth.read("brightness_temp", rows)[:, None] + rng.normal(size=(len(rows), 4, 16, 16))

    models = {"noisy": Model(noisy, 4), "one": lambda rows: truth.read("brightness_temp", rows)}
    comparison = compare(truth, models, "brightness_temp", resamples=10)
    # The truth lies at the middle of unit noise: its mean of four misses by 1/4, of infinitely many by nothing.
    value, error = comparison.value("noisy", "mse_mean")
    assert abs(value) < 0.01 and error < 0.01
    assert comparison.models["noisy"].by_simulation["rank_histograms"].shape == (12, 8, 5)
    assert "flat is calibrated" in Calibration.figure(comparison, tmp_path / "calibration.png")
    del comparison.models["noisy"]
    assert Calibration.figure(comparison, tmp_path / "none.png") is None
