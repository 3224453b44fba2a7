"""21cmFAST: the epoch of reionisation by the excursion set.

Mesinger, Furlanetto & Cen 2011 (MNRAS 411, 955); Murray et al. 2020 (JOSS 5, 2582). Stellar-mass-to-halo-mass
parameters as in Park et al. 2019 (MNRAS 484, 933), equation 2.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from higan.errors import HiganError, MissingDependencyError
from higan.mapset import Geometry, Parameter
from higan.simulators.design import SETS, Design, design_of

TEMPLATE = ("simple", "small")


@dataclasses.dataclass(frozen=True)
class TwentyOneCmFast:
    """21cmFAST with its templates "simple" and "small": a coeval box at one redshift.

    The settings as they are give the reference set ``eor21cm``. Fields are the evolved matter overdensity,
    the neutral fraction and the brightness temperature (mK; spin temperature far above that of the CMB, no
    redshift-space distortions).

    Sets, and the seeds they have where none is given:

    - ``lh``: 200 of 256 points of a scrambled Sobol sequence (seed 1), seeds 1000 + i; rows 0–159 train,
      160–175 validation, 176–199 test.
    - ``new``: 24 simulations, or as many as are asked for, at points of the sequence beyond those 256, seeds 4000 + i.
    - ``cv``: 27 simulations, or as many as are asked for, at the middle of the ranges, seeds 2000 + i.
    - ``1p``: fiducial, then each parameter at -1, -½, -¼, ¼, ½ and 1 half-widths of its range from there: 19
      simulations, all with seed 3000.

    Parameters
    ----------
    cells : int
        Cells along a side of the box; the initial conditions have twice as many.
    box_size : float
        Side of the box in Mpc.
    redshift : float
    """

    cells: int = dataclasses.field(default=64, metadata={"help": "cells along a side of the box"})
    box_size: float = dataclasses.field(default=128.0, metadata={"help": "side of the box, Mpc"})
    redshift: float = dataclasses.field(default=8.0, metadata={"help": "redshift of the box"})

    name: ClassVar[str] = "21cmFAST"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        # log10 of the stellar fraction in haloes of 10^10 solar masses
        Parameter("F_STAR10", "", -1.7, -1.1),
        Parameter("ALPHA_STAR", "", 0.3, 0.7),
        Parameter("SIGMA_8", "", 0.7, 0.9),
    )
    fields: ClassVar[dict[str, tuple[str, str]]] = {
        "density": ("", "matter overdensity"),
        "neutral_fraction": ("", "neutral fraction of hydrogen"),
        "brightness_temp": ("mK", "21 cm brightness temperature"),
    }
    sets: ClassVar[dict[str, str]] = SETS
    splits: ClassVar[tuple[tuple[str, int], ...]] = (("train", 160), ("validation", 16), ("test", 24))
    seeds: ClassVar[dict[str, int]] = {"lh": 1000, "cv": 2000, "1p": 3000, "new": 4000}
    per_part: ClassVar[int] = 1

    def check(self) -> None:
        """Refuse settings that make no sense, and a machine without 21cmFAST, before any work is done."""
        for setting, ok in (
            ("cells", self.cells >= 4),
            ("box_size", self.box_size > 0),
            ("redshift", self.redshift > 0),
        ):
            if not ok:
                raise HiganError(f"21cmFAST cannot run with {setting} = {getattr(self, setting)}. Give a larger value.")
        import_21cmfast()

    def version(self) -> str:
        """Version of 21cmFAST."""
        import_21cmfast()
        return importlib.metadata.version("21cmFAST")

    def shape(self) -> tuple[int, ...]:
        """Cells of a box."""
        return (self.cells,) * 3

    def geometry(self) -> Geometry:
        """A periodic box, with the background cosmology that the template has (SIGMA_8 is a parameter)."""
        cosmo = self.inputs({}, 1).cosmo_params
        return Geometry(
            kind="box",
            ndim=3,
            box_size=float(self.box_size),
            box_size_units="Mpc",
            periodic=True,
            redshift=float(self.redshift),
            cosmology={
                "h": cosmo.hlittle,
                "Omega_m": cosmo.OMm,
                "Omega_b": cosmo.OMb,
                "n_s": cosmo.POWER_INDEX,
            },
        )

    def design(self, set: str, seed: int | None = None, n: int | None = None) -> Design:
        """The simulations of a set; see the class."""
        return design_of(set, self.parameters, self.splits, self.seeds[set] if seed is None else seed, n)

    def run(self, parameters: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
        """One coeval box; nothing is cached on disc."""
        with quiet():
            inputs = self.inputs(parameters, seed)
            box = import_21cmfast().run_coeval(
                inputs=inputs, out_redshifts=[float(self.redshift)], write=False, progressbar=False
            )[0]
            return {
                "density": box.perturbed_field.get("density"),
                "neutral_fraction": box.ionized_box.get("neutral_fraction"),
                "brightness_temp": box.brightness_temperature.get("brightness_temp"),
            }

    def inputs(self, parameters: Mapping[str, float], seed: int) -> Any:
        """What 21cmFAST calls InputParameters: templates, settings, `parameters` by its names, and the seed."""
        with quiet():
            template = import_21cmfast().InputParameters.from_template(list(TEMPLATE), random_seed=seed)
            options = dict(HII_DIM=self.cells, DIM=2 * self.cells, BOX_LEN=float(self.box_size), N_THREADS=1)
            # 21cmFAST refuses a box in which three of the largest ionised bubbles do not lie side by side.
            if template.astro_params.R_BUBBLE_MAX > self.box_size / 3:
                options["R_BUBBLE_MAX"] = self.box_size / 3
            return template.evolve_input_structs(**options, **parameters)


@functools.cache
def import_21cmfast() -> Any:
    """The package of 21cmFAST; MissingDependencyError that says what to install where it cannot be imported."""
    with quiet():
        try:
            import py21cmfast
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"21cmFAST is not installed ({error}). Install gcc, libfftw3-dev and libgsl-dev, then: "
                "pip install 'higan[simulate]'."
            ) from error
        except (ImportError, OSError) as error:
            raise MissingDependencyError(
                f"21cmFAST is installed but a library it needs is missing ({error}). Install libfftw3-dev "
                "and libgsl-dev, then install 21cmFAST again."
            ) from error
    return py21cmfast


class quiet(warnings.catch_warnings):
    """Without 21cmFAST's warnings about settings that are meant."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        self._disabled = logging.root.manager.disable
        logging.disable(logging.ERROR)
        return entered

    def __exit__(self, *details: Any) -> None:
        logging.disable(self._disabled)
        super().__exit__(*details)
