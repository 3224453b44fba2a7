"""Statistics as a loss: what the truth has is uncorrelated, and small differences of texture cost."""

import numpy as np
import pytest

from higan import scaling
from higan.adversarial.spectrum import spectral_crps
from higan.adversarial.statistics import Statistics
from higan.errors import TrainingError
from tests import backends, tiny

SCALED = scaling.Linear(shift=3.0, scale=2.0)


class Maps:
    """Batches of smooth fields, in scaled space, whose amplitudes differ widely."""

    batch_size, share, network = 64, (1, 2), None

    def __init__(self, n=512, slope=-1.5, seed=1, radius=None):
        rng = np.random.default_rng(seed)
        amplitude = np.exp(rng.normal(size=(n, 1, 1)))
        self.rows, self.radius = np.arange(n), radius
        self.values = (amplitude * tiny.smooth(rng, n, (16, 16), slope))[..., None].astype("float32")

    def __call__(self, step):
        assert self.share == (0, 1)  # whole batches, whoever has a part of them
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        batch = {"maps": self.values[part]}
        return batch if self.radius is None else {**batch, "radius": np.full(self.batch_size, self.radius, "float32")}


def test_statistics_of_true_maps_are_uncorrelated():
    maps = Maps()
    found = Statistics.fit(maps, [SCALED], None)
    assert maps.share == (1, 2)
    numbers = backends.host(found(maps.values))
    # Powers in eight bins in both spaces, mean, deviation, skewness, and shares below sixteen levels.
    assert numbers.shape == (512, 2 * 8 + 3 + 16)
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=0.02)
    correlation = np.cov(numbers.T)
    off = correlation - np.diag(np.diag(correlation))
    assert np.abs(off).max() < 0.02
    # In physical space powers are those of scaled space times four: one of two such numbers says nothing new.
    assert ((np.diag(correlation) > 0.5) & (np.diag(correlation) < 1.02)).sum() > 16
    assert np.diag(correlation).max() < 1.02


def test_shapes_are_among_the_statistics_of_stamps():
    y, x = np.indices((16, 16)) - 7.5
    maps = Maps(128, radius=3.0)
    q = np.random.default_rng(2).uniform(0.5, 1, (128, 1, 1))
    maps.values = np.exp(-0.1 * (q * x**2 + y**2 / q))[..., None].astype("float32")
    found = Statistics.fit(maps, [scaling.Linear(lower=0.0)], "hann")
    assert backends.host(found(maps.values, np.full(128, 3.0, "float32"))).shape == (128, 2 * 8 + 3 + 16 + 14)


def test_the_score_sees_texture_that_amplitudes_hide():
    truth, like, other = Maps(), Maps(seed=2), Maps(seed=3)
    found = Statistics.fit(truth, [SCALED], None)

    def score(*maps):
        return float(backends.host(found.score(*(m.values for m in maps))))

    assert score(truth, truth, truth) == 0
    # A slope steeper by a tenth, which changes ln P by a fifth of its scatter at most.
    steep = Maps(seed=2, slope=-1.65), Maps(seed=3, slope=-1.65)
    ours = score(*steep, truth) / score(like, other, truth)
    theirs = [
        float(backends.host(spectral_crps(*(m.values for m in (*pair, truth))))) for pair in (steep, (like, other))
    ]
    assert ours > 1.05
    assert ours - 1 > 3 * (theirs[0] / theirs[1] - 1)


def test_too_few_maps_to_tell_how_statistics_vary():
    with pytest.raises(TrainingError, match="statistics_weight: 1 maps to train on do not tell how 35 statistics vary"):
        Statistics.fit(Maps(1), [SCALED], None)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_score_among_the_losses_of_maps(weight):
    """Weighted, of both realisations of the batch, and only where it is asked for."""
    batches = Maps()
    found = Statistics.fit(batches, [SCALED], None)
    from higan.adversarial.map_losses import MapLosses
    from higan.adversarial.spectrum import alone

    config = backends.step_config("none", outputs=(SCALED,), statistics=found, pixel="crps", statistics_weight=weight)
    maps = batches.values[:8]
    raw = np.concatenate([maps, maps[::-1]])
    total, (parts, _) = MapLosses(config, alone)({}, raw, {"maps": maps}, 0.0, 1.0)
    assert ("statistics" in parts) == bool(weight)
    expected = weight * float(backends.host(found.score(maps, maps[::-1], maps)))
    assert float(backends.host(total)) == pytest.approx(expected, abs=1e-5)
