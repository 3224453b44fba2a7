import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import higan
from higan.checkpoint import file_sha256
from higan.cli import main
from higan.cli.sample import parse_parameters
from higan.errors import ParameterError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.mapset_writer import partial_path
from higan.painting import lazy
from higan.painting.stream import paint_to_file
from tests import tiny

PARAMETERS = "BIAS=2.0,T_MEAN=15"


def sample(checkpoint, source, output, *options, seed=7):
    command = ["sample", str(checkpoint), "--input", str(source), "--output", str(output), "--seed", str(seed)]
    return main([*command, *map(str, options)])


def scaled(maps):
    return (maps - 15.0) / 8.0


@pytest.fixture(scope="module")
def painted(checkpoint, map_set, tmp_path_factory):
    """Three realisations of each map of the set, in batches of 7."""
    path = tmp_path_factory.mktemp("sample") / "out.h5"
    assert sample(checkpoint, map_set.path, path, "--realisations", 3, "--batch-size", 7) == 0
    return path


def test_map_set_in_map_set_out(painted, checkpoint, map_set):
    maps = MapSet.open(painted)
    assert list(maps.fields) == ["brightness_temp"] and maps.fields["brightness_temp"].units == "mK"
    assert len(maps) == 96 and maps.shape == (16, 16) and maps.geometry == map_set.geometry
    np.testing.assert_array_equal(maps.extra["source_row"], np.repeat(np.arange(32), 3))
    np.testing.assert_array_equal(maps.extra["realisation"], np.tile(np.arange(3), 32))
    np.testing.assert_array_equal(maps.simulation, np.repeat(map_set.simulation, 3))
    np.testing.assert_array_equal(maps.parameters, map_set.parameters)
    assert maps.parameter_info == map_set.parameter_info
    for name in ("seeds", "split"):
        np.testing.assert_array_equal(maps.extra[name], map_set.extra[name])
    attributes = maps.attributes
    assert attributes["checkpoint"] == "tiny" and attributes["seed"] == 7 and attributes["realisations"] == 3
    assert attributes["checkpoint_sha256"] == file_sha256(checkpoint / "generator.weights.h5")
    assert not attributes["extrapolated"]
    assert maps.created_by == f"higan {higan.__version__}" and maps.simulator == "law"
    assert [item.name for item in painted.parent.iterdir()] == ["out.h5"]


def test_h5py_alone_reads_it(painted):
    with h5py.File(painted) as file:
        assert file["source_row"].dtype == np.int32 and file["realisation"].dtype == np.int32
        assert file["fields/brightness_temp"].shape == (96, 16, 16)
        assert file.attrs["format"] == "higan-maps" and file.attrs["seed"].dtype == np.uint64


def test_the_command_line_paints_what_the_emulator_paints(painted, emulator, map_set):
    theta = dict(zip(map_set.parameter_names, map_set.parameters[map_set.simulation].T, strict=True))
    expected = emulator.sample(map_set.read("density"), theta, seed=7, realisations=3)
    found = MapSet.open(painted).read("brightness_temp").reshape(32, 3, 16, 16)
    np.testing.assert_allclose(scaled(found), scaled(expected), atol=1e-4)


def test_the_same_command_gives_the_same_maps(painted, checkpoint, map_set, tmp_path):
    for output, size in ((tmp_path / "a.h5", 7), (tmp_path / "b.h5", 7), (tmp_path / "c.h5", 96)):
        assert sample(checkpoint, map_set.path, output, "--realisations", 3, "--batch-size", size) == 0
    a, b, c, first = (
        MapSet.open(path).read("brightness_temp")
        for path in (tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5", painted)
    )
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, first)
    np.testing.assert_allclose(scaled(c), scaled(a), atol=1e-4)
    assert sample(checkpoint, map_set.path, tmp_path / "a.h5", "--overwrite", seed=8) == 0
    assert np.abs(MapSet.open(tmp_path / "a.h5").read("brightness_temp")[0] - first[0]).max() > 0.1


def test_arrays_with_parameters(checkpoint, emulator, map_set, tmp_path):
    density = map_set.read("density", [0, 1])
    for name, values in (("two", density), ("one", density[0].astype(np.float64))):
        np.save(tmp_path / f"{name}.npy", values)
        output = tmp_path / f"{name}.h5"
        assert sample(checkpoint, tmp_path / f"{name}.npy", output, "--parameters", "T_MEAN=15, BIAS=2.0") == 0
        maps = MapSet.open(output)
        expected = emulator.sample(values, {"BIAS": 2.0, "T_MEAN": 15.0}, seed=7).reshape(-1, 16, 16)
        np.testing.assert_allclose(scaled(maps.read("brightness_temp")), scaled(expected), atol=1e-4)
        assert maps.cell_size == 2.0 and maps.geometry.thickness == 8.0 and maps.geometry.redshift == 8.0
        assert maps.parameters.tolist() == [[2.0, 15.0]] and maps.parameter_info == tiny.PARAMETERS


@pytest.mark.parametrize("option", [[], ["--no-periodic"]])
def test_odd_sizes(checkpoint, emulator, tmp_path, option):
    density = 0.3 * tiny.smooth(np.random.default_rng(0), 1, (50, 70))
    np.save(tmp_path / "density.npy", density)
    options = ["--parameters", PARAMETERS, *option]
    assert sample(checkpoint, tmp_path / "density.npy", tmp_path / "out.h5", *options) == 0
    found = MapSet.open(tmp_path / "out.h5").read("brightness_temp")
    expected = emulator.sample(density, {"BIAS": 2.0, "T_MEAN": 15.0}, seed=7, periodic=not option)
    assert found.shape == (1, 50, 70)
    np.testing.assert_allclose(scaled(found), scaled(expected), atol=1e-4)


def test_open_maps_are_painted_open(checkpoint, emulator, map_set, tmp_path):
    """A map set that is not periodic says so itself."""
    geometry = Geometry(ndim=2, box_size=32.0, thickness=8.0, redshift=8.0, periodic=False)
    source = tiny.maps(geometry=geometry).save(tmp_path / "open.h5")
    for output, option in (("asked.h5", ["--no-periodic"]), ("said.h5", [])):
        path = map_set.path if option else source
        assert sample(checkpoint, path, tmp_path / output, *option) == 0
    asked, said = (MapSet.open(tmp_path / name) for name in ("asked.h5", "said.h5"))
    np.testing.assert_array_equal(asked.read("brightness_temp"), said.read("brightness_temp"))
    assert not said.geometry.periodic and not asked.geometry.periodic


def test_parameters_in_another_order_and_more_of_them(painted, checkpoint, map_set, tmp_path):
    parameters = np.concatenate([np.full((8, 1), 0.8), map_set.parameters[:, ::-1]], axis=1)
    info = [Parameter("SIGMA_8", "", 0.7, 0.9), *tiny.PARAMETERS[::-1]]
    source = tiny.maps(parameters=parameters, parameter_info=info).save(tmp_path / "maps.h5")
    assert sample(checkpoint, source, tmp_path / "out.h5", "--realisations", 3, "--batch-size", 7) == 0
    found, expected = MapSet.open(tmp_path / "out.h5"), MapSet.open(painted)
    np.testing.assert_array_equal(found.read("brightness_temp"), expected.read("brightness_temp"))


def test_extrapolation_is_marked(checkpoint, tmp_path):
    edge = tiny.maps(parameters=np.tile([[1.0, 20.0]], (8, 1))).save(tmp_path / "edge.h5")
    assert sample(checkpoint, edge, tmp_path / "edge-out.h5", "--allow-extrapolation") == 0
    assert not MapSet.open(tmp_path / "edge-out.h5").attributes["extrapolated"]
    beyond = tiny.maps(parameters=np.tile([[3.5, 15.0]], (8, 1))).save(tmp_path / "beyond.h5")
    assert sample(checkpoint, beyond, tmp_path / "out.h5", "--allow-extrapolation") == 0
    assert MapSet.open(tmp_path / "out.h5").attributes["extrapolated"]


def test_ends_of_the_range_that_float32_rounds_are_no_extrapolation(tmp_path):
    """0.7 and 0.9 lie beside their float32 neighbours."""
    info = [Parameter("SIGMA_8", "", 0.7, 0.9)]
    folder = tiny.save(tiny.card(parameters=info), tmp_path / "sigma8")
    maps = tiny.maps(parameters=np.array([[0.7], [0.9]] * 4), parameter_info=info)
    assert sample(folder, maps.save(tmp_path / "maps.h5"), tmp_path / "out.h5") == 0
    assert not MapSet.open(tmp_path / "out.h5").attributes["extrapolated"]


# -- ended and taken up --------------------------------------------------------------------------------------

# Three of 14 batches are painted, and in the fourth nothing is left of the process.
KILLED = """
import os, signal, sys
from higan.cli import main
from higan.painting import lazy

paint_tile, batches = lazy.paint_tile, []

def killing(*arguments, **options):
    batches.append(1)
    if len(batches) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return paint_tile(*arguments, **options)

lazy.paint_tile = killing
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def batches(monkeypatch):
    """The rows of every batch that is painted; put an exception or a signal into `batches.end` to end the 4th."""
    paint_tile = lazy.paint_tile

    class Batches(list):
        end = None

    seen = Batches()

    def counting(*arguments, **options):
        seen.append(options["rows"])
        if seen.end and len(seen) == 4:
            if isinstance(seen.end, signal.Signals):
                signal.raise_signal(seen.end)
            else:
                raise seen.end
        return paint_tile(*arguments, **options)

    monkeypatch.setattr(lazy, "paint_tile", counting)
    return seen


def test_killed_and_run_again(painted, checkpoint, map_set, tmp_path, batches):
    output = tmp_path / "out.h5"
    options = ["--realisations", "3", "--batch-size", "7"]
    command = ["sample", checkpoint, "--input", map_set.path, "--output", output, "--seed", "7", *options]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert os.listdir(tmp_path) == ["out.h5.partial"]
    assert sample(checkpoint, map_set.path, output, *options) == 0
    assert len(batches) == 14 - 3 and batches[0][0] == 21 // 3
    assert output.read_bytes() == painted.read_bytes() and os.listdir(tmp_path) == ["out.h5"]


@pytest.mark.parametrize(
    ("end", "raised", "code"),
    [(signal.SIGINT, None, 130), (signal.SIGTERM, SystemExit, 143), (MemoryError("crash"), None, 1)],
)
def test_stopped_and_run_again(end, raised, code, painted, checkpoint, map_set, tmp_path, batches, capsys):
    output = tmp_path / "out.h5"
    options = ["--realisations", 3, "--batch-size", 7]
    batches.end, handler = end, signal.getsignal(signal.SIGTERM)
    if raised:
        with pytest.raises(SystemExit) as caught:
            sample(checkpoint, map_set.path, output, *options)
        assert caught.value.code == code
    else:
        assert sample(checkpoint, map_set.path, output, *options) == code
    assert f"painted maps are kept in {output}.partial; the same command goes on there." in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["out.h5.partial"] and signal.getsignal(signal.SIGTERM) == handler
    batches.end = None
    batches.clear()
    assert sample(checkpoint, map_set.path, output, *options) == 0
    assert len(batches) == 14 - 3
    assert output.read_bytes() == painted.read_bytes() and os.listdir(tmp_path) == ["out.h5"]


def test_progress_starts_at_what_is_done(checkpoint, map_set, tmp_path, batches, monkeypatch):
    started = []

    def progress(label, total, done=0):
        import contextlib

        started.append((total, done))
        return contextlib.nullcontext(lambda n: started.append(n))

    monkeypatch.setattr("higan.painting.stream.progress", progress)
    batches.end = KeyboardInterrupt()
    for _ in range(2):
        sample(checkpoint, map_set.path, tmp_path / "out.h5", "--batch-size", 5)
        batches.end = None
    assert started == [(32, 0), 5, 5, 5, (32, 15), 5, 5, 5, 2]


@pytest.mark.parametrize("change", ["seed", "input", "truth", "--no-periodic", "checkpoint", "card", "nothing"])
def test_another_command_does_not_take_it_up(change, checkpoint, map_set, tmp_path, batches):
    """Unless it gives the same maps: a field that is not painted from may change."""
    source, folder = Path(shutil.copy(map_set.path, tmp_path)), shutil.copytree(checkpoint, tmp_path / "tiny")
    batches.end = KeyboardInterrupt()
    assert sample(folder, source, tmp_path / "out.h5", "--batch-size", 8) == 130
    batches.end = None
    batches.clear()
    fields = {"input": "density", "truth": "brightness_temp"}
    if change in fields:
        with h5py.File(source, "r+") as file:
            file["fields"][fields[change]][30, 3, 3] += 1
    elif change == "checkpoint":
        tiny.save(tiny.card(), shutil.rmtree(folder) or folder, seed=2)
    elif change == "card":
        card = json.loads((folder / "card.json").read_text())
        card["outputs"][0]["scaling"]["shift"] += 1
        (folder / "card.json").write_text(json.dumps(card))
    options = ["--no-periodic"] if change == "--no-periodic" else []
    seed = 8 if change == "seed" else 7
    assert sample(folder, source, tmp_path / "out.h5", "--batch-size", 8, *options, seed=seed) == 0
    assert len(batches) == (1 if change in ("truth", "nothing") else 4)
    assert not partial_path(tmp_path / "out.h5").exists()


def test_two_commands_at_once(checkpoint, map_set, tmp_path, batches, monkeypatch, capsys):
    output, paint_tile = tmp_path / "out.h5", lazy.paint_tile

    def second(*arguments, **options):
        if len(batches) == 1:
            assert sample(checkpoint, map_set.path, output) == 2
            err = capsys.readouterr().err
            assert err.count("\n") == 1 and f"{output} is being written by another process" in err
        return paint_tile(*arguments, **options)

    monkeypatch.setattr(lazy, "paint_tile", second)
    assert sample(checkpoint, map_set.path, output, "--batch-size", 8) == 0
    assert len(batches) == 4 and os.listdir(tmp_path) == ["out.h5"]


def test_outputs_have_the_shape_of_space(tmp_path, emulator, map_set):
    """The first field of the set, not painted from, has channels."""
    shear = Field(np.zeros((32, 16, 16, 2), "float32"))
    maps = map_set._replace(fields={"shear": shear, **map_set.fields})
    found = MapSet.open(paint_to_file(emulator, maps, tmp_path / "out.h5", seed=7)).read("brightness_temp")
    expected = MapSet.open(paint_to_file(emulator, map_set, tmp_path / "b.h5", seed=7)).read("brightness_temp")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("option", ["batch_size", "realisations"])
def test_numbers_below_one(option, tmp_path, emulator, map_set):
    for value in (0, -3):
        with pytest.raises(ParameterError, match=f"{option} must be at least 1, received {value}"):
            paint_to_file(emulator, map_set, tmp_path / "out.h5", seed=7, **{option: value})
    assert not list(tmp_path.iterdir())


# -- bad input: one sentence, exit code 2, nothing written ---------------------------------------------------


def _fields(**changes):
    maps = tiny.maps()
    fields = dict(maps.fields)
    for name, change in changes.items():
        fields[name] = change(fields[name])
    return {name: field for name, field in fields.items() if field is not None}


def _nan_in_map_30(path):
    with h5py.File(tiny.maps().save(path), "r+") as file:
        file["fields/density"][30, 2, 2] = np.nan


def _truncated(path):
    tiny.maps(shape=(32, 32), geometry=Geometry(ndim=2, box_size=64.0, thickness=8.0)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _damaged_in_the_middle(path):
    """Good to open; the chunks of the last maps point nowhere."""
    tiny.maps().save(path, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["fields/density"].id.get_chunk_info(30)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)


def _geometry(**changes):
    return Geometry(**{**dict(ndim=2, box_size=32.0, thickness=8.0, redshift=8.0), **changes})


BAD_SETS = {
    "not HDF5": (lambda path: path.write_text("density"), "is not an HDF5 file"),
    "truncated": (_truncated, "is truncated or damaged"),
    "damaged": (_damaged_in_the_middle, "cannot be read"),
    "missing": (lambda path: None, "does not exist"),
    "no field": (lambda path: tiny.maps(fields=_fields(density=lambda _: None)).save(path), "has no field 'density'"),
    "NaN": (_nan_in_map_30, "NaN or infinite values in map 30"),
    "out of bounds": (
        lambda path: tiny.maps(parameters=np.tile([[3.5, 15.0]], (8, 1))).save(path),
        "parameter BIAS of map 0 (counted from 0) = 3.5 is outside the range [1, 3]",
    ),
    "misnamed": (
        lambda path: tiny.maps(parameter_info=[Parameter("BAIS", "", 1, 3), tiny.PARAMETERS[1]]).save(path),
        "has no parameter 'BIAS': it has BAIS, T_MEAN",
    ),
    "units": (
        lambda path: tiny.maps(fields=_fields(density=lambda f: Field(f.array, "Msun / Mpc3"))).save(path),
        "field 'density' is in 'Msun / Mpc3', but tiny has it in '1'",
    ),
    "nonsense units": (
        lambda path: tiny.maps(fields=_fields(density=lambda f: Field(f.array, "apples"))).save(path),
        "field 'density' is in 'apples'",
    ),
    "cell size": (
        lambda path: tiny.maps(geometry=_geometry(box_size=64.0)).save(path),
        "has a cell size of 4 Mpc, but tiny was trained on 2 Mpc",
    ),
    "unit of length": (
        lambda path: tiny.maps(geometry=_geometry(box_size_units="Mpc/h")).save(path),
        "has a cell size of 2 Mpc/h, but tiny was trained on 2 Mpc",
    ),
    "thickness": (
        lambda path: tiny.maps(geometry=_geometry(thickness=2.0)).save(path),
        "has a slab thickness of 2 Mpc, but tiny was trained on 8 Mpc",
    ),
    "no thickness": (
        lambda path: tiny.maps(geometry=_geometry(thickness=None)).save(path),
        "has a slab thickness of none, but tiny was trained on 8 Mpc",
    ),
    "redshift": (
        lambda path: tiny.maps(geometry=_geometry(redshift=5.0)).save(path),
        "is at redshift 5, but tiny was trained at 8",
    ),
    "dimensions": (lambda path: tiny.maps(shape=(8, 8, 8)).save(path), "has 3D maps; tiny paints 2D ones"),
}


def refused(capsys, tmp_path, message):
    """One line on standard error, and nothing but what was there."""
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("higan sample: "), err
    assert not [item.name for item in tmp_path.iterdir() if "out" in item.name]


@pytest.mark.parametrize("name", BAD_SETS)
def test_bad_map_sets(name, checkpoint, tmp_path, capsys):
    write, message = BAD_SETS[name]
    write(tmp_path / "maps.h5")
    assert sample(checkpoint, tmp_path / "maps.h5", tmp_path / "out.h5", "--batch-size", 4) == 2
    refused(capsys, tmp_path, message)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 16, 16), "f4"), [], "--parameters gives nothing; tiny takes exactly BIAS, T_MEAN"),
        (np.zeros((2, 16, 16), "f4"), ["--parameters", "BIAS=2,T_MAEN=3"], "gives BIAS, T_MAEN; tiny takes exactly"),
        (
            np.zeros((2, 16, 16), "f4"),
            ["--parameters", "BIAS=9,T_MEAN=15"],
            "BIAS of map 0 (counted from 0) = 9 is outside",
        ),
        (np.zeros((2, 16, 16), "f4"), ["--parameters", "BIAS=two"], "cannot read 'BIAS=two'"),
        (
            np.zeros((2, 16, 16), "f4"),
            ["--parameters", "BIAS=nan,T_MEAN=15"],
            "--parameters: BIAS is nan. Give a finite",
        ),
        (np.zeros((2, 16, 16), "i4"), ["--parameters", PARAMETERS], "of type int32"),
        (np.zeros(16, "f4"), ["--parameters", PARAMETERS], "shape (16,)"),
        (np.zeros((1, 2, 16, 16), "f4"), ["--parameters", PARAMETERS], "shape (2, 16, 16)"),
        (np.zeros((0, 16, 16), "f4"), ["--parameters", PARAMETERS], "is empty"),
        (np.full((2, 16, 16), np.nan, "f4"), ["--parameters", PARAMETERS], "NaN or infinite values in map 0"),
        (np.float32(1), ["--parameters", PARAMETERS], "holds a single number, but tiny takes maps of 2 dimensions"),
        ({"maps": np.zeros((2, 16, 16), "f4")}, ["--parameters", PARAMETERS], "is a .npz file, which holds several"),
        (np.array([{"a": 1}], dtype=object), ["--parameters", PARAMETERS], "cannot be read as a .npy file"),
        (b"numbers", ["--parameters", PARAMETERS], "cannot be read as a .npy file"),
        (None, ["--parameters", PARAMETERS], "cannot be read as a .npy file"),
    ],
)
def test_bad_arrays(values, options, message, checkpoint, tmp_path, capsys):
    path = tmp_path / "density.npy"
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif isinstance(values, dict):
        with open(path, "wb") as file:
            np.savez(file, **values)
    elif values is not None:
        np.save(path, values, allow_pickle=True)
    assert sample(checkpoint, path, tmp_path / "out.h5", *options) == 2
    refused(capsys, tmp_path, message)


def test_several_arrays(checkpoint, tmp_path, capsys):
    np.savez(tmp_path / "density.npz", maps=np.zeros((2, 16, 16), "f4"))
    assert sample(checkpoint, tmp_path / "density.npz", tmp_path / "out.h5", "--parameters", PARAMETERS) == 2
    refused(capsys, tmp_path, "is a .npz file, which holds several arrays. Save the maps alone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--realisations", "0"], "--realisations must be at least 1, received 0"),
        (["--batch-size", "-2"], "--batch-size must be at least 1, received -2"),
        (["--parameters", PARAMETERS], "--parameters goes with a .npy or .zarr file"),
    ],
)
def test_bad_options(options, message, checkpoint, map_set, tmp_path, capsys):
    assert sample(checkpoint, map_set.path, tmp_path / "out.h5", *options) == 2
    refused(capsys, tmp_path, message)


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_bad_seeds(seed, checkpoint, map_set, tmp_path, capsys):
    output = tmp_path / "out.h5"
    command = ["sample", str(checkpoint), "--input", str(map_set.path), "--output", str(output), f"--seed={seed}"]
    assert main(command) == 2
    refused(capsys, tmp_path, "seed must be a whole number from 0 to 2^64 - 1")


def test_bad_outputs(checkpoint, map_set, tmp_path, capsys, monkeypatch):
    taken = tmp_path / "taken.h5"
    taken.write_text("mine")
    for output, message in (
        (taken, "exists already. Choose another name, or add --overwrite"),
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "out.h5", "does not exist. Make it first"),
    ):
        assert sample(checkpoint, map_set.path, output) == 2
        refused(capsys, tmp_path, message)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert sample(checkpoint, map_set.path, tmp_path / "out.h5") == 2
    refused(capsys, tmp_path, "no permission")
    assert taken.read_text() == "mine"


def test_disc_full(checkpoint, map_set, tmp_path, capsys, monkeypatch):
    """At the second batch, over an output that was there."""
    output, write, calls = tmp_path / "taken.h5", h5py.Dataset.__setitem__, []
    output.write_text("mine")

    def full(self, index, values):
        if self.name == "/fields/brightness_temp":
            calls.append(index)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(self, index, values)

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    assert sample(checkpoint, map_set.path, output, "--overwrite", "--batch-size", 8) == 2
    refused(capsys, tmp_path, "No space left on device")
    assert len(calls) == 2 and output.read_text() == "mine" and os.listdir(tmp_path) == ["taken.h5"]


def _changed_weights(folder):
    with h5py.File(folder / "generator.weights.h5", "r+") as file:
        file["stem/bias"][0] += 1.0


def _card(**changes):
    def change(folder):
        values = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps({**values, **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed_weights, "is not the file its card describes: sha256"),
        (_card(card_version=99), "has version 99, newer than 1, which this higan reads. Upgrade higan."),
        (_card(network={**tiny.NETWORK, "widths": [4, 12]}), "should have shape"),
        (lambda folder: (folder / "card.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "card.json").unlink(), "has no card.json: it is not a checkpoint"),
        (lambda folder: shutil.rmtree(folder), "is no folder, nor the name of a shipped checkpoint"),
    ],
)
def test_bad_checkpoints(change, message, checkpoint, map_set, tmp_path, capsys):
    folder = shutil.copytree(checkpoint, tmp_path / "tiny")
    change(folder)
    assert sample(folder, map_set.path, tmp_path / "out.h5") == 2
    refused(capsys, tmp_path, message)


def test_parse_parameters():
    assert parse_parameters("A=1, B = -2e-3,") == {"A": 1.0, "B": -0.002} and parse_parameters(None) == {}
    for text in ("A", "A=1,A=2", "A=one"):
        with pytest.raises(ParameterError, match="--parameters: cannot read"):
            parse_parameters(text)
