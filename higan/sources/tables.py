"""Catalogues of parameters: FITS, CSV, ECSV and HDF5 tables, one row a map."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from higan.errors import ParameterError
from higan.mapset import FORMAT, MapSet, Parameter, first_line, outside, text

if TYPE_CHECKING:
    from higan.checkpoint import ParameterCard

ALIASES = {"pixel": "pix", "pixels": "pix", "mag(ab)": "mag", "abmag": "mag", "ab mag": "mag"}  # in small letters
SUFFIXES = (".fits", ".fit", ".fits.gz", ".csv", ".ecsv", ".h5", ".hdf5")


def is_table(name: str) -> bool:
    """Whether `name` is a file, or ends as the names of tables do.

    Examples
    --------
    >>> is_table("galaxies.fits"), is_table("flux_radius=4,mag_auto=22")
    (True, False)
    """
    return os.path.isfile(name) or name.lower().endswith(SUFFIXES)


def read_parameters(
    path: str | os.PathLike[str],
    parameters: Sequence[Parameter | ParameterCard],
    *,
    allow_extrapolation: bool = False,
) -> dict[str, np.ndarray]:
    """Parameters of every row of a catalogue, from the columns that have exactly their names.

    Parameters
    ----------
    path : path
        FITS, HDF5 (datasets at the root or in a group, with an attribute ``units`` or ``unit`` where they have one, or
        a compound dataset), ECSV or CSV, told apart by their content. Of several tables in a file, that with all the
        columns. Of a map set, the parameters of each of its maps.
    parameters : sequence of Parameter or ParameterCard
        A column in another unit is converted to the parameter's; one that says no unit is taken as it is.
    allow_extrapolation : bool
        Take values outside the parameters' ranges.

    Returns
    -------
    dict of str to array of float64, shape (n,)
        In the order and units of `parameters`; :meth:`higan.emulator.Emulator.sample` takes it.

    Raises
    ------
    ParameterError
        If the file cannot be read, is empty or lacks a column, a unit cannot be converted, or a value is masked, not a
        finite number or out of range; the first such row is named.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "galaxies.csv")
    ...     _ = path.write_text("ident,mag_auto\\n17,22.5\\n18,21\\n")
    ...     read_parameters(path, [Parameter("mag_auto", "mag", 20.0, 23.5)])
    {'mag_auto': array([22.5, 21. ])}
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that astropy does not know: they are refused where they matter
            table = _read(path, [p.name for p in parameters])
    except ParameterError:
        raise
    except Exception as error:  # astropy and h5py raise whatever they meet
        reason = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        raise ParameterError(
            f"{path} cannot be read as a table ({reason}). Give a FITS, CSV, ECSV or HDF5 table."
        ) from error
    for p in parameters:
        if table[p.name].ndim != 1:
            raise ParameterError(
                f"{path}: column {p.name!r} holds arrays of shape {table[p.name].shape[1:]}. Give one number a row."
            )
    lengths = {p.name: len(table[p.name]) for p in parameters}
    if 0 in lengths.values():
        raise ParameterError(f"{path} has no rows. Give a table with at least one.")
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ParameterError(f"{path} has columns of different lengths ({found}). Give them one length.")
    return {p.name: _values(path, table[p.name], p, allow_extrapolation) for p in parameters}


def _values(path: Path, column: Any, p: Parameter | ParameterCard, allow_extrapolation: bool) -> np.ndarray:
    """A column as float64 in the unit of its parameter, every row checked."""
    data, masked = np.asarray(column), np.ma.getmaskarray(column)
    numeric = data.dtype.kind in "iuf"
    values = data.astype(np.float64) if numeric else np.array([_number(value) for value in data])
    values[masked] = np.nan
    values = converted(f"{path}: column {p.name!r}", values, column.unit, p)
    for bad, what, remedy in (
        (~np.isfinite(values), "not a finite number", "Mend that row or leave it out"),
        (
            outside(values, p) & (not allow_extrapolation),
            f"outside the trained range [{p.lower:g}, {p.upper:g}]",
            "Leave that row out, or add --allow-extrapolation",
        ),
    ):
        if bad.any():
            row, n = int(np.argmax(bad)), int(bad.sum())
            received = "masked or empty" if masked[row] else str(values[row]) if numeric else repr(text(data[row]))
            others = f" (the first of {n} such rows)" if n > 1 else ""
            raise ParameterError(
                f"{path}: row {row} (counted from 0) of column {p.name!r} is {received}, {what}{others}. {remedy}."
            )
    return values


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def converted(what: str, values: np.ndarray, found: Any, p: Parameter | ParameterCard) -> np.ndarray:
    """Values in the unit `found` (of astropy, its name, or ``None``) in that of their parameter.

    Raises
    ------
    ParameterError
        If it cannot be converted; `what` says what is in it.

    Examples
    --------
    >>> converted("size", np.array([1.0]), "kpc", Parameter("size", "pc", 0.0, 1e4))
    array([1000.])
    """
    name, wanted = (ALIASES.get(str(unit).lower(), str(unit)) for unit in ("" if found is None else found, p.units))
    if name in ("", wanted) or name.lower() == wanted:
        return values
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units

    try:
        with u.add_enabled_units(cosmology_units):
            return u.Unit(name).to(u.Unit(wanted), values)
    except (ValueError, TypeError) as error:
        raise ParameterError(
            f"{what} is in {str(found)!r}, but the checkpoint takes it in {p.units or '1'!r}. Convert it first."
        ) from error


def _read(path: Path, names: Sequence[str]) -> Any:
    """Columns by name, of astropy, from the one table of a file that has all of `names`."""
    from astropy.table import Column, Table
    from astropy.utils.data import get_readable_fileobj

    with open(path, "rb") as packed, get_readable_fileobj(packed, encoding="binary") as file:
        start = file.read(8)
    if start.startswith(b"SIMPLE"):
        from astropy.io import fits

        with fits.open(path) as hdus:
            tables = {
                i: hdu.columns.names for i, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
            }
            # NaN stays NaN in place of becoming masked, and is called that.
            return Table.read(hdus[_choose(path, tables, names)], format="fits", mask_invalid=False)
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            if text(file.attrs.get("format", "")) == FORMAT:
                return _of_maps(path, names)
            places: dict[str, Sequence[str]] = {}
            for group in (file, *(item for item in file.values() if isinstance(item, h5py.Group))):
                data = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset) and item.ndim}
                places[group.name] = [name for name, item in data.items() if item.dtype.names is None]
                places |= {item.name: item.dtype.names for item in data.values() if item.dtype.names is not None}
            place = _choose(path, places, names)
            if isinstance(file[place], h5py.Dataset):
                return Table.read(file, path=place, format="hdf5")
            units = {name: (a := file[place][name].attrs).get("units", a.get("unit")) for name in names}
            return {
                name: Column(file[place][name][()], unit=None if unit is None else text(unit))
                for name, unit in units.items()
            }
    # Spreadsheets put a mark before the first name; without it the faster reader will do.
    encoding = "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else None
    table = Table.read(path, format="ascii.ecsv" if start.startswith(b"# %ECSV") else "ascii.csv", encoding=encoding)
    _choose(path, {"": table.colnames}, names)
    return table


def _of_maps(path: Path, names: Sequence[str]) -> Any:
    """The parameters of a map set, one row a map."""
    from astropy.table import Column

    maps = MapSet.open(path)
    _choose(path, {"parameters": maps.parameter_names}, names)
    columns = zip(maps.parameter_info, maps.parameters[maps.simulation].T, strict=True)
    return {p.name: Column(values, unit=p.units or None) for p, values in columns}


def _choose(path: Path, tables: Mapping[Any, Sequence[str]], names: Sequence[str]) -> Any:
    """The key of the table that has all of `names` among its columns."""
    if not any(tables.values()):
        raise ValueError("it has no columns")
    full = [table for table, columns in tables.items() if set(names) <= set(columns)]
    if len(full) == 1:
        return full[0]
    if full:
        raise ParameterError(f"{path} has {', '.join(names)} in {len(full)} tables. Give a file with one of them.")
    nearest = max(tables.values(), key=lambda columns: len(set(names) & set(columns)))
    missing = next(name for name in names if name not in nearest)
    raise ParameterError(
        f"{path} has no column {missing!r}: it has {', '.join(nearest)}. Rename the column, or add it."
    )
