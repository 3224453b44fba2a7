"""The training: one flat loop from a recipe to a checkpoint, resumable at every tick.

Several processes run it side by side (:mod:`higan.adversarial.workers`); the first alone reads and writes the folder.

The run's folder holds::

    recipe.json        the recipe, whole
    log.jsonl          a line a tick: losses, validation statistics, speed
    figures/           fixed validation maps beside the truth with R(k), one a tick
    state.h5           networks, moments, averages, step: what resuming needs; never shipped
    checkpoint/        the averaged generator with the best validation statistic so far
"""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from higan.adversarial.batches import Batches, prefetch
from higan.adversarial.interruption import alone, sigterm
from higan.adversarial.memory import keep_freed_memory
from higan.adversarial.monitor import Monitor
from higan.adversarial.precision import precision_here
from higan.adversarial.preparation import (
    RECIPE,
    evenly,
    flux_of,
    new_card,
    open_maps,
    radius_of,
    scaled_as,
    select,
    unit_flux,
)
from higan.adversarial.state import (
    KEPT,
    STATE,
    check_finite,
    initial_weights,
    load_state,
    orders,
    save_state,
)
from higan.adversarial.workers import Workers
from higan.checkpoint import save_checkpoint
from higan.cores import cores
from higan.errors import OutputError, RecipeError, StoppedError, TrainingError
from higan.mapset import MapSet
from higan.photometry import acs_kernel
from higan.progress import progress
from higan.recipe import Recipe, validate_recipe
from higan.tracking import JsonLines, TensorBoard, Trackers, Wandb

LOG = "log.jsonl"
CROPPED = "hann"  # window of the spectral loss: a crop is not periodic
SHOWN = 32  # maps of a batch in a message
REFRESH = 2.0  # seconds between looks at the losses for the progress line; each waits for the step to end


def train(
    recipe: Recipe, run: str | os.PathLike[str], *, resume: bool | None = None, maps: MapSet | None = None
) -> Path:
    """Train by a recipe.

    Parameters
    ----------
    recipe : Recipe
    run : path
        The run's folder.
    resume : bool, optional
        Go on from the run's last saved state (True), or begin (False); where not given, go on if there is a training of
        this recipe in the folder. The weights come out as if it had never stopped.
    maps : MapSet, optional
        Train on these instead of the recipe's source.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    TrainingError
        If the run's folder is taken, there is nothing to resume, or a loss is not finite.
    StoppedError
        If the process (or any that trains with it) was sent SIGTERM: the step under way was finished, and the state
        saved. If one that trains with it has gone.
    RecipeError, MapSetError
        If recipe and maps do not fit.
    """
    from higan.adversarial.step import load_backend

    run, workers = Path(run), Workers(load_backend())
    with workers.together(), ExitStack() as held:
        if resume is None:
            resume = (run / RECIPE).exists()
        if workers.first:
            _check(run, recipe, resume)
            if resume:
                held.enter_context(alone(run))
        return _train(recipe, run, resume, maps, workers, held)


def _train(recipe: Recipe, run: Path, resume: bool, maps: MapSet | None, workers: Workers, held: ExitStack) -> Path:
    # The maps, their split by simulation, and scalings fitted on the training simulations alone.
    config = recipe.training
    workers.check_batch(config.batch_size, config.maps_per_simulation, config.accumulate)
    maps, parts = select(workers.after_first(lambda: open_maps(recipe)) if maps is None else maps, recipe)
    rows = maps.rows_of(parts.train)
    card = new_card(recipe, maps, parts)
    initial = None if recipe.training.initial is None else Path(recipe.training.initial)
    if initial is not None:
        card = scaled_as(card, initial)

    # Networks: two to train, one in float32 that carries the averaged weights.
    from higan.adversarial.statistics import Statistics
    from higan.adversarial.step import Step, parted
    from higan.adversarial.step_config import StepConfig
    from higan.networks.discriminator import build_discriminator
    from higan.painting.painter import Painter, assign, build_model, scale_parameters, weights_of

    workers.backend.deterministic()
    if not workers.backend.accelerated():
        keep_freed_memory()
    precision = precision_here(recipe.training.precision, workers.backend)
    beyond = 0 if recipe.training.crop is None else card.network.beyond
    generator = build_model(card, recipe.seed, precision, beyond)
    averaged = Painter(card, build_model(card, recipe.seed))
    window = maps.geometry.window if recipe.training.crop is None else CROPPED
    batches = Batches(
        unit_flux(maps, recipe),
        evenly(maps, rows, recipe),
        [(item.field, s) for item, s in zip(card.inputs, averaged.inputs, strict=True)],
        [(item.field, s) for item, s in zip(card.outputs, averaged.outputs, strict=True)],
        scale_parameters(maps.parameters, averaged.lower, averaged.upper),
        batch_size=recipe.training.batch_size,
        maps_per_simulation=recipe.training.maps_per_simulation,
        seed=recipe.seed,
        symmetries=recipe.data.symmetries,
        network=card.network,
        realisations=recipe.objective.realisations,
        crop=recipe.training.crop,
        context=recipe.training.context,
        beyond=beyond,
        flux=flux_of(maps, recipe) if recipe.observation.noise else None,
        radius=radius_of(maps, recipe),
        share=(workers.rank, workers.count),
    )
    discriminator = None
    if recipe.objective.name != "none":
        discriminator = build_discriminator(
            recipe.discriminator,
            ndim=card.ndim,
            n_inputs=len(card.inputs),
            n_outputs=len(card.outputs),
            n_parameters=len(card.parameters),
            seed=recipe.seed,
            centred=card.network.centred,
            dtype=precision,
        )
    step_config = StepConfig(
        losses=recipe.objective,
        outputs=tuple(averaged.outputs),
        shape=tuple(maps.shape) if recipe.training.crop is None else (recipe.training.crop,) * card.ndim,
        window=window,
        context=recipe.training.context,
        maps_per_simulation=recipe.training.maps_per_simulation,
        kernel=acs_kernel() if recipe.observation.psf == "acs" else None,
        noise=recipe.observation.noise,
        statistics=Statistics.fit(batches, averaged.outputs, window) if recipe.objective.statistics_weight else None,
        beta1=recipe.training.beta1,
        accumulate=recipe.training.accumulate,
        xla=recipe.training.xla,
    )
    step_function = Step(generator, discriminator, step_config)

    # Validation maps, trackers, and the state to start from.
    monitor = Monitor(maps, parts.validation, recipe.validation.maps_per_simulation, averaged, recipe.seed)
    if recipe.validation.select.endswith("_log") and not monitor.logarithmic:
        raise RecipeError(
            f"validation.select is {recipe.validation.select}, but {monitor.output} of {maps.name} does not span "
            "decades (above zero, over three of them). Select another statistic."
        )
    state, order = step_function.initial_state(), orders(generator=generator, discriminator=discriminator)
    first, best, hours = 0, math.inf, 0.0
    if workers.first and resume and (run / STATE).exists():
        state, first, best, hours = load_state(run / STATE, state, order, step_function.backend)
    elif workers.first and initial is not None:
        state = initial_weights(initial, card, generator, state, order, step_function.backend)
    size = recipe.training.batch_size
    last = math.ceil(recipe.training.maps / size)
    tick = max(1, recipe.training.tick_maps // size)
    if workers.first and not resume:
        held.enter_context(alone(run))
        _begin(run, recipe)
    state, first = workers.of_first(state, first)
    steps = held.enter_context(ExitStack())
    stop = workers.agreed(steps.enter_context(sigterm()))
    trackers = _trackers(recipe, run, first * size, resume) if workers.first else Trackers([])
    bar: Any = nullcontext(lambda n, note="": None)
    if workers.first:
        bar = progress(recipe.name, last * size, first * size, job=True)

    # Step by step; at every tick: validate, keep the best, save the state.
    losses: list[dict[str, Any]] = []
    began = ticked = shown = time.monotonic()
    with bar as advance:
        note = error = ""
        for step, batch in enumerate(prefetch(batches, first, last, _threads(workers.backend)), start=first):
            state, values = step_function(
                state, batch, step, _rates(recipe, step), _decay(recipe, step), _pixel_weight(recipe, step)
            )
            losses.append(values)
            if time.monotonic() - shown > REFRESH:
                shown = time.monotonic()
                note = _note(step_function.backend.to_host(values), len(losses) * size / (shown - ticked), error)
            advance(size, note)
            due, stopped = (step + 1) % tick == 0 or step + 1 == last, stop()
            if not due and not stopped:
                continue
            seen = (step + 1) * size
            means = _means(losses, step, step_function.backend, batches)
            if not workers.first:
                losses = []
                if stopped and step + 1 != last:
                    raise _stopped(run, seen)
                continue
            if not due:
                hours_now = hours + (time.monotonic() - began) / 3600
                save_state(run / STATE, state, step + 1, best, hours_now, order, step_function.backend)
                raise _stopped(run, seen)
            speed = len(losses) * size / (time.monotonic() - ticked)
            losses = []
            average = step_function.backend.to_host(state["average"])
            check_finite({"average": average}, step + 1)
            weights = weights_of(generator, parted(average, generator))
            assign(averaged.model, weights)
            result = monitor()
            hours_now = hours + (time.monotonic() - began) / 3600
            trackers.metrics({**means, **result.scalars, "maps_per_s": speed, "hours": hours_now}, seen)
            figure = monitor.figure(result, run / "figures" / f"{seen:09d}.png", f"{recipe.name}, {seen} maps seen")
            trackers.figure("validation", figure, seen)
            value = -seen if recipe.validation.select == "last" else result.scalars[recipe.validation.select]
            if value < best:
                best = value
                kept = card.model_copy(
                    update={
                        "metrics": {"validation": {**result.scalars, "maps_seen": seen}},
                        "training": {**card.training, "maps_seen": seen, "hours": hours_now},
                    }
                )
                save_checkpoint(run / "checkpoint", kept, weights, overwrite=True)
            save_state(run / STATE, state, step + 1, best, hours_now, order, step_function.backend)
            error = f"|R-1| {result.scalars['mean_abs_R_minus_1']:.3f}"
            if stopped and step + 1 != last:
                raise _stopped(run, seen)
            note = _note(means, speed, error)
            advance(0, note)
            ticked = time.monotonic()
    steps.close()  # from here on SIGTERM ends it at once: what is left to do is done when it is started again
    if workers.first:
        _finish(run, recipe, maps, rows, monitor, trackers)
    workers.wait()
    return run / "checkpoint"


def _threads(backend: Any) -> int:
    """How many make batches: one where training has the cores, several beside an accelerator, faster than one is."""
    return max(1, min(8, cores() - 1)) if backend.accelerated() else 1


def _check(run: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse a run's folder that is taken, or that this recipe cannot resume."""
    if resume:
        try:
            # Through the models, so that what a newer version added has its default.
            before = _what_is_trained(validate_recipe(json.loads((run / RECIPE).read_text())))
        except (OSError, ValueError, RecipeError) as error:
            raise TrainingError(
                f"{run} holds no training to resume ({error}). Choose another --output, or begin without --resume."
            ) from error
        now = _what_is_trained(recipe)
        changed = [key for key in now if now[key] != before.get(key)]
        if changed:
            raise TrainingError(
                f"{run} was trained by another recipe: [{'], ['.join(changed)}] differ. Resume with {run / RECIPE}'s "
                "values, or train into another folder."
            )
    elif (run / RECIPE).exists():
        raise TrainingError(f"{run} holds a training already. Resume it, or choose another folder.")


def _what_is_trained(recipe: Recipe) -> dict[str, Any]:
    """The recipe without what does not change the training: a machine with less memory may go on with it."""
    return recipe.model_dump(
        mode="json", exclude={"tracking": True, "training": {"accumulate", "xla", "quantile_maps"}}
    )


def _begin(run: Path, recipe: Recipe) -> None:
    """Make the run's folder, once nothing about recipe and maps is left to refuse."""
    try:
        (run / "figures").mkdir(parents=True, exist_ok=True)
        (run / RECIPE).write_text(json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{run} cannot be written ({error}). Choose another --output.") from error


def _rates(recipe: Recipe, step: int) -> tuple[float, float]:
    config = recipe.training
    seen = step * config.batch_size
    factor = min(1.0, (seen + config.batch_size) / config.warmup_maps) if config.warmup_maps else 1.0
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * seen / config.maps))
    return config.learning_rate * factor, (config.discriminator_learning_rate or config.learning_rate) * factor


def _pixel_weight(recipe: Recipe, step: int) -> float:
    """From the first to the final weight, by half a cosine over the training."""
    first, final = recipe.objective.pixel_weight, recipe.objective.pixel_weight_final
    if final is None:
        return first
    done = step * recipe.training.batch_size / recipe.training.maps
    return final + (first - final) * 0.5 * (1 + math.cos(math.pi * done))


def _decay(recipe: Recipe, step: int) -> float:
    """Of the moving average; while few maps were seen its half-life is a twentieth of them."""
    size = recipe.training.batch_size
    return 0.5 ** (size / min(recipe.training.average_half_life, size + 0.05 * step * size))


def _note(losses: dict[str, Any], speed: float, error: str) -> str:
    """Speed, losses of both networks and the last validation, for the progress line."""
    names = {"pixel": "pixel", "generator": "G", "discriminator": "D"}
    parts = [f"{label} {float(losses[name]):.3f}" for name, label in names.items() if name in losses]
    return "  ".join([f"{speed:{'.0f' if speed >= 10 else '.2g'}} maps/s", *parts, error]).rstrip()


def _means(losses: list[dict[str, Any]], step: int, backend: Any, batches: Batches) -> dict[str, float]:
    """Means of the losses of the steps up to `step`; TrainingError that names the first that is not finite."""
    gathered: dict[str, list[float]] = {}
    for before, values in zip(reversed(range(len(losses))), losses, strict=True):
        found = {name: float(value) for name, value in backend.to_host(values).items()}
        for name, value in found.items():
            if not math.isfinite(value):
                at = step - before
                raise TrainingError(
                    f"the loss {name!r} became {value} at step {at} (counted from 0), on {_shown(batches, at)}. {KEPT}"
                )
            gathered.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in gathered.items()}


def _shown(batches: Batches, step: int) -> str:
    """The maps in the batch of a step, and their simulations, those of many shortened."""
    rows = batches.rows_of(step)
    lists = [list(map(str, numbers)) for numbers in (rows, dict.fromkeys(batches.maps.simulation[rows].tolist()))]
    maps, simulations = (", ".join(words[:SHOWN]) + (", …" if len(words) > SHOWN else "") for words in lists)
    return f"maps {maps} of simulations {simulations}"


def _stopped(run: Path, seen: int) -> StoppedError:
    return StoppedError(f"stopped by SIGTERM after {seen} maps; {run} goes on there when it is started again.")


def _trackers(recipe: Recipe, run: Path, maps: int, resume: bool) -> Trackers:
    config = recipe.tracking
    makers: list[tuple[str, Any]] = [("the log", lambda: JsonLines(run / LOG, maps))]
    if config.wandb != "off":
        values = recipe.model_dump(mode="json")
        makers.append(("wandb", lambda: Wandb(run, recipe.name, config.project, config.wandb, values, resume)))
    if config.tensorboard:
        makers.append(("TensorBoard", lambda: TensorBoard(run)))
    return Trackers(makers)


def _finish(run: Path, recipe: Recipe, maps: MapSet, rows: np.ndarray, monitor: Monitor, trackers: Trackers) -> None:
    """Map quantiles where the recipe says so, put baselines fitted on the same maps beside the generator, and hand
    recipe and card to the trackers."""
    from higan.adversarial.quantiles import map_quantiles
    from higan.validation.baselines import Baselines

    checkpoint = run / "checkpoint"
    if not checkpoint.exists():
        raise TrainingError(f"{run}: no validation statistic was finite, so no checkpoint was kept.")
    if recipe.training.quantile_maps:
        map_quantiles(checkpoint, recipe, maps, rows, monitor)
    if recipe.data.inputs:
        source, target = recipe.data.inputs[0], recipe.data.outputs[0]
        bound = recipe.scaling.get(target)
        baselines = Baselines.fit(maps, source, target, rows, floor=None if bound is None else bound.lower)
        baselines.save(checkpoint / "baselines.h5", overwrite=True)
    for path in (run / RECIPE, checkpoint / "card.json"):
        trackers.report(path)
    trackers.close()
