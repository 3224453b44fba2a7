"""A classifier tells what differs, and cannot tell what does not."""

import numpy as np
import pytest

from higan.emulator import Emulator
from higan.errors import MapSetError
from higan.validation.classifier import classify
from tests import tiny


def judge(change, n_sim=40, observation=None, **options):
    """What a classifier makes of the truth's own law, drawn again and changed."""
    truth = tiny.maps(n_sim=n_sim, per_sim=2)
    density = truth.read("density")
    bias, mean = truth.parameters[truth.simulation].T.reshape(2, -1, 1, 1)
    noise = np.random.default_rng(9).normal(size=density.shape)
    again = np.maximum(mean * (1 + bias * density) + noise, 0).astype("float32")
    tables = {"discriminator": {"widths": [4, 8], "embedding": 8}, "observation": observation or {}}
    recipe = tiny.recipe(**tables).model_dump(mode="json")
    painter = tiny.painter()
    painter.card = painter.card.model_copy(update={"recipe": recipe})
    rows = np.arange(len(truth))
    return classify(Emulator(painter), change(again), truth, rows, learning_rate=2e-3, batch_size=8, **options)


def test_maps_of_the_same_law_cannot_be_told():
    found = judge(lambda maps: maps, epochs=15)
    assert found.low < 0.65 and found.low <= found.accuracy <= found.high and found.maps == 40
    assert found.regression < 0.7


def test_noise_is_told():
    rng = np.random.default_rng(3)
    found = judge(lambda maps: np.maximum(maps + 3 * rng.normal(size=maps.shape).astype("float32"), 0), epochs=40)
    assert found.accuracy > 0.85 and found.low > 0.7 and found.epochs <= 40
    assert found.regression > 0.9


def test_a_regression_tells_what_a_network_has_not_learnt():
    """A faint grain at the smallest scales, after a moment of training."""
    rng = np.random.default_rng(3)
    found = judge(lambda maps: maps + 2 * rng.normal(size=maps.shape).astype("float32"), epochs=1)
    assert found.regression > 0.8 > found.accuracy


def test_too_few_simulations():
    with pytest.raises(MapSetError, match=r"^5 simulations are too few to train a classifier"):
        judge(lambda maps: maps, n_sim=5)


def test_what_the_noise_of_the_sky_hides_cannot_be_told():
    """Generated maps have a noise that shows alone; the telescope's is ten times as large."""
    rng = np.random.default_rng(4)
    noisy = {"epochs": 10, "observation": {"noise": 30.0}}
    found = judge(lambda maps: maps + 3 * rng.normal(size=maps.shape).astype("float32"), **noisy)
    assert found.low < 0.65
