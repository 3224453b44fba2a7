"""The discriminator: a residual patch network that sees the map, its condition and the parameters.

It says of every patch how real it looks (Isola et al. 2017, 1611.07004, sec. 3.2.2), at every resolution: the finest
head sees a few cells and teaches the smallest scales early, the coarsest sees most of the map. There is no
normalisation at all: gradient penalties hold it (Mescheder et al. 2018, 1801.04406; Huang et al. 2025, 2501.05441).
"""

from __future__ import annotations

from typing import Any

import keras

from higan.networks.config import DiscriminatorConfig
from higan.networks.layers import Modulation, Position, activation, convolution, embed, halve


def build_discriminator(
    config: DiscriminatorConfig,
    *,
    ndim: int,
    n_inputs: int,
    n_outputs: int,
    n_parameters: int,
    seed: int = 0,
    centred: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """Build the discriminator; maps and fields are in scaled space.

    Where maps are `centred` it knows where a cell lies, and they have edges.

    Returns
    -------
    keras.Model
        Called on a list: maps (batch, *shape, n_outputs), fields (batch, *shape, n_inputs) if there are any, then
        parameters (batch, n_parameters) if there are any. Returns a list, one tensor of logits a resolution,
        (batch, *shape / 2^level, 1), float32.

    Examples
    --------
    >>> model = build_discriminator(DiscriminatorConfig(widths=[4, 8]), ndim=2, n_inputs=1, n_outputs=1, n_parameters=3)
    >>> len(model.outputs), model.outputs[0].shape
    (2, (None, None, None, 1))
    """
    space = (None,) * ndim
    options: dict[str, Any] = {"seed": seed, "edge": centred, "dtype": dtype}
    inputs = [keras.Input((*space, n_outputs), name="maps")]
    if n_inputs:
        inputs.append(keras.Input((*space, n_inputs), name="fields"))
    x = keras.layers.Concatenate(name="d_join", dtype=dtype)(inputs) if n_inputs else inputs[0]
    embedding = None
    if n_parameters:
        inputs.append(keras.Input((n_parameters,), name="parameters"))
        embedding = embed(inputs[-1], config.embedding, seed, "discriminator", dtype)

    logits = []
    if centred:
        x = Position(name="d_position", dtype=dtype)(x)
    x = convolution(x, config.widths[0], "d_stem", **options)
    for level, width in enumerate(config.widths):
        if level:
            x = convolution(halve(x, f"d_halve{level}", dtype), width, f"d_widen{level}", kernel=1, gain=1.0, **options)
        h = activation(x, f"d_act{level}a", dtype)
        h = convolution(h, width, f"d_conv{level}a", **options)
        if embedding is not None:
            h = Modulation(width, seed, name=f"d_film{level}", dtype=dtype)([h, embedding])
        h = activation(h, f"d_act{level}b", dtype)
        h = convolution(h, width, f"d_conv{level}b", gain=0.5, **options)
        x = keras.layers.Add(name=f"d_add{level}", dtype=dtype)([x, h])
        head = activation(x, f"d_head{level}_act", dtype)
        logits.append(convolution(head, 1, f"d_head{level}", seed, kernel=1, gain=1.0, dtype="float32"))
    return keras.Model(inputs, logits, name="discriminator")
