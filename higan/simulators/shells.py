"""Shells of the sky: log-normal matter by GLASS, and neutral hydrogen that traces it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from higan.errors import HiganError, MissingDependencyError
from higan.mapset import Geometry, Parameter
from higan.painting.sphere import comoving_distance
from higan.simulators.design import SETS, Design, design_of

H, OMEGA_B, N_S = 0.6766, 0.049, 0.9665  # Planck 2018, 1807.06209, table 2
SHOT_NOISE = 124.0  # (Mpc/h)³ at z = 1: Villaescusa-Navarro et al. 2018, ApJ 866, 135
_MATTER, _HALOES = 0, 1  # streams of random numbers, beside one another for one seed


@dataclasses.dataclass(frozen=True)
class Shells:
    """Full-sky shells of matter and of the 21-cm brightness temperature of the HI that traces it.

    The matter overdensity, averaged over the depth of the shell, is a log-normal field (GLASS, Tessore et al. 2023,
    OJAp 6, 11) with CAMB's non-linear angular power spectrum, at the middles of HEALPix pixels. HI comes in equal
    units, as many in a pixel as a Poisson distribution gives with a mean proportional to (1 + δ)^b, one in 124
    (Mpc/h)³ on average, the shot noise of HI at z = 1. Its mean temperature is 189 h Ω_HI (1 + z)² / E(z) mK
    (Villaescusa-Navarro et al. 2018), Ω_HI = 4e-4 (1 + z)^0.6 (Crighton et al. 2015, MNRAS 452, 217).

    Sets, and the seeds they have where none is given:

    - ``lh``: 24 shells on a scrambled Sobol sequence, seeds 31000 + i; 16 train, 4 validation, 4 test.
    - ``new``: 24 shells, or as many as are asked for, at further points of the sequence, seeds 34000 + i.
    - ``cv``: 27 shells, or as many as are asked for, at the middle of the ranges, seeds 32000 + i.
    - ``1p``: fiducial, then each parameter over its range, all with seed 33000.

    Parameters
    ----------
    nside : int
        Of the maps, in RING order.
    redshift : float
        Of the middle of the shell.
    thickness : float
        In Mpc.
    """

    nside: int = dataclasses.field(default=256, metadata={"help": "of the maps"})
    redshift: float = dataclasses.field(default=1.0, metadata={"help": "of the middle of the shell"})
    thickness: float = dataclasses.field(default=100.0, metadata={"help": "of the shell, Mpc"})

    name: ClassVar[str] = "GLASS"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("SIGMA_8", "", 0.7, 0.9),
        Parameter("OMm", "", 0.25, 0.37),
        # 1.49 at z = 1 in Villaescusa-Navarro et al. 2018.
        Parameter("HI_BIAS", "", 1.2, 1.8),
    )
    fields: ClassVar[dict[str, tuple[str, str]]] = {
        "density": ("", "matter overdensity"),
        "brightness_temp": ("mK", "21 cm brightness temperature"),
    }
    sets: ClassVar[dict[str, str]] = SETS
    splits: ClassVar[tuple[tuple[str, int], ...]] = (("train", 16), ("validation", 4), ("test", 4))
    seeds: ClassVar[dict[str, int]] = {"lh": 31000, "cv": 32000, "1p": 33000, "new": 34000}
    per_part: ClassVar[int] = 1

    def check(self) -> None:
        """Refuse settings that make no sense, and a machine without GLASS or CAMB, before any work is done."""
        if self.nside < 1 or self.nside & (self.nside - 1):
            raise HiganError(f"nside is a power of two, received {self.nside}. Give --nside 256 or the like.")
        if self.thickness <= 0 or self.redshift <= 0 or comoving_distance(self.redshift) < self.thickness:
            raise HiganError(
                f"There is no shell of {self.thickness:g} Mpc at z = {self.redshift:g}. Give a thickness above 0 "
                "and less than the distance."
            )
        _import()

    def version(self) -> str:
        """Versions of GLASS and CAMB, and of the recipe for HI."""
        glass, camb = _import()
        return f"{glass.__version__}, CAMB {camb.__version__}, HI 1"

    def shape(self) -> tuple[int, ...]:
        """Pixels of a sky."""
        return (12 * self.nside**2,)

    def geometry(self) -> Geometry:
        """A sky, and where the shell lies."""
        return Geometry(
            kind="healpix",
            ndim=1,
            periodic=False,
            redshift=self.redshift,
            thickness=self.thickness,
            ordering="RING",
            cosmology={"h": H, "Omega_b": OMEGA_B, "n_s": N_S},
        )

    def design(self, set: str, seed: int | None = None, n: int | None = None) -> Design:
        """The simulations of a set; see the class."""
        return design_of(set, self.parameters, self.splits, self.seeds[set] if seed is None else seed, n)

    def run(self, parameters: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
        """One shell."""
        glass, _ = _import()
        redshifts, window = self._window(parameters["OMm"])
        shells = [glass.RadialWindow(redshifts, window, self.redshift)]
        fields = glass.lognormal_fields(shells)
        spectra = glass.discretized_cls([self.angular_power(parameters)], lmax=3 * self.nside - 1)
        gaussian = glass.solve_gaussian_spectra(fields, spectra)
        drawn = glass.generate(fields, gaussian, self.nside, rng=np.random.default_rng([seed, _MATTER]))
        density = np.asarray(next(iter(drawn)))
        weight = (1 + density) ** parameters["HI_BIAS"]
        distance = _cosmology(parameters["OMm"]).comoving_distance(self.redshift).value
        ends = distance + self.thickness / 2, distance - self.thickness / 2
        volume = 4 * np.pi / 3 * (ends[0] ** 3 - ends[1] ** 3) / len(density) * H**3
        mean = volume / SHOT_NOISE * weight / weight.mean()
        units = np.random.default_rng([seed, _HALOES]).poisson(mean)
        temperature = mean_temperature(self.redshift, parameters["OMm"]) * units * SHOT_NOISE / volume
        return {"density": density.astype(np.float32), "brightness_temp": temperature.astype(np.float32)}

    def angular_power(self, parameters: Mapping[str, float]) -> np.ndarray:
        """CAMB's C_l of the matter in the shell, up to l = 3 nside - 1."""
        return self._angular_power(parameters["SIGMA_8"], parameters["OMm"])

    @functools.lru_cache(maxsize=1)  # noqa: B019 - frozen, of a few numbers; shells of one set differ in seed alone
    def _angular_power(self, wanted: float, omega_m: float) -> np.ndarray:
        _, camb = _import()
        lmax = 3 * self.nside - 1

        def settings(amplitude: float) -> Any:
            return camb.set_params(
                H0=100 * H,
                ombh2=OMEGA_B * H**2,
                omch2=(omega_m - OMEGA_B) * H**2,
                ns=N_S,
                As=amplitude,
                NonLinear=camb.model.NonLinear_both,
            )

        trial = settings(2e-9)
        trial.set_matter_power(redshifts=[0.0], kmax=2.0)
        sigma_8 = camb.get_results(trial).get_sigma8_0()
        final = settings(2e-9 * (wanted / sigma_8) ** 2)
        final.Want_CMB = final.Want_CMB_lensing = False
        final.min_l = 1
        final.set_for_lmax(lmax, lens_potential_accuracy=1)
        terms = final.SourceTerms
        for name in ("redshift", "lensing", "velocity", "radial", "timedelay", "ISW", "potential"):
            setattr(terms, f"counts_{name}", False)
        terms.limber_windows = True
        redshifts, window = self._window(omega_m)
        # Splines of CAMB want the window to end at zero.
        step = redshifts[1] - redshifts[0]
        around = np.concatenate([[redshifts[0] - step], redshifts, [redshifts[-1] + step]])
        source = camb.sources.SplinedSourceWindow(
            source_type="counts", bias=1.0, z=around, W=np.concatenate([[0.0], window, [0.0]])
        )
        final.SourceWindows = [source]
        return np.asarray(camb.get_results(final).get_source_cls_dict(lmax=lmax, raw_cl=True)["W1xW1"])

    def _window(self, omega_m: float) -> tuple[np.ndarray, np.ndarray]:
        """Redshifts across the shell, and the volume at each, normalised."""
        from astropy import units
        from astropy.cosmology import z_at_value

        model = _cosmology(omega_m)
        middle = model.comoving_distance(self.redshift).value
        ends = (middle - self.thickness / 2, middle + self.thickness / 2)
        first, last = (float(z_at_value(model.comoving_distance, end * units.Mpc).value) for end in ends)
        redshifts = np.linspace(first, last, 51)
        volume = model.differential_comoving_volume(redshifts).value
        return redshifts, volume / np.trapezoid(volume, redshifts)


def mean_temperature(redshift: float, omega_m: float) -> float:
    """Mean brightness temperature of HI after reionisation, in mK; see :class:`Shells`.

    Examples
    --------
    >>> round(mean_temperature(1.0, 0.31), 3)
    0.174
    """
    omega_hi = 4e-4 * (1 + redshift) ** 0.6
    expansion = np.sqrt(omega_m * (1 + redshift) ** 3 + 1 - omega_m)
    return float(189 * H * omega_hi * (1 + redshift) ** 2 / expansion)


def _cosmology(omega_m: float) -> Any:
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(100 * H, omega_m)


def _import() -> tuple[Any, Any]:
    """GLASS and CAMB; MissingDependencyError that says what to install where they cannot be imported."""
    try:
        import camb
        import glass
    except ImportError as error:
        raise MissingDependencyError(
            f"Shells take GLASS and CAMB ({error}). Install them: pip install 'higan[simulate]'."
        ) from error
    return glass, camb
