"""Neutral hydrogen after reionisation, painted on the haloes and the density of 21cmFAST.

Initial conditions, evolved density (second-order Lagrangian perturbation theory) and haloes (excursion-set halo finder,
Mesinger & Furlanetto 2007, ApJ 669, 663) come from 21cmFAST; HI in haloes and between them from published recipes, see
:mod:`higan.simulators.neutral_hydrogen`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from higan.mapset import Geometry, Parameter
from higan.simulators import neutral_hydrogen as hi
from higan.simulators.twentyonecmfast import TwentyOneCmFast, import_21cmfast, quiet

_HALOES, _SCATTER = 1, 2  # streams of random numbers, beside one another for one seed


@dataclasses.dataclass(frozen=True)
class PostReionisation(TwentyOneCmFast):
    """HI after reionisation: haloes and a photo-ionised intergalactic medium at one redshift.

    The settings as they are give the reference set ``hi-z5``: cells of 0.28 Mpc, five times those of HIGAN's cubes
    (Zamudio-Fernandez et al. 2019, 1904.12846: 35 kpc/h). Fields are the evolved matter overdensity, the comoving
    density of HI in M_sun/Mpc³, and for comparison what a halo model makes of the same haloes. The HI of a halo of
    mass M has the mean M_0 (M/M_min)^0.74 exp(-(M_min/M)^0.35), M_0 = 1.9e9 M_sun/h, with a log-normal scatter of
    0.2 dex, and an exponential profile; the gas between haloes follows the density and is in photo-ionisation
    equilibrium. Haloes are found down to the mass of a cell of the initial conditions, 1.1e8 M_sun, which hold a
    ten-thousandth of M_0.

    Sets, and the seeds they have where none is given:

    - ``lh``: 176 of 256 points of a scrambled Sobol sequence (seed 1), seeds 11000 + i; rows 0–87 train, 88–99
      validation, 100–111 test, 112–175 train.
    - ``new``: 24 simulations, or as many as are asked for, at points of the sequence beyond those 256, seeds 14000 + i.
    - ``cv``: 27 simulations, or as many as are asked for, at the middle of the ranges, seeds 12000 + i.
    - ``1p``: fiducial, then each parameter at -1, -½, -¼, ¼, ½ and 1 half-widths of its range from there: 25
      simulations, all with seed 13000.

    Parameters
    ----------
    cells : int
        Cells along a side of the box; the initial conditions have twice as many.
    box_size : float
        Side of the box in Mpc.
    redshift : float
    """

    cells: int = dataclasses.field(default=128, metadata={"help": "cells along a side of the box"})
    box_size: float = dataclasses.field(default=36.0, metadata={"help": "side of the box, Mpc"})
    redshift: float = dataclasses.field(default=5.0, metadata={"help": "redshift of the box"})

    name: ClassVar[str] = "21cmFAST haloes with HI"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        # Around Planck 2018 (A&A 641, A6: σ₈ = 0.811, Ω_m = 0.315), as wide as lensing surveys leave them (DES Y3,
        # Abbott et al. 2022, PRD 105, 023520: 0.733 +0.039 -0.049, 0.339 +0.032 -0.031).
        Parameter("SIGMA_8", "", 0.7, 0.9),
        Parameter("OMm", "", 0.25, 0.37),
        # log10 of the rate at which a hydrogen atom is ionised: about -12.3 at z = 5 in Gaikwad et al. 2023, MNRAS 525,
        # 4093, and up to -12.0 in Becker & Bolton 2013, MNRAS 436, 1023.
        Parameter("LOG10_GAMMA_HI", "dex(1 / s)", -12.6, -12.0),
        # log10 of M_min: Villaescusa-Navarro et al. 2018, table 1, has 2.0e10 M_sun/h at z = 5 and 6.7e10 at z = 3.
        Parameter("LOG10_M_MIN", "dex(solMass)", 10.0, 11.0),
    )
    fields: ClassVar[dict[str, tuple[str, str]]] = {
        "density": ("", "matter overdensity"),
        "hi_density": ("solMass / Mpc3", "comoving density of neutral hydrogen"),
        "hi_halo_model": ("solMass / Mpc3", "the same by a halo model: mean HI at the centres of the true haloes"),
    }
    splits: ClassVar[tuple[tuple[str, int], ...]] = (("train", 88), ("validation", 12), ("test", 12), ("train", 64))
    seeds: ClassVar[dict[str, int]] = {"lh": 11000, "cv": 12000, "1p": 13000, "new": 14000}

    def version(self) -> str:
        """Version of 21cmFAST, and of the recipes for HI."""
        return f"{super().version()}, HI 1"

    def geometry(self) -> Geometry:
        """A periodic box, with the background cosmology that is no parameter."""
        geometry = super().geometry()
        cosmology = {k: v for k, v in geometry.cosmology.items() if k != "Omega_m"}
        return dataclasses.replace(geometry, cosmology=cosmology)

    def run(self, parameters: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
        """One box; nothing is cached on disc.

        Parameters
        ----------
        parameters : mapping of str to float
            A value of each of the class's parameters, in their units.
        seed : int
            Of the initial conditions, of the haloes' scatter in HI and of where in them it lies.

        Returns
        -------
        dict of array, shape (cells, cells, cells)
            The class's fields, in their units.
        """
        density, mass, positions, cosmo = self.haloes(parameters, seed)
        h, omega_m = cosmo.hlittle, parameters["OMm"]
        scatter = np.random.default_rng([seed, _SCATTER]).normal(size=len(mass)) * hi.SCATTER * np.log(10)
        mean = hi.halo_hi_mass(mass, 10 ** parameters["LOG10_M_MIN"], 1.9e9 / h, 0.74)
        in_haloes = hi.haloes_on_grid(
            positions,
            mean * np.exp(scatter - 0.5 * (hi.SCATTER * np.log(10)) ** 2),  # the scatter keeps the mean
            hi.virial_radius(mass, self.redshift, h, omega_m),
            hi.hi_concentration(mass, self.redshift),
            self.cells,
            self.box_size,
            np.random.default_rng([seed, _HALOES]),
        )
        between = hi.intergalactic_hi(
            1 + density, self.redshift, cosmo.OMb * hi.CRITICAL * h**2, 10 ** parameters["LOG10_GAMMA_HI"]
        )
        # A profile of no extent.
        central = hi.haloes_on_grid(
            positions,
            mean,
            np.zeros_like(mass),
            np.ones_like(mass),
            self.cells,
            self.box_size,
            np.random.default_rng(0),
        )
        return {"density": density, "hi_density": in_haloes + between, "hi_halo_model": central}

    def haloes(self, parameters: Mapping[str, float], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
        """The matter, and the haloes in it, that :meth:`run` fills with HI, for the same arguments.

        Returns
        -------
        density : array, shape (cells, cells, cells)
            Overdensity.
        masses : array, shape (n,)
            M_sun.
        positions : array, shape (n, 3)
            Comoving Mpc.
        cosmology : py21cmfast.CosmoParams
        """
        code = import_21cmfast()
        with quiet():
            cosmology = {name: parameters[name] for name in ("SIGMA_8", "OMm")}
            # Displacements of the coarse grid would leave the lattice of the fine one visible in voids.
            inputs = self.inputs(cosmology, seed).evolve_input_structs(
                SOURCE_MODEL="DEXM-ESF", PERTURB_ON_HIGH_RES=True
            )
            initial = code.compute_initial_conditions(inputs=inputs, write=False)
            given = dict(initial_conditions=initial, inputs=inputs, write=False)
            density = code.perturb_field(redshift=self.redshift, **given).get("density")
            catalogue = code.determine_halo_catalog(redshift=self.redshift, **given)
            haloes = code.perturb_halo_catalog(halo_catalog=catalogue, **given)
        mass = haloes.get("halo_masses")
        found = mass > 0
        return density, mass[found].astype(float), haloes.get("halo_coords")[found].astype(float), inputs.cosmo_params
