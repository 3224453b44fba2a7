import json
import os
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from higan import checkpoint as module
from higan.checkpoint import describe, file_sha256, find_checkpoint, load_card, load_weights, save_checkpoint
from higan.errors import CheckpointError, OutputError
from tests import tiny

SHAPES = {"stem/kernel": (3, 3, 1, 4), "stem/bias": (4,)}


def weights(value=0.5):
    return {name: np.full(shape, value, "float32") for name, shape in SHAPES.items()}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that holds two weights."""
    save_checkpoint(tmp_path / "tiny", tiny.card(), weights())
    return tmp_path / "tiny"


def edit_weights(folder, change, sign=True):
    """Change the weights' file; the card agrees with it afterwards where `sign`."""
    with h5py.File(folder / "generator.weights.h5", "r+") as file:
        change(file)
    if sign:
        edit_card(folder, weights_sha256=file_sha256(folder / "generator.weights.h5"))


def edit_card(folder, **changes):
    values = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**values, **changes}))


def replace(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def test_save_and_load(folder):
    card = load_card(folder)
    assert card == tiny.card().model_copy(update={"weights_sha256": card.weights_sha256})
    assert card.weights_sha256 == file_sha256(folder / "generator.weights.h5")
    found = load_weights(folder, card, SHAPES)
    assert set(found) == set(SHAPES)
    for name, values in weights().items():
        np.testing.assert_array_equal(found[name], values)
    # Nothing else: no pickle, no code.
    assert sorted(os.listdir(folder)) == ["card.json", "generator.weights.h5"]
    assert os.listdir(folder.parent) == ["tiny"]


def test_weights_are_numbers_alone(folder):
    kinds = []
    with h5py.File(folder / "generator.weights.h5") as file:
        file.visititems(lambda _, item: kinds.append(item.dtype.kind) if isinstance(item, h5py.Dataset) else None)
        assert not file.attrs
    assert kinds == ["f", "f"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: edit_weights(folder, replace("stem/bias", np.ones(4)), sign=False), "is not the file its card"),
        (lambda folder: edit_weights(folder, replace("stem/bias", np.ones(5))), "should have shape (4,), found (5,)"),
        (lambda folder: edit_weights(folder, lambda file: file.__delitem__("stem/bias")), "found nothing"),
        (
            lambda folder: edit_weights(folder, replace("stem/bias", [0, np.nan, 0, 0])),
            "holds weights that are NaN or infinite",
        ),
        (lambda folder: edit_weights(folder, replace("stem/bias", [np.inf] * 4)), "are NaN or infinite"),
        (lambda folder: edit_weights(folder, replace("stem/bias", [b"import os"] * 4)), "is damaged"),
        (lambda folder: (folder / "generator.weights.h5").unlink(), "cannot be read"),
    ],
)
def test_damaged_weights(folder, change, message):
    change(folder)
    with pytest.raises(CheckpointError) as caught:
        load_weights(folder, load_card(folder), SHAPES)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(folder / "generator.weights.h5") in str(caught.value)


def test_weights_that_are_no_hdf5(folder):
    (folder / "generator.weights.h5").write_bytes(b"\x80\x04pickle")
    edit_card(folder, weights_sha256=file_sha256(folder / "generator.weights.h5"))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(folder, load_card(folder), SHAPES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: edit_card(folder, card_version=module.CARD_VERSION + 1),
            "newer than 1, which this higan reads",
        ),
        (lambda folder: edit_card(folder, card_version="1"), "no card_version"),
        (lambda folder: (folder / "card.json").write_text('{"name": "ti'), "is not valid JSON"),
        (lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe\x00"), "is not valid JSON"),
        (lambda folder: (folder / "card.json").write_text("[1]"), "no card_version"),
        (lambda folder: edit_card(folder, outputs=[]), "is damaged: outputs"),
        (lambda folder: edit_card(folder, network={"widths": ["wide"]}), "is damaged: network.widths.0"),
        (lambda folder: edit_card(folder, network={"widths": [4], "layer": "eval"}), "is damaged: network.layer"),
        (lambda folder: edit_card(folder, ndim=4), "is damaged: ndim"),
        (lambda folder: (folder / "card.json").unlink(), "cannot be read (No such file or directory)"),
    ],
)
def test_damaged_cards(folder, change, message):
    change(folder)
    with pytest.raises(CheckpointError) as caught:
        load_card(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "card.json" in str(caught.value)


def test_a_newer_card_with_unknown_keys_of_this_version_is_read(folder):
    edit_card(folder, colour="blue")
    assert load_card(folder).name == "tiny"


def test_an_output_that_exists_is_kept(folder):
    with pytest.raises(OutputError, match="exists already"):
        save_checkpoint(folder, tiny.card(), weights(2.0))
    assert (load_weights(folder, load_card(folder), SHAPES)["stem/bias"] == 0.5).all()
    save_checkpoint(folder, tiny.card(), weights(2.0), overwrite=True)
    assert (load_weights(folder, load_card(folder), SHAPES)["stem/bias"] == 2.0).all()
    assert os.listdir(folder.parent) == ["tiny"]


@pytest.mark.parametrize("failing", ["weights", "card", "first rename", "second rename"])
def test_a_failure_in_the_middle_leaves_the_old_one(folder, monkeypatch, failing):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    renames, rename = [], os.replace

    def counted(source, target):
        renames.append(target)
        if len(renames) == {"first rename": 1, "second rename": 2}[failing]:
            full()
        rename(source, target)

    if failing == "weights":
        monkeypatch.setattr(h5py.Group, "create_dataset", full)
    elif failing == "card":
        monkeypatch.setattr(module.Path, "write_text", full)
    else:
        monkeypatch.setattr(os, "replace", counted)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(folder, tiny.card(), weights(2.0), overwrite=True)
    monkeypatch.undo()
    assert (load_weights(folder, load_card(folder), SHAPES)["stem/bias"] == 0.5).all()
    assert os.listdir(folder.parent) == ["tiny"]


def on_a_full_disc(code, *arguments):
    """Run `code` in a process whose files end at 4096 bytes; what it printed."""
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    run = subprocess.run([sys.executable, "-c", limit + code, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, (run.returncode, run.stderr)
    return run.stdout


SAVE = """
import sys
from pathlib import Path
import numpy as np
from higan.checkpoint import load_card, save_checkpoint
from higan.errors import OutputError
folder = Path(sys.argv[1])
values = np.random.default_rng(0).normal(size=(3, 3, 1, 4) if len(sys.argv) > 2 else (300, 300)).astype("float32")
"""


def test_a_full_disc(folder):
    """HDF5 ends the program if it may not write all of a file that it has open."""
    code = """
for target in (folder, folder.with_name("another")):
    try:
        save_checkpoint(target, load_card(folder), {"kernel": values}, overwrite=True)
    except OutputError as error:
        print(error)
"""
    messages = on_a_full_disc(SAVE + code, folder).splitlines()
    assert messages == [
        f"{folder.with_name(name)} cannot be written (File too large). Make room, or choose another place."
        for name in ("tiny", "another")
    ]
    assert os.listdir(folder.parent) == ["tiny"]
    assert (load_weights(folder, load_card(folder), SHAPES)["stem/bias"] == 0.5).all()


@pytest.mark.parametrize("step", ["write_hdf5", "before 1", "before 2", "after 2"])
def test_a_kill_in_the_middle_loses_nothing(folder, step):
    """SIGKILL at each step of an overwriting: the old or the new one is found, and the next leaves no debris."""
    code = """
import os, signal
from higan import checkpoint
def stop(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
replace, calls = os.replace, []
def counted(source, target):
    calls.append(target)
    if sys.argv[2] == f"before {len(calls)}":
        stop()
    replace(source, target)
    if sys.argv[2] == f"after {len(calls)}":
        stop()
os.replace = counted
if sys.argv[2] == "write_hdf5":
    checkpoint.file_sha256 = stop
card = load_card(folder).model_copy(update={"name": "new"})
save_checkpoint(folder, card, {"stem/kernel": values, "stem/bias": np.ones(4)}, overwrite=True)
"""
    run = subprocess.run([sys.executable, "-c", SAVE + code, str(folder), step])
    assert run.returncode == -signal.SIGKILL
    found = find_checkpoint(folder)
    card = load_card(found)
    assert card.name == ("new" if step == "after 2" else "tiny")
    assert (load_weights(found, card, SHAPES)["stem/bias"] == (1.0 if step == "after 2" else 0.5)).all()
    with pytest.raises(OutputError, match="exists already"):
        save_checkpoint(folder, tiny.card(), weights(2.0))
    save_checkpoint(folder, tiny.card(), weights(2.0), overwrite=True)
    assert os.listdir(folder.parent) == ["tiny"]
    assert (load_weights(folder, load_card(folder), SHAPES)["stem/bias"] == 2.0).all()


def test_a_failure_after_a_kill_brings_the_old_one_back(folder, monkeypatch):
    """Where a killed overwriting had moved it aside."""
    os.replace(folder, folder.with_name(".tiny.old"))
    monkeypatch.setattr(module, "card_json", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(folder, tiny.card(), weights(2.0), overwrite=True)
    assert os.listdir(folder.parent) == ["tiny"] and load_card(folder).name == "tiny"


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "tiny").write_text("mine")
    with pytest.raises(OutputError, match=r"tiny is a file\. Give the name of a folder\.$"):
        save_checkpoint(tmp_path / "tiny", tiny.card(), weights(), overwrite=True)
    assert os.listdir(tmp_path) == ["tiny"] and (tmp_path / "tiny").read_text() == "mine"


def test_a_failure_at_first_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "card_json", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(tmp_path / "tiny", tiny.card(), weights())
    assert not os.listdir(tmp_path)


def test_find(folder, tmp_path, monkeypatch):
    assert find_checkpoint(folder) == folder and find_checkpoint(str(folder)) == folder
    shipped = tmp_path / "shipped"
    shutil.copytree(folder, shipped / "eor-large")
    shutil.copytree(folder, shipped / "eor-small")
    (shipped / "not one").mkdir()
    monkeypatch.setattr(module, "shipped_folder", lambda name: shipped)
    assert find_checkpoint("eor-small") == shipped / "eor-small"
    with pytest.raises(CheckpointError, match=r"^eor is no folder, nor the name of .*\(eor-large, eor-small\)\. Give"):
        find_checkpoint("eor")
    with pytest.raises(CheckpointError, match=r"has no card\.json: it is not a checkpoint"):
        find_checkpoint(tmp_path)


def test_describe_imports_no_backend(checkpoint):
    code = (
        "import sys; from higan.checkpoint import describe; print(describe(sys.argv[1]));"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules) or 'light')"
    )
    run = subprocess.run([sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "light"
    assert run.stdout.rsplit("\n", 2)[0] == describe(checkpoint)
    for words in ("tiny, version 1", "widths [4, 8]", "stride 2", "cells of 2 Mpc", "slabs of 8 Mpc", "z = 8", "BIAS"):
        assert words in run.stdout


def test_a_card_prints_as_it_is_described(checkpoint):
    first, rest = str(load_card(checkpoint)).split("\n", 1)
    described = describe(checkpoint).split("\n", 1)
    assert described[1] == rest and described[0].startswith(first)


def test_painter_refuses_weights_of_another_network(checkpoint, tmp_path):
    from higan.painting.painter import Painter

    shutil.copytree(checkpoint, tmp_path / "other")
    edit_card(tmp_path / "other", network={**tiny.NETWORK, "widths": [4, 12]})
    with pytest.raises(CheckpointError, match="should have shape"):
        Painter.load(tmp_path / "other")


def test_loading_never_unpickles(checkpoint, monkeypatch):
    """Neither pickle nor Keras' own deserialisation is asked when a checkpoint is opened."""
    import pickle

    import keras

    from higan.painting.painter import Painter

    def forbidden(*_, **__):
        raise AssertionError("a checkpoint runs code")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(keras.saving, "load_model", forbidden)
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", forbidden)
    assert Painter.load(checkpoint).card.name == "tiny"
