"""From a recipe to what is trained on: maps, their parameters and split, scalings fitted on them, and the card."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from higan import scaling
from higan.checkpoint import Card, DrawnCard, ParameterCard, find_checkpoint, library_versions, load_card
from higan.errors import MapSetError, RecipeError, TrainingError
from higan.excursion import widest
from higan.mapset import MapSet, Parameter
from higan.photometry import PIXEL, UnitFlux, flux, of_pixels
from higan.recipe import Recipe
from higan.split import Split, split

RECIPE = "recipe.json"  # of a run, in its folder
PARTS, OFTEN = 10, 20  # of a parameter's range, to be seen evenly; maps of thin parts so often in an epoch at most

if TYPE_CHECKING:
    from higan.simulators.running import Simulator


def to_simulate(recipe: Recipe) -> tuple[Path, dict[str, Any]] | None:
    """The map set that is not there and how the recipe says it is simulated; None if there is nothing to simulate."""
    source, how = recipe.data.source, recipe.data.simulate
    return None if how is None or not isinstance(source, str) or Path(source).exists() else (Path(source), how)


def open_maps(recipe: Recipe) -> MapSet:
    """The recipe's map set; simulated first where the recipe says how and the file is not there."""
    from higan.sources import open_source

    missing = to_simulate(recipe)
    if missing is not None:
        from higan.cuts import slabs
        from higan.simulators import simulate

        target, how = missing
        simulator, thickness, options = simulation_of(how)
        target.parent.mkdir(parents=True, exist_ok=True)
        boxes = target if thickness is None else target.with_name(f"{target.stem}-boxes{target.suffix}")
        if not boxes.exists():
            simulate(simulator, output=boxes, **options)
        if thickness is not None:
            slabs(MapSet.open(boxes), target, thickness)
    return open_source(recipe.data.source)


class _Simulate(BaseModel):
    """The recipe's table [data.simulate]; what is not named here is a setting of the simulator."""

    model_config = ConfigDict(extra="allow", strict=True)

    simulator: str
    set: str = "lh"
    simulations: int | list[int] | None = None
    processes: int = 1
    seed: int | None = None
    thickness_cells: int | None = None


def simulation_of(table: dict[str, Any]) -> tuple[Simulator, int | None, dict[str, Any]]:
    """The simulator, the thickness of slabs and the arguments of `simulate` that [data.simulate] asks for."""
    from higan.simulators import simulator

    try:
        asked = _Simulate.model_validate(table)
        made = simulator(asked.simulator, **(asked.model_extra or {}))
        made = TypeAdapter(type(made)).validate_python(dataclasses.asdict(made))
    except ValidationError as error:
        detail = error.errors()[0]
        name, received = detail["loc"][0], "" if detail["type"] == "missing" else f", received {detail['input']!r}"
        raise RecipeError(f"[data.simulate] {name}: {detail['msg']}{received}. Mend it in the recipe.") from error
    arguments = asked.model_dump(include={"set", "simulations", "processes", "seed"}, exclude_unset=True)
    return made, asked.thickness_cells, arguments


def select(maps: MapSet, recipe: Recipe) -> tuple[MapSet, Split]:
    """`maps` with the parameters that the recipe asks for, and their split; an error if the two do not fit."""
    maps = select_parameters(maps, recipe)
    check_geometry(maps, recipe)
    for name in recipe.data.inputs + recipe.data.outputs:
        maps.field(name)
    return maps, limit(split(maps, recipe.data.fractions, recipe.seed), recipe.data.simulations)


def select_parameters(maps: MapSet, recipe: Recipe) -> MapSet:
    """`maps` with the recipe's parameters alone, in its order; RecipeError if one is missing or unbounded."""
    names = maps.parameter_names if recipe.data.parameters is None else recipe.data.parameters
    for name in names:
        if name not in maps.parameter_names:
            raise RecipeError(f"{maps.name} has no parameter {name!r}: it has {', '.join(maps.parameter_names)}.")
    columns = [maps.parameter_names.index(name) for name in names]
    info = [maps.parameter_info[i] for i in columns]
    for i, p in zip(columns, info, strict=True):
        if not (np.isfinite(p.lower) and np.isfinite(p.upper) and p.lower < p.upper):
            raise RecipeError(
                f"{maps.name}: parameter {p.name} has the range [{p.lower:g}, {p.upper:g}] where a finite, "
                "non-empty one is needed to scale it. Give the map set its bounds."
            )
        if maps.parameters[:, i].min() < p.lower or maps.parameters[:, i].max() > p.upper:
            raise RecipeError(f"{maps.name}: parameter {p.name} leaves its own range [{p.lower:g}, {p.upper:g}].")
    return maps.with_parameters(
        maps.parameters[:, columns], [Parameter(p.name, p.units, p.lower, p.upper) for p in info]
    )


def check_geometry(maps: MapSet, recipe: Recipe) -> None:
    """Refuse profiles and a telescope for maps that are not made for them, and whole maps whose sides do not touch."""
    if maps.geometry.kind == "healpix":
        raise MapSetError(f"{maps.name} holds maps of the sky. Cut patches from them to train on: higan patches.")
    if not (maps.geometry.periodic or recipe.training.crop or recipe.generator.centred):
        raise RecipeError(
            f"{maps.name} holds maps that are not periodic, but networks join opposite sides of a whole map. Train on "
            "crops of them, with training.crop and training.context."
        )
    if recipe.generator.profiles and maps.geometry.ndim != 2:
        raise RecipeError(
            f"generator.profiles are of maps in two dimensions, but {maps.name} has {maps.geometry.ndim}. Leave it out."
        )
    if recipe.observation.psf and not of_pixels(maps):
        raise RecipeError(
            f"observation.psf is of pixels of {PIXEL} arcsec, but {maps.name} has cells of {maps.cell_size:g} "
            f"{maps.geometry.length_units}. Leave it out."
        )


def unit_flux(maps: MapSet, recipe: Recipe) -> MapSet:
    """`maps` as the networks see them: outputs of unit flux where a parameter is their magnitude."""
    if recipe.data.magnitude is None:
        return maps
    fluxes = flux_of(maps, recipe)[maps.simulation]
    outputs = {
        name: dataclasses.replace(maps.field(name), array=UnitFlux(maps.field(name).array, fluxes))
        for name in recipe.data.outputs
    }
    return maps.with_fields({**maps.fields, **outputs})


def flux_of(maps: MapSet, recipe: Recipe) -> np.ndarray:
    """What the maps of each simulation are divided by for the networks; 1 where no parameter is their magnitude."""
    name = recipe.data.magnitude
    if name is None:
        return np.ones(maps.n_sim)
    return flux(maps.parameters[:, _column(maps, "magnitude", name)])


def _column(maps: MapSet, key: str, name: str) -> int:
    """Of the parameter that data.`key` names."""
    if name not in maps.parameter_names:
        raise RecipeError(
            f"data.{key} is {name!r}, but the networks see the parameters {', '.join(maps.parameter_names) or 'none'}. "
            "Name one of these, or leave it out."
        )
    return maps.parameter_names.index(name)


def evenly(maps: MapSet, rows: np.ndarray, recipe: Recipe) -> np.ndarray:
    """`rows` so often each that the range of the parameter `data.even` is seen evenly, in so far as it is filled."""
    name = recipe.data.even
    if name is None:
        return rows
    if recipe.training.maps_per_simulation > 1:
        raise RecipeError(
            "data.even repeats maps, which would meet themselves in the groups of training.maps_per_simulation. Leave "
            "one of them out."
        )
    i = _column(maps, "even", name)
    info, values = maps.parameter_info[i], maps.parameters[maps.simulation[rows], i]
    part = np.minimum((values - info.lower) / (info.upper - info.lower) * PARTS, PARTS - 1).astype(int)
    counts = np.bincount(part, minlength=PARTS)[part]
    return np.repeat(rows, np.clip(np.rint(counts.max() / counts), 1, OFTEN).astype(int))


def radius_of(maps: MapSet, recipe: Recipe) -> np.ndarray | None:
    """The half-light radius, in pixels, of the stamps of each simulation, where a loss is of such."""
    losses = recipe.objective
    needed = losses.half_light_weight or losses.shape_weight
    known = recipe.data.magnitude is not None and "flux_radius" in maps.parameter_names
    if needed and not known:
        raise RecipeError(
            "objective.half_light_weight and shape_weight are of stamps whose data.magnitude is named and whose "
            "half-light radius is the parameter flux_radius, but the networks see "
            f"{', '.join(maps.parameter_names) or 'no parameters'}. Leave them out."
        )
    if not known or not (needed or losses.statistics_weight):
        return None
    return maps.parameters[:, maps.parameter_names.index("flux_radius")]


def limit(parts: Split, simulations: int | None) -> Split:
    if simulations is None:
        return parts
    if simulations > len(parts.train):
        raise TrainingError(f"data.simulations is {simulations}, but there are {len(parts.train)} to train on.")
    return Split(parts.train[:simulations], parts.validation, parts.test)


def new_card(recipe: Recipe, maps: MapSet, parts: Split) -> Card:
    """The card of a training that begins: everything but metrics and weights."""
    from higan.painting.painter import receptive_radius

    rows = maps.rows_of(parts.train)

    shown = unit_flux(maps, recipe)

    def field_card(name: str) -> dict[str, Any]:
        config = recipe.scaling.get(name)
        options = {"name": "linear"} if config is None else config.model_dump(exclude_none=True)
        fitted = scaling.fit(options.pop("name"), shown.batches(name, rows), **options)
        field = maps.field(name)
        if len(field.shape) != maps.geometry.ndim:
            raise MapSetError(
                f"{maps.name}: field {name!r} has maps of shape {field.shape}, but a network takes "
                f"{maps.geometry.ndim} dimensions. Give each channel as a field of its own."
            )
        return {"field": name, "units": field.units, "long_name": field.long_name, "scaling": fitted.to_dict()}

    _large_enough(recipe, maps)
    geometry = maps.geometry
    seeds = maps.extra.get("seeds")
    values: dict[str, Any] = dict(
        name=recipe.name,
        version=recipe.version,
        description=recipe.card.description,
        network=recipe.generator,
        ndim=geometry.ndim,
        stride=recipe.generator.stride,
        receptive_radius=receptive_radius(recipe.generator, bool(recipe.data.inputs)),
        inputs=[field_card(name) for name in recipe.data.inputs],
        outputs=[field_card(name) for name in recipe.data.outputs],
        parameters=[
            ParameterCard(name=p.name, units=p.units, lower=p.lower, upper=p.upper) for p in maps.parameter_info
        ],
        cell_size=maps.cell_size,
        length_units=geometry.length_units,
        thickness=geometry.thickness,
        redshift=geometry.redshift,
        geometry=geometry.kind,
        shape=list(maps.shape[: geometry.ndim]),
        magnitude=recipe.data.magnitude or "",
        drawn=_drawn(recipe, maps),
        periodic=geometry.periodic,
        training={
            "simulator": maps.simulator,
            "simulator_version": maps.simulator_version,
            "simulations": len(parts.train),
            "maps": len(rows),
            "seeds": [] if seeds is None else [int(s) for s in seeds[parts.train]],
            "sha256": maps.content_sha256(),
        },
        recipe=recipe.model_dump(mode="json"),
        objective=recipe.objective.name,
        versions=library_versions(),
        licence=recipe.card.licence,
        citation=recipe.card.citation,
    )
    try:
        return Card(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        what = place + first["msg"].removeprefix("Value error, ").rstrip(".")
        raise RecipeError(
            f"no card can be written for {maps.name} and this recipe: {what}. Mend one of them."
        ) from error


# What the quantities of a universe are called as parameters, by the codes that make boxes.
QUANTITIES = {
    "h": ("h", "hlittle"),
    "Omega_m": ("Omega_m", "OMm"),
    "Omega_b": ("Omega_b", "OMb"),
    "n_s": ("n_s", "POWER_INDEX"),
    "sigma_8": ("sigma_8", "SIGMA_8"),
}


def _drawn(recipe: Recipe, maps: MapSet) -> DrawnCard | None:
    """The input that the emulator may draw, of the universe that the maps are of."""
    drawn, geometry = recipe.data.drawn, maps.geometry
    if drawn is None:
        return None
    if (geometry.kind, geometry.ndim, geometry.length_units, geometry.periodic) != ("box", 3, "Mpc", True):
        raise RecipeError(
            f"data.drawn is of periodic boxes in three dimensions, in Mpc; {maps.name} does not hold such. Leave it "
            "out."
        )
    if geometry.redshift is None or maps.field(drawn.field).units:
        raise RecipeError(
            f"data.drawn is of an overdensity at one redshift: {maps.name} says none, or its {drawn.field} has a unit. "
            "Leave it out."
        )
    found: dict[str, Any] = {}
    for quantity, names in QUANTITIES.items():
        varied = [name for name in names if name in maps.parameter_names]
        found[quantity] = varied[0] if varied else geometry.cosmology.get(quantity)
        if found[quantity] is None:
            raise RecipeError(
                f"data.drawn needs {quantity}, which is neither a parameter of {maps.name} nor in its cosmology. "
                "Leave it out, or give the map set its cosmology."
            )
        if not isinstance(found[quantity], str | int | float) or (not varied and isinstance(found[quantity], str)):
            raise RecipeError(f"{maps.name} has the {quantity} {found[quantity]!r} in its cosmology. Give a number.")
    return DrawnCard(field=drawn.field, coarse=drawn.coarse, **found)


def _large_enough(recipe: Recipe, maps: MapSet) -> None:
    """Refuse maps, or crops, that what networks see, or losses compare, would go around."""
    network, objective, training = recipe.generator, recipe.objective, recipe.training
    cells = training.crop or min(maps.shape[: maps.geometry.ndim])
    around = 2 * training.context if training.crop else 0
    smoothed = network.stride * (2 ** (network.smoothed_noise + 1) - 1) if network.smoothed_noise else 0
    window, lag = 2 * max(network.exclusion, default=0) + 1, max(objective.one_point_lags, default=0)
    seen = {
        f"generator.smoothed_noise = {network.smoothed_noise} is for {smoothed} cells and more a side": smoothed,
        f"generator.exclusion has windows of {window} cells a side": window,
    }
    radius, most = network.excursion_set.cells[-1] if network.excursion_set else 0, widest(maps.shape)
    if radius > most:
        raise RecipeError(
            f"generator.excursion_set smooths over {radius:.3g} cells, which leaves of maps of "
            f"{' x '.join(map(str, maps.shape))} nothing but their mean: {most:.3g} are the most. Take fewer radii."
        )
    compared = {f"objective.one_point_lags has pairs {lag} cells apart to both sides": 2 * lag + 1}
    for name in ("pixel_scales", "extreme_scales", "one_point_scales"):
        largest = max(getattr(objective, name), default=1)
        compared[f"objective.{name} has blocks of {largest} cells a side"] = largest
    for needs, side, context in ((seen, cells + around, "with"), (compared, cells, "without")):
        for need, least in needs.items():
            if least > side:
                raise RecipeError(
                    f"{need}, and maps, or crops {context} their context, have {side}. Take less, or larger maps."
                )


# What a network may be given that was trained without: interpolation has no weights, slopes, gates, what is made of
# top-hats and noise there, and exclusion, start at zero, and what is drawn cell by cell starts small.
ADDED = ("interpolated", "tracing", "gated", "cellwise", "exclusion", "top_hats", "stochastic_barrier")


def is_run(initial: Path) -> bool:
    """Whether `training.initial` is the folder of a run; else it names a checkpoint, of a generator alone."""
    return (initial / RECIPE).is_file()


def find_initial(initial: Path) -> Path:
    """The checkpoint of what `training.initial` names."""
    return find_checkpoint(initial / "checkpoint" if is_run(initial) else initial)


def scaled_as(card: Card, initial: Path) -> Card:
    """`card` with the scalings of the run whose networks it starts from: its weights are of fields scaled so."""
    before = load_card(find_initial(initial))

    def seen(card: Card) -> dict[str, Any]:
        names = {kind: [item.field for item in getattr(card, kind)] for kind in ("inputs", "outputs")}
        parameters = [f"{p.name} from {p.lower:g} to {p.upper:g} {p.units}".rstrip() for p in card.parameters]
        return {
            "network": card.network,
            **names,
            "units": [item.units for item in card.inputs + card.outputs],
            "parameters": parameters,
            "magnitude": card.magnitude,
            "dimensions": card.ndim,
        }

    now, then = seen(card), seen(before)
    added = {name: getattr(card.network, name) for name in ADDED if not getattr(before.network, name)}
    if before.network.excursion_set:  # whose network is there, and takes no other inputs
        added.pop("top_hats", None)
    if "top_hats" in added:
        added["top_hat_widths"] = card.network.top_hat_widths
    then["network"] = before.network.model_copy(update=added)
    for what, value in now.items():
        if value != then[what]:
            both = "" if what == "network" else f" ({_listed(then[what])} there, {_listed(value)} here)"
            raise RecipeError(
                f"training.initial, {initial}, was trained with other {what} than this recipe asks for{both}. Give one "
                "with the same, or leave training.initial out."
            )
    outputs = [item.model_copy(update={"quantile_mapping": None}) for item in before.outputs]
    return card.model_copy(update={"inputs": before.inputs, "outputs": outputs})


def _listed(value: Any) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value)) or "none"
