"""The CAMELS Multifield Dataset (CMD): 2D maps of hydrodynamic simulations in .npy files.

Villaescusa-Navarro et al. 2022 (ApJS 259, 61) describes the maps, Villaescusa-Navarro et al. 2021 (ApJ 915,
71) the simulations and the ranges of their parameters, Ni et al. 2023 (ApJ 959, 136) those of Astrid. Units
are those of https://camels-multifield-dataset.readthedocs.io.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from higan.errors import MapSetError
from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.sources import source

MAPS_PER_SIMULATION = 15

# h is written as astropy.cosmology.units has it, littleh: to astropy.units, "h" is an hour.
FIELDS = {
    "Mgas": ("littleh solMass / Mpc2", "gas surface density"),
    "Vgas": ("km / s", "gas velocity"),
    "T": ("K", "gas temperature"),
    "P": ("littleh2 solMass km2 / (kpc3 s2)", "gas pressure"),
    "Z": ("", "gas metallicity"),
    "HI": ("littleh solMass / Mpc2", "neutral hydrogen surface density"),
    "ne": ("littleh Mpc / cm3", "electron column density"),
    "B": ("G", "magnetic field"),
    "MgFe": ("", "magnesium over iron"),
    "Mcdm": ("littleh solMass / Mpc2", "dark matter surface density"),
    "Vcdm": ("km / s", "dark matter velocity"),
    "Mstar": ("littleh solMass / Mpc2", "stellar surface density"),
    "Mtot": ("littleh solMass / Mpc2", "total matter surface density"),
}

PARAMETERS = {
    "Omega_m": (0.1, 0.5),
    "sigma_8": (0.6, 1.0),
    "A_SN1": (0.25, 4.0),
    "A_AGN1": (0.25, 4.0),
    "A_SN2": (0.5, 2.0),
    "A_AGN2": (0.5, 2.0),
}
"""Ranges of the Latin hypercube, in the order of the columns of the parameter files."""

OTHER_BOUNDS = {"Astrid": {"A_AGN2": (0.25, 4.0)}}
"""Where a suite's ranges differ."""


@source("camels")
def camels(
    folder: str | os.PathLike[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    suite: str = "IllustrisTNG",
    set: str = "LH",
    redshift: float | str = "0.00",
    parameters: str | os.PathLike[str] | None = None,
) -> MapSet:
    """The CMD maps of a suite as a map set; the .npy files are memory-mapped.

    Map i belongs to row i // 15 of the parameter file. Maps are periodic, 25 Mpc/h wide, and project 5 Mpc/h.

    Parameters
    ----------
    folder : path
        Holds ``Maps_<field>_<suite>_<set>_z=<redshift>.npy``, shape (15 n_sim, cells, cells), and
        ``params_<set>_<suite>.txt``, shape (n_sim, 6).
    inputs, outputs : sequence of str
        Prefixes of the fields: "Mcdm", "HI", …
    suite : str
        "IllustrisTNG", "SIMBA", "Astrid", or "Nbody_IllustrisTNG" and its like, whose parameters are the
        first two.
    set : str
    redshift : float or str
    parameters : path, optional
        The parameter file, where it is another one: plain columns, or a CosmoAstroSeed table (a name, the six
        parameters, the seed of the initial conditions).

    Raises
    ------
    MapSetError
        If a file is missing, damaged or of the wrong shape, or maps and parameters do not belong together.

    Examples
    --------
    >>> maps = camels("CMD", inputs=["Mcdm"], outputs=["HI"])  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MapSetError(f"{folder} is not a folder. Give the folder that holds the CMD maps.")
    names = list(dict.fromkeys([*inputs, *outputs]))
    if isinstance(inputs, str) or isinstance(outputs, str) or not names:
        raise MapSetError('The inputs and outputs of a camels source are lists of fields. Write inputs = ["Mcdm"].')
    try:
        redshift = float(redshift)
    except (TypeError, ValueError):
        raise MapSetError(f'The redshift of a camels source is {redshift!r}. Give a number, as "0.00".') from None
    z = f"{redshift:.2f}"
    fields = {}
    for name in names:
        if name not in FIELDS:
            raise MapSetError(f"CMD has no field {name!r}. Those it has: {', '.join(FIELDS)}.")
        fields[name] = Field(_maps(folder / f"Maps_{name}_{suite}_{set}_z={z}.npy"), *FIELDS[name])
    table, seeds, path = _parameters(folder, suite, set, parameters)
    for name, field in fields.items():
        n = field.array.shape[0]
        if n != MAPS_PER_SIMULATION * len(table):
            raise MapSetError(
                f"{folder}: field {name!r} has {n} maps, but {path.name} has {len(table)} simulations of "
                f"{MAPS_PER_SIMULATION} maps, {MAPS_PER_SIMULATION * len(table)} in all. They do not belong "
                "together: download both again."
            )
    bounds = {**PARAMETERS, **OTHER_BOUNDS.get(suite, {})}
    info = [Parameter(name, "", *bounds[name]) for name in list(bounds)[: table.shape[1]]]
    return MapSet(
        fields,
        table,
        info,
        np.repeat(np.arange(len(table)), MAPS_PER_SIMULATION),
        Geometry(
            kind="box",
            ndim=2,
            box_size=25.0,
            box_size_units="Mpc/h",
            periodic=True,
            redshift=redshift,
            thickness=5.0,
            cosmology={"h": 0.6711, "Omega_b": 0.049, "n_s": 0.9624},
        ),
        simulator=f"CAMELS {suite}",
        extra={} if seeds is None else {"seeds": seeds},
        attributes={"set": set},
        path=folder,
    )


def _maps(path: Path) -> np.ndarray:
    if not path.exists():
        raise MapSetError(
            f"{path} does not exist. Download it from CMD, or name another field, suite, set or redshift."
        )
    try:
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise MapSetError(f"{path} is truncated or not an .npy file ({error}). Download it again.") from error
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise MapSetError(
            f"{path} has shape {maps.shape}, but CMD maps are (n, cells, cells). Is it a file of 3D grids?"
        )
    return maps


def _parameters(
    folder: Path, suite: str, set: str, given: str | os.PathLike[str] | None
) -> tuple[np.ndarray, np.ndarray | None, Path]:
    """The parameters, (n_sim, 6) or for N-body suites (n_sim, 2), seeds where the file has them, its path."""
    candidates = [folder / f"params_{set}_{suite}.txt", folder / f"params_{suite}.txt"]
    if given is not None:
        # Beside the maps, or anywhere.
        candidates = [folder / given, Path(given)]
    path = next((item for item in candidates if item.exists()), candidates[0])
    if not path.exists():
        raise MapSetError(f"{path} does not exist. Download the parameters of {suite} {set} from CMD into that folder.")
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        named = bool(rows) and not _is_number(rows[0][0])
        values = np.array([row[named:] for row in rows], dtype=np.float64)
    except (ValueError, OSError) as error:
        raise MapSetError(f"{path} is not a table of numbers ({error}). Download it again.") from error
    # A CosmoAstroSeed table may have a seventh number, the seed. Other widths are sets with other parameters.
    if values.ndim != 2 or values.shape[1] not in ((6, 7) if named else (6,)):
        raise MapSetError(
            f"{path} has shape {values.shape}, but 6 parameters a simulation are needed. Give the parameter "
            "file of a set that varies these."
        )
    if not np.isfinite(values).all():
        raise MapSetError(f"{path} holds NaN or infinite values. Download it again.")
    seeds = values[:, 6].astype(np.int64) if values.shape[1] > 6 else None
    return values[:, : 2 if suite.startswith("Nbody") else 6], seeds, path


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
