"""Responses to parameters of a law that is known, and shuffled parameters."""

import numpy as np
import pytest

from higan.errors import MapSetError
from higan.mapset import Field, Parameter
from higan.validation.response import fiducial_row, responses, shuffled_parameters
from tests.validation.fields import gaussian, map_set

ROWS = np.array([[2.0, 1.0], [1.5, 1.0], [2.5, 1.0], [2.0, 0.5], [2.0, 1.5]])
PARAMETERS = [Parameter("A", "", 1, 3), Parameter("B", "mK", 0, 2)]


def law(maps, theta):
    """T = A^2 x: ln P responds to A by 4 / A and not to B."""
    return theta[:, 0][:, None, None] ** 2 * maps


@pytest.fixture(scope="module")
def one_at_a_time():
    density = gaussian(np.random.default_rng(1), 6, (16, 16), lambda k: k**-1.0).astype("float32")
    simulation = np.repeat(np.arange(5), 6)
    density = np.tile(density, (5, 1, 1))
    noise = 1 + 0.05 * np.random.default_rng(2).normal(size=len(simulation))
    temperature = noise[:, None, None] * law(density, ROWS[simulation])
    return map_set(
        fields={"density": Field(density, ""), "brightness_temp": Field(temperature.astype("float32"), "mK")},
        parameters=ROWS,
        parameter_info=PARAMETERS,
        simulation=simulation,
        extra={},
    )


def test_responses_of_a_law(one_at_a_time):
    found = responses(one_at_a_time, "density", "brightness_temp", law)
    assert list(found) == ["A", "B"]
    a = found["A"]
    np.testing.assert_allclose(a.theta, [1.75, 2.25])
    exact = np.log(np.array([2 / 1.5, 2.5 / 2]) ** 4) / 0.5
    np.testing.assert_allclose(a.model, np.repeat(exact[:, None], len(a.k), axis=1), rtol=1e-5)
    assert not a.input_moves
    assert a.significant.all() and a.disagreement() < 0.2
    assert (np.abs(a.truth - a.model) < 4.5 * a.truth_error).all()
    np.testing.assert_allclose(found["B"].model, 0, atol=1e-6)


def test_a_generator_that_ignores_its_parameters_disagrees(one_at_a_time):
    found = responses(one_at_a_time, "density", "brightness_temp", lambda maps, theta: 4 * maps)
    assert found["A"].disagreement() == pytest.approx(1.0, abs=0.01)


def test_input_that_moves_is_told(one_at_a_time):
    density = one_at_a_time.read("density")
    density[one_at_a_time.simulation == 4] *= 1.1
    fields = {**one_at_a_time.fields, "density": Field(density, "")}
    found = responses(one_at_a_time._replace(fields=fields), "density", "brightness_temp", law)
    assert found["B"].input_moves and not found["A"].input_moves


def test_other_sets_are_refused():
    with pytest.raises(MapSetError, match="one parameter at a time"):
        fiducial_row(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(MapSetError, match="one parameter at a time"):
        fiducial_row(np.array([[1.0, 2.0]]))


def test_shuffled_parameters_are_noticed():
    maps = map_set()
    result = shuffled_parameters(maps, "density", "brightness_temp", lambda x, t: 10 + t[:, :1, None] * x, seed=1)
    own, shuffled = result["own"], result["shuffled"]
    assert own["median_abs_R_s_minus_1"] < 0.1 < 0.3 < shuffled["median_abs_R_s_minus_1"]
    assert own["r_large_scales"] > shuffled["r_large_scales"]
    ignorant = shuffled_parameters(maps, "density", "brightness_temp", lambda x, t: x, seed=1)
    assert ignorant["own"] == ignorant["shuffled"]
    with pytest.raises(MapSetError, match="nothing to shuffle"):
        shuffled_parameters(map_set(n_sim=1, extra={}), "density", "brightness_temp", lambda x, t: x)
