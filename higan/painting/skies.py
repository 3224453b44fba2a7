"""Paint maps of the sky into a map set, one after the other; what ends the process loses one face at most."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import higan
from higan.errors import MapSetError, ParameterError
from higan.mapset import MapSet
from higan.mapset_writer import MapSetWriter, partial_path
from higan.painting.faces import FACES
from higan.painting.sphere import Sky, check_nside, default_nside, lattices
from higan.painting.stream import digest_of, extra_of, parameters_of, provenance_of
from higan.progress import progress

if TYPE_CHECKING:
    from higan.emulator import Emulator


def paint_skies_to_file(
    emulator: Emulator,
    maps: MapSet,
    path: str | os.PathLike[str],
    *,
    seed: int,
    realisations: int = 1,
    cell_angle: float | None = None,
    nside: int | None = None,
    allow_extrapolation: bool = False,
    overwrite: bool = False,
) -> Path:
    """Paint every map of a map set on the sphere, map-major over realisations, into a new map set.

    Faces of the sky under way lie in ``.path.faces.h5.partial``, finished skies in ``path.partial``: a call that was
    interrupted is taken up there by the same one.

    Parameters
    ----------
    emulator : Emulator
    maps : MapSet
        Of geometry "healpix", with the card's input fields and units; shells may differ in redshift and thickness.
    path : path
        Appears whole or not at all.
    seed, realisations, allow_extrapolation
        As :meth:`higan.emulator.Emulator.sample`.
    cell_angle : float, optional
        Of one of the generator's cells, in arcmin; from redshift and thickness of the shells where not given.
    nside : int, optional
        Of what is painted; as :meth:`higan.emulator.Emulator.sample_sky` where not given.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    MapSetError, ParameterError, OutputError
        Nothing is left behind then.
    """
    from higan.emulator import check_seed

    path, card = Path(path), emulator.card
    check_seed(seed)
    if realisations < 1:
        raise ParameterError(f"realisations must be at least 1, received {realisations}.")
    if not card.inputs:
        raise MapSetError(f"{card.name} paints without an input field, and a sky needs one.")
    for item in card.inputs:
        maps.check_units(item.field, item.units, card.name)
    sides = lattices(card, maps, cell_angle)
    nside = min(default_nside(maps.shape[0], n) for n in sides) if nside is None else nside
    check_nside(nside, min(sides), nested=maps.geometry.ordering == "NESTED")
    theta = parameters_of(emulator, maps, allow_extrapolation)
    n = len(maps) * realisations
    row, draw = np.arange(n) // realisations, np.arange(n) % realisations
    made_from = f"{digest_of(emulator, maps)} {sides}"
    attributes = provenance_of(emulator, seed, realisations, theta)
    with (
        MapSetWriter(
            path,
            maps.with_created_by(f"higan {higan.__version__}"),
            {item.field: ((12 * nside**2,), item.units, item.long_name) for item in card.outputs},
            n,
            simulation=maps.simulation[row],
            extra=extra_of(maps, row, draw, ("redshift", "thickness")),
            attributes=attributes,
            geometry=dataclasses.replace(maps.geometry, ndim=1),
            overwrite=overwrite,
            made_from=made_from,
        ) as writer,
        progress("painting", FACES * n, done=FACES * (n - int(writer.left.sum())), unit="faces") as advance,
    ):
        for i in np.flatnonzero(writer.left):
            fields = np.stack([maps.read(item.field, [row[i]])[0] for item in card.inputs], axis=-1)
            sky = Sky(emulator.painter, fields, sides[row[i]], str(maps.geometry.ordering))
            hidden = path.with_name(f".{path.name}.faces.h5")
            side = sky.n + 2 * sky.reach
            try:
                with MapSetWriter(
                    hidden,
                    maps,
                    {"faces": ((side, side, len(card.outputs)), "", "")},
                    FACES,
                    simulation=np.zeros(FACES),
                    extra={},
                    attributes=attributes | {"row": int(row[i]), "realisation": int(draw[i])},
                    overwrite=True,
                    made_from=made_from,
                ) as faces:
                    advance(FACES - int(faces.left.sum()))
                    for face in np.flatnonzero(faces.left):
                        painted = sky.paint(
                            int(face), theta[row[i]][None], seed=seed, row=int(row[i]), realisation=int(draw[i])
                        )
                        faces.write(int(face), {"faces": painted[None]})
                        advance(1)
                whole = sky.assemble(_read(hidden), nside)
            finally:
                hidden.unlink(missing_ok=True)
            writer.write(int(i), {item.field: whole[None, :, j] for j, item in enumerate(card.outputs)})
    partial_path(path.with_name(f".{path.name}.faces.h5")).unlink(missing_ok=True)
    return path


def _read(path: Path) -> Iterator[np.ndarray]:
    """Faces of a finished sky, one at a time."""
    faces = MapSet.open(path)
    for face in range(FACES):
        yield faces.read("faces", [face])[0]
