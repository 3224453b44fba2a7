"""Adam as a pure function, the same on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

State = dict[str, list[Any]]
BETA2, EPSILON = 0.99, 1e-8


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
