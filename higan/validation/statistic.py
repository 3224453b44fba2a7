"""What a statistic is, and the registry of them.

A statistic compares generated maps with the truth in two stages, so that any number of maps streams through little
memory and every number gets an error: `measure` reduces a batch to a few values a map, which are summed over the maps
of each simulation (`measure_truth` does so once for what needs true maps alone); `evaluate` turns such sums, a row a
simulation, into numbers and curves, and is called again for every bootstrap resample of the simulations.

To add one, write a file in this folder with a subclass of :class:`Statistic` under the decorator :func:`statistic`; of
:class:`Summary` where it takes the same list of values of a true map as of a generated one.
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


LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
"""Shares of true cells below the levels of :class:`Setting`."""


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
    logarithmic : bool
        Whether the field spans decades (:func:`higan.validation.one_point.spans_decades`), so that its logarithm is
        looked at, too.
    levels : ndarray
        Thresholds for excursion sets and heights, in `units`: values that the shares :data:`LEVELS` of the true cells
        are below, each once.
    thickness : float, optional
        Of a slab, in `length_units`.
    redshift : float, optional
    large_scale_k : float
        Up to where large-scale correlations are averaged, in 1 / `length_units`.
    kind : str
        Of the geometry, as of :class:`higan.mapset.Geometry`.
    seen : ndarray of bool, optional
        Pixels of a sky that are not masked, (npix,).
    """

    shape: tuple[int, ...]
    cell_size: float
    field: str = ""
    units: str = ""
    length_units: str = "Mpc"
    window: str | None = None
    edges: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(0.0, 30.5, 0.5))
    logarithmic: bool = False
    levels: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(2.5, 30.0, 2.5))
    thickness: float | None = None
    redshift: float | None = None
    large_scale_k: float = 0.3
    kind: str = "box"
    seen: np.ndarray | None = None


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
    bins : mapping of str to str
        Curves, beside those of the truth, that are judged bin by bin, and what a difference is measured by: "truth",
        that of the same bin, or "largest", the largest of the curve.
    sphere : str
        Whether it is taken of maps of the sky: "no"; "pixels", of the pixels that are not masked, in any order; "only",
        of whole maps in RING order, masked pixels UNSEEN, and of these alone.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 100
    sphere: ClassVar[str] = "no"
    numbers: ClassVar[Mapping[str, Number]] = {}
    curves: ClassVar[Mapping[str, str]] = {}
    scatter: ClassVar[Mapping[str, str]] = {}
    bins: ClassVar[Mapping[str, str]] = {}

    def __init__(self, setting: Setting):
        self.setting = setting

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Values a map of the truth (n, *shape) alone, arrays (n, …): taken once, whatever the number of models."""
        return {}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Values a map: truth (n, *shape) and generated (n, realisations, *shape), float32, to arrays (n, …)."""
        raise NotImplementedError

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Numbers and curves from the sums of both `measure` over the maps of each simulation, arrays (n_sim, …).

        `sums` also holds "maps", the number of them, "bright", whether a simulation enters the statistics of single
        simulations, and "group", a number that simulations of the same parameters share. What is not defined is NaN.
        """
        raise NotImplementedError

    def by_simulation(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values a simulation, arrays (n_sim, …)."""
        return {}

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """Draw to `path` and return the figure's caption; ``None`` where there is nothing to draw."""
        return None


class Summary(Statistic):
    """Base of the statistics that take the same list of values of every map, true or generated.

    `sums` holds them as "truth" and "generated", the latter averaged over realisations.
    """

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Values of each of a batch of maps (n, *shape), float32: an array (n, …)."""
        raise NotImplementedError

    def measure_truth(self, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Values a true map."""
        return {"truth": self.summarise(truth)}

    def measure(self, truth: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
        """Values a map, averaged over realisations."""
        realisations = range(generated.shape[1])
        return {"generated": np.asarray(sum(self.summarise(generated[:, i]) for i in realisations) / len(realisations))}

    def means(self, sums: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean values of all true and all generated maps."""
        maps = sums["maps"].sum()
        return sums["truth"].sum(axis=0) / maps, sums["generated"].sum(axis=0) / maps


_registry: dict[str, type[Statistic]] = {}
_Class = TypeVar("_Class", bound=type[Statistic])


def statistic(name: str) -> Any:
    """Class decorator: register a statistic under `name`."""

    def register(cls: _Class) -> _Class:
        cls.name = name
        _registry[name] = cls
        return cls

    return register


def statistics(kind: str = "box") -> list[type[Statistic]]:
    """All statistics of maps of a kind of geometry, in the order of tables.

    Examples
    --------
    >>> [cls.name for cls in statistics()][:4]
    ['power_spectrum', 'log_power_spectrum', 'corner_power', 'correlation']
    >>> [cls.name for cls in statistics("healpix")]
    ['angular_power', 'one_point', 'mean']
    """
    import higan.validation

    for module in pkgutil.iter_modules(higan.validation.__path__):
        importlib.import_module(f"higan.validation.{module.name}")
    wanted = ("pixels", "only") if kind == "healpix" else ("no", "pixels")
    return sorted((cls for cls in _registry.values() if cls.sphere in wanted), key=lambda cls: cls.order)


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


def median(values: Any) -> float:
    """Median of the values that are not NaN; NaN without a warning where there are none.

    Examples
    --------
    >>> median([1.0, np.nan, 4.0]), median([np.nan])
    (2.5, nan)
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
