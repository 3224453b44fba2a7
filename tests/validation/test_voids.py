"""Voids: planted balls, distances against scipy, no overlap, and maps without walls or without voids."""

import numpy as np
import pytest
from scipy import ndimage

from higan.validation.statistic import LEVELS, Setting
from higan.validation.voids import Voids, radius_edges, void_radii, wall_distance
from tests.validation.fields import CELL


def balls(shape, centres_and_radii):
    """Whether a cell of a periodic map is within a radius of one of the centres."""
    inside = np.zeros(shape, dtype=bool)
    for centre, radius in centres_and_radii:
        along = [
            np.minimum(np.abs(np.arange(n) - c), n - np.abs(np.arange(n) - c))
            for c, n in zip(centre, shape, strict=True)
        ]
        inside |= sum(np.ix_(*[distance**2 for distance in along])) <= radius**2
    return inside


def evaluate(truth, generated, window=None, levels=(0.5,)):
    """Numbers and curves of maps (n, *shape) that are each a simulation."""
    family = Voids(Setting(truth.shape[1:], CELL, levels=np.array(levels), window=window))
    sums = family.measure_truth(truth.astype("float32"))
    sums |= family.measure(truth.astype("float32"), generated[:, None].astype("float32"))
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


@pytest.mark.parametrize("shape", [(40,), (24, 32), (12, 16, 20)])
@pytest.mark.parametrize("periodic", [True, False])
def test_distances_against_scipy(shape, periodic):
    walls = np.random.default_rng(1).uniform(size=(3, *shape)) < 0.03
    for found, own in zip(wall_distance(walls, periodic), walls, strict=True):
        wide = np.pad(own, min(shape), mode="wrap") if periodic else np.pad(own, 1, constant_values=True)
        inner = min(shape) if periodic else 1
        expected = ndimage.distance_transform_edt(~wide)[tuple(slice(inner, inner + n) for n in shape)]
        np.testing.assert_allclose(found, np.minimum(expected, min(shape) / 2), rtol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_planted_balls_with_one_across_the_boundary(ndim):
    planted = [((0,) * ndim, 10), ((24,) * ndim, 6), ((12, 36, 36)[:ndim], 4)]
    distance = wall_distance(~balls((48,) * ndim, planted)[None])[0]
    radii = void_radii(distance)
    # The nearest wall is up to a cell beyond the ball; what is left beside the largest discs in them is far smaller.
    np.testing.assert_array_less([10, 6, 4], radii[:3])
    np.testing.assert_allclose(radii[:3], [10, 6, 4], atol=0.5)
    assert distance[(0,) * ndim] == radii[0]
    assert radii[3:].max(initial=0) < 2.5


def test_a_ball_across_the_boundary_is_cut_where_maps_are_not_periodic():
    ball = balls((32, 32), [((0, 16), 8)])
    assert void_radii(wall_distance(~ball[None])[0]).max() == pytest.approx(8, abs=0.5)
    # Left of half a disc of radius 8 are a disc of diameter 8, whose walls are half a cell further out, and its rest.
    cut = void_radii(wall_distance(~ball[None], periodic=False)[0], periodic=False)
    assert cut.max() == pytest.approx(4.5, abs=0.6)


def test_radii_are_picked_largest_first_without_overlap():
    walls = np.random.default_rng(2).uniform(size=(1, 48, 48)) < 0.05
    distance = wall_distance(walls)[0]
    # The same with every pair of cells in view.
    cells = np.argwhere(distance >= 1.5)
    cells = cells[np.argsort(-distance[tuple(cells.T)], kind="stable")]
    picked: list = []
    for cell in cells:
        apart = [np.hypot(*np.minimum(np.abs(cell - c), 48 - np.abs(cell - c))) for c in picked]
        if all(d >= distance[tuple(cell)] + distance[tuple(c)] for d, c in zip(apart, picked, strict=True)):
            picked.append(cell)
    np.testing.assert_array_equal(void_radii(distance), distance[tuple(np.array(picked).T)])


def test_largest_ball_among_random_walls():
    """P(nearest wall farther than R) = exp(-density pi R^2), of every cell alike."""
    density = 0.01
    walls = np.random.default_rng(3).uniform(size=(20, 96, 96)) < density
    distance = wall_distance(walls)
    for radius in (3.01, 6.01, 9.01):
        cells = balls((96, 96), [((0, 0), radius)]).sum()
        assert (distance > radius).mean() == pytest.approx((1 - density) ** cells, rel=0.1)


def test_numbers_and_size_function():
    one = np.where(balls((64, 64), [((10, 10), 6)]), 0.0, 1.0)
    two = np.where(balls((64, 64), [((10, 10), 6), ((40, 62), 6)]), 0.0, 1.0)
    values = evaluate(np.stack([one, one]), np.stack([two, one]))
    assert values["void_error"] == pytest.approx(0.5, abs=0.3)
    same = evaluate(one[None], one[None])
    assert same["void_error"] == 0 and same["void_radius_error"] == 0
    twice = evaluate(one[None], two[None])
    assert twice["void_error"] == pytest.approx(1) and twice["void_radius_error"] == pytest.approx(0)
    # The integral of dn / dlnR over ln R is the number of voids, over the area.
    edges = radius_edges((64, 64))
    total = np.sum(same["void_size_function_truth"] * np.diff(np.log(edges))) * (64 * CELL) ** 2
    assert total == pytest.approx(len(void_radii(wall_distance(one[None] >= 0.5)[0])))
    place = np.flatnonzero(same["void_size_function_truth"])[-1]
    assert edges[place] * CELL < same["void_radius"][place] < edges[place + 1] * CELL
    assert edges[place] <= 6.2 < edges[place + 1]


def test_level_is_that_below_the_brightest_fifth():
    levels = np.arange(1.0, len(LEVELS) + 1)
    place = LEVELS.index(0.8)
    assert Voids(Setting((16, 16), CELL, levels=levels)).level == levels[place]
    assert Voids(Setting((16, 16), CELL, levels=levels[3:])).level == levels[place]
    assert Voids(Setting((16, 16), CELL, levels=levels[-2:])).level == levels[-2]


@pytest.mark.parametrize("shape", [(2,), (32,), (8, 8), (6, 9), (8, 8, 8)])
@pytest.mark.parametrize("window", [None, "hann"])
def test_small_maps_and_those_without_walls_or_voids(shape, window):
    empty, full = np.zeros((2, *shape)), np.ones((2, *shape))
    values = evaluate(empty, empty, window)
    if min(shape) > 3:
        assert values["void_error"] == 0
        # One void of half the shortest side; outside is wall where maps are not periodic.
        if window is None:
            assert np.count_nonzero(values["void_size_function"]) == 1
    assert np.isnan(evaluate(full, full, window)["void_error"])
    assert np.isnan(evaluate(full, empty, window)["void_radius_error"])
    noise = np.random.default_rng(5).normal(size=(2, *shape))
    assert evaluate(noise, noise, window)["void_error"] in (0, pytest.approx(np.nan, nan_ok=True))


def test_without_a_level_nothing_is_defined():
    maps = np.ones((2, 8, 8))
    values = evaluate(maps, maps, levels=())
    assert np.isnan(values["void_error"]) and np.isnan(values["void_size_function"]).all()
