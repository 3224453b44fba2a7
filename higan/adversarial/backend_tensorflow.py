"""What TensorFlow does its own way: gradients, compiling a step, determinism."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def value_and_grad(function: Callable[[Sequence[Any]], tuple[Any, Any]]) -> Callable[[Sequence[Any]], Any]:
    """Of ``function(variables) -> (value, auxiliary)``: a function that gives ((value, auxiliary), gradients)."""

    def both(variables: Sequence[Any]) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable)
            value, auxiliary = function(variables)
        gradients = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return (value, auxiliary), gradients

    return both


def input_gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """Gradient of the sum of ``function(x)`` with respect to `x`; it can itself be differentiated."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = tf.reduce_sum(function(x))
    return tape.gradient(value, x)


def compile_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of nested tensors."""
    return tf.function(function, reduce_retracing=True)


def to_device(values: Any) -> Any:
    """Nested numpy arrays as tensors."""
    return tf.nest.map_structure(tf.convert_to_tensor, values)


def to_host(values: Any) -> Any:
    """Nested tensors as numpy arrays."""
    return tf.nest.map_structure(np.asarray, values)


def deterministic() -> None:
    """Ask for operations whose result does not depend on scheduling."""
    tf.config.experimental.enable_op_determinism()
