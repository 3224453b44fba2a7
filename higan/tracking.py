"""Trackers: where the metrics of a training go. JSON lines always; wandb and TensorBoard as adapters.

A tracker that fails says so once and is dropped: it never stops a training.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

UPLOAD = 120.0  # seconds at the end of a training for wandb to send what is left


class Tracker(Protocol):
    """Receives metrics (at a number of maps seen), figures, and files at the end."""

    def metrics(self, values: Mapping[str, float], maps: int) -> None: ...

    def figure(self, name: str, path: Path, maps: int) -> None: ...

    def report(self, path: Path) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line in `path`, null for what is not finite; resuming cuts off lines beyond its step."""

    def __init__(self, path: Path, maps: int = 0):
        self.path = path
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                # A kill may have cut the last line short.
                try:
                    if json.loads(line)["maps"] <= maps:
                        kept.append(line)
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
        partial = path.with_suffix(".partial")
        partial.write_text("".join(f"{line}\n" for line in kept))
        os.replace(partial, path)

    def metrics(self, values: Mapping[str, float], maps: int) -> None:
        with open(self.path, "a") as file:
            # JSON has no word for NaN and infinity.
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            file.write(json.dumps({"maps": maps, **finite}, allow_nan=False) + "\n")

    def figure(self, name: str, path: Path, maps: int) -> None:
        pass

    def report(self, path: Path) -> None:
        pass

    def close(self) -> None:
        pass


class Wandb:
    """Weights & Biases; offline needs no account, and ``wandb sync`` uploads later (``--append`` if resumed).

    The run's id is kept in `folder`, so that a training that resumes goes on with the same run. What the server has not
    taken two minutes after the end, as it is slow or gone, lies in `folder` for ``wandb sync``: wandb would wait on.
    """

    def __init__(self, folder: Path, name: str, project: str, mode: str, recipe: Mapping[str, Any], resume: bool):
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=project,
            name=name,
            dir=str(folder),
            id=_run_id(folder / "wandb" / "id", resume),
            resume="allow",
            mode="offline" if mode == "offline" else "online",
            config=dict(recipe),
            settings=wandb.Settings(silent=True, console="off", finish_timeout=UPLOAD, finish_timeout_raises=True),
        )

    def metrics(self, values: Mapping[str, float], maps: int) -> None:
        self._run.log({"maps": maps, **values})

    def figure(self, name: str, path: Path, maps: int) -> None:
        self._run.log({"maps": maps, name: self._wandb.Image(str(path))})

    def report(self, path: Path) -> None:
        if path.suffix == ".html":
            self._run.log({path.stem: self._wandb.Html(path.read_text(), inject=False)})
        else:
            # Of a link, which it would make itself, wandb tells the user, whom that does not concern.
            copy = shutil.copy(path, self._run.dir)
            self._run.save(str(copy), base_path=self._run.dir, policy="end")

    def close(self) -> None:
        self._run.finish()


def _run_id(path: Path, resume: bool) -> str:
    """The id of a wandb run: a new one, or where a training resumes the one it began with."""
    if not (resume and path.exists()):
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex(8))
    return path.read_text()


class TensorBoard:
    """TensorBoard event files under the run's folder, through the package that Keras' TensorFlow brings."""

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._Summary = Summary
        self._writer = EventFileWriter(str(folder / "tensorboard"))

    def metrics(self, values: Mapping[str, float], maps: int) -> None:
        items = [self._Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._event(self._Summary(value=items), maps)

    def figure(self, name: str, path: Path, maps: int) -> None:
        image = self._Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3)
        self._event(self._Summary(value=[self._Summary.Value(tag=name, image=image)]), maps)

    def report(self, path: Path) -> None:
        pass

    def close(self) -> None:
        self._writer.close()

    def _event(self, summary: Any, maps: int) -> None:
        import time

        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(summary=summary, step=maps, wall_time=time.time()))


class Trackers:
    """Several trackers as one; one that raises is reported once and dropped.

    Parameters
    ----------
    makers : sequence of (str, callable)
        Name and constructor of each; a constructor may fail too.
    """

    def __init__(self, makers: Sequence[tuple[str, Any]]):
        self._trackers: dict[str, Tracker] = {}
        for name, make in makers:
            try:
                self._trackers[name] = make()
            except Exception as error:
                _drop(name, error)

    def metrics(self, values: Mapping[str, float], maps: int) -> None:
        self._each("metrics", values, maps)

    def figure(self, name: str, path: Path, maps: int) -> None:
        self._each("figure", name, path, maps)

    def report(self, path: Path) -> None:
        self._each("report", path)

    def close(self) -> None:
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:
                del self._trackers[name]
                _drop(name, error)


def _drop(name: str, error: Exception) -> None:
    what = " ".join(str(error).split())
    warnings.warn(f"{name} is no longer tracked: {type(error).__name__}: {what}", stacklevel=3)
