import os

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from higan.errors import OutputError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.painting.fits_cube import check_cube, write_cube

VALUES = np.random.default_rng(0).normal(size=(6, 4, 8)).astype("f4")
INFO = [Parameter("flux_radius", "pix", 2, 12), Parameter("Ω", "µJy", 0, 1), Parameter("h", "Gyr / apples", 0, 1)]
THETA = np.arange(9).reshape(3, 3) / 9
GEOMETRY = Geometry(kind="image", periodic=False, cell_size=0.03, cell_size_units="arcsec")

# Of a name that is not ASCII.
pytestmark = pytest.mark.filterwarnings("ignore:It is strongly recommended that column names")


def painted(draws, values=VALUES, units="ct / s", **changes):
    n = len(values) // draws
    attributes = {"checkpoint": "cosmos-like", "checkpoint_version": "2", "seed": 2**64 - 1, "extrapolated": False}
    keep = dict(
        fields={"image": Field(values, units)},
        parameters=THETA[:n],
        parameter_info=INFO,
        simulation=np.repeat(np.arange(n), draws),
        geometry=GEOMETRY,
        created_by="higan 1",
        attributes={**attributes, "checkpoint_sha256": "0" * 64, "realisations": draws},
    )
    return MapSet(**{**keep, **changes})


@pytest.mark.parametrize(("draws", "shape"), [(2, (3, 2, 4, 8)), (1, (3, 4, 8))])
def test_what_astropy_reads(draws, shape, tmp_path):
    maps = painted(draws, VALUES[: 3 * draws])
    assert write_cube(maps, tmp_path / "a.fits") == tmp_path / "a.fits"
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert hdus[0].data.dtype == ">f4" and hdus[0].data.shape == shape
        np.testing.assert_array_equal(hdus[0].data.reshape(maps.read("image").shape), maps.read("image"))
    assert u.Unit(header["BUNIT"], format="fits") == u.ct / u.s
    found = {key: header[key] for key in ("BTYPE", "CELLSIZE", "CELLUNIT", "SEED", "CHECKPT", "CHECKVER", "CREATOR")}
    assert list(found.values()) == ["image", 0.03, "arcsec", 2**64 - 1, "cosmos-like", "2", "higan 1"]
    assert header["CHECKSHA"] == "0" * 64 and header["EXTRAPOL"] is False
    assert "REDSHIFT" not in header and "THICKNES" not in header
    table = Table.read(tmp_path / "a.fits", hdu="PARAMETERS", unit_parse_strict="silent")
    assert table.colnames == ["flux_radius", "\\u03a9", "h"] and table["\\u03a9"].unit == u.uJy
    assert table["flux_radius"].unit == u.pix
    np.testing.assert_array_equal(np.array(table.as_array().tolist()), THETA)
    assert os.listdir(tmp_path) == ["a.fits"]


def test_boxes_and_slabs(tmp_path):
    geometry = Geometry(ndim=3, box_size=8.0, box_size_units="Mpc/h", redshift=5.0, thickness=2.0)
    maps = painted(
        1, np.zeros((2, 4, 4, 4), "f4"), "", geometry=geometry, parameters=np.zeros((2, 0)), parameter_info=[]
    )
    write_cube(maps, tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        header = hdus[0].header
        assert hdus[0].data.shape == (2, 4, 4, 4) and not hdus["PARAMETERS"].columns
    assert [header[key] for key in ("BUNIT", "CELLSIZE", "CELLUNIT")] == ["", 2.0, "Mpc/h"]
    assert [header[key] for key in ("REDSHIFT", "THICKNES")] == [5.0, 2.0]


def test_batch_by_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(MapSet, "_batch_size", lambda self: 4)
    write_cube(painted(2), tmp_path / "a.fits")
    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits").reshape(VALUES.shape), VALUES)


def test_refusals(tmp_path):
    (tmp_path / "a.fits").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_cube(painted(2), tmp_path / "a.fits")
    assert (tmp_path / "a.fits").read_text() == "mine"
    write_cube(painted(2), tmp_path / "a.fits", overwrite=True)
    with pytest.raises(OutputError, match=r"b.fits would hold image, HI, and one field at most"):
        write_cube(painted(2, fields={"image": Field(VALUES), "HI": Field(VALUES)}), tmp_path / "b.fits")
    check_cube(tmp_path / "b.fits", ["HI"], 2000, (10, 10**5))
    with pytest.raises(OutputError, match=r"b.fits would hold 8.2 GB, and 8 GB at most. Write a map set: name it .h5."):
        check_cube(tmp_path / "b.fits", ["HI"], 2050, (10, 10**5))
    assert os.listdir(tmp_path) == ["a.fits"]


def test_stopped(tmp_path, monkeypatch):
    def stopping(self, file):
        file.write(b"SIMPLE")
        raise KeyboardInterrupt

    monkeypatch.setattr("astropy.io.fits.HDUList.writeto", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_cube(painted(2), tmp_path / "a.fits")
    assert not list(tmp_path.iterdir())
