"""Codes that make map sets: one module a simulator, imported when it is called.

A simulator is a frozen dataclass that follows :class:`higan.simulators.running.Simulator`; its fields are its
settings, and the command line offers each of them as an option. The table below names it.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from higan.errors import HiganError
from higan.simulators.running import simulate

if TYPE_CHECKING:
    from higan.simulators.running import Simulator

__all__ = ["SIMULATORS", "simulate", "simulator"]

SIMULATORS = {
    "21cmfast": ("higan.simulators.twentyonecmfast", "TwentyOneCmFast"),
    "galaxies": ("higan.simulators.galaxies", "Galaxies"),
    "shells": ("higan.simulators.shells", "Shells"),
    "post-reionisation": ("higan.simulators.post_reionisation", "PostReionisation"),
}


def simulator(name: str, **settings: Any) -> Simulator:
    """The simulator called `name` with these settings.

    Raises
    ------
    HiganError
        If there is no such simulator, or it has no such setting.

    Examples
    --------
    >>> simulator("21cmfast", cells=32, box_size=64.0)
    TwentyOneCmFast(cells=32, box_size=64.0, redshift=8.0)
    """
    if name not in SIMULATORS:
        raise HiganError(f"There is no simulator {name!r}. Those there are: {', '.join(SIMULATORS)}.")
    module, kind = SIMULATORS[name]
    make = getattr(importlib.import_module(module), kind)
    known = [setting.name for setting in dataclasses.fields(make)]
    for setting in settings:
        if setting not in known:
            raise HiganError(f"The simulator {name} has no setting {setting!r}. Those it has: {', '.join(known)}.")
    return make(**settings)
