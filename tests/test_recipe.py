import copy

import pytest

from higan.errors import RecipeError
from higan.recipe import Recipe, load_recipe, validate_recipe
from tests import tiny


def changed(*path, to):
    values = copy.deepcopy(tiny.RECIPE)
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = to
    return values


def without(*path):
    values = changed(*path, to=None)
    table = values
    for part in path[:-1]:
        table = table[part]
    del table[path[-1]]
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed("trainning", to={}), "unknown key 'trainning'; did you mean 'training'?"),
        (changed("training", "batchsize", to=8), "unknown key 'training.batchsize'; did you mean 'batch_size'?"),
        (changed("objective", "r3", to=1.0), "unknown key 'objective.r3'; did you mean 'r"),
        (changed("generator", "noise_chanels", to=1), "'generator.noise_chanels'; did you mean 'noise_channels'?"),
        (changed("scaling", "density", "flor", to=1.0), "'scaling.density.flor'; did you mean 'floor'?"),
        (
            changed("data", "zzz", to=1),
            "unknown key 'data.zzz'; known here: drawn, even, fractions, inputs, magnitude, outputs",
        ),
        (
            changed("training", "quantile_maps", to=4) | {"data": tiny.RECIPE["data"] | {"magnitude": "mag"}},
            "training.quantile_maps is of cells of their own, not of maps with a data.magnitude",
        ),
        (changed("scaling", "halo", to={}), "[scaling.halo] is of no field in data.inputs or data.outputs (density"),
        (changed("training", "maps", to="many"), "training.maps: input should be a valid integer"),
        (changed("training", "maps", to="many"), "Received 'many'."),
        (
            changed("training", "maps_per_simulation", to=3),
            "training: batch_size is 4, which is no multiple of maps_per_simulation, 3",
        ),
        (changed("training", "maps", to=0), "training.maps: input should be greater than or equal to 1. Received 0."),
        (changed("training", "schedule", to="linear"), "training.schedule: input should be 'cosine' or 'constant'"),
        (changed("generator", to=3), "generator: input should be a valid dictionary"),
        (changed("data", "inputs", to=["density", "density"]), "inputs names 'density' twice"),
        (
            changed("generator", to={"gated": True, "noise_channels": 0}),
            "gated is of noise, of which there is none: give noise_channels, or leave gated out",
        ),
        (changed("data", "drawn", to={"field": "halo"}), "drawn.field is 'halo', which is not the only input"),
        (changed("data", "outputs", to=[]), "data.outputs: list should have at least 1 item"),
        (
            changed("data", "inputs", to=[]) | {"objective": {}, "generator": {"noise_channels": 0}},
            "without data.inputs maps are drawn from noise: it needs generator.noise_channels above 0",
        ),
        (
            changed("objective", to={"spectral": "crps"}),
            "spectral 'crps' takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"modes_by_octave": True}),
            "modes_by_octave is a matter of mode_weight, spread_weight and mean_power_weight",
        ),
        (changed("objective", to={"spectral_floor": 1e-4}), "spectral_floor is a matter of spectral = 'crps' alone"),
        (changed("objective", to={"spectral_slope_weight": 1.0}), "spectral_slope_weight is a matter of spectral = "),
        (
            changed("generator", to={"spilled": True, "noise_channels": 1}),
            "spilled is of maps without edges, with two widths and two noise_channels or more: give these",
        ),
        (changed("generator", to={"exclusion": [2, 2]}), "exclusion are half-widths in ascending order, each once"),
        (changed("generator", to={"exclusion": [2], "centred": True}), "exclusion is for maps without edges"),
        (changed("generator", to={"spilled": True, "centred": True}), "spilled is of maps without edges"),
        (changed("generator", to={"spilled": True, "widths": [4]}), "spilled is of maps without edges, with two"),
        (
            changed("scaling", to={}) | {"generator": {"widths": [4, 8], "spilled": True}},
            "generator.spilled is of amounts, what is above a lower bound, and brightness_temp has none",
        ),
        (
            changed("scaling", to={}) | {"generator": {"widths": [4, 8], "diffuse": True}},
            "generator.diffuse is of amounts, what is above a lower bound, and brightness_temp has none",
        ),
        (
            changed("data", "inputs", to=[]) | {"generator": {"widths": [4, 8], "diffuse": True}},
            "generator.diffuse follows data.inputs, of which there are none: leave it out",
        ),
        (
            changed("objective", to={"mode_weight": 1.0}),
            "mode_weight takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"spread_weight": 1.0}),
            "spread_weight takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"octave_weight": 1.0}),
            "octave_weight takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"one_point_weight": 1.0}),
            "one_point_weight takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"pixel": "crps", "one_point_scales": [1, 2]}),
            "one_point_scales are those of one_point_weight and tail_weight: give one",
        ),
        (
            changed("objective", to={"pixel": "crps", "one_point_lags": [1]}),
            "one_point_lags are those of one_point_weight and tail_weight: give one",
        ),
        (
            changed("objective", to={"tail_weight": 1.0}),
            "tail_weight takes the two realisations that only pixel = ",
        ),
        (
            changed("objective", to={"pixel": "crps", "shape_weight": 1.0}),
            "objective.shape_weight is of stamps about their middle: it needs generator.centred",
        ),
        (changed("objective", to={"pixel_scales": [0]}), "objective.pixel_scales.0: input should be greater than 0"),
        (changed("objective", to={"extreme_scales": [1]}), "objective.extreme_scales.0: input should be greater"),
        (
            changed("generator", "top_hats", to=[2.0, 1.0]),
            "top_hats are radii in ascending order, each once",
        ),
        (changed("generator", "top_hat_widths", to=[8]), "top_hat_widths is of the network that sees top_hats or an"),
        (changed("generator", "top_hats", to=[9.0]), "of 4 times the stride at most (8 cells here)"),
        (changed("training", "crop", to=7), "training.crop is 7, which is no multiple of the generator's stride, 2."),
        (changed("training", "context", to=2), "training.context is around crops: it needs training.crop"),
        (changed("data", "symmetries", to=["mirror"]), "data.symmetries.0: input should be 'roll', 'rotate' or 'ref"),
        (changed("seed", to=2**63), "seed: input should be less than"),
        (changed("name", to="../up"), "name: string should match pattern"),
        (changed("objective", "name", to="gan"), "there is no objective 'gan'; choose one of minimax, nonsaturating"),
        (
            changed("objective", to={"pixel": "crps"}) | {"generator": {"noise_channels": 0}},
            "objective.pixel 'crps' compares realisations: it needs generator.noise_channels or generator.latent above",
        ),
        (changed("objective", to={"name": "none", "pixel_weight": 0}), "pixel_weight must be positive"),
        (without("training"), "training: field required."),
        (without("training", "maps"), "training.maps: field required."),
        (without("data", "outputs"), "data.outputs: field required."),
        ({**tiny.RECIPE, "seed": "x", "trainig": 1}, "unknown key 'trainig'; did you mean 'training'? (1 more to mend"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(RecipeError) as caught:
        validate_recipe(values, "tiny.toml")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("tiny.toml: ")


def test_a_good_recipe(tmp_path):
    recipe = load_recipe(tiny.recipe_toml(tmp_path / "tiny.toml", "maps.h5"))
    assert recipe == Recipe.model_validate(tiny.RECIPE)
    assert recipe.objective.name == "relativistic" and recipe.objective.penalty_every == 1
    assert recipe.generator.stride == 2 and recipe.training.discriminator_learning_rate is None
    # What is printed can be given again.
    assert validate_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"name = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"", "field required"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


def test_objectives_are_those_there_are():
    from higan.adversarial.objectives import OBJECTIVES

    for name in OBJECTIVES:
        assert validate_recipe(changed("objective", "name", to=name)).objective.name == name
