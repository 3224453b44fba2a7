"""What should be the same on every backend; the tests call it in their own process and in another one:

KERAS_BACKEND=jax python -m tests.backends CHECKPOINT RESULTS.npz
"""

import hashlib
import os
import sys

import numpy as np

from higan.scaling import Linear
from tests import tiny

OBJECTIVES = ("minimax", "nonsaturating", "lsgan", "hinge", "wgan-gp", "relativistic", "none")
PENALISED = ("relativistic", "wgan-gp")
LOWER = -0.1  # physical bound of the generated maps, in scaled space
OUTPUT = Linear(lower=LOWER)
MARGIN = 0.25
STEPS = 3


def initial_weights(ndim=2):
    """sha256 of the initial weights of both networks."""
    from higan.networks.config import DiscriminatorConfig, GeneratorConfig
    from higan.networks.discriminator import build_discriminator
    from higan.networks.generator import build_generator

    digest = hashlib.sha256()
    options = dict(ndim=ndim, n_inputs=1, n_outputs=1, n_parameters=2, seed=5)
    for build, config in ((build_generator, GeneratorConfig), (build_discriminator, DiscriminatorConfig)):
        for variable in build(config(widths=[4, 8]), **options).variables:
            digest.update(np.ascontiguousarray(host(variable), "<f4").tobytes())
    return digest.hexdigest()


def host(values):
    """A tensor as a numpy array."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(values))


def noise():
    """A noise field of a few maps."""
    from higan.noise import noise_field

    return noise_field((6, 4), 3, seed=11, rows=[0, 7], realisations=[2, 0], level=1, origin=(4, -2), period=(8, 8))


def top_hats():
    """Means in top-hats of a map, and of a crop of a larger one."""
    from higan.networks.layers import TopHats

    x = np.random.default_rng(3).normal(size=(2, 12, 24, 20, 2)).astype("float32")
    return np.concatenate([host(TopHats([1.0, 6.0])(x)).ravel(), host(TopHats([1.0, 3.0], 3)(x)).ravel()])


def smoothed():
    """What an excursion set sees of two boxes, and its scatter."""
    from higan.networks.layers import sharp_cuts

    channels, scatter = sharp_cuts(np.random.default_rng(3).normal(size=(2, 6, 9, 8, 1)).astype("float32"), [1.0, 2.5])
    return np.concatenate([host(channels).ravel(), host(scatter).ravel()])


def sampled(checkpoint):
    """Maps of a checkpoint, as a user samples them: in tiles, twice, then whole."""
    import higan

    fields = tiny.maps().read("density", [0, 5, 9])
    theta = {"BIAS": [1.0, 2.0, 3.0], "T_MEAN": 12.0}
    emulator = higan.load(checkpoint)
    return np.stack([emulator.sample(fields, theta, seed=4, realisations=2, tile=tile) for tile in (8, 8, None)])


def paint_arguments(emulator):
    """Fields, parameters and noise for ``paint``, and weights that make one number of the painted map."""
    fields = tiny.maps().read("density", [0, 5])[..., None]
    noise = emulator.noise((16, 16), seed=4, rows=[0, 1])
    weights = np.random.default_rng(0).normal(size=fields.shape).astype("float32")
    return fields, np.array([[1.5, 12.0], [2.5, 18.0]], "float32"), noise, weights


def gradients(checkpoint):
    """Gradients of a weighted sum of painted cells with respect to fields, parameters and each noise field."""
    import keras

    import higan

    emulator = higan.load(checkpoint)
    fields, theta, noise, weights = paint_arguments(emulator)
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def value(arguments):
            return (emulator.paint(*arguments) * weights).sum()

        found = jax.jit(jax.grad(value))((fields, theta, noise))
    elif backend == "torch":
        import torch

        # The model may have been put on an accelerator that is there.
        tensors = [torch.tensor(x, requires_grad=True) for x in (fields, theta, *noise)]
        (emulator.paint(tensors[0], tensors[1], tensors[2:]) * torch.tensor(weights)).sum().backward()
        found = [tensors[0].grad, tensors[1].grad, [x.grad for x in tensors[2:]]]
    else:
        import tensorflow as tf

        arguments = tf.nest.map_structure(tf.constant, [fields, theta, noise])
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = tf.reduce_sum(emulator.paint(*arguments) * weights)
        found = tape.gradient(value, arguments)
    return {"fields": host(found[0]), "parameters": host(found[1])} | {
        f"noise{i}": host(x) for i, x in enumerate(found[2])
    }


def step_config(objective, **options):
    """What a step minimises: of all losses those alone that are given."""
    from higan.adversarial.step_config import StepConfig
    from higan.recipe import ObjectiveConfig

    losses = {"pixel_weight": 0.0, "r1": 0.0, "r2": 0.0, "gradient_penalty": 0.0, "penalty_every": 1}
    losses |= {name: options.pop(name) for name in list(options) if name in ObjectiveConfig.model_fields}
    # Unchecked: what a loss does is seen where no other goes with it.
    return StepConfig(ObjectiveConfig.model_construct(name=objective, **losses), **options)


def training_step(objective, ndim=2, precision="float32", **changes):
    """The compiled step of a tiny pair of networks."""
    from higan.adversarial.step import Step
    from higan.networks.config import DiscriminatorConfig
    from higan.networks.discriminator import build_discriminator
    from higan.painting.painter import build_model

    card = tiny.card(ndim=ndim)
    discriminator = None
    if objective != "none":
        discriminator = build_discriminator(
            DiscriminatorConfig(widths=[4, 8], embedding=8),
            ndim=ndim,
            n_inputs=1,
            n_outputs=1,
            n_parameters=2,
            seed=2,
            dtype=precision,
        )
    options = dict(
        pixel="crps",
        pixel_weight=0.5,
        margin=MARGIN,
        spectral_weight=0.0 if objective == "none" else 0.3,
        maps_per_simulation=3,
        r1=0.1,
        r2=0.2,
        gradient_penalty=10.0,
        outputs=(OUTPUT,),
    )
    config = step_config(objective, **{**options, **changes})
    return Step(build_model(card, 1, precision), discriminator, config)


def training_batch(step, shape=(8, 8), size=3, realisations=2):
    """A batch of numbers without structure, with noise of so many realisations; many lie on the physical bound."""
    from higan.noise import noise_field

    rng = np.random.default_rng(step)
    return {
        "maps": np.maximum(rng.normal(size=(size, *shape, 1)), LOWER).astype("float32"),
        "fields": rng.normal(size=(size, *shape, 1)).astype("float32"),
        "parameters": rng.uniform(-1, 1, size=(size, 2)).astype("float32"),
        "interpolation": rng.random(size, dtype=np.float32),
        "noise": [
            noise_field(
                [n >> level for n in shape],
                2,
                seed=1,
                rows=np.tile(step * size + np.arange(size), realisations),
                realisations=np.repeat(np.arange(realisations), size),
                level=level,
            )
            for level in range(2)
        ],
    }


W = np.array([0.6, -0.3], "float32")  # a linear discriminator's weights of the map and of its condition


def linear_discriminator(scales=1):
    """D = w·(map, field) in each cell, at every scale."""
    import keras

    inputs = [keras.Input((None, None, 1), name="maps"), keras.Input((None, None, 1), name="fields")]
    layer = keras.layers.Conv2D(1, 1, use_bias=False, name="linear")
    logits = [layer(keras.layers.Concatenate()(inputs)) for _ in range(scales)]
    model = keras.Model(inputs, logits)
    layer.set_weights([W.reshape(1, 1, 2, 1)])
    return model


def linear_generator():
    """G = g·field, g = 2."""
    import keras

    fields = keras.Input((None, None, 1), name="fields")
    layer = keras.layers.Conv2D(1, 1, use_bias=False, name="linear")
    model = keras.Model([fields], layer(fields))
    layer.set_weights([np.full((1, 1, 1, 1), 2.0)])
    return model


def linear_step(objective, scales=1, **changes):
    """A step of two linear networks, whose gradients are known; without a pixel loss."""
    from higan.adversarial.step import Step

    discriminator = None if objective == "none" else linear_discriminator(scales)
    return Step(linear_generator(), discriminator, step_config(objective, **changes))


def linear_batch(shape=(4, 4), n=3, seed=0):
    """A batch for them."""
    rng = np.random.default_rng(seed)
    batch = {name: rng.normal(1.0, 1.0, size=(n, *shape, 1)).astype("float32") for name in ("maps", "fields")}
    return {**batch, "interpolation": rng.random(n, dtype=np.float32)}


def first_steps(objective):
    """A step and a few batches: of both networks with their penalties or, as compiling takes its time, linear ones."""
    if objective in PENALISED:
        return training_step(objective), [training_batch(i) for i in range(STEPS)]
    step = linear_step(objective, pixel_weight=0.5, outputs=(OUTPUT,))
    return step, [linear_batch(seed=i) for i in range(STEPS)]


def losses(objective):
    """Losses and penalties of the first steps, by name."""
    step, batches = first_steps(objective)
    state = step.initial_state()
    found = {}
    for i, batch in enumerate(batches):
        state, values = step(state, batch, i, (1e-3, 1e-3), 0.9)
        for name, value in values.items():
            found.setdefault(name, []).append(float(host(value)))
    return {name: np.array(values) for name, values in found.items()}


def main(checkpoint, path):
    """Everything of above into a .npz file."""
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        sys.modules["tensorflow"] = None  # as if it were not installed
    results = {"noise": noise(), "initial_weights": np.array(initial_weights()), "sampled": sampled(checkpoint)}
    results |= {"top_hats": top_hats(), "smoothed": smoothed()}
    results |= {f"gradients/{name}": values for name, values in gradients(checkpoint).items()}
    if backend != "torch":
        for objective in OBJECTIVES:
            results |= {f"losses/{objective}/{name}": values for name, values in losses(objective).items()}
    else:
        from higan.adversarial.step import load_backend
        from higan.errors import TrainingError

        try:
            load_backend()
        except TrainingError as error:
            results["refusal"] = np.array(str(error))
    assert backend == "tensorflow" or sys.modules["tensorflow"] is None
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
