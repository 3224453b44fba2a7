"""Shapes as a loss: Gaussian galaxies and planted points, of which every number is known."""

import numpy as np
import pytest

from higan.adversarial.shapes import (
    ELLIPTICITY,
    FAINT,
    FLOOR,
    OF_KNOTS,
    RING,
    RINGS,
    WEIGHTS,
    shape_numbers,
    shape_score,
)
from tests import backends

RADIUS = 6.0
N_RINGS, N_WEIGHTS = len(RINGS) - 1, len(WEIGHTS)


def galaxies(q, radius=RADIUS, cells=96, angle=0.4):
    """Gaussians of axis ratios `q` whose half-light radius would be `radius` if they were round, with one channel."""
    y, x = np.indices((cells, cells)) - (cells - 1) / 2
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    q = np.atleast_1d(np.asarray(q, float))[:, None, None]
    width = radius / np.sqrt(2 * np.log(2))
    return np.exp(-0.5 * (along**2 * q + across**2 / q) / width**2)[..., None].astype("float32")


def numbers(stamps):
    return backends.host(shape_numbers(stamps, np.full(len(stamps), RADIUS, "float32")))[:, 0]


def score(*stamps):
    return float(backends.host(shape_score(*stamps, np.full(len(stamps[-1]), RADIUS, "float32"))))


def test_numbers_of_gaussian_galaxies():
    q = 0.5
    found = numbers(galaxies([1.0, q]))
    assert found.shape == (2, N_RINGS + N_WEIGHTS + 3)
    np.testing.assert_allclose(found[0, :N_RINGS] * RING, np.diff(1 - 0.5**RINGS**2), atol=8e-3)
    widths = np.array(WEIGHTS) * RADIUS
    along, across = (1 / (power * 2 * np.log(2) / RADIUS**2 + 1 / widths**2) for power in (q, 1 / q))
    expected = (along - across) / (along + across)
    np.testing.assert_allclose(found[1, N_RINGS:-3] * ELLIPTICITY, expected, rtol=0.01)
    smooth = [np.log(FLOOR), 0.0, np.log(FAINT / FLOOR) / OF_KNOTS]
    np.testing.assert_allclose(found[:, -3:], [smooth, smooth], atol=5e-3)


@pytest.mark.parametrize("count, inside", [(4, 4), (4, 1), (16, 16), (16, 4)])
def test_numbers_of_knots(count, inside):
    """A fifth of the light in as many pixels, some of them within the half-light radius."""
    stamp = galaxies(1.0)
    stamp /= stamp.sum()
    y, x = np.indices(stamp.shape[1:3]) - 47.5
    away = np.hypot(x, y)
    # In the upper half: no pixel is another one's after half a turn.
    near, far = (np.argwhere((y < 0) & (low < away) & (away < high)) for low, high in ((0, 5), (8, 14)))
    for row, column in [*near[:inside], *far[: count - inside]]:
        stamp[0, row, column, 0] += 0.25 / count
    moved, within, root = numbers(stamp)[0, -3:]
    assert moved == pytest.approx(np.log(0.4 + FLOOR), abs=0.02)
    assert within * OF_KNOTS + moved == pytest.approx(np.log(0.4 * inside / count + FLOOR), abs=0.02)
    assert root * OF_KNOTS + moved == pytest.approx(np.log(0.2 * np.sqrt(2 / count) + FAINT), abs=0.02)


def test_the_score_does_not_depend_on_direction_or_light():
    first, second, real = (galaxies(q) for q in (0.3, 0.5, 0.8))
    turned = score(galaxies(0.3, angle=1.1), np.rot90(second, axes=(1, 2)), 100 * real)
    assert turned == pytest.approx(score(first, second, real), rel=0.02)


def test_the_score_tells_which_numbers_go_together():
    """Large flat and small round galaxies: the same ellipticities and sizes, exchanged, score worse."""
    rng, n = np.random.default_rng(1), 300
    stamps = np.concatenate([galaxies([0.3, 1.0], radius, 48) for radius in (4.0, 8.0)])  # flat, round; small, large

    def drawn(exchanged):
        large = rng.integers(2, size=n)
        flat = rng.integers(2, size=n) if exchanged else large
        return stamps[2 * large + 1 - flat]

    true, right, wrong = ([drawn(exchanged) for _ in range(2)] for exchanged in (False, False, True))
    assert score(*right, true[0]) < score(*wrong, true[0]) - 0.05
    assert score(true[0], true[0], true[0]) == pytest.approx(0, abs=1e-5)
