"""Copies of training maps are found, wherever they were moved to; maps of the same kind are none."""

import numpy as np
import pytest

from higan.adversarial.batches import Symmetry
from higan.scaling import fit
from higan.validation.neighbours import SYMMETRIES, _moves, memorisation, nearest_distances
from tests.validation.fields import gaussian


def fields(rng, n, shape):
    return 5 + gaussian(rng, n, shape, lambda k: k**-1.5).astype("float32")


def moved(rng, maps, symmetries=SYMMETRIES):
    return np.stack([Symmetry.draw(rng, maps.shape[1:], symmetries)(values) for values in maps])


@pytest.mark.parametrize("shape", [(48,), (7, 7), (12, 8), (32, 32), (50, 50), (64, 64), (20, 20, 20)])
def test_a_moved_copy_has_no_distance(shape):
    rng = np.random.default_rng(1)
    training = fields(rng, 12, shape)
    maps = moved(rng, training[[7, 2]])
    distances, nearest = nearest_distances(maps, training)
    assert nearest.tolist() == [7, 2]
    np.testing.assert_allclose(distances, 0, atol=2e-6 * 5)


def test_the_distance_is_the_least_over_all_symmetries():
    """By going through all of them."""
    rng = np.random.default_rng(2)
    training, maps = rng.normal(size=(3, 6, 6)), rng.normal(size=(2, 6, 6))
    distances, nearest = nearest_distances(maps, training)
    for values, distance, row in zip(maps, distances, nearest, strict=True):
        all_of_them = [
            [
                np.sqrt(((np.roll(move(values), (x, y), (0, 1)) - other) ** 2).mean())
                for move in _moves((6, 6), SYMMETRIES)
                for x in range(6)
                for y in range(6)
            ]
            for other in training
        ]
        least = np.min(all_of_them, axis=1)
        assert row == least.argmin() and distance == pytest.approx(least.min(), rel=1e-5)


def test_symmetries_are_those_that_hold():
    counts = {(): 1, ("rotate",): 4, ("reflect",): 4, ("rotate", "reflect"): 8}
    assert all(len(_moves((6, 6), names)) == count for names, count in counts.items())
    assert len(_moves((4, 4, 4), SYMMETRIES)) == 48 and len(_moves((4, 4, 4), ("rotate",))) == 24
    assert len(_moves((4, 6), SYMMETRIES)) == 4
    training = fields(np.random.default_rng(3), 4, (16, 16))
    alone = nearest_distances(training, training, symmetries=())[0]
    np.testing.assert_allclose(alone, 0, atol=1e-5)
    assert nearest_distances(np.roll(training, 3, 1), training, symmetries=())[0].min() > 0.1
    assert nearest_distances(training[:, ::-1], training, symmetries=("roll",))[0].min() > 0.1


def test_small_scales_do_not_hide_a_copy():
    rng = np.random.default_rng(4)
    training = fields(rng, 10, (64, 64))
    signs = np.indices((64, 64)).sum(axis=0) % 2 * 2.0 - 1  # the shortest wave there is
    distances, nearest = nearest_distances(moved(rng, training) + 3 * signs, training)
    assert nearest.tolist() == list(range(10)) and distances.max() < 1e-4


def test_copies_are_caught_and_others_are_not():
    rng = np.random.default_rng(5)
    training, truth, generated = (fields(rng, n, (32, 32)) for n in (60, 50, 50))
    honest = memorisation(generated, truth, training)
    assert honest.p_value > 0.05 and honest.p_closer > 0.05
    assert honest.generated.shape == honest.truth.shape == (50,)
    copies = moved(rng, training[:50])
    copies = copies + 0.2 * copies.std() * rng.normal(size=copies.shape)
    caught = memorisation(copies, truth, training)
    assert caught.p_value < 1e-6 and caught.closer == 50 and caught.p_closer < 1e-6
    assert caught.generated_nearest.tolist() == list(range(50))
    # One in ten: too few to move the distribution, but they are nearer than any true map.
    some = generated.copy()
    some[::10] = copies[::10]
    few = memorisation(some, truth, training)
    assert few.p_value > 1e-3 and few.closer >= 5 and few.p_closer < 0.05
    # Maps far from everything are not held against a generator.
    assert memorisation(generated + 50, truth, training).p_value > 0.99


def test_the_probability_of_being_closer_is_that_of_the_order():
    """Of five maps in random order, the first two are both of the three generated ones in 3 of 10 cases."""
    training = np.zeros((1, 4, 4))
    training[0, 0, 0] = 1.0
    generated, truth = (training[0] + np.array(offset)[:, None, None] for offset in ([0.1, 0.2, 0.9], [0.5, 0.7]))
    found = memorisation(generated, truth, training, scaling=fit("linear", [training]))
    assert found.closer == 2 and found.p_closer == pytest.approx(0.3)


def test_one_map_a_simulation():
    rng = np.random.default_rng(6)
    training, maps = fields(rng, 3, (8, 8)), fields(rng, 6, (8, 8))
    found = memorisation(maps, maps, training, simulation=[4, 4, 4, 9, 9, 1])
    assert found.generated.shape == (3,) and found.closer == 0 and found.p_closer == 1
    np.testing.assert_array_equal(found.generated, found.truth)
    with pytest.raises(ValueError, match="do not go with 5"):
        memorisation(maps, maps, training, simulation=range(5))
    with pytest.raises(ValueError, match="no neighbours"):
        nearest_distances(maps, fields(rng, 3, (6, 6)))
