"""What a comparison found: numbers with errors, curves, and their forms as a table and as metrics.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.models import Model
from higan.validation.statistic import Number, Setting, ratio, statistics

if TYPE_CHECKING:
    from rich.table import Table

FORMAT, FORMAT_VERSION = "higan-metrics", 1
TOLERANCE = 0.05  # of a bin's true value, or of the largest of its curve


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """What one model has in each statistic.

    Parameters
    ----------
    numbers : dict of str to (float, float)
        Headline numbers with their bootstrap errors; NaN where not defined.
    curves, curve_errors : dict of str to ndarray
    difference_errors : dict of str to ndarray
        Of a curve "x" less "x_truth", wherever there are both: smaller than either's own error, as both are of the same
        simulations.
    by_simulation : dict of str to ndarray, shape (n_sim, …)
    examples : ndarray, shape (examples, *shape)
        First realisation of the example maps.
    model : Model
    """

    numbers: dict[str, tuple[float, float]]
    curves: dict[str, np.ndarray]
    curve_errors: dict[str, np.ndarray]
    difference_errors: dict[str, np.ndarray]
    by_simulation: dict[str, np.ndarray]
    examples: np.ndarray
    model: Model


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models beside the truth; made by :func:`higan.validation.comparison.compare`.

    Parameters
    ----------
    setting : Setting
    models : dict of str to ModelResult
        In the order of tables: models, then baselines.
    simulations : ndarray of int, shape (n_sim,)
        Their rows of /parameters.
    bright : ndarray of bool, shape (n_sim,)
        Whether a simulation enters R_s and r_s.
    maps : int
        Number of true maps.
    seed, resamples : int
        Of the bootstrap.
    examples : dict of str to ndarray
        "input" (where there is one), "truth", and "simulation" of the maps that figures show.
    truth : dict
        Facts of the true map set.
    versions : dict
        Of the libraries.
    checks : dict
        What :func:`higan.validation.checks.check_models` found, where it was asked.
    """

    setting: Setting
    models: dict[str, ModelResult]
    simulations: np.ndarray
    bright: np.ndarray
    maps: int
    seed: int
    resamples: int
    examples: dict[str, np.ndarray]
    truth: dict[str, Any]
    versions: dict[str, str]
    checks: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def definitions(self) -> dict[str, Number]:
        """What every headline number is, in the order of tables."""
        return {key: number for cls in statistics(self.setting.kind) for key, number in cls.numbers.items()}

    def units(self, number: Number) -> str:
        """The unit of a number for this field; "%" is the caller's to apply."""
        if "{units}" in number.units and not self.setting.units:
            return ""
        return number.units.format(units=self.setting.units, length=self.setting.length_units)

    def value(self, model: str, key: str) -> tuple[float, float]:
        """A headline number of a model and its bootstrap error; NaN where not defined."""
        return self.models[model].numbers[key]

    def agreement(self, model: str) -> dict[str, dict[str, int]]:
        """How many bins of each curve of a model agree with the truth.

        By curve: "bins", how many of them have a true value and an error; "within", of these, how many are off by at
        most 5 % or two standard errors, whichever is more; "known", how many standard errors are at most 5 %. Errors
        are those of the difference, percentages as `bins` of the statistic says (:class:`Statistic`).
        """
        result, found = self.models[model], {}
        for cls in statistics(self.setting.kind):
            for name, over in cls.bins.items():
                truth, error = result.curves[f"{name}_truth"], result.difference_errors[name]
                size = np.abs(truth)
                if over == "largest":
                    size = size.max(axis=-1, keepdims=True, initial=0.0)
                off, error = ratio(np.abs(result.curves[name] - truth), size), ratio(error, size)
                # Where all simulations agree there is no error.
                judged = np.isfinite(off) & (np.isfinite(error) | (off == 0))
                if np.isfinite(error[judged]).any():
                    error = np.nan_to_num(error[judged])
                    within, known = off[judged] <= np.maximum(TOLERANCE, 2 * error), error <= TOLERANCE
                    found[name] = {"bins": int(judged.sum()), "within": int(within.sum()), "known": int(known.sum())}
        return found

    def to_dict(self) -> dict[str, Any]:
        """The content of metrics.json: only str, bool, int, float, null, and lists and mappings of these.

        ================== ============================================================================================
        key                meaning
        ================== ============================================================================================
        format             "higan-metrics"
        format_version     1
        field              the field compared
        units              of the field
        length_units       of cells; k is in their inverse, P in units^2 length_units^ndim
        cell_size          side of a cell
        shape              cells of a map along each axis
        window             null, or the window that multiplies maps that are not periodic
        large_scale_k      "large scales" are k up to this
        maps               number of true maps
        simulations        rows of the truth's /parameters that were compared
        bright             for each, whether it enters the statistics of single simulations (R_s, r_s); the others
                           count as faint
        bootstrap          seed and resamples of the errors
        truth              facts of the true map set
        versions           of the libraries
        checks             for every model: p-values of the ranks, recovery of parameters, memorisation; where made
        definitions        for every headline number: label, units, meaning
        curve_definitions  for every curve and value a simulation: what it is
        models             for every model: baseline, realisations, facts; numbers, each with value and error (one
                           standard deviation by bootstrap over simulations) and, where one is null, why; curves,
                           curve_errors, difference_errors (of a curve less the truth's: lists); by_simulation (lists, a
                           row a simulation); agreement (of bins, see :meth:`agreement`)
        ================== ============================================================================================

        A number that is not defined is null, never NaN. Fractions are fractions: 0.02, where tables show 2 %.
        """
        families = statistics(self.setting.kind)
        described: dict[str, str] = {}
        for cls in families:
            described |= {**cls.curves, **cls.scatter}
        setting, definitions = self.setting, self.definitions
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "field": setting.field,
            "units": setting.units,
            "length_units": setting.length_units,
            "cell_size": float(setting.cell_size),
            "shape": list(setting.shape),
            "window": setting.window,
            "large_scale_k": float(setting.large_scale_k),
            "maps": self.maps,
            "simulations": plain(self.simulations),
            "bright": plain(self.bright),
            "bootstrap": {"seed": self.seed, "resamples": self.resamples},
            "truth": plain(self.truth),
            "versions": dict(self.versions),
            "checks": self.checks,
            "definitions": {
                key: {
                    "label": number.label,
                    "units": "" if number.units == "%" else self.units(number),
                    "meaning": number.meaning,
                }
                for key, number in definitions.items()
            },
            "curve_definitions": described,
            "models": {
                name: {
                    "baseline": result.model.baseline,
                    "realisations": result.model.realisations,
                    "facts": plain(dict(result.model.facts)),
                    "numbers": {
                        key: self._number(value, error, definitions[key])
                        for key, (value, error) in result.numbers.items()
                    },
                    "curves": plain(result.curves),
                    "curve_errors": plain(result.curve_errors),
                    "difference_errors": plain(result.difference_errors),
                    "by_simulation": plain(result.by_simulation),
                    "agreement": self.agreement(name),
                }
                for name, result in self.models.items()
            },
        }

    @staticmethod
    def _number(value: float, error: float, number: Number) -> dict[str, Any]:
        entry = {"value": plain(value), "error": plain(error)}
        if entry["value"] is None:
            entry["why"] = number.missing
        elif entry["error"] is None:
            entry["why"] = "it does not vary among resamples of the simulations"
        return entry

    def rows(self, models: Sequence[str] | None = None) -> list[tuple[str, list[tuple[str, str]]]]:
        """The table as text, a line a number that any of `models` has: its heading, and a value and error for each."""
        lines = []
        for key, number in self.definitions.items():
            scale = 100 if number.units == "%" else 1
            pairs = [self.value(name, key) for name in models or self.models]
            cells = [written(scale * value, scale * error) for value, error in pairs]
            if any(value for value, _ in cells):
                units = self.units(number)
                lines.append((f"{number.label} [{units}]" if units else number.label, cells))
        return lines

    def table(self, models: Sequence[str] | None = None) -> Table:
        """The headline numbers for the terminal: a line a number, a column for each of `models` (all by default)."""
        from rich.table import Table
        from rich.text import Text

        table = Table()
        table.add_column(f"{self.setting.field}, {self.maps} maps")
        for name in models or self.models:
            table.add_column(name, justify="right")
        for label, cells in self.rows(models):
            # Text: rich would take a unit in brackets for markup.
            table.add_row(Text(label), *(f"{value} ± {error}" if error else value or "–" for value, error in cells))
        return table

    def show(self) -> None:
        """Print the headline numbers; where all models do not fit side by side, in several tables."""
        from rich.console import Console
        from rich.measure import Measurement

        console = Console()
        group: list[str] = []
        for name in self.models:
            wide = Measurement.get(console, console.options.update(width=10_000), self.table([*group, name])).maximum
            if group and wide > console.width:
                console.print(self.table(group))
                group = []
            group.append(name)
        console.print(self.table(group))
        console.print("± is one standard deviation by bootstrap over simulations")


def plain(value: Any) -> Any:
    """Numbers, arrays, mappings and sequences as JSON takes them; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def written(value: float, error: float) -> tuple[str, str]:
    """A value and its error as text, to two digits of the error; "" where not defined.

    Examples
    --------
    >>> written(2.3456, 0.123), written(0.98765, np.nan), written(np.nan, np.nan)
    (('2.35', '0.12'), ('0.988', ''), ('', ''))
    """
    if not np.isfinite(value):
        return "", ""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.3g}", ""
    digits = min(max(1 - int(np.floor(np.log10(error))), 0), 6)
    return f"{value:.{digits}f}", f"{error:.{digits}f}"
