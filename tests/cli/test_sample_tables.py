import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

import higan
from higan.cli import main
from higan.emulator import Emulator
from higan.errors import MapSetError
from higan.mapset import MapSet
from higan.painting import lazy
from higan.painting.stream import paint_to_file
from higan.sources.tables import read_parameters
from tests import tiny

THETA = np.array([[1.5, 12.0], [3.0, 20.0], [2.0, 15.0], [1.0, 10.0], [2.5, 17.5]])


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """The folder of a checkpoint that draws maps from noise and parameters alone."""
    return tiny.save(tiny.card(inputs=()), tmp_path_factory.mktemp("drawing") / "tiny")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Five rows, with a column that no parameter has the name of, and temperatures in kelvin."""
    path = tmp_path_factory.mktemp("catalogue") / "catalog.fits"
    table(T_MEAN=THETA[:, 1] / 1000 * u.K).write(path)
    return path


@pytest.fixture(scope="module")
def painted(drawing, catalogue, tmp_path_factory):
    """Three realisations of each row, in batches of 4."""
    path = tmp_path_factory.mktemp("painted") / "out.h5"
    assert sample(drawing, catalogue, path, "--realisations", 3, "--batch-size", 4) == 0
    return path


def table(**columns):
    return Table({"T_MEAN": THETA[:, 1], "ident": [f"g{i}" for i in range(5)], "BIAS": THETA[:, 0], **columns})


def sample(checkpoint, parameters, output, *options, seed=7):
    command = ["sample", checkpoint, "--parameters", parameters, "--output", output, "--seed", seed, *options]
    return main(list(map(str, command)))


def test_a_map_a_row(painted, drawing, catalogue):
    maps = MapSet.open(painted)
    assert len(maps) == 15 and maps.shape == (16, 16) and maps.n_sim == 5
    np.testing.assert_allclose(maps.parameters, THETA)
    assert maps.parameter_info == tiny.PARAMETERS
    np.testing.assert_array_equal(maps.simulation, np.repeat(np.arange(5), 3))
    np.testing.assert_array_equal(maps.extra["source_row"], np.repeat(np.arange(5), 3))
    np.testing.assert_array_equal(maps.extra["realisation"], np.tile(np.arange(3), 5))
    emulator = higan.load(drawing)
    theta = read_parameters(catalogue, emulator.card.parameters)
    expected = emulator.sample(parameters=theta, seed=7, realisations=3).reshape(15, 16, 16)
    np.testing.assert_allclose(maps.read("brightness_temp"), expected, atol=1e-3)
    assert [item.name for item in painted.parent.iterdir()] == ["out.h5"]


def test_boxes_on_densities_that_are_drawn(catalogue, tmp_path, capsys):
    """Whole or in tiles, taken up again or not: those of the emulator; every realisation has a density of its own."""
    folder = tiny.save(tiny.drawing(), tmp_path / "boxes")
    emulator = higan.load(folder)
    theta = read_parameters(catalogue, emulator.card.parameters)
    expected = emulator.sample(parameters=theta, seed=7, realisations=2).reshape(10, 8, 8, 8)
    assert sample(folder, catalogue, tmp_path / "whole.h5", "--realisations", 2) == 0
    assert sample(folder, catalogue, tmp_path / "tiles.h5", "--realisations", 2, "--tile", 4) == 0
    for name in ("whole.h5", "tiles.h5"):
        maps = MapSet.open(tmp_path / name)
        np.testing.assert_allclose(maps.read("brightness_temp"), expected, atol=1e-3)
        assert maps.geometry.redshift == 8.0 and maps.cell_size == tiny.CELL
    flat = tiny.maps(n_sim=3, per_sim=1, shape=(8, 8, 4))
    for maps, checkpoint in ((flat, emulator), (flat, Emulator(tiny.painter(ndim=3)))):
        with pytest.raises(MapSetError, match=r"tiny draws no density for maps of shape \(8, 8, 4\)\. Give cubes"):
            paint_to_file(checkpoint, maps, tmp_path / "x.h5", seed=1, drawn=True)
    table(BIAS=[1.0, 1.0, 1.0, 1.0, 11.0]).write(tmp_path / "beyond.csv")
    assert sample(folder, tmp_path / "beyond.csv", tmp_path / "x.h5", "--allow-extrapolation") == 2
    assert "row 4 (counted from 0): No density can be drawn in a universe of" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.h5*"))
    one = tmp_path / "one.h5"
    assert sample(folder, "BIAS=1.5,T_MEAN=12", one) == 0
    np.testing.assert_allclose(MapSet.open(one).read("brightness_temp")[0], expected[0], atol=1e-3)


def test_stamps_are_images(catalogue, tmp_path):
    stamps = {"geometry": "image", "length_units": "arcsec", "thickness": None, "periodic": False, "redshift": None}
    folder = tiny.save(tiny.card(inputs=()).model_copy(update=stamps), tmp_path / "stamps")
    assert sample(folder, catalogue, tmp_path / "out.h5") == 0
    geometry = MapSet.open(tmp_path / "out.h5").geometry
    assert (geometry.kind, geometry.length_units, geometry.periodic) == ("image", "arcsec", False)


@pytest.mark.parametrize("name", ["catalog.csv", "catalog.ecsv", "catalog.hdf5", "catalog"])
def test_other_tables(name, painted, drawing, tmp_path):
    options = {"path": "galaxies"} if name.endswith("hdf5") else {"format": "ascii.csv"} if "." not in name else {}
    table().write(tmp_path / name, **options)
    assert sample(drawing, tmp_path / name, tmp_path / "out.h5", "--realisations", 3, "--batch-size", 4) == 0
    np.testing.assert_allclose(
        MapSet.open(tmp_path / "out.h5").read("brightness_temp"),
        MapSet.open(painted).read("brightness_temp"),
        rtol=1e-4,
    )


def test_one_set_of_parameters(painted, drawing, tmp_path):
    """The first row, as NAME=VALUE."""
    assert sample(drawing, "BIAS=1.5,T_MEAN=12", tmp_path / "out.h5") == 0
    maps = MapSet.open(tmp_path / "out.h5")
    assert maps.parameters.tolist() == [[1.5, 12.0]] and len(maps) == 1
    np.testing.assert_allclose(
        maps.read("brightness_temp"), MapSet.open(painted).read("brightness_temp", [0]), rtol=1e-3
    )


def test_validated_beside_maps_of_the_same_catalogue(painted, drawing, tmp_path, capsys):
    """Another seed plays the truth."""
    truth = MapSet.open(painted).select(np.arange(0, 15, 3))
    truth.extra.clear()
    truth.save(tmp_path / "truth.h5")
    command = ["validate", str(painted), str(tmp_path / "truth.h5"), "--output", str(tmp_path / "report")]
    assert main(command) == 0, capsys.readouterr().err
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize("suffix", ["h5", "fits"])
def test_stopped_and_run_again(suffix, drawing, catalogue, tmp_path, monkeypatch, capsys):
    """Another catalogue does not take it up."""
    paint_tile, seen = lazy.paint_tile, []

    def stopping(*arguments, **options):
        seen.append(options["rows"])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return paint_tile(*arguments, **options)

    monkeypatch.setattr(lazy, "paint_tile", stopping)
    output, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    assert sample(drawing, catalogue, output, "--batch-size", 1) == 130
    (partial,) = tmp_path.iterdir()
    assert partial.name == {"h5": "out.h5.partial", "fits": ".out.fits.h5.partial"}[suffix]
    assert f"painted maps are kept in {partial}; the same command goes on there." in capsys.readouterr().err
    assert sample(drawing, catalogue, output, "--batch-size", 1) == 0
    assert len(seen) == 3 + 5 - 2 and os.listdir(tmp_path) == [output.name]
    assert sample(drawing, catalogue, whole, "--batch-size", 1) == 0
    assert whole.read_bytes() == output.read_bytes()
    seen.clear()
    table(BIAS=THETA[::-1, 0]).write(tmp_path / "other.csv")
    assert sample(drawing, catalogue, output, "--batch-size", 1, "--overwrite") == 130
    assert sample(drawing, tmp_path / "other.csv", output, "--batch-size", 1, "--overwrite") == 0
    assert len(seen) == 3 + 5


def test_extrapolation(drawing, tmp_path, capsys):
    table(BIAS=[1, 2, 3, 3.5, 2]).write(tmp_path / "catalog.csv")
    assert sample(drawing, tmp_path / "catalog.csv", tmp_path / "out.h5") == 2
    assert "row 3 (counted from 0) of column 'BIAS' is 3.5, outside the trained range [1, 3]" in capsys.readouterr().err
    assert sample(drawing, tmp_path / "catalog.csv", tmp_path / "out.h5", "--allow-extrapolation") == 0
    assert MapSet.open(tmp_path / "out.h5").attributes["extrapolated"]


def test_a_cube(painted, drawing, catalogue, tmp_path):
    for draws, shape in ((1, (5, 16, 16)), (3, (5, 3, 16, 16))):
        output = tmp_path / f"{draws}.fits"
        assert sample(drawing, catalogue, output, "--realisations", draws, "--batch-size", 4) == 0
        with fits.open(output) as hdus:
            assert hdus[0].data.shape == shape and hdus[0].header["SEED"] == 7
            expected = MapSet.open(painted).read("brightness_temp").reshape(5, 3, 16, 16)[:, :draws]
            np.testing.assert_allclose(hdus[0].data.reshape(expected.shape), expected, rtol=1e-3)
    assert sorted(os.listdir(tmp_path)) == ["1.fits", "3.fits"]
    # Its own table of parameters is a catalogue too.
    assert sample(drawing, tmp_path / "1.fits", tmp_path / "again.fits", "--batch-size", 4) == 0
    assert (tmp_path / "again.fits").read_bytes() == (tmp_path / "1.fits").read_bytes()


# -- bad input: one sentence, exit code 2, nothing written ---------------------------------------------------

NO_BACKEND = "import sys; sys.modules['keras'] = None; from higan.cli import main; sys.exit(main(sys.argv[1:]))"


def refused(capsys, folder, message):
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("higan sample: "), err
    assert not [item.name for item in folder.iterdir() if "out" in item.name]


def test_rows_are_checked_before_any_backend_is_imported(drawing, tmp_path):
    table(BIAS=[1, 2, np.nan, 3, np.nan]).write(tmp_path / "catalog.fits")
    command = [
        "sample",
        drawing,
        "--parameters",
        tmp_path / "catalog.fits",
        "--output",
        tmp_path / "out.h5",
        "--seed=1",
    ]
    run = subprocess.run(
        [sys.executable, "-c", NO_BACKEND, *map(str, command)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and run.stderr == (
        f"higan sample: {tmp_path / 'catalog.fits'}: row 2 (counted from 0) of column 'BIAS' is nan, not a finite "
        "number (the first of 2 such rows). Mend that row or leave it out.\n"
    )
    assert os.listdir(tmp_path) == ["catalog.fits"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("nowhere.fits", "nowhere.fits cannot be read as a table (No such file or directory)"),
        (
            "nowhere.dat",
            "--parameters: cannot read 'nowhere.dat'; write NAME=VALUE,NAME=VALUE with each name once, or the",
        ),
        ("", "--parameters gives nothing; tiny takes exactly BIAS, T_MEAN"),
    ],
)
def test_no_table(parameters, message, drawing, tmp_path, capsys):
    assert sample(drawing, parameters, tmp_path / "out.h5") == 2
    refused(capsys, tmp_path, message)


def test_checkpoints_that_take_no_table(checkpoint, catalogue, tmp_path, capsys):
    assert sample(checkpoint, catalogue, tmp_path / "out.h5") == 2
    refused(capsys, tmp_path, "tiny paints on density: give such maps with --input.")
    folder = tiny.save(tiny.card(inputs=(), parameters=[]), tmp_path / "free")
    assert sample(folder, catalogue, tmp_path / "out.h5") == 2
    refused(capsys, tmp_path, "tiny takes no parameters: leave out --parameters.")


def test_a_table_beside_arrays(checkpoint, catalogue, tmp_path, capsys):
    """A row a map, as `Emulator.sample` takes them."""
    density = tiny.maps().read("density", np.arange(5))
    np.save(tmp_path / "density.npy", density)
    assert sample(checkpoint, catalogue, tmp_path / "out.h5", "--input", tmp_path / "density.npy") == 0
    painted = MapSet.open(tmp_path / "out.h5")
    named = dict(zip(("BIAS", "T_MEAN"), THETA.T, strict=True))
    expected = higan.load(checkpoint).sample(density, named, seed=7)
    np.testing.assert_allclose(painted.read("brightness_temp"), expected, rtol=1e-5, atol=1e-5)
    np.save(tmp_path / "density.npy", density[:3])
    (tmp_path / "out.h5").unlink()
    assert sample(checkpoint, catalogue, tmp_path / "out.h5", "--input", tmp_path / "density.npy") == 2
    refused(capsys, tmp_path, f"has 5 rows, but {tmp_path / 'density.npy'} holds 3 maps. Give a row a map.")


def test_the_side_of_what_is_painted(drawing, catalogue, tmp_path, capsys):
    assert sample(drawing, catalogue, tmp_path / "out.h5", "--side", 24) == 0
    assert MapSet.open(tmp_path / "out.h5").shape == (24, 24)
    (tmp_path / "out.h5").unlink()
    np.save(tmp_path / "density.npy", np.zeros((5, 16, 16), "f4"))
    assert sample(drawing, catalogue, tmp_path / "out.h5", "--input", tmp_path / "density.npy", "--side", 24) == 2
    refused(capsys, tmp_path, "--side is of maps painted without --input. Leave it out.")


def test_cubes_that_cannot_be(drawing, catalogue, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("higan.painting.fits_cube.MAX_BYTES", 10**3)
    assert sample(drawing, catalogue, tmp_path / "out.fits") == 2
    refused(capsys, tmp_path, "out.fits would hold 0.0 GB")
    several = tiny.save(tiny.card(inputs=(), outputs=("brightness_temp", "HI")), tmp_path / "several")
    assert sample(several, catalogue, tmp_path / "out.fits") == 2
    refused(capsys, tmp_path, "out.fits would hold brightness_temp, HI, and one field at most. Write a map set")


def test_cube_on_a_full_disc(drawing, catalogue, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("astropy.io.fits.HDUList.writeto", full)
    assert sample(drawing, catalogue, tmp_path / "out.fits") == 2
    refused(capsys, tmp_path, "out.fits cannot be written (No space left on device). Nothing was left behind")
