import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from higan.errors import MapSetError, OutputError
from higan.mapset import Geometry, MapSet, Parameter
from higan.mapset_writer import MADE_FROM, MapSetWriter, _Sink, partial_path
from tests.test_mapset import example


def test_output_exists(tmp_path):
    path = tmp_path / "maps.h5"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        example().save(path)
    assert path.read_text() == "mine"
    example().save(path, overwrite=True)
    assert len(MapSet.open(path)) == 12


def test_output_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="does not exist"):
        example().save(tmp_path / "nowhere" / "maps.h5")
    with pytest.raises(OutputError, match="is a folder"):
        example().save(tmp_path, overwrite=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission"):
        example().save(tmp_path / "maps.h5")
    assert not list(tmp_path.iterdir())


def test_disc_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "maps.h5"
    path.write_text("mine")
    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    with pytest.raises(OutputError, match="No space left on device"):
        example().save(path, overwrite=True)
    assert path.read_text() == "mine" and [item.name for item in tmp_path.iterdir()] == ["maps.h5"]


def test_a_writer_that_is_interrupted_leaves_nothing(tmp_path):
    maps = example()
    fields = {"density": ((8, 8), "", "")}
    with (
        pytest.raises(KeyboardInterrupt),
        MapSetWriter(tmp_path / "maps.h5", maps, fields, len(maps)) as writer,
    ):
        writer.write(0, {"density": maps.read("density", [0, 1])})
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_two_writers_at_once(tmp_path):
    maps, fields = example(), {"density": ((8, 8), "", "")}
    for options in ({}, {"made_from": "x"}):
        with (
            pytest.raises(KeyboardInterrupt),
            MapSetWriter(tmp_path / "maps.h5", maps, fields, 12, **options) as writer,
        ):
            writer.write(0, {"density": maps.read("density")})
            with (
                pytest.raises(OutputError, match="is being written by another process"),
                MapSetWriter(tmp_path / "maps.h5", maps, fields, 12, **options),
            ):
                pass
            assert len(os.listdir(tmp_path)) == 1, "the other's file stays"
            raise KeyboardInterrupt


def test_partials_of_the_dead_are_swept(tmp_path):
    """That of a writer that lives, here another of this process, is not."""
    maps, fields = example(), {"density": ((8, 8), "", "")}
    (tmp_path / ".maps.h5.partial-99999").write_text("left by kill -9")
    (tmp_path / ".others.h5.partial-99999").write_text("another output's")
    with (
        pytest.raises(KeyboardInterrupt),
        MapSetWriter(tmp_path / "maps.h5", maps, fields, 12),
    ):
        hidden = f".maps.h5.partial-{os.getpid()}"
        assert sorted(os.listdir(tmp_path)) == sorted([hidden, ".others.h5.partial-99999"])
        with MapSetWriter(tmp_path / "maps.h5", maps, fields, 12, made_from="x") as other:
            other.write(0, {"density": maps.read("density")})
        assert hidden in os.listdir(tmp_path)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"attributes": {"who": {"a": 1}}}, {}, "attribute 'who' cannot be written as HDF5"),
        ({"attributes": {"much": np.zeros(10**5)}}, {}, "attribute 'much' cannot be written as HDF5"),
        ({"geometry": Geometry(box_size=1.0, cosmology={"h": object()})}, {}, "neither a number"),
        ({"simulator": "a\0b"}, {}, "attribute 'simulator' cannot be written"),
        ({}, {"n": 0}, "there are 0 maps to write"),
        ({}, {"fields": {"density": ((8, 8), None, "")}}, "cannot be written as a map set"),
    ],
)
@pytest.mark.parametrize("made_from", [None, "x"])
def test_headers_that_cannot_be(tmp_path, changes, options, message, made_from):
    options = {"fields": {"density": ((8, 8), "", "")}, "n": 12, "made_from": made_from, **options}
    with pytest.raises(MapSetError, match=message) as caught:
        MapSetWriter(tmp_path / "maps.h5", example(**changes), **options).__enter__()
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_compression_that_is_not_there(tmp_path):
    with pytest.raises(MapSetError, match='filter "zip" is unavailable'):
        example().save(tmp_path / "maps.h5", compression="zip")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_the_header_is_written_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MapSetWriter, "_header", interrupted)
    for made_from in (None, "x"):
        with pytest.raises(KeyboardInterrupt):
            MapSetWriter(tmp_path / "maps.h5", example(), {}, 12, made_from=made_from).__enter__()
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_in_the_cosmology(tmp_path):
    geometry = Geometry(box_size=16.0, cosmology={"h": np.float32(0.5), "m_nu": np.array([0.0, 0.25])})
    path = example(geometry=geometry).save(tmp_path / "maps.h5")
    assert MapSet.open(path).geometry.cosmology == {"h": 0.5, "m_nu": [0.0, 0.25]}


def test_chunks_of_large_boxes(tmp_path):
    """HDF5 refuses chunks of 4 GiB, which is one box of 1024³."""
    writer = MapSetWriter(tmp_path / "maps.h5", example(), {"density": ((1024,) * 3, "", "")}, 1)
    with writer:
        assert writer._file["fields/density"].chunks == (1, 64, 1024, 1024)


# -- resumable -----------------------------------------------------------------------------------------------

# Ends a writer at every one of its writes to the file, in the middle of it, and goes on with another.
ENDED_ANYWHERE = """
import os, signal, sys
from pathlib import Path
from higan import mapset_writer
from tests.test_mapset import example

folder, how = Path(sys.argv[1]), getattr(signal, sys.argv[2])
maps, write = example(n_sim=2, per_sim=3), mapset_writer._Sink.write

def run(path, last=None):
    count = written = 0

    def counting(self, data):
        nonlocal count
        count += 1
        if count == last:
            if how == signal.SIGKILL:
                write(self, memoryview(data).cast("B")[: len(data) // 2])
            signal.raise_signal(how)
        return write(self, data)

    mapset_writer._Sink.write = counting
    fields = {name: (field.shape, field.units, field.long_name) for name, field in maps.fields.items()}
    with mapset_writer.MapSetWriter(path, maps, fields, 6, made_from="x") as writer:
        for start in range(0, 6, 2):
            rows = [start, start + 1]
            if writer.left[rows].any():
                writer.write(start, {name: maps.read(name, rows) for name in fields})
                written += 2
    mapset_writer._Sink.write = write
    return count, written

count, _ = run(folder / "whole.h5")
whole = (folder / "whole.h5").read_bytes()
left = []
for last in range(1, count + 1):
    path = folder / f"{last}.h5"
    child = os.fork()
    if not child:
        try:
            run(path, last)
        except KeyboardInterrupt:
            sys.exit(3)
    _, status = os.waitpid(child, 0)
    assert status == (signal.SIGKILL if how == signal.SIGKILL else 3 << 8), (last, status)
    assert not path.exists(), last
    left.append(run(path)[1])
    assert path.read_bytes() == whole, last
    assert not mapset_writer.partial_path(path).exists()
print(*left)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_resumable_writer_ends_anywhere(tmp_path, how):
    run = subprocess.run(
        [sys.executable, "-c", ENDED_ANYWHERE, str(tmp_path), how],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    left = [int(word) for word in run.stdout.split()]
    assert left == sorted(left, reverse=True) and {6, 4, 2, 0} == set(left)


def _partial(path, rows=(), error=KeyboardInterrupt, maps=None, **changes):
    """A resumable writer that is ended once it has written `rows`; what it found left."""
    maps = maps or example(**changes.pop("like", {}))
    options = {"made_from": "x", **changes}
    with pytest.raises(error), MapSetWriter(path, maps, {"density": ((8, 8), "", "")}, 12, **options) as writer:
        for row in rows:
            writer.write(row, {"density": maps.read("density", [row])})
        raise error("ended")
    return writer.left


def test_a_partial_is_taken_up_by_the_same_maps_alone(tmp_path):
    path = tmp_path / "maps.h5"
    assert _partial(path, [0, 3]).all()
    assert np.flatnonzero(~_partial(path, [7])).tolist() == [0, 3]
    assert np.flatnonzero(~_partial(path)).tolist() == [0, 3, 7]
    others = [
        {"made_from": "y"},
        {"attributes": {"seed": np.uint64(2)}},
        {"geometry": Geometry(box_size=17.0)},
        {"extra": {"source_row": np.arange(12)}},
        {"simulation": np.zeros(12)},
        {"like": {"parameters": np.full((4, 1), 0.8)}},
        {"like": {"simulator_version": "2"}},
        {"like": {"parameter_info": [Parameter("SIGMA_8", "", 0.7, 1.0)]}},
    ]
    for number, changes in enumerate(others):
        path = tmp_path / f"{number}.h5"
        _partial(path, [0])
        assert _partial(path, [1], **changes).all(), changes
        assert np.flatnonzero(~_partial(path, **changes)).tolist() == [1], "replaced"


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "zeros"])
def test_a_damaged_partial_is_replaced(tmp_path, damage):
    path = tmp_path / "maps.h5"
    _partial(path, range(12))
    partial = partial_path(path)
    content = partial.read_bytes()
    damaged = {"text": b"mine", "empty": b"", "truncated": content[:9000], "zeros": bytes(len(content))}
    partial.write_bytes(damaged[damage])
    assert _partial(path).all()


def test_a_partial_does_not_outlive_an_error_that_comes_again(tmp_path):
    _partial(tmp_path / "maps.h5", [0], MapSetError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 2000, 7000, 12000])
def test_no_room_for_a_partial(tmp_path, room):
    """Found before any map is painted, as the maps have their places from the start."""
    code = """
import resource, sys
from pathlib import Path
from higan.errors import OutputError
from higan.mapset_writer import MapSetWriter
from tests.test_mapset import example
writer = MapSetWriter(Path(sys.argv[1]), example(), {"density": ((32, 32), "", "")}, 12, made_from="x")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    writer.__enter__()
except OutputError as error:
    print(error)
"""
    path = tmp_path / "maps.h5"
    command = [sys.executable, "-B", "-c", code, str(path), str(room)]
    # Its words through a pipe, as a file would have no room for them either.
    result = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Nothing was left behind" in result.stdout and not list(tmp_path.iterdir())


def test_what_lies_beyond_the_end_of_a_file_is_zero(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    buffer = bytearray(b"x" * 8)
    with _Sink(path, "r+b") as sink:
        assert sink.readinto(buffer) == 8
    assert bytes(buffer) == b"abc" + bytes(5)


def test_after_its_header_a_partial_changes_only_in_its_maps(tmp_path, monkeypatch):
    """No metadata of HDF5 do: they could not be changed in one go."""
    maps, path, places = example(), tmp_path / "maps.h5", []
    with MapSetWriter(path, maps, {"density": ((8, 8), "", "")}, 12, made_from="x") as writer:
        before = partial_path(path).read_bytes()
        writer.write(0, {"density": maps.read("density")})
    with h5py.File(path) as file:
        places = [file["fields/density"].id.get_chunk_info(row) for row in range(12)]
        assert len(file.attrs[MADE_FROM]) == 64
    old, new = (np.frombuffer(content, np.uint8).copy() for content in (before, path.read_bytes()))
    assert len(old) == len(new)
    for place in places:
        old[place.byte_offset : place.byte_offset + place.size] = 0
        new[place.byte_offset : place.byte_offset + place.size] = 0
    np.testing.assert_array_equal(old, new)
