"""`higan sample` by tiles, into zarr arrays, in shards and on clusters; `higan merge`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr

import higan
from higan.checkpoint import file_sha256
from higan.cli import main
from higan.mapset import MapSet
from higan.painting import lazy
from tests import tiny

THETA = {"BIAS": 2.0, "T_MEAN": 15.0}
PARAMETERS = "BIAS=2.0,T_MEAN=15"


def sample(checkpoint, source, output, *options, seed=7):
    command = ["sample", checkpoint, "--input", source, "--output", output, "--seed", seed, *options]
    return main([*map(str, command)])


def array(checkpoint, source, output, *options, seed=7):
    return sample(checkpoint, source, output, "--parameters", PARAMETERS, *options, seed=seed)


def merge(output, *shards):
    return main(["merge", *map(str, shards), "--output", str(output)])


def scaled(maps):
    return (np.asarray(maps) - 15.0) / 8.0


def same_as_whole(output, boxes, box):
    """The .zarr array has what the emulator paints of the box as a whole."""
    whole = boxes[1].sample(box[1], THETA, seed=7)
    np.testing.assert_allclose(scaled(zarr.open_array(str(output), mode="r")[0]), scaled(whole), atol=1e-4)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """The folder of a 3D checkpoint, and its emulator."""
    folder = tiny.save(tiny.card(ndim=3, widths=[4]), tmp_path_factory.mktemp("boxes") / "tiny")
    return folder, higan.load(folder)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A box of 28 x 24 x 32 cells as .npy and .zarr, and its values."""
    folder = tmp_path_factory.mktemp("box")
    values = 0.3 * tiny.smooth(np.random.default_rng(0), 1, (28, 24, 32))[0]
    np.save(folder / "box.npy", values)
    zarr.create_array(str(folder / "box.zarr"), data=values, chunks=(10, 24, 9))
    return folder, values


@pytest.fixture
def tiles(monkeypatch):
    """Regions that are painted; put a number into `tiles.end` to stop at that one."""
    paint_tile = lazy.paint_tile

    class Tiles(list):
        end = None

    seen = Tiles()

    def counting(*arguments, **options):
        seen.append(arguments[1].shape)
        if len(seen) == seen.end:
            raise KeyboardInterrupt
        return paint_tile(*arguments, **options)

    monkeypatch.setattr(lazy, "paint_tile", counting)
    return seen


@pytest.mark.parametrize("options", [[], ["--no-periodic"]])
@pytest.mark.parametrize(("source", "output"), [("box.npy", "out.h5"), ("box.zarr", "out.zarr")])
def test_tiles_are_the_whole(source, output, options, boxes, box, tmp_path, tiles):
    (checkpoint, emulator), (folder, values) = boxes, box
    assert array(checkpoint, folder / source, tmp_path / output, "--tile", 14, "--realisations", 2, *options) == 0
    # A periodic axis in one tile needs no margin; none of 24, 28 and 32 cells fits into 14.
    assert len(tiles) == 2 * 2 * 2 * 3 and os.listdir(tmp_path) == [output]
    expected = emulator.sample(values, THETA, seed=7, realisations=2, periodic=not options)
    if output.endswith("h5"):
        maps = MapSet.open(tmp_path / output)
        found = maps.read("brightness_temp")
        assert maps.extra["realisation"].tolist() == [0, 1] and maps.geometry.periodic == (not options)
    else:
        painted = zarr.open_array(str(tmp_path / output), mode="r")
        found = painted[:]
        assert painted.chunks == (1, 14, 14, 14) and painted.attrs["periodic"] == (not options)
    np.testing.assert_allclose(scaled(found), scaled(expected), atol=1e-4)
    assert found.std() > 0.1


def test_tiles_of_an_excursion_set_are_the_whole(tmp_path, tiles):
    """Which smooths whole maps before any tile is painted."""
    card = tiny.card(widths=[4, 6], excursion_set={"smallest": 0.9, "step": 1.6, "radii": 3})
    checkpoint, maps = tiny.save(card, tmp_path / "tiny"), tiny.maps(n_sim=3, per_sim=1)
    source = maps.save(tmp_path / "maps.h5")
    command = ["sample", str(checkpoint), "--seed", "7", "--realisations", "2"]
    for output in ("out.h5", "out.zarr"):
        tiles.clear()
        given = ["--input", str(source), "--output", str(tmp_path / output), "--tile", "8"]
        assert main(command + given) == 0
        assert len(tiles) == len(maps) * 2 * 4
    expected = higan.load(checkpoint).sample(maps, seed=7, realisations=2)
    found = MapSet.open(tmp_path / "out.h5").read("brightness_temp").reshape(expected.shape)
    np.testing.assert_allclose(scaled(found), scaled(expected), atol=1e-4)
    painted = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")[:].reshape(expected.shape)
    np.testing.assert_allclose(scaled(painted), scaled(expected), atol=1e-4)


def test_a_zarr_array_says_what_it_is(boxes, box, tmp_path):
    (checkpoint, emulator), (folder, values) = boxes, box
    assert array(checkpoint, folder / "box.zarr", tmp_path / "out.zarr") == 0
    painted = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    attributes = dict(painted.attrs)
    assert re.fullmatch("[0-9a-f]{64}", attributes.pop("made_from_sha256"))
    assert attributes == {
        "field": "brightness_temp",
        "units": "mK",
        "long_name": "",
        "cell_size": 2.0,
        "cell_size_units": "Mpc",
        "thickness": None,
        "redshift": 8.0,
        "periodic": True,
        "parameters": {"BIAS": [2.0], "T_MEAN": [15.0]},
        "checkpoint": "tiny",
        "checkpoint_version": "1",
        "checkpoint_sha256": file_sha256(checkpoint / "generator.weights.h5"),
        "seed": 7,
        "realisations": 1,
        "extrapolated": False,
        "created_by": f"higan {higan.__version__}",
    }
    assert painted.shape == (1, 28, 24, 32) and painted.dtype == np.float32
    # What was painted goes in again, also where maps lie along a first axis.
    again = emulator.sample(da.from_zarr(str(tmp_path / "out.zarr")) / 50, THETA, seed=1)
    assert again.shape == (1, 28, 24, 32)
    values = np.stack([values, values[::-1]])
    zarr.create_array(str(tmp_path / "two.zarr"), data=values, chunks=(1, 28, 24, 32))
    assert array(checkpoint, tmp_path / "two.zarr", tmp_path / "two-out.zarr") == 0
    found = zarr.open_array(str(tmp_path / "two-out.zarr"), mode="r")
    np.testing.assert_allclose(scaled(found[:]), scaled(emulator.sample(values, THETA, seed=7)), atol=1e-4)


def test_many_small_maps_share_chunks(checkpoint, map_set, tmp_path, tiles):
    assert sample(checkpoint, map_set.path, tmp_path / "out.zarr", "--batch-size", 5) == 0
    assert sample(checkpoint, map_set.path, tmp_path / "out.h5", "--batch-size", 5) == 0
    painted = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    assert painted.chunks == (5, 16, 16) and painted.shape == (32, 16, 16) and len(tiles) == 2 * 7
    np.testing.assert_array_equal(painted[:], MapSet.open(tmp_path / "out.h5").read("brightness_temp"))
    theta = map_set.parameters[map_set.simulation]
    assert painted.attrs["parameters"] == {"BIAS": theta[:, 0].tolist(), "T_MEAN": theta[:, 1].tolist()}


# Three of the tiles are painted, and in the fourth nothing is left of the process.
KILLED = """
import os, signal, sys
from higan.cli import main
from higan.painting import lazy

paint_tile, tiles = lazy.paint_tile, []

def killing(*arguments, **options):
    tiles.append(1)
    if len(tiles) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return paint_tile(*arguments, **options)

lazy.paint_tile = killing
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_run_again(boxes, box, tmp_path, tiles):
    """At the tiles that are missing: 12 of them, of which three are there."""
    whole = boxes[1].sample(box[1], THETA, seed=7)
    for suffix in ("h5", "zarr"):
        output = tmp_path / f"out.{suffix}"
        options = ["--parameters", PARAMETERS, "--tile", "14"]
        command = ["sample", boxes[0], "--input", box[0] / "box.npy", "--output", output, "--seed", "7", *options]
        run = subprocess.run(
            [sys.executable, "-c", KILLED, *map(str, command)], cwd=Path(__file__).parents[2], capture_output=True
        )
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()
        assert os.listdir(tmp_path) == [f"out.{suffix}.partial"]
        tiles.clear()
        assert main([*map(str, command)]) == 0
        assert len(tiles) == 12 - 3 and os.listdir(tmp_path) == [output.name]
        if suffix == "h5":
            found = MapSet.open(output).read("brightness_temp")
            output.unlink()
        else:
            found = zarr.open_array(str(output), mode="r")[:]
        np.testing.assert_allclose(scaled(found[0]), scaled(whole), atol=1e-4)


def test_stopped_tiles_are_kept_for_the_same_command(boxes, box, tmp_path, tiles, capsys):
    checkpoint, source, output = boxes[0], box[0] / "box.zarr", tmp_path / "out.zarr"
    tiles.end = 4
    assert array(checkpoint, source, output, "--tile", 14) == 130
    assert f"painted maps are kept in {output}.partial; the same command goes on there." in capsys.readouterr().err
    tiles.end = None
    assert array(checkpoint, source, output, "--tile", 14, seed=8) == 2
    assert "out.zarr.partial holds unfinished maps of another command" in capsys.readouterr().err
    tiles.clear()
    assert array(checkpoint, source, output, "--tile", 14, "--overwrite", seed=8) == 0
    assert len(tiles) == 12 and os.listdir(tmp_path) == ["out.zarr"]
    assert array(checkpoint, source, output, "--tile", 14) == 2
    assert "out.zarr exists already" in capsys.readouterr().err
    assert array(checkpoint, source, output, "--tile", 14, "--overwrite") == 0
    assert zarr.open_array(str(output), mode="r").attrs["seed"] == 7 and os.listdir(tmp_path) == ["out.zarr"]


# -- job arrays ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(checkpoint, map_set, tmp_path_factory):
    """Three realisations of each of 32 maps, painted by four jobs."""
    folder = tmp_path_factory.mktemp("shards")
    for i in (1, 2, 3, 4):
        options = ["--realisations", 3, "--batch-size", 8, "--shard", f"{i}/4"]
        assert sample(checkpoint, map_set.path, folder / f"{i}.h5", *options) == 0
    return [folder / f"{i}.h5" for i in (1, 2, 3, 4)]


def test_shards_are_merged_into_the_whole(shards, checkpoint, map_set, tmp_path, capsys):
    # Batches of 8, so that maps are painted beside the same ones in a shard of 24.
    assert sample(checkpoint, map_set.path, tmp_path / "whole.h5", "--realisations", 3, "--batch-size", 8) == 0
    first, second = MapSet.open(shards[0]), MapSet.open(shards[1])
    assert len(first) == 24 and first.attributes["shard"] == 1 and first.attributes["shards"] == 4
    assert second.extra["source_row"].tolist() == np.repeat(np.arange(8, 16), 3).tolist()
    capsys.readouterr()
    assert merge(tmp_path / "merged.h5", *(shards[i] for i in (2, 0, 3, 1))) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'merged.h5'}: 96 maps of 4 shards\n"
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_merge_that_was_stopped_goes_on(shards, tmp_path, monkeypatch):
    read, rows = MapSet.read, []

    def stopping(self, *arguments, **options):
        rows.append(self.path.name)
        if len(rows) == 3:
            raise KeyboardInterrupt
        return read(self, *arguments, **options)

    monkeypatch.setattr(MapSet, "read", stopping)
    assert merge(tmp_path / "merged.h5", *shards) == 130
    assert os.listdir(tmp_path) == ["merged.h5.partial"]
    assert merge(tmp_path / "merged.h5", *shards) == 0
    assert rows == ["1.h5", "2.h5", "3.h5", "3.h5", "4.h5"] and os.listdir(tmp_path) == ["merged.h5"]


def test_shards_that_do_not_belong_together(shards, checkpoint, map_set, tmp_path, capsys):
    def changed(name, **attributes):
        with h5py.File(shutil.copy(shards[3], tmp_path / name), "r+") as file:
            file.attrs.update(attributes)
        return tmp_path / name

    assert sample(checkpoint, map_set.path, tmp_path / "whole.h5") == 0
    options = ["--realisations", 3, "--shard", "4/4"]
    other = tiny.maps()
    other.fields["density"].array[3, 2, 2] += 1
    other.save(tmp_path / "other.h5")
    assert sample(checkpoint, tmp_path / "other.h5", tmp_path / "input.h5", *options) == 0
    foreign = {
        "seed differs (8, not 7)": changed("seed.h5", seed=np.uint64(8)),
        "number of shards differs (5, not 4)": changed("parts.h5", shards=5),
        "realisations differs (2, not 3)": changed("draws.h5", realisations=2),
        "input differs": tmp_path / "input.h5",
        "checkpoint differs": changed("weights.h5", checkpoint_sha256=64 * "0"),
        "geometry differs": changed("open.h5", periodic=False),
        "is no shard: it was not painted with --shard": tmp_path / "whole.h5",
    }
    first = shards[:3]
    given = [([*first, path], message) for message, path in foreign.items()]
    given += [
        ([shards[0], shards[3]], "shards 2, 3 of 4 are missing. Give all shards of the job array."),
        (first, "shard 4 of 4 is missing"),
        ([*shards, shutil.copy(shards[1], tmp_path / "again.h5")], "are both shard 2/4. Give each once."),
        ([*first, tmp_path / "nowhere.h5"], "does not exist"),
    ]
    capsys.readouterr()
    for paths, message in given:
        assert merge(tmp_path / "merged.h5", *paths) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1 and err.startswith("higan merge: "), err
        assert not list(tmp_path.glob("*merged*"))


def test_a_damaged_shard_leaves_nothing_behind(shards, tmp_path, capsys):
    damaged = shutil.copy(shards[2], tmp_path / "3.h5")
    with h5py.File(damaged, "r+") as file:
        file["fields/brightness_temp"][5] = np.nan
    assert merge(tmp_path / "merged.h5", *shards[:2], damaged, shards[3]) == 2
    assert "3.h5: field 'brightness_temp' holds NaN or infinite values in map 5" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["3.h5"]


def test_shards_write_to_one_zarr_array(boxes, box, tmp_path, tiles, capsys):
    (checkpoint, _), source, output = boxes, box[0] / "box.zarr", tmp_path / "out.zarr"
    painted = []
    for i in (3, 1, 2):
        assert not output.exists()
        assert array(checkpoint, source, output, "--tile", 14, "--shard", f"{i}/3") == 0
        painted.append(len(tiles))
        assert ("out.zarr.partial until the others" in capsys.readouterr().out) == (i != 2)
    assert painted == [4, 8, 12] and os.listdir(tmp_path) == ["out.zarr"]
    assert array(checkpoint, source, tmp_path / "whole.zarr", "--tile", 14) == 0
    whole, parts = (zarr.open_array(str(tmp_path / name), mode="r") for name in ("whole.zarr", "out.zarr"))
    np.testing.assert_allclose(parts[:], whole[:], rtol=1e-6)
    assert dict(parts.attrs) == dict(whole.attrs)


def test_shards_that_run_side_by_side(boxes, box, tmp_path):
    """Each makes the array, and the last renames it, whichever that is."""
    output = tmp_path / "out.zarr"
    words = [sys.executable, "-m", "higan", "sample", boxes[0], "--input", box[0] / "box.zarr", "--output", output]
    words += ["--seed", 7, "--parameters", PARAMETERS, "--tile", 14]
    runs = [subprocess.Popen([*map(str, words), "--shard", f"{i}/3"], stderr=subprocess.PIPE) for i in (1, 2, 3)]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert os.listdir(tmp_path) == ["out.zarr"]
    same_as_whole(output, boxes, box)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.h5", ["--shard", "0/4"], "--shard must be i/n with whole numbers 1 <= i <= n, received '0/4'"),
        ("out.h5", ["--shard", "5/4"], "--shard must be i/n with whole numbers 1 <= i <= n, received '5/4'"),
        ("out.h5", ["--shard", "half"], "--shard must be i/n with whole numbers 1 <= i <= n, received 'half'"),
        ("out.h5", ["--shard", "1/2"], "1 maps cannot be shared among 2 shards. Take fewer shards, or write .zarr"),
        ("out.zarr", ["--shard", "1/99", "--tile", "14"], "12 tiles cannot be shared among 99 shards"),
        ("out.fits", ["--shard", "1/2"], "--shard writes .h5 or .zarr, not .fits"),
        ("out.h5", ["--tile", "0"], "--tile must be at least 1, received 0"),
        ("out.zarr", ["--scheduler", "tcp://127.0.0.1:9"], "the cluster at tcp://127.0.0.1:9 does not answer"),
        ("out.h5", ["--scheduler", "thraeds"], "the cluster at thraeds does not answer"),
        ("nowhere/out.zarr", [], "does not exist. Make it first."),
    ],
)
def test_bad_options(output, options, message, boxes, box, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("higan.painting.cluster.PATIENCE", 0.5)
    assert array(boxes[0], box[0] / "box.npy", tmp_path / output, *options) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("higan sample: "), err
    assert not os.listdir(tmp_path)


def test_bad_arrays(boxes, tmp_path, capsys):
    (tmp_path / "text.zarr").mkdir()
    zarr.create_group(str(tmp_path / "group.zarr"))
    values = np.zeros((8, 8, 8), "f4")
    values[7, 1, 1] = np.nan
    zarr.create_array(str(tmp_path / "nan.zarr"), data=values)
    zarr.create_array(str(tmp_path / "flat.zarr"), data=values[0])
    zarr.create_array(str(tmp_path / "whole.zarr"), data=values.astype("i4"))
    for name, message in (
        ("text.zarr", "cannot be read as a zarr array"),
        ("none.zarr", "cannot be read as a zarr array"),
        ("group.zarr", "cannot be read as a zarr array"),
        ("nan.zarr", "NaN or infinite values in map 0"),
        ("flat.zarr", "has shape (8, 8)"),
        ("whole.zarr", "of type int32"),
    ):
        assert array(boxes[0], tmp_path / name, tmp_path / "out.zarr", "--tile", 4) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
        assert not (tmp_path / "out.zarr").exists() and not (tmp_path / "out.zarr.partial").exists()


@pytest.mark.parametrize(("package", "options"), [("zarr", []), ("distributed", ["--scheduler", "processes"])])
def test_without_the_extra(package, options, boxes, box, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    output = tmp_path / ("out.zarr" if package == "zarr" else "out.h5")
    assert array(boxes[0], box[0] / "box.npy", output, *options) == 2
    err = capsys.readouterr().err
    assert "pip install 'higan[dask]'" in err and err.count("\n") == 1 and not os.listdir(tmp_path)


# -- clusters ------------------------------------------------------------------------------------------------


def test_on_a_cluster_by_its_address(boxes, box, tmp_path):
    """A worker of its own process paints; this one reads and writes."""
    from distributed import LocalCluster

    (checkpoint, emulator), (folder, values) = boxes, box
    whole = emulator.sample(values, THETA, seed=7)
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        for name in ("out.h5", "out.zarr"):
            options = ["--tile", 14, "--scheduler", address]
            assert array(checkpoint, folder / "box.zarr", tmp_path / name, *options) == 0
        with cluster.get_client() as client:
            painted = emulator.sample(da.from_array(values, chunks=16), THETA, seed=7, tile=14)
            lazily = client.compute(painted).result()
    for found in (
        MapSet.open(tmp_path / "out.h5").read("brightness_temp")[0],
        zarr.open_array(str(tmp_path / "out.zarr"), mode="r")[0],
        lazily,
    ):
        np.testing.assert_allclose(scaled(found), scaled(whole), atol=1e-4)


def test_on_processes_of_this_host(boxes, box, tmp_path):
    output = tmp_path / "out.zarr"
    assert array(boxes[0], box[0] / "box.zarr", output, "--tile", 14, "--scheduler", "processes") == 0
    same_as_whole(output, boxes, box)


def test_a_worker_that_is_lost_is_replaced(boxes, box, tmp_path):
    """SIGKILL while it paints: its tiles are painted by the one that comes after it."""
    from distributed import LocalCluster

    killed = []

    def kill(client, workers):
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            painting = [worker for worker, keys in client.processing().items() if "paint_alone" in str(keys)]
            killed.extend(workers[worker] for worker in painting[:1])
            time.sleep(0.01)
        for process in killed:
            os.kill(process, signal.SIGKILL)

    output = tmp_path / "out.zarr"
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        cluster.get_client() as client,
        ThreadPoolExecutor(1) as beside,
    ):
        beside.submit(kill, client, client.run(os.getpid))
        options = ["--tile", 14, "--scheduler", cluster.scheduler_address]
        assert array(boxes[0], box[0] / "box.zarr", output, *options) == 0
        assert killed and killed[0] not in client.run(os.getpid).values()
    same_as_whole(output, boxes, box)


def test_shards_of_one_array_need_no_merging(tmp_path, capsys):
    assert main(["merge", str(tmp_path / "a.zarr"), "--output", str(tmp_path / "out.h5")]) == 2
    assert "needs no merging" in capsys.readouterr().err and not (tmp_path / "out.h5").exists()
