"""The loss on one-point distributions, against scores of the distributions it stands for."""

import numpy as np
import pytest
from keras import ops
from scipy.special import expit

from higan.adversarial.one_point import FAR_LEVELS, LEVELS, REACH, SPACING, one_point_crps, shares, tail_crps
from higan.adversarial.step import load_backend
from tests import backends


def maps(seed, n=64):
    return np.random.default_rng(seed).normal(size=(n, 32, 32, 1)).astype("float32")


def test_a_shift_costs_its_size_in_standard_deviations():
    """Both realisations alike: the score is the Wasserstein distance."""
    true = maps(1)
    for shift in (-0.6, 0.2, 0.5):
        assert float(one_point_crps(true + shift, true + shift, true)) == pytest.approx(abs(shift), rel=0.02)


@pytest.mark.parametrize("above", [False, True])
def test_shares_are_means_of_smoothed_steps(above):
    """Cells counted in bins, against the mean over cells; those out of reach are as good as at its end."""
    values = 3 * np.random.default_rng(6).standard_t(3, size=(2, 15, 16, 3)).astype("float32")
    assert np.abs(values).max() > REACH + 2
    levels = np.concatenate([-FAR_LEVELS, LEVELS, FAR_LEVELS])
    steps = expit((-1 if above else 1) * (levels - values[..., None]) * 2 / SPACING)
    np.testing.assert_allclose(shares(values, levels, above=above), steps.mean(axis=(1, 2)), rtol=2e-3, atol=1e-6)


def test_cells_have_the_gradient_of_smoothed_steps():
    """A logistic function's, times its slope; none of cells out of reach."""
    values = 3 * np.random.default_rng(7).normal(size=(1, 200, 1)).astype("float32")
    values[0, 0] = 2 * REACH
    total = lambda cells: ops.sum(LEVELS * shares(cells, LEVELS))  # noqa: E731
    gradient = load_backend().input_gradient(total, ops.convert_to_tensor(values))
    step = expit((LEVELS - values) * 2 / SPACING)
    expected = (-2 / SPACING * step * (1 - step)) @ LEVELS / 200
    found = backends.host(gradient)[..., 0]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert found[0, 0] == 0


def test_levels_common_to_a_map_should_scatter_as_the_truth():
    """Each map has a level of its own, which nothing tells: the score is best where realisations differ as much."""
    levels = np.random.default_rng(4).normal(size=(3, 64, 1, 1, 1)).astype("float32")
    true = 0.5 * maps(1) + 0.3 * levels[0]

    def score(scatter):
        return float(one_point_crps(*(0.5 * maps(seed) + scatter * levels[i] for seed, i in ((2, 1), (3, 2))), true))

    scores = [score(scatter) for scatter in (0.0, 0.3, 0.9)]
    assert scores[1] < 0.85 * scores[0] and scores[1] < 0.85 * scores[2]


def test_tails_cost_the_logarithm_of_how_many_cells_there_are():
    """A hundred cells of a map of a thousand stand at a height of 6; a quarter of them in both realisations."""
    true = np.zeros((3, 1000, 1), np.float32)
    true[:, :100] = 6.0
    fewer = np.where(np.arange(1000)[:, None] < 25, true, 0.0).astype("float32")
    lost = np.log(101 / 26)
    # Levels from 1 to 5.5 count them all, the level at 6 half of them, smoothed steps beyond it a few.
    expected = 0.5 * (10 * lost + np.log(51 / 13.5))
    assert float(tail_crps(fewer, fewer, true)) == pytest.approx(expected, rel=0.1)
    assert float(tail_crps(-fewer, -fewer, -true)) == pytest.approx(expected, rel=0.1)


def test_numbers_in_the_tails_should_scatter_as_the_truth():
    """The bright cells of a map are many or few, which nothing tells: best where realisations differ as much."""
    rng = np.random.default_rng(5)

    def drawn(scatter):
        counts = 20 * np.exp(scatter * rng.normal(size=(256, 1, 1)))
        return (5.0 * (np.arange(400)[:, None] < counts)).astype("float32")

    true = drawn(0.5)
    scores = [float(tail_crps(drawn(scatter), drawn(scatter), true)) for scatter in (0.0, 0.5, 1.2)]
    assert scores[1] < 0.95 * scores[0] and scores[1] < 0.95 * scores[2]
