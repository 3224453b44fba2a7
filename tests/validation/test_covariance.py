"""The covariance of P(k) of fields whose covariance is known."""

import numpy as np
import pytest

from higan.validation.comparison import compare
from higan.validation.covariance import Covariance, merged_bins
from higan.validation.models import Model
from higan.validation.statistic import Setting
from tests.validation.fields import CELL, gaussian, map_set

SETTING = Setting((16, 16), CELL)


def power(k):
    return 20 * k**-1.5


def sums_of(truth, generated, simulation=None, group=None, setting=SETTING):
    """The family and the sums of maps (n, *shape) and (n, R, *shape); one group of simulations of a map each."""
    simulation = np.arange(len(truth)) if simulation is None else simulation
    n = simulation.max() + 1
    family = Covariance(setting)
    sums = {}
    for key, value in (family.measure_truth(truth) | family.measure(truth, generated)).items():
        sums[key] = np.zeros((n, *value.shape[1:]))
        np.add.at(sums[key], simulation, value)
    group = np.zeros(n, dtype=int) if group is None else group
    return family, sums | {"maps": np.bincount(simulation), "bright": np.ones(n, dtype=bool), "group": group}


def evaluate(*args, **options):
    family, sums = sums_of(*args, **options)
    return family.evaluate(sums)


def test_gaussian_fields_have_the_variance_of_their_number_of_modes():
    rng = np.random.default_rng(1)
    truth = gaussian(rng, 3000, (16, 16), power)
    values = evaluate(truth, gaussian(rng, 3000, (16, 16), power)[:, None])
    _, modes, _ = merged_bins((16, 16), CELL)
    assert modes.sum() == 194  # all that lie within the Nyquist wavenumber
    # The power falls within a bin, so that its modes do not count alike; hardly so but in the first bins.
    np.testing.assert_allclose(values["scatter_truth"] ** 2, 2 / modes, rtol=0.15)
    off_diagonal = values["correlation_matrix_truth"][np.triu_indices(8, 1)]
    assert np.abs(off_diagonal).max() < 0.1
    np.testing.assert_allclose(np.diag(values["correlation_matrix"]), 1)
    assert abs(values["covariance_mean_ratio"]) < 0.05
    assert values["correlation_error"] < 0.04


def test_white_noise_has_it_exactly_in_merged_bins():
    truth = np.random.default_rng(2).normal(size=(2000, 64, 64)).astype("float32")
    values = evaluate(truth, truth[:, None], setting=Setting((64, 64), CELL))
    _, modes, weights = merged_bins((64, 64), CELL)
    assert 8 < len(weights) <= 16 and weights.shape[1] == 32
    np.testing.assert_allclose(values["scatter"] ** 2, 2 / modes, rtol=0.15)
    assert values["covariance_diagonal"] == 0 and values["correlation_error"] == 0


def test_a_low_covariance_is_found():
    """Fields of the true mean power, whose power scatters by a quarter less in variance."""
    rng = np.random.default_rng(3)
    truth = gaussian(rng, 4000, (16, 16), power)
    _, _, weights = merged_bins((16, 16), CELL)
    assert np.array_equal(weights, np.eye(8))
    family, sums = sums_of(truth, truth[:, None])
    P = sums["P"]
    sums["P"] = P.mean(axis=0) + np.sqrt(0.75) * (P - P.mean(axis=0))
    sums["outer"] = np.einsum("nri,nrj->nij", sums["P"], sums["P"])
    values = family.evaluate(sums)
    assert values["covariance_mean_ratio"] == pytest.approx(-0.25, abs=1e-6)
    assert values["covariance_diagonal"] == pytest.approx(0.25, abs=1e-6)
    assert values["correlation_error"] == pytest.approx(0, abs=1e-6)


def test_scales_that_vary_together_are_found():
    rng = np.random.default_rng(4)
    truth = gaussian(rng, 1000, (16, 16), power)
    generated = gaussian(rng, 1000, (16, 16), power) * rng.normal(1, 0.3, size=(1000, 1, 1))
    values = evaluate(truth, generated[:, None])
    assert values["correlation_error"] > 0.3 and values["covariance_mean_ratio"] > 0.5


def test_realisations_do_not_bias_small_groups():
    """Groups of three maps of other power each; realisations share what makes a map differ from another."""
    rng = np.random.default_rng(5)
    simulation = np.repeat(np.arange(400), 3)
    amplitude = rng.uniform(1, 10, size=400)[simulation][:, None, None]
    truth = amplitude * gaussian(rng, 1200, (16, 16), power)
    signal = gaussian(rng, 1200, (16, 16), lambda k: 10 * k**-1.5)[:, None]
    noise = gaussian(rng, 9600, (16, 16), lambda k: 10 * k**-1.5).reshape(1200, 8, 16, 16)
    values = evaluate(truth, amplitude[:, None] * (signal + noise), simulation, np.arange(400))
    assert values["covariance_mean_ratio"] == pytest.approx(0, abs=0.06)
    _, modes, _ = merged_bins((16, 16), CELL)
    np.testing.assert_allclose(values["scatter"] ** 2, 2 / modes, rtol=0.15)


def test_what_is_not_defined_is_nan():
    truth = gaussian(np.random.default_rng(6), 4, (8, 8), power)
    setting = Setting((8, 8), CELL)
    alone = evaluate(truth, truth[:, None], group=np.arange(4), setting=setting)
    assert np.isnan(alone["covariance_diagonal"]) and np.isnan(alone["scatter"]).all()
    same = np.repeat(truth[:1], 4, axis=0)
    assert np.isnan(evaluate(same, truth[:, None], setting=setting)["covariance_mean_ratio"])
    assert evaluate(truth, same[:, None], setting=setting)["covariance_mean_ratio"] == -1
    empty = evaluate(np.zeros_like(truth), truth[:, None], setting=setting)
    assert np.isnan(empty["covariance_mean_ratio"])
    family, sums = sums_of(truth, truth[:, None], setting=setting)
    assert np.isnan(family.evaluate(sums | {"bright": np.zeros(4, dtype=bool)})["correlation_error"])


def test_through_the_stream_and_drawn(tmp_path):
    truth = map_set()
    models = {"noisy": Model(lambda rows: truth.read("brightness_temp", rows)[:, None].repeat(2, 1) * 1.1, 2)}
    comparison = compare(truth, models, "brightness_temp", resamples=10)
    value, error = comparison.value("noisy", "covariance_mean_ratio")
    assert value == pytest.approx(1.1**4 - 1, rel=1e-3) and not error > 1e-4
    caption = Covariance.figure(comparison, tmp_path / "covariance.png")
    assert caption.endswith("and noisy.") and (tmp_path / "covariance.png").exists()
