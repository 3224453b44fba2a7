"""Maps of the sky in HEALPix FITS files, as healpy, Healpix_cxx and most surveys write them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import UNSEEN, Field, Geometry, MapSet, Parameter, first_line
from higan.sources import source

LENGTH_UNIT = "LENUNIT"  # the keyword of the unit of THICKNES, for which FITS has no name


@source("healpix")
def healpix(
    path: str | os.PathLike[str],
    fields: Sequence[str],
    units: Mapping[str, str] | None = None,
    redshift: float | None = None,
    thickness: float | None = None,
    parameters: Mapping[str, float] | None = None,
) -> MapSet:
    """Columns of a HEALPix FITS file as a map set of one map of the sky.

    Parameters
    ----------
    path : path
        A full sky, its masked pixels UNSEEN or NaN, or a part of it with pixel numbers.
    fields : sequence of str
        Names of columns, in upper or lower case; one field may be any name where there is one column alone.
    units : mapping of str to str, optional
        Of the fields; as the file says (TUNIT) where not given.
    redshift, thickness : float, optional
        Of the shell; as the file says (REDSHIFT, and THICKNES in LENUNIT, Mpc where it does not say) where not given.
    parameters : mapping of str to float, optional

    Returns
    -------
    MapSet
        In the ordering of the file, masked pixels UNSEEN.

    Raises
    ------
    MapSetError
        If the file is missing, damaged or no HEALPix map, or has no such column.

    Examples
    --------
    >>> shell = healpix("shell.fits", ["density"], redshift=8.0, thickness=8.0)  # doctest: +SKIP
    """
    path = Path(path)
    if not path.exists():
        raise MapSetError(f"{path} does not exist. Give the path of a HEALPix map (FITS).")
    if isinstance(fields, str) or not fields:
        raise MapSetError('The fields of a healpix source are a list of columns. Write fields = ["density"].')
    import healpy
    from astropy.io import fits

    try:
        with fits.open(path) as file:
            header = file[1].header
            names = [str(name) for name in file[1].columns.names]
            written = [str(unit or "") for unit in file[1].columns.units]
        if header.get("PIXTYPE", "").strip() != "HEALPIX" and "NSIDE" not in header:
            raise MapSetError(
                f"{path} holds no HEALPix map: it has neither PIXTYPE nor NSIDE. Give one that healpy wrote."
            )
        explicit = header.get("INDXSCHM", "IMPLICIT").strip() == "EXPLICIT"
        columns = names[1:] if explicit else names
        found = {name: _column(path, name, columns, len(fields)) for name in fields}
        maps = healpy.read_map(path, field=list(found.values()), nest=None, dtype=np.float32, partial=explicit)
    except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise MapSetError(
            f"{path} cannot be read as a HEALPix map ({first_line(error)}). It is damaged, or none: get it again."
        ) from error
    maps = np.where(np.isfinite(maps), maps, UNSEEN).reshape(len(fields), 1, -1).astype(np.float32)
    values = dict(parameters or {})
    return MapSet(
        {
            name: Field(values_of, (units or {}).get(name, written[names.index(columns[column])]), columns[column])
            for (name, column), values_of in zip(found.items(), maps, strict=True)
        },
        np.array([list(values.values())], dtype=np.float64).reshape(1, -1),
        [Parameter(name, "", value, value) for name, value in values.items()],
        [0],
        Geometry(
            kind="healpix",
            ndim=1,
            periodic=False,
            redshift=header.get("REDSHIFT") if redshift is None else redshift,
            thickness=header.get("THICKNES") if thickness is None else thickness,
            box_size_units=header.get(LENGTH_UNIT, "Mpc"),
            ordering="NESTED" if header.get("ORDERING", "RING").strip().upper().startswith("NEST") else "RING",
            coordinates=header.get("COORDSYS"),
        ),
        path=path,
    )


def _column(path: Path, name: str, columns: Sequence[str], wanted: int) -> int:
    for i, column in enumerate(columns):
        if column.strip().lower() == name.lower():
            return i
    if len(columns) == 1 and wanted == 1:
        return 0
    raise MapSetError(f"{path} has no column {name!r}: it has {', '.join(columns)}. Name one of these.")


def is_fits(path: Path) -> bool:
    """Whether a file is one by its name.

    Examples
    --------
    >>> is_fits(Path("shell.fits.gz")), is_fits(Path("shell.h5"))
    (True, False)
    """
    return path.name.lower().removesuffix(".gz").endswith((".fits", ".fit"))


def keywords(geometry: Geometry) -> list[tuple[str, Any, str]]:
    """What a file says of a shell, for :func:`healpix` to read again; values may be ``None``."""
    return [
        ("REDSHIFT", geometry.redshift, "of the shell"),
        ("THICKNES", geometry.thickness, "of the shell, in LENUNIT"),
        (LENGTH_UNIT, None if geometry.thickness is None else geometry.box_size_units, ""),
    ]
