"""The loss on asymmetries, against those that the validation measures."""

import numpy as np
import pytest

from higan import morphology
from higan.adversarial.asymmetry import FLOOR, asymmetry, asymmetry_crps


def lopsided(amounts, seed=0):
    """Exponential discs about the middle with a knot each, of so much of their light."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((64, 64)) - 31.5
    disc = np.exp(-np.hypot(y, x) / 5)
    stamps = []
    for amount, angle in zip(amounts, rng.uniform(0, 2 * np.pi, len(amounts)), strict=True):
        knot = np.exp(-((y - 5 * np.sin(angle)) ** 2 + (x - 5 * np.cos(angle)) ** 2) / 8)
        stamps.append(disc / disc.sum() + amount * knot / knot.sum())
    return np.array(stamps, "float32")[..., None]


def test_asymmetry_is_nearly_that_of_the_validation():
    """Which looks for the centre that makes it least, and leaves out what lies far away."""
    amounts = np.array([0.0, 0.05, 0.15, 0.3])
    found = np.asarray(asymmetry(lopsided(amounts)))[:, 0]
    measured = morphology.shapes(lopsided(amounts)[:, None, ..., 0])["asymmetry"].ravel()
    # A knot apart from its image counts twice, there and where it is missing.
    assert found == pytest.approx(2 * amounts / (1 + amounts), abs=0.03)
    assert found == pytest.approx(measured, abs=0.1)
    assert (np.diff(measured) > 0).all()


def test_as_many_smooth_galaxies_as_in_the_truth_cost_least():
    def drawn(share, amount, seed):
        smooth = np.random.default_rng(seed).random(400) < share
        return lopsided(np.where(smooth, 0.0, amount), seed)

    def score(share, amount=0.3):
        return float(asymmetry_crps(drawn(share, amount, 1), drawn(share, amount, 2), drawn(0.5, 0.3, 3)))

    right = score(0.5)
    assert right < score(0.2) and right < score(0.8)
    assert right < score(0.5, amount=0.1) and right < score(0.5, amount=0.9)


def test_faint_lumps_on_smooth_galaxies_cost():
    smooth, lumpy = lopsided(np.zeros(4)), lopsided(np.full(4, 0.01))
    expected = np.log(1 + float(asymmetry(lumpy)[0, 0]) / FLOOR)
    assert float(asymmetry_crps(lumpy, lumpy, smooth)) == pytest.approx(expected, rel=0.05)
    assert expected > 1
    empty = np.zeros_like(smooth)
    assert float(asymmetry_crps(empty, empty, empty)) == 0
