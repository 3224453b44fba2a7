import dataclasses
import os
import signal
import subprocess
import sys

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

import higan.painting.skies as skies
from higan.adversarial import loop
from higan.adversarial.preparation import check_geometry
from higan.cli import main
from higan.cuts import patches
from higan.emulator import Emulator, load
from higan.errors import MapSetError, ParameterError
from higan.mapset import UNSEEN, Field, Geometry, MapSet
from higan.mapset_writer import partial_path
from higan.painting.sphere import Sky, comoving_distance, lattices
from higan.sources import open_source
from higan.sources.healpix import healpix
from tests import tiny

NSIDE = 16
ANGLE = float(hp.nside2resol(NSIDE, arcmin=True))
THETA = {"BIAS": 2.0, "T_MEAN": 15.0}
PARAMETERS = "BIAS=2.0,T_MEAN=15"


def density(seed=0):
    sky = np.random.default_rng(seed).normal(size=12 * NSIDE**2)
    return (0.3 * hp.smoothing(sky, 0.2) / hp.smoothing(sky, 0.2).std()).astype("float32")


def write(path, *maps, nest=False, names=("density",), header=(), **options):
    hp.write_map(
        path, list(maps), nest=nest, column_names=list(names), extra_header=list(header), dtype=np.float32, **options
    )
    return path


def sample(checkpoint, source, output, *options, seed=7):
    command = ["sample", str(checkpoint), "--input", str(source), "--output", str(output), "--seed", str(seed)]
    return main([*command, *map(str, options)])


@pytest.mark.parametrize("nest", [False, True])
def test_healpix_in_healpix_out(checkpoint, emulator, tmp_path, nest):
    sky = density()
    sky[:50] = UNSEEN
    shell = write(tmp_path / "shell.fits", hp.reorder(sky, r2n=True) if nest else sky, nest=nest, coord="G")
    options = ["--cell-angle", ANGLE, "--parameters", PARAMETERS, "--realisations", 2]
    assert sample(checkpoint, shell, tmp_path / "hi.fits", *options) == 0
    header = fits.getheader(tmp_path / "hi.fits", 1)
    assert header["ORDERING"] == ("NESTED" if nest else "RING") and header["NSIDE"] == NSIDE
    assert header["TTYPE2"] == "brightness_temp_1" and header["TUNIT1"] == "mK" and header["COORDSYS"] == "G"
    assert header["SEED"] == 7 and header["CHECKPT"] == "tiny"
    assert fits.getdata(tmp_path / "hi.fits", 2)["T_MEAN"].tolist() == [15.0, 15.0]
    found = hp.read_map(tmp_path / "hi.fits", field=(0, 1))
    expected = emulator.sample_sky(sky, THETA, seed=7, cell_angle=ANGLE, realisations=2)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (found[0] == np.float32(UNSEEN)).sum() == 50
    assert sorted(item.name for item in tmp_path.iterdir()) == ["hi.fits", "shell.fits"]


def test_the_shell_sets_the_cell(checkpoint, tmp_path, capsys):
    """At nside 16 no shell's cells of 2 Mpc are resolved; one with a cell of that angle is refused by what it is."""
    shell = write(tmp_path / "shell.fits", density(), header=[("REDSHIFT", 8.0), ("THICKNES", 8.0)])

    def refused(*options, source=shell):
        assert sample(checkpoint, source, tmp_path / "hi.fits", "--parameters", PARAMETERS, *options) == 2
        assert [item.name for item in tmp_path.glob("*hi.fits*")] == []
        return capsys.readouterr().err

    needed = np.sqrt(np.pi / 3) / (2 / comoving_distance(8.0))
    assert f"nside {int(np.ceil(0.98 * needed))} or more" in refused()
    assert "The shell is 20 Mpc thick, but tiny was trained on slabs of 8 Mpc" in refused("--thickness", 20)
    assert "The shell is at z = 6, but tiny was trained at z = 8" in refused("--redshift", 6)
    bare = write(tmp_path / "bare.fits", density())
    assert "The redshift of the shell is unknown" in refused(source=bare)
    assert "The thickness of the shell is unknown" in refused("--redshift", 8, source=bare)
    assert "finer than the cells" in refused("--cell-angle", ANGLE, "--nside", 64)
    assert "--batch-size goes with flat maps" in refused("--cell-angle", ANGLE, "--batch-size", 4)
    assert "no column 'density'" in refused(source=write(tmp_path / "two.fits", density(), density(), names=("a", "b")))
    kelvin = write(tmp_path / "kelvin.fits", density(), column_units="K")
    assert "is in 'K'" in refused("--cell-angle", ANGLE, source=kelvin)


def test_options_of_the_sky_are_not_for_flat_maps(checkpoint, map_set, tmp_path, capsys):
    assert sample(checkpoint, map_set.path, tmp_path / "out.h5", "--cell-angle", 3) == 2
    assert "--cell-angle goes with maps of the sky" in capsys.readouterr().err


def lightcone(path, redshifts=(8.0, 8.1)):
    """Two shells with parameters and redshifts of their own, as a map set in a file."""
    shell = healpix(write(path.with_suffix(".fits"), density()), ["density"])
    maps = MapSet(
        {"density": type(shell.fields["density"])(np.stack([density(0), density(1)]), "")},
        [[2.0, 15.0], [1.5, 12.0]],
        tiny.PARAMETERS,
        [0, 1],
        shell.geometry,
        extra={"redshift": np.array(redshifts), "thickness": np.array([8.0, 8.0])},
    )
    return MapSet.open(maps.save(path))


def test_lightcones(checkpoint, emulator, tmp_path, monkeypatch):
    """Shells keep their redshifts, and are painted with their own parameters and noise, at their own cells."""
    maps = lightcone(tmp_path / "cone.h5")
    assert sample(checkpoint, maps.path, tmp_path / "out.h5", "--cell-angle", ANGLE) == 0
    painted = MapSet.open(tmp_path / "out.h5")
    assert painted.extra["redshift"].tolist() == [8.0, 8.1] and painted.geometry.kind == "healpix"
    expected = [
        emulator.sample_sky(density(i), dict(zip(THETA, theta, strict=True)), seed=7, cell_angle=ANGLE, row=i)
        for i, theta in enumerate(maps.parameters)
    ]
    np.testing.assert_allclose(painted.read("brightness_temp"), expected, atol=1e-3)
    # Nearer, the cell is wider.
    monkeypatch.setattr(
        "higan.painting.sphere.comoving_distance", lambda z, *_: 2 / np.radians(ANGLE / 60) * (1 if z == 8 else 0.88)
    )
    assert lattices(emulator.card, maps) == [16, 14]
    with pytest.raises(MapSetError, match="z = 6, but tiny"):
        lattices(emulator.card, lightcone(tmp_path / "far.h5", (8.0, 6.0)))


def test_an_interrupted_sky_is_taken_up_at_its_face(emulator, tmp_path, monkeypatch):
    shell = healpix(write(tmp_path / "shell.fits", density()), ["density"], parameters=THETA)
    options = {"seed": 7, "realisations": 2, "cell_angle": ANGLE}
    whole = MapSet.open(skies.paint_skies_to_file(emulator, shell, tmp_path / "whole.h5", **options))
    paint, painted = Sky.paint, []

    def until_the_sixteenth(self, face, *rest, **named):
        painted.append(face)
        if len(painted) == 16:
            raise KeyboardInterrupt
        return paint(self, face, *rest, **named)

    monkeypatch.setattr(Sky, "paint", until_the_sixteenth)
    with pytest.raises(KeyboardInterrupt):
        skies.paint_skies_to_file(emulator, shell, tmp_path / "out.h5", **options)
    assert partial_path(tmp_path / "out.h5").exists() and not (tmp_path / "out.h5").exists()
    painted[:] = range(100)
    again = MapSet.open(skies.paint_skies_to_file(emulator, shell, tmp_path / "out.h5", **options))
    assert painted[100:] == list(range(3, 12))
    np.testing.assert_array_equal(again.read("brightness_temp"), whole.read("brightness_temp"))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.h5", "shell.fits", "whole.h5"]


# The first shell is painted, and of the second three faces.
KILLED = """
import os, signal, sys
from higan.cli import main
from higan.painting.sphere import Sky

paint, painted = Sky.paint, []

def killing(self, *arguments, **options):
    painted.append(1)
    if len(painted) == 16:
        os.kill(os.getpid(), signal.SIGKILL)
    return paint(self, *arguments, **options)

Sky.paint = killing
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_run_again(checkpoint, tmp_path, monkeypatch):
    maps = lightcone(tmp_path / "cone.h5")
    for folder in ("whole", "broken"):
        (tmp_path / folder).mkdir()
    assert sample(checkpoint, maps.path, tmp_path / "whole/out.h5", "--cell-angle", ANGLE) == 0
    output = tmp_path / "broken/out.h5"
    command = ["sample", checkpoint, "--input", maps.path, "--output", output, "--seed", 7, "--cell-angle", ANGLE]
    run = subprocess.run([sys.executable, "-c", KILLED, *map(str, command)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert sorted(os.listdir(output.parent)) == [".out.h5.faces.h5.partial", "out.h5.partial"]
    paint, painted = Sky.paint, []
    monkeypatch.setattr(Sky, "paint", lambda self, face, *a, **k: painted.append(face) or paint(self, face, *a, **k))
    assert sample(checkpoint, maps.path, output, "--cell-angle", ANGLE) == 0
    assert painted == list(range(3, 12))
    assert output.read_bytes() == (tmp_path / "whole/out.h5").read_bytes() and os.listdir(output.parent) == ["out.h5"]


def test_parts_of_the_sky_and_other_columns_are_read(tmp_path):
    sky = np.full(12 * NSIDE**2, UNSEEN, dtype="float32")
    sky[100:300] = density()[100:300]
    for name, partial in (("whole", False), ("part", True)):
        write(tmp_path / f"{name}.fits", sky, partial=partial)
        maps = open_source({"kind": "healpix", "path": tmp_path / f"{name}.fits", "fields": ["Density"]})
        np.testing.assert_array_equal(maps.read("Density")[0], sky)
    write(tmp_path / "two.fits", density(1), density(2), names=("A", "B"), column_units=("K", "mK"), nest=True)
    maps = healpix(tmp_path / "two.fits", ["b"], redshift=3.0)
    np.testing.assert_array_equal(maps.read("b")[0], density(2))
    assert maps.field("b").units == "mK" and maps.geometry.ordering == "NESTED" and maps.geometry.redshift == 3.0
    for content, words in ((b"SIMPLE", "cannot be read"), (None, "does not exist")):
        if content:
            (tmp_path / "bad.fits").write_bytes(content)
        else:
            (tmp_path / "bad.fits").unlink()
        with pytest.raises(MapSetError, match=words):
            healpix(tmp_path / "bad.fits", ["density"])


def test_only_checkpoints_with_an_input_paint_a_sky(tmp_path):
    shell = healpix(write(tmp_path / "shell.fits", density()), ["density"], parameters=THETA)
    for painter, words in (
        (tiny.painter(inputs=()), "without an input field"),
        (tiny.painter(ndim=3), "3D maps"),
        (tiny.painter(centred=True), "have a middle"),
    ):
        with pytest.raises(MapSetError, match=words):
            skies.paint_skies_to_file(Emulator(painter), shell, tmp_path / "x.h5", seed=1, cell_angle=ANGLE)
    assert [item.name for item in tmp_path.iterdir()] == ["shell.fits"]


def local_skies(path, n_sim=4, nside=NSIDE):
    """Skies whose temperature is 15 mK (1 + 2 δ), pixel by pixel."""
    sky = np.stack([density(seed) for seed in range(n_sim)])
    fields = {"density": Field(sky), "brightness_temp": Field((15 * (1 + 2 * sky)).astype("float32"), "mK")}
    geometry = Geometry(kind="healpix", ndim=1, periodic=False, ordering="RING", redshift=1.0, thickness=100.0)
    return MapSet.open(MapSet(fields, np.zeros((n_sim, 0)), [], np.arange(n_sim), geometry).save(path))


def test_trained_on_patches_of_the_sky(tmp_path, capsys):
    """Skies are painted at the cell that was trained on, without any angle being given, and follow the law."""
    maps = local_skies(tmp_path / "skies.h5")
    data = MapSet.open(patches(maps, tmp_path / "patches.h5", 16))
    recipe = tiny.recipe(
        data={"symmetries": ["rotate", "reflect"]},
        objective={"name": "none", "pixel": "l2", "pixel_weight": 1.0},
        generator={"noise_channels": 0},
        training={"maps": 1600, "crop": 8, "context": 4, "tick_maps": 1600, "batch_size": 8, "learning_rate": 3e-3},
    )
    folder = loop.train(recipe, tmp_path / "run", maps=data)
    emulator = load(folder)
    card = emulator.card
    assert (card.geometry, card.length_units, card.depth_units) == ("patch", "arcmin", "Mpc")
    assert card.cell_size == pytest.approx(ANGLE) and card.thickness == 100.0
    assert lattices(card, maps) == [NSIDE] * 4
    output = tmp_path / "painted.h5"
    assert sample(folder, maps.path, output) == 0
    painted = MapSet.open(output).read("brightness_temp")
    true = maps.read("brightness_temp")
    assert np.corrcoef(painted[0], true[0])[0, 1] > 0.95
    np.testing.assert_allclose(painted[1], emulator.sample_sky(density(1), {}, seed=7, row=1), atol=1e-3)
    thick = maps.with_geometry(dataclasses.replace(maps.geometry, thickness=50.0)).save(tmp_path / "thick.h5")
    assert sample(folder, thick, tmp_path / "x.h5") == 2
    assert "50 Mpc thick, but tiny was trained on slabs of 100 Mpc" in capsys.readouterr().err
    unknown = maps.with_geometry(dataclasses.replace(maps.geometry, thickness=None)).save(tmp_path / "unknown.h5")
    assert sample(folder, unknown, tmp_path / "x.h5") == 2
    assert "thickness of the shell is unknown" in capsys.readouterr().err
    with pytest.raises(ParameterError, match="give cell_angle"):
        Emulator(tiny.painter()).sample_sky(density(), THETA, seed=1)


def test_skies_are_trained_on_in_patches(tmp_path):
    with pytest.raises(MapSetError, match="Cut patches from them to train on"):
        check_geometry(local_skies(tmp_path / "skies.h5"), tiny.recipe())
