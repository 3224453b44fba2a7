import keras
import numpy as np
import pytest
from keras import ops, tree

from higan.adversarial.adam import adam
from higan.adversarial.objectives import crps
from higan.adversarial.octaves import block_extremes
from higan.adversarial.one_point import one_point_crps, tail_crps
from higan.adversarial.spectrum import mode_score
from higan.adversarial.step import Step
from higan.photometry import acs_kernel, observe
from higan.scaling import Asinh, Linear
from higan.validation.power_spectrum import bin_weights
from tests import backends
from tests.adversarial.test_objectives import FORMULAS
from tests.backends import W, linear_batch, linear_step


def numbers(values):
    return {name: float(backends.host(value)) for name, value in values.items()}


def powers(maps):
    """Mean power of the modes in each bin, those in the corners too; the transform is not normalised."""
    squares = np.abs(np.fft.rfftn(maps, axes=range(1, maps.ndim))) ** 2
    return squares.reshape(len(maps), -1) @ bin_weights(maps.shape[1:], corners=True).T


def arrays(state):
    return {name: backends.host(values) for name, values in state.items()}


# -- the optimiser -------------------------------------------------------------------------------------------


def test_adam():
    """Against the algorithm in float64, and against Keras' own (which puts ε before the bias is corrected)."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=17)
    gradients = [rng.normal(size=17) * 10 ** rng.uniform(-3, 1, size=17) for _ in range(5)]
    rate, beta1, beta2 = 0.01, 0.5, 0.99

    state = {"x": start, "x_m": np.zeros_like(start), "x_v": np.zeros_like(start)}
    state = {name: ops.convert_to_tensor(values.astype("float32")) for name, values in state.items()}
    variable = keras.Variable(start.astype("float32"))
    optimizer = keras.optimizers.Adam(rate, beta_1=beta1, beta_2=beta2, epsilon=1e-8)
    expected, m, v = start.copy(), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        tensor = ops.convert_to_tensor(g.astype("float32"))
        state = adam(state, "x", tensor, rate, beta1, ops.convert_to_tensor(np.float32(t)))
        optimizer.apply([tensor], [variable])
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        expected -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
    # Five steps of 0.01 in float32, on weights of order one.
    np.testing.assert_allclose(backends.host(state["x"]), expected, atol=1e-6)
    np.testing.assert_allclose(backends.host(variable), expected, atol=2e-6)
    np.testing.assert_allclose(backends.host(state["x_m"]), m, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(backends.host(state["x_v"]), v, rtol=1e-5, atol=1e-9)


# -- known losses --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_losses():
    """Losses of the first steps of every objective, here."""
    return {name: backends.losses(name) for name in backends.OBJECTIVES}


@pytest.mark.parametrize("name", backends.OBJECTIVES)
def test_losses_are_those_of_the_networks(name, first_losses):
    """The first step's losses from the networks called by hand and the papers' formulas."""
    step, batches = backends.first_steps(name)
    batch = batches[0]
    condition = [batch[key] for key in ("fields", "parameters") if key in batch]
    draws = len(batch["noise"][0]) // len(batch["maps"]) if "noise" in batch else 1
    repeated = [np.concatenate([c] * draws) for c in condition]
    raw = backends.host(step.generator([*repeated, *batch.get("noise", [])]))
    raws = np.split(raw, draws)
    found = {key: values[0] for key, values in first_losses[name].items()}
    margin = backends.MARGIN if name in backends.PENALISED else 0.0
    target = batch["maps"] - margin * (batch["maps"] == np.float32(backends.LOWER))
    missed = np.mean([np.abs(raw - target) for raw in raws])
    spread = np.abs(raws[0] - raws[-1]).mean()
    assert (spread > 0) == (draws == 2) == (name in backends.PENALISED)
    assert found["pixel"] == pytest.approx(missed - spread / 2, rel=1e-5)
    beyond = np.maximum(backends.LOWER - 1 - raw, 0)
    assert found["drift"] == pytest.approx(np.square(beyond).mean(), rel=1e-4, abs=1e-7)
    if name == "none":
        assert set(found) == {"pixel", "drift"}
        return
    fakes = np.maximum(raws, backends.LOWER)
    fake = fakes[0]
    assert (fake != raws[0]).any()
    logits = [
        [backends.host(x) for x in tree.flatten(step.discriminator([maps, *condition]))]
        for maps in (batch["maps"], fake)
    ]
    for key, formula in zip(("discriminator", "generator"), FORMULAS[name], strict=True):
        expected = np.mean([formula(real, fake).mean() for real, fake in zip(*logits, strict=True)])
        assert found[key] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    penalties = {"gradient_penalty"} if name == "wgan-gp" else {"r1", "r2"}
    expected = {"pixel", "drift", "generator", "discriminator"} | penalties
    if name in backends.PENALISED:
        expected.add("spectral")
        P = [powers(maps[..., 0]).sum(axis=0) for maps in (*fakes, batch["maps"])]
        assert found["spectral"] == pytest.approx(np.abs(np.array(P[:2]) / P[2] - 1).mean(), rel=1e-4)
    assert set(found) == expected


@pytest.mark.parametrize("name", backends.OBJECTIVES)
def test_jax_gives_the_same_losses(name, first_losses, jax_results):
    for key, here in first_losses[name].items():
        there = jax_results[f"losses/{name}/{key}"]
        # Before any update the backends differ by the order of sums alone.
        assert there[0] == pytest.approx(here[0], rel=1e-5, abs=1e-6), key
        # A critic's offset is no part of its loss: its gradient is a rounding error around 0, of which Adam makes a
        # step of the learning rate (1e-3) in either direction.
        offset = 2e-3 if name == "wgan-gp" else 0
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5 + offset, err_msg=key)


# -- a discriminator whose gradients are known ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (8, 16)])
@pytest.mark.parametrize("scales", [1, 2])
def test_penalties_are_those_of_a_linear_discriminator(shape, scales):
    """The gradient of the mean logit is w / N in every cell, so R1 = R2 = w², whatever the patches and scales."""
    step = linear_step("relativistic", scales, r1=1.0, r2=1.0)
    _, losses = step(step.initial_state(), linear_batch(shape), 0, (1e-3, 1e-3), 0.9)
    losses = numbers(losses)
    assert losses["r1"] == pytest.approx(W[0] ** 2, rel=1e-5) and losses["r2"] == pytest.approx(W[0] ** 2, rel=1e-5)
    step = linear_step("wgan-gp", scales, gradient_penalty=10.0)
    _, losses = step(step.initial_state(), linear_batch(shape), 0, (1e-3, 1e-3), 0.9)
    assert numbers(losses)["gradient_penalty"] == pytest.approx((abs(W[0]) - 1) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "penalty"),
    [
        ("relativistic", {"r1": 3.0, "r2": 0.0}, 3.0 / 2 * 2 * W[0]),
        ("relativistic", {"r1": 0.0, "r2": 5.0}, 5.0 / 2 * 2 * W[0]),
        ("wgan-gp", {"gradient_penalty": 10.0}, 10.0 * 2 * (W[0] - 1)),
    ],
)
@pytest.mark.parametrize("every", [1, 4])
def test_gradient_of_the_discriminator(name, options, penalty, every):
    """Adam's first moment after one step is (1 - β1) times the gradient, which is known: loss and penalty, the
    penalty with as many times its weight as there are steps between."""
    step = linear_step(name, penalty_every=every, beta1=0.5, **options)
    batch = linear_batch((4, 4))
    state, _ = step(step.initial_state(), batch, 0, (0.0, 0.0), 0.9)
    real, fake = batch["maps"].astype(float), 2.0 * batch["fields"]
    if name == "wgan-gp":
        adversarial = (fake - real).mean()
    else:
        # d/dw of softplus(w (fake - real)); the condition is the same for both and cancels.
        adversarial = ((fake - real) / (1 + np.exp(-W[0] * (fake - real)))).mean()
    assert backends.host(state["discriminator_m"])[0] == pytest.approx(0.5 * (adversarial + every * penalty), rel=1e-4)
    # Steps between have no penalty.
    state, losses = step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)
    plain = adversarial if every > 1 else adversarial + penalty
    assert backends.host(state["discriminator_m"])[0] == pytest.approx(0.5 * plain, rel=1e-4)
    assert ("r1" in losses or "gradient_penalty" in losses) == (every == 1)


def test_gradient_of_the_generator():
    """-mean D(G(x)) + 3 mean |G - map|: the gradient with respect to g is -w mean x + 3 mean x sign(G - map)."""
    step = linear_step("wgan-gp", pixel="l1", pixel_weight=3.0, beta1=0.5)
    batch = linear_batch((4, 4))
    x = batch["fields"].astype(float)
    for weight in (3.0, 0.5):
        # The weight of the configuration, or the step's own.
        state, _ = step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9, *([] if weight == 3.0 else [weight]))
        expected = -W[0] * x.mean() + weight * (x * np.sign(2 * x - batch["maps"])).mean()
        assert backends.host(state["generator_m"]).item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_bounds_let_the_gradient_through():
    """Where a map lies wholly beyond its bounds the discriminator sees the bound, the generator its slope there."""
    step = linear_step("wgan-gp", outputs=(Linear(lower=5.0, upper=5.0),), beta1=0.5)
    batch = linear_batch((4, 4))
    state, losses = step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)
    losses = numbers(losses)
    real = W[0] * batch["maps"].mean() + W[1] * batch["fields"].mean()
    fake = W[0] * 5.0 + W[1] * batch["fields"].mean()
    assert losses["generator"] == pytest.approx(-fake, rel=1e-5)
    assert losses["discriminator"] == pytest.approx(fake - real, rel=1e-4)
    # Clipping alone would give 0. What lies more than 1 beyond is held back by its mean square, g being 2.
    x = batch["fields"].astype(float)
    beyond = np.maximum(4 - 2 * x, 0) - np.maximum(2 * x - 6, 0)
    expected = -W[0] * x.mean() - (2 * beyond * x).mean()
    assert backends.host(state["generator_m"]).item() == pytest.approx(0.5 * expected, rel=1e-4)
    # The pixel loss is of the raw output.
    assert losses["pixel"] == pytest.approx(np.abs(2 * batch["fields"] - batch["maps"]).mean(), rel=1e-5)


def test_margin_moves_the_target_of_cells_on_a_bound():
    """True cells on the bound are aimed at beyond it, all others where they are."""
    batch = linear_batch((4, 4))
    batch["maps"] = np.clip(batch["maps"], 0.5, 1.5)
    target = batch["maps"] + 0.75 * (np.equal(batch["maps"], 1.5).astype(float) - np.equal(batch["maps"], 0.5))
    assert 1 < np.unique(np.round(target - batch["maps"], 6)).size
    step = linear_step("none", pixel_weight=1.0, margin=0.75, outputs=(Linear(lower=0.5, upper=1.5),))
    _, losses = step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)
    assert numbers(losses)["pixel"] == pytest.approx(np.abs(2 * batch["fields"] - target).mean(), rel=1e-5)


def test_spectral_loss_is_taken_in_physical_space():
    """With its weight in the gradient, on maps as the scaling restores them."""
    batch = linear_batch((8, 8))
    scaling = Asinh(shift=0.3, scale=0.7, softening=2.0)
    gradients = []
    for weight in (0.0, 1.0, 3.0):
        step = linear_step("none", pixel_weight=1.0, spectral_weight=weight, maps_per_simulation=3, outputs=(scaling,))
        state, losses = step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)
        gradients.append(backends.host(state["generator_m"]).item())
        assert ("spectral" in losses) == (weight > 0)
    P = [powers(scaling.restore(x[..., 0])).sum(axis=0) for x in (2 * batch["fields"], batch["maps"])]
    assert numbers(losses)["spectral"] == pytest.approx(np.abs(P[0] / P[1] - 1).mean(), rel=1e-4)
    # By finite differences of the loss in the generator's only weight, 2; Adam keeps half of a gradient (β1).
    power = [powers(scaling.restore(g * batch["fields"][..., 0].astype(float))).sum(axis=0) for g in (1.999, 2.001)]
    slope = np.diff([np.abs(p / P[1] - 1).mean() for p in power])[0] / 0.002
    assert gradients[1] - gradients[0] == pytest.approx(0.5 * slope, rel=1e-2)
    assert gradients[2] - gradients[0] == pytest.approx(3 * (gradients[1] - gradients[0]), rel=1e-3)


# -- what a step does ----------------------------------------------------------------------------------------


def test_average_and_simultaneous_updates():
    step, batch = linear_step("relativistic", r1=1.0), linear_batch((4, 4))
    state = step.initial_state()
    before = arrays(state)
    state, _ = step(state, batch, 0, (0.1, 0.02), 0.75)
    after = arrays(state)
    # Adam's first step is the learning rate, each network's own.
    np.testing.assert_allclose(np.abs(after["generator"] - before["generator"]), 0.1, rtol=1e-4)
    np.testing.assert_allclose(np.abs(after["discriminator"] - before["discriminator"])[0], 0.02, rtol=1e-4)
    np.testing.assert_allclose(after["average"], 0.75 * before["average"] + 0.25 * after["generator"], rtol=1e-6)


def test_l2_training_learns():
    """A generator trained for the mean fits one batch."""
    step = backends.training_step("none", pixel="l2", pixel_weight=1.0)
    state, batch = step.initial_state(), backends.training_batch(0, realisations=1)
    batch["maps"] = 0.5 * batch["fields"] - 0.3
    found = []
    for i in range(60):
        state, losses = step(state, batch, i, (1e-2, 0.0), 0.9)
        found.append(numbers(losses)["pixel"])
    assert found[-1] < 0.2 * found[0]


def test_discriminator_learns_to_tell_and_the_penalty_holds_it():
    """Against a generator that stands still the discriminator's loss falls below log 2, less so under a penalty."""
    batch, ends = linear_batch((4, 4)), []
    for r1 in (0.0, 10.0):
        step = linear_step("relativistic", r1=r1)
        state = step.initial_state()
        for i in range(100):
            state, losses = step(state, batch, i, (0.0, 1e-1), 0.9)
        ends.append(numbers(losses)["discriminator"])
    assert ends[0] < 0.6 < ends[1] < np.log(2)


def test_xla_and_bfloat16():
    """Compiled by XLA, which TensorFlow does not do by itself, the same; in bfloat16 nearly the same, what is summed up
    and kept in float32."""
    batch, found = backends.training_batch(0), {}
    for name, options in {"plain": {}, "xla": {"xla": True}, "bfloat16": {"precision": "mixed_bfloat16"}}.items():
        step = backends.training_step("relativistic", **options)
        found[name] = step(step.initial_state(), batch, 0, (1e-3, 1e-3), 0.9)
    (plain_state, plain), (state, losses) = found["plain"], found["xla"]
    assert numbers(losses) == pytest.approx(numbers(plain), rel=1e-4)
    for name in ("generator_m", "discriminator_m"):
        np.testing.assert_allclose(backends.host(state[name]), backends.host(plain_state[name]), rtol=1e-3, atol=1e-5)
    state, losses = found["bfloat16"]
    assert numbers(losses) != numbers(plain) and numbers(losses) == pytest.approx(numbers(plain), rel=0.02)
    dtypes = {backends.host(x).dtype for x in keras.tree.flatten((state, losses))}
    assert dtypes == {np.dtype("float32")}


def test_three_dimensions():
    step = backends.training_step("relativistic", ndim=3, maps_per_simulation=2)
    _, losses = step(step.initial_state(), backends.training_batch(0, shape=(4, 4, 4), size=2), 0, (1e-3, 1e-3), 0.9)
    assert np.isfinite(list(numbers(losses).values())).all() and "r2" in losses


def test_torch_only_paints(torch_results):
    assert "Training runs on TensorFlow or JAX, but KERAS_BACKEND is 'torch'" in str(torch_results["refusal"])


def test_spectral_loss_is_taken_in_groups():
    batch = linear_batch((8, 8))
    n = len(batch["maps"])
    found = {}
    for group in (1, n):
        step = linear_step("none", spectral_weight=1.0, maps_per_simulation=group)
        found[group] = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])["spectral"]
    fake, real = (powers(x[..., 0]) for x in (2 * batch["fields"], batch["maps"]))
    assert found[n] == pytest.approx(np.abs(fake.sum(axis=0) / real.sum(axis=0) - 1).mean(), rel=1e-4)
    measure = np.maximum(real, 0.1 * real.mean(axis=0))
    assert found[1] == pytest.approx((np.abs(fake - real) / measure).mean(), rel=1e-4)


def test_spectral_crps_is_that_of_two_realisations():
    """Of generated maps that are all alike: the absolute difference of the logarithms."""
    batch = linear_batch((8, 8))
    batch["noise"] = []
    step = linear_step("none", pixel="crps", spectral="crps", spectral_weight=1.0, maps_per_simulation=1)
    found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])["spectral"]
    fake, real = (powers(x[..., 0]) for x in (2 * batch["fields"], batch["maps"]))
    mean = real.mean(axis=0)
    assert found == pytest.approx(np.abs(np.log((fake / mean + 0.1) / (real / mean + 0.1))).mean(), rel=1e-4)


def test_mode_score_is_of_the_fields_asked_for():
    batch = linear_batch((8, 8))
    batch["noise"] = []
    scaling = Asinh(shift=0.3, scale=0.7, softening=2.0)
    options = dict(pixel="crps", pixel_weight=0.0, mode_weight=1.0, outputs=(scaling,))
    scaled = [2 * batch["fields"]] * 2 + [batch["maps"]]
    expected = {"scaled": float(mode_score(*scaled)), "physical": float(mode_score(*map(scaling.restore, scaled)))}
    for fields in (("scaled",), ("physical",), ("physical", "scaled")):
        step = linear_step("none", spectral_fields=fields, **options)
        found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])["modes"]
        assert found == pytest.approx(np.mean([expected[name] for name in fields]), rel=1e-4)


def test_pixel_loss_of_blocks():
    """Means of blocks are of physical values, scaled as these are."""
    batch = linear_batch((8, 8))
    scaling = Asinh(shift=0.3, scale=0.7, softening=2.0)
    step = linear_step("none", pixel_weight=1.0, pixel_scales=(1, 4), outputs=(scaling,))
    found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])["pixel"]

    def blocks(maps):
        return scaling.forward(scaling.restore(maps.astype(float)).reshape(-1, 2, 4, 2, 4, 1).mean(axis=(2, 4)))

    fake, true = 2 * batch["fields"], batch["maps"]
    expected = 0.5 * (np.abs(fake - true).mean() + np.abs(blocks(fake) - blocks(true)).mean())
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pixel", ["l1", "crps"])
def test_pixel_loss_of_the_brightest_and_the_faintest_of_blocks(pixel):
    """As much as cells each; 8 cells are two blocks of 3, and what is left over counts for nothing."""
    batch = linear_batch((8, 8))
    batch["noise"] = []
    step = linear_step("none", pixel=pixel, pixel_weight=1.0, extreme_scales=(3,))
    found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])["pixel"]
    missed = []
    fake, true = (x[:, :6, :6].reshape(-1, 2, 3, 2, 3) for x in (2 * batch["fields"], batch["maps"]))
    for extreme in (np.max, np.min):
        missed.append(np.abs(extreme(fake, axis=(2, 4)) - extreme(true, axis=(2, 4))).mean())
    assert found == pytest.approx(np.mean([np.abs(2 * batch["fields"] - batch["maps"]).mean(), *missed]), rel=1e-4)


def test_extremes_of_blocks_want_cells_to_be_empty_together():
    """Cells one by one are as content with realisations whose cells know nothing of each other."""
    rng = np.random.default_rng(1)

    def score(together, side):
        truth, *others = rng.normal(size=(3, 4000, 1, 1, 1)) + np.zeros((3, 4000, 4, 4, 1))
        if not together:
            others = list(rng.normal(size=(2, 4000, 4, 4, 1)))
        blocks = [np.asarray(block_extremes(x.astype("float32"), side)) for x in (*others, truth)]
        return float(np.mean(np.asarray(crps(*blocks))))

    assert score(True, 1) == pytest.approx(score(False, 1), rel=0.05)
    assert score(False, 4) > 2 * score(True, 4)


@pytest.mark.parametrize(
    ("name", "part", "score"), [("one_point", "one_point", one_point_crps), ("tail", "tails", tail_crps)]
)
def test_one_point_distributions_of_blocks(name, part, score):
    """The mean of the scores of cells and of means of blocks, of physical values, or of pairs of cells."""
    batch = linear_batch((8, 8))
    batch["noise"] = []
    scaling = Asinh(shift=0.3, scale=0.7, softening=2.0)
    options = {"pixel": "crps", "pixel_weight": 0.0, f"{name}_weight": 1.0, "outputs": (scaling,)}
    step = linear_step("none", one_point_scales=(1, 4), **options)
    found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])[part]

    def blocks(maps):
        means = scaling.restore(maps).reshape(-1, 2, 4, 2, 4, 1).mean(axis=(2, 4))
        return scaling.forward(means).astype(np.float32)

    fake, true = 2 * batch["fields"], batch["maps"]
    scores = [float(score(f(fake), f(fake), f(true))) for f in (np.asarray, blocks)]
    assert scores[0] != pytest.approx(scores[1], rel=0.1)
    assert found == pytest.approx(np.mean(scores), rel=1e-4)

    def pairs(maps, lag):
        others = [np.roll(maps, step, axis) for axis in (1, 2) for step in (-lag, lag)]
        found = np.minimum(maps, np.max(others, axis=0)), np.maximum(maps, np.min(others, axis=0))
        return [x[:, lag:-lag, lag:-lag] for x in found]

    step = linear_step("none", one_point_lags=(1, 3), **options)
    found = numbers(step(step.initial_state(), batch, 1, (0.0, 0.0), 0.9)[1])[part]
    of_lags = [zip(pairs(fake, lag), pairs(true, lag), strict=True) for lag in (1, 3)]
    scores[1:] = [float(score(f, f, t)) for kinds in of_lags for f, t in kinds]
    assert scores[0] != pytest.approx(scores[1], rel=0.1)
    assert found == pytest.approx(np.mean(scores), rel=1e-4)


def test_context_is_cut_off_before_any_loss():
    batch = linear_batch((8, 8))
    inner = {**batch, "fields": batch["fields"][:, 2:-2, 2:-2], "maps": batch["maps"][:, 2:-2, 2:-2]}
    options = dict(pixel_weight=1.0, spectral_weight=1.0, maps_per_simulation=1)
    losses = []
    for values, context in ((inner, 0), ({**batch, "maps": inner["maps"]}, 2)):
        step = linear_step("relativistic", r1=0.1, r2=0.1, context=context, **options)
        losses.append(numbers(step(step.initial_state(), values, 0, (0.0, 0.0), 0.9)[1]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_mean_power_is_held_by_running_means():
    """Twice as much power as there should be, and its gradient; then a batch without, and the means remember."""
    first, second = linear_batch((8, 8), seed=1), linear_batch((8, 8), seed=2)
    first["fields"], second["fields"] = 2**-0.5 * first["maps"], 2**-0.5 * second["maps"]
    step = linear_step("none", mean_power_weight=3.0, shape=(8, 8), spectral_fields=("physical", "scaled"))
    state, losses = step(step.initial_state(), first, 0, (0.0, 0.0), 0.9)
    generated, true = backends.host(state["mean_power"])
    P = powers(first["maps"][..., 0]).mean(axis=0)
    assert generated.shape == (2, 7, 1)
    sums = first["maps"].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(true[1, :, 0], [np.mean(sums**2), *P], rtol=1e-4)
    np.testing.assert_allclose(generated, 2 * true, rtol=1e-4)  # the square of the generator's 2 / sqrt(2)
    assert numbers(losses)["surplus"] == 1
    # d/dg of ln(g² / 2 + 0.1) is 2 / 2.1 at g = 2, for the mean and for the power, of the weight 3; Adam keeps half.
    assert backends.host(state["generator_m"]).item() == pytest.approx(0.5 * 3 * 2 * 2 / 2.1, rel=1e-4)
    second["fields"] = 0.5 * second["maps"]  # now all is right
    # Counted as the sixteenth batch: one part in 16 of the true mean, 8 in 16 of the generated one.
    state, losses = step(state, second, 15, (0.0, 0.0), 0.9)
    generated, true = backends.host(state["mean_power"])
    Q = powers(second["maps"][..., 0]).mean(axis=0)
    np.testing.assert_allclose(generated[1, 1:, 0], 0.5 * 2 * P + 0.5 * Q, rtol=1e-4)
    np.testing.assert_allclose(true[1, 1:, 0], 15 / 16 * P + 1 / 16 * Q, rtol=1e-4)


def test_mean_power_by_octave():
    """Power that is too high on the largest scale alone: one bin of six, but one octave of three."""
    batch = linear_batch((8, 8), seed=1)
    modes = np.fft.fft2(batch["maps"][..., 0])
    modes *= np.where(np.isin(np.hypot(*np.meshgrid(*[8 * np.fft.fftfreq(8)] * 2)), [1, 2**0.5]), 2**0.5, 1)
    batch["fields"] = 0.5 * np.fft.ifft2(modes).real[..., None].astype("float32")
    gradients = []
    for by_octave in (False, True):
        step = linear_step("none", mean_power_weight=3.0, shape=(8, 8), modes_by_octave=by_octave)
        state, _ = step(step.initial_state(), batch, 0, (0.0, 0.0), 0.9)
        gradients.append(backends.host(state["generator_m"]).item())
    assert gradients[0] > 0 and gradients[1] == pytest.approx(2 * gradients[0], rel=1e-3)


# -- as a telescope sees it ----------------------------------------------------------------------------------


def test_maps_are_observed_as_stamps_are():
    """In the graph as by :func:`higan.photometry.observe`, in units of each map's flux."""
    rng = np.random.default_rng(1)
    scaling = Asinh(shift=0.3, scale=2.0, softening=0.01)
    config = backends.step_config("none", outputs=(scaling,), kernel=acs_kernel(), noise=0.5)
    step = Step.__new__(Step)
    step.config = config
    maps = rng.uniform(size=(4, 40, 40, 1)).astype("float32")
    sky, flux = rng.normal(size=maps.shape).astype("float32"), np.array([1.0, 4.0], "float32")
    scaled = ops.convert_to_tensor(scaling.forward(maps).astype("float32"))
    batch = {"sky": ops.convert_to_tensor(sky), "flux": ops.convert_to_tensor(flux)}
    found = np.concatenate([backends.host(half) for half in step._observed(scaled[:2], scaled[2:], batch)])
    seen = observe(maps[..., 0])[..., None] + 0.5 * sky / np.tile(flux, 2).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found, scaling.forward(seen), atol=2e-4)
    step.config = backends.step_config("none", outputs=(scaling,))
    real, fake = scaled[:2], scaled[2:]
    assert all(a is b for a, b in zip(step._observed(real, fake, {}), (real, fake), strict=True))
