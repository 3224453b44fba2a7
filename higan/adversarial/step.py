"""One training step, written once in keras.ops as a function of (state, batch): losses, gradients, Adam, averages.

The backend's file gives the gradients and compiles the step. The state is a flat dictionary of arrays, so that saving,
resuming and comparing backends need nothing else. All weights of a network are one vector in it: operations on each
of a hundred would take as long to trace as the losses.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from higan.adversarial.adam import State, adam
from higan.adversarial.map_losses import MapLosses, bounded, repeat
from higan.adversarial.objectives import Loss, unit_norm_penalty, zero_centred_penalty
from higan.adversarial.parts import each, in_parts, of_parts
from higan.adversarial.step_config import StepConfig
from higan.networks.layers import by_channel, forward, restore, split, within
from higan.validation.power_spectrum import bin_weights


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
        self.map_losses = MapLosses(config, self.backend.mean_of_replicas)
        # Two graphs, with and without the penalties' second derivatives: a branch inside one would cost both.
        self._compiled: dict[bool, Callable[..., Any]] = {
            penalised: self.backend.compile_step(self._update(penalised), config.xla) for penalised in (False, True)
        }

    def initial_state(self) -> State:
        """Initial weights, moments and averages, on the device."""
        state = {}
        for name, network in {"generator": self.generator, "discriminator": self.discriminator}.items():
            if network is not None:
                state[name] = joined(network.get_weights())
                state[f"{name}_m"], state[f"{name}_v"] = np.zeros_like(state[name]), np.zeros_like(state[name])
        state["average"] = state["generator"].copy()
        if self.config.losses.mean_power_weight:
            bins = 1 + bin_weights(self.config.shape, corners=True).shape[0]
            # Of generated and of true maps.
            shape = (2, len(self.config.losses.spectral_fields), bins, len(self.config.outputs))
            state["mean_power"] = np.zeros(shape, np.float32)
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
            maps (batch, *shape, c), fields, parameters and noise (a list), with an excursion set scatter, as
            :class:`higan.adversarial.batches.Batches` makes them, all scaled float32 numpy arrays: this
            process' part of the batch. Noise of several realisations follows upon that of the first, along the batch.
            Where maps are observed, sky (2 batch, *shape, c), standard normal, for true and then for generated maps,
            and flux (batch,), what the maps were divided by. With losses of stamps' sizes and shapes, radius
            (batch,), in cells.
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
        every = self.config.losses.penalty_every
        penalised = self.discriminator is not None and step % every == 0
        weight = self.config.losses.pixel_weight if pixel_weight is None else pixel_weight
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
            new["average"] = scalars[2] * state["average"] + (1.0 - scalars[2]) * new["generator"]
            return new, losses

        return update

    def _generator_gradients(
        self, state: State, batch: Mapping[str, Any], scalars: Any
    ) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
        """Gradients of the generator's weights; its output; losses; what is kept in the state."""
        config, value_and_grad = self.config, self.backend.value_and_grad

        def map_losses(raw: Any) -> tuple[Any, Any]:
            return self.map_losses(state, raw, batch, pixel_weight=scalars[4], count=scalars[3])

        if config.accumulate == 1:

            def loss(weights: Any) -> tuple[Any, Any]:
                raw = self._generate(weights, batch)
                total, (parts, kept) = map_losses(raw)
                if config.objective is not None:
                    parts["generator"] = self._fooling(state, raw, batch)
                    total = total + parts["generator"]
                return total, (raw, parts, kept)

            (_, (raw, parts, kept)), gradients = value_and_grad(loss)(state["generator"])
            return gradients, raw, parts, kept

        weights = state["generator"]
        raw = self._by_part(lambda part: self._generate(weights, part), batch)
        raw = of_parts(raw, config.losses.realisations, ops)
        (_, (parts, kept)), slope = value_and_grad(map_losses)(raw)

        def pulled(part: Mapping[str, Any]) -> Any:
            def loss(weights: Any) -> tuple[Any, Any]:
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

            def loss(weights: Any) -> tuple[Any, Any]:
                logits = self._discriminate(weights, real, fake, part)
                assert config.objective is not None
                value = _over_scales(config.objective.discriminator, logits)
                if not penalised:
                    return value, {"discriminator": value}
                penalty, parts = self._penalties(weights, real, fake, part)
                return value + config.losses.penalty_every * penalty, {"discriminator": value, **parts}

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

    def _seen(self, raw: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """True and generated maps, of the first realisation, as the discriminator sees them."""
        return self._observed(batch["maps"], bounded(raw, self.config.outputs)[: batch["maps"].shape[0]], batch)

    def _fooling(self, state: State, raw: Any, batch: Mapping[str, Any]) -> Any:
        """The generator's side of the adversarial objective."""
        assert self.config.objective is not None
        logits = self._discriminate(state["discriminator"], *self._seen(raw, batch), batch)
        return _over_scales(self.config.objective.generator, logits)

    def _generate(self, weights: Any, batch: Mapping[str, Any]) -> Any:
        inputs = _condition(batch) + list(batch.get("noise", []))
        raw = within(_called(self.generator, weights, inputs), self.config.context)
        # Without noise realisations are all alike.
        return raw if batch.get("noise") else repeat(raw, self.config.losses.realisations)

    def _observed(self, real: Any, fake: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """True and generated maps, scaled, through the telescope and with its noise, where they are observed."""
        config, n = self.config, real.shape[0]
        if config.kernel is None and not config.noise:
            return real, fake
        maps = by_channel(restore, config.outputs, ops.concatenate([real, fake]))
        if config.kernel is not None:
            maps = _convolved(maps, config.kernel)
        if config.noise:
            flux = ops.reshape(batch["flux"], (n, *(1,) * (len(maps.shape) - 1)))
            maps = maps + config.noise * batch["sky"] / ops.concatenate([flux, flux])
        maps = by_channel(forward, config.outputs, maps)
        return maps[:n], maps[n:]

    def _shown(self, batch: Mapping[str, Any]) -> list[Any]:
        """The condition as the discriminator sees it."""
        if "fields" not in batch:
            return _condition(batch)
        fields, around = batch["fields"], (batch["fields"].shape[1] - batch["maps"].shape[1]) // 2
        if "scatter" in batch:  # of the field that an excursion set smooths, as it is
            batch, fields = {name: value for name, value in batch.items() if name != "scatter"}, fields[..., :1]
        return _condition({**batch, "fields": within(fields, around)})

    def _logits(self, weights: Any, maps: Any, condition: Sequence[Any]) -> list[Any]:
        assert self.discriminator is not None
        logits = _called(self.discriminator, weights, [maps, *condition])
        # Keras gives the only scale of a discriminator as a tensor, not as a list.
        return logits if isinstance(logits, list) else [logits]

    def _discriminate(self, weights: Any, real: Any, fake: Any, batch: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Logits of true and generated maps at each scale, in one pass over both."""
        condition = [ops.concatenate([c, c], axis=0) for c in self._shown(batch)]
        logits = self._logits(weights, ops.concatenate([real, fake], axis=0), condition)
        n = real.shape[0]
        return [(scale[:n], scale[n:]) for scale in logits]

    def _penalties(self, weights: Any, real: Any, fake: Any, batch: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
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
            return config.losses.gradient_penalty * penalty, {"gradient_penalty": penalty}
        twice = [ops.concatenate([c, c], axis=0) for c in condition]
        gradient = self.backend.input_gradient(mean_logit(twice), ops.concatenate([real, fake], axis=0))
        n = real.shape[0]
        r1, r2 = zero_centred_penalty(gradient[:n]), zero_centred_penalty(gradient[n:])
        return 0.5 * config.losses.r1 * r1 + 0.5 * config.losses.r2 * r2, {"r1": r1, "r2": r2}


def joined(weights: Sequence[np.ndarray]) -> np.ndarray:
    """All weights of a network as one vector, as a state holds them."""
    return np.concatenate([np.ravel(array) for array in weights]).astype(np.float32)


def parted(vector: np.ndarray, network: keras.Model) -> list[np.ndarray]:
    """The weights of a network, of one vector of all."""
    shapes, sizes = _shapes(network)
    return [part.reshape(shape) for part, shape in zip(np.split(vector, np.cumsum(sizes)[:-1]), shapes, strict=True)]


def _called(network: keras.Model, vector: Any, inputs: Sequence[Any]) -> Any:
    """What a network gives with weights that are not its own."""
    shapes, sizes = _shapes(network)
    weights = [ops.reshape(part, shape) for part, shape in zip(split(vector, sizes, axis=0), shapes, strict=True)]
    return network.stateless_call(weights, [], list(inputs))[0]


def _shapes(network: keras.Model) -> tuple[list[tuple[int, ...]], list[int]]:
    """Of a network's weights, and how many numbers each holds."""
    shapes = [tuple(variable.shape) for variable in network.variables]
    return shapes, [math.prod(shape) for shape in shapes]


def _convolved(maps: Any, kernel: np.ndarray) -> Any:
    """Maps (n, *shape, c), each channel convolved with `kernel`, which the edge cuts off."""
    # Keras correlates, as networks do: a convolution takes the kernel the other way about.
    weights = ops.convert_to_tensor(np.flip(kernel).astype(np.float32)[..., None, None])
    channels = [ops.conv(maps[..., i : i + 1], weights, padding="same") for i in range(maps.shape[-1])]
    return channels[0] if len(channels) == 1 else ops.concatenate(channels, axis=-1)


def _over_scales(loss: Loss, logits: Sequence[tuple[Any, Any]]) -> Any:
    """Mean of an objective over the discriminator's scales."""
    return sum(loss(real, fake) for real, fake in logits) / len(logits)


def _condition(batch: Mapping[str, Any]) -> list[Any]:
    return [batch[name] for name in ("fields", "scatter", "parameters") if name in batch]
