"""Map sets that reach out of their file, or for more memory than they account for."""

import functools
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from higan import hdf5
from higan.errors import MapSetError
from higan.mapset import Geometry, MapSet
from tests.test_mapset import example

SECRET = np.arange(12 * 64, dtype="f4").reshape(12, 8, 8)


@pytest.fixture
def secret(tmp_path):
    """A file that is none of a stranger's business: HDF5, and bytes as they are."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["fields/density"] = SECRET
        file["simulation"] = np.zeros(12, "i4")
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())
    return tmp_path


def replaced(name, make):
    def change(file, folder):
        attrs = dict(file[name].attrs)
        del file[name]
        make(file, folder, name)
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            file[name].attrs.update(attrs)

    return change


def virtual(file, folder, name):
    layout = h5py.VirtualLayout((12, 8, 8), "f4")
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "fields/density", (12, 8, 8))
    file.create_virtual_dataset(name, layout)


def external(file, folder, name):
    file.create_dataset(name, (12, 8, 8), "f4", external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)])


def link(file, folder, name):
    file[name] = h5py.ExternalLink(folder / "secret.h5", name)


def unwritten(file, folder, name):
    file.create_dataset(name, (12, 2**20, 2**20), "f4", chunks=(1, 1024, 1024))


def large_chunk(file, folder, name):
    """A chunk of 4 GB, which is read whole for a map of 8²."""
    file.create_dataset(
        name, (12, 8, 8), "f4", maxshape=(None,) * 3, chunks=(2**14, 2**8, 2**8 - 1), compression="gzip"
    )


@functools.cache
def zeros(n):
    """n zeros as gzip packs them: by a thousand."""
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(min(2**24, n - i))) for i in range(0, n, 2**24)] + [packer.flush()])


def bomb(file, folder, name):
    """A chunk of 2 MB that inflates to 256 MB."""
    data = file.create_dataset(name, (12, 724, 724), "f4", chunks=(1, 724, 724), compression="gzip")
    packed = zeros(2**28)
    assert len(packed) < 724**2 * 4
    for row in range(12):
        data.id.write_direct_chunk((row, 0, 0), packed)


def bloated(file, folder, name):
    """A chunk of 16 kB that takes a MB packed, and inflates to 256 MB."""
    data = file.create_dataset(name, (12, 64, 64), "f4", chunks=(1, 64, 64), compression="gzip")
    data.id.write_direct_chunk((0, 0, 0), zeros(2**28))


def twice_packed(file, folder, name):
    pipeline = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    pipeline.set_chunk((1, 8, 8))
    for _ in range(2):
        pipeline.set_deflate(9)
    space = h5py.h5s.create_simple((12, 8, 8))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, pipeline)


OUTSIDE = {
    "virtual": (replaced("fields/density", virtual), "'fields/density' lie in other files"),
    "external storage": (replaced("fields/density", external), "'fields/density' lie in other files"),
    "external link": (replaced("fields/density", link), "'fields/density' is a link to something else"),
    "link to a group": (replaced("fields", link), "'fields' is a link to something else"),
    "link to a list": (replaced("simulation", link), "'simulation' is a link to something else"),
    "soft link": (
        replaced("fields/density", lambda file, _, name: file.__setitem__(name, h5py.SoftLink("/parameters"))),
        "'fields/density' is a link to something else",
    ),
    "reference": (
        replaced("simulation", lambda file, _, name: file.create_dataset(name, data=file.ref, dtype=h5py.ref_dtype)),
        "'simulation' is of type object, neither numbers nor text",
    ),
}
TOO_MUCH = {
    "unwritten": (replaced("fields/density", unwritten), "declares 52776558133248 bytes, but only 0 are there"),
    "unwritten list": (
        replaced("simulation", lambda file, _, name: file.create_dataset(name, (2**40,), "i4", chunks=(2**20,))),
        "'simulation' declares 4398046511104 bytes",
    ),
    "large chunk": (replaced("fields/density", large_chunk), "to be read: save it uncompressed"),
    "bomb": (replaced("fields/density", bomb), "a chunk of 'fields/density' inflates to more than it holds"),
    "bloated": (replaced("fields/density", bloated), "a chunk of 'fields/density' is larger packed than it is"),
    "twice packed": (replaced("fields/density", twice_packed), "packed by the HDF5 filters [1, 1]: save it with gzip"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_other_files_are_not_read(secret, what):
    change, message = OUTSIDE[what]
    path = example().save(secret / "maps.h5")
    with h5py.File(path, "r+") as file:
        change(file, secret)
    with pytest.raises(MapSetError) as caught:
        MapSet.open(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


READ = """
import resource, sys
from higan.errors import MapSetError
from higan.mapset import MapSet
import higan.cli.info
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    maps = MapSet.open(sys.argv[1])
    maps.read("density", [0])
except MapSetError as error:
    print(error)
# The peak of this program: getrusage's is that of the one that started it where that was more.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
"""


@pytest.mark.parametrize("what", TOO_MUCH)
def test_memory_is_in_keeping_with_the_file(tmp_path, what):
    """In a process that may take a GB, and takes a quarter of that."""
    change, message = TOO_MUCH[what]
    path = example(shape=(8, 8)).save(tmp_path / "maps.h5")
    with h5py.File(path, "r+") as file:
        if what in ("bomb", "bloated"):
            del file["fields/brightness_temp"]
        change(file, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert run.returncode == 0, run.stderr
    said, memory = run.stdout.splitlines()
    assert message in said and str(path) in said
    assert int(memory) < 2**28


def test_large_maps_are_read_by_chunks_that_are_looked_at_once(tmp_path, monkeypatch):
    """Those that could inflate; what is read is what was written."""
    maps = example(n_sim=2, per_sim=2, shape=(200, 200))
    path = maps.save(tmp_path / "maps.h5", compression="gzip")
    seen, check = [], hdf5._check_chunk
    monkeypatch.setattr(
        hdf5, "_check_chunk", lambda data, place, path: seen.append(place[0]) or check(data, place, path)
    )
    back = MapSet.open(path)
    for rows in ([1], [0, 1], [3]):
        np.testing.assert_array_equal(back.read("density", rows), maps.read("density", rows))
    part = (slice(20, 40), slice(None))
    np.testing.assert_array_equal(back.read("density", [2], place=part), maps.read("density", [2])[:, 20:40])
    assert seen == [1, 0, 3, 2]


@pytest.mark.parametrize("options", [{}, {"compression": "lzf"}, {"compression": "gzip", "fletcher32": True}])
def test_what_others_write_is_read(tmp_path, options):
    """Sparse fields, several maps a chunk, checksums, halves and doubles."""
    path = example().save(tmp_path / "maps.h5")
    values = np.zeros((12, 300, 300), "f8")
    values[:, 150, 150] = np.arange(12)
    with h5py.File(path, "r+") as file:
        del file["fields"]
        file.create_dataset("fields/density", data=values, chunks=(5, 300, 300) if options else None, **options)
        file.create_dataset("fields/half", data=values.astype("f2"), chunks=(1, 100, 100), **options)
    maps = MapSet.open(path)
    for name in ("density", "half"):
        np.testing.assert_array_equal(maps.read(name, [11, 2]), values[[11, 2]])


def test_a_damaged_chunk_is_named(tmp_path):
    """Of maps that are looked at before HDF5 reads them, and of those that are not."""
    for shape in ((8, 8), (200, 200)):
        path = example(shape=shape, geometry=Geometry(ndim=2, box_size=16.0)).save(
            tmp_path / f"{shape[0]}.h5", compression="gzip"
        )
        with h5py.File(path) as file:
            chunk = file["fields/density"].id.get_chunk_info(7)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
        path.write_bytes(content)
        maps = MapSet.open(path)
        assert maps.read("density", [6, 8]).shape == (2, *shape)
        with pytest.raises(MapSetError, match=r"field 'density' cannot be read at map 7 \(.*copy or make it") as caught:
            maps.read("density", [2, 8, 7])
        assert str(path) in str(caught.value)


def test_text_that_repeats_itself(tmp_path):
    """Every entry of /split may be the same long string, which lies in the file once."""
    path = example().save(tmp_path / "maps.h5")
    with h5py.File(path, "r+") as file:
        del file["split"]
        file.create_dataset("split", data=["train" * 50_000] * 4, dtype=h5py.string_dtype())
    with pytest.raises(MapSetError, match="the text of 'split' is too long"):
        MapSet.open(path)
