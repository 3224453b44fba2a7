"""What a statistic is, and the registry of them.

A statistic compares generated maps with the truth in two stages, so that any number of maps streams through little
memory and every number gets an error: `measure` reduces a batch to a few values a map, which are summed over the maps
of each simulation; `evaluate` turns such sums, a row a simulation, into numbers and curves, and is called again for
every bootstrap resample of the simulations.

To add one, write a file in this folder with a subclass of :class:`Statistic` under the decorator :func:`statistic`.
Every module here is imported when statistics are asked for, and tables, metrics and report follow what the class
declares.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

if TYPE_CHECKING:
    from higan.validation.results import Comparison


@dataclasses.dataclass(frozen=True)
class Number:
    """A headline number: what tables call it, what it means, and why it may be missing.

    Parameters
    ----------
    label : str
        The heading of its column.
    meaning : str
        One plain sentence.
    units : str
        "{units}" stands for those of the field, "{length}" for the unit of the box; "%" is shown times 100.
    missing : str
        When it is not defined.
    """

    label: str
    meaning: str
    units: str = ""
    missing: str = "it is not finite for these maps"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a statistic may need to know of the maps.

    Parameters
    ----------
    shape : tuple of int
        Of a map.
    cell_size : float
        In `length_units`.
    field, units, length_units : str
    window : str, optional
        For maps that are not periodic.
    edges : ndarray
        Of the one-point distribution, in `units`.
    large_scale_k : float
        Up to where large-scale correlations are averaged, in 1 / `length_units`.
    """

    shape: tuple[int, ...]
    cell_size: float
    field: str = ""
    units: str = ""
    length_units: str = "Mpc"
    window: str | None = None
    edges: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(0.0, 30.5, 0.5))
    large_scale_k: float = 0.3


class Statistic:
    """Base of the statistics.

    Attributes
    ----------
    name : str
    order : int
        Its place in tables.
    numbers : mapping of str to Number
        The headline numbers that `evaluate` gives.
    curves : mapping of str to str
        The arrays that `evaluate` gives, and what they are.
    scatter : mapping of str to str
        The values a simulation that `by_simulation` gives, and what they are.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 100
    numbers: ClassVar[Mapping[str, Number]] = {}
    curves: ClassVar[Mapping[str, str]] = {}
    scatter: ClassVar[Mapping[str, str]] = {}

    def __init__(self, setting: Setting):
        self.setting = setting

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Values a map: truth (n, *shape) and generated (n, realisations, *shape), float32, to arrays (n, …)."""
        raise NotImplementedError

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Numbers and curves from the sums of `measure` over the maps of each simulation, arrays (n_sim, …).

        `sums` also holds "maps", the number of them, and "bright", whether a simulation enters the statistics of single
        simulations. What is not defined is NaN.
        """
        raise NotImplementedError

    def by_simulation(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values a simulation, arrays (n_sim, …)."""
        return {}

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Draw to `path` and return the figure's caption; ``None`` where there is nothing to draw."""
        return None


_registry: dict[str, type[Statistic]] = {}
_Class = TypeVar("_Class", bound=type[Statistic])


def statistic(name: str) -> Any:
    """Class decorator: register a statistic under `name`."""

    def register(cls: _Class) -> _Class:
        cls.name = name
        _registry[name] = cls
        return cls

    return register


def statistics() -> list[type[Statistic]]:
    """All statistics, in the order of tables.

    Examples
    --------
    >>> [cls.name for cls in statistics()]
    ['power_spectrum', 'correlation', 'one_point', 'mean']
    """
    import higan.validation

    for module in pkgutil.iter_modules(higan.validation.__path__):
        importlib.import_module(f"higan.validation.{module.name}")
    return sorted(_registry.values(), key=lambda cls: cls.order)


def ratio(a: Any, b: Any) -> np.ndarray:
    """a / b, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64)
    return np.where(np.isfinite(quotient), quotient, np.nan)


def average(values: Any, axis: Any = None) -> Any:
    """Mean of the values that are not NaN; NaN without a warning where there are none."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    mean = ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))
    return float(mean) if mean.ndim == 0 else mean
