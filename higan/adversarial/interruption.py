"""A training that shares a machine with others: stopped by a scheduler, or started twice on one folder."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from higan.errors import OutputError, StoppedError, TrainingError

LOCK = ".lock"


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the step under way can end; as before afterwards.

    Other threads than the first hear no signals: there the event is never set.

    Examples
    --------
    >>> with sigterm() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.is_set()
    True
    """
    stop = threading.Event()
    with _on_sigterm(lambda *_: stop.set()):
        yield stop


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises StoppedError: what goes before the first step, simulations too, is begun again or gone on with.

    A container's first process, moreover, hears no signal that it has not asked for.

    Examples
    --------
    >>> with stoppable():
    ...     signal.raise_signal(signal.SIGTERM)
    Traceback (most recent call last):
    higan.errors.StoppedError: stopped by SIGTERM before its first step or after its last: start it again.
    """

    def stop(*_: object) -> None:
        raise StoppedError("stopped by SIGTERM before its first step or after its last: start it again.")

    with _on_sigterm(stop):
        yield


@contextmanager
def _on_sigterm(handler: Callable[..., object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where it does not exist; TrainingError while another process does.

    The system lets go of it when the process ends, however it ends.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder)):
    ...     pass
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{run} cannot be written ({error}). Choose another --output.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"Another process trains into {run}. Wait until it has ended, or choose another --output."
            ) from error
        yield
    finally:
        os.close(file)
