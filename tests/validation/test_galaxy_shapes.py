"""Shapes of galaxies: Gaussians, Sérsic profiles and planted sources of known answers, and what may go wrong."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid
from scipy.special import gammaincinv

from higan.errors import MissingDependencyError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.morphology import adaptive_moments, gini, m20, morphology, recentred, shapes
from higan.validation import comparison
from higan.validation.checks import relations
from higan.validation.galaxy_shapes import EDGES, GalaxyShapes
from higan.validation.models import Model
from higan.validation.statistic import Setting

SETTING = Setting((64, 64), 0.03, field="image", units="ct / s", window="hann", kind="image")
FINE = 5  # points along a side of a pixel that profiles are taken at


def sersic(n=1.0, radius=6.0, q=1.0, angle=0.0, centre=(0.0, 0.0), cells=64):
    """A Sérsic profile of half-light radius sqrt(q) `radius`, `centre` pixels off the middle; n = 1/2 is a Gaussian."""
    y, x = (np.indices((FINE * cells,) * 2) + 0.5) / FINE - cells / 2
    y, x = y - centre[0], x - centre[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / q
    light = np.exp(-gammaincinv(2 * n, 0.5) * (np.hypot(u, v) / radius) ** (1 / n))
    return light.reshape(cells, FINE, cells, FINE).mean(axis=(1, 3))


def gaussian(sigma, q=1.0, angle=0.0, centre=(0.0, 0.0)):
    """A Gaussian of dispersion `sigma` along its longer axis."""
    return sersic(0.5, np.sqrt(2 * np.log(2)) * sigma, q, angle, centre)


@pytest.fixture(scope="module")
def galaxies():
    """Twelve unlike galaxies, some with a companion, float32 as in a map set."""
    rng = np.random.default_rng(1)
    stamps = []
    for i in range(12):
        stamp = sersic(rng.uniform(0.7, 3), rng.uniform(3, 8), rng.uniform(0.3, 1), rng.uniform(0, np.pi))
        companion = gaussian(1.5, centre=rng.uniform(-8, 8, 2))
        stamps.append(stamp / stamp.sum() + (i % 3) * 0.05 * companion / companion.sum())
    return (10 ** rng.uniform(1, 2, size=(12, 1, 1)) * stamps).astype("float32")


@pytest.mark.parametrize(("sigma", "q", "angle"), [(4.0, 1.0, 0.0), (6.0, 0.5, 0.4), (9.0, 0.3, 2.0)])
def test_adaptive_moments_of_a_gaussian(sigma, q, angle):
    """The fit is the Gaussian itself, which the size of a pixel adds 1/12 to the variances of."""
    pytest.importorskip("galsim")
    found = adaptive_moments(gaussian(sigma, q, angle)[None], [5.0])
    a, b = sigma**2 + 1 / 12, (q * sigma) ** 2 + 1 / 12
    assert found["sigma"][0] == pytest.approx((a * b) ** 0.25, rel=2e-3)
    assert found["ellipticity"][0] == pytest.approx((a - b) / (a + b), abs=2e-3)


def test_adaptive_moments_that_fail():
    pytest.importorskip("galsim")
    two = gaussian(1.0, centre=(0, -25)) - 0.9 * gaussian(1.0, centre=(0, 25))
    found = adaptive_moments(np.stack([two, gaussian(3.0)]), [5.0, np.nan])
    assert all(np.isnan(values).all() for values in found.values())


def petrosian(n):
    """C of a Sérsic profile within 1.5 Petrosian radii, from its growth curve."""
    r = np.geomspace(1e-5, 50, 200_001)  # half-light radii
    light = np.exp(-gammaincinv(2 * n, 0.5) * r ** (1 / n))
    growth = cumulative_trapezoid(2 * np.pi * r * light, r, initial=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r_p = r[1:][np.argmax((light * np.pi * r**2 / growth)[1:] < 0.2)]
    share = growth / np.interp(1.5 * r_p, r, growth)
    r_20, r_80 = np.interp([0.2, 0.8], share, r)
    return 5 * np.log10(r_80 / r_20)


@pytest.mark.parametrize(("n", "radius", "within"), [(0.5, 8.0, 0.02), (1.0, 8.0, 0.02), (4.0, 10.0, 0.1)])
def test_concentration_of_sersic_profiles(n, radius, within):
    found = morphology(sersic(n, radius)[None])["concentration"][0]
    assert found == pytest.approx(petrosian(n), abs=within)


def test_concentration_in_the_literature():
    """Of circles that hold 80 and 20 % of all light an exponential disc has 2.8 (Bershady et al. 2000: 2.7)."""
    assert morphology(sersic(1.0, 8.0)[None])["concentration"][0] == pytest.approx(2.75, abs=0.1)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.5, -0.5), (1.3, -2.8), (-6.1, 4.45)])
@pytest.mark.parametrize(("n", "most"), [(0.5, 1e-3), (1.0, 0.015)])
def test_symmetric_galaxies_wherever_they_lie(n, most, centre):
    """Pixels do not resolve the cusp of an exponential disc: where it lies within one, it is not quite symmetric."""
    middle, off = (morphology(sersic(n, 6.0, 0.5, 0.7, c)[None]) for c in ((0.0, 0.0), centre))
    assert off["asymmetry"][0] < most
    for name, tolerance in {"concentration": 0.01, "gini": 0.01, "m20": 0.02}.items():
        assert off[name][0] == pytest.approx(middle[name][0], abs=tolerance)


def test_centre_is_found_to_a_hundredth_of_a_pixel():
    where = np.random.default_rng(2).uniform(-8, 8, size=(5, 2))
    moved = recentred(np.stack([gaussian(1.5, 0.6, 0.5, centre) for centre in where]))
    y = np.arange(64) - 31.5
    light = moved.sum(axis=(1, 2))
    assert np.abs(moved.sum(axis=2) @ y / light).max() < 0.01
    assert np.abs(moved.sum(axis=1) @ y / light).max() < 0.01


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_asymmetry_of_a_planted_source(share):
    """A source on a flat disc has no counterpart across the centre, nor its counterpart one: 2 f / (1 + f)."""
    disc = (sersic(0.1, 12.0) > 0.5).astype(float)
    disc = disc / disc.sum()
    source = gaussian(1.2, centre=(6.0, 4.0))
    stamp = disc + share * source / source.sum()
    assert morphology(stamp[None])["asymmetry"][0] == pytest.approx(2 * share / (1 + share), rel=0.05)


def test_gini_is_the_mean_difference_of_pairs():
    x = np.random.default_rng(3).lognormal(size=(1, 9, 9))
    chosen = np.random.default_rng(4).uniform(size=x.shape) < 0.7
    X = x[chosen]
    expected = np.abs(X[:, None] - X).sum() / (2 * X.mean() * len(X) * (len(X) - 1))
    assert gini(x, chosen)[0] == pytest.approx(expected)


def test_gini_at_its_ends():
    one = np.zeros((1, 20, 20))
    one[0, 3, 4] = 7.0
    everywhere = np.ones(one.shape, dtype=bool)
    assert gini(one, everywhere)[0] == pytest.approx(1) and gini(0 * one + 2.0, everywhere)[0] == pytest.approx(0)
    assert np.isnan(gini(0 * one, everywhere)[0]) and np.isnan(gini(one, ~everywhere)[0])


def test_m20_of_a_uniform_disc_with_a_bright_spot():
    """A fifth of the light at 30 pixels from the middle of a disc that holds the rest: the centroid lies at 6."""
    y, x = np.indices((101, 101)) - 50
    disc = (np.hypot(y, x) < 40).astype(float)
    stamp = 0.8 * disc / disc.sum()
    stamp[50, 80] += 0.2
    moment = 0.2 * 24**2
    expected = np.log10(moment / (moment + 0.8 * (40**2 / 2 + 6**2)))
    assert m20(stamp[None], stamp[None] > 0)[0] == pytest.approx(expected, abs=0.005)


def test_m20_of_exponential_and_de_vaucouleurs_profiles():
    """Later types have the larger M20, within the range of local galaxies (Lotz et al. 2004: -3 to -1)."""
    disc, bulge = (morphology(sersic(n, 8.0)[None])["m20"][0] for n in (1.0, 4.0))
    assert -3 < bulge < disc - 0.3 < -1


def assert_alike(found, expected):
    """But for flux_radius, which takes pixels of the same distance in either order."""
    for name in EDGES:
        tolerance = 0.01 if name == "flux_radius" else 1e-4
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=1e-4, err_msg=name)


def test_turned_and_mirrored_stamps_have_the_same_shapes(galaxies):
    found = shapes(galaxies)
    for turned in (np.rot90(galaxies, axes=(1, 2)), galaxies[:, ::-1], galaxies[:, :, ::-1]):
        assert_alike(shapes(turned), found)


def test_brightness_does_not_change_shapes(galaxies):
    assert_alike(shapes(1000 * galaxies), shapes(galaxies))


def evaluate(truth, generated, setting=SETTING):
    """Numbers and curves of stamps that are each a simulation."""
    family = GalaxyShapes(setting)
    sums = family.measure_truth(truth) | family.measure(truth, generated)
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def test_the_same_stamps(galaxies):
    pytest.importorskip("galsim")
    values = evaluate(galaxies, galaxies[:, None])
    assert values.keys() == {**GalaxyShapes.numbers, **GalaxyShapes.curves}.keys()
    for name, number in values.items():
        if name in GalaxyShapes.numbers and not name.startswith("diversity"):
            assert number == pytest.approx(0, abs=1e-12), name
    np.testing.assert_allclose(values["shape_cdf"][:, -1], 1)
    np.testing.assert_allclose(values["shape_means"], values["shape_means_truth"])


def test_brighter_stamps(galaxies):
    values = evaluate(galaxies, 2 * galaxies[:, None])
    assert values["magnitude_bias"] == pytest.approx(-2.5 * np.log10(2), abs=1e-5)
    assert values["magnitude_scatter"] == pytest.approx(0, abs=1e-5)
    assert values["radius_bias"] == pytest.approx(0, abs=1e-5) and values["D_concentration"] == 0


def test_errors_of_what_was_asked_for(galaxies):
    """Half of the realisations a magnitude too bright, half right."""
    generated = galaxies[:, None] * np.array([1.0, 10**0.4], dtype="float32")[:, None, None]
    values = evaluate(galaxies, generated)
    assert values["magnitude_bias"] == pytest.approx(-0.5, abs=1e-4)
    assert values["magnitude_scatter"] == pytest.approx(0.5, abs=1e-4)


def test_planted_differences():
    truth = np.stack([sersic(1.0, 5.0, q) for q in (0.9, 0.8, 0.7)])
    rounder = np.stack([sersic(1.0, 5.0 * np.sqrt(q)) for q in (0.9, 0.8, 0.7)])
    values = evaluate(truth, rounder[:, None])
    assert values["D_flux_radius"] <= 1 / 3
    if not np.isnan(values["D_ellipticity"]):
        assert values["D_ellipticity"] == 1
    values = evaluate(truth, np.stack([sersic(3.0, 5.0)] * 3)[:, None])
    assert values["D_concentration"] == values["D_m20"] == 1
    values = evaluate(truth, (truth + 0.3 * np.roll(truth, (6, 6), (1, 2)))[:, None])
    assert values["D_asymmetry"] == 1


def test_diversity(galaxies):
    """Realisations that are the galaxies of the same size again are as diverse as these; copies are not at all."""
    truth = np.stack([sersic(n, 6.0) for n in np.linspace(0.8, 2.0, 6)])
    others = np.stack([truth] * 6)
    assert evaluate(truth, others)["diversity_concentration"] == pytest.approx(np.sqrt(6 / 5), rel=1e-3)
    assert evaluate(truth, np.stack([truth] * 2, axis=1))["diversity_concentration"] == 0
    assert np.isnan(evaluate(truth, truth[:, None])["diversity_concentration"])


def test_empty_and_negative_stamps(galaxies):
    generated = galaxies[:, None].copy()
    generated[0], generated[1] = 0.0, -1.0
    values = evaluate(galaxies, generated)
    assert values["magnitude_bias"] == pytest.approx(0, abs=1e-6)  # of the others
    assert 0 < values["D_concentration"] < 0.2
    if not np.isnan(values["without_moments"]):
        assert values["without_moments"] == pytest.approx(2 / 12) and values["without_moments_true"] == 0
    nothing = evaluate(0 * galaxies, 0 * galaxies[:, None])
    assert all(np.isnan(nothing[name]) for name in GalaxyShapes.numbers)


def test_noise_without_a_galaxy():
    noise = np.random.default_rng(5).normal(size=(8, 64, 64)).astype("float32")
    values = evaluate(noise, noise[:, None])
    assert values["D_gini"] == 0


@pytest.mark.parametrize(
    "changes", [{"kind": "box"}, {"kind": "healpix"}, {"shape": (64,)}, {"shape": (8, 8)}, {"shape": (512, 512)}]
)
def test_other_maps_are_skipped(changes):
    family = GalaxyShapes(dataclasses.replace(SETTING, **changes))
    maps = np.ones((2, *family.setting.shape), dtype="float32")
    assert family.measure_truth(maps) == family.measure(maps, maps[:, None]) == {}
    values = family.evaluate({"maps": np.ones(2)})
    assert values.keys() == {**GalaxyShapes.numbers, **GalaxyShapes.curves}.keys()
    assert all(np.isnan(values[name]) for name in GalaxyShapes.numbers)


def test_without_galsim(galaxies, monkeypatch):
    def missing():
        raise MissingDependencyError("GalSim is not installed.")

    monkeypatch.setattr("higan.morphology.import_galsim", missing)
    values = evaluate(galaxies, galaxies[:, None])
    gone = {"D_sigma", "D_ellipticity", "without_moments", "without_moments_true"}
    assert all(np.isnan(values[name]) for name in gone)
    assert all(values[f"D_{name}"] == 0 for name in EDGES if f"D_{name}" not in gone)


def test_compared_and_drawn(galaxies, monkeypatch, tmp_path):
    geometry = Geometry(kind="image", ndim=2, periodic=False, cell_size=0.03, cell_size_units="arcsec")
    truth = MapSet({"image": Field(galaxies, "ct / s")}, np.zeros((12, 0)), [], np.arange(12), geometry)
    monkeypatch.setattr(comparison, "statistics", lambda kind: [GalaxyShapes])
    turned = Model(lambda rows: np.stack([np.roll(galaxies[rows], i, 0)[:, ::-1] for i in range(2)], axis=1), 2)
    found = comparison.compare(truth, {"turned": turned}, "image", resamples=10)
    assert found.setting.kind == "image"
    assert found.value("turned", "D_gini")[0] == pytest.approx(0, abs=0.1)
    assert found.value("turned", "magnitude_scatter")[1] > 0
    assert "galaxies" in GalaxyShapes.figure(found, tmp_path / "shapes.png")
    assert (tmp_path / "shapes.png").stat().st_size > 0


def test_beside_statmorph():
    """Of round galaxies; flattened ones differ, as statmorph takes Gini and M20 within ellipses."""
    statmorph = pytest.importorskip("statmorph")
    for n, source in ((2.0, 0.0), (1.0, 0.1)):
        stamp, planted = sersic(n, 6.0, 0.95), gaussian(1.5, centre=(5.0, 3.0))
        stamp = 100 * (stamp / stamp.sum() + source * planted / planted.sum())
        wide, segments = np.pad(stamp, 48), np.pad(np.ones(stamp.shape, dtype=int), 48)
        theirs = statmorph.SourceMorphology(wide, segments, label=1, gain=1e5, skybox_size=16)
        ours = morphology(stamp[None])
        for name, tolerance in {"concentration": 0.03, "asymmetry": 0.01, "gini": 0.01, "m20": 0.08}.items():
            assert ours[name][0] == pytest.approx(getattr(theirs, name), abs=tolerance), name


def test_relations_to_parameters():
    """Slopes on all parameters together: of steepness, which one decides, and not of one that decides nothing."""
    rng, n = np.random.default_rng(3), 120
    steep, idle = rng.uniform(0.6, 3.0, n), rng.uniform(0.0, 1.0, n)

    def stamps(index):
        r = np.hypot(*(np.indices((32, 32)) - 15.5))
        return np.exp(-((r / 4) ** (1 / index[:, None, None]))).astype("float32")

    truth = MapSet(
        fields={"image": Field(stamps(steep), "ct / s", "light")},
        parameters=np.stack([steep, idle, np.ones(n)], axis=1),
        parameter_info=[Parameter(name, "", 0.0, 4.0) for name in ("steep", "idle", "fixed")],
        simulation=np.arange(n),
        geometry=Geometry(kind="image", ndim=2, periodic=False, cell_size=0.03, cell_size_units="arcsec"),
        simulator="law",
        simulator_version="1",
    )
    rows = np.arange(n)
    alike = relations(Model(lambda rows: stamps(steep[rows])), truth, rows, "image")
    idling = relations(Model(lambda rows: stamps(1 + idle[rows])), truth, rows, "image")
    found = alike["concentration against steep"]
    assert found["true"] == pytest.approx(found["generated"]) and abs(found["true"]) > 0.9
    assert not any(name.endswith("fixed") for name in alike)
    against = {name: idling[f"concentration against {name}"] for name in ("steep", "idle")}
    assert abs(against["steep"]["generated"]) < 3 * against["steep"]["error"] < 0.5
    assert abs(against["idle"]["generated"]) > 5 * against["idle"]["error"]
    assert abs(against["idle"]["true"]) < 3 * against["idle"]["error"]
