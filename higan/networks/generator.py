"""The generator: a residual U-Net that is a pure function of (fields, parameters, noise).

Parameters modulate, and noise enters, every residual block on the way up, so that each scale has its own randomness;
there is no random layer and no normalisation over space. It is fully convolutional: one set of weights paints maps of
any size. Galaxies may be painted without it, as profiles and knots alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from higan.networks.config import DENSE_LAYERS, GeneratorConfig
from higan.networks.galaxies import LARGEST, Ellipses, Galaxies
from higan.networks.layers import (
    Above,
    After,
    Brightest,
    Modulation,
    PixelNorm,
    Position,
    Repeated,
    Smoothed,
    TopHats,
    activation,
    by_channel,
    convolution,
    dense,
    double,
    embed,
    forward,
    halve,
    spill,
    summed,
    within,
)
from higan.scaling import Scaling


def build_generator(
    config: GeneratorConfig,
    *,
    ndim: int,
    n_inputs: int,
    n_outputs: int,
    n_parameters: int,
    seed: int = 0,
    dtype: str = "float32",
    beyond: int = 0,
    around: Sequence[int] = (),
    excursion: bool = False,
    scalings: Sequence[Scaling] = (),
    shape: Sequence[int] | None = None,
    radius: tuple[int, float, float] | None = None,
) -> keras.Model:
    """Build the generator in scaled space.

    Parameters
    ----------
    config : GeneratorConfig
    ndim : int
        1, 2 or 3.
    n_inputs, n_outputs : int
        Channels of the input fields and of the output. Without input fields a map is drawn from the coarsest noise
        upwards: the way down is left out.
    n_parameters : int
        May be 0.
    seed : int
        Of the initial weights, the same on every backend.
    dtype : str
        Keras dtype policy, "float32" or "mixed_bfloat16"; the output is float32.
    beyond : int
        Cells that fields extend beyond the noise and the output on every side: crops of larger maps, of which top-hats
        see more than the convolutions do.
    around : sequence of int, optional
        Cells that fields and the coarsest noise extend beyond the output on either side of each axis: of tiles of
        larger maps :meth:`~higan.networks.config.GeneratorConfig.tile_margin`, or 0 along an axis that wraps around.
        Noise of finer levels extends less (:meth:`~higan.networks.config.GeneratorConfig.spared`), as does what is
        computed on the way up: what lies farther out is seen on the way down alone.
    excursion : bool
        With an excursion set, whether the most by which the smoothed field is above its barrier comes with the field,
        as it is known of whole maps, and not the field in every smoothing, and its scatter, for the barrier to be
        learnt. The weights of the barrier are no part of that network (:func:`barrier`).
    scalings : sequence of Scaling
        Of the outputs, where there are profiles, which are light, to be scaled, or amounts: spilled, or diffuse.
    shape : sequence of int, optional
        Of a map, where `config.network` is "profiles": nothing that goes in has it.
    radius : (int, float, float), optional
        Which parameter, and its range, is the half-light radius of galaxies in pixels: the profiles' sizes are in
        units of it.

    Returns
    -------
    keras.Model
        Called on a list: fields (batch, *shape, n_inputs), parameters (batch, n_parameters), then the noise of each
        level (batch, *shape / 2^level, noise_channels) and the latent vector (batch, random_numbers), each if there
        are any. With an excursion set fields are followed by as many channels as :class:`higan.excursion.SharpCuts`
        gives maps, and its scatter, (batch, channels), comes after them; or by one channel, and no scatter. Returns
        (batch, *shape, n_outputs). Noise may be given for several realisations of each map, those of
        the second upon those of the first along the batch: what does not depend on it is made once.

    Examples
    --------
    >>> model = build_generator(GeneratorConfig(widths=[4, 8]), ndim=2, n_inputs=1, n_outputs=1, n_parameters=3)
    >>> [tuple(x.shape) for x in model.inputs]
    [(None, None, None, 1), (None, 3), (None, None, None, 4), (None, None, None, 4)]
    """
    if (config.spilled or config.diffuse or config.profiles) and len(scalings) != n_outputs:
        raise ValueError(f"{len(scalings)} scalings of {n_outputs} outputs: give one of each")
    if around and (config.centred or beyond):
        raise ValueError("a tile is of maps without a middle, and of all that lies around it: leave around out")
    if config.network == "profiles":
        return _profiles(config, n_outputs, n_parameters, seed, scalings, shape, radius)
    space, around = (None,) * ndim, list(around or [0] * ndim)
    # `edge`, whether convolutions keep the sides of a map apart.
    options: dict[str, Any] = {"seed": seed, "edge": config.centred, "isotropic": config.isotropic, "dtype": dtype}
    smoothings = 2 if excursion else config.smoothings
    inputs = [keras.Input((*space, smoothings or n_inputs), name="fields")] if n_inputs else []
    scatter = [keras.Input((smoothings,), name="scatter")] if smoothings and not excursion else []
    inputs += scatter
    modulating = [keras.Input((n_parameters,), name="parameters")] if n_parameters else []
    inputs += modulating
    noise: list[Any] = [None] * config.levels
    if config.noise_channels:
        noise = [keras.Input((*space, config.noise_channels), name=f"noise{i}") for i in range(config.levels)]
        inputs += noise
    if config.latent:
        latent = keras.Input((config.random_numbers,), name="latent")
        inputs.append(latent)
        if config.knots:
            latent, knotted = ops.split(latent, [config.latent], axis=-1)
        if config.profiles:
            direction, latent = latent[:, :2], latent[:, 2:]
        modulating.append(latent)

    drawn_by = latent if config.latent else noise[-1]
    if config.spilled:
        marks, finest = ops.split(noise[0], [1], axis=-1)
        noise = [finest, *noise[1:]]
    if config.smoothed_noise:
        noise = [*noise[:-1], Smoothed(config.smoothed_noise, name="noise_smoothed", dtype=dtype)(noise[-1])]
    whole_noise = noise[-1]

    def for_each(x: Any, name: str) -> Any:
        """`x` of every map for each realisation of its noise."""
        return x if x is None or drawn_by is None else Repeated(name=f"{name}_each")([x, drawn_by])

    def pared(x: Any, level: int, is_doubled: bool = False) -> Any:
        """`x` of a level as far as the way up needs it; it has all there is around, or comes from the level below."""
        reaches = config.reaches
        has = [2 * reaches[level + 1] if is_doubled else n >> level for n in around]
        return within(x, [n - reaches[level] if m else 0 for n, m in zip(has, around, strict=True)])

    embedding, each = None, None
    if modulating:
        if config.latent and n_parameters:
            each = modulating[0] = for_each(modulating[0], "parameters")
            modulating = [keras.layers.Concatenate(name="modulating", dtype=dtype)(modulating)]
        embedding = embed(modulating[0], config.embedding, seed, "generator", dtype)

    if config.profiles:
        # What convolutions add has no radius that could be known beforehand.
        galaxies, *_ = _told(embedding, each, config, n_outputs, seed, radius)
    lying: dict[int, Any] = {}

    def radii(x: Any, level: int) -> Any:
        """Of the cells of `x`, of this level, in ellipses."""
        if level not in lying:
            layer = Ellipses(config.profiles, 2**level, name=f"radii{level}", dtype="float32")
            lying[level] = layer([x, galaxies, direction])
        return lying[level]

    def place(x: Any, level: int, name: str) -> Any:
        if config.profiles:
            radius = radii(x, level)
            return keras.layers.Concatenate(name=name, dtype=dtype)([x, ops.log(radius), ops.exp(-radius)])
        return Position(name=name, dtype=dtype)(x) if config.centred else x

    if config.noise_channels:
        noise = [*noise[:-1], pared(noise[-1], config.levels - 1)]
    every = None
    if config.cellwise or config.stochastic_barrier:
        every = _at_every_cell(noise, pared, dtype, edge=config.centred, alike=bool(config.smoothed_noise))
    local = gas = None
    if n_inputs:
        # A latent vector modulates all there is; without one no noise is seen on the way down.
        seen = for_each(inputs[0], "seen") if config.latent else inputs[0]
        if config.excursion_set:
            field, above = seen[..., :1], seen[..., 1:]
            if scatter:
                above = Above(name="above", dtype="float32")([seen, _barrier(config, scatter[0], modulating, seed)])
            # What is far below or above does not matter: a barrier is passed or not.
            seen = keras.layers.Concatenate(name="excursion", dtype="float32")([field, ops.tanh(4.0 * above)])
        x = within(seen, beyond)
        known = [pared(x, 0)]
        fields = known[0][..., :n_inputs]
        if config.top_hats:
            known.append(_means(seen[..., :n_inputs], config, beyond, around))
        if config.diffuse:
            told = _pointwise([fields], embedding, config.diffuse_widths, "diffuse", seed, "float32")
            gas = convolution(told, n_outputs, "diffuse", seed, kernel=1, gain=0.0, dtype="float32")
    # Without fields there is nothing to look at on the way down: the coarsest noise is where a map begins.
    skips: list[Any] = [None] * (config.levels - 1)
    if n_inputs:
        x = convolution(place(x, 0, "position"), config.widths[0], "stem", **options)
        for level, width in enumerate(config.widths[:-1]):
            x = _block(x, width, f"down{level}", embedding, None, **options)
            skips[level] = pared(x, level)
            x = halve(x, f"halve{level}", dtype)
            x = convolution(x, config.widths[level + 1], f"widen{level}", kernel=1, gain=1.0, **options)
    else:
        x = convolution(place(whole_noise, config.levels - 1, "position"), config.widths[-1], "stem", **options)
    x = pared(x, config.levels - 1)
    if n_inputs and config.knows_matter:
        # The way down and what sees the field on many scales each take most of the memory that there is to take.
        known[0], knowing = After(name="local_after", dtype="float32")([known[0], x]), embedding
        if config.stochastic_barrier:
            known = [*(for_each(part, f"local_known{i}") for i, part in enumerate(known)), every]
            knowing = for_each(embedding, "local_embedding")
        local = _pointwise(known, knowing, config.top_hat_widths, "local", seed, dtype)
    x, embedding = for_each(x, "bottom"), for_each(embedding, "embedding")
    for i in range(config.bottom_blocks):
        x = _block(x, config.widths[-1], f"bottom{i}", embedding, noise[-1], gated=config.gated, **options)
    for level in reversed(range(config.levels - 1)):
        width = config.widths[level]
        # Channels are reduced before the map is enlarged: a 1 x 1 convolution commutes with that.
        x = convolution(x, width, f"narrow{level}", kernel=1, gain=1.0, **options)
        x = double(x, f"double{level}", dtype, edge=config.centred, interpolated=config.interpolated)
        x = pared(x, level, is_doubled=True)
        if n_inputs:
            x = keras.layers.Concatenate(name=f"skip{level}", dtype=dtype)([x, for_each(skips[level], f"skip{level}")])
        else:
            x = place(x, level, f"position{level}")
        x = convolution(x, width, f"merge{level}", gain=1.0, **options)
        if config.normalised:
            x = PixelNorm(name=f"merge{level}_norm", dtype=dtype)(x)
        if local is not None and level == 0:
            # It starts without effect, here and at the head.
            told = convolution(local, width, "local", kernel=1, gain=0.0, **options)
            x = keras.layers.Add(name="merge0_local", dtype=dtype)([x, for_each(told, "local")])
        x = _block(x, width, f"up{level}", embedding, noise[level], gated=config.gated, **options)
    x = activation(PixelNorm(name="head_norm", dtype=dtype)(x), "head_act", dtype)
    features = x
    drawn = _cellwise(x, every, config.widths[0], n_outputs, **options) if config.cellwise else None
    tracing = n_inputs if config.tracing else 0
    x = convolution(x, n_outputs * (1 + tracing), "head", gain=0.3, **options)
    x = ops.cast(x, "float32")
    if tracing:
        x, slopes = ops.split(x, [n_outputs], axis=-1)
        fields = for_each(fields, "fields")
        traced = [ops.sum(s * fields, axis=-1, keepdims=True) for s in ops.split(slopes, n_outputs, axis=-1)]
        x = keras.layers.Add(name="head_traced", dtype="float32")([x, ops.concatenate(traced, axis=-1)])
    if local is not None:
        told = convolution(local, n_outputs, "head_local", seed, kernel=1, gain=0.0, dtype="float32")
        x = keras.layers.Add(name="head_told", dtype="float32")([x, for_each(told, "head_local")])
    if drawn is not None:
        x = keras.layers.Add(name="head_drawn", dtype="float32")([x, ops.cast(drawn, "float32")])
    if config.exclusion:
        x = _excluded(x, features, config.exclusion, config.widths[0], n_outputs, **options)
    if config.spilled:
        sharing = convolution(features, 4 * n_outputs, "sharing", seed, kernel=1, gain=0.0, dtype="float32")
        x = spill(x, sharing, marks, scalings)
    if gas is not None:
        x = summed(x, for_each(gas, "diffuse"), scalings)
    x = within(x, [config.reaches[0] if n else 0 for n in around])
    if config.profiles:
        # What is smooth, and points, are drawn straight away; the convolutions add what is neither.
        drawn = [galaxies, direction, *([knotted] if config.knots else []), x]
        light = _light(drawn, config, scalings, asked=False)
        x = keras.layers.Add(name="galaxies_add", dtype="float32")([x, light])
    return keras.Model(inputs, x, name="generator")


def _profiles(
    config: GeneratorConfig,
    n_outputs: int,
    n_parameters: int,
    seed: int,
    scalings: Sequence[Scaling],
    shape: Sequence[int] | None,
    radius: tuple[int, float, float] | None,
) -> keras.Model:
    """Galaxies of profiles and knots alone: dense layers say what they are like, and nothing is convolved."""
    latent = keras.Input((config.random_numbers,), name="latent")
    numbers, *drawn = ops.split(latent, [config.latent], axis=-1) if config.knots else [latent]
    x, inputs, each = numbers[:, 2:], [latent], None
    if n_parameters:
        inputs.insert(0, keras.Input((n_parameters,), name="parameters"))
        each = Repeated(name="parameters_each")([inputs[0], latent])
        x = keras.layers.Concatenate(name="modulating", dtype="float32")([each, x])
    for i in range(DENSE_LAYERS):
        x = activation(dense(x, config.embedding, f"dense{i}", seed, 2**0.5), f"dense{i}_act", "float32")
    told, *asked = _told(x, each, config, n_outputs, seed, radius)
    light = _light([told, numbers[:, :2], *asked, *drawn], config, scalings, bool(asked), shape)
    return keras.Model(inputs, light, name="generator")


def _told(
    x: Any,
    parameters: Any,
    config: GeneratorConfig,
    n_outputs: int,
    seed: int,
    radius: tuple[int, float, float] | None,
) -> list[Any]:
    """What tells galaxies; then the half-light radius where it is a parameter, in units of which sizes are."""
    told = dense(x, config.numbers_told(n_outputs), "galaxies_told", seed, 0.3)
    if radius is None:
        return [told]
    which, lower, upper = radius
    asked = ops.maximum(lower + 0.5 * (upper - lower) * (parameters[:, which : which + 1] + 1.0), 0.1)
    shapes, sizes, others = ops.split(told, [config.profiles, 2 * config.profiles], axis=-1)
    return [ops.concatenate([shapes, sizes + ops.log(asked / LARGEST), others], axis=-1), asked]


def _light(
    inputs: list[Any],
    config: GeneratorConfig,
    scalings: Sequence[Scaling],
    asked: bool,
    shape: Sequence[int] | None = None,
) -> Any:
    """The light of galaxies in scaled space."""
    count = len(scalings)
    layer = Galaxies(config.profiles, config.knots, count, config.psf, shape, asked, name="galaxies", dtype="float32")
    return by_channel(forward, scalings, layer(inputs))


def _block(x: Any, width: int, name: str, embedding: Any, noise: Any, *, gated: bool = False, **options: Any) -> Any:
    """Residual block: (norm, modulation, rectifier, convolution) twice, noise before the second rectifier."""

    seed, dtype = options["seed"], options["dtype"]

    def modulated(h: Any, part: str) -> Any:
        h = PixelNorm(name=f"{name}_norm{part}", dtype=dtype)(h)
        if embedding is not None:
            h = Modulation(width, seed, name=f"{name}_film{part}", dtype=dtype)([h, embedding])
        return h

    h = activation(modulated(x, "a"), f"{name}_acta", dtype)
    h = convolution(h, width, f"{name}_conva", **options)
    h = modulated(h, "b")
    if noise is not None:
        injected = convolution(noise, width, f"{name}_noise", kernel=1, gain=0.5, **options)
        if embedding is not None:
            injected = Modulation(width, seed, name=f"{name}_noise_film", dtype=dtype)([injected, embedding])
        if gated:
            # As without a gate where it is half open, as all are at first.
            gate = convolution(h, width, f"{name}_noise_gate", kernel=1, gain=0.0, **options)
            injected = 2.0 * ops.sigmoid(gate) * injected
        h = keras.layers.Add(name=f"{name}_noisy", dtype=dtype)([h, injected])
    h = activation(h, f"{name}_actb", dtype)
    h = convolution(h, width, f"{name}_convb", gain=0.5, **options)
    return keras.layers.Add(name=f"{name}_add", dtype=dtype)([x, h])


def _excluded(x: Any, features: Any, half_widths: Sequence[int], width: int, n_outputs: int, **options: Any) -> Any:
    """What is drawn, changed by a function of it, of what there is brighter around, and of the features there."""
    dtype, seen, most, reached = options["dtype"], [features, x], x, 0
    for half_width in half_widths:
        most = Brightest(half_width - reached, name=f"brightest{half_width}", dtype="float32")(most)
        seen.append(x - most)
        reached = half_width
    h = keras.layers.Concatenate(name="exclusion_join", dtype=dtype)(seen)
    for part in ("a", "b"):
        h = activation(convolution(h, width, f"exclusion{part}", kernel=1, **options), f"exclusion{part}_act", dtype)
    change = convolution(h, n_outputs, "exclusion", kernel=1, gain=0.0, **options)
    return keras.layers.Add(name="head_excluded", dtype="float32")([x, ops.cast(change, "float32")])


def _pointwise(inputs: list[Any], embedding: Any, widths: Sequence[int], name: str, seed: int, dtype: str) -> Any:
    """A function of what is known of the same cell, and of the parameters."""
    h = keras.layers.Concatenate(name=f"{name}_join", dtype="float32")(inputs)
    for i, width in enumerate(widths):
        h = convolution(h, width, f"{name}{i}", seed, kernel=1, dtype=dtype if i else "float32")
        if embedding is not None:
            h = Modulation(width, seed, name=f"{name}{i}_film", dtype=dtype)([h, embedding])
        h = activation(h, f"{name}{i}_act", dtype)
    return h


def barrier(model: keras.Model, config: GeneratorConfig) -> keras.Model:
    """Of a generator with its excursion set: scatter (batch, smoothings), and parameters, to the height for each."""
    names = [tensor.name for tensor in model.inputs]
    inputs = [model.inputs[names.index(name)] for name in ("scatter", "parameters") if name in names]
    return keras.Model(inputs, model.get_layer("barrier").output, name="barrier")


def _barrier(config: GeneratorConfig, scatter: Any, parameters: Sequence[Any], seed: int) -> Any:
    """Heights of the barrier, (batch, smoothings), of what the box scatters and of the parameters."""
    x = embed(
        parameters[0] if parameters else ops.ones_like(scatter[:, :1]), config.embedding, seed, "barrier", "float32"
    )
    heights = dense(x, config.smoothings, "barrier_heights", seed, 0.5)
    slopes = dense(x, config.smoothings, "barrier_slopes", seed, 0.1)
    return keras.layers.Add(name="barrier", dtype="float32")([heights + 1.0, slopes * scatter])


def _means(seen: Any, config: GeneratorConfig, beyond: int, around: Sequence[int]) -> Any:
    """Means in top-hats, of what the way up starts with."""
    first = config.halved_from
    near = within(seen, [n - first - config.beyond if n else 0 for n in around])
    layer = TopHats(config.top_hats, [config.beyond if n else beyond for n in around], name="top_hats", dtype="float32")
    return within(layer(near), [first - config.reaches[0] if n else 0 for n in around])


def _at_every_cell(noise: list[Any], pared: Callable[..., Any], dtype: str, *, edge: bool, alike: bool) -> Any:
    """The noise of every level at each cell, interpolated.

    Where `alike` no level is made fainter than that makes it; else large-scale modes have the same power from all.
    """
    ndim, every = len(noise[0].shape) - 2, noise[-1]
    for level in reversed(range(len(noise) - 1)):
        every = double(every, f"cell_double{level}", dtype, edge=edge, interpolated=True)
        every = pared(every, level, is_doubled=True)
        every = every if alike else 2 ** (-ndim / 2) * every
        every = keras.layers.Concatenate(name=f"cell_noise{level}", dtype=dtype)([noise[level], every])
    return every


def _cellwise(x: Any, every: Any, width: int, n_outputs: int, **options: Any) -> Any:
    """What is drawn cell by cell from the noise of every level and the features there.

    Noise that has to come up through the network is drowned by what flows there, and training then draws all that is
    random from the finest level, which is white. It does not start at zero: power is a square, and next to none has
    next to no gradient.
    """
    dtype = options["dtype"]
    h = convolution(x, width, "cell_features", kernel=1, gain=1.0, **options)
    injected = convolution(every, width, "cell_noise", kernel=1, gain=1.0, **options)
    h = activation(keras.layers.Add(name="cell_noisy", dtype=dtype)([h, injected]), "cell_acta", dtype)
    h = activation(convolution(h, width, "cell_mixed", kernel=1, **options), "cell_actb", dtype)
    return convolution(h, n_outputs, "cell", kernel=1, gain=0.3, **options)
