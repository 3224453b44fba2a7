import numpy as np
import pytest

from higan.networks.config import DiscriminatorConfig
from higan.networks.discriminator import build_discriminator
from tests import backends


def build(ndim=2, n_inputs=1, n_parameters=2, widths=(4, 8)):
    config = DiscriminatorConfig(widths=list(widths), embedding=8)
    return build_discriminator(config, ndim=ndim, n_inputs=n_inputs, n_outputs=1, n_parameters=n_parameters, seed=1)


def arguments(shape, n_inputs=1, n_parameters=2, n=2):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, *shape, 1)).astype("float32")]
    if n_inputs:
        values.append(rng.normal(size=(n, *shape, n_inputs)).astype("float32"))
    if n_parameters:
        values.append(rng.uniform(-1, 1, size=(n, n_parameters)).astype("float32"))
    return values


def call(model, values):
    return [backends.host(x) for x in model(values)]


@pytest.mark.parametrize(("ndim", "shape"), [(1, (24,)), (2, (16, 8)), (3, (8, 4, 8))])
def test_logits_at_each_scale(ndim, shape):
    logits = call(build(ndim, widths=(4, 6, 8)), arguments(shape))
    assert [x.shape for x in logits] == [(2, *(n >> level for n in shape), 1) for level in range(3)]
    for scale in logits:
        # Logits of order one that differ from patch to patch, not probabilities.
        assert np.isfinite(scale).all() and scale.min() < 0 and 0.01 < scale.std() < 10


@pytest.mark.parametrize("which", [0, 1, 2])
def test_map_condition_and_parameters_are_seen_at_each_scale(which):
    model, values = build(), arguments((8, 8))
    other = list(values)
    other[which] = values[which][::-1]
    for before, after in zip(call(model, values), call(model, other), strict=True):
        assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize(("n_inputs", "n_parameters", "names"), [(0, 0, ["maps"]), (0, 2, ["maps", "parameters"])])
def test_unconditional(n_inputs, n_parameters, names):
    model = build(n_inputs=n_inputs, n_parameters=n_parameters)
    assert [x.name for x in model.inputs] == names
    assert len(call(model, arguments((8, 8), n_inputs, n_parameters))) == 2


def test_periodic():
    model, values = build(), arguments((8, 8))
    rolled = [np.roll(x, 2, 1) if x.ndim == 4 else x for x in values]
    for level, (before, after) in enumerate(zip(call(model, values), call(model, rolled), strict=True)):
        np.testing.assert_allclose(after, np.roll(before, 2 >> level, 1), atol=2e-6)


def test_the_coarsest_scale_sees_more():
    """One cell changed: the finest logits notice nearby only, the coarsest farther away."""
    model, values = build(widths=(4, 6, 8)), arguments((48, 48), n=1)
    before = call(model, values)
    values[0][0, 24, 24] += 3.0
    reach = []
    for level, (old, new) in enumerate(zip(before, call(model, values), strict=True)):
        rows = np.flatnonzero(np.abs(new - old)[0, ..., 0].max(axis=1) > 1e-6)
        reach.append((rows.max() + 1 << level) - 24)
    assert reach[0] == 4  # three 3 x 3 convolutions, and the end of the cell
    assert reach[0] < reach[1] < reach[2] < 24
