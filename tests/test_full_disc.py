"""Everything that writes, on a disc that really is full: a tmpfs of few kilobytes."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from higan.adversarial import loop
from higan.checkpoint import load_card, save_checkpoint
from higan.cli import main
from higan.errors import OutputError
from higan.mapset import MapSet
from higan.mapset_writer import MapSetWriter
from higan.simulators import simulate
from higan.validation.baselines import Baselines
from tests import tiny
from tests.adversarial.test_loop import ALONE, log, weights
from tests.simulators.fake import Fake
from tests.test_mapset import example


@pytest.fixture
def disc(tmp_path):
    """A function that mounts a disc of so many kB, and fills it but for so many, or changes what is free."""
    folder = tmp_path / "disc"
    folder.mkdir()

    def make(free, size=2048):
        (folder / "filling").unlink(missing_ok=True)
        if not os.path.ismount(folder):
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
            try:
                run = subprocess.run(command, capture_output=True, text=True)
            except OSError as error:
                pytest.skip(f"a small disc cannot be mounted here ({error})")
            if run.returncode:
                pytest.skip(f"a small disc cannot be mounted here ({run.stderr.strip()})")
        with open(folder / "filling", "wb") as file:
            file.write(bytes(max(0, shutil.disk_usage(folder).free - 1024 * free)))
        return folder

    yield make
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def left(folder):
    return sorted(item.name for item in folder.iterdir() if item.name != "filling")


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("free", [0, 4, 40])
def test_a_checkpoint(disc, free):
    """The old one stays, whatever part of the new one there is room for."""
    folder = disc(2048) / "tiny"
    save_checkpoint(folder, tiny.card(), {"kernel": random(4)})
    disc(free)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)\. Make room"):
        save_checkpoint(folder, tiny.card(), {"kernel": random(200, 200)}, overwrite=True)
    assert left(folder.parent) == ["tiny"] and load_card(folder).name == "tiny"
    with h5py.File(folder / "generator.weights.h5") as file:
        np.testing.assert_array_equal(file["kernel"][()], random(4))


@pytest.mark.parametrize("made_from", [None, "x"])
@pytest.mark.parametrize("free", [0, 8, 200])
def test_a_map_set(disc, free, made_from):
    folder, maps = disc(free), example(shape=(64, 64))
    with (
        pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)\. Nothing was left behind"),
        MapSetWriter(folder / "maps.h5", maps, {"density": ((64, 64), "", "")}, 24, made_from=made_from) as writer,
    ):
        for row in range(24):
            writer.write(row, {"density": maps.read("density", [row % 12])})
    assert left(folder) == []


def test_simulations(disc):
    """Those there was room for are kept, and the same command goes on when there is more."""
    folder = disc(64)
    with pytest.raises(OutputError, match=r"\.parts cannot be written \(No space left on device\)"):
        simulate(Fake(cells=12), output=folder / "boxes.h5")
    assert left(folder) == ["boxes.h5.parts"]
    kept = {item: item.stat().st_mtime_ns for item in (folder / "boxes.h5.parts").iterdir()}
    assert 0 < len(kept) < 8 and all(item.suffix == ".npz" and item.name[0] != "." for item in kept)
    disc(180)  # for the simulations, but not for the map set beside them
    with pytest.raises(OutputError, match=r"boxes\.h5 cannot be written \(No space left on device\)"):
        simulate(Fake(cells=12), output=folder / "boxes.h5")
    assert left(folder) == ["boxes.h5.parts"] and all(item.stat().st_mtime_ns == then for item, then in kept.items())
    disc(2048)
    assert len(MapSet.open(simulate(Fake(cells=12), output=folder / "boxes.h5"))) == 8
    assert left(folder) == ["boxes.h5"]


def test_baselines(disc):
    baselines = Baselines.fit(tiny.maps(), "density", "brightness_temp")
    folder = disc(4)
    with pytest.raises(OutputError, match="cannot be written"):
        baselines.save(folder / "baselines.h5")
    assert left(folder) == []


def test_painting(disc, checkpoint, map_set, capsys):
    folder = disc(16)
    words = ["sample", str(checkpoint), "--input", str(map_set.path), "--seed", "1", "--batch-size", "8"]
    assert main([*words, "--output", str(folder / "out.h5")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err and left(folder) == []
    assert main([*words, "--output", str(folder / "out.fits")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err and left(folder) == []


def test_a_report(disc, map_set, capsys, monkeypatch):
    """Of the truth beside itself, without figures."""
    monkeypatch.setattr("higan.validation.report._draw", lambda *_: {})
    folder = disc(0)
    words = ["validate", str(map_set.path), str(map_set.path), "--field", "brightness_temp", "--split", "all"]
    assert main([*words, "--output", str(folder / "report")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err
    assert left(folder) == []


def test_a_training_goes_on_when_there_is_room(disc, map_set, tmp_path, capsys):
    """Stopped with one line at whatever could not be written, first where there is no room, then where there is some;
    the last state is whole, and the result the same."""
    recipe = tiny.recipe_toml(
        tmp_path / "tiny.toml",
        map_set.path,
        **ALONE,
        training={"maps": 32, "tick_maps": 8},
        validation={"select": "last"},
    )
    folder = disc(2048)
    save = loop.save_state
    for free in (0, 120):
        saved = []

        def filling(*arguments, free=free, saved=saved):
            save(*arguments)
            saved.append(arguments)
            if len(saved) == 1:
                disc(free)

        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the log is no longer written
            patch.setattr(loop, "save_state", filling)
            assert main(["train", str(recipe), "--output", str(folder / "run")]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "No space left on device" in err
        with h5py.File(folder / "run" / "state.h5") as file:
            assert file.attrs["step"] in (2, 4, 6)
        assert load_card(folder / "run" / "checkpoint").name == "tiny"
        disc(2048)
    assert main(["train", str(recipe), "--output", str(folder / "run")]) == 0
    assert main(["train", str(recipe), "--output", str(tmp_path / "whole")]) == 0
    for path in ("state.h5", "checkpoint/generator.weights.h5"):
        whole, found = weights(tmp_path / "whole" / path), weights(folder / "run" / path)
        assert all(found[name].tobytes() == values.tobytes() for name, values in whole.items())
    assert [line["maps"] for line in log(folder / "run")] == [8, 16, 24, 32]
    assert not [name for name in left(folder / "run") if "partial" in name]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from higan.checkpoint import replace_hdf5
path, written = Path(sys.argv[1]), []
replace_hdf5(path, {"a": np.zeros(9)})
fsync = os.fsync
def stop(file):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = stop
replace_hdf5(path, {"a": np.ones(10**5)})
"""


def test_a_kill_while_the_state_is_written(tmp_path):
    """No disc is full here: the old one is whole, and the next leaves nothing beside it."""
    from higan.checkpoint import replace_hdf5

    path = tmp_path / "state.h5"
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[1])
    assert run.returncode == -9 and left(tmp_path) == [".state.h5.partial", "state.h5"]
    assert weights(path)["a"].tolist() == [0.0] * 9
    replace_hdf5(path, {"a": np.ones(3)})
    assert left(tmp_path) == ["state.h5"] and weights(path)["a"].tolist() == [1.0] * 3
