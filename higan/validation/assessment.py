"""A whole validation: models and baselines beside the truth, the report written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.cores import cores
from higan.errors import CheckpointError, MapSetError, ParameterError
from higan.mapset import SPLITS, MapSet
from higan.photometry import PIXEL, of_pixels
from higan.split import training_rows
from higan.validation.baselines import Baselines
from higan.validation.checks import check_models
from higan.validation.comparison import check_maps, compare
from higan.validation.models import Model, from_baseline, from_emulator, from_map_set
from higan.validation.report import check_folder, write_report
from higan.validation.results import Comparison

if TYPE_CHECKING:
    from higan.emulator import Emulator

BASELINES = "baselines.h5"  # beside a checkpoint's card
MEAN_NETWORK = "mean network"


def validate(
    model: Emulator | MapSet,
    truth: MapSet,
    output_dir: str | os.PathLike[str],
    *,
    seed: int = 1,
    realisations: int = 1,
    baselines: Baselines | str | os.PathLike[str] | None = None,
    mean_emulator: Emulator | None = None,
    field: str | None = None,
    split: str = "test",
    baseline_fields: Sequence[str] = (),
    training: MapSet | None = None,
    classifier: bool = False,
    ring_test: bool = False,
    overwrite: bool = False,
) -> Comparison:
    """Compare an emulator, or maps it made, with the truth, and write the report.

    Parameters
    ----------
    model : Emulator or MapSet
        A map set has maps in the truth's order or says which map they belong to by /source_row.
    truth : MapSet
    output_dir : path
        Gets report.html, metrics.json and figures.
    seed : int
        Of the emulator's noise, of the baselines' and of the bootstrap.
    realisations : int
        That an emulator draws of each map.
    baselines : Baselines or path, optional
        Where not given: baselines.h5 of the shipped checkpoint that the emulator is, else fitted on the training
        simulations of the truth, where it has any.
    mean_emulator : Emulator, optional
        The network trained for the mean, as one more baseline.
    field : str, optional
        To compare: the emulator's first output, or the one field of a generated set, where not given.
    split : str
        "train", "validation", "test" or "all": which simulations of the truth, where it says.
    baseline_fields : sequence of str
        Fields of the truth that are themselves models of the one compared, as baselines: a halo model's, say.
    training : MapSet, optional
        The maps that the model was trained on, for recovery and memorisation
        (:func:`higan.validation.checks.check_models`); the truth itself where it has training simulations and they
        are not among those compared.
    classifier : bool
        Train a classifier to tell the first realisations from true maps (:mod:`higan.validation.classifier`), which
        takes minutes.
    ring_test : bool
        Measure the bias of shear on true and generated stamps of galaxies (:func:`higan.galsim.shear_bias`), by GalSim.
    overwrite : bool

    Returns
    -------
    Comparison

    Raises
    ------
    MapSetError, ParameterError
        If model and truth do not fit.
    OutputError
        If there is a report already, or it cannot be written.

    Examples
    --------
    >>> import higan
    >>> truth = MapSet.open("test.h5")  # doctest: +SKIP
    >>> comparison = validate(higan.load("eor21cm-2d"), truth, "report", realisations=8)  # doctest: +SKIP
    >>> comparison.value("eor21cm-2d", "mean_abs_R_minus_1")  # doctest: +SKIP
    (0.017, 0.003)
    """
    return compare_models(
        {model_name(model): model},
        truth,
        output_dir,
        seed=seed,
        realisations=realisations,
        baselines=baselines,
        mean_emulator=mean_emulator,
        field=field,
        split=split,
        baseline_fields=baseline_fields,
        training=training,
        classifier=classifier,
        ring_test=ring_test,
        overwrite=overwrite,
    )


def compare_models(
    models: Mapping[str, Emulator | MapSet],
    truth: MapSet,
    output_dir: str | os.PathLike[str],
    *,
    seed: int = 1,
    realisations: int = 1,
    baselines: Baselines | str | os.PathLike[str] | None = None,
    mean_emulator: Emulator | None = None,
    field: str | None = None,
    split: str = "test",
    baseline_fields: Sequence[str] = (),
    training: MapSet | None = None,
    classifier: bool = False,
    ring_test: bool = False,
    overwrite: bool = False,
) -> Comparison:
    """Compare several emulators or generated map sets with one truth, and write one report.

    Parameters are those of :func:`validate`, with `models` a mapping of name to model. Maps that a generated set lacks
    are left out for all.

    Examples
    --------
    >>> compare_models({"a": MapSet.open("a.h5"), "b": MapSet.open("b.h5")}, truth, "report")  # doctest: +SKIP
    """
    check_folder(output_dir, overwrite)
    if realisations < 1:
        raise ParameterError(f"realisations must be at least 1, received {realisations}.")
    if classifier and truth.geometry.kind == "healpix":
        raise ParameterError("A classifier judges flat maps, and the truth holds maps of the sky. Leave it out.")
    if classifier and any(isinstance(model, MapSet) for model in models.values()):
        raise ParameterError("A classifier takes a checkpoint's discriminator: give checkpoints, not painted maps.")
    if ring_test and not (truth.geometry.kind == "image" and of_pixels(truth)):
        raise MapSetError(
            f"A ring test is of galaxies in pixels of {PIXEL} arcsec, but {truth.name} holds maps of cells of "
            f"{truth.cell_size:g} {truth.geometry.length_units}. Leave it out."
        )
    if not 0 <= seed < 2**63:
        raise ParameterError(f"seed must be a whole number from 0 to 2^63 - 1, received {seed}.")
    rows = rows_of_split(truth, split)
    field = field or _field_of(next(iter(models.values())), truth)
    truth.field(field)
    input = next((_input_of(model) for model in models.values() if _input_of(model)), None)
    if input is None and "density" in truth.fields and field != "density":
        input = "density"
    entries: dict[str, Model] = {}
    for name, model in models.items():
        if isinstance(model, MapSet):
            entries[name], own = from_map_set(model, truth, field)
            rows = np.intersect1d(rows, own)
        else:
            _check_output_field(model, field)
            entries[name] = from_emulator(model, truth, seed=seed, realisations=realisations)
    if len(rows) == 0:
        raise MapSetError(
            f"None of the {split} maps of {truth.name} has a generated one. Choose other simulations with --split, or "
            "paint the maps of this truth."
        )
    if mean_emulator is not None:
        _check_output_field(mean_emulator, field)
        entries[MEAN_NETWORK] = from_emulator(mean_emulator, truth, seed=seed, baseline=True)
    if training is not None and training.shape != truth.shape:
        raise MapSetError(
            f"{training.name} has maps of {training.shape}, {truth.name} of {truth.shape}: give one kind."
        )
    # Maps that are judged tell nothing of themselves: with split "all" the truth has no training maps beside them.
    if training is None and _trains(truth) and not np.isin(training_rows(truth), rows).any():
        training = truth
    # A realisation is enough for these, and the first is the same however many there are.
    single = {
        name: entries[name] if isinstance(model, MapSet) else from_emulator(model, truth, seed=seed)
        for name, model in models.items()
    }
    for name in baseline_fields:
        truth.check_units(name, truth.field(field).units, field)
        entries[name.replace("_", " ")] = _from_field(truth, name)
    notes = {"simulations": f"{split}, where the truth says which"}
    sky = truth.geometry.kind == "healpix"
    fitted = None if sky else _baselines(baselines, models, truth, input, field)
    if sky:
        notes["baselines"] = "none: they are fitted on flat maps"
    elif fitted is None:
        given = all(isinstance(model, MapSet) for model in models.values())
        brings = "generated maps bring" if given else "the checkpoint brings"
        notes["baselines"] = f"none: {brings} none and the truth has no training simulations; --baselines names some"
    else:
        for name in fitted.names:
            entries[name.replace("_", " ")] = from_baseline(fitted, name, truth, seed=seed)
    comparison = compare(truth, entries, field, rows=rows, input=input, seed=seed)
    # Recovery and memorisation take flat maps.
    checks = {} if sky else check_models(comparison, single, truth, rows, training, seed)
    for name, model in models.items() if classifier or ring_test else ():
        painted = check_maps(single[name].maps(rows), (len(rows), *truth.shape), name, rows)[:, 0]
        if classifier:
            checks[name]["classifier"] = _classified(model, painted, truth, rows, seed)
        if ring_test:
            checks[name]["ring test"] = _sheared(painted, truth.read(field, rows), seed)
    comparison = dataclasses.replace(comparison, checks=checks)
    title = f"{', '.join(models)} beside the truth"
    write_report(
        comparison, output_dir, title=title, notes=notes, overview=len(models) > 1 and not sky, overwrite=overwrite
    )
    return comparison


def _classified(model: Any, painted: np.ndarray, truth: MapSet, rows: np.ndarray, seed: int) -> dict[str, Any]:
    from higan.validation.classifier import classify

    found = classify(model, painted, truth, rows, seed=seed)
    return {
        "accuracy of a classifier": found.accuracy,
        "its 95 % interval": {"from": found.low, "to": found.high},
        "accuracy of a regression on P(k) and moments": found.regression,
        "maps judged": found.maps,
        "epochs": found.epochs,
    }


def _sheared(painted: np.ndarray, true: np.ndarray, seed: int) -> dict[str, Any]:
    from higan.galsim import shear_bias

    found = shear_bias(true, painted, processes=cores(), seed=seed)
    return {
        "m of generated less m of true galaxies": found.difference[0],
        "its error": found.difference[1],
        "m, true": {"m": found.true[0], "error": found.true[1]},
        "m, generated": {"m": found.generated[0], "error": found.generated[1]},
        "galaxies": found.galaxies,
    }


def rows_of_split(truth: MapSet, split: str = "test") -> np.ndarray:
    """Rows of the maps whose simulation is of a split; all rows for "all" and for a set that has no splits.

    Raises
    ------
    MapSetError
        If there are none, or no such split.

    Examples
    --------
    >>> rows_of_split(MapSet.open("maps.h5"), "test")  # doctest: +SKIP
    """
    if split not in (*SPLITS, "all"):
        raise MapSetError(f"There is no split {split!r}: choose one of {', '.join(SPLITS)} or all.")
    labels = truth.extra.get("split")
    if split == "all" or labels is None:
        return np.arange(len(truth))
    rows = np.flatnonzero(labels[truth.simulation] == split)
    if len(rows) == 0:
        found = ", ".join(f"{(labels == name).sum()} {name}" for name in SPLITS)
        raise MapSetError(
            f"{truth.name} has no maps of {split} simulations ({found}). Give such a set, or choose another --split."
        )
    return rows


def model_name(model: Emulator | MapSet) -> str:
    """What tables call a model: its card's name, the checkpoint that made a set, or the set's file."""
    if not isinstance(model, MapSet):
        return model.card.name
    return str(model.attributes.get("checkpoint") or (model.path.stem if model.path else "generated"))


def _field_of(model: Emulator | MapSet, truth: MapSet) -> str:
    if not isinstance(model, MapSet):
        return model.card.outputs[0].field
    common = [name for name in model.fields if name in truth.fields]
    if len(common) != 1:
        raise MapSetError(
            f"{model.name} holds {', '.join(model.fields)} and {truth.name} holds {', '.join(truth.fields)}: "
            + ("they have no field in common." if not common else "say with --field which to compare.")
        )
    return common[0]


def _input_of(model: Emulator | MapSet) -> str | None:
    return None if isinstance(model, MapSet) or not model.card.inputs else model.card.inputs[0].field


def _check_output_field(emulator: Emulator, field: str) -> None:
    if emulator.card.outputs[0].field != field:
        raise MapSetError(
            f"{emulator.card.name} paints {emulator.card.outputs[0].field!r}, not {field!r}. Compare like with like."
        )


def _trains(truth: MapSet) -> bool:
    """Whether a map set says of some of its simulations that they are for training."""
    return "split" in truth.extra and len(training_rows(truth)) > 0


def _from_field(truth: MapSet, name: str) -> Model:
    return Model(lambda rows: truth.read(name, rows), 1, True, {"field": truth.field(name).long_name or name})


def _baselines(
    given: Baselines | str | os.PathLike[str] | None,
    models: Mapping[str, Emulator | MapSet],
    truth: MapSet,
    input: str | None,
    field: str,
) -> Baselines | None:
    if isinstance(given, Baselines):
        return given
    if given is not None:
        return Baselines.load(given)
    for model in models.values():
        path = None if isinstance(model, MapSet) else _beside_checkpoint(model)
        if path is not None:
            fitted = Baselines.load(path)
            if fitted.output == field:
                return fitted
    if input in truth.fields and _trains(truth):
        return Baselines.fit(truth, str(input), field)
    return None


def _beside_checkpoint(emulator: Any) -> Path | None:
    """baselines.h5 in the folder of the checkpoint of that name, if its weights are the emulator's."""
    from higan.checkpoint import find_checkpoint, load_card

    try:
        folder = find_checkpoint(emulator.card.name)
        same = load_card(folder).weights_sha256 == emulator.card.weights_sha256
    except CheckpointError:
        return None
    return folder / BASELINES if same and (folder / BASELINES).is_file() else None
