"""``higan info PATH``: what a map set or a checkpoint holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from higan.mapset import MASKED

if TYPE_CHECKING:
    from higan.mapset import Geometry, MapSet

SAMPLE = 16
"""Maps that the ranges of fields are taken from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("path", metavar="PATH", help="a map set (HDF5), or a checkpoint (a folder or a shipped name)")


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    path = Path(arguments.path)
    if path.is_file() or path.suffix in (".h5", ".hdf5"):
        from higan.mapset import MapSet

        print(describe(MapSet.open(path)))
        return 0
    from higan.checkpoint import describe as describe_checkpoint

    print(describe_checkpoint(path))
    return 0


def describe(mapset: MapSet) -> str:
    """What a map set holds, in lines."""
    geometry = mapset.geometry
    lines = [
        f"{mapset.name}: a map set of {len(mapset)} maps, {' x '.join(map(str, mapset.shape))}, of "
        f"{mapset.n_sim} simulations",
        f"geometry    {_geometry(geometry, mapset)}",
    ]
    made = " ".join(item for item in (mapset.simulator, mapset.simulator_version) if item)
    if made or mapset.created_by:
        lines.append(f"made by     {made}{f' ({mapset.created_by})' if mapset.created_by else ''}")
    if geometry.cosmology:
        lines.append(
            "cosmology   " + ", ".join(f"{name} {_short(value)}" for name, value in geometry.cosmology.items())
        )
    if "split" in mapset.extra:
        labels = mapset.extra["split"]
        lines.append(
            "splits      "
            + ", ".join(
                f"{name} {int((labels == name).sum())} simulations "
                f"({len(mapset.rows_of(np.flatnonzero(labels == name)))} maps)"
                for name in dict.fromkeys(labels)
            )
        )
    if "seeds" in mapset.extra:
        lines.append(f"seeds       {mapset.extra['seeds'].min()} to {mapset.extra['seeds'].max()}")
    for name, value in mapset.attributes.items():
        lines.append(f"{name:<11} {value}")
    rows = np.unique(np.linspace(0, len(mapset) - 1, SAMPLE).astype(int))
    where = "all maps" if len(rows) == len(mapset) else f"{len(rows)} of the maps"
    table: list[tuple[str, ...]] = [("fields", "units", f"range in {where}", "")]
    table += [
        (name, field.units or "1", _range(mapset, name, rows), field.long_name) for name, field in mapset.fields.items()
    ]
    lines += ["", *_columns(table)]
    table = [("parameters", "units", "lower", "upper", "smallest", "largest")]
    for info, values in zip(mapset.parameter_info, mapset.parameters.T, strict=True):
        numbers = (info.lower, info.upper, values.min(), values.max())
        table.append((info.name, info.units or "1", *map(_short, numbers)))
    lines += ["", *(_columns(table) if mapset.parameter_info else ["no parameters"])]
    return "\n".join(lines)


def _geometry(geometry: Geometry, mapset: MapSet) -> str:
    units = geometry.box_size_units
    if geometry.kind == "healpix":
        return _shell(geometry, mapset)
    parts = [f"{geometry.kind}, {geometry.ndim} dimensions"]
    if geometry.box_size is not None:
        parts.append(f"side {_short(geometry.box_size)} {units}")
    if geometry.box_size is not None or geometry.cell_size is not None:
        parts.append(f"cells of {_short(mapset.cell_size)} {geometry.length_units}")
    if geometry.thickness is not None:
        parts.append(f"slabs of {_short(geometry.thickness)} {geometry.depth_units}")
    parts.append("periodic" if geometry.periodic else "not periodic")
    if geometry.redshift is not None:
        parts.append(f"redshift {_short(geometry.redshift)}")
    return ", ".join(parts)


def _shell(geometry: Geometry, mapset: MapSet) -> str:
    parts = [f"healpix, nside {round((mapset.shape[0] / 12) ** 0.5)}, {geometry.ordering or 'unknown'} order"]
    parts.append(f"pixels of {_short(mapset.cell_size)} arcmin")
    for name, value, units in (
        ("thickness", geometry.thickness, f" {geometry.depth_units}"),
        ("redshift", geometry.redshift, ""),
    ):
        if name in mapset.extra:
            ends = mapset.extra[name].min(), mapset.extra[name].max()
            parts.append(f"{name} {_short(ends[0])} to {_short(ends[1])}{units}")
        elif value is not None:
            parts.append(f"{name} {_short(value)}{units}")
    return ", ".join(parts)


def _range(mapset: MapSet, name: str, rows: np.ndarray) -> str:
    low, high = np.inf, -np.inf
    for row in rows:
        values = mapset.read(name, [row], check=False)
        if not np.isfinite(values).all():
            return f"NaN or infinite values in map {row}"
        if mapset.geometry.kind == "healpix":
            values = values[values > MASKED]
            if not values.size:
                continue
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return f"{_short(low)} to {_short(high)}"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _columns(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(item.ljust(width) for item, width in zip(row, widths, strict=True)).rstrip() for row in table]
