import numpy as np
import pytest
from scipy import integrate

from higan.simulators import neutral_hydrogen as hi


def test_hi_mass_of_haloes():
    """A power law of slope α far above M_min, next to nothing far below."""
    mass = hi.halo_hi_mass(np.array([1e20, 1e21]), 1e10, 1e9, 0.74)
    assert np.log10(mass[1] / mass[0]) == pytest.approx(0.74, abs=1e-3)
    assert hi.halo_hi_mass(np.array(1e8), 3e10, 1e9, 0.74) < 1e-4 * 1e9
    assert hi.halo_hi_mass(np.array(2.0), 1.0, 1.0, 1.0) == pytest.approx(2 * np.exp(-(2**-0.35)))


def test_virial_radius():
    """In a universe of matter alone the mean density within is 18 π² times the mean one, at any redshift."""
    radius = hi.virial_radius(np.array([1e10, 1e12]), 5.0, 0.7, 1.0)
    density = np.array([1e10, 1e12]) / (4 / 3 * np.pi * radius**3)
    np.testing.assert_allclose(density, 18 * np.pi**2 * hi.CRITICAL * 0.49, rtol=1e-9)
    # Today, with Ω_m = 0.3, Δ_c is about 101 (Bryan & Norman 1998).
    today = 1e12 / (4 / 3 * np.pi * hi.virial_radius(np.array(1e12), 0.0, 0.7, 0.3) ** 3)
    assert today / (hi.CRITICAL * 0.49) == pytest.approx(101, abs=1)


@pytest.mark.parametrize("concentration", [2.0, 8.5, 30.0])
def test_radii_follow_the_profile(concentration):
    radii = hi.draw_radii(np.full(200_000, concentration), np.random.default_rng(1))
    assert 0 <= radii.min() and radii.max() <= 1

    def inside(r):
        return integrate.quad(lambda x: x**2 * np.exp(-concentration * x), 0, r)[0]

    for r in (0.1, 0.3, 0.6):
        assert (radii < r).mean() == pytest.approx(inside(r) / inside(1), abs=4e-3)


def test_recombination():
    """Case A at 10^4 K: 4.18e-13 cm³/s (Osterbrock & Ferland 2006, table 2.1), falling about as T^-0.7."""
    assert hi.recombination(np.array(1e4)) == pytest.approx(4.18e-13, rel=0.03)
    assert hi.recombination(np.array([5e3, 2e4])) == pytest.approx([6.82e-13, 2.51e-13], rel=0.03)


@pytest.mark.parametrize("rate", [1e-30, 1e-16, 5e-13])
def test_gas_is_in_photo_ionisation_equilibrium(rate):
    overdensity = np.array([1e-2, 1.0, 1e2, 1e4])
    mean = 6.0e9
    hydrogen = (1 - hi.HELIUM) * mean * overdensity
    x = hi.intergalactic_hi(overdensity, 5.0, mean, rate) / hydrogen
    assert (x > 0).all() and (x <= 1).all() and (np.diff(x) >= 0).all()
    # Protons a cm³: M_sun, Mpc and the proton's mass by hand.
    n = hydrogen * 6**3 * 1.98841e33 / 3.0856776e24**3 / 1.6726219e-24
    electrons = n * (1 - x) * (1 + hi.HELIUM / 4 / (1 - hi.HELIUM))
    recombining = hi.recombination(8000.0 * overdensity**0.3) * electrons * n * (1 - x)
    if rate > 1e-20:
        np.testing.assert_allclose(recombining, rate * n * x, rtol=1e-6)
    else:
        np.testing.assert_allclose(x, 1, rtol=1e-4)


def test_no_gas_no_hydrogen():
    assert hi.intergalactic_hi(np.array(0.0), 5.0, 6e9, 5e-13) == 0


def test_haloes_keep_their_mass_and_place():
    rng = np.random.default_rng(2)
    positions = np.array([[0.05, 3.95, 2.0], [1.5, 1.5, 1.5]])
    grid = hi.haloes_on_grid(positions, np.array([3.0, 5.0]), np.array([0.9, 1e-3]), np.array([3.0, 9.0]), 4, 4.0, rng)
    assert grid.sum() == pytest.approx(8.0)
    assert grid[1, 1, 1] == pytest.approx(5.0), "a small halo lies in its cell"
    around = grid[np.ix_([3, 0], [3, 0], [1, 2])]
    assert around.sum() == pytest.approx(3.0) and (around > 0).all(), "a large one goes round the corner of the box"


def test_a_large_halo_is_spread_over_its_profile():
    rng = np.random.default_rng(3)
    n = 400
    grid = hi.haloes_on_grid(np.full((n, 3), 8.5), np.ones(n), np.full(n, 4.0), np.full(n, 5.0), 17, 17.0, rng)
    x = np.arange(17) - 8.0
    r = np.sqrt(sum(x.reshape([-1 if j == i else 1 for j in range(3)]) ** 2 for i in range(3)))
    assert grid[r > 5].sum() == 0
    inner, outer = grid[r < 1.1].mean(), grid[(r > 2.0) & (r < 2.6)].mean()
    assert 3 < inner / outer < 12  # exp(-r / 0.8) between 0.8 and 2.3: a factor of about 6.5
