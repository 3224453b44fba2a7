import dataclasses

import numpy as np
import pytest
import scipy.fft
from scipy.integrate import trapezoid

from higan.errors import ParameterError
from higan.matter import Cosmology, draw_density, evolve, growth_factor, linear_power_spectrum
from higan.validation.power_spectrum import power_spectrum

PLANCK = Cosmology(h=0.6766, Omega_m=0.31, Omega_b=0.049, n_s=0.9665, sigma_8=0.81)


def test_linear_power_spectrum_beside_camb():
    """Within the acoustic oscillations, which the fit leaves out."""
    camb = pytest.importorskip("camb")
    h = PLANCK.h
    settings = camb.set_params(
        H0=100 * h,
        ombh2=PLANCK.Omega_b * h**2,
        omch2=(PLANCK.Omega_m - PLANCK.Omega_b) * h**2,
        mnu=0.0,
        ns=PLANCK.n_s,
        As=2e-9,
        redshifts=[0.0],
        kmax=20.0,
    )
    results = camb.get_results(settings)
    k, _, power = results.get_matter_power_spectrum(minkh=1e-3, maxkh=10.0, npoints=200)
    expected = power[0] / h**3 * (PLANCK.sigma_8 / results.get_sigma8_0()) ** 2
    ratio = linear_power_spectrum(k * h, PLANCK) / expected
    assert np.abs(ratio - 1).max() < 0.08 and abs(ratio.mean() - 1) < 0.03


@pytest.mark.parametrize("Omega_m", [0.25, 0.31, 1.0])
def test_growth_factor_solves_its_equation(Omega_m):
    """D ∝ H ∫ da / (a H)³ (Heath 1977), to what the fit says of itself."""
    cosmology = dataclasses.replace(PLANCK, Omega_m=Omega_m)

    def hubble(a):
        return np.sqrt(Omega_m / a**3 + 1 - Omega_m)

    def exact(z):
        a = np.linspace(1e-6, 1 / (1 + z), 100_000)
        return hubble(a[-1]) * trapezoid((a * hubble(a)) ** -3.0, a)

    for z in (0.0, 5.0, 8.0):
        assert growth_factor(z, cosmology) == pytest.approx(exact(z) / exact(0.0), rel=3e-3)


def test_matter_that_has_hardly_moved_has_the_linear_power_spectrum():
    cells, cell = 32, 4.0
    boxes = np.stack([draw_density(cells, cell, 200.0, PLANCK, seed=1, row=row) for row in range(8)])
    k, power = power_spectrum(boxes, cell)
    expected = linear_power_spectrum(k, PLANCK) * growth_factor(200.0, PLANCK) ** 2
    below = k < 0.5 * np.pi / cell  # beyond, what the sphere smooths shows
    ratio = power.mean(axis=0)[below] / expected[below]
    x = k[below] * cell * 0.62
    window = (3 * (np.sin(x) - x * np.cos(x)) / x**3) ** 2
    # A few dozen modes in the first bins.
    assert np.abs(ratio[3:] / window[3:] - 1).max() < 0.1 and abs((ratio / window).mean() - 1) < 0.05


@pytest.mark.parametrize("fine", [False, True])
def test_matter_moves_as_in_21cmfast(fine):
    """From 21cmFAST's own initial conditions to its own density, cell by cell."""
    pytest.importorskip("py21cmfast")
    from higan.simulators.twentyonecmfast import TwentyOneCmFast, import_21cmfast, quiet

    simulator = TwentyOneCmFast(cells=32, box_size=36.0 if fine else 64.0, redshift=5.0 if fine else 8.0)
    code = import_21cmfast()
    with quiet():
        inputs = simulator.inputs({"SIGMA_8": 0.8}, 7).evolve_input_structs(PERTURB_ON_HIGH_RES=fine)
        initial = code.compute_initial_conditions(inputs=inputs, write=False)
        expected = code.perturb_field(
            redshift=simulator.redshift, initial_conditions=initial, inputs=inputs, write=False
        ).get("density")
        linear = initial.get("hires_density")
        cosmo = inputs.cosmo_params
    cosmology = Cosmology(cosmo.hlittle, cosmo.OMm, cosmo.OMb, cosmo.POWER_INDEX, 0.8)
    growth = growth_factor(simulator.redshift, cosmology)
    found = evolve(growth * scipy.fft.rfftn(linear), simulator.box_size / 32, coarse=not fine)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert found.std() == pytest.approx(expected.std(), rel=0.01)
    assert ((found - found.mean()) ** 3).mean() == pytest.approx(((expected - expected.mean()) ** 3).mean(), rel=0.1)


def test_universes_that_are_none():
    changes = [{"Omega_b": 0.4}, {"Omega_m": 1.2}, {"h": 0.0}, {"h": np.inf}, {"n_s": np.nan}]
    for change in [*changes, {"sigma_8": -1.0}, {"sigma_8": 1e30}]:
        with pytest.raises(ParameterError, match="No density can be drawn in a universe of"):
            dataclasses.replace(PLANCK, **change)


def test_a_box_is_a_function_of_seed_row_and_realisation():
    def draw(**which):
        return draw_density(8, 2.0, 8.0, PLANCK, **{"seed": 1, **which})

    first = draw()
    np.testing.assert_array_equal(draw(), first)
    for which in ({"seed": 2}, {"row": 1}, {"realisation": 1}):
        assert np.abs(np.corrcoef(draw(**which).ravel(), first.ravel())[0, 1]) < 0.2
    more = draw_density(8, 2.0, 8.0, dataclasses.replace(PLANCK, sigma_8=0.9), seed=1)
    assert more.std() > first.std() and np.corrcoef(more.ravel(), first.ravel())[0, 1] > 0.99


def test_matter_that_goes_round_the_box():
    """Moved by many boxes it takes no more memory, and none of it is lost."""
    linear = scipy.fft.rfftn(1e6 * np.random.default_rng(0).normal(size=(16, 16, 16)))
    box = evolve(linear, 1.0, coarse=True)
    assert box.shape == (8, 8, 8) and abs(box.astype(float).mean()) < 1e-5


@pytest.mark.parametrize("coarse", [False, True])
def test_no_matter_is_lost(coarse):
    """Nor is any added; the sphere is looked through at every second fine cell, which is a sample of the matter."""
    box = draw_density(12, 0.5, 2.0, PLANCK, seed=3, coarse=coarse)  # matter moves by several cells
    assert box.dtype == np.float32 and box.min() > -1.0 - 1e-5
    assert abs(box.astype(float).mean()) < (1e-5 if coarse else 1e-2)
