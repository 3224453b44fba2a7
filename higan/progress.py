"""Progress on the terminal for long work: one bar, or a line now and then where output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called as work is done: ``advance(n=1, note="")``."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


@contextmanager
def progress(
    label: str, total: int, done: int = 0, unit: str = "maps", every: float = 30.0, job: bool = False
) -> Iterator[Advance]:
    """Show how far a piece of work has come: a bar where standard error is a terminal, else a line now and then.

    Parameters
    ----------
    label : str
    total, done : int
        Units of work in all, and those done before.
    unit : str
    every : float
        Seconds between lines.
    job : bool
        Lines are the log of a job, and go to standard output; else to standard error, too.

    Examples
    --------
    >>> with progress("painting", total=2) as advance:
    ...     advance(2)
    """
    if sys.stderr.isatty() and (sys.stdout.isatty() or not job):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, completed=done, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
        return

    started = last = time.monotonic()
    count = done

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal count, last
        count += n
        now = time.monotonic()
        if now - last >= every:
            last = now
            left = (total - count) * (now - started) / max(count - done, 1)
            print(
                f"{label}: {count}/{total} {unit}, {left:.0f} s left {note}".rstrip(),
                file=sys.stdout if job else sys.stderr,
                flush=True,
            )

    yield advance
