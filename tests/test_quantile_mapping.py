import keras
import numpy as np
import pytest
from keras import ops
from pydantic import ValidationError

from higan.checkpoint import QuantileCard
from higan.quantile_mapping import QuantileMapping
from higan.scaling import Linear
from tests.backends import host


def test_painted_values_get_the_quantiles_of_true_ones():
    """Of other cells than it was fitted on, in the tails too, to the scatter of so many cells."""
    rng = np.random.default_rng(1)
    generated, true = 1.2 * rng.normal(size=(2, 200_000)) - 0.3, rng.standard_gamma(2.0, size=(2, 200_000))
    mapping = QuantileMapping.fit(generated[0].copy(), true[0].copy())
    for level in (1e-3, 0.02, 0.5, 0.9, 0.999):
        found, expected = np.quantile(mapping(generated[1]), level), np.quantile(true[1], level)
        error = np.sqrt(2 * level * (1 - level) / 200_000)
        near = np.quantile(true[1], [max(level - 4 * error, 0), level + 4 * error])
        assert near[0] <= found <= near[1], (level, found, expected)
    moments = [np.mean(np.exp(0.3 * values)) for values in (mapping(generated[1]), true[1])]
    assert moments[0] == pytest.approx(moments[1], rel=5e-3)
    assert np.mean(np.exp(0.3 * generated[1])) < 0.6 * moments[1]


def test_cells_keep_their_order_and_beyond_the_knots_their_distances():
    rng = np.random.default_rng(2)
    mapping = QuantileMapping.fit(rng.normal(size=5000), rng.normal(size=5000) ** 3)
    y = np.sort(rng.normal(size=1000) * 2)
    assert np.all(np.diff(mapping(y)) >= 0)
    top = mapping.generated[-1] + np.array([0.0, 1.0, 7.0])
    np.testing.assert_allclose(np.diff(mapping(top)), [1.0, 6.0], rtol=1e-6)
    bottom = mapping.generated[0] - np.array([0.0, 2.0])
    np.testing.assert_allclose(np.diff(mapping(bottom)), [-2.0], rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_empty_cells(share):
    """Where too few are painted empty, the faintest become so; those that are empty stay empty."""
    rng = np.random.default_rng(3)
    scaling = Linear(shift=2.0, scale=3.0, lower=0.0)
    true, painted = (
        np.maximum(rng.normal(size=100_000) - np.quantile(rng.normal(size=10**5), x), 0) for x in (0.2, share)
    )
    mapping = QuantileMapping.fit(scaling.forward(painted), scaling.forward(true))
    mapped = scaling.inverse(mapping(scaling.forward(painted)))
    assert np.mean(mapped == 0) == pytest.approx(max(share, np.mean(true == 0)), abs=0.01)
    assert np.all(mapped[painted == 0] == 0)
    assert mapped[painted > 0].max() == pytest.approx(true.max(), rel=0.2)


def test_tensors():
    """As arrays, of any shape, and their gradient is the slope."""
    mapping = QuantileMapping([-1.0, 0.5, 2.0], [-2.0, 0.0, 0.5])
    y = np.array([[-3.0, -1.0, -0.2], [0.5, 1.4, 9.0]], np.float32)
    np.testing.assert_allclose(mapping(y), [[-4.0, -2.0, -2 + 0.8 / 1.5 * 2], [0.0, 0.3, 7.5]], rtol=1e-6)
    np.testing.assert_allclose(host(mapping(ops.convert_to_tensor(y), ops)), mapping(y), rtol=1e-6)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant([-3.0, 0.0, 1.0, 5.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(mapping(x, ops))
        np.testing.assert_allclose(tape.gradient(total, x), [1.0, 2 / 1.5, 0.5 / 1.5, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"generated": [0.0, 1.0], "true": [0.0]},
        {"generated": [0.0, 0.0], "true": [0.0, 1.0]},
        {"generated": [1.0, 0.0], "true": [0.0, 1.0]},
        {"generated": [0.0, 1.0], "true": [1.0, 0.0]},
        {"generated": [0.0, 1e-40], "true": [0.0, 3e38]},
        {"generated": [0.0, float("nan")], "true": [0.0, 1.0]},
        {"generated": [], "true": []},
    ],
)
def test_what_a_card_may_not_hold(values):
    with pytest.raises(ValidationError):
        QuantileCard(**values)
