"""Tiny maps, cards and recipes that the tests share."""

import numpy as np

from higan.checkpoint import Card, DrawnCard, FieldCard, ParameterCard, save_checkpoint
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.networks.config import GeneratorConfig
from higan.recipe import validate_recipe

NETWORK = {"widths": [4, 8], "bottom_blocks": 1, "noise_channels": 2, "embedding": 8}
PARAMETERS = [Parameter("BIAS", "", 1.0, 3.0), Parameter("T_MEAN", "mK", 10.0, 20.0)]
CELL, THICKNESS = 2.0, 8.0


def smooth(rng, n, shape, slope=-1.5):
    """`n` periodic Gaussian random fields of unit variance whose amplitude falls as k^slope."""
    axes = tuple(range(1, len(shape) + 1))
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    k.flat[0] = np.inf
    fields = np.fft.ifftn(np.fft.fftn(rng.normal(size=(n, *shape)), axes=axes) * k**slope, axes=axes).real
    return (fields / fields.std(axis=axes, keepdims=True)).astype("float32")


def maps(n_sim=8, per_sim=4, shape=(16, 16), seed=0, **changes):
    """A map set of smooth density fields and a temperature that follows them by a law of two parameters."""
    rng = np.random.default_rng(seed)
    n = n_sim * per_sim
    simulation = np.repeat(np.arange(n_sim), per_sim)
    parameters = np.stack([rng.uniform(p.lower, p.upper, n_sim) for p in PARAMETERS], axis=1)
    bias, mean = parameters[simulation].T.reshape(2, n, *(1,) * len(shape))
    density = 0.3 * smooth(rng, n, shape)
    temperature = np.maximum(mean * (1 + bias * density) + rng.normal(size=density.shape), 0).astype("float32")
    keep = dict(
        fields={
            "density": Field(density, "", "matter overdensity"),
            "brightness_temp": Field(temperature, "mK", "brightness temperature"),
        },
        parameters=parameters,
        parameter_info=PARAMETERS,
        simulation=simulation,
        geometry=Geometry(
            ndim=len(shape), box_size=CELL * shape[0], thickness=THICKNESS if len(shape) == 2 else None, redshift=8.0
        ),
        simulator="law",
        simulator_version="1",
        extra={
            "seeds": np.arange(n_sim) + 100,
            "split": np.array(["train"] * (n_sim - 2) + ["validation", "test"]),
        },
    )
    return MapSet(**{**keep, **changes})


def card(ndim=2, inputs=("density",), outputs=("brightness_temp",), parameters=PARAMETERS, **network):
    """The card of a tiny generator."""
    from higan.painting.painter import receptive_radius

    config = GeneratorConfig(**{**NETWORK, **network})
    scalings = {
        "density": {"name": "linear", "shift": 0.01, "scale": 0.3},
        "brightness_temp": {"name": "linear", "shift": 15.0, "scale": 8.0, "lower": 0.0},
    }
    units = {"brightness_temp": "mK"}

    def field(name):
        return FieldCard(
            field=name, units=units.get(name, ""), scaling=scalings.get(name, {"name": "asinh", "softening": 2.0})
        )

    return Card(
        name="tiny",
        network=config,
        ndim=ndim,
        stride=config.stride,
        receptive_radius=receptive_radius(config, bool(inputs)),
        inputs=[field(name) for name in inputs],
        outputs=[field(name) for name in outputs],
        parameters=[ParameterCard(name=p.name, units=p.units, lower=p.lower, upper=p.upper) for p in parameters],
        cell_size=CELL,
        thickness=THICKNESS if ndim == 2 else None,
        redshift=8.0,
        shape=[16] * ndim,
        objective="relativistic",
    )


def drawing(**changes):
    """The card of a tiny generator in boxes that draws its density, of a universe with σ₈ a parameter."""
    drawn = DrawnCard(field="density", h=0.7, Omega_m=0.3, Omega_b=0.05, n_s=1.0, sigma_8="BIAS")
    return card(ndim=3, **changes).model_copy(update={"drawn": drawn, "shape": [8, 8, 8]})


def save(card, folder, seed=1):
    """Write a checkpoint of `card` with initial weights; returns the folder."""
    from higan.painting.painter import build_model, weights_of

    model = build_model(card, seed)
    save_checkpoint(folder, card, weights_of(model, model.variables))
    return folder


def painter(seed=1, **changes):
    """A painter of a tiny card with initial weights."""
    from higan.painting.painter import Painter, build_model

    described = card(**changes)
    return Painter(described, woken(build_model(described, seed)))


def woken(model):
    """A generator in which what starts without effect, or hardly, counts: top-hats, gates, exclusion, shares, gas."""
    for layer in model.layers:
        if layer.name in ("local", "head_local", "sharing", "diffuse") or layer.name.endswith("_noise_gate"):
            layer.kernel.assign(np.random.default_rng(2).normal(size=layer.kernel.shape) / 8)
        if layer.name == "exclusion":
            layer.kernel.assign(np.random.default_rng(2).normal(size=layer.kernel.shape))
        if layer.name == "sharing":
            layer.bias.assign(np.repeat([4.0, 0.0, 0.0, 0.0], layer.bias.shape[0] // 4))
    return model


RECIPE = {
    "name": "tiny",
    "seed": 3,
    "data": {
        "source": "maps.h5",
        "inputs": ["density"],
        "outputs": ["brightness_temp"],
        "symmetries": ["roll", "rotate", "reflect"],
    },
    "scaling": {"brightness_temp": {"lower": 0.0}},
    "generator": NETWORK,
    "discriminator": {"widths": [4, 8], "embedding": 8},
    "objective": {"pixel": "crps", "penalty_every": 1},  # one graph to compile, not two
    "training": {"maps": 48, "batch_size": 4, "tick_maps": 16, "warmup_maps": 8, "average_half_life": 16},
    "tracking": {"wandb": "off"},
}


def recipe(**changes):
    """A recipe that trains for a moment; a table in `changes` is merged into the recipe's own."""
    return validate_recipe(_merged(changes))


def recipe_toml(path, source, **changes):
    """Write such a recipe for the maps at `source` as TOML; returns its path."""
    values = _merged(changes)
    values["data"] = {**values["data"], "source": str(source)}
    path.write_text("".join(_toml(values)))
    return path


def _merged(changes):
    values = dict(RECIPE)
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return values


def _toml(values, prefix=""):
    import json

    for key, value in values.items():
        if not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}\n"
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"[{prefix}{key}]\n"
            yield from _toml(value, f"{prefix}{key}.")
