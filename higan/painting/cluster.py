"""Tiles painted by the workers of a dask.distributed cluster."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from higan.errors import ClusterError, MissingDependencyError
from higan.painting.lazy import paint_alone
from higan.painting.painter import Painter

# Seconds for a scheduler to answer and to have a worker.
PATIENCE = 60.0


@contextlib.contextmanager
def connect(scheduler: str) -> Iterator[Any]:
    """A client of the scheduler at an address, or of a new one with processes of this machine for "processes".

    Raises
    ------
    MissingDependencyError, ClusterError
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingDependencyError(
            f"A cluster needs dask.distributed, which cannot be imported ({error}): pip install 'higan[dask]'."
        ) from error
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if scheduler == "processes":
            # One core each: their memory is that of a tile each, which dask need not watch.
            address = stack.enter_context(
                LocalCluster(
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address=None,
                    env={"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"},
                )
            )
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"the cluster at {scheduler} does not answer or has no workers ({type(error).__name__}). Start it, or "
                "mend --scheduler: threads, processes or an address like tcp://host:8786."
            ) from error
        yield client


def paint_on(client: Any, painter: Painter, work: Iterator[tuple[Any, tuple[Any, ...]]]) -> Iterator[tuple[Any, Any]]:
    """Paint on the workers; what is done first comes first.

    Two tiles a worker are under way: memory here, too, does not grow with the size of the maps.

    Parameters
    ----------
    client : distributed.Client
    painter : Painter
        Sent to each worker once.
    work : iterator of (name, arguments of paint_alone after the painter)

    Yields
    ------
    name, array
        As :func:`higan.painting.lazy.paint_alone` returns it.
    """
    from distributed import as_completed

    def send(function: Any, *arguments: Any) -> Any:
        with warnings.catch_warnings():
            # What a task works on goes along, so that another worker can take over where one is lost.
            warnings.filterwarnings("ignore", "Sending large graph")
            return client.submit(function, *arguments, pure=False)

    # A task, not scattered data, which are gone with the worker that holds them; in bytes, as a scheduler that made
    # arguments of them would build the network, too.
    shared = send(pickle.loads, pickle.dumps(painter))
    client.replicate([shared])
    queue = as_completed()
    names: dict[str, Any] = {}

    def submit() -> None:
        while len(names) < 2 * max(1, len(client.nthreads())):
            item = next(work, None)
            if item is None:
                return
            name, arguments = item
            future = send(paint_alone, shared, *arguments)
            names[future.key] = name
            queue.add(future)

    submit()
    while names:
        future = next(queue)
        name = names.pop(future.key)
        painted: np.ndarray = future.result()
        future.release()
        submit()
        yield name, painted
