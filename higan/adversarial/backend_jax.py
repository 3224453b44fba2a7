"""What JAX does its own way: gradients, compiling a step, several devices and hosts, determinism.

A step runs on all devices of all processes, by shard_map: each has its part of the batch and the whole state. Processes
find one another by what JAX knows of clusters (Slurm, Open MPI), or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from higan.adversarial.parts import part_of
from higan.adversarial.workers import of_another
from higan.errors import TrainingError

AXIS = "replica"


def value_and_grad(function: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any], Any]:
    """Of ``function(x) -> (value, auxiliary)``: a function that gives ((value, auxiliary), gradient)."""
    return jax.value_and_grad(function, has_aux=True)


def input_gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """Gradient of the sum of ``function(x)`` with respect to `x`; it can itself be differentiated."""
    return jax.grad(lambda y: jnp.sum(function(y)))(x)


def one_by_one(function: Callable[[Any], Any], parts: Any) -> Any:
    """`function` of each of `parts` (nested tensors, part by part along the first axis), one after another, stacked."""
    return jax.lax.map(function, parts)


def join() -> None:
    """Join the other processes of the cluster, if there are any; before anything else is computed."""
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:
        given: dict[str, Any] = {key: int(os.environ[name]) for key, name in names.items() if name in os.environ}
        # A step of Slurm, or Open MPI, of one process needs no other.
        tasks = max(int(os.environ.get(name, 1)) for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    except ValueError as error:
        raise TrainingError(f"{' and '.join(names.values())} are whole numbers ({error}).") from error
    if jax.distributed.is_initialized() or not (given or "JAX_COORDINATOR_ADDRESS" in os.environ or tasks > 1):
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # SIGTERM is ours to hear.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes that were to train together did not find one another ({str(error).splitlines()[0]}). Check "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and that all were started."
        ) from error


def workers() -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    return jax.process_index(), jax.process_count()


def replicas() -> int:
    """Devices of all processes."""
    return jax.device_count()


def accelerated() -> bool:
    """Whether there is a device other than CPUs."""
    return bool(jax.default_backend() != "cpu")


def compile_step(function: Callable[..., Any], xla: bool = True) -> Callable[..., Any]:
    """Compile ``function(state, batch, scalars) -> (state, losses)``, which runs on every replica.

    The memory of the state is reused. XLA compiles it in any case.
    """
    everywhere, along = PartitionSpec(), PartitionSpec(AXIS)
    # Gradients are those of a replica's own part, until they are averaged (check_vma would sum them up).
    mapped = jax.shard_map(
        function,
        mesh=_mesh(),
        in_specs=(everywhere, along, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0)


def mean_of_replicas(values: Any) -> Any:
    """Mean of nested tensors over all replicas, within a step; gradients do not pass."""
    return jax.lax.pmean(jax.lax.stop_gradient(values), AXIS)


def sum_of_workers(values: Any) -> Any:
    """Sum of nested numpy arrays over all processes."""
    own = jax.local_device_count()

    def local(x: Any) -> np.ndarray:
        return np.stack([np.asarray(x), *[np.zeros_like(x)] * (own - 1)])

    return _total(_placed(jax.tree_util.tree_map(local, values), PartitionSpec(AXIS)))


def to_device(values: Any) -> Any:
    """Nested numpy arrays as tensors, whole on every device."""
    return _placed(values, PartitionSpec())


def spread(batch: Mapping[str, Any]) -> Any:
    """A process's batch of numpy arrays as tensors, a part of it on each of its devices."""
    own = jax.local_device_count()
    parts = [part_of(batch, i, own) for i in range(own)]
    return _placed(jax.tree_util.tree_map(lambda *xs: np.concatenate(xs), *parts), PartitionSpec(AXIS))


def to_host(values: Any) -> Any:
    """Nested tensors as numpy arrays."""
    return jax.tree_util.tree_map(np.asarray, values)


def lost(error: Exception) -> bool:
    """Whether `error` says that another process has gone."""
    if not isinstance(error, jax.errors.JaxRuntimeError):
        return "Gloo" in str(error)  # whose errors come as others, too
    return str(error).startswith(("UNAVAILABLE", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED")) or of_another(error)


def leave(code: int) -> None:
    """Let this process end without the others, with `code`: at exit JAX would wait for them, and abort."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if jax.process_index() == 0:
            time.sleep(3)  # the others end with the first: let them say why
        os._exit(code)

    atexit.register(end)


def deterministic() -> None:
    """Nothing to ask for here: XLA is deterministic on a CPU, and on a GPU where the environment has XLA_FLAGS =
    --xla_gpu_deterministic_ops=true, which is slower."""


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.array(sorted(jax.devices(), key=lambda d: (d.process_index, d.id))), (AXIS,))


def _placed(values: Any, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(_mesh(), spec)
    return jax.tree_util.tree_map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), values)


def _total(values: Any) -> Any:
    def total(values: Any) -> Any:
        return jax.tree_util.tree_map(lambda x: jax.lax.psum(x[0], AXIS), values)

    mapped = jax.shard_map(
        total, mesh=_mesh(), in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(), check_vma=False
    )
    return jax.jit(mapped)(values)
