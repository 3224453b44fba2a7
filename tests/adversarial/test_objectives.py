import numpy as np
import pytest
from keras import ops

from higan.adversarial import objectives
from higan.errors import RecipeError
from tests import backends


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


# Discriminator's and generator's loss of logits r (true) and f (generated), as the papers write them.
FORMULAS = {
    "minimax": (lambda r, f: -log_sigmoid(r) - log_sigmoid(-f), lambda r, f: log_sigmoid(-f)),
    "nonsaturating": (lambda r, f: -log_sigmoid(r) - log_sigmoid(-f), lambda r, f: -log_sigmoid(f)),
    "lsgan": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "hinge": (lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "wgan-gp": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: -log_sigmoid(r - f), lambda r, f: -log_sigmoid(f - r)),
}


def logits(shape=(5, 4, 4, 1), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=2, size=shape).astype("float32"), rng.normal(scale=2, size=shape).astype("float32")


def value(function, *arguments):
    return float(backends.host(function(*map(ops.convert_to_tensor, arguments))))


def test_each_objective_is_tried():
    assert set(FORMULAS) == set(objectives.OBJECTIVES)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("shape", [(7,), (3, 8, 8, 1), (2, 4, 4, 4, 1)])
def test_formula(name, shape):
    objective, (real, fake) = objectives.objective(name), logits(shape)
    for function, formula in zip((objective.discriminator, objective.generator), FORMULAS[name], strict=True):
        expected = formula(real.astype(np.float64), fake.astype(np.float64)).mean()
        assert value(function, real, fake) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_who_wants_what(name):
    """Higher generated logits please the generator and displease the discriminator; higher true ones the reverse."""
    objective, (real, fake) = objectives.objective(name), logits()
    if name == "lsgan":
        # Its targets are 1 and 0, so that "higher is better" holds between them.
        real, fake = real / 20 + 0.4, fake / 20 + 0.4
    assert value(objective.generator, real, fake + 0.1) < value(objective.generator, real, fake)
    assert value(objective.discriminator, real, fake + 0.1) > value(objective.discriminator, real, fake)
    assert value(objective.discriminator, real + 0.1, fake) < value(objective.discriminator, real, fake)


@pytest.mark.parametrize("name", FORMULAS)
def test_extreme_logits_are_finite(name):
    objective = objectives.objective(name)
    extreme = np.array([-1e4, 1e4], "float32")
    for function in (objective.discriminator, objective.generator):
        assert np.isfinite(value(function, extreme, extreme[::-1]))


def test_minimax_saturates_where_nonsaturating_does_not():
    """Where the discriminator is sure (f = -10) the slope is -σ(f) for the one and -(1 - σ(f)) for the other."""
    real = np.zeros(1, "float32")
    for name, slope in (("minimax", -4.54e-5), ("nonsaturating", -0.99995)):
        generator = objectives.objective(name).generator
        values = [value(generator, real, np.array([f], "float32")) for f in (-10.5, -9.5)]
        assert values[1] - values[0] == pytest.approx(slope, rel=0.05)


def test_equilibrium():
    """A discriminator that knows nothing: log 4, log 2, and log 2 for the relativistic pair."""
    nothing = np.zeros((4, 8, 8, 1), "float32")
    assert value(objectives.objective("minimax").discriminator, nothing, nothing) == pytest.approx(np.log(4))
    assert value(objectives.objective("nonsaturating").generator, nothing, nothing) == pytest.approx(np.log(2))
    for function in (objectives.relativistic_discriminator, objectives.relativistic_generator):
        # Only differences count: any logit that true and generated maps share.
        assert value(function, nothing + 3, nothing + 3) == pytest.approx(np.log(2))


def test_unknown_name():
    with pytest.raises(RecipeError, match=r"no objective 'gan'\. Choose one of minimax, nonsaturating, lsgan, hinge"):
        objectives.objective("gan")


def test_only_wasserstein_asks_for_interpolates():
    assert [name for name, item in objectives.OBJECTIVES.items() if item.interpolated] == ["wgan-gp"]


@pytest.mark.parametrize("shape", [(8,), (8, 8), (16, 16), (4, 6, 8)])
def test_penalties_of_a_linear_discriminator(shape):
    """D = mean over cells of w·x: N ||∇D||² = |w|², whatever the number of cells and patches."""
    w = np.array([0.6, -0.8, 1.5])
    gradient = np.broadcast_to(w / np.prod(shape), (4, *shape, 3)).astype("float32")
    assert value(objectives.zero_centred_penalty, gradient) == pytest.approx(w @ w, rel=1e-5)
    assert value(objectives.unit_norm_penalty, gradient) == pytest.approx((np.sqrt(w @ w) - 1) ** 2, rel=1e-4)


def test_penalties_are_means_over_maps():
    gradient = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32") / 64
    norms = 64 * (gradient.astype(np.float64) ** 2).sum(axis=(1, 2, 3))
    assert value(objectives.zero_centred_penalty, gradient) == pytest.approx(norms.mean(), rel=1e-5)
    assert value(objectives.unit_norm_penalty, gradient) == pytest.approx(((np.sqrt(norms) - 1) ** 2).mean(), rel=1e-5)
    assert value(objectives.zero_centred_penalty, np.zeros_like(gradient)) == 0
    assert np.isfinite(value(objectives.unit_norm_penalty, np.zeros_like(gradient)))


def test_crps_is_least_for_the_distribution_of_the_truth():
    """Of normal distributions around the truth's mean, that with its scatter; the absolute difference wants none."""
    y, first, second = np.random.default_rng(1).normal(size=(3, 200_000))
    scores = {
        width: backends.host(objectives.crps(*map(ops.convert_to_tensor, (width * first, width * second, y)))).mean()
        for width in (0.0, 0.7, 1.0, 1.4)
    }
    assert min(scores, key=scores.get) == 1.0
    # The mean of |y| without scatter; with the truth's, as Gneiting & Raftery 2007 have it below eq. 21, 1 / sqrt(pi).
    assert scores[0.0] == pytest.approx(np.sqrt(2 / np.pi), rel=1e-2)
    assert scores[1.0] == pytest.approx(1 / np.sqrt(np.pi), rel=1e-2)
