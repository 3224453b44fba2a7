"""All losses of generated maps but the adversary's: cells, spectra, modes, octaves, one-point distributions, shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from higan.adversarial.adam import State
from higan.adversarial.half_light import half_light_error
from higan.adversarial.objectives import crps
from higan.adversarial.octaves import block_extremes, block_means, octave_crps
from higan.adversarial.one_point import one_point_crps, peaks_and_holes, tail_crps
from higan.adversarial.shapes import shape_score
from higan.adversarial.spectrum import (
    EMPTY,
    bright_cells,
    mean_power,
    mode_score,
    over_octaves,
    quotient,
    spectral_crps,
    spectral_loss,
    spread_loss,
    surplus,
)
from higan.adversarial.step_config import StepConfig
from higan.networks.layers import by_channel, forward, restore, split
from higan.scaling import Scaling

LATE = 8  # one in so many of the generated maps so far, the last, make up their mean power


class MapLosses:
    """The sum of these losses, each by its weight.

    Parameters
    ----------
    config : StepConfig
    mean : callable
        Of a value over the parts of a batch that several devices have.
    """

    def __init__(self, config: StepConfig, mean: Callable[[Any], Any]):
        self.config, self.mean = config, mean

    def __call__(
        self, state: State, raw: Any, batch: Mapping[str, Any], pixel_weight: Any, count: Any
    ) -> tuple[Any, Any]:
        """The sum of all losses of generated maps but the adversary's; each of them, and what is kept in the state."""
        config, losses, mean = self.config, self.config.losses, self.mean
        fake, maps = bounded(raw, config.outputs), batch["maps"]
        generated, true = (by_channel(restore, config.outputs, x) for x in (fake, maps))
        blocks = {
            side: tuple(by_channel(forward, config.outputs, block_means(x, side)) for x in (generated, true))
            for side in sorted({*losses.pixel_scales, *losses.one_point_scales} - {1})
        }
        parts = {
            "pixel": self._pixel({**blocks, 1: (raw, by_channel(self._target, config.outputs, maps))}),
            "drift": _drift(raw, fake, max(1.0, losses.margin)),
        }
        total = pixel_weight * parts["pixel"] + parts["drift"]
        pairs = {"physical": (generated, true), "scaled": (fake, maps)}
        chosen = [pairs[name] for name in losses.spectral_fields]
        if losses.spectral_weight:
            parts["spectral"] = sum(self._spectral(*pair) for pair in chosen) / len(chosen)
            total = total + losses.spectral_weight * parts["spectral"]
        if losses.mode_weight:
            scores = [mode_score(*_halves(x), real, config.window, mean, losses.modes_by_octave) for x, real in chosen]
            parts["modes"] = sum(scores) / len(scores)
            total = total + losses.mode_weight * parts["modes"]
        if losses.spread_weight:
            spreads = [
                spread_loss(*_halves(x), real, config.window, mean, losses.modes_by_octave) for x, real in chosen
            ]
            parts["spread"], loss = (sum(x) / len(chosen) for x in zip(*spreads, strict=True))
            total = total + losses.spread_weight * loss
        if losses.octave_weight:
            parts["octaves"] = octave_crps(*_halves(fake), maps, mean)
            total = total + losses.octave_weight * parts["octaves"]
        scales = [{**blocks, 1: (fake, maps)}[side] for side in losses.one_point_scales]
        for lag in losses.one_point_lags:
            scales.extend(zip(*(peaks_and_holes(x, lag) for x in (fake, maps)), strict=True))
        for name, weight, score in (
            ("one_point", losses.one_point_weight, one_point_crps),
            ("tails", losses.tail_weight, tail_crps),
        ):
            if weight:
                parts[name] = sum(score(*_halves(x), real) for x, real in scales) / len(scales)
                total = total + weight * parts[name]
        if losses.half_light_weight:
            parts["half_light"] = half_light_error(generated, repeat(batch["radius"], config.losses.realisations))
            total = total + losses.half_light_weight * parts["half_light"]
        if losses.shape_weight:
            parts["shapes"] = shape_score(*_halves(generated), true, batch["radius"])
            total = total + losses.shape_weight * parts["shapes"]
        if losses.statistics_weight:
            assert config.statistics is not None
            parts["statistics"] = config.statistics.score(*_halves(fake), maps, batch.get("radius"))
            total = total + losses.statistics_weight * parts["statistics"]
        kept = {}
        if losses.mean_power_weight:
            kept["mean_power"], parts["surplus"], loss = self._mean_power(state, chosen, count)
            total = total + losses.mean_power_weight * loss
        return total, (parts, kept)

    def _pixel(self, blocks: Mapping[int, tuple[Any, ...]]) -> Any:
        """Of generated maps and what they aim at, scaled: means of blocks by their side, cells being of side 1.

        Extremes are those of cells as these are compared: with their margin.
        """
        losses, terms = self.config.losses, []
        compared = [blocks[side] for side in losses.pixel_scales]
        for side in losses.extreme_scales:
            compared.extend(zip(*(block_extremes(x, side) for x in blocks[1]), strict=True))
        for fake, target in compared:
            if losses.pixel == "crps":
                terms.append(ops.mean(crps(*_halves(fake), target)))
            else:
                terms.append(ops.mean(ops.abs(fake - target) if losses.pixel == "l1" else ops.square(fake - target)))
        return sum(terms) / len(terms)

    def _spectral(self, generated: Any, true: Any) -> Any:
        config, losses = self.config, self.config.losses
        options: Any = (config.window, config.maps_per_simulation, losses.spectral_by_axis, self.mean)
        if losses.spectral == "crps":
            options = (*options, losses.spectral_floor, losses.spectral_slope_weight)
            return spectral_crps(*_halves(generated), true, *options)
        true = repeat(true, config.losses.realisations)
        return spectral_loss(generated, true, *options)

    def _mean_power(self, state: State, pairs: Sequence[tuple[Any, Any]], count: Any) -> tuple[Any, Any, Any]:
        """The running means of generated and true power, how far they are apart, and the loss that mends it."""
        config, losses = self.config, self.config.losses
        now = []
        for name, (generated, true) in zip(losses.spectral_fields, pairs, strict=True):
            unit = bright_cells(config.outputs) if name == "physical" else np.float32(1.0)
            now.append([mean_power(maps / unit, config.window) for maps in (generated, true)])
        generated, true = (ops.stack(powers) for powers in zip(*now, strict=True))
        seen = self.mean((ops.stop_gradient(generated), true))
        # The truth stays what it is, and all of it seen so far counts; the generator changes, and its mean is of late.
        means = split(state["mean_power"], (1, 1), axis=0)
        kept = [
            mean[0] + (power - mean[0]) * ops.minimum(pace / count, 1.0)
            for mean, power, pace in zip(means, seen, (LATE, 1.0), strict=True)
        ]
        excess = surplus(*kept)
        # The gradient is that of the logarithm of the batch's power: one with a very bright map pulls no harder than
        # others. What is wrong is told by the means; whichever way each batch is moved, they end where they should.
        loss = excess * quotient(generated, seen[0] + EMPTY * kept[1])
        # The mean of the field (k = 0) weighs as much as all other scales together.
        others = ops.moveaxis(loss[:, 1:], 1, 0)
        others = over_octaves(others)[0] if losses.modes_by_octave else ops.mean(others)
        return ops.stack(kept), ops.mean(ops.abs(excess)), ops.mean(loss[:, 0]) + others

    def _target(self, scaling: Scaling, maps: Any) -> Any:
        """What the pixel loss aims at: true maps, whose cells on a physical bound lie `margin` beyond it."""
        margin = self.config.losses.margin
        if not margin:
            return maps
        low, high = (float(scaling.bound(bound)) for bound in (-np.inf, np.inf))
        below, above = (ops.cast(on, maps.dtype) for on in (maps <= low + 1e-5, maps >= high - 1e-5))
        return maps + margin * (above - below)


def bounded(raw: Any, outputs: Sequence[Scaling]) -> Any:
    """Generated maps within the physical bounds.

    The gradient passes what lies beyond: a cell wrongly emptied can be filled again.
    """
    within = by_channel(lambda scaling, y: scaling.bound(y, ops), outputs, raw)
    return raw + ops.stop_gradient(within - raw)


def _drift(raw: Any, bound: Any, most: float) -> Any:
    """Mean square of how much farther than `most` generated maps lie beyond their bounds.

    Out there the pixel loss alone sees them, and the gradients that pass push on and on.
    """
    return ops.mean(ops.square(ops.maximum(ops.abs(raw - ops.stop_gradient(bound)) - most, 0.0)))


def repeat(maps: Any, times: int) -> Any:
    """A batch so many times over."""
    return maps if times == 1 else ops.concatenate([maps] * times, axis=0)


def _halves(maps: Any) -> tuple[Any, Any]:
    """Two realisations that follow one upon the other along the batch."""
    half = maps.shape[0] // 2
    return maps[:half], maps[half:]
