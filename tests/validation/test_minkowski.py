"""Minkowski functionals of bodies that are known, of smooth Gaussian fields, and the Euler number against labels."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from higan.validation.minkowski import Minkowski, minkowski
from higan.validation.statistic import Setting
from tests.validation.fields import gaussian


def functionals(body, cell=1.0, periodic=True):
    """Of a body, not densities: V_j in length^(ndim - j)."""
    densities = minkowski(np.asarray(body, dtype="float32")[None], cell, [0.5], periodic)
    return densities[0, :, 0] * np.size(body) * cell ** np.ndim(body)


def test_pieces_of_a_line():
    line = np.zeros(16)
    line[[0, 1, 5, 9, 10, 15]] = 1  # the first and the last touch
    np.testing.assert_allclose(functionals(line, 2.0), [12, 3])


def test_square():
    square = np.zeros((12, 12))
    square[3:8, 4:9] = 1
    np.testing.assert_allclose(functionals(square, 2.0), [100, np.pi / 4 * 40 / 4, 1])
    square[5, 6] = 0  # a hole
    np.testing.assert_allclose(functionals(square, 2.0), [96, np.pi / 4 * 48 / 4, 0], atol=1e-9)
    square[1, 2] = square[2, 3] = 1  # touching at corners: one piece with it
    assert functionals(square)[2] == pytest.approx(0)


def test_cube():
    cube = np.zeros((10, 10, 10))
    cube[3:7, 3:7, 3:7] = 1
    # A surface along cells counts 2 / 3; a cube's mean curvature over 3 pi is its side, and counts 2 / 3, too.
    np.testing.assert_allclose(functionals(cube, 0.5), [8, 2 / 3 * 24 / 6, 2 / 3 * 2, 1], atol=1e-9)
    cube[4:6, 4:6, 4:6] = 0  # a cavity
    assert functionals(cube)[3] == pytest.approx(2)
    cube[4, 4, :] = 0  # tunnelled from both sides
    assert functionals(cube)[3] == pytest.approx(0)


@pytest.mark.parametrize(("axes", "ndim"), [((0,), 2), ((0,), 3), ((0, 1), 3)])
def test_bars_and_slabs_around_the_box(axes, ndim):
    """A closed band, ring and torus have Euler characteristic 0."""
    body = np.zeros((8,) * ndim)
    body[tuple(slice(None) if axis in axes else slice(2, 5) for axis in range(ndim))] = 1
    assert functionals(body)[-1] == pytest.approx(0)


def test_everything_and_nothing():
    for ndim in (1, 2, 3):
        for periodic in (True, False):
            full = functionals(np.ones((6,) * ndim), periodic=periodic)
            np.testing.assert_allclose(full, [6**ndim] + [0] * ndim, atol=1e-9)
            np.testing.assert_array_equal(functionals(np.zeros((6,) * ndim), periodic=periodic), 0)


def test_balls():
    """Disc and ball have the functionals of continuous bodies, whatever the direction: within 5 % at a radius of 12."""
    x, radius = np.arange(40) - 19.7, 12.0
    disc = np.hypot(*np.meshgrid(x, x)) < radius
    np.testing.assert_allclose(functionals(disc), [np.pi * radius**2, np.pi * radius / 2, 1], rtol=0.05)
    ball = np.sqrt(sum(axis**2 for axis in np.meshgrid(x, x, x))) < radius
    expected = [4 / 3 * np.pi * radius**3, 4 * np.pi * radius**2 / 6, 4 * radius / 3, 1]
    np.testing.assert_allclose(functionals(ball), expected, rtol=0.05)


@pytest.mark.parametrize(
    ("shape", "maps", "scale"), [((65536,), 10, 5.0), ((256, 256), 60, 5.0), ((64, 64, 64), 30, 4.0)]
)
def test_smooth_gaussian_fields(shape, maps, scale):
    """Tomita 1986, Prog. Theor. Phys. 76, 952; as of Schmalzing & Buchert 1997: within 6 % of the largest of each.

    P = exp(-k^2 scale^2) has correlations exp(-r^2 / (4 scale^2)): some 15 cells of a length. Noise takes up to 3 %.
    """
    ndim = len(shape)
    fields = gaussian(np.random.default_rng(1), maps, shape, lambda k: np.exp(-((k * scale) ** 2)), cell=1.0)
    fields /= fields.std()
    slope = np.mean([np.square(np.roll(fields, -1, axis) - fields).mean() for axis in range(1, ndim + 1)])
    scaled = np.sqrt(slope / (2 * np.pi))
    nu = np.linspace(-2.5, 2.5, 11)
    peak = np.exp(-(nu**2) / 2) / np.sqrt(2 * np.pi)
    surface = {1: 1.0, 2: np.pi / 4, 3: 2 / 3}[ndim]
    expected = [
        scipy.special.erfc(nu / np.sqrt(2)) / 2,
        surface * scaled * peak,
        (1.0 if ndim == 2 else surface) * scaled**2 * nu * peak,
        scaled**3 * (nu**2 - 1) * peak,
    ]
    V = minkowski(fields.astype("float32"), 1.0, nu).mean(axis=0)
    for found, law in zip(V, expected[: ndim + 1], strict=True):
        np.testing.assert_allclose(found, law, atol=0.06 * np.abs(law).max())


@pytest.mark.parametrize(("shape", "part"), [((12,), 5), ((9, 12), 4), ((5, 6, 4), 3)])
def test_parts_of_a_map_have_its_densities(shape, part):
    """The mean over all places where a part may lie, exactly: what is left out on the rim makes no bias."""
    field = np.random.default_rng(2).normal(size=shape)
    parts = [
        np.roll(field, shift, axis=tuple(range(field.ndim)))[(slice(part),) * field.ndim]
        for shift in np.ndindex(*shape)
    ]
    thresholds = [-1.0, 0.0, 0.5]
    found = minkowski(np.stack(parts), 1.5, thresholds, periodic=False).mean(axis=0)
    np.testing.assert_allclose(found, minkowski(field[None], 1.5, thresholds)[0], atol=1e-12)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0])
def test_euler_number_of_labelled_pieces_and_holes(threshold):
    field = np.pad(np.random.default_rng(3).normal(size=(60, 50)), 1, constant_values=-9)
    inside = scipy.ndimage.gaussian_filter(field, 0.8) > 0.3 * threshold
    inside[[0, -1]] = inside[:, [0, -1]] = False
    _, pieces = scipy.ndimage.label(inside, np.ones((3, 3)))
    _, outside = scipy.ndimage.label(~inside)
    assert pieces + outside > 10
    assert functionals(inside)[2] == pytest.approx(pieces - (outside - 1))


@pytest.mark.parametrize("shape", [(20,), (9, 12), (5, 6, 7)])
def test_euler_number_element_by_element(shape):
    """Corners less edges plus faces less cells, of closed cells laid into a set one after another."""
    inside = np.random.default_rng(4).uniform(size=shape) < 0.3
    steps = list(itertools.product((-1, 0, 1), repeat=len(shape)))
    # In half cells: centres are odd, and what has j odd coordinates has j dimensions.
    elements = {
        tuple(np.add(np.multiply(cell, 2) + 1, step) % np.multiply(shape, 2))
        for cell in np.argwhere(inside)
        for step in steps
    }
    euler = sum((-1) ** (np.array(element) % 2).sum() for element in elements)
    assert functionals(inside)[-1] == pytest.approx(euler)


def test_as_many_thresholds_as_one_likes():
    field = np.random.default_rng(5).uniform(size=(2, 32, 32))
    thresholds = np.linspace(0, 1, 401)
    V = minkowski(field, 1.0, thresholds)
    np.testing.assert_allclose(V[1, 0], [(field[1] >= threshold).mean() for threshold in thresholds])
    np.testing.assert_allclose(V[..., 7:8], minkowski(field, 1.0, thresholds[7:8]))
    assert minkowski(field, 1.0, []).shape == (2, 3, 0)


def evaluate(truth, generated, setting):
    family = Minkowski(setting)
    sums = family.measure_truth(truth) | family.measure(truth, generated)
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def test_error():
    rng = np.random.default_rng(6)
    truth = rng.normal(size=(5, 16, 16)).astype("float32")
    setting = Setting((16, 16), 2.0, levels=np.array([-0.5, 0.0, 0.5]))
    values = evaluate(truth, truth[:, None], setting)
    assert values["minkowski_error"] == 0
    assert values.keys() == {**Minkowski.numbers, **Minkowski.curves}.keys()
    values = evaluate(truth, np.stack([truth, truth - 100], axis=1), setting)
    V = values["V_truth"]
    np.testing.assert_allclose(values["V"], V / 2)  # the second realisation has nothing
    assert values["minkowski_error"] == pytest.approx((np.abs(V) / np.abs(V).max(axis=1, keepdims=True)).mean() / 2)


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("levels", [[], [0.5], [0.5, 1.0]])
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 2), (4, 4, 4)])
def test_flat_truth_has_no_error(shape, levels, window):
    truth = np.zeros((2, *shape), dtype="float32")
    values = evaluate(truth, truth[:, None] + 1, Setting(shape, 1.0, levels=np.array(levels), window=window))
    assert np.isnan(values["minkowski_error"])
    assert values["V"].shape == (len(shape) + 1, len(levels))
