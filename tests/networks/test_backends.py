"""The networks are the same on every backend."""

import numpy as np
import pytest

from tests import backends


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_initial_weights(backend, request):
    assert str(request.getfixturevalue(f"{backend}_results")["initial_weights"]) == backends.initial_weights()


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("what", ["top_hats", "smoothed"])
def test_what_is_seen_of_the_matter(what, backend, request):
    found = request.getfixturevalue(f"{backend}_results")[what]
    np.testing.assert_allclose(found, getattr(backends, what)(), atol=1e-5)


def test_initial_weights_depend_on_seed_and_layer():
    from higan.networks.layers import HostNormal

    draws = [HostNormal(*what, 1.0)((3, 3, 16, 16)) for what in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    draws = [backends.host(x).ravel() for x in draws]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert max(abs(np.corrcoef(draws[0], other)[0, 1]) for other in draws[2:]) < 4 / np.sqrt(draws[0].size)
    # Standard deviation gain / sqrt(fan_in) = 1/12, within 4 sigma.
    assert abs(draws[0].std() * 12 - 1) < 4 / np.sqrt(2 * draws[0].size)
