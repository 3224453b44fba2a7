import h5py
import numpy as np
import pytest

from higan.errors import MapSetError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.mapset_writer import MapSetWriter


def example(n_sim=4, per_sim=3, shape=(8, 8), seed=0, **changes):
    """A small map set in memory: two fields of white noise."""
    rng = np.random.default_rng(seed)
    n = n_sim * per_sim
    keep = dict(
        fields={
            "density": Field(rng.normal(size=(n, *shape)).astype("float32"), "", "matter overdensity"),
            "brightness_temp": Field(rng.gamma(2, size=(n, *shape)).astype("float32"), "mK", "brightness temperature"),
        },
        parameters=rng.uniform(0.7, 0.9, size=(n_sim, 1)),
        parameter_info=[Parameter("SIGMA_8", "", 0.7, 0.9)],
        simulation=np.repeat(np.arange(n_sim), per_sim),
        geometry=Geometry(ndim=len(shape), box_size=16.0, redshift=8.0, cosmology={"h": 0.7}),
        simulator="noise",
        simulator_version="1",
        extra={
            "seeds": np.arange(n_sim) + 100,
            "split": np.array(["train"] * (n_sim - 2) + ["validation", "test"]),
        },
        attributes={"set": "lh"},
    )
    return MapSet(**{**keep, **changes})


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_save_and_open(tmp_path, compression):
    maps = example()
    back = MapSet.open(maps.save(tmp_path / "maps.h5", compression=compression))
    assert back.content_sha256() == maps.content_sha256()
    assert back.geometry == maps.geometry and back.parameter_info == maps.parameter_info
    assert back.fields["brightness_temp"].units == "mK" and back.fields["density"].long_name == "matter overdensity"
    assert (back.simulator, back.simulator_version, back.attributes) == ("noise", "1", {"set": "lh"})
    np.testing.assert_array_equal(back.parameters, maps.parameters)
    for name in maps.extra:
        np.testing.assert_array_equal(back.extra[name], maps.extra[name])
    assert [item.name for item in tmp_path.iterdir()] == ["maps.h5"]


def test_h5py_alone_reads_it(tmp_path):
    with h5py.File(example().save(tmp_path / "maps.h5")) as file:
        assert file.attrs["format"] == "higan-maps" and file.attrs["geometry"] == "box" and file.attrs["ndim"] == 2
        assert file["fields/density"].dtype == np.float32 and file["fields/density"].chunks == (1, 8, 8)
        assert list(file["parameters"].attrs["names"]) == ["SIGMA_8"] and file["parameters"].dtype == np.float64
        assert file["simulation"].dtype == np.int32 and file["split"][0] == b"train"


@pytest.mark.parametrize("where", ["memory", "file"])
def test_rows_in_any_order(tmp_path, where):
    maps = example()
    values = maps.read("density")
    opened = maps if where == "memory" else MapSet.open(maps.save(tmp_path / "maps.h5"))
    rows = [5, 0, 5, 11, 2]
    np.testing.assert_array_equal(opened.read("density", rows), values[rows])
    chosen = opened.select(rows)
    np.testing.assert_array_equal(chosen.read("density"), values[rows])
    np.testing.assert_array_equal(chosen.select([3, 1]).read("density"), values[[11, 0]])
    assert chosen.simulation.tolist() == [1, 0, 1, 3, 0] and chosen.n_sim == 4
    assert opened.rows_of([1, 3]).tolist() == [3, 4, 5, 9, 10, 11]
    np.testing.assert_array_equal(np.concatenate(list(opened.batches("density", rows, size=2))), values[rows])


@pytest.mark.parametrize("where", ["memory", "file"])
def test_rows_by_a_mask_and_rows_that_are_not_there(tmp_path, where):
    maps = example()
    values = maps.read("density")
    opened = maps if where == "memory" else MapSet.open(maps.save(tmp_path / "maps.h5"))
    mask = np.arange(12) % 5 == 1
    np.testing.assert_array_equal(opened.read("density", mask), values[mask])
    np.testing.assert_array_equal(opened.select(list(mask)).read("density"), values[mask])
    np.testing.assert_array_equal(next(opened.batches("density", mask)), values[mask])
    assert opened.read("density", []).shape == (0, 8, 8)
    for rows, message in (
        ([0, 100], "no map 100. Name maps from 0 to 11"),
        ([-1], "no map -1"),
        (mask[:4], r"of type bool and shape \(4,\) do not choose maps"),
        ([1.5], "of type float64"),
        (3, r"of type int64 and shape \(\)"),
    ):
        for look in (opened.select, lambda rows: opened.read("density", rows)):
            with pytest.raises(MapSetError, match=message):
                look(rows)


def test_text_of_bytes_is_text(tmp_path):
    maps = example(extra={"split": np.array([b"train", b"train", b"validation", b"test"])})
    assert maps.extra["split"].tolist() == ["train", "train", "validation", "test"]
    fields = {"density": ((8, 8), "", "")}
    with MapSetWriter(tmp_path / "maps.h5", maps, fields, 12, extra={"split": np.array([b"test"] * 4)}) as writer:
        writer.write(0, {"density": maps.read("density")})
    assert MapSet.open(tmp_path / "maps.h5").extra["split"].tolist() == ["test"] * 4


@pytest.mark.parametrize("name", ["box_size", "cell_size", "thickness", "redshift"])
def test_sizes_are_one_number(tmp_path, name):
    path = example().save(tmp_path / "maps.h5")
    with h5py.File(path, "r+") as file:
        file.attrs[name] = [2.0]
    assert getattr(MapSet.open(path).geometry, name) == 2.0
    with h5py.File(path, "r+") as file:
        file.attrs[name] = [2.0, 4.0]
    with pytest.raises(MapSetError, match=rf"{name}.* is array\(\[2., 4.\]\), but it is one number") as caught:
        MapSet.open(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_units_of_length():
    """Those of the cell where it is given, else of the box that it is computed from."""
    assert Geometry(box_size=16.0, cell_size_units="kpc").length_units == "Mpc"
    assert Geometry(cell_size=2.0, cell_size_units="arcsec").length_units == "arcsec"
    assert Geometry(cell_size=2.0, box_size_units="Mpc/h").length_units == "Mpc/h"


def test_units_with_h_are_compared_by_what_they_mean():
    maps = example(fields={"density": Field(_values(), "littleh solMass / Mpc2")})
    maps.check_units("density", "Msun littleh / Mpc2", "me")
    with pytest.raises(MapSetError, match="Convert it first"):
        maps.check_units("density", "Msun / Mpc2", "me")


def test_a_batch_of_boxes_is_small():
    maps = example(n_sim=4, per_sim=20, shape=(128, 128), seed=1)
    assert max(map(len, maps.batches("density"))) == 80
    boxes = example().select([0] * 8)
    boxes = example(fields={"density": Field(_Zeros((12, 256, 256, 256)))}, geometry=Geometry(ndim=3, box_size=1.0))
    assert boxes._batch_size() == 1


class _Zeros:
    dtype = np.dtype("float32")

    def __init__(self, shape):
        self.shape = shape


def _values(shape=(12, 8, 8), **at):
    values = np.zeros(shape, "float32")
    for place, value in at.items():
        values[int(place[1:])] = value
    return values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_map(tmp_path, bad):
    maps = example(fields={"density": Field(_values(m7=bad))})
    with pytest.raises(MapSetError, match="'density' holds NaN or infinite values in map 7 "):
        maps.read("density")
    with pytest.raises(MapSetError, match="map 7 "):
        maps.save(tmp_path / "maps.h5")
    assert not list(tmp_path.iterdir())
    maps.read("density", [0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "no fields"),
        ({"fields": {"density": Field(_values((0, 8, 8)))}, "simulation": []}, "is empty"),
        ({"fields": {"density": Field(_values((11, 8, 8)))}}, "11 maps, but 'simulation' has 12"),
        ({"fields": {"density": Field(_values((12,)))}}, r"shape \(12,\)"),
        ({"fields": {"density": Field(_values((12, 8, 0)))}}, "length 0"),
        ({"fields": {"density": Field(_values().astype(int))}}, "of type int64"),
        ({"fields": {"a": Field(_values()), "b": Field(_values((12, 8, 9)))}}, "need one shape"),
        ({"parameters": np.zeros((4, 2))}, "1 names are given"),
        ({"parameters": [[0.8], [np.nan], [0.8], [0.8]]}, "simulation 1 are NaN"),
        ({"parameters": np.zeros((3, 1)), "extra": {}}, "0 to 3, but there are 3 rows"),
        ({"simulation": np.arange(12) - 1}, "runs from -1"),
        ({"extra": {"seeds": [1, 2]}}, "'seeds' has 2 entries where 4"),
        ({"extra": {"seeds": list("abcd")}}, "'seeds' holds <U1, but it is of numbers"),
        ({"geometry": Geometry(box_size=16.0, cosmology=1)}, "the cosmology is 1, but it names parameters"),
        ({"extra": {"axis": [1, 2]}}, "'axis' has 2 entries where 12"),
        ({"extra": {"seeds": np.zeros((4, 0))}}, "'seeds' has shape .4, 0. where 4 are needed"),
    ],
)
def test_sets_that_make_no_sense(changes, message):
    with pytest.raises(MapSetError, match=message) as caught:
        example(**changes)
    assert "\n" not in str(caught.value)


def test_field_that_is_not_there():
    with pytest.raises(MapSetError, match="no field 'HI': it holds brightness_temp, density"):
        example().read("HI")


def _edit(change):
    def write(path):
        example().save(path)
        with h5py.File(path, "r+") as file:
            change(file)

    return write


def _truncated(path):
    example(shape=(32, 32)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _replace(name, values):
    def change(file):
        attrs = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attrs)

    return change


BAD_FILES = {
    "not HDF5": (lambda path: path.write_text("density"), "is not an HDF5 file"),
    "truncated": (_truncated, "is truncated or damaged"),
    "missing": (lambda path: None, "does not exist"),
    "another HDF5 file": (lambda path: h5py.File(path, "w").close(), "not a map set"),
    "newer": (_edit(lambda file: file.attrs.update(format_version=99)), "format 99, newer than 1"),
    "no parameters": (_edit(lambda file: file.__delitem__("parameters")), "has no '/parameters'"),
    "no simulation": (_edit(lambda file: file.__delitem__("simulation")), "has no '/simulation'"),
    "no fields": (_edit(lambda file: file.__delitem__("fields")), "has no '/fields'"),
    "no field": (_edit(lambda file: file["fields"].clear()), "has no fields"),
    "no names": (
        _edit(lambda file: file["parameters"].attrs.__delitem__("names")),
        "cannot be read as a map set",
    ),
    "too few bounds": (
        _edit(lambda file: file["parameters"].attrs.update(lower=[])),
        "cannot be read as a map set",
    ),
    "fields is no group": (_edit(_replace("fields", 3.0)), "cannot be read as a map set"),
    "integers": (_edit(_replace("fields/density", np.zeros((12, 8, 8), int))), "of type int64"),
    "text": (_edit(_replace("fields/density", np.array([b"x"] * 12))), "density"),
    "shape": (_edit(_replace("fields/density", np.zeros((12, 8), "f4"))), r"shape (12, 8)"),
    "counts": (
        _edit(_replace("fields/density", np.zeros((9, 8, 8), "f4"))),
        "has 9 maps, but 'simulation' has 12",
    ),
    "empty": (
        _edit(
            lambda file: (
                _replace("fields/density", np.zeros((0, 8, 8), "f4"))(file),
                _replace("simulation", [])(file),
            )
        ),
        "is empty",
    ),
    "simulation out of range": (
        _edit(_replace("simulation", np.full(12, 4))),
        "runs from 4 to 4, but there are 4",
    ),
}


@pytest.fixture(params=list(BAD_FILES))
def bad_file(request, tmp_path):
    """A file that is not a proper map set, and words that its error has."""
    write, message = BAD_FILES[request.param]
    path = tmp_path / "bad.h5"
    write(path)
    return path, message


def test_bad_files(bad_file):
    path, message = bad_file
    with pytest.raises(MapSetError) as caught:
        MapSet.open(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
