import itertools

import keras
import numpy as np
import pytest

from higan.adversarial.step import load_backend
from higan.networks.config import GeneratorConfig
from higan.networks.generator import build_generator
from higan.networks.layers import After, Interpolation, Position, Smoothed, TopHats, embed, spill, summed
from higan.painting.painter import receptive_radius
from higan.scaling import Asinh, Linear, Log, YeoJohnson
from tests import backends, tiny


def build(ndim=2, n_inputs=1, n_outputs=1, n_parameters=2, dtype="float32", beyond=0, around=(), **network):
    config = GeneratorConfig(**{**tiny.NETWORK, **network})
    options = dict(ndim=ndim, n_inputs=n_inputs, n_outputs=n_outputs, n_parameters=n_parameters, seed=1, dtype=dtype)
    return config, tiny.woken(
        build_generator(config, **options, beyond=beyond, around=around, scalings=[Linear(lower=-5.0)] * n_outputs)
    )


def arguments(config, shape, n=2, n_inputs=1, n_parameters=2, seed=0):
    """Random fields, parameters and noise."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=(n, *shape, n_inputs)).astype("float32")] if n_inputs else []
    if n_parameters:
        found.append(rng.uniform(-1, 1, size=(n, n_parameters)).astype("float32"))
    if config.noise_channels:
        for level in range(config.levels):
            coarse = [cells >> level for cells in shape]
            found.append(rng.normal(size=(n, *coarse, config.noise_channels)).astype("float32"))
    if config.latent:
        found.append(rng.normal(size=(n, config.random_numbers)).astype("float32"))
    return found


def call(model, values):
    return backends.host(model(values))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_shapes(ndim):
    config, model = build(ndim, n_inputs=2, n_outputs=3)
    # Sizes that no training has seen, and axes of different lengths.
    for shape in ([8] * ndim, [4, 6, 10][:ndim]):
        out = call(model, arguments(config, shape, n_inputs=2))
        assert out.shape == (2, *shape, 3) and out.dtype == np.float32
        assert np.isfinite(out).all() and 0.05 < out.std() < 5


def test_bfloat16_weights_and_output_are_float32():
    config, model = build(dtype="mixed_bfloat16")
    assert {str(variable.dtype) for variable in model.variables} == {"float32"}
    values = arguments(config, (8, 8))
    out, exact = call(model, values), call(build()[1], values)
    assert out.dtype == np.float32
    # Eight bits of mantissa through some ten layers; not equal, or the policy would do nothing.
    assert 0 < np.abs(out - exact).max() < 0.1 * exact.std()


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "network",
    [
        {},
        {"interpolated": True, "tracing": True, "gated": True, "cellwise": True, "spilled": True, "diffuse": True},
        {"top_hats": [1.0, 3.5, 16.0]},
        {"top_hats": [1.0, 3.5], "stochastic_barrier": True, "smoothed_noise": 2},
    ],
)
def test_rolling_by_the_stride_rolls_the_output(ndim, network):
    config, model = build(ndim, widths=[4, 6, 8], **network)
    shape = [8, 12, 4][:ndim]
    values = arguments(config, shape)
    shift, axes = [4, -8, 4][:ndim], tuple(range(1, ndim + 1))
    rolled = [np.roll(values[0], shift, axes), values[1]]
    rolled += [np.roll(noise, [n >> level for n in shift], axes) for level, noise in enumerate(values[2:])]
    # The sums are the same; only their order may differ at the edges.
    np.testing.assert_allclose(call(model, rolled), np.roll(call(model, values), shift, axes), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("edge", [False, True])
def test_interpolation(ndim, edge):
    """Linear between the centres of cells: scipy's map_coordinates, and a line stays a line."""
    from scipy.ndimage import map_coordinates

    x = np.random.default_rng(0).normal(size=(2, *[6, 4, 5][:ndim], 3)).astype("float32")
    shape = [2 * n for n in x.shape[1:-1]]
    layer = Interpolation(edge)
    out = backends.host(layer(x))
    assert out.shape == layer.compute_output_shape(x.shape) == (2, *shape, 3)
    centres = (np.indices(shape) + 0.5) / 2 - 0.5
    mode = "nearest" if edge else "grid-wrap"
    for i, channel in np.ndindex(2, 3):
        expected = map_coordinates(x[i, ..., channel], centres, order=1, mode=mode)
        np.testing.assert_allclose(out[i, ..., channel], expected, atol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_top_hats_are_means_within_spheres(ndim):
    """Cell by cell where maps are not halved for it; a rim of one cell counts by how much of it lies within."""
    x = np.random.default_rng(0).normal(size=(2, *[12, 8, 10][:ndim], 2)).astype("float32")
    radii = [0.5, 2.0, 3.7]
    found = backends.host(TopHats(radii)(x))
    assert found.shape == (*x.shape[:-1], 6)
    for i, radius in enumerate(radii):
        total, mean = 0.0, np.zeros_like(x)
        for offset in np.ndindex(*(9,) * ndim):
            shift = np.array(offset) - 4
            weight = np.clip(radius + 0.5 - np.sqrt(np.sum(shift**2)), 0, 1)
            total, mean = total + weight, mean + weight * np.roll(x, shift, tuple(range(1, ndim + 1)))
        for field in range(2):
            expected = (1 + radius / 3) * mean[..., field] / total
            np.testing.assert_allclose(found[..., 3 * field + i], expected, atol=1e-5)


@pytest.mark.parametrize("radius", [4.0, 4.5, 6.0, 8.0, 9.0, 12.0, 16.0])
def test_a_top_hat_lowers_a_wave_by_its_window(radius):
    """3 (sin y - y cos y) / y³ at y = kR, also where it is of a halved map; with R a quarter larger at most."""
    k = 2 * np.pi * 2 / 64
    wave = np.broadcast_to(np.cos(k * (np.arange(64) + 0.5)), (1, 64, 64, 64))[..., None].astype("float32")
    found = backends.host(TopHats([radius])(wave))[..., 0] / (1 + radius / 3)
    least, most = (3 * (np.sin(y) - y * np.cos(y)) / y**3 for y in (1.25 * k * radius, k * radius))
    amplitude = 2 * (found * wave[..., 0]).mean()
    assert least < amplitude < most
    assert np.abs(found - amplitude * wave[..., 0]).max() < 0.02
    np.testing.assert_allclose(found.mean(), 0, atol=1e-6)


def test_top_hats_go_around_maps_that_are_smaller():
    radii = [1.0, 4.0, 16.0]
    found = backends.host(TopHats(radii)(np.ones((1, 4, 8, 1), "float32")))
    np.testing.assert_allclose(found, np.broadcast_to(1 + np.array(radii) / 3, found.shape), rtol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("radii", [[1.0, 3.5], [1.0, 6.0], [2.0, 4.1, 7.0, 16.0]])
def test_top_hats_of_a_crop_are_those_of_the_map(ndim, radii):
    beyond = GeneratorConfig(**tiny.NETWORK | {"widths": [4] * 4}, top_hats=radii).beyond
    assert beyond == {3.5: 4, 6.0: 8, 16.0: 20}[radii[-1]]
    x = np.random.default_rng(0).normal(size=(2, *[48, 56, 48][:ndim], 2)).astype("float32")
    inner = (slice(None), *(slice(beyond, -beyond),) * ndim)
    whole, crop = backends.host(TopHats(radii)(x))[inner], backends.host(TopHats(radii, beyond)(x))
    np.testing.assert_allclose(crop, whole, atol=1e-5)


def test_a_crop_is_painted_as_the_map_is():
    """Within the receptive radius of its context, with fields that extend beyond it for its top-hats."""
    network = {"widths": [4, 6], "bottom_blocks": 1, "top_hats": [2.0, 6.0]}
    config, whole = build(2, **network)
    beyond, context = config.beyond, receptive_radius(config.model_copy(update={"top_hats": []}))
    context += context % 2
    _, cropped = build(2, beyond=beyond, **network)
    values = arguments(config, (80, 80), n=1)
    start, stop = 20, 20 + 8 + 2 * context
    fields = values[0][:, start - beyond : stop + beyond, start - beyond : stop + beyond]
    noise = [x[:, start >> i : stop >> i, start >> i : stop >> i] for i, x in enumerate(values[2:])]
    out = call(cropped, [fields, values[1], *noise])[:, context:-context, context:-context]
    assert out.shape == (1, 8, 8, 1)
    place = slice(start + context, stop - context)
    np.testing.assert_allclose(out, call(whole, values)[:, place, place], atol=2e-6)


@pytest.mark.parametrize("n_inputs", [1, 0])
@pytest.mark.parametrize(
    "network",
    [
        {"widths": [4, 6, 8]},
        {"widths": [4, 6], "latent": 3},
        {"widths": [4, 6, 8], "interpolated": True, "noise_channels": 0, "top_hats": [1.0, 16.0]},
        {"widths": [4, 6, 8], "interpolated": True, "cellwise": True, "smoothed_noise": 1, "spilled": True},
        {"widths": [4, 6], "top_hats": [1.0, 6.0], "exclusion": [3], "tracing": True, "stochastic_barrier": True},
        {"widths": [4]},
    ],
)
def test_a_tile_is_painted_as_the_map_is(network, n_inputs):
    """From what lies a margin around it along an axis, and all there is along the other, which wraps around."""
    if not n_inputs and not network.get("noise_channels", 2):
        pytest.skip("nothing to paint from")
    config, whole = build(n_inputs=n_inputs, **network)
    around, side = (config.tile_margin(bool(n_inputs)), 0), 16
    _, tiled = build(n_inputs=n_inputs, around=around, **network)
    region = side + 2 * around[0]
    values = arguments(config, (region + 24, 32), n_inputs=n_inputs)
    seen, first_of_noise = list(values), n_inputs + 1
    if n_inputs:
        seen[0] = values[0][:, :region]
    for level, (less, _) in enumerate(config.spared(around) if config.noise_channels else ()):
        at = first_of_noise + level
        seen[at] = values[at][:, less : (region >> level) - less]
    found, expected = call(tiled, seen), call(whole, values)[:, around[0] : around[0] + side]
    assert found.shape == expected.shape and expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"beyond": 4}, {"centred": True}])
def test_tiles_are_of_maps_without_a_middle_and_of_all_around(options):
    with pytest.raises(ValueError, match="leave around out"):
        build(around=(8, 8), **options)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an order is TensorFlow's alone")
def test_what_comes_after_waits_for_the_other():
    import tensorflow as tf

    x, other = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([x, other], After()([x, keras.ops.exp(other)]) + 1.0)
    graph = tf.function(lambda *inputs: model(inputs)).get_concrete_function(tf.ones((2, 3)), tf.ones((2, 3))).graph
    waited_for = [(op.type, before.type) for op in graph.get_operations() for before in op.control_inputs]
    assert ("Identity", "Exp") in waited_for
    np.testing.assert_array_equal(model([np.full((2, 3), 4.0), np.zeros((2, 3))]), 5.0)


def test_top_hats_start_without_effect():
    options = dict(ndim=2, n_inputs=1, n_outputs=1, n_parameters=2, seed=1)
    config = GeneratorConfig(**tiny.NETWORK, top_hats=[1.0, 3.0], stochastic_barrier=True)
    values = arguments(config, (8, 8))
    plain = build_generator(config.model_copy(update={"top_hats": [], "stochastic_barrier": False}), **options)
    np.testing.assert_array_equal(call(build_generator(config, **options), values), call(plain, values))


def test_noise_of_every_level_moves_the_barrier():
    """Through the network of top-hats alone, where nothing comes up through the U-Net."""
    config, model = build(2, widths=[4, 4, 4], top_hats=[1.0, 3.0], stochastic_barrier=True)
    values = arguments(config, (16, 16))
    for layer in ("head", "local"):  # nothing but what that network tells the head
        model.get_layer(layer).weights[0].assign(np.zeros(model.get_layer(layer).weights[0].shape, "float32"))
    before = call(model, values)
    for level in range(3):
        changed = [x.copy() for x in values]
        changed[2 + level] += 1.0
        assert np.abs(call(model, changed) - before).mean() > 0.02 * before.std()


def test_tracing_adds_slopes_times_the_fields_of_the_same_cell():
    """With the weights of the slopes at zero nothing is added; with a bias alone, that multiple of each field."""
    config, model = build(2, n_inputs=2, n_outputs=2, tracing=True)
    values = arguments(config, (8, 8), n_inputs=2)
    kernel, bias = model.get_layer("head").weights
    kernel.assign(kernel * np.repeat([1.0, 0.0], [2, 4]))  # two outputs, then their slopes with two fields
    without = call(model, values)
    bias.assign([0.0, 0.0, 1.0, 2.0, 0.0, -3.0])
    fields = values[0]
    expected = np.stack([fields[..., 0] + 2.0 * fields[..., 1], -3.0 * fields[..., 1]], axis=-1)
    np.testing.assert_allclose(call(model, values) - without, expected, atol=1e-5)


def test_a_gate_keeps_noise_out_where_the_features_say_so():
    """Shut, for all places, nothing of the noise comes in; half open, what comes in without a gate."""
    config, model = build(2, gated=True)
    values = arguments(config, (8, 8))
    silent = [*values[:2], *(0.0 * noise for noise in values[2:])]
    gates = [layer for layer in model.layers if layer.name.endswith("noise_gate")]
    assert len(gates) == config.bottom_blocks + config.levels - 1
    for layer in gates:
        layer.weights[0].assign(0.0 * layer.weights[0])
    _, plain = build(2)
    weights = {variable.path: variable for variable in model.variables}
    for variable in plain.variables:
        variable.assign(weights[variable.path])
    np.testing.assert_allclose(call(model, values), call(plain, values), atol=1e-5)
    for layer in gates:
        layer.weights[1].assign(-50.0 * np.ones(layer.weights[1].shape, "float32"))
    # The noise of a block has a bias, which the gate shuts out, too.
    np.testing.assert_allclose(call(model, values), call(model, silent), atol=1e-6)


def test_what_is_drawn_cell_by_cell():
    """A function of the noise of a cell, which no convolution spreads."""
    config, model = build(2, cellwise=True)
    values = arguments(config, (8, 8))
    model.get_layer("up0_noise").weights[0].assign(np.zeros((1, 1, 2, 4), "float32"))  # no other way in at this level
    changed = [x.copy() for x in values]
    changed[2][:, 3, 5] += 1.0
    change = np.abs(call(model, changed) - call(model, values))[..., 0]
    assert (change[:, 3, 5] > 1e-3).all()
    change[:, 3, 5] = 0.0
    assert change.max() < 1e-6


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_cells_share_what_is_drawn(ndim):
    """What is above the lower bound, with the cells that they have a face in common with, around the map."""
    shape, scalings = [6, 4, 8][:ndim], [Log(lower=-1.0, floor=1.0, scale=0.5), Linear(lower=-4.0, shift=1.0)]
    config = GeneratorConfig(**{**tiny.NETWORK, "spilled": True, "cellwise": True})
    model = build_generator(config, ndim=ndim, n_inputs=1, n_outputs=2, n_parameters=0, scalings=scalings)
    told = [5.0, 4.0, 0.5, -0.5, -0.5, 0.5, 0.2, -0.1]  # of both channels each: middle, more, aside, further
    model.get_layer("sharing").bias.assign(told)
    values = arguments(config, shape, n_parameters=0)
    before = keras.Model(model.inputs, model.get_layer("head_drawn").output)
    drawn, found = (call(each, values).astype(float) for each in (before, model))
    mark, axes = values[1][..., 0].astype(float), range(1, ndim + 1)
    for channel, scaling in enumerate(scalings):
        y, (middle, more, aside, further) = drawn[..., channel], told[channel::2]
        amount = scaling.restore(y) - (scaling.lower or 0.0)

        def share(axis, step, y=y, told=(middle - 6, more + 0.5, aside + 1.5, further)):
            """What the neighbour gets over what the cell keeps."""
            middle, more, aside, further = told
            return np.exp(middle + more * y + (aside + further * y) * np.roll(mark, -step, axis))

        kept = amount / (1 + sum(share(axis, step) for axis in axes for step in (-1, 1)))
        expected = kept + sum(np.roll(share(axis, step) * kept, step, axis) for axis in axes for step in (-1, 1))
        result = scaling.restore(found[..., channel]) - (scaling.lower or 0.0)
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)
        assert not np.allclose(expected, amount, rtol=0.1)
        np.testing.assert_allclose(expected.sum(), amount.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    "scaling",
    [
        Linear(lower=0.0),
        Log(lower=0.0, scale=1.3, shift=4.0),
        Log(lower=0.0, floor=1e2, shift=2.0, upper=1e14),
        Log(lower=-1.0, floor=1.0, scale=0.8, shift=-0.5),
        Log(lower=0.0, scale=0.8, shift=-30.0),
        Log(lower=0.0, scale=3.3, shift=6.0),
        Asinh(lower=0.0),
        Asinh(lower=0.0, softening=1e-3, scale=8.9, shift=5.0),
        YeoJohnson(lower=0.0, power=-0.5),
        YeoJohnson(lower=0.0, power=0.5),
    ],
)
def test_shares_are_finite_and_gradients_pass_out_of_bounds(scaling):
    rng = np.random.default_rng(1)
    marks, sharing = rng.normal(size=(2, 16, 1)), 2 * rng.normal(size=(2, 16, 4)) + [4, 0, 0, 0]
    marks, sharing = (keras.ops.convert_to_tensor(x.astype("float32")) for x in (marks, sharing))
    for level in (-60.0, -9.0, -3.0, 0.0, 8.0, 60.0):
        x = keras.ops.convert_to_tensor((level + rng.normal(size=(2, 16, 1))).astype("float32"))
        out = backends.host(spill(x, sharing, marks, [scaling]))
        gradient = load_backend().input_gradient(lambda y: keras.ops.sum(spill(y, sharing, marks, [scaling])), x)
        gradient = backends.host(gradient)
        assert np.isfinite(out).all() and np.isfinite(gradient).all()
        if abs(level) == 60:
            np.testing.assert_allclose(gradient, 1, rtol=1e-5)
        elif level == 0:
            assert (gradient > 0).mean() > 0.9


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_exclusion_sees_how_far_below_the_brightest_around_a_cell_is(ndim):
    shape = [10, 12, 8][:ndim]
    config, model = build(ndim, exclusion=[1, 3])
    joined = keras.Model(model.inputs, model.get_layer("exclusion_join").output)
    values = arguments(config, shape)
    seen, drawn = (call(each, values) for each in (joined, keras.Model(model.inputs, model.get_layer("head").output)))
    width, axes = config.widths[0], tuple(range(1, ndim + 1))
    np.testing.assert_allclose(seen[..., width], drawn[..., 0], rtol=1e-5)
    for channel, half in enumerate((1, 3), width + 1):
        steps = itertools.product(range(-half, half + 1), repeat=ndim)
        most = np.max([np.roll(drawn[..., 0], step, axes) for step in steps], axis=0)
        np.testing.assert_allclose(seen[..., channel], drawn[..., 0] - most, atol=1e-5)
    change = np.abs(call(model, values)[..., 0] - drawn[..., 0])
    assert np.median(change) > 0.1
    # Without effect as it begins.
    options = dict(ndim=ndim, n_inputs=1, n_outputs=1, n_parameters=2, seed=1)
    plain, new = (build_generator(each, **options) for each in (config.model_copy(update={"exclusion": []}), config))
    np.testing.assert_array_equal(call(plain, values), call(new, values))


@pytest.mark.parametrize("scaling", [Log(lower=0.0, scale=1.3, shift=4.0), Linear(lower=-1.0)])
def test_a_diffuse_part_is_added_to_what_is_drawn(scaling):
    """In amounts above the lower bound: no cell is fainter, whatever the noise. It starts in the middle."""
    config = GeneratorConfig(**{**tiny.NETWORK, "diffuse": True, "tracing": True, "cellwise": True})
    model = build_generator(config, ndim=2, n_inputs=1, n_outputs=1, n_parameters=2, scalings=[scaling])
    values = arguments(config, (8, 8))
    drawn = call(keras.Model(model.inputs, model.get_layer("head_drawn").output), values).astype(float)
    layer = model.get_layer("diffuse")
    given = keras.Model(model.inputs, layer.output)

    def gas(fields, parameters, *noise):
        return call(given, [fields, parameters, *noise]).astype(float)

    assert not gas(*values).any()
    layer.bias.assign([1.5])
    layer.kernel.assign(np.random.default_rng(2).normal(size=layer.kernel.shape))
    told = gas(*values)
    assert told.std() > 0.1
    # Of the same cell alone, and of the parameters.
    fields, parameters, *noise = values
    np.testing.assert_allclose(gas(np.roll(fields, 3, axis=1), parameters, *noise), np.roll(told, 3, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(gas(fields, parameters, *(x + 1 for x in noise)), told)
    assert np.abs(gas(fields, parameters + 1, *noise) - told).min() > 1e-4
    lower = float(np.maximum(scaling.forward(scaling.lower), -10)) if scaling.name == "linear" else -10.0
    inside = np.maximum(drawn, lower)
    amounts = sum(scaling.restore(y) - scaling.lower for y in (inside, np.maximum(told, lower)))
    expected = scaling.forward(scaling.lower + amounts)
    found = call(model, values)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found > drawn - 1e-4).all() and (found - drawn).max() > 0.2


@pytest.mark.parametrize("level", [-60.0, -3.0, 0.0, 8.0])
@pytest.mark.parametrize("scaling", [Linear(lower=0.0, shift=1.6), Log(lower=0.0, shift=4.0), Asinh(lower=0.0)])
def test_what_is_added_learns_wherever_it_is(scaling, level):
    x = keras.ops.convert_to_tensor(np.linspace(-60, 5, 16, dtype="float32").reshape(1, 16, 1))
    other = keras.ops.convert_to_tensor(np.full((1, 16, 1), level, "float32"))
    gradient = backends.host(load_backend().input_gradient(lambda y: keras.ops.sum(summed(x, y, [scaling])), other))
    assert np.isfinite(gradient).all() and (gradient >= 0).all() and gradient.max() > 1e-6


@pytest.mark.parametrize("option", ["spilled", "diffuse"])
def test_amounts_take_a_scaling_of_each_output(option):
    config = GeneratorConfig(**{**tiny.NETWORK, option: True})
    with pytest.raises(ValueError, match="1 scalings of 2 outputs"):
        build_generator(config, ndim=2, n_inputs=1, n_outputs=2, n_parameters=0, scalings=[Linear()])


def test_noise_of_every_level_is_drawn_by():
    """With nothing coming up through the network, cells still differ with the noise of the level they lie in."""
    config, model = build(2, cellwise=True, widths=[4, 4, 4])
    values = arguments(config, (16, 16))
    for level in range(2):
        model.get_layer(f"narrow{level}").weights[0].assign(np.zeros((1, 1, 4, 4), "float32"))
    before = call(model, values)
    for level, noise in enumerate(values[2:]):
        changed = [x.copy() for x in values]
        changed[2 + level] = noise + 1.0
        assert np.abs(call(model, changed) - before).mean() > 0.02 * before.std()


@pytest.mark.parametrize("n_inputs", [0, 1])
def test_smoothed_noise_reaches_farther_than_fields(n_inputs):
    """A cell of the coarsest noise changed: nothing beyond h, something close to it."""
    network = {"widths": [4, 4], "bottom_blocks": 1, "cellwise": True}
    if n_inputs:
        network |= {"top_hats": [1.0], "stochastic_barrier": True}
    config, model = build(1, n_inputs=n_inputs, n_parameters=0, smoothed_noise=3, **network)
    plain = config.model_copy(update={"smoothed_noise": 0})
    h, without = (receptive_radius(each, fields=bool(n_inputs)) for each in (config, plain))
    values = arguments(config, [96], n=1, n_inputs=n_inputs, n_parameters=0)
    before = call(model, values)
    values[-1][0, 24] += 3.0  # cells 48 and 49
    change = np.flatnonzero(np.abs(call(model, values) - before)[0, :, 0] > 1e-7)
    assert h - 3 * config.stride <= max(49 - change.min(), change.max() - 48) <= h and h > without


@pytest.mark.parametrize("shape", [(64,), (128, 128), (32, 32, 32)])
def test_smoothed_noise(shape):
    """Of unit variance, less of it at small scales each time, and the more at large ones; periodic."""
    noise = np.random.default_rng(1).normal(size=(400 if len(shape) == 1 else 4, *shape, 1)).astype("float32")
    axes = tuple(range(1, len(shape) + 1))
    out = keras.ops.convert_to_numpy(Smoothed(2)(noise))
    np.testing.assert_array_equal(out[..., :1], noise)
    np.testing.assert_allclose(out.std(axis=(0, *axes)), 1, atol=0.06)
    power = (np.abs(np.fft.fft(out, axis=1)) ** 2).mean(axis=(0, *axes[1:]))
    assert (np.diff(power[1]) > 0.5 * power[1, 0]).all() and (power[shape[0] // 2, 1:] < 1e-6 * power[1, 1:]).all()
    rolled = keras.ops.convert_to_numpy(Smoothed(2)(np.roll(noise, 5, 1)))
    np.testing.assert_allclose(rolled, np.roll(out, 5, 1), atol=1e-5)


def test_rolling_by_less_than_the_stride_does_not():
    config, model = build()
    values = arguments(config, (8, 8))
    rolled = [np.roll(values[0], 1, 1), values[1], np.roll(values[2], 1, 1), values[3]]
    assert np.abs(call(model, rolled) - np.roll(call(model, values), 1, 1)).max() > 1e-2


@pytest.mark.parametrize(
    "network",
    [
        {"widths": [4], "bottom_blocks": 1},
        {},
        {"widths": [4, 4, 4], "bottom_blocks": 2},
        {"widths": [4] * 4},
        {"widths": [4] * 4, "interpolated": True, "tracing": True, "gated": True, "cellwise": True},
        {"widths": [4, 4], "bottom_blocks": 1, "top_hats": [2.0, 8.0]},
        {"widths": [4, 4, 4], "bottom_blocks": 1, "top_hats": [15.5]},
        {"widths": [4, 4, 4], "bottom_blocks": 1, "top_hats": [2.0], "stochastic_barrier": True},
        {"widths": [4, 4], "spilled": True},
        {"widths": [4, 4], "spilled": True, "exclusion": [1, 8]},
    ],
)
def test_receptive_radius(network):
    """One cell changed, at every place within a coarse cell: nothing beyond h, something close to it."""
    config, model = build(1, n_parameters=0, **network)
    h, s = receptive_radius(config), config.stride
    size = -(-(2 * h + 2 * s + 2) // s) * s
    values = arguments(config, [size], n=s, n_parameters=0)
    values = [np.repeat(x[:1], s, axis=0) for x in values]
    before = call(model, values)
    places = size // 2 // s * s + np.arange(s)
    values[0][np.arange(s), places, 0] += 3.0
    change = np.abs(call(model, values) - before)[..., 0]
    reached = [_farthest(change[i], place) for i, place in enumerate(places)]
    assert max(reached) <= h
    assert max(reached) >= h - 2 * s


@pytest.mark.parametrize("network", [{}, {"spilled": True, "exclusion": [2]}])
def test_receptive_radius_of_the_noise(network):
    config, model = build(1, widths=[4, 4, 4], n_parameters=0, **network)
    h = receptive_radius(config)
    values = arguments(config, [96], n=1, n_parameters=0)
    before = call(model, values)
    for level in range(config.levels):
        changed = [x.copy() for x in values]
        cell = (48 >> level) + 1
        changed[1 + level][0, cell] += 3.0
        change = np.abs(call(model, changed) - before)[0, :, 0]
        covered = range(cell << level, (cell + 1) << level)
        assert change.max() > 1e-3
        assert min(_farthest(change, place) for place in covered) <= h


@pytest.mark.parametrize("network", [{"widths": [4], "bottom_blocks": 1}, {}, {"widths": [4] * 4}])
def test_without_fields_a_map_is_drawn_upwards(network):
    """From the coarsest noise, which reaches as far as the receptive radius says; that of every level matters."""
    config, model = build(1, n_inputs=0, n_parameters=0, **network)
    assert not [layer.name for layer in model.layers if layer.name.startswith("down")]
    h, s = receptive_radius(config, fields=False), config.stride
    assert h <= receptive_radius(config)
    cells = -(-(2 * h + 2 * s + 2) // s) * s
    values = arguments(config, [cells], n=1, n_inputs=0, n_parameters=0)
    before = call(model, values)
    for level in range(config.levels):
        changed = [x.copy() for x in values]
        cell = (cells // 2 // s * s) >> level
        changed[level][0, cell] += 3.0
        change = np.abs(call(model, changed) - before)[0, :, 0]
        reached = max(_farthest(change, place) for place in range(cell << level, (cell + 1) << level))
        assert 0 <= reached <= h
    assert reached >= h - s


def test_receptive_radius_in_two_dimensions():
    config, model = build(2)
    h = receptive_radius(config)
    values = arguments(config, (40, 40), n=1)
    before = call(model, values)
    values[0][0, 20, 20] += 3.0
    change = np.abs(call(model, values) - before)[0, ..., 0]
    reached = [_farthest(change.max(axis=axis), 20) for axis in (0, 1)]
    assert max(reached) <= h and min(reached) >= h - 2 * config.stride


def _farthest(change, place):
    """Distance of the farthest cell that changed by more than a rounding."""
    return int(np.abs(np.flatnonzero(change > 1e-6) - place).max())


def test_a_place_does_not_depend_on_the_extent_of_the_map():
    """A uniform input gives a uniform output, the same in maps of any size: no statistics over space."""
    config, model = build()
    found = []
    for shape in ((4, 4), (16, 16), (8, 32)):
        values = [np.full_like(x[:1], 0.7) for x in arguments(config, shape)]
        out = call(model, values)
        np.testing.assert_allclose(out, out[0, 0, 0, 0], atol=1e-6)
        found.append(out[0, 0, 0, 0])
    np.testing.assert_allclose(found, found[0], atol=1e-6)


def test_maps_of_a_batch_do_not_meet():
    config, model = build()
    values = arguments(config, (8, 8), n=3)
    np.testing.assert_allclose(call(model, [x[1:2] for x in values]), call(model, values)[1:2], atol=1e-6)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_everything_that_goes_in_matters(which):
    """Fields, parameters and the noise of each level change the output."""
    config, model = build()
    values = arguments(config, (8, 8))
    other = list(values)
    other[which] = arguments(config, (8, 8), seed=1)[which]
    assert np.abs(call(model, other) - call(model, values)).std() > 1e-3


FULL = {
    "tracing": True,
    "gated": True,
    "cellwise": True,
    "spilled": True,
    "exclusion": [2],
    "diffuse": True,
    "top_hats": [1.0, 2.5],
    "stochastic_barrier": True,
    "smoothed_noise": 2,
}


@pytest.mark.parametrize(
    ("network", "n_inputs", "n_parameters"),
    [({}, 1, 2), (FULL, 2, 2), ({}, 0, 2), ({}, 1, 0), ({"latent": 3}, 1, 2), ({"latent": 3, **FULL}, 1, 0)],
)
def test_noise_of_several_realisations(network, n_inputs, n_parameters):
    config, model = build(n_inputs=n_inputs, n_parameters=n_parameters, **network)
    values = arguments(config, (8, 8), n=6, n_inputs=n_inputs, n_parameters=n_parameters)
    conditions = (n_inputs > 0) + (n_parameters > 0)
    # Two maps, three realisations of each: those of the second upon those of the first.
    few = [value[:2] for value in values[:conditions]] + values[conditions:]
    each = [np.concatenate([value[:2]] * 3) for value in values[:conditions]] + values[conditions:]
    np.testing.assert_allclose(call(model, few), call(model, each), atol=1e-5)


def test_without_noise_there_are_no_noise_inputs():
    config, model = build(noise_channels=0, n_parameters=0)
    assert [x.name for x in model.inputs] == ["fields"]
    values = arguments(config, (8, 8), n_parameters=0)
    np.testing.assert_array_equal(call(model, values), call(model, values))


@pytest.mark.parametrize("n_parameters", [0, 2])
def test_a_latent_vector_changes_all_of_a_map(n_parameters):
    config, model = build(n_parameters=n_parameters, latent=3)
    assert [x.name for x in model.inputs][-1] == "latent"
    values = arguments(config, (16, 16), n_parameters=n_parameters)
    before = call(model, values)
    values[-1] = values[-1] + 1
    assert (np.abs(call(model, values) - before) > 1e-6).mean() > 0.99


@pytest.mark.parametrize("n_inputs", [0, 1])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_centred_generator_knows_where_the_middle_is(ndim, n_inputs):
    """Uniform input gives a map that looks alike from its middle along each axis and differs from there outwards."""
    shape = [16, 16, 8][:ndim]
    config, model = build(ndim, centred=True, n_inputs=n_inputs, n_parameters=0)
    values = [np.full_like(x, 0.3) for x in arguments(config, shape, n_inputs=n_inputs, n_parameters=0)]
    out = call(model, values)
    assert out.shape == (2, *shape, 1) and out.std() > 1e-3
    config, plain = build(ndim, n_inputs=n_inputs, n_parameters=0)
    assert call(plain, values).std() < 1e-6


@pytest.mark.parametrize("centred", [False, True])
def test_opposite_sides_of_a_centred_map_do_not_meet(centred):
    """What changes at one edge reaches the other only where maps are periodic."""
    config, model = build(n_inputs=0, n_parameters=0, centred=centred)
    values = arguments(config, (16, 16), n_inputs=0, n_parameters=0)
    before = call(model, values)
    values[0] = values[0].copy()
    values[0][:, :, -1] += 1  # the finest noise, which reaches a few cells
    change = np.abs(call(model, values) - before).max(axis=(0, 1, 3))
    assert change[-1] > 1e-3 and change[8] == 0
    assert (change[0] == 0) == centred


def test_positions():
    """Coordinates from the middle, between cells where their number is even, and Gaussians of the radius."""
    layer = Position()
    for n in (7, 8):
        found = backends.host(layer(np.zeros((2, n, n + 1, 3), "float32")))
        assert found.shape == (2, n, n + 1, 9) == layer.compute_output_shape((2, n, n + 1, 3))
        y, x = np.arange(n) - (n - 1) / 2, np.arange(n + 1) - n / 2
        np.testing.assert_allclose(found[1, :, 2, 3], y / 8, atol=1e-6)
        np.testing.assert_allclose(found[0, 3, :, 4], x / 8, atol=1e-6)
        squared = y[:, None] ** 2 + x**2
        for i, width in enumerate((2, 4, 8, 16)):
            np.testing.assert_allclose(found[0, ..., 5 + i], np.exp(-squared / 2 / width**2), rtol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_what_flows_past_a_block_may_drown_its_noise(normalised):
    """With weights a thousand times larger before the last block its noise counts only if features are normalised."""
    config, model = build(1, n_parameters=0, normalised=normalised)
    (kernel,) = [v for v in model.variables if v.path == "merge0/kernel"]
    values = arguments(config, [16], n=1, n_parameters=0)
    other = [*values[:1], values[1] + 1, *values[2:]]
    before = np.abs(call(model, other) - call(model, values)).std()
    kernel.assign(1000 * backends.host(kernel))
    after = np.abs(call(model, other) - call(model, values)).std()
    assert before > 1e-3
    assert (after > 0.5 * before) if normalised else (after < 0.02 * before)


@pytest.mark.parametrize("n_inputs", [0, 1])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_isotropic_exchanges_and_reflects_axes_as_its_fields_are(ndim, n_inputs):
    shape = [8, 12, 16][:ndim]
    config, model = build(ndim, n_inputs, isotropic=True, spilled=True, exclusion=[1, 2])
    values = arguments(config, shape, n_inputs=n_inputs)

    def turn(x):
        return np.flip(np.swapaxes(x, 1, ndim), axis=1) if x.ndim > 2 else x

    out = call(model, values)
    np.testing.assert_allclose(call(model, [turn(x) for x in values]), turn(out), atol=1e-5)
    assert out.shape == (2, *shape, 1) and 0.05 < out.std() < 5
    # Any network would pass, if it were blind to its neighbours; one without the option does not.
    if ndim > 1:
        other = build(ndim, n_inputs)[1]
        assert np.abs(call(other, [turn(x) for x in values]) - turn(call(other, values))).max() > 0.1
        assert model.count_params() < other.count_params() * 0.7
    with pytest.raises(ValueError, match="leave isotropic or centred out"):
        GeneratorConfig(isotropic=True, centred=True)


def test_there_is_no_random_layer_and_no_state():
    _, model = build()
    assert not model.non_trainable_variables
    assert not [layer for layer in model.layers if "Normalization" in type(layer).__name__ or "Drop" in layer.name]


def test_the_response_to_parameters_has_no_cusp_in_the_middle():
    """A new embedding of parameters bends no more in the middle of their ranges, the fiducial model, than elsewhere."""
    inputs = keras.Input((4,))
    embedding = keras.Model(inputs, embed(inputs, 64, 0, "generator", "float32"))
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(500, 4))
    steps *= 0.1 / np.linalg.norm(steps, axis=1, keepdims=True)

    def bend(points):
        left, middle, right = (backends.host(embedding(points + sign * steps)) for sign in (-1, 0, 1))
        return np.linalg.norm(left + right - 2 * middle, axis=1).mean()

    assert bend(np.zeros((500, 4))) < 1.5 * bend(rng.uniform(-0.5, 0.5, (500, 4)))
