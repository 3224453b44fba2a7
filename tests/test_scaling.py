import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higan import scaling
from higan.errors import RecipeError

EXAMPLES = {
    "linear": scaling.Linear(shift=3.0, scale=2.5),
    "log": scaling.Log(shift=1.5, scale=0.7, floor=0.1),
    "asinh": scaling.Asinh(shift=-0.5, scale=1.3, softening=4.0),
    "yeo-johnson": scaling.YeoJohnson(shift=1.5, scale=0.7, softening=2.0, power=-0.2),
}
POSITIVE = st.floats(0, 1e6, width=32)
ANY = st.floats(-1e6, 1e6, width=32)


def test_each_scaling_is_tried():
    assert set(EXAMPLES) == set(scaling.SCALINGS)


@pytest.mark.parametrize("name", EXAMPLES)
@given(data=st.data())
def test_inverse(name, data):
    example = EXAMPLES[name]
    x = np.array(data.draw(st.lists(POSITIVE if name in ("log", "yeo-johnson") else ANY, min_size=1, max_size=5)))
    # Float64: what is lost is the cancellation of the shift or the floor.
    np.testing.assert_allclose(example.inverse(example.forward(x)), x, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_float32_is_enough(name):
    example = EXAMPLES[name]
    x = np.geomspace(0.1, 1e4, 50).astype("float32")
    back = example.inverse(example.forward(x))
    assert back.dtype == np.float32
    # A rounding of 6e-8 in scaled space is one of ln(10) * scale * that size in a logarithm's value, and grows with it.
    np.testing.assert_allclose(back, x, rtol=5e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["log", "yeo-johnson"])
def test_float32_is_enough_for_nine_decades(name):
    """HI after reionisation in M_sun/Mpc³, scaled as it is fitted."""
    x = np.geomspace(4e3, 4e12, 500).astype("float32")
    options = {"log": {}, "yeo-johnson": {"softening": 1e5, "power": -0.1}}[name]
    fitted = scaling.fit(name, [x], lower=0.0, **options)
    y = fitted.forward(x)
    assert y.dtype == np.float32 and np.all(np.diff(y) > 0)
    np.testing.assert_allclose(fitted.inverse(y), x, rtol=1e-5)


@pytest.mark.parametrize("name", EXAMPLES)
@settings(deadline=None)
@given(y=st.floats(-50, 50), lower=st.floats(0, 10), width=st.floats(0.1, 100))
def test_bounds_hold(name, y, lower, width):
    bounded = dataclasses.replace(EXAMPLES[name], lower=lower, upper=lower + width)
    x = bounded.inverse(np.float64(y))
    assert lower <= x <= lower + width
    # Bounding in scaled space is the same as bounding the physical value.
    np.testing.assert_allclose(bounded.inverse(bounded.bound(np.float64(y))), x, rtol=1e-9, atol=1e-9)
    inside = lower + width / 2
    np.testing.assert_allclose(bounded.inverse(bounded.forward(np.float64(inside))), inside, rtol=1e-9)


def test_gap():
    """What is painted in the gap above the lower bound is put on the bound; the rest, and a NaN, stay."""
    example = scaling.fit("linear", [np.array([0.0, 4.0, 8.0])], lower=0.0, gap=1.5)
    x = np.array([-1.0, 0.0, 0.1, 1.49, 1.5, 2.0, np.nan], dtype="float32")
    painted = example.inverse(example.forward(x))
    np.testing.assert_allclose(painted, [0, 0, 0, 0, 1.5, 2, np.nan], rtol=1e-5)
    assert painted.dtype == np.float32
    # Losses see what is painted.
    np.testing.assert_allclose(example.restore(example.bound(example.forward(x))), painted, rtol=1e-5, atol=1e-6)


def test_formulas():
    x = np.array([0.5, 1.0, 99.0])
    np.testing.assert_allclose(EXAMPLES["linear"].forward(x), (x - 3) / 2.5)
    np.testing.assert_allclose(EXAMPLES["log"].forward(x), (np.log10(x + 0.1) - 1.5) / 0.7)
    np.testing.assert_allclose(EXAMPLES["asinh"].forward(x), (np.log(x / 4 + np.sqrt(x**2 / 16 + 1)) + 0.5) / 1.3)


def test_fit_on_known_data():
    fitted = scaling.fit("log", [np.array([1.0, 100.0]), np.array([[1.0], [100.0]])], lower=0.0)
    assert fitted == scaling.Log(shift=1.0, scale=1.0, lower=0.0)
    np.testing.assert_allclose(fitted.forward(np.array([1.0, 10.0, 100.0])), [-1, 0, 1])


@pytest.mark.parametrize(
    ("name", "constants", "transform"),
    [
        ("linear", {}, lambda x: x),
        ("log", {"floor": 0.5}, lambda x: np.log10(x + 0.5)),
        ("asinh", {"softening": 3.0}, lambda x: np.arcsinh(x / 3.0)),
    ],
)
def test_one_pass_is_as_good_as_two(name, constants, transform):
    rng = np.random.default_rng(0)
    # A mean of 10⁴ standard deviations: sums of squares would lose it all in float32 and half of it in float64.
    values = (1e4 + rng.normal(size=5000)).astype("float32")
    fitted = scaling.fit(name, np.array_split(values, [1, 10, 11, 3000]), **constants)
    expected = transform(values.astype(np.float64))
    np.testing.assert_allclose([fitted.shift, fitted.scale], [expected.mean(), expected.std()], rtol=1e-9)
    assert abs(fitted.forward(values.astype(np.float64)).mean()) < 1e-6


@pytest.mark.parametrize("name", EXAMPLES)
def test_keras_gives_what_numpy_gives(name):
    from keras import ops

    example = dataclasses.replace(EXAMPLES[name], lower=0.2, upper=50.0)
    x = np.geomspace(0.1, 100, 40).astype("float32")
    y = example.forward(x)
    # Two float32 libraries: a few units in the last place of the largest intermediate value.
    tolerance = dict(rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(example.forward(ops.convert_to_tensor(x), xp=ops)), y, **tolerance)
    for function in (example.inverse, example.bound):
        found = ops.convert_to_numpy(function(ops.convert_to_tensor(y), xp=ops))
        np.testing.assert_allclose(found, function(y), **tolerance)


@pytest.mark.parametrize("name", EXAMPLES)
def test_dictionary(name):
    example = dataclasses.replace(EXAMPLES[name], lower=0.0)
    constants = json.loads(json.dumps(example.to_dict()))
    assert constants["name"] == name and scaling.from_dict(constants) == example


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scaling.fit("cosine", []), "no scaling 'cosine'. Choose one of asinh, linear, log"),
        (lambda: scaling.fit("linear", [np.ones(3)], floor=1.0), "'linear' cannot be made of"),
        (lambda: scaling.fit("linear", [np.ones(3)]), "scatter 0 after it"),
        (lambda: scaling.fit("linear", []), "does not fit the training maps"),
        (lambda: scaling.fit("log", [np.array([0.0, 1.0])]), "Choose another scaling, or a floor"),
        (lambda: scaling.fit("log", [np.array([-2.0, 1.0])], floor=1.0), "does not fit the training maps"),
        (lambda: scaling.fit("log", [np.array([1.0, 2.0])], lower=-1.0), "not defined at the lower bound -1"),
        (
            lambda: scaling.fit("linear", [np.arange(3.0)], lower=2.0, upper=1.0),
            "lower bound 2 is not below the upper bound 1",
        ),
        (lambda: scaling.fit("linear", [np.arange(3.0)], gap=1.0), "a gap is a width above a lower bound; received 1"),
        (lambda: scaling.from_dict({"name": "linear", "curve": 1.0}), "'linear' cannot be made of"),
        (lambda: scaling.from_dict({"shift": 1.0}), "no scaling 'None'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
