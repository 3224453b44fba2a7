"""What JAX does its own way: gradients, compiling a step, determinism."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def value_and_grad(function: Callable[[Sequence[Any]], tuple[Any, Any]]) -> Callable[[Sequence[Any]], Any]:
    """Of ``function(variables) -> (value, auxiliary)``: a function that gives ((value, auxiliary), gradients)."""
    return jax.value_and_grad(function, has_aux=True)


def input_gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """Gradient of the sum of ``function(x)`` with respect to `x`; it can itself be differentiated."""
    return jax.grad(lambda y: jnp.sum(function(y)))(x)


def compile_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of nested tensors; the first argument's memory is reused."""
    return jax.jit(function, donate_argnums=0)


def to_device(values: Any) -> Any:
    """Nested numpy arrays as tensors."""
    return jax.tree_util.tree_map(jnp.asarray, values)


def to_host(values: Any) -> Any:
    """Nested tensors as numpy arrays."""
    return jax.tree_util.tree_map(np.asarray, values)


def deterministic() -> None:
    """Nothing to ask for: XLA on a CPU is deterministic."""
