import json
import math
import os
from pathlib import Path

import healpy as hp
import numpy as np
import pytest

from higan.cli import main
from higan.errors import MapSetError
from higan.mapset import UNSEEN, Field, Geometry, MapSet
from higan.sources.healpix import healpix
from higan.validation import compare
from higan.validation.angular_power import AngularPower, Decoupling, angular_power, bands, coupling
from higan.validation.models import from_emulator
from tests import tiny

NSIDE = 32
NPIX = 12 * NSIDE**2


def sky(C, seed=0):
    """A Gaussian sky of known C_l."""
    degree, m = hp.Alm.getlm(len(C) - 1)
    real, imaginary = np.random.default_rng(seed).normal(size=(2, m.size)) * np.sqrt(C[degree] / 2)
    return hp.alm2map(np.where(m == 0, np.sqrt(2) * real, real + 1j * imaginary), NSIDE)


def spectrum(lmax=3 * NSIDE - 1):
    return (np.arange(lmax + 1) + 10.0) ** -2


def map_set(maps, ordering="RING", simulation=None, **changes):
    maps = np.asarray(maps, dtype="float32")
    simulation = np.arange(len(maps)) if simulation is None else simulation
    geometry = Geometry(kind="healpix", ndim=1, periodic=False, ordering=ordering, redshift=8.0, thickness=8.0)
    return MapSet({"T": Field(maps, "mK")}, np.zeros((max(simulation) + 1, 0)), [], simulation, geometry, **changes)


def test_known_power_is_found():
    """The C_l of its own a_lm, to a part in ten thousand; and a cross spectrum that is half of both."""
    C = spectrum()
    one, other = sky(C, 1), sky(C, 2)
    alm = hp.map2alm(one, lmax=2 * NSIDE, iter=10)
    np.testing.assert_allclose(angular_power(one)[2:], hp.alm2cl(alm)[2:], rtol=1e-4)
    ell = np.arange(2, 2 * NSIDE + 1)
    modes = (2 * ell + 1).sum()
    assert abs(np.average(angular_power(one)[2:] / C[ell], weights=2 * ell + 1) - 1) < 4 * (2 / modes) ** 0.5
    assert (
        abs(np.average(angular_power(one, one + other)[2:] / C[ell], weights=2 * ell + 1) - 1) < 5 * (2 / modes) ** 0.5
    )
    np.testing.assert_allclose(angular_power(one, 2 * one), 2 * angular_power(one), rtol=1e-10)
    np.testing.assert_allclose(angular_power(one + 100)[1:], angular_power(one)[1:], rtol=1e-3)


def test_masked_power_is_corrected_for_the_sky_that_is_left():
    """Unbiased on average over skies where C_l varies little over the mask's width: 60 % of the sky, l from 20."""
    C = spectrum()
    seen = np.abs(hp.pix2vec(NSIDE, np.arange(NPIX))[2]) > 0.4
    found = []
    for seed in range(12):
        masked = np.where(seen, sky(C, seed), UNSEEN)
        found.append(angular_power(masked))
    ell = np.arange(20, 2 * NSIDE + 1)
    mean = np.average(np.mean(found, axis=0)[ell] / C[ell], weights=2 * ell + 1)
    assert abs(mean - 1) < 0.03
    # The other's mask counts as well.
    np.testing.assert_array_equal(angular_power(masked, masked), angular_power(masked, sky(C, seed)))


def test_coupling_is_the_sum_over_3j_symbols():
    """Hivon et al. 2002, eq. A31, with the symbols of (l1 l2 l3; 0 0 0) from factorials (Edmonds, eq. 3.7.17)."""

    def square(*multipoles):
        total = sum(multipoles)
        if total % 2 or any(2 * each > total for each in multipoles):
            return 0.0
        half, f = total // 2, math.factorial
        symbol = f(half) / math.prod(f(half - each) for each in multipoles)
        return symbol**2 * math.prod(f(total - 2 * each) for each in multipoles) / f(total + 1)

    mask = np.random.default_rng(1).uniform(size=9)
    expected = [
        [(2 * j + 1) / (4 * np.pi) * sum((2 * k + 1) * mask[k] * square(i, j, k) for k in range(9)) for j in range(7)]
        for i in range(7)
    ]
    np.testing.assert_allclose(coupling(mask, 6), expected, rtol=1e-10)


def masked_skies(C, n):
    """46 % of the sky is masked: a band of the galaxy, and a cap."""
    x, _, z = hp.pix2vec(NSIDE, np.arange(NPIX))
    seen = (np.abs(z) > 0.4) & (x < 0.7)
    return seen, [np.where(seen, sky(C, seed), UNSEEN) for seed in range(n)]


def test_coupling_is_undone():
    """The powers of bands of a steep spectrum, unbiased where dividing by f_sky is 10 % off."""
    C, weights = (np.arange(3 * NSIDE) + 10.0) ** -4, bands(2 * NSIDE)
    seen, skies = masked_skies(C, 60)
    decoupling = Decoupling(seen, 2 * NSIDE)
    np.testing.assert_array_equal(decoupling.bands, weights)
    found = [decoupling(each) for each in skies]
    ratio, divided = (
        np.array(P) / (weights @ C[: 2 * NSIDE + 1]) for P in (found, [weights @ angular_power(each) for each in skies])
    )
    high = slice(16, None)
    error = ratio[:, high].mean(axis=1).std() / len(skies) ** 0.5
    assert error < 0.01 and abs(ratio[:, high].mean() - 1) < max(3 * error, 0.01)
    assert divided[:, high].mean() > 1.08
    pulls = (ratio.mean(axis=0) - 1) / (ratio.std(axis=0) / len(skies) ** 0.5)
    assert np.abs(pulls).max() < 5


def test_coupling_is_undone_as_by_namaster():
    nmt = pytest.importorskip("pymaster", reason="NaMaster, which is built from sources, is not installed")
    C, ell = (np.arange(3 * NSIDE) + 10.0) ** -3, np.arange(3 * NSIDE)
    seen, (each,) = masked_skies(C, 1)
    decoupling = Decoupling(seen, 2 * NSIDE)
    found, weights = decoupling(each), decoupling.bands
    index = np.where(weights.any(axis=0), weights.argmax(axis=0), -1)
    above = len(weights) + np.arange(3 * NSIDE - len(index)) // 2
    index = np.concatenate([index, above])
    modes, flat = 2 * ell + 1.0, (ell + 0.5) ** 2
    # What is constant in a band is flat C_l; what is averaged is C_l, all modes alike.
    binned = nmt.NmtBin(bpws=index + 1, ells=ell, weights=modes / flat, lmax=3 * NSIDE - 1, f_ell=flat)
    clean = np.where(seen, each - each[seen].mean(), 0.0)
    field = nmt.NmtField(seen.astype(float), [clean], n_iter=3, n_iter_mask=3, lmax=3 * NSIDE - 1)
    flattened = nmt.compute_full_master(field, field, binned)[0][1 : len(weights) + 1]
    expected = flattened * (weights @ (1 / flat[: weights.shape[1]]))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("slope", [-1, -2, -3])
def test_many_small_regions_have_wider_bands(slope):
    """A quarter of each face of the sky, whose narrow bands are next to undetermined."""
    x, y, face = hp.pix2xyf(NSIDE, np.arange(NPIX))
    seen = (2 * (x >= NSIDE // 2) + (y >= NSIDE // 2) + face) % 4 == 0
    C = (np.arange(3 * NSIDE) + 10.0) ** slope
    decoupling = Decoupling(seen, 2 * NSIDE)
    assert 4 <= len(decoupling.bands) <= len(bands(2 * NSIDE)) // 2
    found = np.array([decoupling(np.where(seen, sky(C, seed), UNSEEN)) for seed in range(40)])
    expected = decoupling.bands @ C[: 2 * NSIDE + 1]
    assert found.min() > 0
    error = found.std(axis=0) / expected
    assert (np.abs(found.mean(axis=0) / expected - 1) < 4 * error / 40**0.5 + 0.05).all()
    # Not far from what so much sky in one piece would tell.
    modes = np.array([(2 * np.flatnonzero(band) + 1).sum() for band in decoupling.bands]) * seen.mean()
    assert (error < 2 * (2 / modes) ** 0.5).all()


def test_a_band_without_power_has_no_ratio():
    power = np.ones((2, 8))
    power[:, 3] = -1e-3
    statistic = object.__new__(AngularPower)
    statistic.l, statistic.lmax = np.arange(8.0), 7
    found = statistic.evaluate({"C_truth": power, "C": 1.1 * power, "C_cross": power, "maps": np.ones(2)})
    assert np.isnan(found["R_l"][3]) and abs(found["mean_abs_R_l_minus_1"] - 0.1) < 1e-12


def test_bands():
    weights = bands(64)
    assert weights.shape == (32, 65) and (weights[:, :2] == 0).all()
    np.testing.assert_allclose(weights[0] @ np.arange(65.0), (2 * 5 + 3 * 7) / 12)


def test_comparison_of_skies(tmp_path):
    """Twice the truth has four times its power and its correlation; another sky has its power alone."""
    C = spectrum()
    truth = map_set([sky(C, seed) for seed in range(4)])
    others = {
        "twice": lambda rows: 2 * truth.read("T", rows),
        "another": lambda rows: np.stack([[sky(C, 100 + 2 * r), sky(C, 101 + 2 * r)] for r in rows]).astype("float32"),
    }
    comparison = compare(truth, others, "T", resamples=20)
    assert set(comparison.definitions) == {*comparison.models["twice"].numbers}
    assert not any(key.startswith("mean_abs_R_minus") for key in comparison.definitions)
    twice, another = (comparison.models[name] for name in others)
    np.testing.assert_allclose(twice.curves["R_l"], 4, rtol=1e-5)
    np.testing.assert_allclose(twice.numbers["r_l_large_scales"][0], 1, rtol=1e-6)
    modes = np.diff(np.r_[np.arange(2, 66, 2), 65] ** 2)[: len(another.curves["l"])]
    assert (np.abs(another.curves["R_l"] - 1) < 4.5 * np.sqrt((2 / 4 + 2 / 8) / modes)).all()
    assert abs(another.numbers["r_l_large_scales"][0]) < 0.3
    assert another.numbers["D"][0] < 0.03 < 0.1 < twice.numbers["D"][0]
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["shape"] == [NPIX]


def test_masks_and_orderings_do_not_matter():
    C = spectrum()
    maps = np.array([sky(C, seed) for seed in range(3)])
    maps[:, 1000:3000] = UNSEEN
    maps[1, 5000:5100] = UNSEEN

    def found(ordering):
        values = maps if ordering == "RING" else hp.reorder(maps, r2n=True)
        truth = map_set(values, ordering)
        generated = np.where(values > 0.9 * UNSEEN, 1.1 * values, UNSEEN).astype("float32")
        generated[:, values[1] <= 0.9 * UNSEEN] = UNSEEN
        return compare(truth, {"more": lambda rows: generated[rows]}, "T", resamples=5)

    ring, nested = found("RING"), found("NESTED")
    np.testing.assert_allclose(ring.models["more"].curves["R_l"], 1.21, rtol=1e-5)
    for key, (value, _) in ring.models["more"].numbers.items():
        np.testing.assert_allclose(nested.value("more", key)[0], value, rtol=1e-6)
    share = ring.setting.seen.mean()
    np.testing.assert_allclose(share, 1 - 2100 / NPIX)
    truth = map_set(maps[:1])
    with pytest.raises(MapSetError, match="masks pixels"):
        compare(truth, {"less": lambda rows: np.full((len(rows), NPIX), UNSEEN, "float32")}, "T", resamples=5)
    with pytest.raises(MapSetError, match="RING or NESTED"):
        compare(map_set(maps, None), {"same": lambda rows: maps[rows]}, "T", resamples=5)


def test_a_report_of_skies(tmp_path):
    C = spectrum()
    truth = map_set([np.where(np.arange(NPIX) < 500, UNSEEN, sky(C, seed)) for seed in range(3)])
    truth.save(tmp_path / "truth.h5")
    again = map_set(
        [np.where(np.arange(NPIX) < 500, UNSEEN, sky(C, 10 + seed)) for seed in range(3)],
        extra={"source_row": np.arange(3), "realisation": np.zeros(3, int)},
    )
    again.save(tmp_path / "hi.h5")
    command = ["validate", tmp_path / "hi.h5", tmp_path / "truth.h5", "--output", tmp_path / "report"]
    assert main([str(word) for word in command]) == 0
    text = (tmp_path / "report" / "report.html").read_text()
    assert "angular power spectrum" in text and "f_sky = 0.959" in text and "wavenumber" not in text
    names = {item.name for item in (tmp_path / "report").iterdir()}
    assert {"maps.png", "angular_power.png", "one_point.png", "metrics.json"} <= names


def test_an_emulator_paints_the_truth_s_sky(monkeypatch):
    """Row by row, at the cells of each shell."""
    from higan.emulator import Emulator

    emulator = Emulator(tiny.painter())
    density = (0.3 * sky(spectrum(), 3) / sky(spectrum(), 3).std()).astype("float32")
    geometry = Geometry(kind="healpix", ndim=1, ordering="RING", redshift=8.0, thickness=8.0)
    fields = {"density": Field(np.stack([density, density])), "brightness_temp": Field(np.ones((2, NPIX), "f4"), "mK")}
    truth = MapSet(fields, [[2.0, 15.0]], tiny.PARAMETERS, [0, 0], geometry)
    angle = float(hp.nside2resol(NSIDE, arcmin=True))
    monkeypatch.setattr("higan.painting.sphere.comoving_distance", lambda *_: 2.0 / np.radians(angle / 60))
    painted = from_emulator(emulator, truth, seed=3, realisations=2).maps(np.array([1]))
    expected = emulator.sample_sky(
        density, {"BIAS": 2.0, "T_MEAN": 15.0}, seed=3, cell_angle=angle, row=1, realisations=2
    )
    np.testing.assert_array_equal(painted[0], expected)


@pytest.mark.skipif("HIGAN_HEALPIX_DATA" not in os.environ, reason="HIGAN_HEALPIX_DATA names no folder of WMAP's maps")
def test_the_power_of_wmap_is_that_of_anafast():
    """The reference that Fortran's anafast gives for WMAP's W band without a mask, as healpy's own tests have it."""
    folder = Path(os.environ["HIGAN_HEALPIX_DATA"])
    band = "wmap_band_iqumap_r9_7yr_W_v4_udgraded32"
    expected = hp.read_cl(folder / f"cl_{band}_II_lmax64_rmmono_3iter_nomask.fits")
    maps = healpix(folder / f"{band}.fits", ["I_STOKES"])
    assert maps.geometry.ordering == "RING"
    found = angular_power(maps.read("I_STOKES")[0])
    np.testing.assert_allclose(found[2:], expected[2:], rtol=1e-4)
