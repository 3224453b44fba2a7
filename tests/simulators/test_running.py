import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from higan.errors import HiganError, OutputError
from higan.mapset import MapSet
from higan.simulators import simulate
from higan.simulators.running import _Part
from tests.simulators.fake import Fake


def test_map_set(tmp_path):
    path = simulate(Fake(), output=tmp_path / "boxes.h5", processes=2)
    maps = MapSet.open(path)
    assert maps.shape == (4, 4, 4) and len(maps) == maps.n_sim == 8
    np.testing.assert_array_equal(maps.extra["seeds"], np.arange(100, 108))
    assert list(maps.extra["split"]) == ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    assert (maps.simulator, maps.simulator_version, maps.attributes["set"]) == ("Fake", "1.0", "lh")
    assert maps.geometry.box_size == 8.0 and maps.geometry.cosmology == {"h": 0.7}
    assert maps.fields["brightness_temp"].units == "mK"
    for row in range(8):
        expected = Fake().run({"SIGMA_8": maps.parameters[row, 0]}, 100 + row)
        for name in maps.fields:
            np.testing.assert_array_equal(maps.read(name, [row])[0], expected[name])
    assert sorted(item.name for item in tmp_path.iterdir()) == ["boxes.h5"]


def test_some_simulations_and_seed(tmp_path):
    maps = MapSet.open(simulate(Fake(), output=tmp_path / "some.h5", simulations=[6, 1], seed=40))
    assert list(maps.extra["seeds"]) == [46, 41] and list(maps.extra["split"]) == ["test", "train"]
    assert list(maps.simulation) == [0, 1]
    np.testing.assert_array_equal(maps.parameters, Fake().design("lh").parameters[[6, 1]])
    assert len(MapSet.open(simulate(Fake(), output=tmp_path / "cv.h5", set="cv", simulations=2))) == 2


SCRIPT = """
import sys
from higan.simulators import simulate
from higan.simulators.running import _Part
from tests.simulators.fake import Fake
if __name__ == "__main__":
    simulate(Fake(delay=0.3, log=sys.argv[2]), output=sys.argv[1], processes=2)
"""


def _alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for workers in /proc")
def test_resumes_after_kill(tmp_path):
    log, output, script = tmp_path / "log", tmp_path / "boxes.h5", tmp_path / "script.py"
    log.mkdir()
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(output), str(log)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parts = tmp_path / "boxes.h5.parts"

    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while not parts.is_dir() or len(list(parts.glob("[!.]*.npz"))) < 3:
        assert time.monotonic() < give_up and run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    workers = {int(item.name.split("-")[1]) for item in log.iterdir()}
    while any(map(_alive, workers)):
        assert time.monotonic() < give_up, "workers outlive the process that started them"
        time.sleep(0.05)
    assert not output.exists()
    kept = {item.name: item.stat().st_mtime_ns for item in parts.glob("[!.]*.npz")}
    assert 3 <= len(kept) < 8
    started = len(list(log.iterdir()))
    assert started - len(kept) <= 2, "more was lost than what was in flight"

    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert len(list(log.iterdir())) == started + 8 - len(kept), "finished simulations were run again"
    assert not parts.exists()
    whole = MapSet.open(simulate(Fake(), output=tmp_path / "whole.h5"))
    assert MapSet.open(output).content_sha256() == whole.content_sha256()


def test_parts_of_other_settings_are_not_used(tmp_path):
    output, parts = tmp_path / "boxes.h5", tmp_path / "boxes.h5.parts"
    with pytest.raises(HiganError):
        simulate(Fake(trouble="raise"), output=output)
    assert len(list(parts.iterdir())) >= 1
    maps = MapSet.open(simulate(Fake(cells=6), output=output))
    assert maps.shape == (6, 6, 6)


def test_a_finished_run_leaves_parts_of_others(tmp_path):
    output, parts = tmp_path / "boxes.h5", tmp_path / "boxes.h5.parts"
    with pytest.raises(HiganError):
        simulate(Fake(trouble="raise"), output=output)
    kept = sorted(parts.iterdir())
    (parts / f".{kept[0].name}-1").write_text("half of a part whose worker was killed")
    simulate(Fake(cells=6), output=output)
    assert sorted(parts.glob("[!.]*")) == kept
    # A run with their settings takes up those it asks for, and they go.
    simulate(Fake(trouble="raise"), output=output, simulations=[0, 1], overwrite=True)
    left = [item for item in kept if item.exists()]
    assert len(left) == len(kept) - 2 and parts.exists() == bool(left)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (
            "raise",
            r"Fake failed at simulation 2 \(SIGMA_8=.*, seed 102\): the universe is empty\. .*same command",
        ),
        ("nan", r"simulation 2 .*'density' has NaN or infinite values"),
        ("die", r"ended from outside"),
        ("full", r"boxes.h5.parts cannot be written \(No space left on device\)"),
    ],
)
def test_trouble(tmp_path, trouble, message):
    with pytest.raises(HiganError, match=message) as caught:
        simulate(Fake(trouble=trouble), output=tmp_path / "boxes.h5")
    assert isinstance(caught.value, OutputError) == (trouble == "full")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "boxes.h5").exists()


def test_output_is_looked_at_first(tmp_path):
    path = tmp_path / "boxes.h5"
    path.write_text("mine")
    log = tmp_path / "log"
    log.mkdir()
    with pytest.raises(OutputError, match="exists already"):
        simulate(Fake(log=str(log)), output=path)
    assert path.read_text() == "mine" and not list(log.iterdir())
    simulate(Fake(), output=path, overwrite=True, simulations=1)
    assert len(MapSet.open(path)) == 1
    with pytest.raises(OutputError, match="does not exist"):
        simulate(Fake(), output=tmp_path / "nowhere" / "boxes.h5")


def test_disc_full_when_joining(tmp_path, monkeypatch):
    """Nothing half is left, and no simulation is lost."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    with pytest.raises(OutputError, match="No space left"):
        simulate(Fake(), output=tmp_path / "boxes.h5", simulations=2)
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5.parts"]
    assert len(list((tmp_path / "boxes.h5.parts").iterdir())) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"set": "2p"}, "no set '2p'.*cv"),
        ({"processes": 0}, "in 0 processes"),
        ({"simulations": [3, 3]}, "chosen twice"),
        ({"simulations": range(4, 9)}, "Simulations 4 to 8 .* has 8"),
        ({"simulations": 0}, "No simulations are chosen"),
    ],
)
def test_wrong_wishes(tmp_path, wrong, message):
    with pytest.raises(HiganError, match=message):
        simulate(Fake(), output=tmp_path / "boxes.h5", **wrong)
    assert not list(tmp_path.iterdir())


def test_settings_are_recorded(tmp_path):
    with h5py.File(simulate(Fake(cells=5), output=tmp_path / "boxes.h5", simulations=1)) as file:
        assert '"cells": 5' in file.attrs["simulator_settings"]
        assert dataclasses.asdict(Fake(cells=5))["cells"] == 5


@pytest.mark.parametrize("damage", ["empty", "truncated", "zeros"])
def test_a_damaged_part_is_named(tmp_path, damage):
    """Taken away, its simulation alone is run again."""
    output, parts = tmp_path / "boxes.h5", tmp_path / "boxes.h5.parts"
    with pytest.raises(HiganError):
        simulate(Fake(trouble="raise"), output=output)
    (part,) = (_Part(Fake(trouble="raise"), Fake().design("lh"), np.array([0]), parts).path,)
    content = part.read_bytes()
    damaged = {"empty": b"", "truncated": content[: len(content) // 2], "zeros": bytes(len(content))}
    part.write_bytes(damaged[damage])
    with pytest.raises(HiganError, match=r"npz is damaged \(.*Remove it and run the same command again") as caught:
        simulate(Fake(trouble="raise"), output=output, simulations=2)
    assert "\n" not in str(caught.value) and not output.exists()
    part.unlink()
    assert len(MapSet.open(simulate(Fake(trouble="raise"), output=output, simulations=2))) == 2


def test_two_at_once(tmp_path):
    """The second one is refused, and the first one's parts are left alone."""
    from higan.mapset_writer import alone

    output, parts = tmp_path / "boxes.h5", tmp_path / "boxes.h5.parts"
    parts.mkdir()
    with alone(parts, output), pytest.raises(OutputError, match=r"is being made by another process\. Wait for it"):
        simulate(Fake(), output=output, simulations=1)
    assert not list(parts.iterdir()) and not output.exists()
    assert len(MapSet.open(simulate(Fake(), output=output, simulations=1))) == 1
