"""Galaxies for GalSim, drawn by a checkpoint of galaxy stamps, in Python and in GalSim's configuration files; and what
a shear measurement makes of stamps.

>>> import galsim
>>> from higan.galsim import HiganGalaxy
>>> rng = galsim.BaseDeviate(1)
>>> galaxy = HiganGalaxy(flux_radius=5.0, mag_auto=22.5, zphot=0.7, rng=rng)
>>> seen = galsim.Convolve(galaxy.shear(g1=0.02), galsim.Kolmogorov(fwhm=0.7))
>>> image = seen.drawImage(scale=0.2)

In YAML the parameters are fields like any other::

    modules:
        - higan.galsim
    gal:
        type: HiganGalaxy
        flux_radius: { type: Random, min: 3, max: 8 }
        mag_auto: { type: Random, min: 21, max: 23 }
        zphot: 0.7
        shear: { type: G1G2, g1: 0.02, g2: 0 }
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import CheckpointError, HiganError, ParameterError
from higan.photometry import PIXEL, acs_kernel
from higan.progress import progress
from higan.simulators.galaxy_population import import_galsim
from higan.sources.tables import read_parameters

try:
    import galsim
except ModuleNotFoundError:
    import_galsim()  # says what to install

if TYPE_CHECKING:
    from higan.emulator import Emulator

CHECKPOINT = "cosmos-like"


class HiganGalaxy(galsim.InterpolatedImage):
    """A galaxy of given parameters, its shape drawn at random by a checkpoint of galaxy stamps.

    It is a :class:`galsim.InterpolatedImage` of the stamp at its pixel scale, with all that GalSim does with one. Its
    flux is the sum over the stamp, in counts per second at the zero point :data:`higan.photometry.ZERO_POINT`;
    ``galaxy * 10 ** (0.4 * (zero_point - ZERO_POINT))`` has that of another. Pickled, it takes its stamp with it.

    Parameters
    ----------
    **parameters : float
        Every parameter of the checkpoint's card, in its units; for galaxies of COSMOS flux_radius (pixels of 0.03"),
        mag_auto and zphot.
    rng : galsim.BaseDeviate, optional
        All randomness comes from here: the same state gives the same galaxy. One of unpredictable state where not
        given.
    checkpoint : str or path
        The name of a shipped checkpoint, or a folder. It is loaded once a process.
    gsparams : galsim.GSParams, optional
    allow_extrapolation : bool
        Take parameters outside the trained range; a :class:`higan.emulator.ExtrapolationWarning` names them then.

    Attributes
    ----------
    checkpoint : str
        The name on the card.
    parameters : dict of str to float

    Raises
    ------
    ParameterError
        If a parameter is missing, misnamed or out of its range, or `rng` is none of GalSim's.
    CheckpointError
        If there is no such checkpoint, or it does not draw stamps of one field in arcsec from parameters alone.
    HiganError
        If the process was forked from one that had loaded a checkpoint already: leave drawing to the new processes, as
        GalSim's configuration with ``nproc`` does.

    Notes
    -----
    Stamps of ``higan simulate galaxies``, and so of checkpoints trained on them, show a galaxy through a Gaussian
    point-spread function (PSF) of 0.075" full width at half maximum and the response of a pixel of 0.03"; both are part
    of this profile. At its own scale it is thus drawn without a further pixel::

        stamp = galaxy.drawImage(nx=64, ny=64, scale=0.03, method="no_pixel")

    Through the PSF of another telescope it is drawn as any galaxy is, by a method that integrates over that one's
    pixels. The two stay in: they widen a Kolmogorov PSF of 0.7" by 0.8 %, and a shear of the galaxy shears them too.
    Where that matters, take them out first::

        own = galsim.Convolve(galsim.Gaussian(fwhm=0.075), galsim.Pixel(0.03))
        bare = galsim.Convolve(galaxy, galsim.Deconvolve(own))
        image = galsim.Convolve(bare.shear(g1=0.02), psf).drawImage(scale=0.1)

    Examples
    --------
    >>> galaxy = HiganGalaxy(flux_radius=5.0, mag_auto=22.5, zphot=0.7)
    >>> print(galaxy)
    higan.galsim.HiganGalaxy(flux_radius=5, mag_auto=22.5, zphot=0.7, checkpoint='cosmos-like')
    """

    def __init__(
        self,
        *,
        rng: Any = None,
        checkpoint: str | os.PathLike[str] = CHECKPOINT,
        gsparams: Any = None,
        allow_extrapolation: bool = False,
        **parameters: float,
    ):
        emulator = _emulator(os.fspath(checkpoint))
        theta, stamps = _draw(emulator, parameters, 1, rng, allow_extrapolation)
        self._show(emulator, theta[0], stamps[0], gsparams)

    @classmethod
    def batch(
        cls,
        parameters: Mapping[str, Any] | str | os.PathLike[str],
        rng: Any = None,
        *,
        checkpoint: str | os.PathLike[str] = CHECKPOINT,
        gsparams: Any = None,
        allow_extrapolation: bool = False,
    ) -> list[HiganGalaxy]:
        """Many galaxies at once, in less time: those that the same `rng` gives when they are drawn one by one.

        They are the same to the rounding of the network. Each takes about half a megabyte: draw some hundred at a time.

        Parameters
        ----------
        parameters : mapping of str to float or array_like, shape (n,), or path
            Every parameter of the card; or a catalogue, that :func:`higan.sources.tables.read_parameters` reads. Of an
            astropy table that has no further columns, ``dict(table)``.
        rng, checkpoint, gsparams, allow_extrapolation
            As of the class.

        Returns
        -------
        list of HiganGalaxy, length n

        Raises
        ------
        ParameterError
            As of the class, or where parameters are of different lengths or the catalogue cannot be read.
        CheckpointError

        Examples
        --------
        >>> theta = {"flux_radius": [3.0, 5.0], "mag_auto": [21.0, 22.0], "zphot": 0.7}
        >>> galaxies = HiganGalaxy.batch(theta, galsim.BaseDeviate(1))
        """
        emulator = _emulator(os.fspath(checkpoint))
        if isinstance(parameters, str | os.PathLike):
            parameters = read_parameters(parameters, emulator.card.parameters, allow_extrapolation=allow_extrapolation)
        elif not isinstance(parameters, Mapping):
            raise ParameterError(
                "parameters should be a mapping of names to numbers or the path of a catalogue, received a "
                f"{type(parameters).__name__}."
            )
        n = max((np.size(values) for values in parameters.values()), default=1)
        galaxies = []
        for theta, stamp in zip(*_draw(emulator, parameters, n, rng, allow_extrapolation), strict=True):
            galaxy = cls.__new__(cls)
            galaxy._show(emulator, theta, stamp, gsparams)
            galaxies.append(galaxy)
        return galaxies

    def _show(self, emulator: Emulator, theta: np.ndarray, stamp: np.ndarray, gsparams: Any) -> None:
        card = emulator.card
        super().__init__(galsim.Image(stamp.astype(np.float64), scale=card.cell_size), gsparams=gsparams)
        self.checkpoint = card.name
        self.parameters = {p.name: float(value) for p, value in zip(card.parameters, theta, strict=True)}

    # Its repr is InterpolatedImage's, with all pixels: as GalSim expects, evaluating it gives an equal object.
    def __str__(self) -> str:
        given = "".join(f"{name}={value:g}, " for name, value in self.parameters.items())
        return f"higan.galsim.HiganGalaxy({given}checkpoint={self.checkpoint!r})"


def _emulator(checkpoint: str) -> Emulator:
    """A checkpoint that draws stamps, loaded once a process; CheckpointError for any other."""
    if _loading_process() != os.getpid():
        # Without this the network would wait for threads that a fork does not copy, for ever.
        raise HiganError(
            "This process was forked after a checkpoint had been loaded, and its network would hang. Draw galaxies in "
            "the new processes alone, or all of them in the first."
        )
    return _load(checkpoint)


@functools.cache
def _loading_process() -> int:
    """The process that was the first to load a checkpoint."""
    return os.getpid()


@functools.cache
def _load(checkpoint: str) -> Emulator:
    # Here, as to import or unpickle galaxies needs no Keras.
    from higan.emulator import load

    emulator = load(checkpoint)
    card = emulator.card
    for fits, found in (
        (not card.inputs, f"takes input maps ({', '.join(item.field for item in card.inputs)})"),
        (len(card.outputs) == 1, f"paints {len(card.outputs)} fields"),
        (card.ndim == 2 and len(card.shape) == 2 and len(set(card.shape)) == 1, f"paints maps of {card.shape} cells"),
        (card.length_units == "arcsec", f"has cells in {card.length_units}"),
    ):
        if not fits:
            raise CheckpointError(
                f"{card.name} {found}: it draws no galaxies for GalSim. Give a checkpoint that draws square stamps of "
                "one field, in arcsec, from parameters alone."
            )
    return emulator


def _draw(
    emulator: Emulator, parameters: Mapping[str, Any], n: int, rng: Any, allow_extrapolation: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (n, n_par) and stamps (n, ny, nx) of `n` galaxies."""
    theta = emulator.check_parameters(parameters, n, allow_extrapolation=allow_extrapolation)
    if rng is None:
        rng = galsim.BaseDeviate()
    elif not isinstance(rng, galsim.BaseDeviate):
        raise ParameterError(f"rng should be a galsim.BaseDeviate, received {rng!r}.")
    # A galaxy's row, of 63 bits, is its randomness, under one seed: so batches hold what single galaxies are.
    rows = [rng.raw() << 31 | rng.raw() >> 1 for _ in range(n)]
    stamps = emulator.sample(parameters=parameters, seed=0, rows=rows, allow_extrapolation=allow_extrapolation)
    return theta, stamps


def _build(config: Any, base: Any, ignore: list[str], gsparams: Any, logger: Any) -> tuple[HiganGalaxy, bool]:
    """The galaxy of a field of GalSim's configuration, and that the next object needs another."""
    get = galsim.config
    checkpoint = get.ParseValue(config, "checkpoint", base, str)[0] if "checkpoint" in config else CHECKPOINT
    given, _ = get.GetAllParams(
        config,
        base,
        req={p.name: float for p in _emulator(checkpoint).card.parameters},
        opt={"checkpoint": str, "allow_extrapolation": bool},
        ignore=[*ignore, "flux"],  # GalSim sets it afterwards
    )
    rng = get.GetRNG(config, base, logger, "HiganGalaxy")
    return HiganGalaxy(rng=rng, gsparams=galsim.GSParams(**gsparams) if gsparams else None, **given), False


galsim.config.RegisterObjectType("HiganGalaxy", _build)


# -- shear ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ShearBias:
    """Multiplicative bias of the shear that is measured on true and generated stamps; made by :func:`shear_bias`.

    Parameters
    ----------
    true, generated, difference : (float, float)
        m and its standard error by bootstrap over galaxies; the difference, generated - true, is of the same galaxies.
    galaxies : int
        Pairs that were measured in all four turns.
    """

    true: tuple[float, float]
    generated: tuple[float, float]
    difference: tuple[float, float]
    galaxies: int


def shear_bias(
    true: Any,
    generated: Any,
    *,
    g: float = 0.02,
    psf: Any = None,
    processes: int = 1,
    seed: int = 0,
    resamples: int = 500,
) -> ShearBias:
    """A ring test: what a survey that calibrates its shear on generated galaxies in place of true ones would be off by.

    Each galaxy is sheared by +g and by -g, as it is and turned by 90 degrees, so that its own ellipticity drops out;
    seen through `psf` without noise, and measured by re-Gaussianisation. m is <e> / (2 R g) - 1, with the responsivity
    R = 1 - <e^2> of a component of the ellipticities.

    Parameters
    ----------
    true, generated : array_like, shape (n, ny, nx)
        Stamps in pixels of 0.03", one of each for every set of parameters.
    g : float
        Reduced shear.
    psf : galsim.GSObject, optional
        The telescope's; that of :func:`higan.photometry.acs_kernel` where not given.
    processes : int
        A galaxy of both kinds takes about a tenth of a second in one.
    seed : int
        Of the bootstrap.
    resamples : int

    Returns
    -------
    ShearBias

    Raises
    ------
    ParameterError
        If there are not as many stamps of both kinds, or fewer than two can be measured.

    References
    ----------
    Nakajima & Bernstein 2007, AJ 133, 1763 (ring test); Hirata & Seljak 2003, MNRAS 343, 459
    (re-Gaussianisation); Bernstein & Jarvis 2002, AJ 123, 583, section 5 (responsivity).

    Examples
    --------
    >>> y, x = np.indices((48, 48)) - 23.5
    >>> stamps = np.exp(-(x**2 / 16 + y**2 / np.array([9, 12])[:, None, None]) / 2)
    >>> found = shear_bias(stamps, stamps, psf=galsim.Gaussian(fwhm=0.12))
    >>> abs(found.true[0]) < 0.02, found.difference[0], found.galaxies
    (True, 0.0, 2)
    """
    true, generated = (np.asarray(stamps, dtype=np.float64) for stamps in (true, generated))
    if true.shape != generated.shape or true.ndim != 3:
        raise ParameterError(
            f"true stamps have the shape {true.shape} and generated ones {generated.shape}. Give (n, ny, nx) of both."
        )
    if psf is None:
        psf = galsim.InterpolatedImage(galsim.Image(acs_kernel(), scale=PIXEL), flux=1.0)
    seen = psf.drawImage(nx=64, ny=64, scale=PIXEL, method="no_pixel")
    stamps = np.concatenate([true, generated])
    turns = []
    # Started anew, not forked: a network may have been loaded.
    pool = ProcessPoolExecutor(processes, get_context("spawn")) if processes > 1 else None
    with pool or nullcontext(), progress("shearing galaxies", len(stamps), unit="stamps") as advance:
        ring = functools.partial(_ring, g=g, psf=psf, seen=seen)
        for found in pool.map(ring, stamps, chunksize=16) if pool else map(ring, stamps):
            turns.append(found)
            advance()
    e = np.reshape(turns, (2, len(true), 2, 2))
    e = e[:, np.isfinite(e).all(axis=(0, 2, 3))]
    n = e.shape[1]
    if n < 2:
        raise ParameterError(f"{n} of {len(true)} galaxies can be measured: a bias takes two or more.")

    def bias(e: np.ndarray) -> np.ndarray:
        """Of (kind, galaxy, turn, sign)."""
        responsivity = 1 - (e**2).mean(axis=(1, 2, 3))
        return (e[..., 0] - e[..., 1]).mean(axis=(1, 2)) / (4 * responsivity * g) - 1

    rng = np.random.default_rng(seed)
    m = bias(e)
    draws = np.array([bias(e[:, rng.integers(n, size=n)]) for _ in range(resamples)])
    errors = draws.std(axis=0, ddof=1)
    difference = float(m[1] - m[0]), float((draws[:, 1] - draws[:, 0]).std(ddof=1))
    return ShearBias((float(m[0]), float(errors[0])), (float(m[1]), float(errors[1])), difference, n)


def _ring(stamp: np.ndarray, g: float, psf: Any, seen: Any) -> np.ndarray:
    """First ellipticity of a galaxy and of itself turned by 90 degrees, sheared by +g and -g; NaN where it fails."""
    found = np.full((2, 2), np.nan)
    if not stamp.sum() > 0:
        return found
    galaxy = galsim.InterpolatedImage(galsim.Image(stamp, scale=PIXEL))
    for i, turned in enumerate((galaxy, galaxy.rotate(90 * galsim.degrees))):
        for j, sign in enumerate((1, -1)):
            image = galsim.Convolve(turned.shear(g1=sign * g), psf).drawImage(
                nx=stamp.shape[1], ny=stamp.shape[0], scale=PIXEL, method="no_pixel"
            )
            shape = galsim.hsm.EstimateShear(image, seen, shear_est="REGAUSS", strict=False)
            if not shape.error_message:
                found[i, j] = shape.corrected_e1
    return found
