import errno
import resource
import subprocess
import sys

import h5py
import healpy as hp
import numpy as np
import pytest

from higan.cli import main
from higan.cuts import cubes, patches, slabs
from higan.errors import MapSetError
from higan.mapset import UNSEEN, Field, Geometry, MapSet, Parameter
from tests.test_mapset import example


@pytest.fixture
def boxes(tmp_path):
    maps = example(n_sim=3, per_sim=1, shape=(8, 8, 8))
    return MapSet.open(maps.save(tmp_path / "boxes.h5"))


def test_slabs(tmp_path, boxes, capsys):
    output = tmp_path / "slabs.h5"
    assert main(["slabs", str(boxes.path), "--output", str(output), "--thickness-cells", "4"]) == 0
    assert "18 maps of 8 x 8" in capsys.readouterr().out
    maps = MapSet.open(output)
    assert len(maps) == 3 * 3 * 2 and maps.shape == (8, 8) and maps.n_sim == 3
    assert maps.simulation.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert maps.extra["axis"].tolist() == [0, 0, 1, 1, 2, 2] * 3 and maps.extra["slab"].tolist() == [0, 1] * 9
    assert (maps.geometry.ndim, maps.geometry.thickness, maps.geometry.box_size, maps.cell_size) == (
        2,
        8.0,
        16.0,
        2.0,
    )
    for name in ("seeds", "split"):
        np.testing.assert_array_equal(maps.extra[name], boxes.extra[name])
    np.testing.assert_array_equal(maps.parameters, boxes.parameters)
    assert maps.attributes["set"] == "lh" and maps.fields["brightness_temp"].units == "mK"
    for row in range(18):
        box = boxes.read("density", [maps.simulation[row]])[0].astype(float)
        slab = slice(4 * maps.extra["slab"][row], 4 * maps.extra["slab"][row] + 4)
        expected = np.moveaxis(box, maps.extra["axis"][row], 0)[slab].mean(axis=0)
        np.testing.assert_array_equal(maps.read("density", [row])[0], expected.astype("float32"))


def test_a_slab_of_one_cell_is_the_slice(tmp_path, boxes):
    maps = MapSet.open(slabs(boxes, tmp_path / "slices.h5", 1, fields=["density"]))
    assert list(maps.fields) == ["density"] and len(maps) == 3 * 24
    np.testing.assert_array_equal(maps.read("density", [8 + 5])[0], boxes.read("density", [0])[0][:, 5])


def test_cubes(tmp_path, boxes, capsys):
    output = tmp_path / "cubes.h5"
    assert main(["cubes", str(boxes.path), "--output", str(output), "--side-cells", "4"]) == 0
    assert "24 maps of 4 x 4 x 4" in capsys.readouterr().out
    maps = MapSet.open(output)
    assert maps.simulation.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert (maps.geometry.box_size, maps.cell_size, maps.geometry.periodic) == (8.0, 2.0, False)
    np.testing.assert_array_equal(maps.extra["split"], boxes.extra["split"])
    places = np.ndindex(2, 2, 2)
    for row, (i, j, k) in enumerate(places):
        box = boxes.read("density", [1])[0]
        expected = box[4 * i : 4 * i + 4, 4 * j : 4 * j + 4, 4 * k : 4 * k + 4]
        np.testing.assert_array_equal(maps.read("density", [8 + row])[0], expected)


def test_a_cube_of_the_whole_box_is_the_box(tmp_path, boxes):
    maps = MapSet.open(cubes(boxes, tmp_path / "cubes.h5", 8, fields=["density"]))
    assert list(maps.fields) == ["density"] and maps.geometry.periodic and len(maps) == 3
    np.testing.assert_array_equal(maps.read("density"), boxes.read("density"))


def test_cubes_that_do_not_fill_the_box(tmp_path, boxes):
    with pytest.raises(MapSetError, match=r"^Cubes of 3 cells do not fill an axis of 8. Take a side of 1, 2, 4, 8.$"):
        cubes(boxes, tmp_path / "cubes.h5", 3)
    with pytest.raises(MapSetError, match="cubes are cut from cubic boxes"):
        cubes(example(), tmp_path / "cubes.h5", 2)
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5"]


def test_generated_boxes_keep_their_source(tmp_path):
    maps = example(n_sim=1, per_sim=2, shape=(4, 4, 4), extra={"source_row": [7, 7], "realisation": [0, 1]})
    cut = MapSet.open(slabs(maps, tmp_path / "slabs.h5", 2))
    assert cut.extra["realisation"].tolist() == [0] * 6 + [1] * 6 and set(cut.extra["source_row"]) == {7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--thickness-cells", "3"], "do not fill an axis of 8. Take a thickness of 1, 2, 4, 8"),
        (["--thickness-cells", "0"], "Slabs of 0 cells"),
        (["--fields", "HI"], "no field 'HI'"),
    ],
)
def test_wrong_arguments(tmp_path, boxes, capsys, arguments, message):
    assert main(["slabs", str(boxes.path), "--output", str(tmp_path / "slabs.h5"), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5"]


def skies(n_sim=2, nside=8, ordering="RING", masked=(), **geometry):
    """Each pixel holds its number, in RING order, and a thousand times that of its sky."""
    npix = 12 * nside**2
    ring = np.arange(npix, dtype="float32")
    if ordering == "NESTED":
        ring = hp.reorder(ring, r2n=True)
    values = 1000 * np.arange(n_sim, dtype="float32")[:, None] + ring
    values[:, np.isin(ring, masked)] = UNSEEN
    return MapSet(
        {"dust": Field(values, "mag"), "gas": Field(2 * values, "K")},
        np.arange(n_sim)[:, None],
        [Parameter("BIAS")],
        np.arange(n_sim),
        Geometry(kind="healpix", ndim=1, periodic=False, ordering=ordering, redshift=1.0, thickness=100.0, **geometry),
        extra={"split": np.array(["train", "test"] * n_sim)[:n_sim]},
    )


@pytest.mark.parametrize("ordering", ["RING", "NESTED"])
def test_patches(tmp_path, ordering, capsys):
    source = skies(ordering=ordering).save(tmp_path / "skies.h5")
    output = tmp_path / "patches.h5"
    assert main(["patches", str(source), "--output", str(output), "--side-cells", "4"]) == 0
    assert "96 maps of 4 x 4" in capsys.readouterr().out
    maps = MapSet.open(output)
    assert maps.geometry.kind == "patch" and not maps.geometry.periodic and maps.geometry.ndim == 2
    assert maps.cell_size == pytest.approx(hp.nside2resol(8, arcmin=True)) and maps.geometry.length_units == "arcmin"
    assert (maps.geometry.redshift, maps.geometry.thickness, maps.geometry.depth_units) == (1.0, 100.0, "Mpc")
    assert maps.simulation.tolist() == [0] * 48 + [1] * 48 and maps.extra["split"].tolist() == ["train", "test"]
    assert maps.extra["patch"].tolist() == 2 * list(range(48))
    values = maps.read("dust")
    for patch in (0, 1, 2, 3, 21, 47):
        face, x, y = patch // 4, 4 * (patch % 4 // 2), 4 * (patch % 2)
        across, up = np.meshgrid(x + np.arange(4), y + np.arange(4), indexing="ij")
        expected = hp.xyf2pix(8, across, up, face)
        np.testing.assert_array_equal(values[patch], expected)
        np.testing.assert_array_equal(values[48 + patch], 1000 + expected)
    np.testing.assert_array_equal(maps.read("gas"), 2 * values)


def test_patches_of_a_single_sky_count_as_simulations(tmp_path):
    maps = MapSet.open(patches(skies(n_sim=1), tmp_path / "patches.h5", 4, fields=["gas"]))
    assert maps.n_sim == 48 and maps.simulation.tolist() == list(range(48))
    assert list(maps.fields) == ["gas"] and "split" not in maps.extra and maps.parameters.shape == (48, 1)


def test_patches_with_masked_pixels_are_left_out(tmp_path):
    gone = hp.xyf2pix(8, 5, 2, 3), hp.xyf2pix(8, 0, 0, 4)
    maps = MapSet.open(patches(skies(masked=gone), tmp_path / "patches.h5", 4))
    assert sorted(set(range(48)) - set(maps.extra["patch"].tolist())) == [3 * 4 + 2, 4 * 4]
    assert len(maps) == 2 * 46 and (maps.read("dust") >= 0).all()
    with pytest.raises(MapSetError, match=r"No patch of 8 pixels .* is without masked ones"):
        patches(skies(masked=[hp.xyf2pix(8, 3, 3, face) for face in range(12)]), tmp_path / "none.h5", 8)
    assert not (tmp_path / "none.h5").exists()


def test_patches_of_what_is_no_sky(tmp_path, boxes):
    for maps, side, message in (
        (boxes, 4, "patches are cut from HEALPix maps"),
        (skies(), 3, r"Take a side of 1, 2, 4, 8\."),
        (skies(box_size_units="Mpc/h"), 4, "measured in Mpc/h"),
        (skies(ordering=None), 4, "RING or NESTED"),
        (skies().with_fields({"dust": Field(np.zeros((2, 700), "float32"))}), 4, "700 pixels are no full sky"),
    ):
        with pytest.raises(MapSetError, match=message):
            patches(maps, tmp_path / "patches.h5", side)


def test_only_cubes(tmp_path):
    flat = example()
    with pytest.raises(MapSetError, match="slabs are cut from cubic boxes"):
        slabs(flat, tmp_path / "slabs.h5")
    with pytest.raises(MapSetError, match="slabs are cut from cubic boxes"):
        slabs(example(shape=(8, 8, 4)), tmp_path / "slabs.h5")


def test_bad_boxes(tmp_path, capsys):
    values = np.zeros((2, 4, 4, 4), "float32")
    example(
        fields={"density": Field(values)},
        parameters=np.zeros((2, 1)),
        simulation=[0, 1],
        extra={},
        geometry=Geometry(ndim=3, box_size=8.0),
    ).save(tmp_path / "boxes.h5")
    with h5py.File(tmp_path / "boxes.h5", "r+") as file:
        file["fields/density"][1, 2] = np.nan
    assert main(["slabs", str(tmp_path / "boxes.h5"), "--output", str(tmp_path / "slabs.h5")]) == 2
    assert "in map 1 " in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5"]


def test_disc_full_and_overwrite(tmp_path, boxes, capsys, monkeypatch):
    output = tmp_path / "slabs.h5"
    output.write_text("mine")
    command = ["slabs", str(boxes.path), "--output", str(output)]
    assert main(command) == 2 and "exists already" in capsys.readouterr().err

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Dataset, "__setitem__", full)
        assert main([*command, "--overwrite"]) == 2
    assert "No space left" in capsys.readouterr().err and output.read_text() == "mine"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["boxes.h5", "slabs.h5"]
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize("room", [0, 20_000, 100_000])
def test_no_room(tmp_path, room):
    """A limit on the size of files, as a disc that fills up: HDF5 must not bring the process down."""
    boxes = example(n_sim=3, per_sim=1, shape=(32, 32, 32)).save(tmp_path / "boxes.h5")
    run = subprocess.run(
        [sys.executable, "-m", "higan", "slabs", str(boxes), "--output", str(tmp_path / "slabs.h5")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run.stderr
    assert run.stderr.endswith("make room, or choose another place.\n") and run.stderr.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5"]
