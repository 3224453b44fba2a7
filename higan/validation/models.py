"""What is compared with the truth: an emulator, a generated map set, a baseline, or any function of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import MapSetError, ParameterError
from higan.mapset import MapSet
from higan.painting.faces import pixel_angle, side_of
from higan.painting.sphere import ARCMIN, lattices

if TYPE_CHECKING:
    from higan.emulator import Emulator
    from higan.validation.baselines import Baselines


@dataclasses.dataclass(frozen=True)
class Model:
    """Maps to compare with the truth, made or read when asked for.

    Parameters
    ----------
    maps : callable
        Takes rows of the truth (n,) and returns their maps (n, *shape) or (n, realisations, *shape), physical units.
    realisations : int
        Of each map; batches are sized by it.
    baseline : bool
        Drawn and listed after the models.
    facts : mapping
        What a report says of it.
    """

    maps: Callable[[np.ndarray], Any]
    realisations: int = 1
    baseline: bool = False
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def from_emulator(
    emulator: Emulator, truth: MapSet, *, seed: int, realisations: int = 1, baseline: bool = False
) -> Model:
    """Paint the truth's inputs with an emulator; the row of a map numbers its noise, whatever the batches.

    Parameters
    ----------
    emulator : Emulator
    truth : MapSet
        With the card's inputs, output and parameters.
    seed : int
    realisations : int
    baseline : bool

    Raises
    ------
    MapSetError
        If a field is missing or in another unit, or the cells differ from the card's.
    ParameterError
        If a parameter is missing or outside the trained range.

    Examples
    --------
    >>> import higan
    >>> truth = MapSet.open("test.h5")  # doctest: +SKIP
    >>> model = from_emulator(higan.load("eor21cm-2d"), truth, seed=1)  # doctest: +SKIP
    """
    card = emulator.card
    sides: list[int] = []
    if truth.geometry.kind == "healpix":
        for item in card.inputs:
            truth.check_units(item.field, item.units, card.name)
        sides = lattices(card, truth)
    else:
        emulator.check_mapset(truth)
    truth.check_units(card.outputs[0].field, card.outputs[0].units, card.name)
    columns = {}
    for parameter in card.parameters:
        if parameter.name not in truth.parameter_names:
            raise ParameterError(
                f"{truth.name} has no parameter {parameter.name}, which {card.name} takes: it has "
                f"{', '.join(truth.parameter_names) or 'none'}. Give a map set that has it."
            )
        columns[parameter.name] = truth.parameter_names.index(parameter.name)

    def skies(rows: np.ndarray) -> np.ndarray:
        painted = []
        for row in rows:
            theta = truth.parameters[truth.simulation[row]]
            painted.append(
                emulator.sample_sky(
                    {item.field: truth.read(item.field, [row])[0] for item in card.inputs},
                    parameters={name: theta[column] for name, column in columns.items()},
                    seed=seed,
                    realisations=realisations,
                    cell_angle=pixel_angle(sides[row]) / ARCMIN,
                    row=int(row),
                    nside=side_of(truth.shape[0]),
                    nested=truth.geometry.ordering == "NESTED",
                )
            )
        return np.stack(painted)[..., 0] if len(card.outputs) > 1 else np.stack(painted)

    def maps(rows: np.ndarray) -> np.ndarray:
        if sides:
            return skies(rows)
        theta = truth.parameters[truth.simulation[rows]]
        painted = emulator.sample(
            {item.field: truth.read(item.field, rows) for item in card.inputs} or None,
            parameters={name: theta[:, column] for name, column in columns.items()},
            seed=seed,
            realisations=realisations,
            rows=rows,
            periodic=truth.geometry.periodic,
            shape=None if card.inputs else truth.shape,
        )
        return painted[..., 0] if len(card.outputs) > 1 else painted

    facts: dict[str, Any] = {"checkpoint": card.name, "realisations": realisations, "noise seed": seed}
    for name in ("version", "description", "objective", "weights_sha256", "licence"):
        if getattr(card, name, ""):
            facts[name.replace("_", " ")] = getattr(card, name)
    return Model(maps, realisations, baseline, facts)


def from_map_set(generated: MapSet, truth: MapSet, field: str) -> tuple[Model, np.ndarray]:
    """Maps of a generated map set, matched to the truth by /source_row and /realisation.

    A set without /source_row that has as many maps as the truth is taken to be in its order.

    Parameters
    ----------
    generated, truth : MapSet
        With `field` in one unit, of one shape and cell size.
    field : str

    Returns
    -------
    model : Model
    rows : ndarray of int
        Rows of the truth that have generated maps, ascending.

    Raises
    ------
    MapSetError
        If the two do not belong together.

    Examples
    --------
    >>> from higan.mapset import Field, Geometry
    >>> fields = {"T": Field(np.zeros((2, 4, 4), "float32"), "mK")}
    >>> truth = MapSet(fields, np.zeros((1, 0)), [], [0, 0], Geometry(box_size=8.0))
    >>> model, rows = from_map_set(truth, truth, "T")
    >>> model.realisations, rows.tolist(), model.maps(rows).shape
    (1, [0, 1], (2, 1, 4, 4))
    """
    generated.check_units(field, truth.field(field).units, truth.name)
    if generated.shape != truth.shape:
        raise MapSetError(
            f"{generated.name} has maps of {_by(generated.shape)} cells, {truth.name} of {_by(truth.shape)}. "
            "Compare maps of one shape."
        )
    ours, theirs = generated.geometry, truth.geometry
    if ours.ordering != theirs.ordering:
        raise MapSetError(
            f"{generated.name} has its pixels in {ours.ordering} order, {truth.name} in {theirs.ordering}. Reorder one."
        )
    if ours.length_units != theirs.length_units or abs(generated.cell_size / truth.cell_size - 1) > 1e-3:
        raise MapSetError(
            f"{generated.name} has cells of {generated.cell_size:g} {ours.length_units}, {truth.name} of "
            f"{truth.cell_size:g} {theirs.length_units}. Compare maps of one cell size."
        )
    source = generated.extra.get("source_row")
    if source is None:
        if len(generated) != len(truth):
            raise MapSetError(
                f"{generated.name} has no /source_row and {len(generated)} maps, {truth.name} has {len(truth)}. "
                "Say with /source_row which true map each generated one belongs to."
            )
        source = np.arange(len(truth))
    source = np.asarray(source, dtype=np.int64)
    if source.min() < 0 or source.max() >= len(truth):
        raise MapSetError(
            f"{generated.name}: /source_row runs from {source.min()} to {source.max()}, but {truth.name} has "
            f"{len(truth)} maps (counted from 0). Give the truth these maps were painted for."
        )
    rows, count = np.unique(source, return_counts=True)
    realisations = int(count[0])
    if (count != realisations).any():
        raise MapSetError(
            f"{generated.name} has between {count.min()} and {count.max()} realisations of a map. Give as many of each."
        )
    draw = np.asarray(generated.extra.get("realisation", np.zeros(len(source))), dtype=np.int64)
    order = np.lexsort((draw, source)).reshape(len(rows), realisations)
    if realisations > 1 and (np.diff(draw[order], axis=1) <= 0).any():
        raise MapSetError(f"{generated.name}: /realisation repeats a number for one map. Number realisations from 0.")
    if generated.parameter_names == truth.parameter_names and not np.allclose(
        generated.parameters[generated.simulation], truth.parameters[truth.simulation[source]], rtol=1e-5, atol=1e-8
    ):
        raise MapSetError(
            f"{generated.name} and {truth.name} disagree on the parameters of the maps that /source_row pairs. "
            "Give the truth these maps were painted for."
        )

    def maps(wanted: np.ndarray) -> np.ndarray:
        at = order[np.searchsorted(rows, wanted)]
        values = generated.read(field, at.ravel())
        return values.reshape(*at.shape, *values.shape[1:])

    facts: dict[str, Any] = {"file": generated.name, "realisations": realisations}
    for name in ("checkpoint", "checkpoint_sha256", "seed", "extrapolated"):
        if name in generated.attributes:
            facts[name.replace("_", " ")] = generated.attributes[name]
    return Model(maps, realisations, facts=facts), rows


def from_baseline(baselines: Baselines, name: str, truth: MapSet, *, seed: int) -> Model:
    """Paint one of the fitted baselines on the truth's input field.

    Raises
    ------
    MapSetError, ParameterError
        If the truth lacks the input field or a parameter, or its cells differ from those of the fit.

    Examples
    --------
    >>> model = from_baseline(baselines, "local_remap", truth, seed=1)  # doctest: +SKIP
    """
    baselines.check(truth)
    columns = [truth.parameter_names.index(parameter) for parameter in baselines.parameter_names]

    def maps(rows: np.ndarray) -> np.ndarray:
        theta = truth.parameters[truth.simulation[rows]][:, columns]
        return baselines.paint(name, truth.read(baselines.input, rows), theta, seed=seed, rows=rows)

    facts = {"baseline": baselines.describe(name), "fitted on": f"{baselines.simulations} training simulations"}
    return Model(maps, 1, True, facts)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
