import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest
from astropy import units

import higan
from higan.emulator import Emulator, ExtrapolationWarning, UnlikeTrainingWarning
from higan.errors import CheckpointError, MapSetError, ParameterError
from higan.matter import Cosmology, draw_density
from tests import backends, tiny

THETA = {"BIAS": 2.0, "T_MEAN": 15.0}


@pytest.fixture(scope="module")
def density(map_set):
    return map_set.read("density", np.arange(5))


def scaled(maps):
    """Brightness temperatures as the network sees them."""
    return (maps - 15.0) / 8.0


def test_shapes(emulator, density):
    whole = emulator.sample(density, THETA, seed=1)
    assert whole.shape == (5, 16, 16) and whole.dtype == np.float32 and whole.min() >= 0
    draws = emulator.sample(density, THETA, seed=1, realisations=3)
    assert draws.shape == (5, 3, 16, 16)
    single = emulator.sample(density[0], THETA, seed=1)
    assert single.shape == (16, 16)
    assert emulator.sample(density[0], THETA, seed=1, realisations=2).shape == (2, 16, 16)
    assert emulator.sample(density[:1], THETA, seed=1, realisations=1).shape == (1, 1, 16, 16)
    # The same maps, whichever way they were asked for.
    np.testing.assert_allclose(draws[:, 0], whole, atol=1e-3)
    np.testing.assert_allclose(single, whole[0], atol=1e-3)
    assert emulator.card.name == "tiny" and repr(emulator) == "Emulator('tiny': density -> brightness_temp)"


def test_input_is_not_changed(emulator, density):
    before, theta = density.copy(), dict(THETA)
    emulator.sample(density, theta, seed=1)
    np.testing.assert_array_equal(density, before)
    assert theta == THETA


def test_realisations_rows_and_seeds_differ(emulator, density):
    same = np.repeat(density[:1], 3, axis=0)
    maps = emulator.sample(same, THETA, seed=1, realisations=2).reshape(6, -1)
    other = emulator.sample(same[:1], THETA, seed=2).reshape(1, -1)
    scatter = np.concatenate([maps, other])
    for i in range(7):
        for j in range(i):
            assert np.abs(scatter[i] - scatter[j]).max() > 0.1
    # The same again for the same seed, bit for bit.
    np.testing.assert_array_equal(emulator.sample(same, THETA, seed=1, realisations=2).reshape(6, -1), maps)


def test_batches_and_tiles_agree(emulator, density):
    whole = emulator.sample(density, THETA, seed=1, realisations=2)
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"batch_size": 4}, {"tile": 6}, {"tile": 8, "batch_size": 7}):
        found = emulator.sample(density, THETA, seed=1, realisations=2, **options)
        np.testing.assert_allclose(scaled(found), scaled(whole), atol=1e-4)


def test_a_shard_with_global_rows(emulator, density):
    whole = emulator.sample(density, THETA, seed=1, realisations=2)
    part = emulator.sample(density[[3, 1]], THETA, seed=1, realisations=2, rows=[3, 1])
    np.testing.assert_allclose(scaled(part), scaled(whole[[3, 1]]), atol=1e-4)


def test_parameters_belong_to_their_maps(emulator, density):
    bias = np.linspace(1, 3, 5)
    whole = emulator.sample(density, {"T_MEAN": 12.0, "BIAS": bias}, seed=1, realisations=2)
    for i in (0, 4):
        alone = emulator.sample(density[i : i + 1], {"BIAS": bias[i], "T_MEAN": 12}, seed=1, realisations=2, rows=[i])
        np.testing.assert_allclose(scaled(alone[0]), scaled(whole[i]), atol=1e-4)
    swapped = emulator.sample(density, {"T_MEAN": 12.0, "BIAS": bias[::-1]}, seed=1, realisations=2)
    assert np.abs(swapped[0] - whole[0]).max() > 0.01
    np.testing.assert_allclose(scaled(swapped[2]), scaled(whole[2]), atol=1e-4)


def test_fields_by_name(emulator, density):
    np.testing.assert_array_equal(
        emulator.sample({"density": density.tolist()}, THETA, seed=1), emulator.sample(density, THETA, seed=1)
    )
    two = Emulator(tiny.painter(inputs=["density", "velocity"], outputs=["brightness_temp", "xHI"]))
    fields = {"velocity": density * 2, "density": density}
    maps = two.sample(fields, THETA, seed=1, realisations=2)
    assert maps.shape == (5, 2, 16, 16, 2)
    turned = two.sample({"velocity": density, "density": density * 2}, THETA, seed=1, realisations=2)
    assert np.abs(turned - maps).max() > 0.01
    with pytest.raises(MapSetError, match=r"takes several fields \(density, velocity\): give a mapping"):
        two.sample(density, THETA, seed=1)
    with pytest.raises(MapSetError, match="fields differ in shape"):
        two.sample({"velocity": density[:2], "density": density}, THETA, seed=1)


def test_a_map_set(emulator, map_set):
    """As its fields and parameters, map by map; what is not of the card's kind is refused."""
    density = map_set.read("density")
    theta = dict(zip(map_set.parameter_names, map_set.parameters[map_set.simulation].T, strict=True))
    expected = emulator.sample(density, theta, seed=1)
    np.testing.assert_array_equal(emulator.sample(map_set, seed=1), expected)
    with pytest.raises(ParameterError, match="brings its own parameters"):
        emulator.sample(map_set, theta, seed=1)
    with pytest.raises(MapSetError, match="cell size"):
        emulator.sample(map_set.with_geometry(dataclasses.replace(map_set.geometry, box_size=99.0)), seed=1)
    open_sides = map_set.with_geometry(dataclasses.replace(map_set.geometry, periodic=False))
    np.testing.assert_array_equal(
        emulator.sample(open_sides, seed=1), emulator.sample(density, theta, seed=1, periodic=False)
    )


def _nan(density):
    density = density.copy()
    density[3, 1, 1] = np.nan
    return density


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: _nan(d), r"map 3 \(counted from 0\) holds NaN"),
        (lambda d: d[0, 0], r"has shape \(16,\); tiny takes one map of 2 dimensions"),
        (lambda d: d[None], r"has shape \(1, 5, 16, 16\)"),
        (lambda d: d[:0], r"has shape \(0, 16, 16\)"),
        (lambda d: [["x"]], "'density' is not an array of numbers"),
        (lambda d: {"delta": d}, "field 'density' is missing: received delta"),
        (lambda d: {}, "field 'density' is missing: received none"),
    ],
)
def test_bad_fields(emulator, density, change, message):
    with pytest.raises(MapSetError, match=message):
        emulator.sample(change(density), THETA, seed=1)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (None, "parameter BIAS is missing: tiny takes BIAS, T_MEAN."),
        (np.array([2.0, 20.0]), "parameters should be a mapping of names to numbers, received a ndarray"),
        ({"BIAS": 2.0}, "parameter T_MEAN is missing"),
        ({**THETA, "BAIS": 2.0}, "tiny has no parameter 'BAIS'; did you mean 'BIAS'?"),
        ({**THETA, "SIGMA_8": 0.8}, "tiny has no parameter 'SIGMA_8'; it takes BIAS, T_MEAN"),
        ({**THETA, "BIAS": 3.5}, "parameter BIAS = 3.5 is outside the range [1, 3] that tiny was trained on."),
        ({**THETA, "BIAS": 0.99}, "parameter BIAS = 0.99 is outside"),
        ({**THETA, "BIAS": [2, 2, 2, 4, 2]}, "parameter BIAS of map 3 (counted from 0) = 4 is outside"),
        ({**THETA, "BIAS": np.nan}, "parameter BIAS is nan, not a finite number"),
        (
            {**THETA, "BIAS": np.ma.array([2.0] * 5, mask=[0, 1, 0, 0, 0])},
            "parameter BIAS of map 1 (counted from 0)",
        ),
        (
            {**THETA, "T_MEAN": np.full(5, 15.0) * units.Jy},
            "parameter T_MEAN is in 'Jy', but the checkpoint",
        ),
        ({**THETA, "BIAS": [1.0, 2.0]}, "parameter BIAS should be a number or 5 of them (one a map), received [1.0, 2"),
        ({**THETA, "BIAS": np.full((5, 5), 2.0)}, "parameter BIAS should be a number or 5 of them"),
        ({**THETA, "BIAS": "two"}, "parameter BIAS should be a number or 5 of them (one a map), received 'two'"),
    ],
)
def test_bad_parameters(emulator, density, theta, message):
    with pytest.raises(ParameterError) as caught:
        emulator.sample(density, theta, seed=1)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_ends_of_the_range_are_inside(emulator, density):
    """Also where they were read back from float32."""
    for theta in ({"BIAS": 3.0, "T_MEAN": 10.0}, {"BIAS": np.float32(1.0), "T_MEAN": 20.0 + 1e-7}):
        emulator.sample(density, theta, seed=1)


def test_extrapolation_must_be_asked_for(emulator, density):
    theta = {"BIAS": 3.5, "T_MEAN": 15.0}
    with pytest.warns(ExtrapolationWarning) as caught:
        maps = emulator.sample(density, theta, seed=1, allow_extrapolation=True)
    assert [str(item.message) for item in caught] == [
        "parameter BIAS = 3.5 is outside the range [1, 3] that tiny was trained on: what is painted there is "
        "extrapolated."
    ]
    assert caught[0].filename == __file__
    assert np.isfinite(maps).all()
    assert np.abs(maps - emulator.sample(density, {**theta, "BIAS": 3.0}, seed=1)).max() > 0.01
    with pytest.raises(ParameterError):
        emulator.sample(density, {**theta, "BIAS": np.inf}, seed=1, allow_extrapolation=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExtrapolationWarning)
        emulator.sample(density, {**theta, "BIAS": 3.0}, seed=1, allow_extrapolation=True)


def test_maps_of_another_convention(emulator):
    """One plus the overdensity, or a density in physical units, is told; large and small structure is not."""
    rng = np.random.default_rng(1)
    density = 0.3 * tiny.smooth(rng, 4, (32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikeTrainingWarning)
        for like in (density, 3 * density, 0.3 * density, density + 0.2, np.ones((4, 4), np.float32)):
            emulator.sample(like, THETA, seed=1)
    for unlike, said in ((1 + density, "it has 3.3 and 1"), (1e10 * (1 + density), "it has 3.3e+10 and 1e+10")):
        with pytest.warns(UnlikeTrainingWarning, match="density is unlike the maps that tiny was trained on") as caught:
            emulator.sample(unlike, THETA, seed=1)
        assert said in str(caught[0].message) and caught[0].filename == __file__


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "one", None, np.nan])
def test_bad_seeds(emulator, density, seed):
    with pytest.raises(ParameterError, match="seed must be a whole number from 0 to"):
        emulator.sample(density, THETA, seed=seed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"realisations": 0}, ParameterError, "realisations must be a whole number of at least 1, received 0"),
        ({"realisations": 1.5}, ParameterError, r"realisations must be a whole number of at least 1, received 1\.5"),
        ({"batch_size": -1}, ParameterError, "batch_size must be a whole number of at least 1, received -1"),
        ({"batch_size": 0}, ParameterError, "batch_size must be a whole number of at least 1, received 0"),
        ({"tile": -8}, ParameterError, "tile must be a whole number of at least 1, received -8"),
        ({"tile": 0}, ParameterError, "tile must be a whole number of at least 1, received 0"),
        ({"rows": [0, 1]}, MapSetError, "rows has 2 entries for 5 maps"),
    ],
)
def test_bad_options(emulator, density, options, error, message):
    with pytest.raises(error, match=message):
        emulator.sample(density, THETA, seed=1, **options)


def test_large_seeds(emulator, density):
    largest = [emulator.sample(density[0], THETA, seed=seed) for seed in (2**64 - 1, 2**64 - 2, np.uint64(2**64 - 1))]
    np.testing.assert_array_equal(largest[0], largest[2])
    assert np.abs(largest[0] - largest[1]).max() > 0.1


# -- paint ---------------------------------------------------------------------------------------------------


def test_paint_is_sample_without_checks(emulator):
    fields, theta, noise, _ = backends.paint_arguments(emulator)
    painted = backends.host(emulator.paint(fields, theta, noise))[..., 0]
    sampled = emulator.sample(fields[..., 0], {"BIAS": theta[:, 0], "T_MEAN": theta[:, 1]}, seed=4)
    np.testing.assert_allclose(scaled(painted), scaled(sampled), atol=1e-4)


@pytest.fixture(scope="module")
def gradients(checkpoint):
    return backends.gradients(checkpoint)


def test_gradients_are_slopes(emulator, gradients):
    """Against central differences along a random direction of each argument."""
    fields, theta, noise, weights = backends.paint_arguments(emulator)

    def value(*arguments):
        painted = backends.host(emulator.paint(arguments[0], arguments[1], list(arguments[2:])))
        return float((painted.astype(np.float64) * weights).sum())

    arguments, rng = [fields, theta, *noise], np.random.default_rng(1)
    for i, name in enumerate(["fields", "parameters", "noise0", "noise1"]):
        direction = rng.normal(size=arguments[i].shape)
        moved = []
        for sign in (1, -1):
            # Of the fields larger steps leave the straight part where pixel norm divides by weak features; of the rest
            # smaller ones drown in float32's rounding.
            step = 5e-5 if name == "fields" else 3e-4
            changed = list(arguments)
            changed[i] = (arguments[i] + sign * step * direction).astype("float32")
            moved.append(value(*changed))
        slope = (moved[0] - moved[1]) / (2 * step)
        assert (gradients[name] * direction).sum() == pytest.approx(slope, rel=0.05, abs=0.05), name


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_gradients(backend, gradients, request):
    results = request.getfixturevalue(f"{backend}_results")
    for name, values in gradients.items():
        assert np.abs(values).max() > 0.1
        np.testing.assert_allclose(results[f"gradients/{name}"], values, atol=1e-4 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_sample_the_same_maps(backend, checkpoint, request):
    """In processes that cannot import TensorFlow."""
    maps = request.getfixturevalue(f"{backend}_results")["sampled"]
    assert maps.shape == (3, 3, 2, 16, 16)
    np.testing.assert_allclose(scaled(maps), scaled(backends.sampled(checkpoint)), atol=1e-4)


@pytest.mark.parametrize("key", ["stride", "receptive_radius"])
def test_a_card_that_disagrees_with_its_network(checkpoint, tmp_path, key):
    folder = tmp_path / "tiny"
    shutil.copytree(checkpoint, folder)
    values = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**values, key: values[key] - 1}))
    message = rf"card\.json is damaged: {key} is {values[key] - 1}, but its network has {values[key]}\. Get"
    with pytest.raises(CheckpointError, match=message):
        higan.load(folder)


def test_load_is_offered_by_the_package(checkpoint):
    assert isinstance(higan.load(str(checkpoint)), higan.Emulator)


# -- without input fields ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """An emulator that draws maps from noise and parameters alone."""
    return Emulator(tiny.painter(inputs=()))


def test_maps_from_noise_and_parameters_alone(drawn):
    assert repr(drawn) == "Emulator('tiny': noise -> brightness_temp)"
    one = drawn.sample(parameters={"BIAS": 2.0, "T_MEAN": 15.0}, seed=1)
    assert one.shape == (16, 16) and one.std() > 0
    two = drawn.sample(parameters={"BIAS": [2.0, 3.0], "T_MEAN": 15.0}, seed=1, shape=(8, 24), realisations=3)
    assert two.shape == (2, 3, 8, 24) and len(np.unique(two.reshape(6, -1), axis=0)) == 6
    rows = drawn.sample(parameters={"BIAS": 2.0, "T_MEAN": 15.0}, seed=1, rows=[5, 0])
    np.testing.assert_allclose(rows[1], one, atol=1e-4)
    tiles = drawn.sample(parameters={"BIAS": 2.0, "T_MEAN": 15.0}, seed=1, shape=(32, 32), tile=8)
    whole = drawn.sample(parameters={"BIAS": 2.0, "T_MEAN": 15.0}, seed=1, shape=(32, 32))
    np.testing.assert_allclose(tiles, whole, atol=1e-3)


def test_refusals_without_input_fields(drawn, emulator):
    theta = {"BIAS": 2.0, "T_MEAN": 15.0}
    with pytest.raises(MapSetError, match="draws maps from noise and parameters alone"):
        drawn.sample(np.zeros((16, 16)), theta, seed=1)
    with pytest.raises(MapSetError, match="shape is \\(16,\\); tiny paints maps of 2 dimensions"):
        drawn.sample(parameters=theta, seed=1, shape=(16,))
    with pytest.raises(ParameterError, match="shape must be a whole number"):
        drawn.sample(parameters=theta, seed=1, shape=(16, 0))
    with pytest.raises(MapSetError, match="tiny paints on density: give such maps"):
        emulator.sample(parameters=theta, seed=1)
    with pytest.raises(MapSetError, match="shape is that of the input fields"):
        emulator.sample(np.zeros((16, 16)), theta, seed=1, shape=(16, 16))


# -- a density of one's own ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    return higan.load(tiny.save(tiny.drawing(), tmp_path_factory.mktemp("drawing") / "tiny"))


def test_without_fields_the_density_is_drawn(drawing):
    """Maps are those of the density that it says it draws, which is that of its parameters."""
    theta = {"BIAS": [1.0, 2.0], "T_MEAN": 15.0}
    density = drawing.draw_density(theta, seed=1, realisations=2)
    assert density.shape == (2, 2, 8, 8, 8) and density.dtype == np.float32
    assert density[1].std() > 1.5 * density[0].std()  # σ₈
    maps = drawing.sample(parameters=theta, seed=1, realisations=2)
    for i, draw in np.ndindex(2, 2):
        given = {name: np.broadcast_to(values, 2)[i] for name, values in theta.items()}
        painted = drawing.sample(density[i, draw][None], given, seed=1, rows=[i], realisations=draw + 1)
        np.testing.assert_allclose(maps[i, draw], painted[0, draw], atol=1e-3)
    expected = draw_density(8, tiny.CELL, 8.0, Cosmology(0.7, 0.3, 0.05, 1.0, 2.0), seed=1, row=1, realisation=1)
    np.testing.assert_array_equal(density[1, 1], expected)
    assert np.abs(np.corrcoef(density[0].reshape(2, -1))[0, 1]) < 0.2


def test_shapes_and_rows_of_drawn_maps(drawing):
    theta = {"BIAS": 2.0, "T_MEAN": 15.0}
    one = drawing.sample(parameters=theta, seed=1)
    assert one.shape == drawing.draw_density(theta, seed=1).shape == (8, 8, 8)
    both = drawing.sample(parameters=theta, seed=1, rows=[3, 0])
    np.testing.assert_allclose(both[1], one, atol=1e-3)
    large = {"parameters": theta, "seed": 1, "shape": (16, 16, 16)}
    np.testing.assert_allclose(drawing.sample(**large, tile=8), drawing.sample(**large), atol=1e-3)


def test_refusals_of_drawn_maps(drawing, emulator):
    theta = {"BIAS": 2.0, "T_MEAN": 15.0}
    with pytest.raises(MapSetError, match=r"shape is \(8, 8, 16\); tiny draws cubes\. Give equal sides\."):
        drawing.sample(parameters=theta, seed=1, shape=(8, 8, 16))
    with pytest.raises(MapSetError, match=r"tiny draws no density by itself\. Take a checkpoint that does\."):
        emulator.draw_density(theta, seed=1)
    with pytest.raises(MapSetError, match="rows has 2 entries for 3 maps"):
        drawing.draw_density({"BIAS": [1.0, 2.0, 3.0], "T_MEAN": 15.0}, seed=1, rows=[0, 1])
    with pytest.raises(ParameterError, match="parameter BIAS = 5 is outside the range"):
        drawing.draw_density({"BIAS": 5.0, "T_MEAN": 15.0}, seed=1)
    beyond = {"BIAS": [2.0, 11.0], "T_MEAN": 15.0}
    with (
        pytest.warns(ExtrapolationWarning),
        pytest.raises(ParameterError, match=r"row 1 \(counted from 0\): No density"),
    ):
        drawing.sample(parameters=beyond, seed=1, allow_extrapolation=True)
    with pytest.raises(ParameterError, match="realisations must be a whole number"):
        drawing.draw_density(theta, seed=1, realisations=0)
