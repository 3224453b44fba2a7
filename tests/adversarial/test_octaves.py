"""The loss on octaves of scale, against scores of the fields it stands for."""

import numpy as np
import pytest

from higan.adversarial.octaves import octave_crps


def noise(seed, n=64, side=16):
    return np.random.default_rng(seed).normal(size=(n, side, side, 1)).astype("float32")


@pytest.mark.parametrize("shape", [(16,), (8, 12), (4, 8, 4)])
def test_octaves_by_hand(shape):
    """Two realisations that are alike miss each octave by its mean absolute difference."""
    rng = np.random.default_rng(3)
    fake, real = rng.normal(size=(2, 3, *shape, 2)).astype("float32")

    def octaves(maps):
        found, sides = [], maps.shape[1:-1]
        while all(n % 2 == 0 for n in sides):
            sides = tuple(n // 2 for n in sides)
            split = [(n, 2) for n in sides]
            blocks = maps.reshape(3, *[x for pair in split for x in pair], 2)
            means = blocks.mean(axis=tuple(range(2, 2 * len(sides) + 1, 2)), keepdims=True)
            found.append((blocks - means).reshape(maps.shape))
            maps = means.reshape(3, *sides, 2)
        return [*found, maps]

    expected = []
    for one, other in zip(octaves(fake.astype(float)), octaves(real.astype(float)), strict=True):
        axes = tuple(range(one.ndim - 1))
        expected.append(np.abs(one - other).mean(axis=axes) / other.std(axis=axes))
    assert float(octave_crps(fake, fake, real)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_every_scale_should_scatter_as_the_truth():
    """Faint small scales under bright large ones."""
    large = 30 * np.random.default_rng(9).normal(size=(64, 4, 4, 1)).repeat(4, 1).repeat(4, 2).astype("float32")

    def score(scatter):
        return float(octave_crps(large + scatter * noise(1), large + scatter * noise(2), large + noise(3)))

    scores = [score(scatter) for scatter in (0.3, 1.0, 3.0)]
    assert scores[1] < 0.95 * scores[0] and scores[1] < 0.8 * scores[2]


def test_scatter_should_be_where_the_truth_has_it():
    """Half of every map is certain: the same scatter spread over all of it is worse."""
    where = np.zeros((1, 16, 16, 1), "float32")
    where[:, :8] = 2**0.5
    real = where * noise(3)

    def score(profile):
        return float(octave_crps(profile * noise(1), profile * noise(2), real))

    assert score(where) < 0.9 * score(np.ones_like(where))


def test_octaves_of_empty_maps():
    empty = np.zeros((2, 8, 8, 1), np.float32)
    assert float(octave_crps(empty, empty, empty)) == 0
    full = noise(1, side=8)
    assert 1 < float(octave_crps(full, full, 1e-5 * noise(2, side=8))) < 3.1
