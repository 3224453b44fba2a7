"""Trainings on several devices and in several processes, which are to be those on one; the tests call it elsewhere:

KERAS_BACKEND=jax python -m tests.adversarial.replicas devices RESULTS.npz
TF_CONFIG=… python -m tests.adversarial.replicas processes RESULTS.npz
TF_CONFIG=… python -m tests.adversarial.replicas worker RECIPE.toml RUN RANK STOPS_AT DIES_AT
"""

import os
import signal
import sys
import time

import numpy as np

from higan.adversarial.parts import part_of
from tests import backends

SIZE, SHAPE, GROUP, STEPS = 8, (4, 4), 2, 2


def steps(accumulate=1):
    """Steps of linear networks with every loss, and batches of maps that are not alike."""
    from higan.adversarial.step import Step

    options = dict(pixel="crps", pixel_weight=0.5, spectral_weight=0.3, maps_per_simulation=GROUP)
    config = backends.step_config(
        "relativistic",
        r1=0.1,
        r2=0.2,
        mode_weight=0.2,
        spread_weight=0.2,
        octave_weight=0.2,
        one_point_weight=0.2,
        one_point_scales=(1, 2),
        one_point_lags=(1,),
        tail_weight=0.2,
        mean_power_weight=0.2,
        shape=SHAPE,
        accumulate=accumulate,
        **options,
    )
    step = Step(_noisy_generator(), backends.linear_discriminator(), config)
    yield "ratio", step, [_batch(i, channels=1) for i in range(STEPS)]
    observed = dict(gradient_penalty=10.0, noise=0.1, accumulate=accumulate)
    step = backends.linear_step("wgan-gp", spectral="crps", spectral_slope_weight=0.5, **observed, **options)
    yield "crps", step, [_batch(i, channels=0) for i in range(STEPS)]


def _noisy_generator():
    """G = 2 field + noise: two realisations differ."""
    import keras

    from higan.networks.layers import Repeated

    inputs = [keras.Input((None, None, 1), name=name) for name in ("fields", "noise")]
    layer = keras.layers.Conv2D(1, 1, use_bias=False, name="linear")
    model = keras.Model(inputs, layer(keras.layers.Concatenate()([Repeated()(inputs), inputs[1]])))
    layer.set_weights([np.array([2.0, 1.0]).reshape(1, 1, 2, 1)])
    return model


def _batch(step, channels):
    batch, rng = backends.linear_batch(SHAPE, SIZE, step), np.random.default_rng(step)
    noise = [rng.normal(size=(2 * SIZE, *SHAPE, 1)).astype("float32") for _ in range(channels)]
    sky = rng.normal(size=(2 * SIZE, *SHAPE, 1)).astype("float32")
    flux = rng.uniform(1, 2, SIZE).astype("float32")
    return {**batch, "maps": batch["maps"] * _brightness(), "noise": noise, "sky": sky, "flux": flux}


def _brightness():
    """The first maps are faint, the last are bright: parts of a batch do not resemble all of it."""
    return np.geomspace(0.1, 10, SIZE, dtype="float32").reshape(SIZE, 1, 1, 1)


def results(accumulate=1, rank=0, count=1):
    """Losses of every step, and what the first makes of the state, for this process's part of each batch."""
    found = {}
    for label, step, batches in steps(accumulate):
        state = step.initial_state()
        for i, batch in enumerate(batches):
            state, losses = step(state, part_of(batch, rank, count), i, (1e-3, 1e-3), 0.9)
            found |= {f"{label}/{name}/{i}": x for name, x in step.backend.to_host(losses).items()}
            if i == 0:
                kept = {name: x for name, x in step.backend.to_host(state).items() if name.endswith(("_m", "power"))}
                found |= {f"{label}/{name}": x.ravel() for name, x in kept.items()}
    return found


def devices(path):
    """:func:`results` on two devices, each seeing half of its part of a batch at a time."""
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    from higan.adversarial.step import load_backend

    assert load_backend().replicas() == 2
    np.savez(path, **results(accumulate=2))


def processes(path):
    """:func:`results` in two processes, of which the first writes them."""
    from higan.adversarial.step import load_backend
    from higan.adversarial.workers import Workers

    workers = Workers(load_backend())
    assert workers.count == workers.backend.replicas() == 2
    found = results(accumulate=2, rank=workers.rank, count=workers.count)
    if workers.first:
        np.savez(path, **found)
    workers.wait()


def worker(recipe, run, rank, stops_at, dies_at):
    """Train; the worker of a rank is asked to end at one step (or "never"), as all do, and is killed at another."""
    from higan.adversarial.step import Step, load_backend
    from higan.cli import main
    from higan.validation import plots

    call, asked = Step.__call__, []
    plots.maps_and_ratio = lambda *given, **_: given[5].touch()  # which takes longer than the steps

    def interrupted(self, state, batch, step, *arguments):
        if load_backend().workers()[0] == int(rank):
            if str(step) == stops_at and not asked:
                asked.append(step)
                os.kill(os.getpid(), signal.SIGTERM)
            if step == int(dies_at):
                # Steps run behind: the last one is to end before, here and with the other.
                load_backend().to_host(state)
                time.sleep(1)
                os.kill(os.getpid(), signal.SIGKILL)
        return call(self, state, batch, step, *arguments)

    Step.__call__ = interrupted
    words = ["train", recipe, "--output", run]
    code = main(words)
    if stops_at != "never":
        assert code == 75, code
        code = main(words)
    sys.exit(code)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
