import dataclasses
import json
import re
import shutil
import warnings

import h5py
import numpy as np
import pytest

from higan.adversarial import loop, preparation
from higan.adversarial.batches import Batches
from higan.adversarial.monitor import Monitor
from higan.adversarial.state import orders
from higan.checkpoint import load_card
from higan.cli import main
from higan.emulator import load
from higan.errors import CheckpointError, MapSetError, RecipeError, TrainingError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.photometry import flux, measure
from higan.recipe import ScalingConfig, validate_recipe
from higan.simulators.twentyonecmfast import TwentyOneCmFast
from higan.split import Split, split
from tests import tiny
from tests.test_checkpoint import on_a_full_disc

ALONE = {"objective": {"name": "none", "pixel_weight": 1.0}}  # no discriminator: quick to compile


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Matplotlib takes as long as a tiny training; figures are looked at where Monitor draws one."""
    if "figure" not in request.node.name:
        monkeypatch.setattr("higan.validation.plots.maps_and_ratio", lambda *given, **_: given[5].touch())


@pytest.fixture
def standing_still(monkeypatch):
    """A function after which steps change nothing, and need no graph: a training ends as what it starts from."""
    from higan.adversarial.step import Step

    def still(self, state, *_):
        return state, self.backend.to_device({"pixel": np.float32(0)})

    return lambda: monkeypatch.setattr(Step, "__call__", still)


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def alike(weights, vector):
    """Whether a vector of a state holds the weights of a checkpoint, in whatever order."""
    return np.array_equal(np.sort(np.concatenate([w.ravel() for w in weights.values()])), np.sort(vector))


# -- what a training starts from -----------------------------------------------------------------------------


def test_scalings_are_fitted_on_training_simulations_alone():
    """Validation and test simulations hold outliers that would shift any mean."""
    maps = tiny.maps()
    values = {name: field.array.copy() for name, field in maps.fields.items()}
    for array in values.values():
        array[24:] = 1e6
    bad = tiny.maps(fields={name: Field(array, maps.fields[name].units) for name, array in values.items()})
    parts = split(bad)
    assert parts.train.tolist() == [0, 1, 2, 3, 4, 5]
    card = preparation.new_card(tiny.recipe(), bad, parts)
    for item in card.inputs + card.outputs:
        training = values[item.field][:24].astype(np.float64)
        np.testing.assert_allclose(item.scaling["shift"], training.mean(), rtol=1e-9)
        np.testing.assert_allclose(item.scaling["scale"], training.std(), rtol=1e-9)


def test_card_of_a_new_training():
    maps = tiny.maps()
    card = preparation.new_card(
        tiny.recipe(scaling={"density": {"name": "asinh", "softening": 0.5}}), maps, split(maps)
    )
    assert card.inputs[0].scaling["name"] == "asinh" and card.inputs[0].scaling["softening"] == 0.5
    assert card.outputs[0].scaling["lower"] == 0.0 and card.outputs[0].units == "mK"
    assert [(p.name, p.units, p.lower, p.upper) for p in card.parameters] == [
        ("BIAS", "", 1.0, 3.0),
        ("T_MEAN", "mK", 10.0, 20.0),
    ]
    assert (card.cell_size, card.thickness, card.redshift, card.shape) == (2.0, 8.0, 8.0, [16, 16])
    assert card.training["seeds"] == [100, 101, 102, 103, 104, 105] and card.training["maps"] == 24
    assert card.training["sha256"] == maps.content_sha256()
    assert card.stride == 2 and card.recipe["name"] == "tiny"


def test_some_of_the_parameters_in_another_order():
    maps = tiny.maps()
    chosen = preparation.select_parameters(maps, tiny.recipe(data={"parameters": ["T_MEAN"]}))
    assert chosen.parameter_names == ["T_MEAN"]
    np.testing.assert_array_equal(chosen.parameters[:, 0], maps.parameters[:, 1])
    swapped = preparation.select_parameters(maps, tiny.recipe(data={"parameters": ["T_MEAN", "BIAS"]}))
    np.testing.assert_array_equal(swapped.parameters, maps.parameters[:, ::-1])
    assert preparation.select_parameters(maps, tiny.recipe(data={"parameters": []})).parameters.shape == (8, 0)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ([Parameter("BIAS"), tiny.PARAMETERS[1]], "BIAS has the range [-inf, inf] where a finite"),
        ([Parameter("BIAS", "", 2.0, 2.0), tiny.PARAMETERS[1]], "BIAS has the range [2, 2]"),
        ([Parameter("BIAS", "", 1.0, 1.5), tiny.PARAMETERS[1]], "BIAS leaves its own range [1, 1.5]"),
    ],
)
def test_parameters_without_a_range(info, message):
    with pytest.raises(RecipeError) as caught:
        preparation.select_parameters(tiny.maps(parameter_info=info), tiny.recipe())
    assert message in str(caught.value)


def test_fewer_training_simulations():
    parts = Split(np.arange(6), np.array([6]), np.array([7]))
    assert preparation.limit(parts, 2).train.tolist() == [0, 1] and preparation.limit(parts, 2).test.tolist() == [7]
    with pytest.raises(TrainingError, match=r"data\.simulations is 9, but there are 6"):
        preparation.limit(parts, 9)


def test_learning_rates():
    recipe = tiny.recipe(
        training={"maps": 1000, "batch_size": 10, "warmup_maps": 100, "learning_rate": 2.0, "schedule": "constant"}
    )
    assert loop._rates(recipe, 0) == (0.2, 0.2) and loop._rates(recipe, 9) == (2.0, 2.0)
    cosine = tiny.recipe(
        training={"maps": 1000, "batch_size": 10, "warmup_maps": 0, "learning_rate": 2.0}
        | {"discriminator_learning_rate": 1.0}
    )
    assert loop._rates(cosine, 0) == (2.0, 1.0)
    np.testing.assert_allclose(loop._rates(cosine, 50), (1.0, 0.5))
    assert 0 < loop._rates(cosine, 99)[0] < 1e-3


def test_weight_of_the_pixel_loss():
    assert loop._pixel_weight(tiny.recipe(objective={"pixel_weight": 2.0}), 7) == 2.0
    recipe = tiny.recipe(
        objective={"pixel_weight": 2.0, "pixel_weight_final": 0.5}, training={"maps": 1000, "batch_size": 10}
    )
    np.testing.assert_allclose([loop._pixel_weight(recipe, step) for step in (0, 50, 100)], [2.0, 1.25, 0.5])


def test_step_gets_what_the_recipe_says(monkeypatch, tmp_path):
    from higan.adversarial import step

    class Stop(Exception):
        pass

    def stop(generator, discriminator, config):
        raise Stop(config)

    monkeypatch.setattr(step, "Step", stop)
    recipe = tiny.recipe(
        objective={"pixel": "l2", "pixel_weight": 0.3, "margin": 0.4, "r1": 0.7, "penalty_every": 3},
        training={"maps_per_simulation": 2},
        scaling={"brightness_temp": {"lower": 0.0}},
    )
    with pytest.raises(Stop) as caught:
        loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    config = caught.value.args[0]
    assert config.losses == recipe.objective and config.losses.penalty_every == 3
    assert config.maps_per_simulation == 2 and config.window is None
    assert config.outputs[0].lower == 0.0 and config.outputs[0].scale > 1


def test_half_life_of_the_average():
    recipe = tiny.recipe(training={"maps": 10**6, "batch_size": 10, "average_half_life": 1000})
    # Half of the weight is gone after a half-life: 100 steps of 10 maps.
    assert loop._decay(recipe, 10**5) ** 100 == pytest.approx(0.5)
    # After 4,000 maps: a twentieth of them and one batch, 210 maps.
    assert loop._decay(recipe, 400) ** 21 == pytest.approx(0.5)
    assert loop._decay(recipe, 0) == 0.5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"cells": 32}, "[data.simulate] simulator: Field required"),
        ({"simulator": 3}, "[data.simulate] simulator: Input should be a valid string, received 3"),
        ({"simulator": "21cmfast", "processes": "two"}, "processes: Input should be a valid integer, received 'two'"),
        ({"simulator": "21cmfast", "simulations": "40"}, "simulations: Input should be a valid integer, received '40'"),
        ({"simulator": "21cmfast", "thickness_cells": 1.5}, "thickness_cells: Input should be a valid integer"),
        ({"simulator": "21cmfast", "cells": "many"}, "[data.simulate] cells: Input should be a valid integer"),
    ],
)
def test_what_cannot_be_simulated(tmp_path, table, message):
    with pytest.raises(RecipeError) as caught:
        preparation.open_maps(tiny.recipe(data={"source": str(tmp_path / "data" / "maps.h5"), "simulate": table}))
    assert message in str(caught.value) and "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_simulate_table():
    table = {"simulator": "21cmfast", "simulations": [0, 3], "processes": 2, "box_size": 64, "thickness_cells": 4}
    simulator, thickness, arguments = preparation.simulation_of(table)
    assert simulator == TwentyOneCmFast(box_size=64.0) and thickness == 4
    assert arguments == {"simulations": [0, 3], "processes": 2}


def test_a_full_disc_keeps_the_last_state(tmp_path):
    """HDF5 ends the program if it may not write all of a file that it has open."""
    code = """
from pathlib import Path
import numpy as np
from higan.adversarial.state import save_state
from higan.errors import OutputError
class Backend:
    to_host = staticmethod(lambda state: state)
path = Path(sys.argv[1])
save_state(path, {"generator": np.ones(4)}, 1, 0.5, 0.1, {}, Backend)
try:
    save_state(path, {"generator": np.random.default_rng(0).normal(size=9801)}, 2, 0.5, 0.1, {}, Backend)
except OutputError as error:
    print(error)
"""
    path = tmp_path / "state.h5"
    assert on_a_full_disc(code, path) == (
        f"{path} cannot be written (File too large). The last one is kept: make room, and start again.\n"
    )
    assert list(tmp_path.iterdir()) == [path]
    with h5py.File(path) as file:
        assert file.attrs["step"] == 1 and file["generator"].shape == (4,)


# -- what is watched -----------------------------------------------------------------------------------------


def test_monitor_of_a_painter_that_paints_the_truth():
    """R = 1, D = 0 and no error for perfect maps; R = 4 for maps twice too large."""
    maps, painter = tiny.maps(), tiny.painter()
    truth = dict(zip(range(len(maps)), maps.read("brightness_temp"), strict=True))
    monitor = Monitor(maps, np.array([6, 7]), 3, painter, seed=1)
    assert monitor.rows.tolist() == [24, 26, 27, 28, 30, 31]

    def paint(factor):
        stacked = np.stack([truth[row] for row in monitor.rows])[..., None] * factor
        painter.paint_host = lambda *_: stacked
        return monitor()

    perfect = paint(1.0)
    assert perfect.scalars["mean_abs_R_minus_1"] < 1e-6 and perfect.scalars["D"] == 0
    assert perfect.scalars["rmse"] == 0 and perfect.scalars["mean_error_rms"] == 0
    double = paint(2.0)
    np.testing.assert_allclose(double.R, 4, rtol=1e-5)
    assert double.scalars["max_abs_R_minus_1"] == pytest.approx(3, rel=1e-5)
    values = np.stack([truth[row] for row in monitor.rows]).astype(np.float64)
    assert double.scalars["rmse"] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-5)
    offsets = [values[:3].mean(), values[3:].mean()]
    assert double.scalars["mean_error_rms"] == pytest.approx(np.sqrt(np.mean(np.square(offsets))), rel=1e-5)
    assert 0.3 < double.scalars["D"] < 1


def test_monitor_figure(tmp_path):
    monitor = Monitor(tiny.maps(), np.array([6]), 4, tiny.painter(), seed=1)
    path = monitor.figure(monitor(), tmp_path / "figures" / "1.png", "tiny")
    assert path.read_bytes()[:4] == b"\x89PNG"


# -- trainings -----------------------------------------------------------------------------------------------


def test_the_best_checkpoint_is_kept_not_the_last(tmp_path, monkeypatch):
    results, call = iter([0.5, 0.2, 0.9, 0.3]), Monitor.__call__

    def staged(self):
        result = call(self)
        result.scalars["D"] = next(results)
        return result

    monkeypatch.setattr(Monitor, "__call__", staged)
    recipe = tiny.recipe(**ALONE, training={"maps": 32, "tick_maps": 8}, validation={"select": "D"})
    folder = loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    kept = load_card(folder)
    assert kept.metrics["validation"]["D"] == 0.2 and kept.metrics["validation"]["maps_seen"] == 16
    assert [line["D"] for line in log(tmp_path / "run")] == [0.5, 0.2, 0.9, 0.3]
    assert not alike(weights(folder / "generator.weights.h5"), weights(tmp_path / "run" / "state.h5")["average"])


def test_the_last_is_kept_where_the_recipe_says_so(tmp_path):
    recipe = tiny.recipe(**ALONE, training={"maps": 32, "tick_maps": 8}, validation={"select": "last"})
    folder = loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    assert load_card(folder).metrics["validation"]["maps_seen"] == 32
    assert alike(weights(folder / "generator.weights.h5"), weights(tmp_path / "run" / "state.h5")["average"])


@pytest.mark.parametrize("first", [2, 3])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(tmp_path, monkeypatch, first):
    """The step is named, with the maps it was on; where only the weights show it, at the end of a tick, they are not
    kept. Validated after two steps."""
    import higan

    rates, batches = loop._rates, []
    monkeypatch.setattr(loop, "_rates", lambda recipe, step: rates(recipe, step) if step < first else (np.inf, np.inf))
    monkeypatch.setattr(loop, "Batches", lambda *a, **k: batches.append(Batches(*a, **k)) or batches[0])
    recipe = tiny.recipe(**ALONE, training={"maps": 64, "tick_maps": 8}, validation={"select": "last"})
    run, maps = tmp_path / "run", tiny.maps()
    with pytest.raises(TrainingError) as caught:
        loop.train(recipe, run, maps=maps)
    if first == 2:
        step, seen = 3, batches[0]._rows(12)
        assert re.match(rf"^the loss 'pixel' became (nan|inf) at step {step} \(counted from 0\), on", str(caught.value))
        assert f"maps {', '.join(map(str, seen))} of simulations" in str(caught.value)
        named = re.search("of simulations ([0-9, ]+)", str(caught.value))[1].split(", ")
        assert set(map(int, named)) == set(maps.simulation[seen].tolist())
    else:
        assert "weights (average) became NaN or infinite before step 4" in str(caught.value)
    assert "last good state and checkpoint are kept" in str(caught.value)
    assert load_card(run / "checkpoint").metrics["validation"]["maps_seen"] == 8
    assert np.isfinite(higan.load(run / "checkpoint").sample(np.zeros((8, 8)), _theta(), seed=1)).all()
    with h5py.File(run / "state.h5") as file:
        assert file.attrs["step"] == 2 and np.isfinite(file["generator"][()]).all()


def test_a_state_with_weights_in_another_order_is_refused(tmp_path):
    class Backend:
        to_host = to_device = staticmethod(lambda state: state)

    first, second = tiny.painter().model, tiny.painter(gated=True).model
    order = orders(generator=first, discriminator=None)
    assert list(order) == ["generator"] and order == orders(generator=tiny.painter().model)
    state, path = {"generator": np.ones(4)}, tmp_path / "state.h5"
    loop.save_state(path, state, 3, 0.5, 0.1, order, Backend)
    assert loop.load_state(path, state, order, Backend)[1:] == (3, 0.5, 0.1)
    with pytest.raises(TrainingError, match="was written by another version of higan, which orders weights otherwise"):
        loop.load_state(path, state, orders(generator=second), Backend)


def test_a_discriminator_that_is_not_finite_is_not_kept(tmp_path):
    class Backend:
        to_host = staticmethod(lambda state: state)

    good, path = {"generator": np.ones(4), "discriminator": np.ones(2)}, tmp_path / "state.h5"
    loop.save_state(path, good, 1, 0.5, 0.1, {}, Backend)
    with pytest.raises(TrainingError, match=r"weights \(discriminator\) became NaN or infinite before step 2"):
        loop.save_state(path, {**good, "discriminator": np.array([1, np.inf])}, 2, 0.5, 0.1, {}, Backend)
    with h5py.File(path) as file:
        assert file.attrs["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_many_maps_in_a_batch_are_shortened(monkeypatch):
    batches = Batches(tiny.maps(), np.arange(24), [], [], np.zeros((8, 0)), batch_size=4, seed=1)
    monkeypatch.setattr(loop, "SHOWN", 3)
    shown = loop._shown(batches, 5)
    assert re.match(r"^maps \d+, \d+, \d+, … of simulations ", shown)


def _theta():
    return {"BIAS": 2.0, "T_MEAN": 15.0}


def test_a_wandb_that_fails_never_stops_a_training(tmp_path, monkeypatch, standing_still):
    class Broken:
        def log(self, *_, **__):
            raise ConnectionError("no network")

    wandb = pytest.importorskip("wandb")
    standing_still()
    monkeypatch.setattr(wandb, "init", lambda **_: Broken())
    recipe = tiny.recipe(**ALONE, training={"maps": 16, "tick_maps": 8}, tracking={"wandb": "offline"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    messages = [str(item.message) for item in caught if "tracked" in str(item.message)]
    assert messages == ["wandb is no longer tracked: ConnectionError: no network"]
    assert (folder / "card.json").exists() and len(log(tmp_path / "run")) == 2


def test_a_training_that_starts_from_another(tmp_path, standing_still):
    """Whole maps, others than the crops before: the same weights and scalings."""
    first, second = tmp_path / "crops", tmp_path / "whole"
    crops = {"maps": 8, "tick_maps": 8, "crop": 8}
    loop.train(tiny.recipe(training=crops, validation={"select": "last"}), first, maps=tiny.maps())
    standing_still()
    recipe = tiny.recipe(training={"maps": 4, "initial": str(first)}, validation={"select": "last"})
    folder = loop.train(recipe, second, maps=tiny.maps(seed=1))
    before, after = (weights(run / "state.h5") for run in (first, second))
    assert all(np.array_equal(before[name], after[name]) for name in ("generator", "discriminator"))
    assert load_card(folder).outputs == load_card(first / "checkpoint").outputs
    assert load_card(folder).training["maps_seen"] == 4
    assert alike(weights(folder / "generator.weights.h5"), before["generator"])


def test_a_training_that_starts_from_a_checkpoint(tmp_path, standing_still):
    """Its generator and scalings, on other maps; the discriminator is new."""
    folder = loop.train(tiny.recipe(training={"maps": 8}), tmp_path / "first", maps=tiny.maps())
    shipped = shutil.copytree(folder, tmp_path / "shipped")
    standing_still()
    tuned = loop.train(
        tiny.recipe(training={"maps": 4, "initial": str(shipped)}), tmp_path / "second", maps=tiny.maps(seed=1)
    )
    assert load_card(tuned).outputs == load_card(shipped).outputs
    before, after = (weights(path / "generator.weights.h5") for path in (shipped, tuned))
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)
    old, new = (weights(tmp_path / run / "state.h5")["discriminator"] for run in ("first", "second"))
    assert not np.array_equal(old, new)


def test_a_checkpoint_may_be_given_slopes_and_gates(tmp_path, standing_still):
    """They start without effect: the network paints what it did; what it learns is theirs, too."""
    plain = {"widths": [4, 8], "noise_channels": 2}
    folder = loop.train(
        tiny.recipe(training={"maps": 8}, generator=plain, **ALONE), tmp_path / "first", maps=tiny.maps()
    )
    more = {**plain, "tracing": True, "gated": True, "top_hats": [1.0, 2.0], "top_hat_widths": [12, 8]}
    learning = {"maps": 8, "initial": str(folder), "learning_rate": 1e-3}
    taught = loop.train(tiny.recipe(training=learning, generator=more, **ALONE), tmp_path / "third", maps=tiny.maps())
    standing_still()
    still = {"maps": 4, "initial": str(folder)}
    grown = loop.train(tiny.recipe(training=still, generator=more, **ALONE), tmp_path / "second", maps=tiny.maps())
    field, parameters = tiny.maps().fields["density"].array[0], {p.name: p.lower for p in tiny.PARAMETERS}
    painted = [load(path).sample(field, parameters, seed=1) for path in (folder, grown)]
    np.testing.assert_allclose(painted[1], painted[0], rtol=1e-5)
    before, after = (weights(path / "generator.weights.h5") for path in (folder, grown))
    assert after.keys() - before.keys() and after["head/kernel"].shape[-1] == 2 * before["head/kernel"].shape[-1]
    learnt = weights(taught / "generator.weights.h5")
    assert all(np.any(learnt[name]) for name in after.keys() - before.keys())
    # Noise among what a taught network of top-hats sees starts without effect.
    noisy = {**more, "stochastic_barrier": True}
    barrier = tiny.recipe(training={**still, "initial": str(taught)}, generator=noisy, **ALONE)
    started = loop.train(barrier, tmp_path / "barrier", maps=tiny.maps())
    painted = [load(path).sample(field, parameters, seed=1) for path in (taught, started)]
    np.testing.assert_allclose(painted[1], painted[0], rtol=1e-5)
    # What is drawn cell by cell starts as in a new network, not at zero.
    drawing = {**more, "cellwise": True, "exclusion": [1]}
    drawn = loop.train(tiny.recipe(training=still, generator=drawing, **ALONE), tmp_path / "drawn", maps=tiny.maps())
    last = weights(drawn / "generator.weights.h5")
    assert all(np.any(last[name]) for name in last if name.startswith("cell") and name.endswith("kernel"))
    np.testing.assert_allclose(last["exclusion/kernel"], 0, atol=1e-20)
    for name in after:
        np.testing.assert_allclose(last[name], after[name], rtol=1e-6, atol=1e-20)
    with pytest.raises(RecipeError, match="was trained with other network"):  # but nothing is taken away
        loop.train(
            tiny.recipe(training={**still, "initial": str(grown)}, generator=plain, **ALONE),
            tmp_path / "fourth",
            maps=tiny.maps(),
        )
    # Smoothed noise comes in beside other noise, of which more is seen then.
    with pytest.raises(RecipeError, match="was trained with other network"):
        loop.train(
            tiny.recipe(training=still, generator={**plain, "smoothed_noise": 1}, **ALONE),
            tmp_path / "fifth",
            maps=tiny.maps(),
        )


@pytest.mark.parametrize(
    ("table", "options", "needs"),
    [
        ("generator", {"cellwise": True, "smoothed_noise": 2}, "smoothed_noise = 2 is for 14 cells and more a side"),
        ("generator", {"exclusion": [1, 4]}, "exclusion has windows of 9 cells a side"),
        ("objective", {"pixel_scales": [1, 16]}, "pixel_scales has blocks of 16 cells a side"),
        ("objective", {"extreme_scales": [2, 16]}, "extreme_scales has blocks of 16 cells a side"),
        ("objective", {"one_point_scales": [1, 16]}, "one_point_scales has blocks of 16 cells a side"),
        ("objective", {"one_point_lags": [1, 4]}, "one_point_lags has pairs 4 cells apart to both sides"),
    ],
)
def test_maps_that_do_not_hold_what_is_seen_or_compared(tmp_path, table, options, needs):
    start = tiny.NETWORK if table == "generator" else {"pixel": "crps", "one_point_weight": 1.0}
    with pytest.raises(RecipeError, match=rf"{table}\.{needs}, and maps, .* have 8\. Take less"):
        loop.train(tiny.recipe(**{table: {**start, **options}}), tmp_path / "run", maps=tiny.maps(shape=(8, 8)))
    assert not (tmp_path / "run").exists()


def test_quantiles_are_mapped_at_the_end(tmp_path, standing_still):
    """Painted training maps have the true quantiles; the mapping is on the card, and no part of what is trained."""
    recipe = {"validation": {"select": "last"}, "scaling": {"brightness_temp": {"lower": 0.0}}, **ALONE}
    training = {"maps": 16, "tick_maps": 16, "learning_rate": 1e-2}
    plain = loop.train(tiny.recipe(**recipe, training=training), tmp_path / "run", maps=tiny.maps())
    assert load_card(plain).outputs[0].quantile_mapping is None
    before = load_card(plain).metrics["validation"]
    # Asked for afterwards, of a training that has ended.
    recipe = tiny.recipe(**recipe, training={**training, "quantile_maps": 12})
    folder = loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    card = load_card(folder)
    assert card.outputs[0].quantile_mapping is not None and card.recipe == recipe.model_dump(mode="json")
    assert card.metrics["validation"]["D"] < before["D"] and card.metrics["validation"]["maps_seen"] == 16
    maps = tiny.maps()
    rows = np.linspace(0, 23, 12).round().astype(int)
    named = {p.name: maps.parameters[maps.simulation[rows], i] for i, p in enumerate(maps.parameter_info)}
    painted = load(folder).sample(maps.read("density", rows), named, seed=recipe.seed)
    true = maps.read("brightness_temp", rows)
    levels = [0.1, 0.5, 0.9, 0.99]
    np.testing.assert_allclose(np.quantile(painted, levels), np.quantile(true, levels), rtol=0.1, atol=0.5)
    # Again: nothing is left to do, and what starts from it starts from what was trained.
    written = (folder / "generator.weights.h5").stat().st_ino
    loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    assert (folder / "generator.weights.h5").stat().st_ino == written
    standing_still()
    still = tiny.recipe(training={"maps": 4, "initial": str(folder)}, **ALONE)
    assert load_card(loop.train(still, tmp_path / "on", maps=tiny.maps())).outputs[0].quantile_mapping is None


def test_what_a_training_cannot_start_from(tmp_path, standing_still):
    standing_still()
    loop.train(tiny.recipe(**ALONE, training={"maps": 4}), tmp_path / "run", maps=tiny.maps())
    start = {"training": {"maps": 4, "initial": str(tmp_path / "run")}}
    other = tiny.recipe(**ALONE, **start, generator={"widths": [4, 12]})
    with pytest.raises(RecipeError, match="was trained with other network than this recipe asks for"):
        loop.train(other, tmp_path / "new", maps=tiny.maps())
    ranges = [dataclasses.replace(p, upper=p.upper + 1) for p in tiny.PARAMETERS]
    with pytest.raises(
        RecipeError, match=r"other parameters .* \(BIAS from 1 to 3, .* there, BIAS from 1 to 4, .* here"
    ):
        loop.train(tiny.recipe(**ALONE, **start), tmp_path / "new", maps=tiny.maps(parameter_info=ranges))
    with pytest.raises(RecipeError, match=r"other dimensions .* \(2 there, 3 here\)"):
        loop.train(tiny.recipe(**ALONE, **start), tmp_path / "new", maps=tiny.maps(shape=(8, 8, 8)))
    (tmp_path / "run" / "state.h5").unlink()
    with pytest.raises(TrainingError, match=r"Give the folder of a run that has it, or that of its checkpoint\."):
        loop.train(tiny.recipe(**ALONE, **start), tmp_path / "new", maps=tiny.maps())
    with pytest.raises(CheckpointError, match=r"nowhere is no folder, nor the name of a shipped checkpoint \(cosmos"):
        nowhere = {"training": {"maps": 4, "initial": str(tmp_path / "nowhere")}}
        loop.train(tiny.recipe(**ALONE, **nowhere), tmp_path / "new", maps=tiny.maps())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("ndim", [1, 3])
def test_other_dimensions(tmp_path, ndim):
    recipe = tiny.recipe(**ALONE, training={"maps": 8, "tick_maps": 8})
    folder = loop.train(recipe, tmp_path / "run", maps=tiny.maps(shape=(8,) * ndim))
    assert load_card(folder).ndim == ndim and len(list((tmp_path / "run" / "figures").iterdir())) == 1


def test_not_periodic_without_parameters_and_noise(tmp_path):
    maps = tiny.maps()
    open_maps = tiny.maps(
        parameters=np.zeros((8, 0)), parameter_info=[], geometry=Geometry(ndim=2, box_size=32.0, periodic=False)
    )
    recipe = tiny.recipe(
        objective=ALONE["objective"] | {"pixel": "l1"},
        training={"maps": 8, "tick_maps": 8, "crop": 8, "context": 4},
        generator={"noise_channels": 0},
        data={"symmetries": ["reflect"]},
    )
    whole = recipe.model_copy(update={"training": tiny.recipe(training={"maps": 8}).training})
    with pytest.raises(RecipeError, match="maps that are not periodic, but networks join opposite sides"):
        loop.train(whole, tmp_path / "run", maps=open_maps)
    card = load_card(loop.train(recipe, tmp_path / "run", maps=open_maps))
    assert not card.periodic and card.parameters == [] and card.thickness is None
    assert len(maps) == len(open_maps)


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (lambda: tiny.maps(n_sim=1, extra={}), MapSetError, "not enough simulations to split"),
        (lambda: _without("density"), MapSetError, "no field 'density'"),
        (lambda: _with_channels(), MapSetError, "has maps of shape (16, 16, 2), but a network takes 2 dimensions"),
        (lambda: _with_nan(), MapSetError, "holds NaN or infinite values in map 31"),
    ],
)
def test_what_cannot_be_trained_on_leaves_nothing(tmp_path, maps, error, message):
    with pytest.raises(error) as caught:
        loop.train(tiny.recipe(), tmp_path / "run", maps=maps())
    assert message in str(caught.value) and not list(tmp_path.iterdir())


def _without(name):
    maps = tiny.maps()
    return tiny.maps(fields={key: field for key, field in maps.fields.items() if key != name})


def _with_channels():
    maps = tiny.maps()
    density = maps.fields["density"].array
    return tiny.maps(fields={**maps.fields, "density": Field(np.stack([density, density], axis=-1))})


def _with_nan():
    maps: MapSet = tiny.maps()
    maps.fields["brightness_temp"].array[31, 3, 3] = np.nan
    return maps


def test_three_dimensions_in_crops(tmp_path):
    """What was trained on crops paints whole boxes; the validation is of these."""
    maps = tiny.maps(n_sim=6, per_sim=1, shape=(16, 16, 16))
    recipe = tiny.recipe(
        generator={"top_hats": [1.5], "excursion_set": {"smallest": 0.9, "step": 1.6, "radii": 3}},
        objective={
            "spectral": "crps",
            "spectral_weight": 1.0,
            "spectral_fields": ["physical", "scaled"],
            "spectral_floor": 0.01,
            "spectral_slope_weight": 1.0,
        },
        training={"maps": 8, "crop": 4, "context": 4, "maps_per_simulation": 2, "tick_maps": 8, "accumulate": 2},
    )
    checkpoint = loop.train(recipe, tmp_path / "run", maps=maps)
    card = load_card(checkpoint)
    assert card.ndim == 3 and card.shape == [16, 16, 16] and np.isfinite(card.metrics["validation"]["D"])
    assert log(tmp_path / "run")[-1]["maps"] == 8


def test_without_input_fields(tmp_path):
    """Maps drawn from noise and parameters alone, in the run and by the command line."""
    recipe = tiny.recipe(**ALONE, data={"inputs": []}, training={"maps": 8, "tick_maps": 8})
    checkpoint = loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    assert load_card(checkpoint).inputs == [] and not (checkpoint / "baselines.h5").exists()
    out = tmp_path / "maps.h5"
    command = ["sample", str(checkpoint), "--parameters", "BIAS=2,T_MEAN=15", "--realisations", "3", "--seed", "1"]
    assert main([*command, "--output", str(out)]) == 0
    assert MapSet.open(out).read("brightness_temp").shape == (3, 16, 16)


def test_selecting_by_the_logarithm_takes_a_field_that_spans_decades(tmp_path, standing_still):
    standing_still()
    recipe = tiny.recipe(**ALONE, validation={"select": "mean_abs_R_minus_1_log"}, training={"maps": 4, "tick_maps": 4})
    with pytest.raises(RecipeError, match="brightness_temp of the map set does not span decades"):
        loop.train(recipe, tmp_path / "run", maps=tiny.maps())
    maps = tiny.maps()
    fields = dict(maps.fields) | {"brightness_temp": Field(10 ** (maps.read("brightness_temp") / 4), "mK")}
    recipe = recipe.model_copy(update={"scaling": {"brightness_temp": ScalingConfig(name="log", lower=0.0)}})
    checkpoint = loop.train(recipe, tmp_path / "run", maps=tiny.maps(fields=fields))
    assert np.isfinite(load_card(checkpoint).metrics["validation"]["mean_abs_R_minus_1_log"])


def test_a_card_says_which_universe_it_draws():
    boxes = tiny.maps(shape=(8, 8, 8))
    theta = [Parameter("SIGMA_8", "", 1.0, 3.0), tiny.PARAMETERS[1]]
    cosmology = {"h": 0.7, "Omega_m": 0.3, "Omega_b": 0.05, "n_s": 1.0}
    boxes = boxes.with_parameters(boxes.parameters, theta)
    boxes = boxes.with_geometry(dataclasses.replace(boxes.geometry, cosmology=cosmology))
    recipe = tiny.recipe(data={"drawn": {"field": "density", "coarse": True}})
    drawn = preparation.new_card(recipe, boxes, split(boxes)).drawn
    assert drawn.cosmology == {**cosmology, "sigma_8": "SIGMA_8"} and drawn.coarse
    assert preparation.new_card(tiny.recipe(), boxes, split(boxes)).drawn is None
    for change, message in (
        ({"cosmology": {}}, "data.drawn needs h, which is neither a parameter of the map set nor in its cosmology"),
        ({"cosmology": {**cosmology, "h": "0.7"}}, "the map set has the h '0.7' in its cosmology. Give a number"),
        ({"cosmology": {**cosmology, "h": -1.0}}, "no card can be written for the map set and this recipe: No density"),
        ({"redshift": None}, "data.drawn is of an overdensity at one redshift: the map set says none, or its density"),
        ({"periodic": False}, "data.drawn is of periodic boxes in three dimensions, in Mpc; the map set does not"),
    ):
        changed = boxes.with_geometry(dataclasses.replace(boxes.geometry, **change))
        with pytest.raises(RecipeError, match=message):
            preparation.new_card(recipe, changed, split(changed))


# -- stamps of single galaxies -------------------------------------------------------------------------------


def stamps(n=24):
    """Round Gaussians of one width whose sum is the flux of their magnitude; every one a simulation of its own."""
    rng = np.random.default_rng(2)
    magnitude = rng.uniform(20, 22, n)
    y, x = np.indices((16, 16)) - 7.5
    profile = np.exp(-(x**2 + y**2) / 8)
    image = flux(magnitude)[:, None, None] * profile / profile.sum()
    return MapSet(
        {"image": Field(image.astype("float32"), "ct / s")},
        magnitude[:, None],
        [Parameter("mag_auto", "mag", 20.0, 22.0)],
        np.arange(n),
        Geometry(kind="image", ndim=2, periodic=False, cell_size=0.03, cell_size_units="arcsec"),
    )


def stamp_recipe(magnitude="mag_auto", scaling=None, even=None, **training):
    values = {
        **tiny.RECIPE,
        "data": {
            "source": "stamps.h5",
            "inputs": [],
            "outputs": ["image"],
            "magnitude": magnitude,
            "even": even,
            "symmetries": ["rotate", "reflect"],
        },
        "scaling": {"image": scaling or {"name": "asinh", "softening": 1e-3, "lower": 0.0}},
        "generator": {**tiny.NETWORK, "latent": 4, "centred": True},
    }
    return validate_recipe({**values, "training": {**values["training"], **training}})


def test_a_discriminator_that_sees_stamps_as_a_telescope_does(tmp_path):
    values = stamp_recipe(maps=8, tick_maps=8).model_dump(mode="json")
    recipe = validate_recipe({**values, "observation": {"psf": "acs", "noise": 0.01}})
    folder = loop.train(recipe, tmp_path / "run", maps=stamps())
    line = log(tmp_path / "run")[0]
    assert np.isfinite(line["discriminator"]) and load_card(folder).recipe["observation"]["psf"] == "acs"
    with pytest.raises(RecipeError, match=r"psf is of pixels of 0.03 arcsec, but the map set has cells of 2 Mpc"):
        loop.train(tiny.recipe(observation={"psf": "acs"}), tmp_path / "new", maps=tiny.maps())


def test_profiles_are_of_two_dimensions(tmp_path):
    galaxies = {"latent": 3, "centred": True, "profiles": 1}
    recipe = tiny.recipe(generator=galaxies, data={"symmetries": [], "magnitude": "a"})
    with pytest.raises(RecipeError, match="profiles are of maps in two dimensions, but the map set has 3"):
        loop.train(recipe, tmp_path / "run", maps=tiny.maps(shape=(8, 8, 8)))


def test_stamps_are_seen_in_unit_flux():
    """All of one profile: they are alike then, and so the scaling's constants are those of the profile."""
    maps = stamps()
    card = preparation.new_card(stamp_recipe(scaling={"name": "linear"}), maps, split(maps))
    assert card.magnitude == "mag_auto"
    y, x = np.indices((16, 16)) - 7.5
    profile = np.exp(-(x**2 + y**2) / 8)
    assert card.outputs[0].scaling["shift"] == pytest.approx(1 / 256, rel=1e-5)
    assert card.outputs[0].scaling["scale"] == pytest.approx((profile / profile.sum()).std(), rel=1e-5)
    with pytest.raises(RecipeError, match=r"data.magnitude is 'mag', but the networks see the parameters mag_auto\."):
        preparation.new_card(stamp_recipe("mag"), maps, split(maps))


def test_radii_of_stamps_are_held(tmp_path):
    """Towards the radius that is asked for, which a generator without that loss knows nothing of."""
    maps = stamps()
    radius = np.full((maps.n_sim, 1), 4.0)
    info = [*maps.parameter_info, Parameter("flux_radius", "pixel", 1.0, 8.0)]
    maps = maps.with_parameters(np.concatenate([maps.parameters, radius], axis=1), info)
    values = stamp_recipe(maps=400, tick_maps=200).model_dump(mode="json")
    values["objective"] = {**values["objective"], "half_light_weight": 10.0}
    folder = loop.train(validate_recipe(values), tmp_path / "run", maps=maps)
    first, last = (log(tmp_path / "run")[i]["half_light"] for i in (0, -1))
    assert last < first
    found = load(folder).sample(parameters={"mag_auto": np.full(8, 21.0), "flux_radius": np.full(8, 4.0)}, seed=1)
    # Those that it is trained on have a radius of 2.35.
    assert abs(np.log(measure(found)["flux_radius"] / 4).mean()) < 0.2
    with pytest.raises(RecipeError, match=r"flux_radius, but the networks see mag_auto\. Leave them out\."):
        loop.train(validate_recipe(values), tmp_path / "new", maps=stamps())


def test_rare_values_of_a_parameter_are_seen_evenly():
    """Magnitudes of which one in ten is bright, and none lies in between."""
    maps = stamps()
    values = np.where(np.arange(maps.n_sim) % 10 == 3, 20.1, 21.9)[:, None]
    maps = maps.with_parameters(values, maps.parameter_info)
    rows = np.arange(len(maps))
    assert preparation.evenly(maps, rows, stamp_recipe()) is rows
    recipe = stamp_recipe(even="mag_auto")
    seen = preparation.evenly(maps, rows, recipe)
    bright, faint = (np.bincount(seen)[values[:, 0] == v] for v in (20.1, 21.9))
    assert set(faint) == {1} and set(bright) == {round(len(faint) / len(bright))}
    with pytest.raises(
        RecipeError, match=r"data.even repeats maps, which .*maps_per_simulation\. Leave one of them out"
    ):
        preparation.evenly(maps, rows, stamp_recipe(even="mag_auto", maps_per_simulation=2))
    with pytest.raises(RecipeError, match=r"data.even is 'mag', but the networks see the parameters mag_auto\."):
        preparation.evenly(maps, rows, stamp_recipe(even="mag"))


def test_training_on_stamps(tmp_path):
    """From noise, a latent vector and a magnitude: stamps in the middle, and of exactly that magnitude."""
    folder = loop.train(stamp_recipe(maps=800, tick_maps=400), tmp_path / "run", maps=stamps())
    found = load(folder).sample(parameters={"mag_auto": [20.5, 21.5]}, seed=1, realisations=3)
    assert found.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(found.sum(axis=(2, 3)), np.repeat(flux(np.array([[20.5], [21.5]])), 3, 1), rtol=1e-4)
    middle = found[..., 6:10, 6:10].sum(axis=(2, 3)) / found.sum(axis=(2, 3))
    assert middle.min() > 2 * 16 / 256
    assert np.ptp(found, axis=1).max() > 0
