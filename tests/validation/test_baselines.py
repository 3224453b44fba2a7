"""Baselines recover the laws they are made for."""

import h5py
import numpy as np
import pytest

from higan.errors import CheckpointError, MapSetError, OutputError, ParameterError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.validation.baselines import Baselines
from higan.validation.power_spectrum import power_spectrum, wavenumbers
from tests.validation.fields import CELL, gaussian, map_set

SHAPE = (32, 32)


@pytest.fixture(scope="module")
def density():
    return gaussian(np.random.default_rng(1), 60, SHAPE, lambda k: 5 * k**-1.5).astype("float32")


@pytest.fixture(scope="module")
def theta():
    """30 simulations, two maps each."""
    return np.random.default_rng(2).uniform(-1, 1, size=(30, 2))


def paired(density, output, theta):
    return MapSet(
        {"x": Field(density), "y": Field(np.asarray(output, "float32"), "mK")},
        theta,
        [Parameter("a", "", -1, 1), Parameter("b", "", -1, 1)],
        np.repeat(np.arange(len(theta)), 2),
        Geometry(ndim=2, box_size=CELL * SHAPE[0]),
    )


def smoothed(density, theta):
    """A smoothing, its amplitude and a mean that are quadratic in the parameters."""
    a, b = np.repeat(theta, 2, axis=0).T[:, :, None, None]
    x_k = np.fft.rfftn(density, axes=(1, 2)) * np.exp(-0.5 * wavenumbers(SHAPE, CELL) ** 2)
    return 3 + a * b + (2 + a**2 - b) * np.fft.irfftn(x_k, SHAPE, axes=(1, 2))


def test_linear_transfer_recovers_a_filter(density, theta):
    baselines = Baselines.fit(paired(density, smoothed(density, theta), theta), "x", "y")
    new = gaussian(np.random.default_rng(3), 4, SHAPE, lambda k: 5 * k**-1.5)
    at = np.random.default_rng(4).uniform(-0.8, 0.8, size=(2, 2))
    expected = smoothed(new, at)
    for name in ("linear_transfer", "amplitude_transfer"):
        painted = baselines.paint(name, new, np.repeat(at, 2, axis=0))
        # The filter is measured in bins of k and interpolated between them.
        assert (painted - expected).std() < 0.05 * expected.std()


def test_linear_transfer_ignores_what_the_input_does_not_say(density, theta):
    output = density + gaussian(np.random.default_rng(5), 60, SHAPE, lambda k: 5 * k**-1.5)
    baselines = Baselines.fit(paired(density, output, theta), "x", "y")
    at = np.zeros((60, 2))
    P = {name: power_spectrum(baselines.paint(name, density, at), CELL)[1].mean(0) for name in baselines.names[:2]}
    P_y = power_spectrum(output, CELL)[1].mean(0)
    np.testing.assert_allclose((P["linear_transfer"] / P_y)[3:], 0.5, atol=0.12)
    np.testing.assert_allclose((P["amplitude_transfer"] / P_y)[3:], 1.0, atol=0.12)


@pytest.mark.parametrize("sign", [1, -1])
def test_local_remap_recovers_a_monotone_map(density, theta, sign):
    def law(x, a):
        return np.exp(sign * 0.2 * x) * (2 + a)

    a = np.repeat(theta[:, :1], 2, axis=0)[:, :, None]
    baselines = Baselines.fit(paired(density, law(density, a), theta), "x", "y")
    assert baselines.floor == 0
    painted = baselines.paint("local_remap", density[:4], np.tile([0.5, 0.0], (4, 1)))
    expected = law(density[:4], 0.5)
    core = np.abs(density[:4]) < 2 * density.std()  # quantiles of extremes are few
    assert np.abs(painted / expected - 1)[core].max() < 0.06
    assert painted.min() >= 0


def test_log_normal_has_mean_and_power_but_no_memory(density, theta):
    contrast = 0.15 * density
    output = 5 * np.exp(contrast - contrast.var() / 2)
    maps = paired(density, output, theta)
    baselines = Baselines.fit(maps, "x", "y")
    painted = baselines.paint("log_normal", np.repeat(density[:4], 50, axis=0), np.zeros((200, 2)), seed=1)
    assert painted.min() > 0
    assert painted.mean() == pytest.approx(5, rel=0.02)
    P, P_y = (power_spectrum(values, CELL)[1].mean(0) for values in (painted, output))
    np.testing.assert_allclose((P / P_y)[2:], 1.0, atol=0.15)
    memory = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(painted, np.repeat(output[:4], 50, axis=0), strict=True)
    ]
    assert abs(np.mean(memory)) < 0.05


def test_log_normal_phases_follow_seed_and_row_alone(density, theta):
    baselines = Baselines.fit(paired(density, density + 10, theta), "x", "y")
    whole = baselines.paint("log_normal", density[:6], np.zeros((6, 2)), seed=1)
    part = baselines.paint("log_normal", density[4:6], np.zeros((2, 2)), seed=1, rows=[4, 5])
    np.testing.assert_array_equal(whole[4:], part)
    assert (baselines.paint("log_normal", density[:1], np.zeros((1, 2)), seed=2) != whole[:1]).all()


def test_other_shapes_and_dimensions(density, theta):
    baselines = Baselines.fit(paired(density, density + 10, theta), "x", "y")
    for name in baselines.names:
        assert baselines.paint(name, np.ones((1, 20, 50)), {"a": 0.0, "b": 0.0}).shape == (1, 20, 50)
    boxes = map_set(n_sim=3, shape=(8, 8, 8))
    fitted = Baselines.fit(boxes, "density", "brightness_temp")
    assert all(np.isfinite(fitted.paint(n, np.ones((1, 8, 8, 8)), np.full((1, 1), 2.0))).all() for n in fitted.names)


def test_a_field_that_vanishes_in_some_simulations(density, theta):
    output = np.maximum(density, 0) * (np.repeat(theta[:, 0], 2) > 0)[:, None, None]
    baselines = Baselines.fit(paired(density, output, theta), "x", "y")
    for name in baselines.names:
        assert np.isfinite(baselines.paint(name, density, np.repeat(theta, 2, axis=0))).all()


def test_save_and_load(tmp_path, density, theta):
    baselines = Baselines.fit(paired(density, density + 10, theta), "x", "y")
    path = baselines.save(tmp_path / "baselines.h5")
    assert path.stat().st_size < 200_000
    again = Baselines.load(path)
    for name in baselines.names:
        at = np.zeros((2, 2))
        np.testing.assert_array_equal(again.paint(name, density[:2], at), baselines.paint(name, density[:2], at))
    with pytest.raises(OutputError, match="exists already"):
        baselines.save(path)
    with h5py.File(path, "r+") as file:
        del file["coefficients/mean"]
    with pytest.raises(CheckpointError, match="cannot be read"):
        Baselines.load(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Baselines.load(path)


def test_fit_uses_training_simulations_alone():
    maps = map_set()
    train = np.flatnonzero(maps.extra["split"][maps.simulation] == "train")
    a = Baselines.fit(maps, "density", "brightness_temp")
    b = Baselines.fit(maps, "density", "brightness_temp", train)
    assert a.simulations == 8
    np.testing.assert_array_equal(a.coefficients["transfer"], b.coefficients["transfer"])
    with pytest.raises(MapSetError, match="no training simulations"):
        Baselines.fit(maps, "density", "brightness_temp", [])


def test_what_does_not_fit_is_refused(density, theta):
    baselines = Baselines.fit(paired(density, density, theta), "x", "y")
    with pytest.raises(ParameterError, match="no baseline"):
        baselines.paint("magic", density[:1], np.zeros((1, 2)))
    with pytest.raises(ParameterError, match="shape"):
        baselines.paint("local_remap", density[:1], np.zeros((1, 3)))
    with pytest.raises(ParameterError, match="b is missing"):
        baselines.paint("local_remap", density[:1], {"a": 0.0})
    with pytest.raises(MapSetError, match="no field 'x'"):
        baselines.check(map_set())
