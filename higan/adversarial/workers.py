"""The processes that train together, on one host or many: which does what, and how they end.

Every one makes its part of each batch and trains on its devices. The first alone writes: the state, the checkpoint, the
log, figures, and the lock on the run's folder.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from higan.errors import HiganError, StoppedError, TrainingError

T = TypeVar("T")

_OF_ANOTHER = re.compile(
    r"gloo|connection (?:reset|closed|refused)|socket closed|failed to connect|collective ops is aborted|heartbeat|"
    r"coordination service|barrier|preempted|remote (?:process|error)|unhandled system error",
    re.IGNORECASE,
)
_OWN = re.compile(r"RESOURCE_EXHAUSTED|out of memory|CUDA error", re.IGNORECASE)


def of_another(error: Exception) -> bool:
    """Whether a backend's error says, in its words, that another process is gone, and not that a device has failed.

    Examples
    --------
    >>> of_another(RuntimeError("Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:4242"))
    True
    >>> of_another(RuntimeError("INTERNAL: CUDA error: an illegal memory access was encountered"))
    False
    """
    return _OF_ANOTHER.search(str(error)) is not None and _OWN.search(str(error)) is None


class Workers:
    """This process and the others, which it joins.

    Parameters
    ----------
    backend : module
        Of the active Keras backend's own ways (:func:`higan.adversarial.step.load_backend`).

    Raises
    ------
    TrainingError
        If the others cannot be found.
    """

    def __init__(self, backend: Any):
        self.backend = backend
        backend.join()
        self.rank, self.count = backend.workers()
        self.first = self.rank == 0

    def check_batch(self, size: int, group: int, accumulate: int) -> None:
        """Refuse a batch that is not shared equally by all devices, in whole groups and parts."""
        devices = self.backend.replicas()
        least = devices * math.lcm(group, accumulate)
        if size % least:
            of_what = f" in groups of {group} maps" if group > 1 else ""
            of_what += f" in {accumulate} parts" if accumulate > 1 else ""
            raise TrainingError(
                f"training.batch_size is {size}, which {devices} devices cannot share equally{of_what}: make it a "
                f"multiple of {least}, or let fewer devices be visible."
            )

    def after_first(self, function: Callable[[], T]) -> T:
        """What `function` returns, called by the first and then, once that is done, by all others."""
        if not self.first:
            self.wait()
        value = function()
        if self.first:
            self.wait()
        return value

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.count > 1:
            self.backend.to_host(self.backend.sum_of_workers(np.float32(0)))

    def of_first(self, state: Any, step: int) -> tuple[Any, int]:
        """The state (on the devices) and the step of the first, on all."""
        if self.count == 1:
            return state, step
        values = self.backend.to_host(state), np.array(step, np.int32)
        if not self.first:
            values = {name: np.zeros_like(x) for name, x in values[0].items()}, np.array(0, np.int32)
        # One after the other: arrays of two types are not summed together.
        state, step = (self.backend.to_host(self.backend.sum_of_workers(x)) for x in values)
        return self.backend.to_device(state), int(step)

    def agreed(self, event: threading.Event) -> Callable[[], bool]:
        """A function that all call after each step: whether `event` was set for any of them, a step before.

        A step before, so that the device has the next one to do while its answer is awaited.
        """
        if self.count == 1:
            return event.is_set
        asked: list[Any] = []

        def agreed() -> bool:
            asked.append(self.backend.sum_of_workers(np.float32(event.is_set())))
            return len(asked) > 1 and bool(self.backend.to_host(asked.pop(0)) > 0)

        return agreed

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say so where another has gone, and do not wait for the others after an error.

        Raises
        ------
        StoppedError
            If another has gone.
        """
        try:
            yield
        except Exception as error:
            if self.count == 1:
                raise
            lost = not isinstance(error, HiganError) and self.backend.lost(error)
            self.backend.leave(StoppedError.exit_code if lost else getattr(error, "exit_code", 1))
            if not lost:
                raise
            raise StoppedError(
                f"worker {self.rank} of {self.count} has lost another, whose own log may say why "
                f"({_last_words(error)}); the training goes on from its last saved state when all are started again, "
                "or fewer."
            ) from error


def _last_words(error: Exception) -> str:
    """What of a long message of many lines says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if "abort" in line or "failed" in line or "closed" in line]
    return (telling or lines or [type(error).__name__])[0].rstrip(". ")
