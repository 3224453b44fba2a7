"""Power along each axis: isotropic fields, and fields stretched along an axis."""

import numpy as np
import pytest

from higan.validation.comparison import compare
from higan.validation.isotropy import Isotropy
from higan.validation.power_spectrum import axis_powers, axis_shares, power_spectrum, wavevectors
from higan.validation.statistic import Setting
from tests.validation.fields import CELL, gaussian, map_set


def evaluate(truth, generated, **setting):
    family = Isotropy(Setting(truth.shape[1:], CELL, **setting))
    sums = family.measure_truth(truth) | family.measure(truth, generated[:, None])
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def stretched(rng, n, shape, factor):
    """Gaussian fields whose power depends on |(k_1, …, factor k_ndim)|."""
    k = wavevectors(shape, CELL)
    squared = sum(component**2 for component in k[:-1]) + (factor * k[-1]) ** 2
    squared.flat[0] = np.inf
    axes = tuple(range(1, len(shape) + 1))
    white = np.fft.rfftn(rng.normal(size=(n, *shape)), axes=axes)
    return np.fft.irfftn(white / np.sqrt(squared), shape, axes=axes)


@pytest.mark.parametrize("shape", [(24, 24), (12, 12, 12), (24, 16)])
def test_isotropic_fields(shape):
    rng = np.random.default_rng(1)
    truth, generated = (gaussian(rng, 400, shape, lambda k: k**-2.0) for _ in range(2))
    values = evaluate(truth, generated)
    assert values["axis_power"].shape == (len(shape), len(values["k_axis"]))
    assert values["axis_error"] < 0.06
    np.testing.assert_allclose(values["axis_power"].mean(axis=0), 1)


def test_a_field_stretched_along_an_axis():
    """P ~ 1 / (k_1² + 4 k_2²): its power near the axes follows from that law, mode by mode."""
    shape = (32, 32)
    rng = np.random.default_rng(2)
    values = evaluate(gaussian(rng, 200, shape, lambda k: k**-2.0), stretched(rng, 200, shape, 2.0))
    first, second = values["axis_power"]
    assert (first[1:] > 1.25).all() and (second[1:] < 0.75).all()
    assert values["axis_error"] > 0.3 and values["axis_worst_error"] >= values["axis_error"]
    # All spherical averages being alike, the number is the same for any amplitude.
    again = evaluate(gaussian(rng, 200, shape, lambda k: k**-2.0), 100 * stretched(rng, 200, shape, 2.0))
    assert again["axis_error"] == pytest.approx(values["axis_error"], rel=0.1)


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 8), (12, 10)])
def test_shares_add_up_to_the_power(shape):
    """The mean over axes, weighed by their modes, is P(k); where axes are alike, the plain mean."""
    maps = np.random.default_rng(3).normal(size=(2, *shape))
    P = power_spectrum(maps, 1.0)[1] * np.prod(shape)
    by_axis = axis_powers(maps)
    assert axis_shares(shape).min() >= 0
    if len(set(shape)) == 1:
        np.testing.assert_allclose(by_axis.mean(axis=1), P, rtol=1e-6)
    else:
        assert ((by_axis.min(axis=1) <= P) & (P <= by_axis.max(axis=1))).all()


def test_a_line_has_a_single_axis():
    values = evaluate(*np.random.default_rng(4).normal(size=(2, 3, 16)))
    assert np.isnan(values["axis_error"]) and np.isnan(values["axis_worst_error"])


def test_the_logarithm_of_a_field_that_spans_decades():
    rng = np.random.default_rng(5)
    truth, generated = gaussian(rng, 20, (16, 16), lambda k: k**-1.0), stretched(rng, 20, (16, 16), 3.0)
    plain = evaluate(truth, generated)
    powers = evaluate(10**truth, 10**generated, logarithmic=True, edges=np.array([1e-30, 1e30]))
    assert powers["axis_error"] == pytest.approx(plain["axis_error"])


def test_through_the_stream_and_drawn(tmp_path):
    truth = map_set()
    comparison = compare(
        truth, {"same": lambda rows: truth.read("brightness_temp", rows)}, "brightness_temp", resamples=5
    )
    assert comparison.value("same", "axis_error")[0] == 0
    assert "streaks" in Isotropy.figure(comparison, tmp_path / "isotropy.png")
    assert (tmp_path / "isotropy.png").exists()
