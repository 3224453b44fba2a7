"""Parameters recovered from maps whose amplitude encodes them, with models of known bias."""

import json

import numpy as np
import pytest

from higan.errors import MapSetError
from higan.mapset import Field, Parameter
from higan.validation.models import Model
from higan.validation.recovery import quadratic_ridge, recoveries, recovery
from tests.validation.fields import gaussian, map_set

FIELD = "brightness_temp"


def law(n_sim, seed, per_sim=4, shape=(16, 16)):
    """Fields of amplitude A about a mean that does not tell it, and a parameter that does nothing."""
    rng = np.random.default_rng(seed)
    amplitude = rng.uniform(1, 2, size=n_sim)
    simulation = np.repeat(np.arange(n_sim), per_sim)
    maps = 5 + amplitude[simulation].reshape(-1, *(1,) * len(shape)) * gaussian(
        rng, len(simulation), shape, lambda k: k**-1.0
    )
    return map_set(
        fields={FIELD: Field(maps.astype("float32"), "mK")},
        parameters=np.column_stack([amplitude, np.full(n_sim, 0.3), rng.uniform(0, 1, size=n_sim)]),
        parameter_info=[Parameter("A", "mK", 1, 2), Parameter("FIXED", "", 0, 1), Parameter("NOTHING", "", 0, 1)],
        simulation=simulation,
        extra={},
        shape=shape,
    )


@pytest.fixture(scope="module")
def found():
    train, truth = law(60, 1), law(40, 2)

    def louder(rows):
        return 5 + np.sqrt(1.1) * (truth.read(FIELD, rows) - 5)

    rng = np.random.default_rng(3)
    models = {
        "itself": lambda rows: truth.read(FIELD, rows),
        "louder": louder,
        "uneven": Model(lambda rows: np.stack([louder(rows) for _ in range(3)], axis=1), 3),
        "noise": lambda rows: 5 + rng.normal(size=(len(rows), 16, 16)),
    }
    return recovery(train, truth, models, FIELD, resamples=50)


def test_a_parameter_is_recovered_and_one_that_does_nothing_is_not(found):
    assert found.parameters == ["A", "NOTHING"] and found.units == ["mK", ""]
    assert found.error[0] < 0.05  # of a range of 1
    assert 0.2 < found.error[1] < 0.4  # that of a guess: 0.29
    np.testing.assert_array_equal(found.simulations, np.arange(40))


def test_the_truth_has_no_bias(found):
    np.testing.assert_array_equal(found.bias["itself"], 0)
    np.testing.assert_array_equal(found.error_ratio["itself"], 1)
    np.testing.assert_array_equal(found.from_model["itself"], found.from_truth)


def test_too_much_power_biases_the_amplitude(found):
    """A tenth more power is an amplitude sqrt(1.1) too large."""
    expected = (np.sqrt(1.1) - 1) * found.actual[:, 0].mean()
    sigma = (found.from_truth - found.actual)[:, 0].std()
    assert found.bias["louder"][0] == pytest.approx(expected / sigma, rel=0.1)
    assert found.bias["louder"][0] > 5 * found.bias_error["louder"][0]
    rms = np.sqrt(((found.from_truth - found.actual)[:, 0] ** 2).mean())
    assert found.error[0] == pytest.approx(rms)
    assert found.error_ratio["louder"][0] == pytest.approx(np.hypot(expected, rms) / rms, rel=0.25)
    np.testing.assert_allclose(found.bias["uneven"], found.bias["louder"], rtol=1e-5)
    assert found.error_ratio["noise"][0] > 3


def test_table_and_json(found):
    from rich.console import Console

    table = found.table()
    assert len(table.columns) == 2 + 2 * 4 and table.row_count == 2
    console = Console(width=300)
    with console.capture() as captured:
        console.print(table)
    assert "A [mK]" in captured.get() and "louder: bias [sigma]" in captured.get()
    entry = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert entry["bias"]["louder"][0] == pytest.approx(found.bias["louder"][0])


def test_batches_do_not_matter(monkeypatch):
    train, truth = law(10, 4), law(5, 5)
    models = {"itself": lambda rows: truth.read(FIELD, rows)}
    whole = recovery(train, truth, models, FIELD, resamples=2)
    monkeypatch.setattr("higan.validation.recovery.BATCH_CELLS", 3 * 256)
    parts = recovery(train, truth, models, FIELD, rows=np.arange(20)[::-1], resamples=2)
    np.testing.assert_allclose(parts.from_model["itself"], whole.from_model["itself"], rtol=1e-6)


def test_parameters_of_a_field_that_spans_decades():
    """By the logarithm: what a model does to its brightest cell alone is no bias then. Both at once paint once."""
    train, truth = law(40, 1), law(20, 2)
    for maps in (train, truth):
        maps.fields[FIELD] = Field(10 ** maps.read(FIELD, np.arange(len(maps))), "mK")

    painted = []

    def brighter(rows):
        painted.extend(rows)
        values = truth.read(FIELD, rows)
        return np.where(values == values.max(axis=(1, 2), keepdims=True), 3 * values, values)

    physical, decades = recoveries(train, truth, {"brighter": brighter}, FIELD, [None, 1e-6], resamples=2)
    assert painted == list(range(len(truth)))
    alone = recovery(train, truth, {"brighter": brighter}, FIELD, lowest=1e-6, resamples=2)
    assert alone.to_dict() == decades.to_dict()
    assert decades.error[0] < physical.error[0]
    off = [abs(found.from_model["brighter"] - found.from_truth)[:, 0].mean() for found in (physical, decades)]
    assert off[0] > 5 * off[1] and off[1] < decades.error[0]


def test_one_set_with_other_rows_and_simulations_without_power():
    both = law(20, 6, shape=(8, 8))
    maps = both.read(FIELD)
    maps[both.simulation == 3] = 0.0
    both = both._replace(fields={FIELD: Field(maps, "mK")})
    rows = both.rows_of(np.arange(12, 20))
    result = recovery(
        both, both, {"flat": lambda rows: np.zeros((len(rows), 8, 8))}, FIELD,
        train_rows=both.rows_of(np.arange(12)), rows=rows, resamples=5,
    )  # fmt: skip
    assert result.simulations.tolist() == list(range(12, 20))
    assert np.isfinite(result.bias["flat"]).all()


def test_sets_that_do_not_do_are_refused():
    truth = law(4, 7)
    with pytest.raises(MapSetError, match="4 training simulations"):
        recovery(truth, truth, {}, FIELD)
    with pytest.raises(MapSetError, match="other parameters"):
        recovery(map_set(), truth, {}, FIELD)
    with pytest.raises(MapSetError, match="maps of shape"):
        recovery(law(8, 8), truth, {"wrong": lambda rows: np.zeros((len(rows), 4, 4))}, FIELD)


def test_ridge_fits_a_quadratic_and_leaves_noise_alone():
    rng = np.random.default_rng(8)
    x, new = rng.normal(size=(40, 3)), rng.normal(size=(200, 3))
    quadratic = lambda x: 1 + 2 * x[:, :1] - x[:, 1:2] ** 2 + 0.5 * x[:, :1] * x[:, 2:]  # noqa: E731
    y = np.hstack([quadratic(x), rng.normal(size=(40, 1))])
    inferred = quadratic_ridge(x, y)(new)
    inside = (np.abs(new) < np.abs(x).max(axis=0)).all(axis=1)
    np.testing.assert_allclose(inferred[inside, :1], quadratic(new)[inside], atol=1e-2)
    assert inferred[:, 1].std() < 0.6
    # More features than samples, one of which does not vary.
    wide = quadratic_ridge(np.hstack([x[:15], np.ones((15, 1)), rng.normal(size=(15, 9))]), y[:15])
    assert np.isfinite(wide(np.hstack([new, np.ones((200, 1)), np.zeros((200, 9))]))).all()


def test_the_penalty_is_that_of_samples_left_out():
    """The shortcut against leaving them out one by one."""
    from higan.validation import recovery as module

    rng = np.random.default_rng(9)
    x = rng.normal(size=(12, 2))
    y = x[:, :1] + rng.normal(size=(12, 1))
    standard = module._standardiser(module._monomials(module._standardiser(x)(x)))
    phi = standard(module._monomials(module._standardiser(x)(x)))
    errors = []
    for penalty in module.PENALTIES:
        total = 0.0
        for out in range(12):
            keep = np.arange(12) != out
            centre, mean = y[keep].mean(axis=0), phi[keep].mean(axis=0)
            a = phi[keep] - mean
            beta = np.linalg.solve(a.T @ a + penalty * np.eye(5), a.T @ (y[keep] - centre))
            total += float(((y[out] - centre - (phi[out] - mean) @ beta) ** 2).sum())
        errors.append(total)
    best = module.PENALTIES[np.argmin(errors)]
    beta = np.linalg.solve(phi.T @ phi + best * np.eye(5), phi.T @ (y - y.mean(axis=0)))
    np.testing.assert_allclose(quadratic_ridge(x, y)(x), y.mean(axis=0) + phi @ beta, rtol=1e-6)
