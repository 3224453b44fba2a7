import pickle
import sys
import threading

import dask
import dask.array as da
import numpy as np
import pytest

from higan.emulator import Emulator
from higan.errors import MapSetError, MissingDependencyError, ParameterError
from higan.painting import lazy, painter
from higan.painting.regions import Tile
from tests import tiny

THETA = {"BIAS": 2.0, "T_MEAN": 15.0}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def emulators():
    excursion = tiny.painter(widths=[4, 6], excursion_set={"smallest": 0.9, "step": 1.6, "radii": 3})
    return {
        2: Emulator(tiny.painter(widths=[4, 6, 8])),
        3: Emulator(tiny.painter(ndim=3, widths=[4, 6])),
        "excursion": Emulator(excursion),
    }


def density(*shape):
    return 0.3 * np.random.default_rng(0).normal(size=shape).astype("float32")


def scaled(maps):
    return (np.asarray(maps) - 15.0) / 8.0


class Counted:
    """An array that keeps what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.read = []

    def __getitem__(self, index):
        values = self.array[index]
        if values.size:
            self.read.append(index)
        return values


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("ndim", "shape", "chunks", "tile"),
    [
        (2, (48, 48), 16, 16),
        (2, (50, 70), (17, 70), 24),
        (2, (64, 16), -1, 20),
        (2, (3, 5), 2, 4),
        (3, (20, 16, 24), (8, 16, 5), 10),
        ("excursion", (40, 22), (9, 22), 10),
    ],
)
def test_lazy_is_the_whole(emulators, ndim, shape, chunks, tile, periodic):
    fields, emulator = density(*shape), emulators[ndim]
    options = dict(seed=5, periodic=periodic)
    whole = emulator.sample(fields, THETA, **options)
    painted = emulator.sample(da.from_array(fields, chunks=chunks), THETA, tile=tile, **options)
    assert isinstance(painted, da.Array) and painted.shape == shape and painted.dtype == np.float32
    stride = emulator.card.stride
    assert painted.chunksize == tuple(min(-(-tile // stride) * stride, n) for n in shape)
    found = painted.compute()
    assert found.dtype == np.float32 and scaled(whole).std() > 0.1
    np.testing.assert_allclose(scaled(found), scaled(whole), atol=TOLERANCE)


def test_regions_wrap_and_reflect_as_numpy_pads():
    """Even where the margin is several times the map."""
    fields = density(1, 7, 8)
    for mode, period in (("wrap", (7, 8)), ("reflect", None)):
        tile = Tile(first=(-20, 0), last=(27, 13), place=(), margins=(), shape=(7, 8), period=period)
        expected = np.pad(fields, ((0, 0), (20, 20), (0, 5)), mode=mode)
        np.testing.assert_array_equal(tile.join(fields[:, *place] for place in tile.places()), expected)


def test_many_maps_realisations_and_rows(emulators):
    fields = density(5, 16, 16)
    theta = {"BIAS": np.linspace(1.2, 2.8, 5), "T_MEAN": 15.0}
    options = dict(seed=1, realisations=2, rows=[7, 3, 1, 0, 9])
    whole = emulators[2].sample(fields, theta, **options)
    for given in ({"batch_size": 2}, {}, {"tile": 8}):
        painted = emulators[2].sample(da.from_array(fields, chunks=(1, 16, 16)), theta, **options, **given)
        assert painted.shape == (5, 2, 16, 16)
        np.testing.assert_allclose(scaled(painted.compute()), scaled(whole), atol=TOLERANCE)
        np.testing.assert_allclose(scaled(painted[3, 1].compute()), scaled(whole[3, 1]), atol=TOLERANCE)


def test_maps_of_an_excursion_set_have_barriers_of_their_own(emulators):
    fields = density(3, 16, 12)
    theta = {"BIAS": np.linspace(1.2, 2.8, 3), "T_MEAN": 15.0}
    whole = emulators["excursion"].sample(fields, theta, seed=1, realisations=2)
    painted = emulators["excursion"].sample(da.from_array(fields, chunks=5), theta, seed=1, realisations=2, tile=8)
    np.testing.assert_allclose(scaled(painted.compute()), scaled(whole), atol=TOLERANCE)


def test_several_fields_and_outputs():
    emulator = Emulator(tiny.painter(inputs=["density", "halo_mass"], outputs=["brightness_temp", "HI"], widths=[4, 6]))
    fields = {"density": density(24, 16), "halo_mass": density(24, 16) + 1}
    whole = emulator.sample(fields, THETA, seed=1)
    mixed = {"density": da.from_array(fields["density"], chunks=9), "halo_mass": fields["halo_mass"]}
    painted = emulator.sample(mixed, THETA, seed=1, tile=8)
    assert painted.shape == (24, 16, 2)
    np.testing.assert_allclose(painted.compute(), whole, atol=1e-3)


def test_one_block_reads_and_paints_no_other(emulators, monkeypatch):
    emulator, source = emulators[2], Counted(density(128, 128))
    margin = 28
    painted = emulator.sample(da.from_array(source, chunks=128), THETA, seed=1, tile=32)
    regions, paint_tile = [], lazy.paint_tile
    monkeypatch.setattr(lazy, "paint_tile", lambda *a, **b: regions.append(a[1].shape) or paint_tile(*a, **b))
    assert painted.numblocks == (4, 4) and not source.read
    painted.blocks[1, 2].compute()
    assert regions == [(1, 32 + 2 * margin, 32 + 2 * margin, 1)]
    assert source.read == [(slice(32 - margin, 64 + margin, None), slice(64 - margin, 96 + margin, None))]
    # At the corner the region is wrapped: four pieces of the map.
    source.read.clear()
    painted[:3, :3].compute()
    assert len(regions) == 2 and len(source.read) == 4
    assert sum(np.prod([s.stop - s.start for s in index]) for index in source.read) == (32 + 2 * margin) ** 2


def test_threads_paint_one_tile_at_a_time(emulators, monkeypatch):
    at_once, most, paint_tile = [], [], lazy.paint_tile

    def counting(*arguments, **options):
        at_once.append(1)
        most.append(len(at_once))
        try:
            return paint_tile(*arguments, **options)
        finally:
            at_once.pop()

    monkeypatch.setattr(lazy, "paint_tile", counting)
    painted = emulators[2].sample(da.from_array(density(64, 64), chunks=32), THETA, seed=1, tile=16)
    threads = set()
    with dask.config.set(scheduler="threads", num_workers=4):
        painted.map_blocks(lambda block: threads.add(threading.get_ident()) or block).compute()
    assert len(most) == 16 and set(most) == {1} and len(threads) > 1


def test_processes(emulators):
    """A painter goes along with its weights; the processes have no checkpoint to read."""
    fields = density(24, 24, 24)
    whole = emulators[3].sample(fields, THETA, seed=5)
    painted = emulators[3].sample(da.from_array(fields, chunks=12), THETA, seed=5, tile=12)
    found = painted.compute(scheduler="processes", num_workers=1)
    np.testing.assert_allclose(scaled(found), scaled(whole), atol=TOLERANCE)


def test_a_painter_arrives_once_a_process(emulators, monkeypatch):
    monkeypatch.setattr(painter, "_painters", {})
    travelled = pickle.dumps(emulators[2].painter)
    first, second = pickle.loads(travelled), pickle.loads(travelled)
    assert first is second and first is not emulators[2].painter
    # To rounding: the graph of one that has painted other shapes is another.
    painted = [e.sample(density(16, 16), THETA, seed=1) for e in (Emulator(first), emulators[2])]
    np.testing.assert_allclose(painted[0], painted[1], rtol=1e-6)
    other = pickle.loads(pickle.dumps(tiny.painter(widths=[4, 6, 8], seed=2)))
    assert other is not first and np.abs(other.model.weights[0] - first.model.weights[0]).max() > 0


def test_names_tell_what_is_painted(emulators):
    fields = da.from_array(density(32, 32), chunks=16)
    name = emulators[2].sample(fields, THETA, seed=1).name
    assert emulators[2].sample(fields, THETA, seed=1).name == name
    assert emulators[2].sample(fields, THETA, seed=2).name != name
    assert Emulator(tiny.painter(widths=[4, 6, 8], seed=2)).sample(fields, THETA, seed=1).name != name


def test_refusals(emulators):
    fields = density(3, 32, 32)
    fields[1, 30, 30] = np.nan
    array = da.from_array(fields, chunks=(1, 16, 16))
    painted = emulators[2].sample(array, THETA, seed=1, batch_size=2)
    with pytest.raises(MapSetError, match=r"map 1 \(counted from 0\) holds NaN or infinite values"):
        painted.compute()
    sample = emulators[2].sample
    with pytest.raises(MapSetError, match=r"has shape \(3, 32, 32, 1\); tiny takes one map of 2"):
        sample(array[..., None], THETA, seed=1)
    with pytest.raises(MapSetError, match=r"has shape \(nan,"):
        sample(array[array[:, 0, 0] > 0], THETA, seed=1)
    with pytest.raises(ParameterError, match="BIAS = 9 is outside the range"):
        sample(array, {**THETA, "BIAS": 9.0}, seed=1)
    with pytest.raises(ParameterError, match="tile must be a whole number of at least 1"):
        sample(array, THETA, seed=1, tile=0)


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(MissingDependencyError, match=r"needs dask.*pip install 'higan\[dask\]'"):
        lazy.import_dask()
