"""Shells of the sky against CAMB's spectra, the mean temperature from first principles, and Poisson noise."""

import healpy as hp
import numpy as np
import pytest
from astropy import constants, units

from higan.cli import main
from higan.errors import HiganError
from higan.mapset import MapSet
from higan.simulators import simulate, simulator
from higan.simulators.shells import SHOT_NOISE, H, mean_temperature

pytest.importorskip("glass")
pytest.importorskip("camb")

THETA = {"SIGMA_8": 0.8, "OMm": 0.31, "HI_BIAS": 1.5}
NSIDE = 32


@pytest.fixture(scope="module")
def shells():
    code = simulator("shells", nside=NSIDE)
    return code, [code.run(THETA, seed) for seed in range(4)]


def test_matter_has_the_spectrum_of_camb(shells):
    code, drawn = shells
    expected = code.angular_power(THETA)
    found = np.mean([hp.anafast(sky["density"], lmax=2 * NSIDE) for sky in drawn], axis=0)
    degree = np.arange(2 * NSIDE + 1)
    for low, high in ((2, 16), (16, 32), (32, 48), (48, 64)):
        band = slice(low, high)
        weight = 2 * degree[band] + 1
        error = np.sqrt(2 / (weight.sum() * len(drawn)))
        ratio = (weight * found[band] / expected[: 2 * NSIDE + 1][band]).sum() / weight.sum()
        assert ratio == pytest.approx(1, abs=4 * error + 0.01)
    assert min(sky["density"].min() for sky in drawn) > -1


def test_hydrogen_has_its_mean_bias_and_shot_noise(shells):
    _, drawn = shells
    mean = mean_temperature(1.0, THETA["OMm"])
    for sky in drawn:
        density, temperature = (sky[name].astype(float) for name in ("density", "brightness_temp"))
        assert temperature.mean() == pytest.approx(mean, rel=0.01)
        expected = (1 + density) ** THETA["HI_BIAS"]
        expected *= mean / expected.mean()
        # A Poisson distribution has the variance of its mean.
        unit = mean * SHOT_NOISE / (4 * np.pi * distance_cubed() / len(density))
        noise = ((temperature - expected) ** 2).mean() / (expected.mean() * unit)
        assert noise == pytest.approx(1, abs=0.05)


def distance_cubed():
    """A third of the difference of cubes of the shell's radii, (Mpc/h)³."""
    from higan.simulators.shells import _cosmology

    middle = _cosmology(THETA["OMm"]).comoving_distance(1.0).value
    return ((middle + 50) ** 3 - (middle - 50) ** 3) / 3 * H**3


def test_the_mean_temperature_from_first_principles():
    """3 h_P c³ A_10 n_HI / (32 π k_B ν² H) / (1 + z), n_HI of proper volume."""
    z, omega_m = 1.0, 0.31
    hubble = 100 * H * units.km / units.s / units.Mpc
    expansion = hubble * np.sqrt(omega_m * (1 + z) ** 3 + 1 - omega_m)
    density = 4e-4 * (1 + z) ** 0.6 * 3 * hubble**2 / (8 * np.pi * constants.G)
    number = density / (constants.m_p + constants.m_e) * (1 + z) ** 3
    rate, frequency = 2.869e-15 / units.s, 1.420405751e9 * units.Hz
    line = 3 * constants.h * constants.c**3 * rate * number / (32 * np.pi * constants.k_B * frequency**2 * expansion)
    assert mean_temperature(z, omega_m) == pytest.approx((line / (1 + z)).to_value(units.mK), rel=0.01)


def test_a_set_of_shells(tmp_path, capsys):
    path = simulate("shells", output=tmp_path / "shells.h5", simulations=[23], nside=8)
    maps = MapSet.open(path)
    assert maps.geometry.kind == "healpix" and maps.geometry.ordering == "RING" and maps.geometry.thickness == 100
    assert maps.shape == (12 * 8**2,) and maps.extra["split"].tolist() == ["test"]
    theta = dict(zip(maps.parameter_names, maps.parameters[0], strict=True))
    again = simulator("shells", nside=8).run(theta, int(maps.extra["seeds"][0]))
    np.testing.assert_array_equal(maps.read("brightness_temp")[0], again["brightness_temp"])
    assert main(["patches", str(path), "--output", str(tmp_path / "patches.h5"), "--side-cells", "4"]) == 0
    assert "48 maps of 4 x 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"), [({"nside": 12}, "power of two"), ({"thickness": 1e4}, "no shell of")]
)
def test_shells_that_cannot_be(settings, message):
    with pytest.raises(HiganError, match=message):
        simulator("shells", **settings).check()
