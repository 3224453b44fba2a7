"""Magnitudes and radii against profiles whose own are known."""

import numpy as np
import pytest

from higan.photometry import PIXEL, PSF_FWHM, SKY_NOISE, ZERO_POINT, UnitFlux, acs_kernel, flux, measure, observe

galsim = pytest.importorskip("galsim", reason="GalSim is not installed: pip install 'higan[simulate]'")


@pytest.mark.parametrize("fwhm", [8.0, 12.5])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.4), (3.0, 2.0)])
def test_gaussian(fwhm, offset):
    """Half of a circular Gaussian's light lies within half its FWHM, wherever its centre is."""
    y, x = np.indices((64, 64)) - 31.5
    stamp = np.exp(-4 * np.log(2) * ((x - offset[0]) ** 2 + (y - offset[1]) ** 2) / fwhm**2)
    found = measure(50 * stamp / stamp.sum())
    assert found["flux_radius"] == pytest.approx(fwhm / 2, abs=0.02)
    assert found["mag_auto"] == pytest.approx(ZERO_POINT - 2.5 * np.log10(50), abs=1e-6)


@pytest.mark.parametrize("n", [1.0, 2.5])
def test_sersic_profiles_of_galsim(n):
    """Half-light radii as GalSim calculates them, of profiles that a stamp holds."""
    profile = galsim.Convolve(galsim.Sersic(n, half_light_radius=0.15, flux=30.0), galsim.Gaussian(fwhm=0.075))
    stamp = profile.drawImage(nx=256, ny=256, scale=PIXEL).array
    found = measure(stamp)
    assert found["flux_radius"] * PIXEL == pytest.approx(profile.calculateHLR(), rel=0.01)
    assert found["mag_auto"] == pytest.approx(ZERO_POINT - 2.5 * np.log10(30), abs=0.01)


def test_shapes_and_stamps_without_light():
    stamps = np.ones((2, 3, 16, 16))
    stamps[0, 1] = 0
    stamps[1, 2] = -1
    found = measure(stamps)
    for values in found.values():
        assert values.shape == (2, 3)
        assert np.isnan(values).sum() == 2 and np.isnan(values[0, 1]) and np.isnan(values[1, 2])


def test_unit_flux():
    maps = np.random.default_rng(1).uniform(size=(5, 4, 4)).astype("float32")
    magnitudes = np.array([20.0, 21.0, 22.0, 23.0, 24.0])
    view = UnitFlux(maps, flux(magnitudes))
    assert view.shape == maps.shape and view.dtype == np.float32
    for index in (slice(1, 4), np.array([0, 3])):
        np.testing.assert_allclose(view[index] * flux(magnitudes[index])[:, None, None], maps[index], rtol=1e-6)
    np.testing.assert_array_equal(view[1:4, 1:3], view[1:4][:, 1:3])  # as of a crop
    assert flux(ZERO_POINT - 2.5) == pytest.approx(10)


# -- the telescope -------------------------------------------------------------------------------------------


def test_the_kernel_is_galsim_s():
    """The same aperture and blur drawn by GalSim, without a pixel."""
    galsim = pytest.importorskip("galsim")
    blur = galsim.Gaussian(fwhm=np.sqrt(0.093**2 - PSF_FWHM**2))
    psf = galsim.Convolve(galsim.Airy(lam=814, diam=2.4, obscuration=0.33), blur)
    image = psf.drawImage(nx=31, ny=31, scale=PIXEL, method="no_pixel").array
    np.testing.assert_allclose(acs_kernel(), image / image.sum(), atol=3e-3 * image.max() / image.sum())
    np.testing.assert_allclose(acs_kernel(), acs_kernel().T, atol=1e-12)
    np.testing.assert_allclose(acs_kernel(), acs_kernel()[::-1], atol=1e-12)


def test_the_noise_of_the_sky():
    stamps = np.zeros((40, 64, 64), "float32")
    seen = observe(stamps, np.random.default_rng(1))
    assert seen.dtype == np.float32 and seen.std() == pytest.approx(SKY_NOISE, rel=0.01)
    assert abs(np.mean(seen[:, 1:] * seen[:, :-1])) < 0.01 * SKY_NOISE**2
    np.testing.assert_array_equal(seen, observe(stamps, np.random.default_rng(1)))
    assert observe(stamps, np.random.default_rng(1), noise=0.0).max() == 0


def test_a_galaxy_grows_and_keeps_its_flux():
    y, x = np.indices((64, 64)) - 31.5
    stamp = np.exp(-(y**2 + x**2) / 2 / 3.0**2)
    seen = observe(stamp)
    assert seen.sum() == pytest.approx(stamp.sum(), rel=1e-3)
    assert 1.05 < measure(seen)["flux_radius"] / measure(stamp)["flux_radius"] < 1.3
