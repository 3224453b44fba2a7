"""Painted maps as a FITS image cube, for programs that do not read HDF5."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import OutputError
from higan.mapset import MapSet
from higan.mapset_writer import check_output, replacing

# A cube is put together in memory.
MAX_BYTES = 8 * 10**9


def check_cube(path: Path, fields: Sequence[str], n: int, shape: Sequence[int]) -> None:
    """Refuse a cube of several fields, or one of `n` maps of `shape` that is too large for memory.

    Raises
    ------
    OutputError

    Examples
    --------
    >>> check_cube(Path("stamps.fits"), ["image"], 10**5, (64, 64))
    >>> check_cube(Path("stamps.fits"), ["image"], 10**6, (64, 64))
    Traceback (most recent call last):
    higan.errors.OutputError: stamps.fits would hold 16.4 GB, and 8 GB at most. Write a map set: name it .h5.
    """
    if len(fields) != 1:
        raise OutputError(
            f"{path} would hold {', '.join(fields)}, and one field at most. Write a map set: name it .h5."
        )
    size = 4 * n * int(np.prod(shape))
    if size > MAX_BYTES:
        most = MAX_BYTES / 1e9
        raise OutputError(
            f"{path} would hold {size / 1e9:.1f} GB, and {most:.0f} GB at most. Write a map set: name it .h5."
        )


def write_cube(maps: MapSet, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a painted map set of one field as a FITS file, which appears whole or not at all.

    Parameters
    ----------
    maps : MapSet
        From :func:`higan.painting.stream.paint_to_file`.
    path : path
        Its image is of shape (n, *shape), or (n, realisations, *shape) where there are several of each map, with BUNIT,
        the cell size (CELLSIZE, in CELLUNIT), the seed and the checkpoint in its header. The table PARAMETERS after it
        has a row for each of the n.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file exists or cannot be written, the set has several fields, or they do not fit into memory.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> from higan.mapset import Field, Geometry, Parameter
    >>> stamps = {"image": Field(np.zeros((2, 8, 8), "float32"), "ct / s")}
    >>> geometry = Geometry(kind="image", cell_size=0.03, cell_size_units="arcsec")
    >>> maps = MapSet(stamps, [[21.0], [22.5]], [Parameter("mag_auto", "mag")], [0, 1], geometry)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_cube(maps, f"{folder}/stamps.fits")
    ...     fits.getdata(path).shape, fits.getheader(path)["BUNIT"], fits.getdata(path, 1)["mag_auto"].tolist()
    ((2, 8, 8), 'count s-1', [21.0, 22.5])
    """
    from astropy.io import fits

    path = Path(path)
    check_output(path, overwrite)
    check_cube(path, list(maps.fields), len(maps), maps.shape)
    ((name, field),) = maps.fields.items()
    attributes, geometry = maps.attributes, maps.geometry
    draws = int(attributes.get("realisations", 1))
    cube = np.empty((len(maps), *maps.shape), dtype=">f4")  # as FITS has it, so that astropy takes no copy
    start = 0
    for batch in maps.batches(name):
        cube[start : start + len(batch)] = batch
        start += len(batch)
    image = fits.PrimaryHDU(cube if draws == 1 else cube.reshape(-1, draws, *maps.shape))
    for key, value, comment in (
        ("BTYPE", ascii_text(name), "what is painted"),
        ("BUNIT", fits_unit(field.units), "its unit"),
        ("CELLSIZE", maps.cell_size, "side of a cell, in CELLUNIT"),
        ("CELLUNIT", ascii_text(geometry.length_units), ""),
        ("THICKNES", geometry.thickness, "of the slab that a map averages, in CELLUNIT"),
        ("REDSHIFT", geometry.redshift, ""),
        *provenance(maps),
    ):
        if value is not None:
            image.header[key] = (value, comment)
    parameters = parameter_table(maps, slice(None, None, draws))
    with replacing(path) as partial, open(partial, "wb") as file:
        fits.HDUList([image, parameters]).writeto(file)
    return path


def provenance(maps: MapSet) -> list[tuple[str, Any, str]]:
    """Keywords that say what painted maps, with their values, which may be ``None``, and comments."""
    attributes = maps.attributes
    return [
        ("SEED", attributes.get("seed"), "of the noise"),
        ("CHECKPT", attributes.get("checkpoint"), ""),
        ("CHECKVER", attributes.get("checkpoint_version"), ""),
        ("CHECKSHA", attributes.get("checkpoint_sha256"), ""),
        ("EXTRAPOL", attributes.get("extrapolated"), "parameters out of the trained range?"),
        ("CREATOR", maps.created_by, ""),
    ]


def parameter_table(maps: MapSet, rows: slice) -> Any:
    """The table PARAMETERS of a FITS file, of some of the maps."""
    from astropy.io import fits

    columns = [
        fits.Column(ascii_text(info.name), "D", fits_unit(info.units) or None, array=values)
        for info, values in zip(maps.parameter_info, maps.parameters[maps.simulation[rows]].T, strict=True)
    ]
    return fits.BinTableHDU.from_columns(columns, name="PARAMETERS")


def fits_unit(units: str) -> str:
    """A unit as FITS writes it; what astropy cannot write so stays as it is."""
    from astropy import units as u

    try:
        return u.Unit(units).to_string("fits")
    except ValueError:
        return ascii_text(units)


def ascii_text(text: str) -> str:
    """Text as FITS headers take it."""
    return text.encode("ascii", "backslashreplace").decode()
