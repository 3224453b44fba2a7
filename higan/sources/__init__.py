"""Users' files that become map sets: one module a source.

A source is a function that returns a :class:`higan.mapset.MapSet` and never reads more than it is asked for.
The decorator :func:`source` gives it the name that recipes call it by; every module in this folder is looked
at, so that a new source is one new file.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from higan.errors import MapSetError
from higan.mapset import MapSet

__all__ = ["from_arrays", "open_source", "source", "sources"]

Opener = Callable[..., MapSet]
_SOURCES: dict[str, Opener] = {}


def source(kind: str) -> Callable[[Opener], Opener]:
    """Decorator: the function opens sources of `kind`; its arguments are the keys of the recipe's table."""

    def register(opener: Opener) -> Opener:
        _SOURCES[kind] = opener
        return opener

    return register


def sources() -> dict[str, Opener]:
    """All sources by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_SOURCES)


def open_source(spec: str | os.PathLike[str] | Mapping[str, Any]) -> MapSet:
    """Open a map set, whatever files it stands on.

    Parameters
    ----------
    spec : path or mapping
        The path of a map set, or a table with ``kind`` and the arguments of that source:
        ``{"kind": "camels", "folder": "CMD", "inputs": ["Mcdm"], "outputs": ["HI"]}``.

    Raises
    ------
    MapSetError
        If there is no such kind, an argument is unknown or missing, or the files are not what they should be.

    Examples
    --------
    >>> open_source("boxes.h5")  # doctest: +SKIP
    >>> cmd = {"kind": "camels", "folder": "CMD", "inputs": ["Mcdm"], "outputs": ["HI"]}
    >>> open_source(cmd)  # doctest: +SKIP
    """
    if not isinstance(spec, Mapping):
        return MapSet.open(spec)
    arguments = dict(spec)
    kind = arguments.pop("kind", "mapset")
    known = sources()
    if kind not in known:
        raise MapSetError(f"There is no source of kind {kind!r}. Those there are: {', '.join(sorted(known))}.")
    signature = inspect.signature(known[kind])
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise MapSetError(
            f"The source of kind {kind!r} does not understand {', '.join(arguments) or 'an empty table'}: "
            f"{error}. It takes {', '.join(signature.parameters)}."
        ) from error
    return known[kind](**arguments)


@source("mapset")
def _map_set(path: str | os.PathLike[str]) -> MapSet:
    return MapSet.open(Path(path))


from higan.sources.arrays import from_arrays  # noqa: E402
