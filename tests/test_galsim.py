"""Galaxies for GalSim, of a tiny checkpoint with initial weights."""

import importlib
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from higan.checkpoint import FieldCard
from higan.emulator import ExtrapolationWarning, load
from higan.errors import CheckpointError, HiganError, MissingDependencyError, ParameterError
from higan.mapset import Parameter
from higan.photometry import flux
from higan.simulators.galaxies import Galaxies
from tests import tiny

galsim = pytest.importorskip("galsim", reason="GalSim is not installed: pip install 'higan[simulate]'")
module = importlib.import_module("higan.galsim")
HiganGalaxy = module.HiganGalaxy

THETA = {"flux_radius": 5.0, "mag_auto": 21.5}
CELLS, SCALE = 16, 0.03


def stamp_card(**changes):
    """The card of a tiny generator of stamps."""
    parameters = [Parameter("flux_radius", "pix", 2.0, 12.0), Parameter("mag_auto", "mag", 20.0, 23.5)]
    image = {"name": "asinh", "softening": 1e-3, "lower": 0.0}
    card = tiny.card(inputs=(), outputs=("image",), parameters=parameters, latent=4, centred=True)
    stamps = {
        "outputs": [FieldCard(field="image", units="ct / s", scaling=image)],
        "magnitude": "mag_auto",
        "cell_size": SCALE,
        "length_units": "arcsec",
        "shape": [CELLS, CELLS],
    }
    return card.model_copy(update={**stamps, **changes})


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    """The folder of a checkpoint that draws stamps."""
    return tiny.save(stamp_card(), tmp_path_factory.mktemp("stamps") / "tiny")


@pytest.fixture(scope="module")
def galaxy(stamps):
    return HiganGalaxy(**THETA, rng=galsim.BaseDeviate(1), checkpoint=stamps)


def drawn(profile, cells=CELLS, scale=SCALE, **options):
    return profile.drawImage(nx=cells, ny=cells, scale=scale, **{"method": "no_pixel", **options}).array


def test_the_stamp_of_the_emulator(stamps, galaxy):
    """At its own scale it is the stamp itself, and its flux the stamp's sum, that of its magnitude."""
    rng = galsim.BaseDeviate(1)
    row = rng.raw() << 31 | rng.raw() >> 1
    stamp = load(stamps).sample(parameters=THETA, seed=0, rows=[row])[0]
    np.testing.assert_allclose(drawn(galaxy), stamp, rtol=1e-5, atol=1e-5 * stamp.max())
    assert galaxy.flux == pytest.approx(stamp.sum(dtype=float), rel=1e-9)
    assert galaxy.flux == pytest.approx(flux(21.5), rel=1e-5)
    assert galaxy.image.scale == SCALE
    assert galaxy.parameters == THETA and galaxy.checkpoint == "tiny"
    assert str(galaxy) == "higan.galsim.HiganGalaxy(flux_radius=5, mag_auto=21.5, checkpoint='tiny')"


def test_what_galsim_does_with_it(galaxy):
    psf = galsim.Gaussian(fwhm=0.4)
    seen = galsim.Convolve(galaxy, psf)
    assert seen.flux == pytest.approx(galaxy.flux)
    assert drawn(seen, 64, 0.05, method="auto").sum() == pytest.approx(galaxy.flux, rel=0.01)
    assert galaxy.withFlux(7.0).flux == pytest.approx(7.0)
    turned = drawn(galaxy.rotate(90 * galsim.degrees))
    np.testing.assert_allclose(turned, np.rot90(drawn(galaxy), -1), atol=1e-5 * turned.max())
    e1, e1_sheared = (
        galsim.Convolve(profile, psf).drawImage(nx=64, ny=64, scale=0.05).FindAdaptiveMom().observed_e1
        for profile in (galaxy, galaxy.shear(g1=0.3))
    )
    assert e1_sheared > e1 + 0.02


def test_all_randomness_is_of_the_rng(stamps, galaxy):
    rng = galsim.BaseDeviate(1)
    same, after = (HiganGalaxy(**THETA, rng=rng, checkpoint=stamps) for _ in range(2))
    assert same == galaxy and hash(same) == hash(galaxy)
    other = HiganGalaxy(**THETA, rng=galsim.BaseDeviate(2), checkpoint=stamps)
    unpredictable = HiganGalaxy(**THETA, checkpoint=stamps)
    images = [drawn(x) for x in (galaxy, after, other, unpredictable)]
    for i in range(4):
        for j in range(i):
            assert np.abs(images[i] - images[j]).max() > 0.01 * images[0].max()
    # What deviates from a distribution shares its state; a refused galaxy takes nothing from it.
    rng = galsim.UniformDeviate(1)
    with pytest.raises(ParameterError, match="outside the range"):
        HiganGalaxy(flux_radius=50.0, mag_auto=21.5, rng=rng, checkpoint=stamps)
    assert HiganGalaxy(**THETA, rng=rng, checkpoint=stamps) == galaxy


def test_pickled_copied_and_evaluated(galaxy, monkeypatch):
    monkeypatch.setattr(module, "_draw", None)  # no network is asked again
    again = pickle.loads(pickle.dumps(galaxy))
    assert type(again) is HiganGalaxy and again == galaxy and hash(again) == hash(galaxy)
    assert str(again) == str(galaxy) and again.parameters == galaxy.parameters
    np.testing.assert_array_equal(drawn(again), drawn(galaxy))
    sheared = galaxy.shear(g1=0.1)
    assert pickle.loads(pickle.dumps(sheared)) == sheared
    with galsim.utilities.printoptions(precision=25, threshold=10**6):  # all digits of faint pixels, too
        assert eval(repr(galaxy), {"galsim": galsim, "np": np, "array": np.array}) == galaxy
    precise = galaxy.withGSParams(folding_threshold=1e-3)
    assert type(precise) is HiganGalaxy and precise.gsparams.folding_threshold == 1e-3 and precise != galaxy


def test_batch_holds_what_single_galaxies_are(stamps):
    theta = {"flux_radius": [3.0, 5.0, 9.0], "mag_auto": 21.5}
    one_by_one, at_once = galsim.BaseDeviate(4), galsim.BaseDeviate(4)
    params = galsim.GSParams(folding_threshold=1e-3)
    galaxies = HiganGalaxy.batch(theta, at_once, checkpoint=stamps, gsparams=params)
    assert [g.parameters["flux_radius"] for g in galaxies] == [3.0, 5.0, 9.0]
    for found in galaxies:
        alone = HiganGalaxy(**found.parameters, rng=one_by_one, checkpoint=stamps, gsparams=params)
        assert type(found) is HiganGalaxy and found.gsparams == params == alone.gsparams
        np.testing.assert_allclose(drawn(found), drawn(alone), atol=1e-4 * drawn(alone).max())
    assert at_once == one_by_one
    assert len(HiganGalaxy.batch(THETA, checkpoint=stamps)) == 1
    with pytest.raises(ParameterError, match="flux_radius should be a number or 3 of them"):
        HiganGalaxy.batch({"flux_radius": [3.0, 5.0], "mag_auto": [21.0, 22.0, 23.0]}, checkpoint=stamps)


def test_batch_of_a_catalogue(stamps, tmp_path):
    path = tmp_path / "galaxies.csv"
    path.write_text("ident,mag_auto,flux_radius\n7,22.5,4\n8,21,6\n")
    rng = galsim.BaseDeviate(4)
    galaxies = HiganGalaxy.batch(path, rng, checkpoint=stamps)
    assert [g.parameters for g in galaxies] == [
        {"flux_radius": 4.0, "mag_auto": 22.5},
        {"flux_radius": 6.0, "mag_auto": 21.0},
    ]
    with pytest.raises(ParameterError, match=r"a mapping of names to numbers or the path of a catalogue, .* list\."):
        HiganGalaxy.batch([22.5], rng, checkpoint=stamps)


def test_own_psf_and_pixel_can_be_taken_out(monkeypatch):
    """As the docstring says: sheared without them and blurred anew, it is what GalSim draws from the galaxy itself."""
    simulator = Galaxies()
    truth = galsim.Exponential(half_light_radius=0.18, flux=50.0).shear(q=0.6, beta=0.4 * galsim.radians)
    stamp = simulator._stamp([truth])["image"]
    fake = SimpleNamespace(
        card=stamp_card(), check_parameters=lambda *_, **__: np.array([[5.0, 21.5]]), sample=lambda **_: stamp[None]
    )
    monkeypatch.setattr(module, "_emulator", lambda _: fake)
    galaxy = HiganGalaxy(**THETA)
    np.testing.assert_allclose(drawn(galaxy, 64), stamp, atol=1e-5 * stamp.max())
    own = galsim.Convolve(galsim.Gaussian(fwhm=simulator.psf_fwhm), galsim.Pixel(SCALE))
    bare = galsim.Convolve(galaxy, galsim.Deconvolve(own))
    psf = galsim.Gaussian(fwhm=0.16)
    found, expected = (
        drawn(galsim.Convolve(profile.shear(g1=0.1, g2=-0.05), psf), 48, 0.05, method="auto")
        for profile in (bare, truth)
    )
    np.testing.assert_allclose(found, expected, atol=0.005 * expected.max())


def config(stamps, **gal):
    return {
        "modules": ["higan.galsim"],
        "gal": {
            "type": "HiganGalaxy",
            "checkpoint": str(stamps),
            "flux_radius": {"type": "Random", "min": 3, "max": 9},
            "mag_auto": 21.5,
            **gal,
        },
        "stamp": {"draw_method": "no_pixel"},
        "image": {
            "type": "Tiled",
            "nx_tiles": 2,
            "ny_tiles": 1,
            "stamp_size": CELLS,
            "pixel_scale": SCALE,
            "random_seed": 5,
        },
    }


def built(values):
    galsim.config.ImportModules(values)
    return galsim.config.BuildImage(values).array


def test_in_a_configuration(stamps):
    image = built(config(stamps))
    first, second = image[:, :CELLS], image[:, CELLS:]
    for stamp in (first, second):
        assert stamp.sum() == pytest.approx(flux(21.5), rel=1e-4)
    assert np.abs(first - second).max() > 0.01 * first.max()
    np.testing.assert_array_equal(built(config(stamps)), image)
    # What GalSim itself does with a galaxy's fields.
    changed = config(stamps, flux=3.0, rotate="90 deg", gsparams={"folding_threshold": 1e-3})
    turned = built(changed)[:, :CELLS]
    np.testing.assert_allclose(turned, np.rot90(first, -1) * 3.0 / flux(21.5), atol=1e-4 * turned.max())
    outside = config(stamps, mag_auto=19.0, allow_extrapolation=True)
    with pytest.warns(ExtrapolationWarning, match="mag_auto = 19"):
        assert built(outside)[:, :CELLS].sum() == pytest.approx(flux(19.0), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mag_auto": 19.0}, ParameterError, "mag_auto = 19 is outside the range"),
        ({"zphot": 0.5}, galsim.GalSimConfigError, "Unexpected attribute zphot found"),
        ({"checkpoint": "nowhere"}, CheckpointError, "nowhere is no folder"),
    ],
)
def test_faults_of_a_configuration(stamps, changes, error, message):
    with pytest.raises(error, match=message):
        built(config(stamps, **changes))


def test_a_configuration_that_lacks_a_parameter(stamps):
    values = config(stamps)
    del values["gal"]["flux_radius"]
    with pytest.raises(galsim.GalSimConfigError, match="flux_radius is required for type = HiganGalaxy"):
        built(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mag_auto": 30.0}, r"mag_auto = 30 is outside the range \[20, 23\.5\] that tiny was trained on"),
        ({"mag_aut": 21.5}, "tiny has no parameter 'mag_aut'; did you mean 'mag_auto'"),
        ({"flux_radius": [3.0, 4.0]}, r"flux_radius should be a number or 1 of them"),
        ({"rng": 1}, r"rng should be a galsim\.BaseDeviate, received 1\."),
    ],
)
def test_parameters_that_do_not_fit(stamps, options, message):
    with pytest.raises(ParameterError, match=message):
        HiganGalaxy(**{**THETA, **options}, checkpoint=stamps)


def test_a_parameter_that_is_missing(stamps):
    with pytest.raises(ParameterError, match="parameter mag_auto is missing"):
        HiganGalaxy(flux_radius=5.0, checkpoint=stamps)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (tiny.card(), r"tiny takes input maps \(density\): it draws no galaxies for GalSim\. Give a checkpoint that"),
        (stamp_card(outputs=[*stamp_card().outputs] * 2), "tiny paints 2 fields"),
        (tiny.card(ndim=3, inputs=()), r"tiny paints maps of \[16, 16, 16\] cells"),
        (stamp_card(shape=[16, 32]), r"tiny paints maps of \[16, 32\] cells"),
        (stamp_card(length_units="Mpc"), "tiny has cells in Mpc"),
    ],
)
def test_checkpoints_that_draw_no_stamps(card, message, monkeypatch):
    monkeypatch.setattr("higan.emulator.load", lambda _: SimpleNamespace(card=card))
    with pytest.raises(CheckpointError, match=message):
        HiganGalaxy(**THETA, checkpoint="other")


def test_a_checkpoint_is_loaded_once(stamps, monkeypatch):
    HiganGalaxy(**THETA, checkpoint=stamps)
    monkeypatch.setattr("higan.emulator.load", None)
    HiganGalaxy(**THETA, checkpoint=str(stamps))


def test_a_process_forked_too_late(stamps, galaxy, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: -1)
    for draw in (HiganGalaxy, lambda **options: built(config(stamps))):
        with pytest.raises(
            HiganError, match=r"forked after a checkpoint had been loaded, .* in the new processes alone"
        ):
            draw(**THETA, checkpoint=stamps)


def test_without_galsim(monkeypatch):
    monkeypatch.setitem(sys.modules, "galsim", None)
    monkeypatch.delitem(sys.modules, "higan.galsim")
    with pytest.raises(MissingDependencyError, match=r"GalSim is not installed .*pip install 'higan\[simulate\]'"):
        importlib.import_module("higan.galsim")


# -- shear ---------------------------------------------------------------------------------------------------


def test_a_shear_bias_that_is_known():
    """Re-Gaussianisation is exact where galaxies and point-spread function are Gaussian, however elliptical."""
    y, x = np.indices((48, 48)) - 23.5
    widths = np.random.default_rng(1).uniform(2.5, 4.0, (6, 2))
    true = np.stack([np.exp(-(x**2 / a**2 + y**2 / b**2) / 2) for a, b in widths])
    round_ones = np.stack([np.exp(-(x**2 + y**2) / a**2 / 2) for a, _ in widths])
    found = module.shear_bias(true, round_ones, psf=galsim.Gaussian(fwhm=0.12), processes=2)
    assert found.galaxies == 6 and abs(found.true[0]) < 4e-3 and abs(found.generated[0]) < 4e-3
    assert found.difference[0] == pytest.approx(found.generated[0] - found.true[0])
    pointlike = np.exp(-(x**2 + y**2) / 1.2**2 / 2)[None].repeat(6, axis=0) + 0.05 * round_ones  # cusps with wings
    other = module.shear_bias(true, pointlike)
    assert abs(other.difference[0]) > 0.01


def test_stamps_that_do_not_pair():
    with pytest.raises(ParameterError, match=r"shape \(2, 8, 8\) and generated ones \(3, 8, 8\)"):
        module.shear_bias(np.ones((2, 8, 8)), np.ones((3, 8, 8)))
    with pytest.raises(ParameterError, match="0 of 2 galaxies can be measured"):
        module.shear_bias(np.zeros((2, 16, 16)), np.zeros((2, 16, 16)))
