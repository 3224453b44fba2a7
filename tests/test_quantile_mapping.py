import keras
import numpy as np
import pytest
from keras import ops
from pydantic import ValidationError

from higan.adversarial.step import load_backend
from higan.checkpoint import Card, QuantileCard
from higan.quantile_mapping import QuantileMapping
from higan.scaling import Linear
from tests import tiny
from tests.backends import host

TRAINING = ("tensorflow", "jax")  # backends that take gradients for it


def fit(generated, true):
    """Of one simulation without parameters."""
    return QuantileMapping.fit([generated], [true], np.zeros((1, 0), np.float32))


def mapped(mapping, y, *parameters):
    """The values (n,) of one map."""
    return mapping(np.asarray(y)[None], np.array([parameters], np.float32))[0]


def test_painted_values_get_the_quantiles_of_true_ones():
    """Of other cells than it was fitted on, in the tails too, to the scatter of so many cells."""
    rng = np.random.default_rng(1)
    generated, true = 1.2 * rng.normal(size=(2, 200_000)) - 0.3, rng.standard_gamma(2.0, size=(2, 200_000))
    mapping = fit(generated[0].copy(), true[0].copy())
    for level in (1e-3, 0.02, 0.5, 0.9, 0.999):
        found, expected = np.quantile(mapped(mapping, generated[1]), level), np.quantile(true[1], level)
        error = np.sqrt(2 * level * (1 - level) / 200_000)
        near = np.quantile(true[1], [max(level - 4 * error, 0), level + 4 * error])
        assert near[0] <= found <= near[1], (level, found, expected)
    moments = [np.mean(np.exp(0.3 * values)) for values in (mapped(mapping, generated[1]), true[1])]
    assert moments[0] == pytest.approx(moments[1], rel=5e-3)
    assert np.mean(np.exp(0.3 * generated[1])) < 0.6 * moments[1]


def test_cells_keep_their_order_and_beyond_the_knots_their_distances():
    rng = np.random.default_rng(2)
    mapping = fit(rng.normal(size=5000), rng.normal(size=5000) ** 3)
    y = np.sort(rng.normal(size=1000) * 2)
    assert np.all(np.diff(mapped(mapping, y)) >= 0)
    top = mapping.generated[-1][0] + np.array([0.0, 1.0, 7.0])
    np.testing.assert_allclose(np.diff(mapped(mapping, top)), [1.0, 6.0], rtol=1e-6)
    bottom = mapping.generated[0][0] - np.array([0.0, 2.0])
    np.testing.assert_allclose(np.diff(mapped(mapping, bottom)), [-2.0], rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_empty_cells(share):
    """Where too few are painted empty, the faintest become so; those that are empty stay empty."""
    rng = np.random.default_rng(3)
    scaling = Linear(shift=2.0, scale=3.0, lower=0.0)
    true, painted = (
        np.maximum(rng.normal(size=100_000) - np.quantile(rng.normal(size=10**5), x), 0) for x in (0.2, share)
    )
    mapping = fit(scaling.forward(painted), scaling.forward(true))
    after = scaling.inverse(mapped(mapping, scaling.forward(painted)))
    assert np.mean(after == 0) == pytest.approx(max(share, np.mean(true == 0)), abs=0.01)
    assert np.all(after[painted == 0] == 0)
    assert after[painted > 0].max() == pytest.approx(true.max(), rel=0.2)


def widening(rng, parameters, n=20_000):
    """Painted cells, and true ones whose mean and scatter go with two parameters, of each simulation."""
    true = [(1 + 0.3 * a + 0.2 * a * b) * rng.normal(size=n) + b for a, b in parameters]
    return [rng.normal(size=n) for _ in parameters], true


def test_quantiles_go_with_the_parameters():
    """Of parameters it was not fitted on, far into the tails; and on both sides where the painted ones do, too."""
    rng = np.random.default_rng(4)
    parameters = rng.uniform(-1, 1, (60, 2))
    mapping = QuantileMapping.fit(*widening(rng, parameters), parameters)
    narrowing = QuantileMapping.fit(*widening(rng, parameters)[::-1], parameters)
    for a, b in ((0.0, 0.0), (0.8, 0.5), (-0.7, 0.9)):
        (painted,), (true,) = widening(rng, [(a, b)], 400_000)
        # A quantile of one simulation scatters by 0.25 at 10⁻⁴, 0.03 at 10⁻²; ten times as many as terms tell it.
        for level, error in ((1e-4, 0.08), (0.01, 0.01), (0.5, 0.005), (0.9, 0.005), (0.9999, 0.08)):
            found, expected = np.quantile(mapped(mapping, painted, a, b), level), np.quantile(true, level)
            assert found == pytest.approx(expected, abs=4 * error)
        assert mapped(mapping, painted, a, b).std() == pytest.approx(true.std(), rel=0.02)
        assert mapped(narrowing, true, a, b).std() == pytest.approx(1, rel=0.02)
    # Beyond what it was fitted on, the ends of the range.
    np.testing.assert_array_equal(mapped(mapping, painted, 1.7, -3.0), mapped(mapping, painted, 1.0, -1.0))


@pytest.mark.parametrize(("simulations", "terms"), [(14, 1), (15, 3), (29, 3), (30, 6)])
def test_five_simulations_a_term(simulations, terms):
    rng = np.random.default_rng(5)
    parameters = rng.uniform(-1, 1, (simulations, 2))
    mapping = QuantileMapping.fit(*widening(rng, parameters, 500), parameters)
    assert {len(row) for row in mapping.true + mapping.generated} == {terms}


def test_shares_on_a_bound_are_mapped_alike_for_all_parameters():
    rng = np.random.default_rng(6)
    parameters = rng.uniform(-1, 1, (60, 2))
    generated, true = widening(rng, parameters, 500)
    mapping = QuantileMapping.fit(generated, [np.maximum(cells, 0.0) for cells in true], parameters)
    assert {len(row) for row in mapping.true} == {1}


def test_simulations_of_more_maps_than_others():
    rng = np.random.default_rng(7)
    parameters = rng.uniform(-1, 1, (60, 2))
    generated, true = widening(rng, parameters)
    half = [[cells[: 10_000 if i % 2 else None] for i, cells in enumerate(maps)] for maps in (generated, true)]
    mapping = QuantileMapping.fit(*half, parameters)
    assert mapped(mapping, rng.normal(size=100_000), 0.8, 0.5).std() == pytest.approx(1.32, rel=0.02)


def test_a_cell_that_is_no_number():
    """The logarithm of an empty one: quantiles are the same for all parameters, and finite."""
    rng = np.random.default_rng(9)
    parameters = rng.uniform(-1, 1, (60, 2))
    generated, true = widening(rng, parameters, 500)
    true[3][7] = -np.inf
    mapping = QuantileMapping.fit(generated, true, parameters)
    assert {len(row) for row in mapping.true} == {1} and np.isfinite(mapping.true).all()


CROSSING = QuantileMapping([[0.0, 0.0], [1.0, 2.0], [2.0, -3.0]], [[0.0, 1.0], [1.0, -2.0], [5.0, 0.0]])


def test_polynomials_that_cross():
    """Cells keep their order all the same."""
    mapping = CROSSING
    y = np.linspace(-3, 8, 1000)
    for theta in (-1.0, -0.5, 0.0, 0.3, 1.0):
        after = mapped(mapping, y, theta)
        assert np.all(np.diff(after) >= 0) and np.all(np.isfinite(after))


def test_tensors():
    """As arrays, of any shape, and their gradient is the slope."""
    mapping = QuantileMapping([[-1.0], [0.5], [2.0]], [[-2.0], [0.0], [0.5]])
    y, none = np.array([[-3.0, -1.0, -0.2], [0.5, 1.4, 9.0]], np.float32), np.zeros((2, 0), np.float32)
    np.testing.assert_allclose(mapping(y, none), [[-4.0, -2.0, -2 + 0.8 / 1.5 * 2], [0.0, 0.3, 7.5]], rtol=1e-6)
    np.testing.assert_allclose(host(mapping(*map(ops.convert_to_tensor, (y, none)), ops)), mapping(y, none), rtol=1e-6)
    rng = np.random.default_rng(8)
    parameters = rng.uniform(-1, 1, (60, 2)).astype(np.float32)
    quadratic = QuantileMapping.fit(*widening(rng, parameters, 500), parameters)
    y, theta = rng.normal(size=(3, 4, 5, 1)).astype(np.float32), parameters[:3]
    found = quadratic(*map(ops.convert_to_tensor, (y, theta)), ops)
    np.testing.assert_allclose(host(found), quadratic(y, theta), rtol=1e-4, atol=1e-5)
    if keras.backend.backend() in TRAINING:
        x = ops.convert_to_tensor([[-3.0, 0.0, 1.0, 5.0]])
        slopes = load_backend().input_gradient(lambda y: mapping(y, ops.zeros((1, 0)), ops), x)
        np.testing.assert_allclose(host(slopes)[0], [1.0, 2 / 1.5, 0.5 / 1.5, 1.0], rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() not in TRAINING, reason="its gradients are taken otherwise")
@pytest.mark.parametrize("theta", [-0.6, 0.1, 0.3, 0.9])
def test_gradients_by_parameters(theta):
    """Those of differences, where polynomials cross, too."""
    y = np.linspace(-2, 7, 40, dtype=np.float32)[None]

    def sines(parameters):
        return ops.sin(CROSSING(ops.convert_to_tensor(y), parameters, ops))

    def of(value):
        return np.sin(CROSSING(y.astype(float), np.array([[value]]))).sum()

    found = host(load_backend().input_gradient(sines, ops.convert_to_tensor([[theta]], "float32")))
    assert found[0, 0] == pytest.approx((of(theta + 1e-3) - of(theta - 1e-3)) / 2e-3, rel=0.02, abs=0.02)


@pytest.mark.parametrize(
    "values",
    [
        {"generated": [[0.0], [1.0]], "true": [[0.0]]},
        {"generated": [[0.0], [1.0, 2.0]], "true": [[0.0], [1.0]]},
        {"generated": [[0.0, 1.0]], "true": [[0.0]]},
        {"generated": [[0.0], [3e38]], "true": [[0.0], [1.0]]},
        {"generated": [[0.0], [float("nan")]], "true": [[0.0], [1.0]]},
        {"generated": [], "true": []},
        {"generated": [[]], "true": [[]]},
    ],
)
def test_what_a_card_may_not_hold(values):
    with pytest.raises(ValidationError):
        QuantileCard(**values)


@pytest.mark.parametrize(("terms", "right"), [(1, True), (2, False), (3, True), (6, True), (7, False)])
def test_terms_are_those_of_the_parameters(terms, right):
    """A constant, a linear or a quadratic function of two parameters."""
    card = tiny.card().model_dump(mode="json")
    card["outputs"][0]["quantile_mapping"] = {"generated": [[0.0] * terms], "true": [[1.0] * terms]}
    if right:
        Card.model_validate(card)
    else:
        with pytest.raises(ValidationError, match=rf"polynomials of {terms} terms, which 2 parameters have in no"):
            Card.model_validate(card)
