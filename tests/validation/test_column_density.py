"""Column densities: a slab of uniform gas by hand, lognormal columns, and where they are not defined."""

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from scipy import stats

from higan.validation.column_density import ColumnDensity, atoms_per_area
from higan.validation.statistic import Setting

SETTING = Setting((64, 64), 2.0, units="solMass / Mpc3", thickness=4.0, redshift=5.0)


def evaluate(truth, generated, setting=SETTING):
    """Numbers and curves of maps (n, *shape) that are each a simulation."""
    family = ColumnDensity(setting)
    sums = family.measure_truth(truth.astype("float32"))
    sums |= family.measure(truth.astype("float32"), generated[:, None].astype("float32"))
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def density(log10_column):
    """Of solar masses per comoving Mpc^3 in the setting's slab."""
    return 10**log10_column / atoms_per_area(1.0, SETTING.units, SETTING.thickness, SETTING.redshift)


def test_a_uniform_slab_by_hand():
    """1e8 solar masses of 1.989e33 g in a comoving (Mpc = 3.0857e24 cm)^3, 4 Mpc deep, at z = 5; m_H = 1.6735e-24 g."""
    by_hand = 1e8 * 1.98841e33 / 3.08568e24**2 * 4 * 6**2 / 1.67353e-24
    assert atoms_per_area(1e8, "solMass / Mpc3", 4.0, 5.0) == pytest.approx(by_hand, rel=1e-4)
    values = evaluate(np.full((2, 64, 64), 1e8), np.full((2, 64, 64), 1e8))
    (place,) = np.flatnonzero(values["column_density_truth"])
    assert abs(values["log10_column_density"][place] - np.log10(by_hand)) <= 0.125
    # One column a path of 4 Mpc, in a bin of a quarter of a decade.
    low, high = 10 ** (values["log10_column_density"][place] + np.array([-0.125, 0.125]))
    assert values["column_density_truth"][place] == pytest.approx(1 / (high - low) / 4)
    assert values["column_density_error"] == 0


def test_columns_against_astropy_in_proper_units():
    cosmology = FlatLambdaCDM(H0=67.66, Om0=0.31)
    z, comoving_density, thickness = 5.0, 3e7 * u.solMass / u.Mpc**3, 4.0 * u.Mpc
    proper_density, proper_depth = comoving_density * (1 + z) ** 3, thickness * cosmology.scale_factor(z)
    expected = (proper_density * proper_depth / (constants.m_p + constants.m_e)).to_value(u.cm**-2)
    assert atoms_per_area(3e7, "solMass / Mpc3", 4.0, z) == pytest.approx(expected, rel=1e-6)
    assert atoms_per_area(3e7, "solMass / Mpc3", 4000.0, z, "kpc") == pytest.approx(expected, rel=1e-6)
    grams = comoving_density.to_value(u.g / u.cm**3)
    assert atoms_per_area(np.full(3, grams), "g / cm3", 4.0, z) == pytest.approx(np.full(3, expected), rel=1e-6)


def test_absorption_distance_as_the_docstring_has_it():
    """f(N, X) dX = f(N) dL, with dX = (1 + z)^2 H_0 / H dz and dL = c / H dz as astropy gives them."""
    cosmology = FlatLambdaCDM(H0=67.66, Om0=0.31)
    step = 1e-4
    dX = step * cosmology.abs_distance_integrand(5.0)
    dL = (cosmology.comoving_distance(5 + step / 2) - cosmology.comoving_distance(5 - step / 2)).to(u.Mpc)
    factor = (constants.c / cosmology.H0 / 6**2).to(u.Mpc)
    assert float(dL / dX / factor) == pytest.approx(1, rel=1e-4)


def test_lognormal_columns():
    rng = np.random.default_rng(1)
    log10_columns = rng.normal(17.0, 1.0, size=(50, 64, 64))
    values = evaluate(density(log10_columns), density(log10_columns))
    edges = 10 + np.arange(57) / 4
    expected = np.diff(stats.norm.cdf(edges, 17.0, 1.0)) / np.diff(10**edges) / SETTING.thickness
    common = slice(18, 38)
    np.testing.assert_allclose(values["column_density_truth"][common], expected[common], rtol=0.1)


def test_errors_by_decade():
    """Half of the columns of a decade moved to a rare one: 50 % off there, and right in the other."""
    truth = np.full((4, 64, 64), density(12.5))
    truth[:, :32] = density(20.5)
    truth[0, 0, 0] = 0.0  # in no decade
    generated = truth.copy()
    generated[:, :16] = density(22.5)
    values = evaluate(truth, generated)
    # Of the first decade's 8191 columns one is empty in both.
    assert values["column_density_error"] == pytest.approx(0.25, rel=1e-3)
    assert values["column_density_worst_error"] == pytest.approx(0.5, rel=1e-3)
    assert values["column_density_worst_decade"] == 20


def test_rare_decades_do_not_count():
    truth = np.full((30, 64, 64), density(15.5))
    truth[0, 0, 0] = density(23.5)  # of 122880 cells: less than 1e-5
    values = evaluate(truth, np.full_like(truth, density(15.5)))
    assert values["column_density_error"] < 1e-4


def test_a_box_has_a_column_a_cell():
    setting = Setting((8, 8, 8), 4.0, units="solMass / Mpc3", redshift=5.0)
    maps = np.full((1, 8, 8, 8), 1e8)
    flat = evaluate(np.full((1, 64, 64), 1e8), np.full((1, 64, 64), 1e8))
    np.testing.assert_array_equal(evaluate(maps, maps, setting)["column_density"], flat["column_density"])


@pytest.mark.parametrize(
    "changes",
    [
        {"units": "mK"},
        {"units": ""},
        {"units": "nonsense"},
        {"units": "dex(solMass)"},
        {"length_units": "Mpc/h"},
        {"units": "littleh solMass / Mpc2", "length_units": "Mpc/h"},
        {"redshift": None},
        {"thickness": None},
    ],
)
def test_not_defined(changes):
    import dataclasses

    setting = dataclasses.replace(SETTING, shape=(8, 8), **changes)
    maps = np.random.default_rng(2).normal(size=(2, 8, 8))
    values = evaluate(maps, maps, setting)
    assert all(np.isnan(values[key]) for key in ColumnDensity.numbers)
    assert np.isnan(values["column_density_truth"]).all()


def test_units_that_are_no_density():
    with pytest.raises(ValueError, match="'mK' times 'Mpc' is not a mass per area"):
        atoms_per_area(1.0, "mK", 4.0, 5.0)


@pytest.mark.parametrize("shape", [(8,), (8, 8), (8, 8, 8)])
def test_empty_and_negative_maps(shape):
    setting = Setting(shape, 2.0, units="solMass / Mpc3", thickness=4.0, redshift=5.0)
    for value in (0.0, -1.0):
        values = evaluate(np.full((1, *shape), value), np.full((1, *shape), 1e8), setting)
        assert np.isnan(values["column_density_error"]) and (values["column_density_truth"] == 0).all()
