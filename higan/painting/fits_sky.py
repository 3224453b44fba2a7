"""Painted skies as a HEALPix FITS file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from higan.errors import OutputError
from higan.mapset import MapSet
from higan.mapset_writer import check_output, replacing
from higan.painting.fits_cube import ascii_text, fits_unit, parameter_table, provenance
from higan.sources.healpix import keywords

# FITS tables have 999 columns at most, and all are in memory at once.
MAX_COLUMNS = 999


def check_sky_file(path: Path, columns: int) -> None:
    """Refuse more maps than a FITS table has columns.

    Raises
    ------
    OutputError
    """
    if columns > MAX_COLUMNS:
        raise OutputError(f"{path} would hold {columns} maps, and {MAX_COLUMNS} at most. Write a map set: name it .h5.")


def write_sky(maps: MapSet, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a painted map set on the sphere as a FITS file, which appears whole or not at all.

    Parameters
    ----------
    maps : MapSet
        Of geometry "healpix".
    path : path
        Its table has a column for each field and map, named after the field, and numbered where there are several maps
        (row major over realisations); TUNIT, ORDERING, NSIDE, COORDSYS, redshift and thickness of the shell, seed and
        checkpoint in the header. The table PARAMETERS after it has a row a map.
    overwrite : bool

    Raises
    ------
    OutputError
        If the file exists or cannot be written, or there are too many maps.

    Examples
    --------
    >>> import tempfile, healpy
    >>> from higan.mapset import Field, Geometry
    >>> geometry = Geometry(kind="healpix", ndim=1, ordering="NESTED", redshift=8.0)
    >>> sky = {"brightness_temp": Field(np.arange(12.0, dtype="float32")[None], "mK")}
    >>> maps = MapSet(sky, np.zeros((1, 0)), [], [0], geometry)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_sky(maps, f"{folder}/hi.fits")
    ...     healpy.read_map(path, nest=True)[:3].tolist()
    [0.0, 1.0, 2.0]
    """
    import healpy
    from astropy.io import fits

    path = Path(path)
    check_output(path, overwrite)
    check_sky_file(path, len(maps) * len(maps.fields))
    geometry = maps.geometry
    single = len(maps) == 1
    names = [name if single else f"{name}_{i}" for name in maps.fields for i in range(len(maps))]
    units = [fits_unit(field.units) for field in maps.fields.values() for _ in range(len(maps))]
    with replacing(path) as partial:
        healpy.write_map(
            partial,
            [sky for name in maps.fields for sky in maps.read(name)],
            nest=geometry.ordering == "NESTED",
            coord=geometry.coordinates,
            column_names=[ascii_text(name) for name in names],
            column_units=units,
            extra_header=[item for item in keywords(geometry) + provenance(maps) if item[1] is not None],
            dtype=np.float32,
            overwrite=True,
        )
        with fits.open(partial, mode="append") as file:
            file.append(parameter_table(maps, slice(None)))
    return path
