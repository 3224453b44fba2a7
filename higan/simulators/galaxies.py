"""GalSim: galaxies as the Hubble Space Telescope's COSMOS survey shows them, before the telescope blurs them.

Rowe et al. 2015 (Astronomy and Computing 10, 121). Galaxies come from a catalogue, or from a population that was fitted
to one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from higan.errors import HiganError, MapSetError
from higan.mapset import Geometry, Parameter
from higan.photometry import PIXEL, PSF_FWHM, ZERO_POINT, measure, sersic_light
from higan.simulators.design import Design
from higan.simulators.galaxy_population import Population, import_galsim

SHARPEST = 0.12  # arcsec FWHM: to what images through the telescope, whose own is 0.1, can be brought
# AB, of counts per second in images of HST's ACS (Sirianni et al. 2005, PASP 117, 1049, table 10; F814W as of COSMOS).
ZERO_POINTS = {"F606W": 26.49, "F814W": ZERO_POINT}
RADII = (0.5, 20.0)  # pixels: profiles beyond are not drawn, as no stamp comes out within the bounds


@dataclasses.dataclass(frozen=True)
class Galaxies:
    """Galaxy stamps: COSMOS galaxies, from a catalogue or from a population fitted to one, drawn by GalSim.

    The settings as they are give the reference set ``cosmos-like``. A stamp is a galaxy through a Gaussian point-spread
    function narrower than any telescope's and a pixel of 0.03", without noise, in counts per second at the zero point
    of the COSMOS images, 25.94: convolve it with the one you have. Its parameters are measured on it
    (:func:`higan.photometry.measure`), all but the redshift, which is the galaxy's. Stamps of 64 pixels hold galaxies
    of a flux_radius up to 12 pixels with their outskirts; larger ones are left out, as are all whose parameters lie
    outside the bounds.

    Every galaxy is a simulation of its own. The set ``galaxies`` is the catalogue, or 20,000 galaxies of the population
    (more where more are asked for) with seeds 20000 + i; of each ten galaxies eight are for training, one for
    validation, one for the test.

    Parameters
    ----------
    catalog : str, optional
        A GalSim COSMOS catalogue. Where its images lie beside it stamps are of them, with the telescope's noise, which
        goes on around images that are smaller, and with fluxes brought to the zero point of F814W; else
        of its parametric fits, which lie in the file whose name ends with ``_fits.fits`` and can be named themselves.
        The version of the simulator says which.
    cells : int
        Pixels along a side of a stamp.
    psf_fwhm : float
        Full width at half maximum of the Gaussian, arcsec.
    """

    catalog: str | None = dataclasses.field(
        default=None, metadata={"help": "a GalSim COSMOS catalogue, in place of the population"}
    )
    cells: int = dataclasses.field(default=64, metadata={"help": "pixels along a side of a stamp"})
    psf_fwhm: float = dataclasses.field(
        default=PSF_FWHM, metadata={"help": "FWHM of the Gaussian PSF of stamps, arcsec"}
    )

    name: ClassVar[str] = "GalSim"
    fields: ClassVar[dict[str, tuple[str, str]]] = {"image": ("ct / s", "counts per second in each pixel")}
    sets: ClassVar[dict[str, str]] = {"galaxies": "the population, or the catalogue"}
    per_part: ClassVar[int] = 250

    def check(self) -> None:
        """Refuse settings that make no sense, and a machine without GalSim, before any work is done."""
        import_galsim()
        if self.cells < 16:
            raise HiganError(f"A stamp of {self.cells} pixels a side holds no galaxy. Give --cells 16 or more.")
        sharpest = SHARPEST if self.catalog is not None and _catalogue(self.catalog).real else PIXEL
        if not self.psf_fwhm >= sharpest:
            what = "images through the telescope" if sharpest == SHARPEST else 'pixels of 0.03"'
            raise HiganError(
                f"{what[0].upper()}{what[1:]} cannot show a PSF of {self.psf_fwhm} arcsec. Give --psf-fwhm {sharpest} "
                "or more."
            )

    def version(self) -> str:
        """Version of GalSim, and of the population or the catalogue."""
        source = "population 1"
        if self.catalog is not None:
            catalogue = _catalogue(self.catalog)
            source = f"catalogue {catalogue.digest}, {'images' if catalogue.real else 'parametric fits'}"
        return f"{import_galsim().__version__}, {source}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """flux_radius, mag_auto, and zphot where it is known, with their bounds."""
        radius = Parameter("flux_radius", "pix", 2.0, 12.0)
        if self.catalog is None:
            return radius, Parameter("mag_auto", "mag", 20.0, 23.5), Parameter("zphot", "", 0.05, 2.5)
        redshift = _catalogue(self.catalog).redshift
        known = () if redshift is None else (Parameter("zphot", "", 0.0, float(np.ceil(np.nanmax(redshift)))),)
        return radius, Parameter("mag_auto", "mag", 15.0, 30.0), *known

    def shape(self) -> tuple[int, ...]:
        """Pixels of a stamp."""
        return (self.cells,) * 2

    def geometry(self) -> Geometry:
        """An image with pixels in arcsec."""
        return Geometry(kind="image", ndim=2, periodic=False, cell_size=PIXEL, cell_size_units="arcsec")

    def design(self, set: str, seed: int | None = None, n: int | None = None) -> Design:
        """One row a galaxy; parameters are not known before it is drawn. Seeds are rows of a catalogue."""
        if self.catalog is None:
            count, first = max(n or 0, 20000), 20000 if seed is None else seed
        else:
            count, first = len(_catalogue(self.catalog)), 0
        splits = np.array(["train"] * 8 + ["validation", "test"])
        rows = np.arange(count)
        return Design(np.full((count, len(self.parameters)), np.nan), first + rows, splits[rows % 10])

    def run(self, parameters: Mapping[str, float], seed: int) -> dict[str, Any]:
        """One stamp, and what is measured on it."""
        if self.catalog is not None:
            return self._of_catalogue(_catalogue(self.catalog), seed)
        population, rng = Population(), np.random.default_rng(seed)
        while True:
            galaxy = population.draw(rng)
            if not RADII[0] < galaxy["radius"] < RADII[1]:
                continue
            found = self._stamp(population.profiles(galaxy, rng)) | {"zphot": galaxy["redshift"]}
            if all(item.lower <= found[item.name] <= item.upper for item in self.parameters):
                return found

    def _of_catalogue(self, catalogue: _Catalogue, row: int) -> dict[str, Any]:
        try:
            found = self._stamp([catalogue.profile(row, self.cells)])
        except import_galsim().GalSimError:
            # A fit that failed: left out for want of parameters.
            nothing = np.zeros(self.shape(), np.float32)
            found = {"image": nothing, **measure(nothing)}
        return found | ({} if catalogue.redshift is None else {"zphot": catalogue.redshift[row]})

    def _stamp(self, parts: Sequence[Any]) -> dict[str, Any]:
        """The image of all parts, each on a Fourier grid of its own: knots on that of a bulge take long."""
        galsim = import_galsim()
        image = galsim.Image(self.cells, self.cells, scale=PIXEL, dtype=np.float64)
        for part in parts:
            galsim.Convolve(part, galsim.Gaussian(fwhm=self.psf_fwhm)).drawImage(image, add_to_image=True)
        stamp = image.array.astype(np.float32)
        return {"image": stamp, **measure(stamp)}


class _Catalogue:
    """A GalSim COSMOS catalogue: its galaxies as GalSim objects, and their redshifts where it has them."""

    def __init__(self, path: Path):
        galsim = import_galsim()
        fits = path if path.name.endswith("_fits.fits") else path.with_name(f"{path.stem}_fits.fits")
        try:
            self.real = fits != path and _images(path)
            if not self.real and not fits.exists():
                raise MapSetError(
                    f"{path} has neither its images beside it nor {fits.name}, with parametric fits. Put one there."
                )
            table = _table(fits) if fits.exists() else None
            if self.real:
                self._images = galsim.RealGalaxyCatalog(str(path))
                unknown = sorted({name.strip() for name in self._images.band} - set(ZERO_POINTS))
                if unknown:
                    raise MapSetError(
                        f"{path} has images in the band {unknown[0]!r}, whose zero point is not known here: give one "
                        f"of {', '.join(ZERO_POINTS)}, or the parametric fits alone."
                    )
                idents = list(self._images.ident)
            else:
                assert table is not None
                self._fits = _cosmos_catalog(table)
                idents = list(table["IDENT"])
            self.redshift = None
            if table is not None and "zphot" in table.colnames:
                known = dict(zip(map(str, table["IDENT"]), map(float, table["zphot"]), strict=True))
                self.redshift = np.array([known.get(str(ident), np.nan) for ident in idents])
        except (OSError, LookupError, ValueError, TypeError, galsim.GalSimError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise MapSetError(
                f"{path} is no GalSim COSMOS catalogue ({reason}). Give one that GalSim reads."
            ) from error
        self._count = len(idents)
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return self._count

    def profile(self, row: int, cells: int) -> Any:
        """The galaxy of `row` before any point-spread function."""
        galsim = import_galsim()
        if not self.real:
            return self._fits.makeGalaxy(row, gal_type="parametric")
        image = galsim.InterpolatedImage(
            self._images.getGalImage(row),
            x_interpolant="quintic",
            # Around images that are smaller than a stamp there is noise of the same variance.
            noise_pad=self._images.variance[row],
            noise_pad_size=PIXEL * cells,
            rng=galsim.BaseDeviate(row + 1),
        )
        real = galsim.Convolve(image, galsim.Deconvolve(self._images.getPSF(row)))
        return real * 10 ** (0.4 * (ZERO_POINT - ZERO_POINTS[self._images.band[row].strip()]))


@functools.lru_cache(maxsize=2)
def _catalogue(path: str) -> _Catalogue:
    if not Path(path).is_file():
        raise MapSetError(f"There is no catalogue {path}. Give the path of a FITS file.")
    return _Catalogue(Path(path))


def _table(path: Path) -> Any:
    from astropy.table import Table

    return Table.read(path, 1, format="fits")


def _images(path: Path) -> bool:
    """Whether the images that a catalogue names lie beside it."""
    table = _table(path)
    columns = ("GAL_FILENAME", "PSF_FILENAME")
    if not set(columns) <= set(table.colnames):
        return False
    names = {str(name).strip() for column in columns for name in table[column]}
    return all((path.parent / name).is_file() for name in names)


def _cosmos_catalog(table: Any) -> Any:
    """GalSim's catalogue of parametric fits; fluxes and radii of older ones, which have none, follow from the fits."""
    galsim = import_galsim()
    if "hlr" not in table.colnames:
        sersic, both = (np.asarray(table[name], dtype=float) for name in ("sersicfit", "bulgefit"))
        disc, bulge = both[:, :8], both[:, 8:]
        parts = ((sersic, np.clip(sersic[:, 2], 0.3, 6.0)), (bulge, 4.0), (disc, 1.0))
        with np.errstate(invalid="ignore"):
            table["hlr"] = np.stack([PIXEL * fit[:, 1] * np.sqrt(fit[:, 3]) for fit, _ in parts], axis=1)
        flux = np.stack([_flux(fit, n) for fit, n in parts], axis=1)
        table["flux"] = np.column_stack([flux, flux[:, 1] + flux[:, 2]])
        share = np.asarray(table["fit_dvc_btt"])
        better = np.asarray(table["fit_mad_b"]) < np.asarray(table["fit_mad_s"])
        table["use_bulgefit"] = (better & (share > 0.1) & (share < 0.9)).astype(int)
        table["viable_sersic"] = (flux[:, 0] > 0).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        name = str(Path(folder, "catalogue_fits.fits"))
        table.write(name)
        return galsim.COSMOSCatalog(name, use_real=False, exclusion_level="none")


def _flux(fit: np.ndarray, n: Any) -> np.ndarray:
    """Flux of Sérsic profiles from intensity and major-axis radius at half light."""
    intensity, radius, ratio = fit[:, 0], fit[:, 1], fit[:, 3]
    return sersic_light(n) * radius**2 * ratio * intensity
