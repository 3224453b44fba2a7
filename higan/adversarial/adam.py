"""Adam as a pure function, the same on every backend."""

from __future__ import annotations

from typing import Any

from keras import ops

State = dict[str, Any]
BETA2, EPSILON = 0.99, 1e-8


def adam(state: State, name: str, gradient: Any, rate: Any, beta1: float, count: Any) -> State:
    """Adam as a pure function (Kingma & Ba 2015, 1412.6980, algorithm 1), β2 = 0.99, ε = 1e-8.

    Keras' optimizers keep their state in variables, which TensorFlow cannot pass through a function; this one is the
    same on every backend. Returns the new `name`, `name`_m and `name`_v of the state.
    """
    m = beta1 * state[f"{name}_m"] + (1.0 - beta1) * gradient
    v = BETA2 * state[f"{name}_v"] + (1.0 - BETA2) * ops.square(gradient)
    mean, scatter = m / (1.0 - beta1**count), ops.sqrt(v / (1.0 - BETA2**count))
    return {name: state[name] - rate * mean / (scatter + EPSILON), f"{name}_m": m, f"{name}_v": v}
