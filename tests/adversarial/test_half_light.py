import numpy as np
import pytest

from higan.adversarial.half_light import half_light_error
from higan.photometry import measure


def exponential(scale, axis_ratio=1.0, centre=(31.5, 31.5)):
    y, x = np.indices((64, 64)) - np.array(centre)[:, None, None]
    image = np.exp(-np.hypot(y / np.sqrt(axis_ratio), x * np.sqrt(axis_ratio)) / scale)
    return (image / image.sum()).astype("float32")


def error(stamps, radii):
    return float(half_light_error(np.asarray(stamps)[..., None], np.asarray(radii, "float32")))


def test_half_of_the_light_lies_within_the_measured_radius():
    """By the same centroid and the same circle, whatever the galaxy's size, flattening and place."""
    stamps = [exponential(1.5), exponential(5), exponential(3, 0.3), exponential(4, 0.6, (29, 35.3))]
    for stamp in stamps:
        radius = measure(stamp)["flux_radius"]
        assert error([stamp], [radius]) < 0.02**2
    assert error(stamps, measure(np.array(stamps))["flux_radius"]) < 0.02**2


def test_what_a_wrong_radius_costs():
    """The light of an exponential within x scale lengths is 1 - (1 + x) exp(-x); each stamp counts for itself."""
    stamp = exponential(4)
    for x in (1.0, 1.678, 3.0):
        share = 1 - (1 + x) * np.exp(-x)
        assert error([stamp], [4 * x]) == pytest.approx((2 * share - 1) ** 2, abs=0.01)
    both = error([stamp, stamp], [4.0, 12.0])
    assert both == pytest.approx((error([stamp], [4.0]) + error([stamp], [12.0])) / 2, rel=1e-5)
