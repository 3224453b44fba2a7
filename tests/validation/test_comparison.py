"""The comparison: known answers through the whole stream, its bookkeeping, its metrics."""

import json
import math
import re

import numpy as np
import pytest

from higan.errors import MapSetError
from higan.mapset import Field
from higan.validation.baselines import Baselines
from higan.validation.comparison import compare
from higan.validation.models import Model, from_baseline, from_map_set
from higan.validation.results import Comparison, plain, written
from higan.validation.statistic import statistics
from tests.validation.fields import map_set

FIELD = "brightness_temp"


@pytest.fixture(scope="module")
def truth():
    return map_set()


@pytest.fixture(scope="module")
def comparison(truth):
    rng = np.random.default_rng(1)
    noisy = Model(lambda rows: truth.read(FIELD, rows)[:, None] + rng.normal(size=(len(rows), 3, 16, 16)), 3)
    models = {
        "itself": lambda rows: truth.read(FIELD, rows),
        "brighter": lambda rows: 1.1 * truth.read(FIELD, rows),
        "noisy": noisy,
    }
    return compare(truth, models, FIELD, input="density", resamples=30)


def test_the_truth_is_its_own_perfect_model(comparison):
    numbers = comparison.models["itself"].numbers
    for key in ("mean_abs_R_minus_1", "max_abs_R_minus_1", "median_abs_R_s_minus_1", "D", "wasserstein", "mean_error"):
        assert numbers[key][0] == pytest.approx(0, abs=1e-10)
    assert numbers["r_large_scales"][0] == pytest.approx(1)
    assert math.isnan(numbers["r_mean_large_scales"][0])


def test_a_brighter_model(comparison, truth):
    numbers = comparison.models["brighter"].numbers
    assert numbers["mean_abs_R_minus_1"][0] == pytest.approx(0.21, rel=1e-4)
    assert not numbers["mean_abs_R_minus_1"][1] > 1e-6  # the same in every simulation
    assert numbers["mean_bias"][0] == pytest.approx(0.1 * truth.read(FIELD).mean(), rel=1e-4)
    assert numbers["mean_bias"][1] > 0
    assert comparison.models["brighter"].curves["T"] == pytest.approx(1.1, rel=1e-4)


def test_realisations_are_averaged(comparison):
    numbers = comparison.models["noisy"].numbers
    assert numbers["r_mean_large_scales"][0] > numbers["r_large_scales"][0]
    # Nothing but the noise of the realisations separates their mean from the truth: variance (1 + 1/R) over 1/R.
    assert numbers["spread_over_error"][0] == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("cells", [1, 3 * 256])
def test_batches_do_not_matter(monkeypatch, truth, cells):
    models = {"brighter": lambda rows: 1.1 * truth.read(FIELD, rows)}
    rows = np.arange(len(truth))[::-1]
    whole = compare(truth, models, FIELD, resamples=5).to_dict()
    monkeypatch.setattr("higan.validation.comparison.BATCH_CELLS", cells)
    parts = compare(truth, models, FIELD, rows=rows, resamples=5).to_dict()
    for key, entry in whole["models"]["brighter"]["numbers"].items():
        value = parts["models"]["brighter"]["numbers"][key]["value"]
        assert value == entry["value"] or value == pytest.approx(entry["value"], rel=1e-6), key


def test_nearly_ionised_simulations_are_left_out_of_ratios(truth):
    neutral = np.ones((len(truth), 16, 16), "float32")
    faint = np.isin(truth.simulation, [2, 5])
    neutral[faint] = 0.01
    temperature = truth.read(FIELD)
    temperature[faint] = 0.0
    fields = {**truth.fields, FIELD: Field(temperature, "mK"), "neutral_fraction": Field(neutral, "")}
    with_faint = map_set(fields=fields)
    result = compare(with_faint, {"up": lambda rows: with_faint.read(FIELD, rows) + 0.5}, FIELD, resamples=30)
    assert result.simulations[~result.bright].tolist() == [2, 5]
    numbers = result.models["up"].numbers
    assert numbers["median_abs_R_s_minus_1"][0] == pytest.approx(0, abs=1e-4)
    assert numbers["faint_mean_error"][0] == pytest.approx(0.5)
    assert numbers["faint_rms_error"][0] == pytest.approx(0.5)
    explicit = compare(
        truth, {"up": lambda rows: truth.read(FIELD, rows)}, FIELD, bright=np.arange(12) > 3, resamples=5
    )
    assert explicit.bright.sum() == 8


def test_metrics_are_json_with_documented_keys(comparison):
    metrics = comparison.to_dict()
    text = json.dumps(metrics, allow_nan=False)
    assert json.loads(text) == metrics
    documented = re.findall(r"^ {8}([a-z_]+) +\S", Comparison.to_dict.__doc__, re.M)
    assert [key for key in documented if key != "key"] == list(metrics)
    declared = {key for cls in statistics() for key in cls.numbers}
    curves = {key for cls in statistics() for key in cls.curves}
    scatter = {key for cls in statistics() for key in cls.scatter}
    assert set(metrics["definitions"]) == declared
    assert set(metrics["curve_definitions"]) == curves | scatter
    for model in metrics["models"].values():
        assert set(model) == {
            "baseline", "realisations", "facts", "numbers", "curves", "curve_errors", "difference_errors",
            "by_simulation", "agreement",
        }  # fmt: skip
        assert set(model["numbers"]) == declared
        assert set(model["curves"]) == curves
        assert set(model["by_simulation"]) == scatter
        for entry in model["numbers"].values():
            assert {"value", "error"} <= set(entry)
            assert all(isinstance(entry[key], float) for key in ("value", "error") if entry[key] is not None)
            assert ("why" in entry) == (entry["value"] is None or entry["error"] is None)
    assert metrics["models"]["itself"]["numbers"]["r_mean_large_scales"] == {
        "value": None, "error": None, "why": "it takes two or more realisations of each map"
    }  # fmt: skip


def test_bins_that_agree():
    """Of a model with 2 % too much in all cells of half of its simulations, and of one with 40 %."""
    truth = map_set()
    brighter = np.isin(truth.simulation, np.unique(truth.simulation)[::2])

    def model(by):
        return lambda rows: truth.read(FIELD, rows) * np.where(brighter[rows], 1 + by, 1.0)[:, None, None]

    result = compare(truth, {"little": model(0.02), "much": model(0.4)}, FIELD, resamples=50)
    little, much = (result.agreement(name)["P"] for name in ("little", "much"))
    assert little["bins"] == much["bins"] == len(result.models["much"].curves["k"])
    assert little["within"] == little["known"] == little["bins"]  # P is 2 % too high, ± 0.6 %
    assert much["within"] < much["bins"] / 4 and much["known"] < much["bins"]  # 48 %, ± 14 %
    # Those of the largest are those of its curve, level by level.
    curves, errors = result.models["much"].curves, result.models["much"].difference_errors
    size = np.abs(curves["V_truth"]).max(axis=-1, keepdims=True)
    off, error = np.abs(curves["V"] - curves["V_truth"]) / size, errors["V"] / size
    known = np.isfinite(off) & (np.isfinite(error) | (off == 0))
    error = np.nan_to_num(error)
    assert result.agreement("much")["V"] == {
        "bins": known.sum(),
        "within": (off <= np.maximum(0.05, 2 * error))[known].sum(),
        "known": (error[known] <= 0.05).sum(),
    }
    assert set(result.agreement("much")) <= {name for cls in statistics() for name in cls.bins}


def test_one_simulation_has_numbers_but_no_errors():
    one = map_set(n_sim=1, per_sim=4, extra={})
    result = compare(one, {"itself": lambda rows: one.read(FIELD, rows)}, FIELD, resamples=5)
    entry = result.to_dict()["models"]["itself"]["numbers"]["D"]
    assert entry == {"value": 0.0, "error": None, "why": "it does not vary among resamples of the simulations"}


@pytest.mark.parametrize("shape", [(32,), (8, 12), (8, 8, 8)])
@pytest.mark.parametrize("periodic", [True, False])
def test_any_dimensions(shape, periodic):
    from higan.mapset import Geometry

    geometry = Geometry(ndim=len(shape), box_size=2.0 * shape[0], periodic=periodic)
    truth = map_set(n_sim=4, per_sim=2, shape=shape, geometry=geometry)
    result = compare(truth, {"twice": lambda rows: 2 * truth.read(FIELD, rows)}, FIELD, resamples=5)
    assert result.setting.window == (None if periodic else "hann")
    assert result.value("twice", "mean_abs_R_minus_1")[0] == pytest.approx(3, rel=1e-4)


def test_the_terminal_shows_units(comparison, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # too narrow for three models: several tables
    comparison.show()
    shown = capsys.readouterr().out
    assert "Wasserstein [mK]" in shown and "at k [1/Mpc]" in shown
    for name in ("itself", "brighter", "noisy"):
        assert name in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_baselines_come_after_models(truth):
    baselines = Baselines.fit(truth, "density", FIELD)
    models = {
        "remap": from_baseline(baselines, "local_remap", truth, seed=1),
        "me": Model(lambda r: truth.read(FIELD, r)),
    }
    assert list(compare(truth, models, FIELD, resamples=5).models) == ["me", "remap"]


def test_generated_maps_are_matched_to_the_truth(truth):
    rows = np.array([8, 3, 5])
    source = np.repeat(rows, 2)
    draw = np.tile([1, 0], 3)
    values = (truth.read(FIELD, source) + draw[:, None, None]).astype("float32")
    generated = map_set(
        fields={FIELD: Field(values, "mK")},
        simulation=truth.simulation[source],
        extra={"source_row": source, "realisation": draw},
    )
    model, found = from_map_set(generated, truth, FIELD)
    assert found.tolist() == [3, 5, 8] and model.realisations == 2
    maps = model.maps(np.array([8, 3]))
    np.testing.assert_allclose(maps[:, 0], truth.read(FIELD, [8, 3]), rtol=1e-6)
    np.testing.assert_allclose(maps[:, 1], truth.read(FIELD, [8, 3]) + 1, rtol=1e-6)


def generated_like(truth, values=None, units="mK", extra=None, **changes):
    values = truth.read(FIELD) if values is None else values
    return map_set(fields={FIELD: Field(values, units)}, extra=extra or {}, **changes)


def test_what_does_not_belong_together_is_refused(truth):
    from higan.mapset import Geometry

    n = len(truth)
    cases = {
        "is in 'K'": generated_like(truth, units="K"),
        "16 x 8": generated_like(truth, truth.read(FIELD)[:, :, :8]),
        "cells of 4 Mpc": generated_like(truth, geometry=Geometry(ndim=2, box_size=64.0)),
        "no /source_row": generated_like(truth, truth.read(FIELD)[:4], simulation=truth.simulation[:4]),
        "runs from": generated_like(truth, extra={"source_row": np.arange(n) + 1}),
        "realisations of a map": generated_like(truth, extra={"source_row": np.minimum(np.arange(n), 40)}),
        "repeats a number": generated_like(
            truth, extra={"source_row": np.arange(n) // 2 * 2, "realisation": np.zeros(n, int)}
        ),
        "disagree on the parameters": generated_like(truth, parameters=truth.parameters[::-1].copy()),
    }
    for message, generated in cases.items():
        with pytest.raises(MapSetError, match=re.escape(message)):
            from_map_set(generated, truth, FIELD)
    with pytest.raises(MapSetError, match="no field 'galaxies'"):
        from_map_set(cases["is in 'K'"], truth, "galaxies")


def test_maps_that_cannot_be_compared_are_refused(truth):
    with pytest.raises(MapSetError, match="shape"):
        compare(truth, {"small": lambda rows: np.zeros((len(rows), 8, 8))}, FIELD)
    with pytest.raises(MapSetError, match=r"wild gives NaN or infinite values for map 0 "):
        compare(truth, {"wild": lambda rows: np.full((len(rows), 16, 16), np.nan)}, FIELD)
    with pytest.raises(MapSetError, match="nothing to compare"):
        compare(truth, {}, FIELD)
    with pytest.raises(MapSetError, match="has no field"):
        compare(truth, {"m": lambda rows: rows}, "galaxies")


def test_plain_and_written():
    assert plain({"a": np.array([1.0, np.nan]), "b": np.int64(3), "c": (np.inf, "x", None, np.bool_(True))}) == {
        "a": [1.0, None], "b": 3, "c": [None, "x", None, True]
    }  # fmt: skip
    assert written(0.0, 0.0) == ("0", "") and written(12345.6, 234.0) == ("12346", "234")
