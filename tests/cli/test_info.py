import subprocess
import sys

import numpy as np

from higan.cli import main
from higan.mapset import UNSEEN, Field, Geometry, MapSet
from tests.test_mapset import bad_file, example  # noqa: F401


def test_map_set(tmp_path, capsys):
    path = example().save(tmp_path / "maps.h5")
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    for words in (
        "12 maps, 8 x 8, of 4 simulations",
        "side 16 Mpc, cells of 2 Mpc, periodic, redshift 8",
        "made by     noise 1",
        "h 0.7",
        "train 2 simulations (6 maps), validation 1 simulations (3 maps), test 1 simulations (3 maps)",
        "seeds       100 to 103",
        "range in all maps",
    ):
        assert words in out
    assert "SIGMA_8     1      0.7    0.9" in out
    brightness = next(line for line in out.splitlines() if line.startswith("brightness_temp"))
    values = example().read("brightness_temp")
    assert brightness.split()[1:5] == ["mK", f"{values.min():.6g}", "to", f"{values.max():.6g}"]


def test_checkpoint(checkpoint, capsys):
    """A folder, or a shipped name."""
    for name in (str(checkpoint), "eor21cm-2d"):
        assert main(["info", name]) == 0
        assert capsys.readouterr().out.startswith(f"checkpoint  {name.rsplit('/')[-1]}, version ")
    assert main(["info", "eor"]) == 2
    err = capsys.readouterr().err
    assert "nor the name of a shipped checkpoint (cosmos-like, eor21cm-2d" in err and err.count("\n") == 1


def test_says_where_values_are_not_finite(capsys, tmp_path):
    from higan.cli.info import describe

    values = np.zeros((12, 8, 8), "float32")
    values[5, 1, 1] = np.nan
    assert "NaN or infinite values in map 5" in describe(example(fields={"density": Field(values)}))


def test_bad_files(bad_file, capsys):  # noqa: F811
    path, message = bad_file
    assert main(["info", str(path)]) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1


def test_imports_no_backend(tmp_path):
    path = example().save(tmp_path / "maps.h5")
    code = (
        "import sys; from higan.cli import main; main(['info', sys.argv[1]]); "
        "assert not {'keras', 'tensorflow', 'jax', 'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, stdout=subprocess.DEVNULL)


def test_a_sky_is_told_by_its_pixels():
    from higan.cli.info import describe

    sky = np.arange(192, dtype="float32")[None]
    sky[0, :10] = UNSEEN
    geometry = Geometry(kind="healpix", ndim=1, ordering="NESTED", redshift=8.0, thickness=8.0)
    text = describe(MapSet({"T": Field(sky, "mK")}, np.zeros((1, 0)), [], [0], geometry))
    assert "healpix, nside 4, NESTED order, pixels of 879.485 arcmin, thickness 8 Mpc, redshift 8" in text
    assert "10 to 191" in text
