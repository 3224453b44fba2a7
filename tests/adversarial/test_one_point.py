"""The loss on one-point distributions, against scores of the distributions it stands for."""

import numpy as np
import pytest

from higan.adversarial.one_point import one_point_crps


def maps(seed, n=64):
    return np.random.default_rng(seed).normal(size=(n, 32, 32, 1)).astype("float32")


def test_a_shift_costs_its_size_in_standard_deviations():
    """Both realisations alike: the score is the Wasserstein distance."""
    true = maps(1)
    for shift in (-0.6, 0.2, 0.5):
        assert float(one_point_crps(true + shift, true + shift, true)) == pytest.approx(abs(shift), rel=0.02)


def test_levels_common_to_a_map_should_scatter_as_the_truth():
    """Each map has a level of its own, which nothing tells: the score is best where realisations differ as much."""
    levels = np.random.default_rng(4).normal(size=(3, 64, 1, 1, 1)).astype("float32")
    true = 0.5 * maps(1) + 0.3 * levels[0]

    def score(scatter):
        return float(one_point_crps(*(0.5 * maps(seed) + scatter * levels[i] for seed, i in ((2, 1), (3, 2))), true))

    scores = [score(scatter) for scatter in (0.0, 0.3, 0.9)]
    assert scores[1] < 0.85 * scores[0] and scores[1] < 0.85 * scores[2]
