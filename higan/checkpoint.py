"""Checkpoints: a folder with a card (JSON) and the generator's weights (HDF5), and nothing that runs.

::

    card.json              what the generator is, was trained on, and how good it is
    generator.weights.h5   one dataset a weight, under its name
    baselines.h5           optional: baselines fitted on the same training simulations

A checkpoint from a stranger can be opened without running anything of theirs: there is no pickle and no serialised
code; the networks are built from validated hyperparameters and take arrays of exactly the shapes those imply.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

import higan
from higan import hdf5
from higan.errors import CheckpointError, OutputError, ParameterError, RecipeError
from higan.mapset import first_line, plain_name
from higan.matter import Cosmology
from higan.networks.config import GeneratorConfig
from higan.quantile_mapping import DEGREE, n_terms
from higan.scaling import from_dict

CARD_VERSION = 1
CARD, WEIGHTS = "card.json", "generator.weights.h5"
SHIPPED = "checkpoints"
LARGEST_CARD = 1 << 24  # bytes
# Cells of a map that is painted without being asked for its size: 512³. An axis is shorter than the noise's, 2²¹.
LARGEST_MAP, LONGEST_AXIS = 1 << 27, 1 << 21
LARGEST_COEFFICIENT = 1e6  # of a quantile, in standard deviations: sums of such are none too large for single precision
LARGEST_DRAWN = 1 << 24  # the same of a density that is drawn, which takes half a kB a cell
# Weights are noise to a compressor, and take half a byte at the very least.
WEIGHTS_PER_BYTE, FEW_WEIGHTS = 2, 1 << 18

# Names go into files, columns and messages.
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Coefficients = Annotated[list[FiniteFloat], Field(min_length=1, max_length=10_000)]


class QuantileCard(_Table):
    """Quantiles of an output's generated values and of the true ones, scaled, each a polynomial in the parameters
    (:mod:`higan.quantile_mapping`)."""

    generated: list[Coefficients] = Field(min_length=1, max_length=1000)
    true: list[Coefficients] = Field(min_length=1, max_length=1000)

    @property
    def terms(self) -> int:
        """Of each polynomial."""
        return len(self.true[0])

    @model_validator(mode="after")
    def _match(self) -> QuantileCard:
        if len(self.generated) != len(self.true) or {len(row) for row in self.generated + self.true} != {self.terms}:
            raise ValueError("the quantiles of generated and of true values are not as many, or of other terms")
        if max(abs(value) for row in self.generated + self.true for value in row) > LARGEST_COEFFICIENT:
            raise ValueError(f"coefficients of quantiles, in standard deviations, are beyond {LARGEST_COEFFICIENT:g}")
        return self


class FieldCard(_Table):
    """An input or output: field name, unit, long name, scaling with its constants and physical bounds; of an output
    perhaps a quantile mapping."""

    field: Name
    units: str = ""
    long_name: str = ""
    scaling: dict[str, Any]
    quantile_mapping: QuantileCard | None = None

    @field_validator("field")
    @classmethod
    def _name_of_a_dataset(cls, name: str) -> str:
        return plain_name(name)

    @field_validator("scaling")
    @classmethod
    def _can_be_made(cls, constants: dict[str, Any]) -> dict[str, Any]:
        try:
            from_dict(constants)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return constants


class ParameterCard(_Table):
    """A parameter: name, unit and the range the generator was trained on."""

    name: Name
    units: str = ""
    lower: FiniteFloat
    upper: FiniteFloat

    @model_validator(mode="after")
    def _is_a_range(self) -> ParameterCard:
        # Both ends are float32 when they scale the parameter.
        with np.errstate(over="ignore", invalid="ignore"):
            lower, upper = np.array([self.lower, self.upper]).astype(np.float32)
        if not (np.isfinite(upper - lower) and lower < upper):
            raise ValueError(f"the range from {self.lower:g} to {self.upper:g} is empty")
        return self


class DrawnCard(_Table):
    """The input field that the emulator draws where none is given: matter in a flat universe (:mod:`higan.matter`).

    Attributes
    ----------
    field : str
        The only input.
    coarse : bool
        As of :func:`higan.matter.draw_density`.
    h, Omega_m, Omega_b, n_s, sigma_8 : float or str
        As of :class:`higan.matter.Cosmology`; a text is the name of a parameter.
    """

    field: Name
    coarse: bool = False
    h: FiniteFloat | Name
    Omega_m: FiniteFloat | Name
    Omega_b: FiniteFloat | Name
    n_s: FiniteFloat | Name
    sigma_8: FiniteFloat | Name

    @property
    def cosmology(self) -> dict[str, float | str]:
        """What :class:`higan.matter.Cosmology` takes, with names of parameters in place of their values."""
        return {quantity.name: getattr(self, quantity.name) for quantity in dataclasses.fields(Cosmology)}

    def universe(self, parameters: Mapping[str, float]) -> Cosmology:
        """That of parameters by their names; ParameterError where there is none."""
        given = self.cosmology.items()
        return Cosmology(**{name: float(parameters[x] if isinstance(x, str) else x) for name, x in given})


class Card(_Table):
    """What a checkpoint is; written as card.json.

    Attributes
    ----------
    card_version : int
        Of this format.
    name, version, description, licence, citation : str
    network : GeneratorConfig
    ndim, stride, receptive_radius : int
        In cells: the total stride s, and the radius h beyond which no input reaches a cell, but by way of
        `network.excursion_set`, which sees whole maps.
    inputs, outputs : list of FieldCard
    parameters : list of ParameterCard
    cell_size, thickness, redshift : float
        Of the training maps, `cell_size` in `length_units`, `thickness` in `depth_units`.
    geometry : {"box", "image", "patch", "healpix"}
        What kind of maps, as of :class:`higan.mapset.Geometry`.
    shape : list of int
        Cells of a training map.
    magnitude : str
        The parameter that is the magnitude of the sum over a painted map, if there is one
        (:data:`higan.photometry.ZERO_POINT`).
    drawn : DrawnCard, optional
        The input that need not be given.
    training : dict
        simulator, its version, simulations, seeds, sha256 of the map set, maps seen, hours.
    recipe : dict
    objective : str
    metrics : dict
        Validation (and, where it was looked at, test) statistics, each with its error.
    versions : dict
        Libraries it was trained with.
    weights_sha256 : str
    """

    card_version: int = CARD_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    version: str = "1"
    description: str = ""
    network: GeneratorConfig
    ndim: int = Field(ge=1, le=3)
    stride: int = Field(ge=1)
    receptive_radius: int = Field(ge=0)
    inputs: list[FieldCard] = Field(max_length=64)
    outputs: list[FieldCard] = Field(min_length=1, max_length=64)
    parameters: list[ParameterCard] = Field(max_length=1000)
    cell_size: FiniteFloat = Field(gt=0)
    length_units: str = "Mpc"
    thickness: FiniteFloat | None = None
    redshift: FiniteFloat | None = None
    geometry: str = Field(default="box", pattern="^(box|image|patch|healpix)$")
    shape: list[Annotated[int, Field(ge=1, lt=LONGEST_AXIS)]] = Field(default=[], max_length=3)
    magnitude: str = ""
    drawn: DrawnCard | None = None
    periodic: bool = True
    training: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    objective: str = ""
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    licence: str = ""
    citation: str = ""
    weights_sha256: str = ""

    def __str__(self) -> str:
        """A few lines of plain text: what ``higan info`` shows."""
        return _text(self)

    @property
    def depth_units(self) -> str:
        """The unit of `thickness`: a length, also where cells are angles."""
        return "Mpc" if self.geometry == "patch" else self.length_units

    @property
    def radius(self) -> tuple[int, float, float] | None:
        """Place and range of the parameter flux_radius, galaxies' half-light radius in pixels, if there is one."""
        found = ((i, p.lower, p.upper) for i, p in enumerate(self.parameters) if p.name == "flux_radius")
        return next(found, None)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Card:
        if self.shape and len(self.shape) != self.ndim:
            raise ValueError(f"maps of shape {self.shape} have not {self.ndim} dimensions")
        if self.network.profiles and self.ndim != 2:
            raise ValueError(f"network.profiles are of maps in two dimensions, not in {self.ndim}")
        if self.network.network == "profiles" and (self.inputs or not self.shape):
            raise ValueError("network 'profiles' makes maps of a known shape of parameters alone")
        if self.network.excursion_set and len(self.inputs) != 1:
            raise ValueError(f"network.excursion_set smooths one field, and there are {len(self.inputs)} inputs")
        if not self.inputs and math.prod(self.shape) > LARGEST_MAP:
            raise ValueError(f"maps of shape {self.shape} have more than {LARGEST_MAP} cells")
        for what, found in (
            ("input", [item.field for item in self.inputs]),
            ("output", [item.field for item in self.outputs]),
            ("parameter", [item.name for item in self.parameters]),
        ):
            twice = next((name for name in found if found.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice!r} is there twice")
        possible = [n_terms(len(self.parameters), degree) for degree in range(DEGREE + 1)]
        for item in self.outputs:
            if item.quantile_mapping and item.quantile_mapping.terms not in possible:
                raise ValueError(
                    f"quantiles of {item.field} are polynomials of {item.quantile_mapping.terms} terms, which "
                    f"{len(self.parameters)} parameters have in no degree up to {DEGREE}"
                )
        if self.magnitude and self.magnitude not in [p.name for p in self.parameters]:
            raise ValueError(f"the magnitude {self.magnitude!r} is none of the parameters")
        if self.drawn is not None:
            self._check_drawn(self.drawn)
        return self

    def _check_drawn(self, drawn: DrawnCard) -> None:
        if [item.field for item in self.inputs] != [drawn.field] or self.inputs[0].units:
            raise ValueError(f"what is drawn, {drawn.field!r}, is not the only input, or has a unit")
        if (self.geometry, self.ndim, self.length_units, self.periodic) != ("box", 3, "Mpc", True):
            raise ValueError("a density is drawn in periodic boxes of three dimensions, in Mpc")
        if self.redshift is None or self.redshift < 0 or len(set(self.shape)) != 1:
            raise ValueError("a density is drawn at a redshift, in cubes")
        if math.prod(self.shape) > LARGEST_DRAWN:
            raise ValueError(f"maps of shape {self.shape} have more than {LARGEST_DRAWN} cells to draw")
        if not (1e-3 <= self.cell_size <= 1e4 and self.redshift <= 1e3):
            raise ValueError(f"no density is drawn in cells of {self.cell_size:g} Mpc at redshift {self.redshift:g}")
        ends = [{p.name: p.lower for p in self.parameters}, {p.name: p.upper for p in self.parameters}]
        for quantity, value in drawn.cosmology.items():
            if isinstance(value, str) and value not in ends[0]:
                raise ValueError(f"drawn.{quantity} is {value!r}, which is none of the parameters")
        # Both ends of the trained ranges have to be universes.
        for end in ends:
            try:
                drawn.universe(end)
            except ParameterError as error:
                raise ValueError(str(error)) from error


def library_versions() -> dict[str, str]:
    """Versions of higan and of what it trains with, those that are installed."""
    versions = {"higan": higan.__version__}
    for name in ("keras", "tensorflow", "jax", "numpy", "h5py"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def save_checkpoint(
    folder: str | os.PathLike[str], card: Card, weights: dict[str, np.ndarray], *, overwrite: bool = False
) -> Card:
    """Write a checkpoint folder; it appears whole or not at all.

    An older one is moved aside (to ``.NAME.old``) before the new one takes its place, and is found there if the program
    is killed between the two.

    Parameters
    ----------
    folder : path
    card : Card
        Its `weights_sha256` is filled in.
    weights : dict of str to array
        The generator's, by name.
    overwrite : bool

    Returns
    -------
    Card
        As written.

    Raises
    ------
    OutputError
        If the folder exists (without `overwrite`) or cannot be written.
    """
    folder = Path(folder)
    partial, aside = folder.parent / f".{folder.name}.partial", _aside(folder)
    if folder.is_file():
        raise OutputError(f"{folder} is a file. Give the name of a folder.")
    if (folder.exists() or aside.exists()) and not overwrite:
        raise OutputError(f"{folder} exists already. Choose another name, or allow overwriting it.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if aside.exists() and not folder.exists():
            os.replace(aside, folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_hdf5(partial / WEIGHTS, weights, compression="gzip", shuffle=True)
        card = card.model_copy(update={"weights_sha256": file_sha256(partial / WEIGHTS)})
        (partial / CARD).write_text(card_json(card), encoding="utf-8")
        if folder.exists():
            # What lies aside while the folder is in place is what a killed program did not come to remove.
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)
        try:
            os.replace(partial, folder)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.replace(aside, folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}). Make room, or choose another place."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def write_hdf5(
    path: Path, arrays: Mapping[str, Any], attributes: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Write arrays as the datasets of a new HDF5 file, `options` as of h5py's ``create_dataset``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    # Made in memory: HDF5 cannot close a file that a full disc keeps it from flushing, and ends the whole program.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=np.asarray(values), **options)
        file.attrs.update(attributes or {})
    with open(path, "wb") as disc:
        disc.write(content.getbuffer())
        disc.flush()
        os.fsync(disc.fileno())


def replace_hdf5(path: Path, arrays: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> None:
    """:func:`write_hdf5` of a file that appears whole, in place of one that is there, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_hdf5(partial, arrays, attributes)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def card_json(card: Card) -> str:
    """The card as it is written: JSON without NaN."""
    return json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def find_checkpoint(name: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint: a path, or the name of a shipped one.

    Where an overwriting was killed after it had moved the checkpoint aside, the folder it lies in now.

    Raises
    ------
    CheckpointError
        If there is neither; the shipped names are listed.
    """
    path = Path(name)
    for folder in (path, _aside(path)):
        if (folder / CARD).is_file():
            return folder
    shipped = shipped_folder(SHIPPED)
    names = sorted(p.name for p in shipped.iterdir() if (p / CARD).is_file()) if shipped.is_dir() else []
    if str(name) in names:
        return shipped / str(name)
    what = "has no card.json: it is not a checkpoint" if path.is_dir() else "is no folder"
    raise CheckpointError(
        f"{name} {what}, nor the name of a shipped checkpoint ({', '.join(names) or 'none'}). Give one of these."
    )


def _aside(folder: Path) -> Path:
    """Where a checkpoint lies while another takes its place."""
    return folder.parent / f".{folder.name}.old"


def shipped_folder(name: str) -> Path:
    """Where package data lie: beside the package in a source tree, inside it in an installed wheel."""
    package = Path(higan.__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


def load_card(folder: Path) -> Card:
    """Read and validate the card alone.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or from a newer version.
    """
    try:
        if (folder / CARD).stat().st_size > LARGEST_CARD:
            raise CheckpointError(f"{folder / CARD} has more than {LARGEST_CARD} bytes: it is not a higan checkpoint.")
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{folder / CARD} cannot be read ({error.strerror}). Give a checkpoint folder."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / CARD} is not valid JSON ({error}). Get the checkpoint again.") from error
    version = values.get("card_version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f"{folder / CARD} has no card_version: it is not a higan checkpoint.")
    if version > CARD_VERSION:
        raise CheckpointError(
            f"{folder / CARD} has version {version}, newer than {CARD_VERSION}, which this higan reads. Upgrade higan."
        )
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where = "".join(f"{part}: " for part in [".".join(str(part) for part in detail["loc"])] if part)
        what = detail["msg"].removeprefix("Value error, ").rstrip(".")
        raise CheckpointError(f"{folder / CARD} is damaged: {where}{what}. Get the checkpoint again.") from error


def check_size(folder: Path, card: Card) -> None:
    """Refuse a card whose network has more weights than its file can hold, before any of it is built.

    Raises
    ------
    CheckpointError
        If so, or if there is no file.
    """
    path = folder / WEIGHTS
    # What a link leads to may have no end.
    if not path.is_file():
        raise CheckpointError(f"{path} cannot be read (there is no such file). Get the checkpoint again.")
    count = card.network.count_weights(card.ndim, len(card.inputs), len(card.outputs), len(card.parameters))
    size = path.stat().st_size
    if count > FEW_WEIGHTS + WEIGHTS_PER_BYTE * size:
        raise CheckpointError(
            f"{folder / CARD} is damaged: its network has {count} weights, and {path.name} only {size} bytes. Get the "
            "checkpoint again."
        )


def load_weights(folder: Path, card: Card, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read the weights, checking sha256, names, shapes and that they are finite.

    Parameters
    ----------
    folder : Path
    card : Card
    shapes : dict of str to tuple
        What the network of the card needs.

    Raises
    ------
    CheckpointError
        If anything disagrees.
    """
    path = folder / WEIGHTS
    again = "Get the checkpoint again."
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). {again}") from error
    if digest != card.weights_sha256:
        raise CheckpointError(
            f"{path} is not the file its card describes: sha256 {digest[:12]}…, expected "
            f"{card.weights_sha256[:12]}…. {again}"
        )
    try:
        weights = {}
        with h5py.File(path, "r") as file:
            for name, shape in shapes.items():
                data = hdf5.dataset(file, name) if name in file else None
                if data is None or data.shape != shape:
                    found = "nothing" if data is None else data.shape
                    raise CheckpointError(f"{path}: weight {name!r} should have shape {shape}, found {found}. {again}")
                if data.dtype.kind != "f":
                    raise CheckpointError(f"{path} is damaged: weight {name!r} is of type {data.dtype}. {again}")
                weights[name] = hdf5.read(file, name).astype(np.float32)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({first_line(error)}). {again}") from error
    if not all(np.isfinite(values).all() for values in weights.values()):
        raise CheckpointError(f"{path} holds weights that are NaN or infinite. {again}")
    return weights


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: str | os.PathLike[str]) -> str:
    """A checkpoint in a few lines of plain text, for ``higan info``; no backend is imported."""
    folder = find_checkpoint(path)
    card = load_card(folder)
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 1e6
    return _text(card, f" ({folder}, {size:.1f} MB)")


def _objective(card: Card) -> str:
    return "without an adversary" if card.objective == "none" else card.objective


def _network(card: Card) -> str:
    config = card.network
    if config.network == "profiles":
        return f"galaxies of {config.profiles} profiles and up to {config.knots} knots, through {config.psf:g} pixels"
    return (
        f"{config.network}, widths {config.widths}, {card.ndim}D, stride {card.stride}, receptive radius "
        f"{card.receptive_radius} cells{', beside an excursion set of whole maps' if config.excursion_set else ''}"
    )


def _text(card: Card, where: str = "") -> str:
    lines = [
        f"checkpoint  {card.name}, version {card.version}{where}",
        *([f"            {card.description}"] if card.description else []),
        f"network     {_network(card)}",
        f"trained     {_objective(card)}; {card.training.get('simulator', '')} "
        f"{card.training.get('simulator_version', '')}, {card.training.get('simulations', '?')} simulations",
        f"maps        cells of {card.cell_size:g} {card.length_units}"
        + (f", slabs of {card.thickness:g} {card.depth_units}" if card.thickness else "")
        + (f", z = {card.redshift:g}" if card.redshift is not None else ""),
    ]
    for title, items in (("input", card.inputs), ("output", card.outputs)):
        lines += [
            f"{title:<12}{item.field} [{item.units or '1'}], {item.long_name}"
            + (", quantiles mapped onto those of the training maps" if item.quantile_mapping else "")
            + (" by parameters" if item.quantile_mapping and item.quantile_mapping.terms > 1 else "")
            for item in items
        ]
    if card.drawn is not None:
        universe = ", ".join(f"{name} {value}" for name, value in card.drawn.cosmology.items())
        lines.append(f"drawn       {card.drawn.field}, where none is given: {universe}")
    lines += ["", f"{'parameter':<16}{'unit':<8}{'lower':>10}{'upper':>10}"]
    lines += [f"{p.name:<16}{p.units or '1':<8}{p.lower:>10g}{p.upper:>10g}" for p in card.parameters]
    for title, values in card.metrics.items():
        if isinstance(values, dict) and values:
            known = {name: number for name, value in values.items() if (number := _number(value)) != "-"}
            lines += ["", title, *(f"  {name:<34}{number}" for name, number in known.items())]
    # A terminal obeys some characters.
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


def _number(value: Any) -> str:
    """A metric as text: a number, or a value with its error."""
    if isinstance(value, dict):
        shown = [_number(value.get(part)) for part in ("value", "error")]
        return shown[0] if shown[1] == "-" else f"{shown[0]} ± {shown[1]}"
    return f"{value:.4g}" if isinstance(value, int | float) and abs(value) < 1e300 else "-"
