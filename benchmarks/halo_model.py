"""The simulator of HI after reionisation beside the halo model, and its column densities beside quasar absorbers.

    pip install '.[simulate]' halomod
    python benchmarks/halo_model.py            # two boxes at the fiducial parameters, about two minutes

halomod gives the mean HI density, its bias and its power spectrum of the same relation between HI and haloes, with the
mass function and the bias of Sheth, Mo & Tormen (2001), on its own. What sightlines through the haloes meet follows
from their profiles: the cells of the boxes are too coarse for that.
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from halomod import TracerHaloModel
from halomod.hod import HODBulk
from scipy.special import gammainc, k1

from higan.simulators import neutral_hydrogen as hi
from higan.simulators.design import fiducial
from higan.simulators.post_reionisation import PostReionisation
from higan.validation.power_spectrum import power_spectrum

PROTONS = 1.98840987e33 / 1.67262192e-24  # in a solar mass
MPC = 3.08567758e24  # cm


class NeutralHydrogen(HODBulk):
    """M_HI(M) of Villaescusa-Navarro et al. 2018, in solar masses; halomod's masses are in M_sun/h."""

    _defaults = {"M_min": 8.0, "minimum": 3e10, "normalisation": 2.8e9, "h": 0.68}

    def _satellite_occupation(self, m: np.ndarray) -> np.ndarray:
        p = self.params
        return hi.halo_hi_mass(m / p["h"], p["minimum"], p["normalisation"])

    def _central_occupation(self, m: np.ndarray) -> np.ndarray:
        return np.zeros_like(m)

    def sigma_satellite(self, m: np.ndarray) -> np.ndarray:
        """No scatter."""
        return np.zeros_like(m)


def column_densities(mass: np.ndarray, hydrogen: np.ndarray, volume: float, z: float, h: float, omega_m: float) -> None:
    """Print f(N_HI) of sightlines through exponential profiles, and its slope.

    Observed at 2.2 < z < 5.5 (Prochaska, Herbert-Fort & Wolfe 2005, ApJ 635, 123): N^-1.8 exp(-N / 10^21.5) from 2e20
    per cm² on, whatever the redshift.
    """
    concentration = hi.hi_concentration(mass, z)
    scale = hi.virial_radius(mass, z, h, omega_m) / (1 + z) / concentration  # proper Mpc
    centre = hydrogen / (8 * np.pi * scale**3 * gammainc(3, concentration))
    # N(b) = 2 ρ_0 b K_1(b / r_s), cut at no radius: what lies beyond the virial one is next to nothing.
    b = np.logspace(-3, 1.2, 400)
    profile, unit = 2 * b * k1(b), centre * scale * PROTONS / MPC**2
    edges = np.arange(18.0, 22.1, 0.5)
    inside = np.array([np.interp(-np.log(10**edge / unit), -np.log(profile), b, left=0.0) for edge in edges])
    area = np.pi * (scale**2 * (inside[:-1] ** 2 - inside[1:] ** 2)).sum(axis=1)
    f = area / volume * 2.99792458e5 / (100 * h) / np.diff(10**edges)  # dX = (1 + z)² H_0 dl / c per comoving dl
    for low, value, slope in zip(edges, np.log10(f), np.gradient(np.log10(f), 0.5), strict=False):
        seen = f", observed {-1.8 - 10 ** (low + 0.25 - 21.5):.2f}" if low > 20 else ""
        print(f"log N_HI {low:.1f} to {low + 0.5:.1f}: log f(N, X) {value:.2f}, slope {slope:.2f}{seen}")


def main() -> None:
    """Run the boxes and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    seeds = parser.parse_args().seeds
    code = PostReionisation()
    theta = dict(zip((p.name for p in code.parameters), fiducial(code.parameters), strict=True))
    fields = [code.run(theta, seed) for seed in seeds]
    catalogues = [code.haloes(theta, seed) for seed in seeds]
    cosmo, mass = catalogues[0][3], np.concatenate([haloes[1] for haloes in catalogues])
    h, omega_m, z, volume = cosmo.hlittle, cosmo.OMm, code.redshift, len(seeds) * code.box_size**3
    minimum, normalisation = 10 ** theta["LOG10_M_MIN"], 1.9e9 / h
    model = TracerHaloModel(
        z=z,
        Mmin=8.0,
        Mmax=14.0,
        hmf_model="SMT",
        bias_model="SMT01",
        hod_model=NeutralHydrogen,
        hod_params={"minimum": minimum, "normalisation": normalisation, "h": h},
        cosmo_model=FlatLambdaCDM(H0=100 * h, Om0=omega_m, Ob0=cosmo.OMb, Tcmb0=2.725),
        sigma_8=theta["SIGMA_8"],
        n=cosmo.POWER_INDEX,
        transfer_model="EH",
    )
    critical = hi.CRITICAL * h**2
    mean = float(np.mean([box["hi_density"].mean() for box in fields]))
    print(f"Omega_HI: boxes {mean / critical:.2e}, halo model {model.mean_tracer_den * h**3 / critical:.2e}")
    print(f"bias of HI: halo model {model.bias_effective_tracer:.2f}")
    hydrogen = np.stack([box["hi_density"] / box["hi_density"].mean() for box in fields])
    k, P = power_spectrum(hydrogen, code.box_size / code.cells)
    P_matter = power_spectrum(np.stack([box["density"] for box in fields]), code.box_size / code.cells)[1]
    # The scatter about the mean relation adds to the haloes' own term.
    own = model.power_1h_auto_tracer * np.exp((hi.SCATTER * np.log(10)) ** 2)
    total = np.interp(k, model.k_hm * h, (own + model.power_2h_auto_tracer) / h**3)
    for i in np.unique(np.geomspace(1, len(k), 10).astype(int)) - 1:
        ours = P[:, i].mean()
        bias = np.sqrt(ours / P_matter[:, i].mean())
        print(f"k {k[i]:6.2f} /Mpc: P_HI {ours:8.1f} Mpc³, halo model {total[i]:8.1f}, sqrt(P_HI / P_m) {bias:.2f}")
    column_densities(mass, hi.halo_hi_mass(mass, minimum, normalisation), volume, z, h, omega_m)


if __name__ == "__main__":
    main()
