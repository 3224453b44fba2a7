"""Galaxy stamps: the population against its constants and GalSim, catalogues of every kind, and what is wrong."""

import dataclasses
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.integrate import trapezoid

from higan.cli import main
from higan.errors import HiganError, MapSetError
from higan.mapset import MapSet
from higan.photometry import PIXEL, ZERO_POINT, measure
from higan.simulators import simulate
from higan.simulators.galaxies import Galaxies
from higan.simulators.galaxy_population import Population, half_light_radius

galsim = pytest.importorskip("galsim", reason="GalSim is not installed: pip install 'higan[simulate]'")


# -- the population ------------------------------------------------------------------------------------------


def test_population_is_distributed_as_it_says():
    population, rng = Population(), np.random.default_rng(3)
    drawn = [population.draw(rng) for _ in range(20000)]
    m, r, z, n, q = (
        np.array([g[name] for g in drawn]) for name in ("magnitude", "radius", "redshift", "index", "axis_ratio")
    )
    assert 20 <= m.min() and m.max() <= 23.5 and 0.02 < q.min() and q.max() < 1
    # Counts: ten to the 0.3 × 3.5 from the brightest to the faintest, and its integral below 22.5.
    share = (10 ** (0.3 * 2.5) - 1) / (10 ** (0.3 * 3.5) - 1)
    assert (m < 22.5).mean() == pytest.approx(share, abs=0.015)
    inner = (n > 0.31) & (n < 5.9)  # the index is cut off
    x = np.stack([np.log(r), np.log1p(z), np.log(n), np.log((q - 0.02) / (1 - q))])
    for i in (0, 1, 3):
        slope, mean = np.polyfit(m - 22.5, x[i], 1)
        residual = x[i] - mean - slope * (m - 22.5)
        assert mean == pytest.approx(population.mean[i], abs=4 * population.scatter[i] / 20000**0.5)
        assert slope == pytest.approx(population.slope[i], abs=0.04 * population.scatter[i])
        assert residual.std() == pytest.approx(population.scatter[i], rel=0.03)
    assert inner.mean() > 0.9 and np.median(np.log(n)) == pytest.approx(0.292 - 0.204 * np.mean(m - 22.5), abs=0.03)
    centred = x - np.outer(population.slope, m - 22.5)
    assert np.corrcoef(centred)[0, 1] == pytest.approx(0.139, abs=0.03)
    assert np.corrcoef(centred)[1, 3] == pytest.approx(0.175, abs=0.03)


@pytest.mark.parametrize(("share", "ratio"), [(0.2, 0.3), (0.6, 0.5), (0.4, 2.0)])
def test_half_light_radius_is_that_of_galsim(share, ratio):
    parts = [
        (1 - share, galsim.Exponential(half_light_radius=1.0)),
        (share, galsim.DeVaucouleurs(half_light_radius=ratio)),
    ]
    r = np.geomspace(1e-6, half_light_radius(share, ratio), 4000)
    brightness = [sum(weight * part.xValue(x, 0) for weight, part in parts) for x in r]
    assert trapezoid(2 * np.pi * r**2 * brightness, np.log(r)) == pytest.approx(0.5, abs=1e-3)


def test_parts_have_the_light_and_size_of_the_galaxy():
    galaxy = {"magnitude": 21.0, "radius": 5.0, "redshift": 0.5, "index": 1.2, "axis_ratio": 0.95}
    population, sizes = Population(), []
    for seed in range(30):
        parts = population.profiles(galaxy, np.random.default_rng(seed))
        assert sum(part.flux for part in parts) == pytest.approx(10 ** (0.4 * (ZERO_POINT - 21)), rel=1e-9)
        stamp = sum(
            galsim.Convolve(part, galsim.Gaussian(fwhm=0.05)).drawImage(nx=160, ny=160, scale=PIXEL).array
            for part in parts
        )
        sizes.append(float(measure(stamp)["flux_radius"]))
    assert np.median(sizes) == pytest.approx(5.0, rel=0.08)


# -- stamps --------------------------------------------------------------------------------------------------


def test_reference_stamps(tmp_path):
    """Through the command line: labels are what is measured on the stamps, within the bounds; all splits are there."""
    path = tmp_path / "galaxies.h5"
    assert main(["simulate", "galaxies", "--simulations", "20", "--output", str(path)]) == 0
    maps = MapSet.open(path)
    assert maps.shape == (64, 64) and len(maps) == maps.n_sim == 20
    assert maps.parameter_names == ["flux_radius", "mag_auto", "zphot"]
    assert list(maps.extra["split"][:10]) == ["train"] * 8 + ["validation", "test"]
    assert (maps.geometry.kind, maps.cell_size, maps.geometry.length_units) == ("image", 0.03, "arcsec")
    assert maps.fields["image"].units == "ct / s"
    stamps = maps.read("image")
    for name, values in measure(stamps).items():
        np.testing.assert_allclose(maps.parameters[:, maps.parameter_names.index(name)], values, rtol=1e-9)
    for column, item in enumerate(maps.parameter_info):
        assert (maps.parameters[:, column] >= item.lower).all() and (maps.parameters[:, column] <= item.upper).all()
    # The light is in the middle, and hardly any at the edges.
    assert stamps[:, 24:40, 24:40].sum() > 0.4 * stamps.sum()
    edge = np.concatenate([stamps[:, [0, -1]].ravel(), stamps[:, :, [0, -1]].ravel()])
    assert np.median(edge) < 0.05 * stamps.mean()


def test_a_stamp_is_a_function_of_its_seed():
    first, again, other = (Galaxies().run({}, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert first["zphot"] == again["zphot"] and not np.array_equal(first["image"], other["image"])


def test_parts_do_not_matter(tmp_path):
    """The same stamps whichever are drawn together, in whatever number of processes."""
    some = MapSet.open(simulate("galaxies", output=tmp_path / "some.h5", simulations=[3, 1], cells=32))
    all_ = MapSet.open(simulate("galaxies", output=tmp_path / "all.h5", simulations=5, processes=2, cells=32))
    np.testing.assert_array_equal(some.read("image"), all_.read("image", [3, 1]))
    np.testing.assert_array_equal(some.parameters, all_.parameters[[3, 1]])


# -- catalogues ----------------------------------------------------------------------------------------------

FITS = np.array([[0.02, 6.0, 1.0, 0.6, 0, 50, 50, 0.3], [0.05, 5.0, 2.5, 0.8, 0, 50, 50, 1.3]])


def fits_table(new):
    """Two galaxies, as GalSim's tables of parametric fits have them: with columns of radii and fluxes, or without."""
    table = Table({"IDENT": [11, 12], "mag_auto": [22.0, 22.0], "flux_radius": [6.0, 6.0], "zphot": [0.4, 0.9]})
    table["sersicfit"] = FITS
    both = np.tile(FITS[:, None], (1, 2, 1))
    both[:, 0, 2], both[:, 1, 2] = 1.0, 4.0
    table["bulgefit"] = both.reshape(2, 16)
    table["fit_status"] = np.ones((2, 5), int)
    table["fit_mad_s"], table["fit_mad_b"], table["fit_dvc_btt"] = [0.003] * 2, [0.004, 0.002], [0.0, 0.5]
    if new:
        radius = PIXEL * FITS[:, 1] * np.sqrt(FITS[:, 3])
        # Intensities are those at half light; GalSim knows what flux goes with them.
        area = 2 * np.pi * FITS[:, 0] * FITS[:, 1] ** 2 * FITS[:, 3]
        sersic = [
            galsim.Sersic(n, half_light_radius=1.0).flux
            / (2 * np.pi * galsim.Sersic(n, half_light_radius=1.0).xValue(1, 0))
            for n in (1.0, 2.5)
        ]
        devaucouleurs = 1 / (2 * np.pi * galsim.DeVaucouleurs(half_light_radius=1.0).xValue(1, 0))
        table["hlr"] = np.stack([radius] * 3, axis=1)
        flux = np.stack([area * sersic, area * devaucouleurs, area * sersic[0]], axis=1)
        table["flux"] = np.column_stack([flux, flux[:, 1] + flux[:, 2]])
        table["use_bulgefit"], table["viable_sersic"] = [0, 1], [1, 1]
    return table


def test_old_and_new_parametric_catalogues_agree(tmp_path):
    """Radii and fluxes that old catalogues lack follow from the fits, and galaxies are the same."""
    found = {}
    for new in (False, True):
        path = tmp_path / f"{new}_fits.fits"
        fits_table(new).write(path)
        found[new] = MapSet.open(simulate("galaxies", output=tmp_path / f"{new}.h5", catalog=str(path)))
    assert len(found[True]) == 2 and list(found[True].parameters[:, 2]) == [0.4, 0.9]
    np.testing.assert_allclose(found[False].read("image"), found[True].read("image"), rtol=1e-3, atol=1e-6)
    # A Sérsic profile of 6 pixels along the major axis.
    assert found[True].parameters[0, 0] == pytest.approx(6 * 0.6**0.5, rel=0.25)


def real_catalogue(folder, redshifts=False, band="F814W", side=96, noise=1e-6):
    """Two Gaussian galaxies seen through a Gaussian telescope, as a RealGalaxyCatalog has them."""
    psf = galsim.Gaussian(fwhm=0.1)
    for name, profiles in (
        ("images.fits", [galsim.Convolve(galsim.Gaussian(half_light_radius=r, flux=40), psf) for r in (0.15, 0.24)]),
        ("psf.fits", [psf, psf]),
    ):
        stamps = [profile.drawImage(nx=side, ny=side, scale=PIXEL, method="no_pixel").array for profile in profiles]
        fits.HDUList([fits.PrimaryHDU(stamps[0]), fits.ImageHDU(stamps[1])]).writeto(folder / name)
    table = Table({"IDENT": [11, 12], "RA": [0.0, 0.0], "DEC": [0.0, 0.0], "MAG": [22.0, 22.0]})
    table["BAND"], table["WEIGHT"] = [band] * 2, [1.0, 1.0]
    table["GAL_FILENAME"], table["PSF_FILENAME"] = ["images.fits"] * 2, ["psf.fits"] * 2
    table["GAL_HDU"], table["PSF_HDU"], table["PIXEL_SCALE"] = [0, 1], [0, 1], [PIXEL] * 2
    table["NOISE_MEAN"], table["NOISE_VARIANCE"], table["NOISE_FILENAME"] = [0.0] * 2, [noise] * 2, ["none.fits"] * 2
    table.write(folder / "real.fits")
    if redshifts:
        fits_table(new=True)[::-1].write(folder / "real_fits.fits")
    return folder / "real.fits"


@pytest.mark.parametrize("redshifts", [False, True])
def test_images_through_the_telescope(tmp_path, redshifts):
    """The telescope's blur is taken off before the stamps' own is put on; redshifts come from the fits, by IDENT."""
    path = real_catalogue(tmp_path, redshifts)
    maps = MapSet.open(simulate("galaxies", output=tmp_path / "out.h5", catalog=str(path), psf_fwhm=0.15))
    assert maps.parameter_names == ["flux_radius", "mag_auto"] + ["zphot"] * redshifts
    if redshifts:
        assert list(maps.parameters[:, 2]) == [0.4, 0.9]
    for radius, stamp in zip((0.15, 0.24), maps.read("image"), strict=True):
        expected = galsim.Convolve(galsim.Gaussian(half_light_radius=radius, flux=40), galsim.Gaussian(fwhm=0.15))
        truth = expected.drawImage(nx=64, ny=64, scale=PIXEL, method="no_pixel").array
        np.testing.assert_allclose(stamp, truth, atol=0.02 * truth.max())


def test_images_in_other_bands(tmp_path):
    """Their fluxes are brought to one zero point."""
    found = []
    for band in ("F814W", "F606W"):
        (tmp_path / band).mkdir()
        run = Galaxies(catalog=str(real_catalogue(tmp_path / band, band=band)), psf_fwhm=0.15)
        assert run.version().endswith(", images")
        found.append(run.run({}, 0)["mag_auto"])
    assert found[1] - found[0] == pytest.approx(26.49 - 25.94, abs=1e-3)
    (tmp_path / "other").mkdir()
    with pytest.raises(MapSetError, match="images in the band 'H', whose zero point is not known here"):
        Galaxies(catalog=str(real_catalogue(tmp_path / "other", band="H")), psf_fwhm=0.15).check()


def test_images_smaller_than_a_stamp(tmp_path):
    """Their noise goes on around them, the same each time."""
    run = Galaxies(catalog=str(real_catalogue(tmp_path, side=40, noise=1e-4)), psf_fwhm=0.15)
    stamp, again = (run.run({}, 0)["image"] for _ in range(2))
    np.testing.assert_array_equal(stamp, again)
    edge = np.concatenate([stamp[:8].ravel(), stamp[-8:].ravel()])
    assert 0.05 * 1e-2 < edge.std() < 1e-2  # smoothed by the stamp's own blur
    assert abs(stamp[28:36, 28:36]).mean() > 10 * edge.std()


def test_a_galaxy_without_a_redshift_is_left_out_alone(tmp_path):
    path = real_catalogue(tmp_path, redshifts=True)
    fits_table(new=True)[1:].write(tmp_path / "real_fits.fits", overwrite=True)
    maps = MapSet.open(simulate("galaxies", output=tmp_path / "out.h5", catalog=str(path), psf_fwhm=0.15))
    assert len(maps) == 1 and maps.parameters[0, 2] == 0.9


def test_galaxies_that_do_not_fit_are_left_out(tmp_path, capsys):
    """One is far too large, one's fit failed."""
    table = fits_table(new=True)
    table["hlr"][0] = 3.0
    path = tmp_path / "cat_fits.fits"
    table.write(path)
    assert main(["simulate", "galaxies", "--catalog", str(path), "--output", str(tmp_path / "out.h5")]) == 0
    assert "left out, as measured parameters lie outside their ranges: 1 simulations" in capsys.readouterr().out
    assert len(MapSet.open(tmp_path / "out.h5")) == 1
    table["viable_sersic"], table["use_bulgefit"] = 0, 0
    table.write(path, overwrite=True)
    with pytest.raises(HiganError, match="Of 2 simulations by GalSim none has its measured parameters within flux_rad"):
        simulate("galaxies", output=tmp_path / "none.h5", catalog=str(path), cells=32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": 8}, "A stamp of 8 pixels a side holds no galaxy"),
        ({"psf_fwhm": 0.01}, r"Pixels of 0.03\" cannot show a PSF of 0.01 arcsec. Give --psf-fwhm 0.03 or more"),
        ({"catalog": "nowhere.fits"}, "There is no catalogue nowhere.fits"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(HiganError, match=message):
        simulate("galaxies", output=tmp_path / "out.h5", simulations=2, **settings)
    assert not list(tmp_path.iterdir())


def test_wrong_catalogues(tmp_path):
    path = real_catalogue(tmp_path, redshifts=False)
    with pytest.raises(HiganError, match=r"Images through the telescope cannot show .* Give --psf-fwhm 0.12 or more"):
        simulate("galaxies", output=tmp_path / "out.h5", catalog=str(path))
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(path, alone / "real.fits")
    with pytest.raises(HiganError, match=r"real.fits has neither its images beside it nor real_fits.fits"):
        simulate("galaxies", output=tmp_path / "out.h5", catalog=str(alone / "real.fits"))
    Table({"a": [1.0]}).write(alone / "other_fits.fits")
    (alone / "text_fits.fits").write_text("no FITS")
    for name in ("other", "text"):
        with pytest.raises(HiganError, match=f"{name}_fits.fits is no GalSim COSMOS catalogue") as caught:
            simulate("galaxies", output=tmp_path / "out.h5", catalog=str(alone / f"{name}_fits.fits"))
        assert "\n" not in str(caught.value)
    (alone / "text.fits").write_text("no FITS")
    with pytest.raises(HiganError, match=r"text\.fits is no GalSim COSMOS catalogue"):
        simulate("galaxies", output=tmp_path / "out.h5", catalog=str(alone / "text.fits"))


def test_settings_are_part_of_the_name_of_a_part():
    assert dataclasses.replace(Galaxies(), cells=32).version() == Galaxies().version()
    assert "population 1" in Galaxies().version()
