"""One training step, written once in keras.ops as a function of (state, batch): losses, gradients, Adam, averages.

The backend's file gives the gradients and compiles the step. The state is a flat dictionary of lists of arrays, so
that saving, resuming and comparing backends need nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from higan.adversarial.half_light import half_light_error
from higan.adversarial.objectives import Loss, Objective, crps, unit_norm_penalty, zero_centred_penalty
from higan.adversarial.octaves import block_means, octave_crps
from higan.adversarial.one_point import one_point_crps
from higan.adversarial.parts import each, in_parts, of_parts
from higan.adversarial.spectrum import mean_power, mode_score, quotient, spectral_crps, spectral_loss, surplus
from higan.scaling import Linear, Scaling
from higan.validation.power_spectrum import bin_weights

State = dict[str, list[Any]]
BETA2, EPSILON = 0.99, 1e-8
LATE = 8  # one in so many of the generated maps so far, the last, make up their mean power


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step minimises.

    Attributes
    ----------
    objective : Objective, optional
        ``None`` trains without an adversary.
    pixel : {"l1", "l2", "crps"}
        What is taken of the difference between generated and true maps in scaled space; "crps" generates two
        realisations of each map, which are to differ as much as they miss the truth
        (:func:`higan.adversarial.objectives.crps`).
    pixel_weight : float
    pixel_scales : tuple of int
        Sides of the blocks of cells whose means, of physical values, the pixel loss compares in scaled space.
    margin : float
        Cells on a physical bound are aimed at so far beyond it, in scaled space, by the pixel loss.
    spectral_weight : float
    spectral : {"ratio", "crps"}
        :func:`higan.adversarial.spectrum.spectral_loss` or :func:`higan.adversarial.spectrum.spectral_crps`.
    spectral_fields : tuple of {"physical", "scaled"}
        What it is taken of.
    spectral_by_axis : bool
        Whether it is taken of the power along each axis for itself.
    mean_power_weight : float
        Of a loss on R(k) of running means of generated and true power (:func:`higan.adversarial.spectrum.surplus`), of
        the same fields: of all true maps seen and of about the last eighth of the generated ones.
    mode_weight : float
        Of the energy score of Fourier modes (:func:`higan.adversarial.spectrum.mode_score`), of the same fields; with
        "crps".
    octave_weight : float
        Of the score of octaves of scale (:func:`higan.adversarial.octaves.octave_crps`); with "crps".
    one_point_weight : float
        Of the score of one-point distributions (:func:`higan.adversarial.one_point.one_point_crps`); with "crps".
    half_light_weight : float
        Of the error of half-light radii (:func:`higan.adversarial.half_light.half_light_error`).
    shape : tuple of int
        Of the maps, for these means.
    kernel : array, optional
        What maps are convolved with, in physical units, before the discriminator sees them; of odd sides.
    noise : float
        Standard deviation of the noise that is added to them then, in the output's unit.
    window : str, optional
        Of the spectral loss, for maps that are not periodic.
    context : int
        Cells on every side that fields and noise have beyond the maps: painted, and cut off before any loss.
    maps_per_simulation : int
        Maps of each simulation in a batch, which are neighbours: the groups of the spectral loss.
    r1, r2 : float
        γ of the zero-centred penalties on true and generated maps (γ/2 multiplies the penalty).
    interpolated : float
        λ of WGAN-GP's penalty, for the objective that asks for it.
    penalty_every : int
        The penalties are taken every so many steps, with as many times their weight (Karras et al. 2020, 1912.04958,
        sec. 3.1).
    beta1 : float
        Of Adam.
    accumulate : int
        Parts of a batch that the networks see one after another, so that less memory is needed.
    xla : bool
        Compile with XLA where the backend does not anyway.
    outputs : tuple of Scaling
        Of each output channel.
    """

    objective: Objective | None
    pixel: str = "l1"
    pixel_weight: float = 0.0
    pixel_scales: tuple[int, ...] = (1,)
    margin: float = 0.0
    spectral_weight: float = 0.0
    spectral: str = "ratio"
    spectral_fields: tuple[str, ...] = ("physical",)
    spectral_by_axis: bool = False
    mean_power_weight: float = 0.0
    mode_weight: float = 0.0
    octave_weight: float = 0.0
    one_point_weight: float = 0.0
    half_light_weight: float = 0.0
    shape: tuple[int, ...] = ()
    kernel: np.ndarray | None = None
    noise: float = 0.0
    window: str | None = None
    context: int = 0
    maps_per_simulation: int = 1
    r1: float = 0.0
    r2: float = 0.0
    interpolated: float = 0.0
    penalty_every: int = 1
    beta1: float = 0.5
    accumulate: int = 1
    xla: bool = False
    outputs: tuple[Scaling, ...] = (Linear(),)

    @property
    def realisations(self) -> int:
        """Generated of each map."""
        return 2 if self.pixel == "crps" else 1


def load_backend() -> Any:
    """The module of the active Keras backend's own ways.

    Raises
    ------
    TrainingError
        If the backend cannot train.
    """
    from higan.errors import TrainingError

    name = keras.backend.backend()
    if name not in ("tensorflow", "jax"):
        raise TrainingError(
            f"Training runs on TensorFlow or JAX, but KERAS_BACKEND is {name!r}, which only paints. "
            "Set it to one of them."
        )
    return importlib.import_module(f"higan.adversarial.backend_{name}")


class Step:
    """The compiled training step of a pair of networks.

    Parameters
    ----------
    generator : keras.Model
    discriminator : keras.Model, optional
        Needed with an objective.
    config : StepConfig

    Notes
    -----
    Both networks are updated from the same forward pass, against each other's weights of the step before
    (simultaneous gradient descent): the generator's forward pass is not paid for twice.

    Where a batch is shared by several devices, each takes the gradients of its part, and their means update the same
    state on all. Losses that are no mean over maps take what they are measured by from the whole batch (`mean` of
    :func:`higan.adversarial.spectrum.spectral_loss`). Where the networks see a part of a batch at a time, all maps are
    generated first, without gradients; the losses of the maps are taken of all of them; then every part is generated
    anew, and these losses' slopes are pulled back through the generator (Gao et al. 2021, 2101.06983, sec. 3.2). So
    neither changes what is trained.
    """

    def __init__(self, generator: keras.Model, discriminator: keras.Model | None, config: StepConfig):
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.backend = load_backend()
        # Two graphs, with and without the penalties' second derivatives: a branch inside one would cost both.
        self._compiled: dict[bool, Callable[..., Any]] = {
            penalised: self.backend.compile_step(self._update(penalised), config.xla) for penalised in (False, True)
        }

    def initial_state(self) -> State:
        """Initial weights, moments and averages, on the device."""
        weights = {"generator": [np.asarray(ops.convert_to_numpy(w)) for w in self.generator.trainable_variables]}
        if self.discriminator is not None:
            variables = self.discriminator.trainable_variables
            weights["discriminator"] = [np.asarray(ops.convert_to_numpy(w)) for w in variables]
        state = {"average": [w.copy() for w in weights["generator"]]}
        for name, arrays in weights.items():
            state[name] = arrays
            state[f"{name}_m"] = [np.zeros_like(w) for w in arrays]
            state[f"{name}_v"] = [np.zeros_like(w) for w in arrays]
        if self.config.mean_power_weight:
            bins = 1 + bin_weights(self.config.shape).shape[0]
            shape = (len(self.config.spectral_fields), bins, len(self.config.outputs))
            state["mean_power"] = [np.zeros(shape, np.float32) for _ in ("generated", "true")]
        return self.backend.to_device(state)

    def __call__(
        self,
        state: State,
        batch: Mapping[str, Any],
        step: int,
        learning_rates: tuple[float, float],
        decay: float,
        pixel_weight: float | None = None,
    ) -> tuple[State, dict[str, Any]]:
        """Train on one batch.

        Parameters
        ----------
        state : State
            Must not be used afterwards (its memory may be).
        batch : mapping
            maps (batch, *shape, c), fields, parameters and noise (a list), all scaled float32 numpy arrays: this
            process' part of the batch. Noise of several realisations follows upon that of the first, along the batch.
            Where maps are observed, sky (2 batch, *shape, c), standard normal, for true and then for generated maps,
            and flux (batch,), what the maps were divided by. With `half_light_weight`, radius (batch,), in cells.
        step : int
            Number of the step, from 0.
        learning_rates : (float, float)
            Of the generator and the discriminator.
        decay : float
            Of the exponential moving average of the generator's weights.
        pixel_weight : float, optional
            Of this step; that of the configuration where not given.

        Returns
        -------
        state : State
        losses : dict of scalar tensors
        """
        every = self.config.penalty_every
        penalised = self.discriminator is not None and step % every == 0
        weight = self.config.pixel_weight if pixel_weight is None else pixel_weight
        scalars = np.array([*learning_rates, decay, step + 1.0, weight], dtype=np.float32)
        return self._compiled[penalised](state, self.backend.spread(batch), self.backend.to_device(scalars))

    def _update(self, penalised: bool) -> Callable[[State, Mapping[str, Any], Any], tuple[State, dict[str, Any]]]:
        config = self.config

        def update(state: State, batch: Mapping[str, Any], scalars: Any) -> tuple[State, dict[str, Any]]:
            gradients: dict[str, Any] = {}
            gradients["generator"], raw, losses, kept = self._generator_gradients(state, batch, scalars)
            if config.objective is not None:
                gradients["discriminator"], parts = self._discriminator_gradients(state, raw, batch, penalised)
                losses.update(parts)
            gradients, losses = self.backend.mean_of_replicas((gradients, losses))
            new = {**state, **kept}
            for name, rate in zip(gradients, (scalars[0], scalars[1]), strict=False):
                new.update(adam(state, name, gradients[name], rate, config.beta1, scalars[3]))
            new["average"] = [
                scalars[2] * a + (1.0 - scalars[2]) * w for a, w in zip(state["average"], new["generator"], strict=True)
            ]
            return new, losses

        return update

    def _generator_gradients(
        self, state: State, batch: Mapping[str, Any], scalars: Any
    ) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
        """Gradients of the generator's weights; its output; losses; what is kept in the state."""
        config, value_and_grad = self.config, self.backend.value_and_grad
        if config.accumulate == 1:

            def loss(weights: Sequence[Any]) -> tuple[Any, Any]:
                raw = self._generate(weights, batch)
                total, (parts, kept) = self._map_losses(state, raw, batch, scalars)
                if config.objective is not None:
                    parts["generator"] = self._fooling(state, raw, batch)
                    total = total + parts["generator"]
                return total, (raw, parts, kept)

            (_, (raw, parts, kept)), gradients = value_and_grad(loss)(state["generator"])
            return gradients, raw, parts, kept

        weights = state["generator"]
        raw = self._by_part(lambda part: self._generate(weights, part), batch)
        raw = of_parts(raw, config.realisations, ops)
        (_, (parts, kept)), (slope,) = value_and_grad(lambda maps: self._map_losses(state, maps[0], batch, scalars))(
            [raw]
        )

        def pulled(part: Mapping[str, Any]) -> Any:
            def loss(weights: Sequence[Any]) -> tuple[Any, Any]:
                raw = self._generate(weights, part)
                total, found = config.accumulate * ops.sum(part["slope"] * raw), {}
                if config.objective is not None:
                    found["generator"] = self._fooling(state, raw, part)
                    total = total + found["generator"]
                return total, found

            (_, found), gradients = value_and_grad(loss)(weights)
            return gradients, found

        gradients, found = self._mean_by_part(pulled, {**batch, "slope": slope})
        return gradients, raw, {**parts, **found}, kept

    def _discriminator_gradients(
        self, state: State, raw: Any, batch: Mapping[str, Any], penalised: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Gradients of the discriminator's weights, and its losses."""
        config = self.config

        def function(part: Mapping[str, Any]) -> Any:
            real, fake = self._seen(part["raw"], part)

            def loss(weights: Sequence[Any]) -> tuple[Any, Any]:
                logits = self._discriminate(weights, real, fake, part)
                assert config.objective is not None
                value = _over_scales(config.objective.discriminator, logits)
                if not penalised:
                    return value, {"discriminator": value}
                penalty, parts = self._penalties(weights, real, fake, part)
                return value + config.penalty_every * penalty, {"discriminator": value, **parts}

            (_, parts), gradients = self.backend.value_and_grad(loss)(state["discriminator"])
            return gradients, parts

        return self._mean_by_part(function, {**batch, "raw": ops.stop_gradient(raw)})

    def _by_part(self, function: Callable[[Any], Any], batch: Mapping[str, Any]) -> Any:
        """`function` of each part of a batch, stacked."""
        n, count = batch["maps"].shape[0], self.config.accumulate
        return self.backend.one_by_one(function, each(lambda x: in_parts(x, n, count, ops), batch))

    def _mean_by_part(self, function: Callable[[Any], Any], batch: Mapping[str, Any]) -> Any:
        if self.config.accumulate == 1:
            return function(batch)
        return keras.tree.map_structure(lambda x: ops.mean(x, axis=0), self._by_part(function, batch))

    def _map_losses(self, state: State, raw: Any, batch: Mapping[str, Any], scalars: Any) -> tuple[Any, Any]:
        """The sum of all losses of generated maps but the adversary's; each of them, and what is kept in the state."""
        config, mean = self.config, self.backend.mean_of_replicas
        fake, maps = self._bounded(raw), batch["maps"]
        generated, true = (_by_channel(_restore, config.outputs, x) for x in (fake, maps))
        parts = {"pixel": self._pixel(raw, generated, maps, true)}
        total = scalars[4] * parts["pixel"]
        pairs = {"physical": (generated, true), "scaled": (fake, maps)}
        chosen = [pairs[name] for name in config.spectral_fields]
        if config.spectral_weight:
            parts["spectral"] = sum(self._spectral(*pair) for pair in chosen) / len(chosen)
            total = total + config.spectral_weight * parts["spectral"]
        if config.mode_weight:
            scores = [mode_score(*_halves(x), real, config.window, mean) for x, real in chosen]
            parts["modes"] = sum(scores) / len(scores)
            total = total + config.mode_weight * parts["modes"]
        if config.octave_weight:
            parts["octaves"] = octave_crps(*_halves(fake), maps, mean)
            total = total + config.octave_weight * parts["octaves"]
        if config.one_point_weight:
            parts["one_point"] = one_point_crps(*_halves(fake), maps)
            total = total + config.one_point_weight * parts["one_point"]
        if config.half_light_weight:
            parts["half_light"] = half_light_error(generated, _repeat(batch["radius"], config.realisations))
            total = total + config.half_light_weight * parts["half_light"]
        kept = {}
        if config.mean_power_weight:
            kept["mean_power"], parts["surplus"], loss = self._mean_power(state, chosen, scalars[3])
            total = total + config.mean_power_weight * loss
        return total, (parts, kept)

    def _bounded(self, raw: Any) -> Any:
        """Generated maps within the physical bounds.

        The gradient passes what lies beyond: a cell wrongly emptied can be filled again. The pixel loss keeps the raw
        output from drifting.
        """
        bounded = _by_channel(lambda scaling, y: scaling.bound(y, ops), self.config.outputs, raw)
        return raw + ops.stop_gradient(bounded - raw)

    def _seen(self, raw: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """True and generated maps, of the first realisation, as the discriminator sees them."""
        return self._observed(batch["maps"], self._bounded(raw)[: batch["maps"].shape[0]], batch)

    def _fooling(self, state: State, raw: Any, batch: Mapping[str, Any]) -> Any:
        """The generator's side of the adversarial objective."""
        assert self.config.objective is not None
        logits = self._discriminate(state["discriminator"], *self._seen(raw, batch), batch)
        return _over_scales(self.config.objective.generator, logits)

    def _pixel(self, raw: Any, generated: Any, maps: Any, true: Any) -> Any:
        """Of generated and true maps, in scaled space (`raw`, `maps`) and physical ones (`generated`, `true`)."""
        config, losses = self.config, []
        for side in config.pixel_scales:
            if side == 1:
                fake, target = raw, _by_channel(self._target, config.outputs, maps)
            else:
                fake, target = (_by_channel(_forward, config.outputs, block_means(x, side)) for x in (generated, true))
            if config.pixel == "crps":
                losses.append(ops.mean(crps(*_halves(fake), target)))
            else:
                losses.append(ops.mean(ops.abs(fake - target) if config.pixel == "l1" else ops.square(fake - target)))
        return sum(losses) / len(losses)

    def _spectral(self, generated: Any, true: Any) -> Any:
        config = self.config
        mean = self.backend.mean_of_replicas
        options: Any = (config.window, config.maps_per_simulation, config.spectral_by_axis, mean)
        if config.spectral == "crps":
            return spectral_crps(*_halves(generated), true, *options)
        true = _repeat(true, config.realisations)
        return spectral_loss(generated, true, *options)

    def _mean_power(self, state: State, pairs: Sequence[tuple[Any, Any]], count: Any) -> tuple[list[Any], Any, Any]:
        """The running means of generated and true power, how far they are apart, and the loss that mends it."""
        config = self.config
        # In units of a bright cell, three standard deviations up, so that squares stay within single precision.
        units = {"physical": [abs(float(scaling.restore(3.0))) for scaling in config.outputs]}
        now = []
        for name, (generated, true) in zip(config.spectral_fields, pairs, strict=True):
            unit = np.array(units.get(name, [1.0] * len(config.outputs)), np.float32)
            now.append([mean_power(maps / unit, config.window) for maps in (generated, true)])
        generated, true = (ops.stack(powers) for powers in zip(*now, strict=True))
        seen = self.backend.mean_of_replicas((ops.stop_gradient(generated), true))
        # The truth stays what it is, and all of it seen so far counts; the generator changes, and its mean is of late.
        kept = [
            mean + (power - mean) * ops.minimum(pace / count, 1.0)
            for mean, power, pace in zip(state["mean_power"], seen, (LATE, 1.0), strict=True)
        ]
        excess = surplus(*kept)
        loss = excess * quotient(generated, kept[1])
        # The mean of the field (k = 0) weighs as much as all other scales together.
        return kept, ops.mean(ops.abs(excess)), ops.mean(loss[:, 0]) + ops.mean(loss[:, 1:])

    def _target(self, scaling: Scaling, maps: Any) -> Any:
        """What the pixel loss aims at: true maps, whose cells on a physical bound lie `margin` beyond it."""
        margin = self.config.margin
        if not margin:
            return maps
        low, high = (float(scaling.bound(bound)) for bound in (-np.inf, np.inf))
        below, above = (ops.cast(on, maps.dtype) for on in (maps <= low + 1e-5, maps >= high - 1e-5))
        return maps + margin * (above - below)

    def _generate(self, weights: Sequence[Any], batch: Mapping[str, Any]) -> Any:
        condition = [_repeat(c, self.config.realisations) for c in _condition(batch)]
        inputs = condition + list(batch.get("noise", []))
        return self._inner(self.generator.stateless_call(list(weights), [], inputs)[0])

    def _observed(self, real: Any, fake: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """True and generated maps, scaled, through the telescope and with its noise, where they are observed."""
        config, n = self.config, real.shape[0]
        if config.kernel is None and not config.noise:
            return real, fake
        maps = _by_channel(_restore, config.outputs, ops.concatenate([real, fake]))
        if config.kernel is not None:
            maps = _convolved(maps, config.kernel)
        if config.noise:
            flux = ops.reshape(batch["flux"], (n, *(1,) * (len(maps.shape) - 1)))
            maps = maps + config.noise * batch["sky"] / ops.concatenate([flux, flux])
        maps = _by_channel(_forward, config.outputs, maps)
        return maps[:n], maps[n:]

    def _inner(self, maps: Any) -> Any:
        """`maps` without the context around them."""
        around = self.config.context
        inner = (slice(around, -around),) * (len(maps.shape) - 2) if around else ()
        return maps[(slice(None), *inner)]

    def _shown(self, batch: Mapping[str, Any]) -> list[Any]:
        """The condition as the discriminator sees it."""
        shown = {**batch, "fields": self._inner(batch["fields"])} if "fields" in batch else batch
        return _condition(shown)

    def _logits(self, weights: Sequence[Any], maps: Any, condition: Sequence[Any]) -> list[Any]:
        assert self.discriminator is not None
        logits = self.discriminator.stateless_call(list(weights), [], [maps, *condition])[0]
        # Keras gives the only scale of a discriminator as a tensor, not as a list.
        return logits if isinstance(logits, list) else [logits]

    def _discriminate(
        self, weights: Sequence[Any], real: Any, fake: Any, batch: Mapping[str, Any]
    ) -> list[tuple[Any, Any]]:
        """Logits of true and generated maps at each scale, in one pass over both."""
        condition = [ops.concatenate([c, c], axis=0) for c in self._shown(batch)]
        logits = self._logits(weights, ops.concatenate([real, fake], axis=0), condition)
        n = real.shape[0]
        return [(scale[:n], scale[n:]) for scale in logits]

    def _penalties(
        self, weights: Sequence[Any], real: Any, fake: Any, batch: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        config, condition = self.config, self._shown(batch)

        def mean_logit(condition: Sequence[Any]) -> Callable[[Any], Any]:
            def function(maps: Any) -> Any:
                logits = self._logits(weights, maps, condition)
                return sum(ops.mean(scale, axis=tuple(range(1, len(scale.shape)))) for scale in logits) / len(logits)

            return function

        if config.objective is not None and config.objective.interpolated:
            place = ops.reshape(batch["interpolation"], (-1, *(1,) * (len(real.shape) - 1)))
            between = real + place * (fake - real)
            penalty = unit_norm_penalty(self.backend.input_gradient(mean_logit(condition), between))
            return config.interpolated * penalty, {"gradient_penalty": penalty}
        twice = [ops.concatenate([c, c], axis=0) for c in condition]
        gradient = self.backend.input_gradient(mean_logit(twice), ops.concatenate([real, fake], axis=0))
        n = real.shape[0]
        r1, r2 = zero_centred_penalty(gradient[:n]), zero_centred_penalty(gradient[n:])
        return 0.5 * config.r1 * r1 + 0.5 * config.r2 * r2, {"r1": r1, "r2": r2}


def _convolved(maps: Any, kernel: np.ndarray) -> Any:
    """Maps (n, *shape, c), each channel convolved with `kernel`, which the edge cuts off."""
    # Keras correlates, as networks do: a convolution takes the kernel the other way about.
    weights = ops.convert_to_tensor(np.flip(kernel).astype(np.float32)[..., None, None])
    channels = [ops.conv(maps[..., i : i + 1], weights, padding="same") for i in range(maps.shape[-1])]
    return channels[0] if len(channels) == 1 else ops.concatenate(channels, axis=-1)


def _over_scales(loss: Loss, logits: Sequence[tuple[Any, Any]]) -> Any:
    """Mean of an objective over the discriminator's scales."""
    return sum(loss(real, fake) for real, fake in logits) / len(logits)


def _by_channel(function: Callable[[Scaling, Any], Any], scalings: Sequence[Scaling], maps: Any) -> Any:
    """`function` of each channel's scaling and maps."""
    channels = [function(scaling, maps[..., i : i + 1]) for i, scaling in enumerate(scalings)]
    return channels[0] if len(channels) == 1 else ops.concatenate(channels, axis=-1)


def _forward(scaling: Scaling, x: Any) -> Any:
    return scaling.forward(x, ops)


def _restore(scaling: Scaling, y: Any) -> Any:
    return scaling.restore(y, ops)


def _halves(maps: Any) -> tuple[Any, Any]:
    """Two realisations that follow one upon the other along the batch."""
    half = maps.shape[0] // 2
    return maps[:half], maps[half:]


def _condition(batch: Mapping[str, Any]) -> list[Any]:
    return [batch[name] for name in ("fields", "parameters") if name in batch]


def _repeat(maps: Any, times: int) -> Any:
    """A batch so many times over."""
    return maps if times == 1 else ops.concatenate([maps] * times, axis=0)


def adam(state: State, name: str, gradients: Sequence[Any], rate: Any, beta1: float, count: Any) -> State:
    """Adam as a pure function (Kingma & Ba 2015, 1412.6980, algorithm 1), β2 = 0.99, ε = 1e-8.

    Keras' optimizers keep their state in variables, which TensorFlow cannot pass through a function; this one is the
    same on every backend. Returns the new `name`, `name`_m and `name`_v of the state.
    """
    weights, first, second = [], [], []
    correction1, correction2 = 1.0 - beta1**count, 1.0 - BETA2**count
    for w, g, m, v in zip(state[name], gradients, state[f"{name}_m"], state[f"{name}_v"], strict=True):
        m = beta1 * m + (1.0 - beta1) * g
        v = BETA2 * v + (1.0 - BETA2) * ops.square(g)
        weights.append(w - rate * (m / correction1) / (ops.sqrt(v / correction2) + EPSILON))
        first.append(m)
        second.append(v)
    return {name: weights, f"{name}_m": first, f"{name}_v": second}
