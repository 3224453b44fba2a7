import gzip

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from higan.errors import ParameterError
from higan.mapset import Parameter
from higan.sources.tables import converted, is_table, read_parameters
from tests import tiny

RADIUS, MAGNITUDE = Parameter("flux_radius", "pix", 2.0, 12.0), Parameter("mag_auto", "mag", 20.0, 23.5)
PARAMETERS = [MAGNITUDE, RADIUS]
VALUES = {"flux_radius": [4.5, 2.0, 12.0], "mag_auto": [22.5, 21.25, 20.0]}
TEXT = "ident,flux_radius,mag_auto\n17,4.5,22.5\n18,2.0,21.25\n19,12,20\n"
SPREADSHEET = "mag_auto,flux_radius\n22.5,4.5\n21.25,2\n20,12\n"


def table(**changes):
    found = Table({"IDENT": ["a", "b", "c"], **VALUES})
    for name, values in changes.items():
        found[name] = values
    return found


def _fits(path):
    table().write(path, format="fits")


def _second_table(path):
    """As SExtractor writes them: a table with the image's header before that of the objects."""
    header = Table({"Field Header Card": ["SIMPLE  = T"]})
    hdus = [fits.PrimaryHDU(), *(fits.table_to_hdu(part) for part in (header, table()))]
    fits.HDUList(hdus).writeto(path)


def _packed(path):
    plain = path.with_name("plain.fits")
    _fits(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def _group(where):
    def write(path):
        with h5py.File(path, "w") as file:
            file["other/flux_radius"] = np.zeros(7)
            group = file.require_group(where)
            group["mag_auto"], group["flux_radius"] = np.float32(VALUES["mag_auto"]), VALUES["flux_radius"]
            group["names"], group["images"] = [b"a", b"b"], np.zeros((5, 4, 4))
            group["mag_auto"].attrs["units"], group["flux_radius"].attrs["units"] = "mag", ""

    return write


def _compound(path):
    with h5py.File(path, "w") as file:
        file["run/galaxies"] = np.array(
            [(4.5, 22.5), (2, 21.25), (12, 20)], [("flux_radius", "f8"), ("mag_auto", "f8")]
        )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.fits", _fits),
        ("a.cat", _second_table),
        ("a.fits.gz", _packed),
        ("a.csv", lambda path: path.write_text(TEXT)),
        ("spreadsheet.csv", lambda path: path.write_text(SPREADSHEET, encoding="utf-8-sig")),
        ("a.ecsv", lambda path: table().write(path, format="ascii.ecsv")),
        ("a.h5", _group("/")),
        ("a.hdf5", _group("galaxies")),
        ("compound.h5", _compound),
        ("astropy.h5", lambda path: table().write(path, format="hdf5", path="galaxies", serialize_meta=True)),
    ],
)
def test_formats(name, write, tmp_path):
    write(tmp_path / name)
    found = read_parameters(tmp_path / name, PARAMETERS)
    assert list(found) == ["mag_auto", "flux_radius"]
    for name, values in VALUES.items():
        assert found[name].dtype == np.float64 and found[name].dtype.isnative and found[name].tolist() == values


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "h5"])
def test_units_are_converted(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    options = {"path": "t", "serialize_meta": True} if suffix == "h5" else {}
    Table({"T": [0.015, 0.02] * u.K, "pixel": [3, 4] * u.pixel}).write(path, **options)
    found = read_parameters(path, [Parameter("T", "mK", 10, 20), Parameter("pixel", "pix", 2, 12)])
    np.testing.assert_allclose(found["T"], [15, 20])
    assert found["pixel"].tolist() == [3, 4]
    with pytest.raises(ParameterError, match=r"column 'T' is in 'K', but the checkpoint takes it in 'Mpc'. Convert"):
        read_parameters(path, [Parameter("T", "Mpc", 10, 20)])
    for unit, name in (("mag(AB)", "mag"), ("ABmag", "mag"), ("MAG", "mag"), ("Pixels", "pix")):
        assert converted("it", np.array([3.0]), unit, Parameter("p", name, 0, 9)).tolist() == [3.0]
    with pytest.raises(ParameterError, match=r"column 'pixel' is in 'pix', but the checkpoint takes it in '1'"):
        read_parameters(path, [Parameter("pixel", "", 2, 12)])


def test_units_of_datasets(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["box"], file["odd"] = [0.01, 0.02], [1.0, 2.0]
        file["box"].attrs["units"], file["odd"].attrs["units"] = "Gpc / littleh", "apples"
    found = read_parameters(tmp_path / "a.h5", [Parameter("box", "Mpc / littleh", 1, 30)])
    np.testing.assert_allclose(found["box"], [10, 20])
    assert read_parameters(tmp_path / "a.h5", [Parameter("odd", "apples", 1, 2)])["odd"].tolist() == [1, 2]
    with pytest.raises(ParameterError, match="column 'odd' is in 'apples', but the checkpoint takes it in 'mK'"):
        read_parameters(tmp_path / "a.h5", [Parameter("odd", "mK", 1, 2)])


def test_ends_of_the_range_in_single_precision(tmp_path):
    Table({"SIGMA_8": np.float32([0.7, 0.9])}).write(tmp_path / "a.fits")
    assert len(read_parameters(tmp_path / "a.fits", [Parameter("SIGMA_8", "", 0.7, 0.9)])["SIGMA_8"]) == 2


def test_extrapolation(tmp_path):
    table(mag_auto=[22, 30, 21]).write(tmp_path / "a.fits")
    found = read_parameters(tmp_path / "a.fits", PARAMETERS, allow_extrapolation=True)
    assert found["mag_auto"].tolist() == [22, 30, 21]
    table(mag_auto=[22, np.inf, 21]).write(tmp_path / "b.fits")
    with pytest.raises(ParameterError, match="not a finite number"):
        read_parameters(tmp_path / "b.fits", PARAMETERS, allow_extrapolation=True)


BAD_ROWS = {
    "nan": (
        table(mag_auto=[22, 22, np.nan]),
        "row 2 (counted from 0) of column 'mag_auto' is nan, not a finite number.",
    ),
    "infinite": (
        table(flux_radius=[3, np.inf, 3]),
        "row 1 (counted from 0) of column 'flux_radius' is inf, not a finite",
    ),
    "masked": (
        table(mag_auto=MaskedColumn([22, 21, 22], mask=[False, True, False])),
        "row 1 (counted from 0) of column 'mag_auto' is masked or empty, not a finite number. Mend that row or "
        "leave it out.",
    ),
    "text": (table(mag_auto=["22", "21", "faint"]), "row 2 (counted from 0) of column 'mag_auto' is 'faint', not a"),
    "arrays": (table(mag_auto=np.full((3, 2), 22.0)), "column 'mag_auto' holds arrays of shape (2,). Give one number"),
    "range": (
        table(flux_radius=[3, 12.5, 40]),
        "row 1 (counted from 0) of column 'flux_radius' is 12.5, outside the trained range [2, 12] (the first of 2 "
        "such rows). Leave that row out, or add --allow-extrapolation.",
    ),
    "unit": (
        table(flux_radius=[3, 4, 5] * u.arcsec),
        "column 'flux_radius' is in 'arcsec', but the checkpoint takes it",
    ),
    "missing": (
        table()[["IDENT", "mag_auto"]],
        "has no column 'flux_radius': it has IDENT, mag_auto. Rename the column",
    ),
    "empty": (table()[:0], "has no rows. Give a table with at least one."),
}


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "h5"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(name, suffix, tmp_path):
    rows, message = BAD_ROWS[name]
    path = tmp_path / f"a.{suffix}"
    rows.write(path, **({"path": "t", "serialize_meta": True} if suffix == "h5" else {}))
    with pytest.raises(ParameterError) as caught:
        read_parameters(path, PARAMETERS)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def _hdf5(**datasets):
    def write(path):
        with h5py.File(path, "w") as file:
            for name, values in datasets.items():
                file[name.replace("_in_", "/")] = values

    return write


def _truncated(at):
    def write(path):
        _fits(path)
        path.write_bytes(path.read_bytes()[:at])

    return write


BAD_FILES = {
    "not there": (lambda path: None, "cannot be read as a table (No such file or directory). Give a FITS, CSV"),
    "a folder": (lambda path: path.mkdir(), "cannot be read as a table (Is a directory)"),
    "nothing in it": (lambda path: path.write_bytes(b""), "cannot be read as a table"),
    "binary": (lambda path: path.write_bytes(bytes(range(128, 256)) * 9), "cannot be read as a table"),
    "ragged": (lambda path: path.write_text("flux_radius,mag_auto\n1,2,3\n"), "cannot be read as a table"),
    "truncated in its header": (_truncated(4000), "cannot be read as a table (it has no columns)"),
    "truncated in its rows": (_truncated(5800), "cannot be read as a table"),
    "an image": (lambda path: fits.PrimaryHDU(np.zeros((4, 4))).writeto(path), "as a table (it has no columns)"),
    "a word": (lambda path: path.write_text(TEXT.replace("21.25", "faint")), "row 1 (counted from 0) of column 'mag_a"),
    "a gap": (lambda path: path.write_text(TEXT.replace("21.25", "")), "of column 'mag_auto' is masked or empty"),
    "names alone": (lambda path: path.write_text(TEXT.split()[0] + "\n"), "has no rows"),
    "lengths": (_hdf5(mag_auto=[22.0], flux_radius=[2.0, 3.0]), "different lengths (mag_auto 1, flux_radius 2)"),
    "one number": (_hdf5(mag_auto=22.0, flux_radius=2.0), "as a table (it has no columns)"),
    "two tables": (
        _hdf5(a_in_mag_auto=[22.0], a_in_flux_radius=[2.0], b_in_mag_auto=[21.0], b_in_flux_radius=[2.0]),
        "has mag_auto, flux_radius in 2 tables. Give a file with one of them.",
    ),
    "HDF5 truncated": (
        lambda path: _compound(path) or path.write_bytes(path.read_bytes()[:900]),
        "cannot be read as a table",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name, tmp_path):
    write, message = BAD_FILES[name]
    write(tmp_path / "a.dat")
    with pytest.raises(ParameterError) as caught:
        read_parameters(tmp_path / "a.dat", PARAMETERS)
    assert str(caught.value).startswith(f"{tmp_path / 'a.dat'}") and message in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_names_of_tables(tmp_path):
    (tmp_path / "A=1").write_text("A\n1\n")
    assert is_table(str(tmp_path / "A=1")) and is_table("nowhere.CSV") and is_table("a.fits.gz")
    assert not is_table("A=1,B=2.5") and not is_table("") and not is_table(str(tmp_path))
    assert not is_table(",".join(f"PARAMETER_{i}={i}" for i in range(100))), "longer than a name can be"


def test_the_parameters_of_a_map_set(tmp_path):
    """One row a map, in their units, so that what is painted for them belongs to the maps."""
    maps = tiny.maps(n_sim=3, per_sim=2)
    path = maps.save(tmp_path / "maps.h5")
    found = read_parameters(path, tiny.PARAMETERS)
    np.testing.assert_array_equal(np.stack(list(found.values()), axis=1), maps.parameters[maps.simulation])
    with pytest.raises(ParameterError, match=r"maps\.h5 has no column 'h': it has BIAS, T_MEAN\."):
        read_parameters(path, [Parameter("h", "", 0.0, 1.0)])
