"""Filters that are sharp in wavenumber, and what is above a barrier in any of them."""

import numpy as np
import pytest
from keras import ops

from higan.adversarial import loop
from higan.adversarial.batches import Batches
from higan.emulator import Emulator
from higan.errors import MapSetError, RecipeError
from higan.excursion import CUT, SharpCuts, square, wavenumbers, widest
from higan.networks.config import ExcursionSet, GeneratorConfig
from higan.networks.layers import sharp_cuts
from higan.recipe import validate_recipe
from higan.scaling import Linear
from tests import backends, tiny

RADII = [0.9, 1.5, 3.0]
SET = {"smallest": 0.9, "step": 1.6, "radii": 3}
THETA = {"BIAS": 2.0, "T_MEAN": 15.0}


def field(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def mirrored(x):
    """The periodic map that `x` is a part of when it is continued by reflection."""
    return np.pad(x, [(0, max(n - 2, 0)) for n in x.shape], mode="reflect")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("waves", [1, 3, 6])
def test_a_wave_is_cut_off_at_its_wavenumber(ndim, waves):
    """At k R = 2.418 along any axis; at a larger radius nothing is left, at a smaller one all, times 1 + R / 3."""
    n = 16
    for axis in range(ndim):
        wave = np.cos(2 * np.pi * waves * np.indices((n,) * ndim)[axis] / n + 0.3).astype("float32")
        at = CUT / (2 * np.pi * waves / n)
        below, above = SharpCuts(wave + 1.0, [0.99 * at, 1.01 * at])
        np.testing.assert_allclose(below, (wave + 1.0) * (1 + 0.33 * at), atol=1e-5)
        # No wave is longer than the map, and a radius that leaves none is above no barrier.
        np.testing.assert_allclose(above, 1 + 1.01 / 3 * at if waves > 1 else -np.inf, atol=1e-5)


@pytest.mark.parametrize("shape", [(9,), (12, 10), (8, 6, 5), (6, 1)])
def test_maps_that_do_not_wrap_are_mirrored(shape):
    x = field(*shape)
    cuts, whole = SharpCuts(x, RADII, periodic=False), SharpCuts(mirrored(x), RADII)
    for part, cut in zip(cuts, whole, strict=True):
        np.testing.assert_allclose(part, cut[tuple(slice(n) for n in shape)], atol=2e-5)
    np.testing.assert_allclose(cuts.scatter(), whole.scatter(), atol=1e-4)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(64,), (40, 33), (24, 1, 33)])
def test_lines_without_modes_are_left_out(shape, periodic, monkeypatch):
    """And planes are smoothed some at a time; what comes out is what all modes give at once."""
    import scipy.fft

    monkeypatch.setattr("higan.excursion.SLAB", 100)
    x, radii = field(*shape), [1.0, 2.0, 6.0, 0.99 * widest(shape, periodic)]
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    squares, _ = wavenumbers(shape, periodic)
    for radius, smooth in zip(radii, SharpCuts(x, radii, periodic), strict=True):
        modes = scipy.fft.rfftn(x) if periodic else scipy.fft.dctn(x, 1, axes=axes)
        modes[sum(squares) > square(radius)] = 0
        whole = scipy.fft.irfftn(modes, shape) if periodic else scipy.fft.idctn(modes, 1, axes=axes)
        assert 0.01 < smooth.std() < 1 + radius
        np.testing.assert_allclose(smooth, (1 + radius / 3) * whole, atol=2e-5)


@pytest.mark.parametrize("shape", [(16,), (9, 14), (8, 6, 5)])
def test_scatter_is_the_logarithm_of_the_variance(shape):
    x = field(*shape) + 0.5
    cuts = SharpCuts(x, RADII)
    np.testing.assert_allclose(cuts.scatter(), np.log([x.var(), *(cut.var() for cut in cuts)]), atol=1e-4)
    assert np.isfinite(SharpCuts(np.ones(shape), RADII).scatter()).all()


@pytest.mark.parametrize("shape", [(16,), (8, 12), (6, 9, 8)])
def test_the_same_as_tensors(shape):
    x = field(2, *shape, 1)
    channels, scatter = map(backends.host, sharp_cuts(x, RADII))
    for i, each in enumerate(x[..., 0]):
        cuts = SharpCuts(each, RADII)
        np.testing.assert_allclose(channels[i], np.stack([each, *cuts], axis=-1), atol=1e-5)
        np.testing.assert_allclose(scatter[i], cuts.scatter(), atol=1e-4)


@pytest.mark.parametrize("periodic", [True, False])
def test_radii_that_leave_nothing(periodic):
    """Are above no barrier: a small map is painted with the radii that fit into it, whatever the others would say."""
    x, most = field(6, 8), widest((6, 8), periodic)
    cuts = [*SharpCuts(x, [0.999 * most, 1.001 * most], periodic)]
    assert cuts[0].std() > 0 and np.all(cuts[1] == -np.inf)
    if periodic:
        channels = backends.host(sharp_cuts(x[None, ..., None], [0.999 * most, 1.001 * most])[0])
        np.testing.assert_allclose(channels[0], np.stack([x, *cuts], axis=-1), atol=1e-5)
    radii = ExcursionSet(smallest=1.0, step=2.0, radii=3).cells  # of which the largest is beyond 16 cells / 2.6
    assert radii == [1.0, 2.0, 4.0]
    wide = tiny.painter(excursion_set={"smallest": 1.0, "step": 2.0, "radii": 3})
    wide.model.get_layer("barrier_slopes").bias.assign([0.0, 0.0, 0.0, 1.0])
    assert np.isfinite(wide.above_barrier(x[None, ..., None], np.array([[2.0, 15.0]]), periodic)).all()


@pytest.fixture(scope="module")
def emulator():
    painter = tiny.painter(widths=[4, 6], excursion_set=SET, top_hat_widths=[6, 5], stochastic_barrier=True)
    return Emulator(painter)


def test_what_is_above_the_barrier(emulator):
    """The highest of all smoothings less the height of each, which grows with what the map itself scatters."""
    painter, x = emulator.painter, field(1, 12, 8, 1)
    heights, slopes = np.array([0.5, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, -1.0, 2.0])
    kept = [
        (layer, layer.get_weights()) for layer in map(painter.model.get_layer, ("barrier_heights", "barrier_slopes"))
    ]
    for (layer, weights), bias in zip(kept, (heights - 1, slopes), strict=True):
        layer.set_weights([0 * weights[0], bias])
    found = painter.above_barrier(x, np.array([[2.0, 15.0]], "float32"))
    for layer, weights in kept:
        layer.set_weights(weights)
    scaled = painter.inputs[0].forward(x[0, ..., 0])
    cuts = SharpCuts(scaled, painter.card.network.excursion_set.cells)
    above = np.stack([scaled, *cuts], axis=-1) - (heights + slopes * cuts.scatter())
    np.testing.assert_allclose(found[0, ..., 0], above.max(axis=-1), atol=1e-5)


def test_painted_with_tensors_as_by_the_host(emulator):
    """All of it is in :meth:`Emulator.paint`, which gradients pass."""
    from higan.adversarial.step import load_backend

    x, theta = 0.3 * field(2, 16, 12), np.array([[1.5, 12.0], [2.5, 18.0]], "float32")
    whole = emulator.sample(x, {"BIAS": theta[:, 0], "T_MEAN": theta[:, 1]}, seed=1)
    noise = emulator.noise((16, 12), seed=1, rows=[0, 1])
    painted = backends.host(emulator.paint(x[..., None], theta, noise))[..., 0]
    assert whole.std() > 0.1
    np.testing.assert_allclose(painted, whole, atol=1e-4)

    x, radius = 0.3 * field(1, 64, 8, 1), emulator.card.receptive_radius
    noise = emulator.noise((64, 8), seed=1, rows=[0])
    slope = backends.host(
        load_backend().input_gradient(lambda x: emulator.paint(x, theta[:1], noise)[:, 32, 4], ops.array(x))
    )
    assert np.isfinite(slope).all() and radius < 32 and np.abs(slope[:, : 32 - radius]).max() > 0


def test_a_barrier_depends_on_the_map_not_on_its_neighbours(emulator):
    """Maps of a batch have barriers of their own, with parameters and without."""
    x = 0.3 * field(3, 16, 16)
    together = emulator.sample(x, THETA, seed=1)
    for i in range(3):
        np.testing.assert_allclose(emulator.sample(x[i], THETA, seed=1, rows=[i]), together[i], atol=1e-4)
    fixed = Emulator(tiny.painter(parameters=[], excursion_set=SET))
    assert np.isfinite(fixed.sample(x, seed=1)).all()


def test_what_trainings_see(emulator):
    """Whole maps, moved, and crops of them: with what the filters leave of the whole map there."""
    maps, config = tiny.maps(shape=(16, 16)), GeneratorConfig(**tiny.NETWORK, excursion_set=SET)
    scaling, radii = Linear(shift=0.1, scale=0.5), config.excursion_set.cells
    options = dict(batch_size=4, seed=1, network=config)
    args = maps, np.arange(len(maps)), [("density", scaling)], [("density", scaling)], np.zeros((8, 0))
    batch = Batches(*args, symmetries=("roll", "rotate", "reflect"), **options)(0)
    for seen, scatter in zip(batch["fields"], batch["scatter"], strict=True):
        cuts = SharpCuts(seen[..., 0], radii)
        np.testing.assert_allclose(seen, np.stack([seen[..., 0], *cuts], axis=-1), atol=2e-3)  # kept in half precision
        np.testing.assert_allclose(scatter, cuts.scatter(), atol=1e-4)
    batches = Batches(*args, crop=4, context=2, **options)
    batch, rows = batches(0), batches.rows_of(0)
    assert batch["fields"].shape == (4, 8, 8, 4) and batch["scatter"].shape == (4, 4)
    for seen, row in zip(batch["fields"], rows, strict=True):
        x = scaling.forward(maps.read("density", [row])[0])
        whole = np.stack([x, *SharpCuts(x, radii)], axis=-1)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (8, 8), axis=(0, 1)).reshape(-1, 4, 8, 8)
        near = np.abs(np.moveaxis(windows, 1, -1) - seen).max(axis=(1, 2, 3))
        assert (near < 2e-3).sum() == 1


def test_few_smoothed_maps_are_kept(monkeypatch):
    """As many as memory is set aside for; a batch is the same."""
    maps, config = tiny.maps(shape=(16, 16)), GeneratorConfig(**tiny.NETWORK, excursion_set=SET)
    args = maps, np.arange(len(maps)), [("density", Linear())], [("density", Linear())], np.zeros((8, 0))
    make = [Batches(*args, batch_size=4, seed=1, network=config) for _ in range(2)]
    expected = make[0](3)["fields"]
    monkeypatch.setattr("higan.adversarial.batches.MOST_KEPT", 2 * 3 * 16 * 16 * 2)  # half precision
    np.testing.assert_array_equal(make[1](3)["fields"], expected)
    assert len(make[0]._smoothed) == 4 and len(make[1]._smoothed) == 2


@pytest.mark.parametrize(
    ("generator", "data", "message"),
    [
        ({"centred": True}, {}, "an excursion_set is of maps without edges or latent vector"),
        ({"latent": 4}, {}, "an excursion_set is of maps without edges or latent vector"),
        ({}, {"inputs": ["density", "brightness_temp"]}, "excursion_set smooths one field"),
        ({}, {"inputs": []}, "excursion_set smooths one field"),
        ({"excursion_set": {**SET, "radii": 64}}, {}, "the largest of these radii is 6.51e[+]12 cells"),
        ({"excursion_set": {**SET, "step": 1.0}}, {}, "excursion_set.step: input should be greater than 1"),
        (
            {"excursion_set": {**SET, "radius": 3}},
            {},
            "unknown key .generator.excursion_set.radius.; did you mean .radii.",
        ),
    ],
)
def test_refusals(generator, data, message):
    recipe = tiny.recipe(generator={"excursion_set": SET}, data={}).model_dump(mode="json", exclude_unset=True)
    recipe["generator"] |= generator
    recipe["data"] |= data
    with pytest.raises(RecipeError, match=message):
        validate_recipe(recipe)


def test_what_trainings_refuse(tmp_path):
    """Radii that leave nothing of the maps; and top-hats for a network that began with an excursion set."""
    with pytest.raises(RecipeError, match=r"smooths over 33\.8 cells, which leaves of maps of 16 x 16 nothing"):
        loop.train(tiny.recipe(generator={"excursion_set": {**SET, "step": 6.13}}), tmp_path / "run", maps=tiny.maps())
    initial = tiny.save(tiny.card(excursion_set=SET), tmp_path / "tiny")
    more = tiny.recipe(
        generator={**tiny.NETWORK, "excursion_set": SET, "top_hats": [1.0]}, training={"initial": str(initial)}
    )
    with pytest.raises(RecipeError, match="was trained with other network"):
        loop.train(more, tmp_path / "run", maps=tiny.maps())
    assert not (tmp_path / "run").exists()


def test_no_sky(emulator):
    with pytest.raises(MapSetError, match="smooths whole boxes or slabs"):
        emulator.sample_sky(field(12 * 16**2), THETA, seed=1, cell_angle=220.0)
