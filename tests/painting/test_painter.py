import numpy as np
import pytest

from higan.mapset import Parameter
from higan.networks.config import GeneratorConfig
from higan.painting.painter import Painter, receptive_radius, weight_names
from higan.photometry import flux
from tests import backends, tiny


def test_receptive_radius_by_hand():
    """One level: stem, two convolutions a block, head, one cell each."""
    assert [receptive_radius(GeneratorConfig(widths=[4], bottom_blocks=n)) for n in (1, 2, 5)] == [4, 6, 12]


def test_loading_gives_the_weights_that_were_saved(checkpoint):
    painter = Painter.load(checkpoint)
    expected = tiny.painter(seed=1)
    assert weight_names(painter.model) == weight_names(expected.model)
    assert len(set(weight_names(painter.model))) == len(painter.model.variables)
    for found, value in zip(painter.model.variables, expected.model.variables, strict=True):
        np.testing.assert_array_equal(backends.host(found), backends.host(value))


def test_scalings_are_around_the_network():
    """paint = inverse(G(forward(fields), parameters in [-1, 1], noise))."""
    painter = tiny.painter()
    fields = 0.3 * np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    theta = np.array([[1.0, 20.0], [2.5, 12.5]], "float32")
    noise = painter.noise((8, 8), seed=1, rows=[0, 1])
    scaled = np.array([[-1.0, 1.0], [0.5, -0.5]], "float32")
    raw = backends.host(painter.model([(fields - 0.01) / 0.3, scaled, *noise]))
    expected = np.maximum(raw * 8 + 15, 0)
    # Float32 through some ten layers.
    np.testing.assert_allclose(backends.host(painter.paint(fields, theta, noise)), expected, atol=2e-4)
    np.testing.assert_allclose(painter.paint_host(fields, theta, noise), expected, atol=2e-4)


def test_physical_bounds_hold():
    painter = tiny.painter()
    fields = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    painter.outputs = [type(painter.outputs[0])(shift=0.0, scale=8.0, lower=0.0, upper=3.0)]
    out = painter.paint_host(fields, np.array([[2.0, 15.0]]), painter.noise((8, 8), seed=1, rows=[0]))
    assert out.min() == 0 and out.max() == 3 and ((out > 0) & (out < 3)).any()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(["density", "velocity"], ["brightness_temp"]), (["density"], ["brightness_temp", "xHI"])],
)
def test_several_fields(inputs, outputs):
    painter = tiny.painter(inputs=inputs, outputs=outputs)
    fields = np.random.default_rng(0).normal(size=(2, 8, 8, len(inputs))).astype("float32")
    theta, noise = np.array([[2.0, 15.0]] * 2), painter.noise((8, 8), seed=1, rows=[0, 1])
    painted = painter.paint_host(fields, theta, noise)
    assert painted.shape == (2, 8, 8, len(outputs))
    np.testing.assert_allclose(backends.host(painter.paint(fields, theta, noise)), painted, rtol=1e-3, atol=1e-3)
    # Each channel has its own scaling.
    swapped = painter.paint_host(fields[..., ::-1], theta, noise)
    assert len(inputs) == 1 or np.abs(swapped - painted).max() > 0.01


def test_painted_maps_have_the_flux_of_their_magnitude():
    painter = tiny.painter()
    painter.card = painter.card.model_copy(update={"magnitude": "T_MEAN"})
    theta = np.array([[1.5, 18.0], [2.0, 21.0]], "float32")
    painter.outputs = [type(painter.outputs[0])(shift=0.5, scale=0.2, lower=0.0)]
    fields = 0.3 * np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    noise = painter.noise((8, 8), seed=1, rows=[0, 1])
    painted = painter.paint_host(fields, theta, noise)
    np.testing.assert_allclose(painted.sum(axis=(1, 2, 3)), flux(theta[:, 1]), rtol=1e-5)
    np.testing.assert_allclose(backends.host(painter.paint(fields, theta, noise)), painted, rtol=1e-3, atol=1e-3)
    painter.outputs = [type(painter.outputs[0])(shift=-9.0, scale=0.2, lower=0.0)]
    assert not painter.paint_host(fields, theta, noise).any()


def test_no_parameters_and_no_noise():
    painter = tiny.painter(parameters=[], noise_channels=0)
    assert painter.noise((8, 8), seed=1, rows=[0]) == []
    out = painter.paint_host(np.zeros((1, 8, 8, 1), "float32"), np.empty((1, 0)), [])
    assert out.shape == (1, 8, 8, 1)
    one = tiny.painter(parameters=[Parameter("A", "", 0.0, 1.0)])
    assert len(one.model.inputs) == 4


def test_noise_of_each_level():
    painter = tiny.painter(widths=[4, 6, 8])
    whole = painter.noise((16, 8), seed=1, rows=[3])
    assert [x.shape for x in whole] == [(1, 16, 8, 2), (1, 8, 4, 2), (1, 4, 2, 2)]
    tile = painter.noise((8, 8), seed=1, rows=[3], origin=(12, 4), period=(16, 8))
    for level in range(3):
        rows, columns = (12 >> level, 4 >> level)
        expected = np.roll(whole[level], (-rows, -columns), axis=(1, 2))[:, : 8 >> level]
        np.testing.assert_array_equal(tile[level], expected)
