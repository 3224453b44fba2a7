import os
import threading
import time

import numpy as np
import pytest

from higan.adversarial.batches import Batches, Symmetry, prefetch
from higan.errors import MapSetError, TrainingError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.networks.config import GeneratorConfig
from higan.noise import noise_field
from higan.scaling import Linear, Log
from tests import tiny

SYMMETRIES = ("roll", "rotate", "reflect")
NETWORK = GeneratorConfig(widths=[4, 4], noise_channels=2)


def batches(maps, rows=None, symmetries=SYMMETRIES, inputs=("density",), **options):
    keep = dict(batch_size=4, seed=1, symmetries=symmetries, network=NETWORK)
    return Batches(
        maps,
        np.arange(len(maps)) if rows is None else np.asarray(rows),
        [(name, Linear()) for name in inputs],
        [("brightness_temp", Linear(shift=1.0, scale=2.0))],
        maps.parameters,
        **{**keep, **options},
    )


def numbered(n_sim=4, per_sim=3):
    """Maps that are constant: the density is the map's number, the temperature that of its simulation."""
    n = n_sim * per_sim
    simulation = np.repeat(np.arange(n_sim), per_sim)
    return MapSet(
        {
            "density": Field(np.broadcast_to(np.arange(n, dtype="f4")[:, None, None], (n, 4, 4))),
            "brightness_temp": Field(np.broadcast_to(simulation.astype("f4")[:, None, None], (n, 4, 4))),
        },
        np.arange(n_sim)[:, None] * 10.0,
        [Parameter("NUMBER", "", 0.0, 100.0)],
        simulation,
        Geometry(ndim=2, box_size=4.0),
    )


def flat(values):
    return np.concatenate([np.ravel(x) for x in (values if isinstance(values, list) else [values])])


def equal(a, b):
    assert set(a) == set(b)
    for name, values in a.items():
        np.testing.assert_array_equal(flat(values), flat(b[name]))


def test_a_pure_function_of_seed_and_step():
    maps = tiny.maps()
    make = batches(maps)
    first = {step: make(step) for step in (0, 1, 7, 8, 9, 30)}
    again = batches(maps)
    for step in (30, 8, 0, 9, 7, 1):
        equal(again(step), first[step])
    for name, values in batches(maps, seed=2)(0).items():
        assert not np.array_equal(flat(values), flat(first[0][name])), name
    for name, values in first[1].items():
        assert not np.array_equal(flat(values), flat(first[0][name])), name


def test_shapes_and_types():
    batch = batches(tiny.maps(), inputs=("density", "brightness_temp"))(0)
    shapes = {name: [x.shape for x in values] for name, values in batch.items() if name == "noise"}
    assert shapes == {"noise": [(4, 16, 16, 2), (4, 8, 8, 2)]}
    assert batch["fields"].shape == (4, 16, 16, 2) and batch["maps"].shape == (4, 16, 16, 1)
    assert batch["parameters"].shape == (4, 2) and batch["interpolation"].shape == (4,)
    arrays = [x for values in batch.values() for x in (values if isinstance(values, list) else [values])]
    assert {x.dtype for x in arrays} == {np.dtype("float32")}
    # Scaled: (T - 1) / 2.
    np.testing.assert_allclose(batch["maps"][..., 0], (batch["fields"][..., 1] - 1) / 2, rtol=1e-6)
    assert 0 <= batch["interpolation"].min() and batch["interpolation"].max() < 1


def test_scalings_are_applied():
    maps = tiny.maps()
    make = Batches(
        maps,
        np.arange(4),
        [("density", Linear(0.5, 2.0))],
        [("brightness_temp", Log(floor=1.0))],
        maps.parameters,
        batch_size=4,
        seed=1,
    )
    batch = make(0)
    rows = make._rows(0)
    np.testing.assert_allclose(batch["fields"][..., 0], (maps.read("density", rows) - 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(batch["maps"][..., 0], np.log10(maps.read("brightness_temp", rows) + 1), rtol=1e-5)
    assert "noise" not in batch


@pytest.mark.parametrize(("batch_size", "rows"), [(4, range(12)), (5, range(12)), (5, [1, 4, 9]), (7, [3, 2])])
def test_each_epoch_visits_each_row_once(batch_size, rows):
    make = batches(numbered(), rows, batch_size=batch_size)
    seen = np.concatenate([make(step)["fields"][:, 0, 0, 0] for step in range(12)])
    epochs = seen[: len(seen) // len(rows) * len(rows)].reshape(-1, len(rows))
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.sort(rows), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize(("batch_size", "group", "per_sim"), [(4, 2, 3), (3, 3, 3), (6, 2, 4), (4, 4, 9)])
def test_groups_are_of_one_simulation(batch_size, group, per_sim):
    maps = numbered(per_sim=per_sim)
    make = batches(maps, batch_size=batch_size, maps_per_simulation=group)
    drawn = np.concatenate([make(step)["fields"][:, 0, 0, 0] for step in range(60)]).astype(int)
    simulations = maps.simulation[drawn].reshape(-1, group)
    assert (simulations == simulations[:, :1]).all()
    assert len({tuple(x) for x in drawn.reshape(-1, group)}) > len(maps) // group, "other groups in other epochs"
    # An epoch has each map once at most, and all but what is left over.
    epochs = drawn[: len(drawn) // (length := 4 * (per_sim // group * group)) * length].reshape(-1, length)
    assert all(len(set(epoch)) == length for epoch in epochs)
    assert set(drawn) == set(range(len(maps)))
    equal(batches(maps, batch_size=batch_size, maps_per_simulation=group)(31), make(31))


def test_groups_larger_than_simulations():
    with pytest.raises(TrainingError, match=r"no simulation with 4 maps .* set maps_per_simulation to what"):
        batches(numbered(), maps_per_simulation=4)


def test_parameters_and_targets_belong_to_their_maps():
    make = batches(numbered())
    for step in range(6):
        batch = make(step)
        simulation = batch["fields"][:, 0, 0, 0] // 3
        np.testing.assert_array_equal(batch["parameters"][:, 0], simulation * 10)
        np.testing.assert_array_equal(batch["maps"][:, 0, 0, 0] * 2 + 1, simulation)


def test_inputs_and_outputs_move_together():
    maps = tiny.maps()
    make = batches(maps, inputs=("brightness_temp", "density"))
    moved = 0
    for step in range(4):
        batch, rows = make(step), make._rows(step * 4)
        # Linear(shift=1, scale=2) of the same field: the same cells in the same places.
        np.testing.assert_allclose(batch["maps"][..., 0] * 2 + 1, batch["fields"][..., 0], rtol=1e-5, atol=1e-5)
        original = maps.read("brightness_temp", rows)
        np.testing.assert_array_equal(np.sort(batch["fields"][..., 0].reshape(4, -1)), np.sort(original.reshape(4, -1)))
        moved += sum(not np.array_equal(a, b) for a, b in zip(batch["fields"][..., 0], original, strict=True))
    assert moved == 16


def test_without_symmetries_nothing_moves():
    maps = tiny.maps()
    make = batches(maps, symmetries=())
    np.testing.assert_array_equal(make(3)["fields"][..., 0], maps.read("density", make._rows(12)))


def test_noise_is_that_of_the_place_in_the_training():
    make = batches(tiny.maps())
    expected = noise_field((8, 8), 2, seed=1, rows=[8, 9, 10, 11], level=1)
    np.testing.assert_array_equal(make(2)["noise"][1], expected)


def test_latent_vectors_follow_upon_the_noise_fields():
    network = GeneratorConfig(widths=[4, 4], noise_channels=2, latent=5)
    fields, latent = batches(numbered(), network=NETWORK), batches(numbered(), network=network)
    found = latent(2)["noise"]
    for one, other in zip(fields(2)["noise"], found, strict=False):
        np.testing.assert_array_equal(one, other)
    assert found[2].shape == (4, 5) and len(np.unique(found[2])) == 20
    alone = batches(numbered(), network=network.model_copy(update={"noise_channels": 0}))(2)["noise"]
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0], found[2])


def test_the_sky_and_what_maps_were_divided_by():
    maps = tiny.maps(n_sim=4)
    make = batches(maps, batch_size=6, flux=np.array([1.0, 2.0, 3.0, 4.0]))
    batch = make(5)
    assert batch["sky"].shape == (12, 16, 16, 1) and batch["sky"].dtype == batch["flux"].dtype == np.float32
    equal(batch, make(5))
    assert np.abs(batch["sky"] - make(6)["sky"]).mean() > 0.5
    theta = np.round(batch["parameters"], 5)
    of = {tuple(np.round(p, 5)): i + 1.0 for i, p in enumerate(make.parameters)}
    assert [of[tuple(p)] for p in theta] == batch["flux"].tolist()


def test_noise_of_a_second_realisation_follows_upon_the_first():
    make, both = batches(tiny.maps()), batches(tiny.maps(), realisations=2)
    for level, noise in enumerate(both(2)["noise"]):
        np.testing.assert_array_equal(noise[:4], make(2)["noise"][level])
        shape = noise.shape[1:3]
        second = noise_field(shape, 2, seed=1, rows=[8, 9, 10, 11], realisations=1, level=level)
        np.testing.assert_array_equal(noise[4:], second)
    assert both(2)["fields"].shape == make(2)["fields"].shape


def orbit(shape, symmetries, draws=400):
    """All that becomes of one map."""
    rng = np.random.default_rng(0)
    values = np.arange(np.prod(shape)).reshape(shape)
    return {Symmetry.draw(rng, shape, symmetries)(values).tobytes() for _ in range(draws)}


@pytest.mark.parametrize(
    ("shape", "symmetries", "count"),
    [
        ((3, 3), (), 1),
        ((3, 3), ("roll",), 9),
        ((3, 3), ("rotate",), 4),
        ((3, 3), ("reflect",), 4),
        ((3, 3), ("rotate", "reflect"), 8),
        ((3, 3, 3), ("rotate",), 24),
        ((3, 3, 3), ("rotate", "reflect"), 48),
        ((5,), ("rotate",), 1),
        ((5,), ("reflect",), 2),
        ((2, 3), ("rotate",), 1),
        ((2, 3), ("rotate", "reflect"), 4),
        ((2, 3), ("roll",), 6),
    ],
)
def test_size_of_the_group(shape, symmetries, count):
    assert len(orbit(shape, symmetries)) == count


def test_rotations_are_proper():
    plane = np.arange(9).reshape(3, 3)
    assert orbit((3, 3), ("rotate",)) == {np.rot90(plane, k).tobytes() for k in range(4)}
    cube, group = np.arange(27).reshape(3, 3, 3), {}
    frontier = [cube]
    while frontier:
        values = frontier.pop()
        if values.tobytes() not in group:
            group[values.tobytes()] = values
            frontier += [np.rot90(values, axes=axes) for axes in ((0, 1), (1, 2))]
    assert orbit((3, 3, 3), ("rotate",)) == set(group)


def test_symmetries_are_equally_likely():
    rng = np.random.default_rng(0)
    values = np.arange(9).reshape(3, 3)
    draws = [Symmetry.draw(rng, (3, 3), ("rotate", "reflect"))(values).tobytes() for _ in range(4000)]
    _, counts = np.unique(draws, return_counts=True)
    # 500 of each expected, within 4 sigma of a binomial.
    assert np.abs(counts - 500).max() < 4 * np.sqrt(4000 / 8 * 7 / 8)


def test_only_the_rows_of_the_batch_are_read():
    class Counting:
        shape, dtype = (1000, 8, 8), np.dtype("float32")

        def __init__(self):
            self.reads = []

        def __getitem__(self, index):
            assert isinstance(index[0], slice)  # HDF5 takes thirty times as long for a list of rows
            rows = np.arange(1000)[index]
            self.reads += rows.tolist()
            return np.zeros((len(rows), 8, 8), "float32")

    density, temperature = Counting(), Counting()
    maps = MapSet(
        {"density": Field(density), "brightness_temp": Field(temperature)},
        np.zeros((10, 0)),
        [],
        np.repeat(np.arange(10), 100),
        Geometry(ndim=2, box_size=8.0),
    )
    make = batches(maps)
    batch = make(0)
    assert density.reads == temperature.reads == make.rows_of(0).tolist() and "parameters" not in batch


# -- the thread ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_prefetch_in_order(threads):
    def make(step):
        time.sleep(0.01 * (step % 3))
        return {"step": step}

    assert [batch["step"] for batch in prefetch(make, 3, 20, threads)] == list(range(3, 20))
    assert list(prefetch(make, 5, 5, threads)) == []


def test_prefetch_raises_what_the_thread_raised():
    def make(step):
        if step == 2:
            raise ValueError("map 2 is bad")
        return {"step": step}

    seen = []
    with pytest.raises(ValueError, match="map 2 is bad"):
        for batch in prefetch(make, 0, 5):
            seen.append(batch["step"])
    assert seen == [0, 1]


@pytest.mark.parametrize("threads", [1, 4])
def test_prefetch_stays_a_little_ahead_and_ends_when_left(threads):
    made, before = [], threading.active_count()
    stream = prefetch(lambda step: made.append(step) or {}, 0, 1000, threads)
    next(stream)
    until = time.monotonic() + 20
    while len(made) < threads + 3 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == threads + 3
    stream.close()
    assert threading.active_count() == before


# -- crops ---------------------------------------------------------------------------------------------------


def test_crops_lie_in_the_middle_of_their_context():
    maps = tiny.maps(shape=(16, 16))
    make = batches(maps, inputs=("density", "brightness_temp"), crop=4, context=2)
    batch = make(3)
    assert batch["maps"].shape == (4, 4, 4, 1) and batch["fields"].shape == (4, 8, 8, 2)
    assert [x.shape for x in batch["noise"]] == [(4, 8, 8, 2), (4, 4, 4, 2)]
    np.testing.assert_allclose(batch["maps"][..., 0], (batch["fields"][:, 2:-2, 2:-2, 1] - 1) / 2, rtol=1e-6)
    # An epoch takes sixteen crops of 4 x 4 of each map of 16 x 16.
    rows = np.concatenate([make._rows(step * 4) for step in range(len(maps) * 4)])
    assert np.bincount(rows).tolist() == [16] * len(maps)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8), (8, 12)])
def test_a_region_of_a_moved_map_is_found_in_the_map(shape):
    rng, values = np.random.default_rng(2), np.arange(np.prod(shape)).reshape(shape)
    for _ in range(50):
        move = Symmetry.draw(rng, shape, ("roll", "rotate", "reflect"))
        start, moved = rng.integers(0, 4, len(shape)), move(values)
        region = moved[tuple(slice(a, a + 4) for a in start)]
        found = values[np.ix_(*move.cells(shape, start, (4,) * len(shape)))].transpose(move.axes)
        np.testing.assert_array_equal(found, region)


def test_crops_of_maps_that_do_not_wrap_are_regions_of_them():
    maps = tiny.maps(shape=(8, 8))
    batch = batches(maps, inputs=("brightness_temp",), symmetries=(), crop=2, context=2)(0)
    values = maps.read("brightness_temp", np.arange(len(maps)))
    windows = np.lib.stride_tricks.sliding_window_view(values, (6, 6), axis=(1, 2)).reshape(-1, 36)
    for crop in batch["fields"][..., 0]:
        assert np.isclose(windows, crop.ravel(), rtol=1e-6).all(axis=1).sum() == 1


def test_fields_extend_beyond_the_context():
    maps = tiny.maps(shape=(16, 16))
    batch = batches(maps, inputs=("density", "brightness_temp"), crop=4, context=2, beyond=3)(3)
    assert batch["maps"].shape == (4, 4, 4, 1) and batch["fields"].shape == (4, 14, 14, 2)
    assert [x.shape for x in batch["noise"]] == [(4, 8, 8, 2), (4, 4, 4, 2)]
    np.testing.assert_allclose(batch["maps"][..., 0], (batch["fields"][:, 5:-5, 5:-5, 1] - 1) / 2, rtol=1e-6)


def test_crops_that_do_not_fit():
    with pytest.raises(TrainingError, match="crops of 12 cells with 4 around them do not fit in the maps"):
        batches(tiny.maps(shape=(16, 16)), crop=12, context=4)
    with pytest.raises(TrainingError, match=r"4 around them, and 4 more for generator\.top_hats, do not fit"):
        batches(tiny.maps(shape=(16, 16)), crop=4, context=4, beyond=4)


def test_a_file_that_is_damaged_in_the_middle_of_a_training(tmp_path):
    """Batches end with one sentence that names file, field and map."""
    path = tiny.maps(per_sim=48, shape=(64, 64)).save(tmp_path / "maps.h5")  # more than HDF5 holds in its cache
    maps = MapSet.open(path)
    scaling = [("density", Linear())]
    make = Batches(maps, np.arange(384), scaling, scaling, np.zeros((8, 0)), batch_size=4, seed=1)
    found = prefetch(make, 0, 1000)
    assert next(found)["fields"].shape == (4, 64, 64, 1)
    os.truncate(path, path.stat().st_size // 8)
    with pytest.raises(MapSetError, match=r"field 'density' cannot be read at map \d+ \(.*copy or make it") as caught:
        list(found)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
