import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import higan
from higan.adversarial.loop import _begin
from higan.checkpoint import load_card
from higan.cli import main
from higan.recipe import load_recipe
from tests import tiny
from tests.adversarial.test_loop import alike, log, weights

TICKS = [16, 32, 48]


@pytest.fixture(scope="module")
def trained(map_set, tmp_path_factory):
    """A recipe, and the folder of a run of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp("train")
    recipe = tiny.recipe_toml(folder / "tiny.toml", map_set.path)
    assert main(["train", str(recipe), "--output", str(folder / "run")]) == 0
    return recipe, folder / "run"


def test_what_a_training_writes(trained, map_set):
    run = trained[1]
    found = {item.name for item in run.iterdir()}
    assert found == {".lock", "recipe.json", "log.jsonl", "figures", "state.h5", "checkpoint"}
    lines = log(run)
    assert [line["maps"] for line in lines] == TICKS
    expected = {"pixel", "generator", "discriminator", "r1", "r2", "mean_abs_R_minus_1", "D", "rmse", "maps_per_s"}
    for line in lines:
        assert expected <= set(line) and np.isfinite(list(line.values())).all()
    figures = sorted((run / "figures").iterdir())
    assert [item.name for item in figures] == [f"{maps:09d}.png" for maps in TICKS]
    assert all(item.read_bytes()[:4] == b"\x89PNG" for item in figures)
    card = load_card(run / "checkpoint")
    best = min(lines, key=lambda line: line["mean_abs_R_minus_1"])
    assert card.metrics["validation"]["maps_seen"] == best["maps"]
    assert card.metrics["validation"]["mean_abs_R_minus_1"] == best["mean_abs_R_minus_1"]
    assert card.training["sha256"] == map_set.content_sha256() and card.training["simulations"] == 6
    assert json.loads((run / "recipe.json").read_text()) == card.recipe
    with h5py.File(run / "state.h5") as file:
        assert file.attrs["step"] == 12


def test_the_checkpoint_paints(trained, map_set):
    emulator = higan.load(trained[1] / "checkpoint")
    maps = emulator.sample(map_set.read("density", [0]), {"BIAS": 2.0, "T_MEAN": 15.0}, seed=1)
    assert maps.shape == (1, 16, 16) and np.isfinite(maps).all() and maps.min() >= 0


def test_the_checkpoint_holds_the_average(trained):
    """Of the tick that was best; where that is the last, the state holds the same."""
    run = trained[1]
    card = load_card(run / "checkpoint")
    same = alike(weights(run / "checkpoint" / "generator.weights.h5"), weights(run / "state.h5")["average"])
    assert same == (card.metrics["validation"]["maps_seen"] == TICKS[-1])


def test_kill_and_resume_give_the_same_bits(trained, tmp_path, capsys):
    """SIGKILL after the first saved state, in another process; resumed here: as if nothing had happened."""
    recipe, whole = trained
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "higan", "train", str(recipe), "--output", str(run)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (run / "state.h5").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with h5py.File(run / "state.h5") as file:
        assert 0 < file.attrs["step"] < 12
    # A kill may leave half a line.
    with open(run / "log.jsonl", "a") as file:
        file.write('{"maps": 99')

    assert main(["train", str(recipe), "--output", str(run)]) == 0
    for path in ("state.h5", "checkpoint/generator.weights.h5"):
        expected, found = weights(whole / path), weights(run / path)
        assert set(found) == set(expected)
        for name, values in expected.items():
            assert found[name].tobytes() == values.tobytes(), (path, name)
    # Losses are the same bits, too; what maps that are painted to be validated are like is the same to rounding.
    metrics = [load_card(x / "checkpoint").metrics["validation"] for x in (run, whole)]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)
    for here, there in zip(log(run), log(whole), strict=True):
        trained_on = set(there) - set(metrics[1]) - {"hours", "maps_per_s"}
        assert {"maps", "pixel", "generator", "discriminator"} <= trained_on and set(here) == set(there)
        assert all(here[name] == there[name] for name in trained_on)
        assert all(here[name] == pytest.approx(there[name], rel=1e-5) for name in set(there) & set(metrics[1]))


def test_sigterm_saves_the_state_of_the_step_and_asks_for_a_requeue(trained, tmp_path, capsys):
    """Held still at its start: another one is refused meanwhile, and the first step is the one that is finished."""
    recipe, whole = trained
    run = tmp_path / "run"
    words = ["train", str(recipe), "--output", str(run)]
    process = subprocess.Popen([sys.executable, "-m", "higan", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (run / "log.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    assert main(words) == 2 and "Another process trains into" in capsys.readouterr().err
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 75 and "stopped by SIGTERM after" in err and "Traceback" not in err
    with h5py.File(run / "state.h5") as file:
        assert 0 < file.attrs["step"] < 12
    assert main(words) == 0
    expected, found = weights(whole / "state.h5"), weights(run / "state.h5")
    assert all(found[name].tobytes() == values.tobytes() for name, values in expected.items())


def test_sigterm_before_the_first_step_asks_for_a_requeue_too(map_set, tmp_path, monkeypatch, capsys):
    """While maps are read or simulated; the handler that was there before is there again."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("higan.recipe.load_recipe", lambda path: signal.raise_signal(signal.SIGTERM))
    assert main(["train", str(tmp_path / "recipe.toml")]) == 75
    assert "stopped by SIGTERM before its first step" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_after_the_last_step_asks_for_a_requeue_too(map_set, tmp_path, monkeypatch, capsys):
    """While quantiles are mapped, which are minutes: they are mapped when it is started again."""
    recipe = tiny.recipe_toml(
        tmp_path / "tiny.toml",
        map_set.path,
        objective={"name": "none", "pixel_weight": 1.0},
        training={"maps": 8, "tick_maps": 8, "quantile_maps": 4},
    )
    words = ["train", str(recipe), "--output", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("higan.adversarial.quantiles.spread", lambda *args: signal.raise_signal(signal.SIGTERM))
        assert main(words) == 75
    assert "after its last: start it again" in capsys.readouterr().err
    assert main(words) == 0
    assert load_card(tmp_path / "run" / "checkpoint").outputs[0].quantile_mapping


def test_resuming_a_finished_training_changes_nothing(trained, capsys):
    recipe, run = trained
    before = weights(run / "state.h5")
    assert main(["train", str(recipe), "--output", str(run), "--resume"]) == 0
    assert "mean_abs_R_minus_1 = " in capsys.readouterr().out
    for name, values in weights(run / "state.h5").items():
        np.testing.assert_array_equal(values, before[name])


def test_a_run_killed_before_its_first_state_can_be_resumed(map_set, tmp_path):
    recipe = tiny.recipe_toml(
        tmp_path / "tiny.toml",
        map_set.path,
        objective={"name": "none", "pixel_weight": 1.0},
        training={"maps": 8, "tick_maps": 8},
    )
    run = tmp_path / "run"
    _begin(run, load_recipe(recipe))
    assert main(["train", str(recipe), "--output", str(run), "--resume"]) == 0
    assert [line["maps"] for line in log(run)] == [8] and (run / "checkpoint" / "card.json").exists()


def test_refusals(trained, map_set, tmp_path, capsys):
    recipe, run = trained
    changed = tiny.recipe_toml(tmp_path / "changed.toml", map_set.path, training={"learning_rate": 0.5})
    nothing = tmp_path / "nothing"
    (tmp_path / "damaged").mkdir()
    for name, content in (("recipe.json", (run / "recipe.json").read_text()), ("state.h5", "state")):
        (tmp_path / "damaged" / name).write_text(content)
    single = tiny.maps(n_sim=1, extra={}).save(tmp_path / "single.h5")
    beyond = tiny.recipe_toml(tmp_path / "beyond.toml", map_set.path, scaling={"brightness_temp": {"lower": 1e300}})
    for arguments, message in (
        ([str(changed), "--output", str(run)], "was trained by another recipe: [training] differ"),
        ([str(changed), "--output", str(run), "--resume"], "was trained by another recipe: [training] differ"),
        ([str(recipe), "--output", str(nothing), "--resume"], "holds no training to resume"),
        ([str(recipe), "--output", str(tmp_path / "damaged"), "--resume"], "the state is damaged"),
        ([str(recipe), "--output", str(nothing), "--data", str(tmp_path / "none.h5")], "does not exist"),
        ([str(beyond), "--output", str(nothing)], "no card can be written"),
        ([str(recipe), "--output", str(nothing), "--data", str(single)], "not enough simulations to split"),
        ([str(recipe), "--output", str(recipe / "run")], "cannot be written"),
        ([str(tmp_path / "none.toml")], "cannot be read"),
    ):
        assert main(["train", *arguments]) == 2, message
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1 and err.startswith("higan train: ")
    assert not nothing.exists() and len(log(run)) == len(TICKS)


def test_tracking_may_change_when_resuming(trained, map_set, tmp_path):
    recipe = tiny.recipe_toml(tmp_path / "other.toml", map_set.path, tracking={"project": "another"})
    assert main(["train", str(recipe), "--output", str(trained[1]), "--resume"]) == 0


def test_dry_run_imports_no_backend(map_set, tmp_path):
    recipe = tiny.recipe_toml(tmp_path / "tiny.toml", "nowhere.h5")
    code = (
        "import sys; from higan.cli import main; code = main(sys.argv[1:]);"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules); sys.exit(code)"
    )
    arguments = ["train", str(recipe), "--dry-run", "--data", str(map_set.path)]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    printed = json.loads(run.stdout)
    assert printed == tiny.recipe(data={"source": str(map_set.path)}).model_dump(mode="json")
    # Defaults are spelt out.
    assert printed["training"]["schedule"] == "cosine" and printed["objective"]["r1"] == 0.02
    assert [item.name for item in tmp_path.iterdir()] == ["tiny.toml"]


def test_dry_run_checks_the_maps(map_set, tmp_path, capsys):
    """What a training refuses before its first step; maps that it would simulate are not there to see."""
    missing = tiny.recipe_toml(tmp_path / "missing.toml", tmp_path / "none.h5")
    field = tiny.recipe_toml(tmp_path / "field.toml", map_set.path, data={"inputs": ["hi"]})
    initial = tiny.recipe_toml(tmp_path / "initial.toml", map_set.path, training={"initial": "nowhere"})
    for recipe, message in ((missing, "does not exist"), (field, "no field 'hi'"), (initial, "nowhere")):
        assert main(["train", str(recipe), "--dry-run"]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    simulated = tiny.recipe_toml(
        tmp_path / "simulated.toml", tmp_path / "none.h5", data={"simulate": {"simulator": "21cmfast"}}
    )
    assert main(["train", str(simulated), "--dry-run"]) == 0
    assert "none.h5 would be simulated first" in capsys.readouterr().err


def test_jax_trains_from_the_same_recipe(trained, tmp_path):
    """Without TensorFlow; the losses agree until rounding errors have grown."""
    pytest.importorskip("jax")
    recipe, whole = trained
    code = (
        "import sys; sys.modules['tensorflow'] = None; from higan.cli import main; code = main(sys.argv[1:]);"
        "import keras; assert keras.backend.backend() == 'jax'; sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "train", str(recipe), "--output", str(tmp_path / "run")],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    here, there = log(whole), log(tmp_path / "run")
    assert [line["maps"] for line in there] == TICKS
    for name in ("pixel", "generator", "discriminator", "r1", "r2"):
        # A mean of four steps.
        assert there[0][name] == pytest.approx(here[0][name], rel=1e-3), name
    for name in ("mean_abs_R_minus_1", "D", "rmse"):
        assert there[0][name] == pytest.approx(here[0][name], rel=1e-2, abs=1e-3), name
    # Its checkpoint paints on the other backend.
    maps = higan.load(tmp_path / "run" / "checkpoint").sample(np.zeros((8, 8)), {"BIAS": 2, "T_MEAN": 15}, seed=1)
    assert np.isfinite(maps).all()
