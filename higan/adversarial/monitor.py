"""What is watched while training: the averaged generator on fixed validation maps, one realisation each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import OutputError
from higan.mapset import MapSet
from higan.painting.painter import Painter
from higan.painting.regions import batch_of, paint_maps
from higan.validation.one_point import spans_decades
from higan.validation.power_spectrum import log_power, power_spectrum


@dataclasses.dataclass(frozen=True)
class Result:
    """Scalars by name, and what the figure shows: k, R(k) and a few generated maps."""

    scalars: dict[str, float]
    k: np.ndarray
    R: np.ndarray
    examples: np.ndarray


class Monitor:
    """Paint the validation maps with the averaged generator and compare with the truth.

    Parameters
    ----------
    maps : MapSet
    simulations : array of int
        Those to validate on.
    per_simulation : int
        Maps of each, evenly spread.
    painter : Painter
        Holds the averaged weights when the monitor is called.
    seed : int
        Of the noise; the same at every tick.
    """

    def __init__(self, maps: MapSet, simulations: np.ndarray, per_simulation: int, painter: Painter, seed: int):
        self.maps, self.painter, self.seed = maps, painter, seed
        self.rows = np.concatenate([spread(maps.rows_of(s), per_simulation) for s in simulations])
        self.output = painter.card.outputs[0].field
        truth = maps.read(self.output, self.rows)
        _, self._power = power_spectrum(truth, maps.cell_size, maps.geometry.window)
        # Fixed edges for the one-point distribution: 100 steps, equal or by equal factors, over the truth's range, and
        # one just above its least value, which many cells may share (empty ones).
        low, high = float(truth.min()), float(truth.max())
        self.logarithmic = spans_decades(low, high)
        steps = (np.geomspace if self.logarithmic else np.linspace)(low, high, 101, dtype=np.float32)
        self._edges = np.insert(steps, 1, np.nextafter(steps[0], np.float32(np.inf)))
        self._counts = self._histogram(truth)
        self._log_power: Any = self._power_of_logarithm(truth) if self.logarithmic else None
        self._examples = spread(np.arange(len(self.rows)), 3)

    def __call__(self) -> Result:
        """Validation statistics: R(k), D, the error of each simulation's mean, the error cell by cell."""
        power, squares, n = [], 0.0, 0
        log_power: Any = 0.0
        counts = np.zeros_like(self._counts)
        examples: dict[int, np.ndarray] = {}
        offsets: dict[int, list[float]] = {}
        for start, rows, outputs in painted_batches(self.painter, self.maps, self.rows, self.seed):
            painted = outputs[..., 0]
            truth = self.maps.read(self.output, rows)
            k, P = power_spectrum(painted, self.maps.cell_size, self.maps.geometry.window)
            power.append(P)
            if self.logarithmic:
                log_power = log_power + self._power_of_logarithm(painted)
            counts += self._histogram(painted)
            squares += float(np.sum((painted - truth) ** 2, dtype=np.float64))
            n += truth.size
            axes = tuple(range(1, painted.ndim))
            for row, offset in zip(rows, (painted - truth).mean(axis=axes, dtype=np.float64), strict=True):
                offsets.setdefault(int(self.maps.simulation[row]), []).append(float(offset))
            examples.update({i: painted[i - start] for i in self._examples if start <= i < start + len(rows)})
        R = np.concatenate(power).sum(axis=0) / self._power.sum(axis=0)
        scalars = {
            "mean_abs_R_minus_1": float(np.abs(R - 1).mean()),
            "max_abs_R_minus_1": float(np.abs(R - 1).max()),
            "R_largest_k": float(R[-1]),
            "D": float(np.abs(np.cumsum(counts - self._counts)).max() / n),
            "mean_error_rms": float(np.sqrt(np.mean([np.mean(o) ** 2 for o in offsets.values()]))),
            "rmse": float(np.sqrt(squares / n)),
        }
        if self.logarithmic:
            scalars["mean_abs_R_minus_1_log"] = float(np.abs(log_power / self._log_power - 1).mean())
        return Result(scalars, k, R, np.stack([examples[i] for i in self._examples]))

    def _power_of_logarithm(self, maps: np.ndarray) -> np.ndarray:
        """Summed over maps."""
        return log_power(maps, self._edges[0], self.maps.cell_size, self.maps.geometry.window).sum(axis=0)

    def _histogram(self, values: np.ndarray) -> np.ndarray:
        """Counts at the fixed edges; what lies beyond them counts in the outermost bins."""
        return np.histogram(np.clip(values, self._edges[0], self._edges[-1]), self._edges)[0]

    def figure(self, result: Result, path: Path, title: str) -> Path:
        """A picture of a few maps beside the truth and R(k)."""
        from higan.validation.plots import maps_and_ratio

        rows, card, geometry = self.rows[self._examples], self.painter.card, self.maps.geometry
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            maps_and_ratio(
                self.maps.read(card.inputs[0].field, rows) if card.inputs else None,
                self.maps.read(self.output, rows),
                result.examples,
                result.k,
                result.R,
                path,
                units=card.outputs[0].units,
                input_units=card.inputs[0].units if card.inputs else "",
                length_units=geometry.length_units,
                side=self.maps.cell_size * self.maps.shape[0],
                title=title,
            )
        except OSError as error:
            path.unlink(missing_ok=True)
            raise OutputError(
                f"{path} cannot be written ({error.strerror or error}). The last state is kept: make room, and start "
                "again."
            ) from error
        return path


def painted_batches(
    painter: Painter, maps: MapSet, rows: np.ndarray, seed: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """One realisation of each of `rows`: where a batch starts, its rows and (batch, *shape, n_outputs)."""
    size = batch_of(maps.shape)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield (
            start,
            batch,
            paint_maps(
                painter,
                painter.read_inputs(maps, batch),
                maps.parameters[maps.simulation[batch]],
                seed=seed,
                rows=batch,
                periodic=maps.geometry.periodic,
            ),
        )


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of `rows`, evenly spread (all of them where there are fewer)."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
