"""What TensorFlow does its own way: gradients, compiling a step, several devices and hosts, determinism.

A step runs on every local GPU (or logical CPU), under MirroredStrategy; on those of all hosts where TF_CONFIG names
several, under MultiWorkerMirroredStrategy. Each replica has its part of the batch and the whole state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from higan.adversarial.parts import part_of
from higan.adversarial.workers import of_another
from higan.errors import TrainingError


def value_and_grad(function: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any], Any]:
    """Of ``function(x) -> (value, auxiliary)``: a function that gives ((value, auxiliary), gradient)."""

    def both(x: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, auxiliary = function(x)
        gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return (value, auxiliary), gradient

    return both


def input_gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """Gradient of the sum of ``function(x)`` with respect to `x`; it can itself be differentiated."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = tf.reduce_sum(function(x))
    return tape.gradient(value, x)


def one_by_one(function: Callable[[Any], Any], parts: Any) -> Any:
    """`function` of each of `parts` (nested tensors, part by part along the first axis), one after another, stacked."""
    traced = tf.function(function, autograph=False)
    first = tf.nest.map_structure(lambda x: x[0], parts)
    outputs = traced.get_concrete_function(first).structured_outputs
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), outputs)
    return tf.map_fn(traced, parts, parallel_iterations=1, fn_output_signature=signature)


def join() -> None:
    """Join the other processes of TF_CONFIG, if it names any; before anything else is computed."""
    _strategy()


def workers() -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    types, rank = _cluster()
    return rank, max(sum(types.values()), 1)


def replicas() -> int:
    """Devices of all processes."""
    strategy = _strategy()
    return 1 if strategy is None else strategy.num_replicas_in_sync


def accelerated() -> bool:
    """Whether there is a device other than CPUs."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


def compile_step(function: Callable[..., Any], xla: bool = False) -> Callable[..., Any]:
    """Compile ``function(state, batch, scalars) -> (state, losses)``, which runs on every replica.

    The losses, which are the same on all replicas, come as one.
    """
    strategy = _strategy()
    if strategy is None:
        return tf.function(function, reduce_retracing=True, jit_compile=xla or None, autograph=False)
    if xla:
        raise TrainingError(
            f"training.xla compiles for one device on TensorFlow, but there are {strategy.num_replicas_in_sync}: leave "
            "it out, let one be visible (CUDA_VISIBLE_DEVICES), or train on JAX."
        )

    def on_replicas(*arguments: Any) -> Any:
        state, losses = strategy.run(function, args=arguments)
        return state, tf.nest.map_structure(_first, losses)

    return tf.function(on_replicas, reduce_retracing=True, autograph=False)


def mean_of_replicas(values: Any) -> Any:
    """Mean of nested tensors over all replicas, within a step; gradients do not pass."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = [tf.stop_gradient(x) for x in tf.nest.flatten(values)]
    return tf.nest.pack_sequence_as(values, context.all_reduce(tf.distribute.ReduceOp.MEAN, flat))


def sum_of_workers(values: Any) -> Any:
    """Sum of nested numpy arrays over all processes."""
    local = [values, *[tf.nest.map_structure(np.zeros_like, values)] * (_local() - 1)]
    return _total(_replicated(local)) if workers()[1] > 1 else to_device(values)


def to_device(values: Any) -> Any:
    """Nested numpy arrays as tensors, whole on every local device."""
    return _replicated([values] * _local())


def spread(batch: Mapping[str, Any]) -> Any:
    """A process's batch of numpy arrays as tensors, a part of it on each of its devices."""
    return _replicated([part_of(batch, i, _local()) for i in range(_local())])


def to_host(values: Any) -> Any:
    """Nested tensors as numpy arrays."""
    return tf.nest.map_structure(lambda x: np.asarray(_first(x)), values)


def lost(error: Exception) -> bool:
    """Whether `error` says that another process has gone."""
    errors = tf.errors
    gone = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    # An internal error may be of a device, too, which no restart mends.
    return isinstance(error, gone) or (isinstance(error, errors.InternalError) and of_another(error))


def leave(code: int) -> None:
    """Nothing to do: a process that ends waits for no other."""


def deterministic() -> None:
    """Ask for operations whose result does not depend on scheduling."""
    tf.config.experimental.enable_op_determinism()


def _cluster() -> tuple[dict[str, int], int]:
    """Processes of each kind that TF_CONFIG names, and the rank of this one: a chief comes first."""
    try:
        found = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        types = {kind: len(hosts) for kind, hosts in found.cluster_spec().as_dict().items()}
        kind, index = found.task_type, found.task_id
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"TF_CONFIG cannot be read ({error}): give it as tf.distribute documents it.") from error
    if not types:
        return types, 0
    if not set(types) <= {"chief", "worker"} or kind not in types or not 0 <= (index or 0) < types[kind]:
        raise TrainingError(
            f"TF_CONFIG makes this process {kind!r} {index} of {types}: it takes processes of kind worker (or chief), "
            "each of which trains, and a task that is one of them."
        )
    return types, (index or 0) + (types.get("chief", 0) if kind == "worker" else 0)


@functools.cache
def _strategy() -> Any:
    """None on one device of one process."""
    if workers()[1] > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices]) if len(devices) > 1 else None


def _local() -> int:
    """Devices of this process."""
    strategy = _strategy()
    return 1 if strategy is None else len(strategy.extended.worker_devices)


def _first(value: Any) -> Any:
    """What the first local replica has."""
    strategy = _strategy()
    return value if strategy is None else strategy.experimental_local_results(value)[0]


def _replicated(values: Sequence[Any]) -> Any:
    """Nested arrays, one for each local device."""
    if len(values) == 1:
        return tf.nest.map_structure(tf.convert_to_tensor, values[0])
    tensors = []
    for value, device in zip(values, _strategy().extended.worker_devices, strict=True):
        with tf.device(device):
            tensors.append(tf.nest.map_structure(tf.convert_to_tensor, value))

    def own(context: Any) -> Any:
        return tensors[context.replica_id_in_sync_group % len(tensors)]

    return _strategy().experimental_distribute_values_from_function(own)


@tf.function(reduce_retracing=True, autograph=False)
def _total(values: Any) -> Any:
    def total(values: Any) -> Any:
        flat = [tf.identity(x) for x in tf.nest.flatten(values)]  # on the replica's device, where arguments are on none
        summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
        return tf.nest.pack_sequence_as(values, summed)

    return tf.nest.map_structure(_first, _strategy().run(total, args=(values,)))
