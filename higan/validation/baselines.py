"""Baselines: what simple methods, fitted on the same training simulations, make of the input.

A generator has to beat these. Each is fitted simulation by simulation, and its coefficients are interpolated in the
parameters by quadratic polynomials of the parameters scaled to [-1, 1] (linear, or constant, where there are too few
simulations).

linear_transfer
    y = <y> + T * (x - <x>) with T(k) = P_xy / P_xx: the best linear prediction (a Wiener filter). It loses the power
    that the input does not predict. Not clipped at physical bounds: it stays linear.
amplitude_transfer
    The same with |T(k)| = sqrt(P_yy / P_xx) and the sign of P_xy: right power, wrong phases. Not clipped.
local_remap
    y = F_y^-1(F_x(x)) cell by cell, or F_y^-1(1 - F_x(x)) where x and y are anticorrelated: right one-point
    distribution (as far as quadratics in the parameters follow it), no memory of neighbours. Clipped at the bounds.
log_normal
    A log-normal field with the right mean and P(k) but random phases (Coles & Jones 1991, MNRAS 248, 1): right power,
    no relation with the input. Above zero by construction.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.fft

from higan import hdf5
from higan.checkpoint import replace_hdf5
from higan.errors import CheckpointError, MapSetError, OutputError, ParameterError
from higan.mapset import MapSet, first_line
from higan.mapset_writer import check_output
from higan.progress import progress
from higan.split import training_rows
from higan.validation.power_spectrum import spectra, wavenumbers
from higan.validation.statistic import ratio

FORMAT, FORMAT_VERSION = "higan-baselines", 1
COEFFICIENTS = (
    "transfer",
    "amplitude",
    "power",
    "mean",
    "input_mean",
    "correlation",
    "input_quantiles",
    "output_quantiles",
)
FIT_CELLS = 1 << 20  # of a simulation: quantiles and spectra need no more

# Finer towards the ends, where distributions have tails.
QUANTILES = 0.5 * (1 - np.cos(np.pi * np.linspace(0, 1, 65)))


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Baselines fitted by :meth:`fit`; small enough to lie beside a checkpoint.

    Parameters
    ----------
    input, output : str
        Fields.
    parameter_names : tuple of str
    lower, upper : ndarray, shape (n_par,)
        The range that is scaled to [-1, 1].
    k : ndarray, shape (nk,)
        In 1 / `length_units`.
    cell_size : float
    length_units : str
    floor : float
        Physical lower bound of the output, -inf for none.
    simulations : int
        That it was fitted on.
    coefficients : dict of str to ndarray, shape (n_terms, m)
        Of the polynomials for: transfer, amplitude and power (m = nk; power is the square root of P_yy), mean,
        input_mean and correlation (m = 1), input_quantiles and output_quantiles.

    Examples
    --------
    >>> from higan.mapset import Field, Geometry
    >>> x = np.random.default_rng(1).normal(size=(4, 16, 16)).astype("float32")
    >>> fields = {"density": Field(x), "T": Field(3 * x + 1, "mK")}
    >>> maps = MapSet(fields, np.zeros((2, 0)), [], [0, 0, 1, 1], Geometry(ndim=2, box_size=32.0))
    >>> baselines = Baselines.fit(maps, "density", "T")
    >>> bool(np.allclose(baselines.paint("linear_transfer", x, np.zeros((4, 0))), 3 * x + 1, atol=1e-4))
    True
    """

    input: str
    output: str
    parameter_names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    k: np.ndarray
    cell_size: float
    length_units: str
    floor: float
    simulations: int
    coefficients: dict[str, np.ndarray]

    @classmethod
    def fit(cls, maps: MapSet, input: str, output: str, rows: Any = None, *, floor: float | None = None) -> Baselines:
        """Fit all baselines on training maps.

        Parameters
        ----------
        maps : MapSet
        input, output : str
            Fields of `maps`.
        rows : array_like of int, optional
            Rows of the training simulations: those whose /split is "train" where not given, all where there is no
            split.
        floor : float, optional
            Lower bound of the output; 0 where not given and no training value is below it.

        Raises
        ------
        MapSetError
            If a field is missing or there are no rows.
        """
        rows = training_rows(maps) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(rows) == 0:
            raise MapSetError(f"{maps.name} has no training simulations to fit baselines on. Give a set that has some.")
        simulations = np.unique(maps.simulation[rows])
        measured: dict[str, list[Any]] = {}
        k = np.empty(0)
        with progress("fitting baselines", len(simulations), unit="simulations") as advance:
            for simulation in simulations:
                own = rows[maps.simulation[rows] == simulation]
                most = max(1, FIT_CELLS // int(np.prod(maps.shape)))
                own = own[np.linspace(0, len(own) - 1, min(len(own), most)).round().astype(int)]
                k, values = _measure(
                    maps.read(input, own), maps.read(output, own), maps.cell_size, maps.geometry.window
                )
                for name, value in values.items():
                    measured.setdefault(name, []).append(np.atleast_1d(value))
                advance()
        theta = maps.parameters[simulations]
        lower, upper = theta.min(axis=0), theta.max(axis=0)
        design = _design(_scaled(theta, lower, upper), _degree(len(simulations), theta.shape[1]))
        coefficients = {
            name: np.linalg.lstsq(design, np.nan_to_num(np.stack(values)), rcond=None)[0]
            for name, values in measured.items()
        }
        if floor is None:
            floor = 0.0 if min(float(values[0]) for values in measured["output_quantiles"]) >= 0 else -np.inf
        return cls(
            input,
            output,
            tuple(maps.parameter_names),
            lower,
            upper,
            k,
            maps.cell_size,
            maps.geometry.length_units,
            float(floor),
            len(simulations),
            coefficients,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names that :meth:`paint` takes."""
        return tuple(_METHODS)

    def describe(self, name: str) -> str:
        """One line on a baseline."""
        return (_METHODS[name].__doc__ or "").strip()

    def paint(self, name: str, inputs: Any, parameters: Any, *, seed: int = 0, rows: Any = None) -> np.ndarray:
        """Maps of one baseline.

        Parameters
        ----------
        name : str
            One of :attr:`names`.
        inputs : array_like, shape (n, *shape)
            Maps of the input field with the cell size of the fit; any shape.
        parameters : array_like (n, n_par), or mapping of str to array (n,)
        seed : int
            Of the random phases of "log_normal".
        rows : array_like of int, shape (n,), optional
            Global numbers of the maps, 0 … n - 1 where not given: each has its own phases.

        Returns
        -------
        ndarray of float32, shape (n, *shape)

        Raises
        ------
        ParameterError
            If there is no such baseline, or the parameters do not fit.
        """
        if name not in _METHODS:
            raise ParameterError(f"There is no baseline {name!r}: choose one of {', '.join(_METHODS)}.")
        inputs = np.asarray(inputs, dtype=np.float64)
        if isinstance(parameters, dict):
            missing = [p for p in self.parameter_names if p not in parameters]
            if missing:
                raise ParameterError(f"parameter {missing[0]} is missing: it takes {', '.join(self.parameter_names)}.")
            columns = [np.broadcast_to(parameters[p], (len(inputs),)) for p in self.parameter_names]
            parameters = np.stack(columns, axis=1) if columns else np.empty((len(inputs), 0))
        theta = np.asarray(parameters, dtype=np.float64)
        if theta.shape != (len(inputs), len(self.parameter_names)):
            raise ParameterError(
                f"parameters have shape {theta.shape}; {len(inputs)} maps need "
                f"({len(inputs)}, {len(self.parameter_names)})."
            )
        numbers = np.arange(len(inputs)) if rows is None else np.asarray(rows)
        painted = np.empty(inputs.shape, dtype=np.float32)
        for at, coefficients in self._by_parameters(theta):
            painted[at] = _METHODS[name](self, inputs[at], coefficients, [(seed, int(row)) for row in numbers[at]])
        return painted

    def check(self, maps: MapSet) -> None:
        """Refuse a map set that lacks the input or a parameter, or whose cells differ from those of the fit."""
        maps.field(self.input)
        for name in self.parameter_names:
            if name not in maps.parameter_names:
                raise ParameterError(f"{maps.name} has no parameter {name}, which the baselines were fitted with.")
        if maps.geometry.length_units != self.length_units or abs(maps.cell_size / self.cell_size - 1) > 1e-3:
            raise MapSetError(
                f"{maps.name} has cells of {maps.cell_size:g} {maps.geometry.length_units}, but the baselines were "
                f"fitted on cells of {self.cell_size:g} {self.length_units}. Fit them on such maps."
            )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write to a small HDF5 file, which appears whole or not at all; OutputError where it cannot."""
        path = Path(path)
        check_output(path, overwrite)
        arrays = {f"coefficients/{name}": array for name, array in self.coefficients.items()}
        attributes: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "parameter_names":
                attributes[item.name] = np.array(value, dtype=h5py.string_dtype())
            elif isinstance(value, np.ndarray):
                arrays[item.name] = value
            elif item.name != "coefficients":
                attributes[item.name] = value
        try:
            replace_hdf5(path, arrays, attributes)
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error}). Make room, or choose another place.") from error
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Baselines:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged or too new.
        """
        try:
            with hdf5.open_file(Path(path)) as file:
                attrs = dict(file.attrs)
                if attrs.get("format") != FORMAT or int(attrs.get("format_version", 0)) > FORMAT_VERSION:
                    raise CheckpointError(
                        f"{path} is not a file of baselines that this version of higan reads. Fit them again."
                    )
                found = cls(
                    str(attrs["input"]),
                    str(attrs["output"]),
                    tuple(str(name) for name in attrs["parameter_names"]),
                    hdf5.read(file, "lower"),
                    hdf5.read(file, "upper"),
                    hdf5.read(file, "k"),
                    float(attrs["cell_size"]),
                    str(attrs["length_units"]),
                    float(attrs["floor"]),
                    int(attrs["simulations"]),
                    {name: hdf5.read(file, f"coefficients/{name}") for name in COEFFICIENTS},
                )
                found._check_shapes()
                return found
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read as baselines ({first_line(error)}). Fit them again."
            ) from error

    def _check_shapes(self) -> None:
        """A ValueError where the arrays do not belong together."""
        n = len(self.parameter_names)
        terms = math.comb(n + _degree(self.simulations, n), n)
        found: dict[str, tuple[np.ndarray, tuple[int, ...]]]
        found = {"lower": (self.lower, (n,)), "upper": (self.upper, (n,)), "k": (self.k, (len(self.k),))}
        for name, array in self.coefficients.items():
            by_scale = name in ("transfer", "amplitude", "power")
            columns = len(self.k) if by_scale else len(QUANTILES) if name.endswith("quantiles") else 1
            found[name] = (array, (terms, columns))
        for name, (array, shape) in found.items():
            if array.shape != shape or array.dtype.char not in "efd" or not np.isfinite(array).all():
                raise ValueError(f"{name!r} of shape {array.shape} and type {array.dtype} is no {shape} finite numbers")
        if not (len(self.k) and (np.diff(self.k) > 0).all() and 0 < self.cell_size < np.inf):
            raise ValueError("its wavenumbers or cells are none")

    def _by_parameters(self, theta: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Indices of the maps of each distinct parameter vector, with what the polynomials give there."""
        distinct, index = np.unique(theta, axis=0, return_inverse=True)
        degree = _degree(self.simulations, theta.shape[1])
        design = _design(_scaled(distinct, self.lower, self.upper), degree)
        for i, terms in enumerate(design):
            values = {name: terms @ coefficients for name, coefficients in self.coefficients.items()}
            yield np.flatnonzero(index.reshape(-1) == i), values

    def _filtered(self, x: np.ndarray, transfer: np.ndarray, at: dict[str, np.ndarray]) -> np.ndarray:
        """<y> + transfer(k) (x - <x>)_k; beyond the bins, and for a map's own mean, it keeps its end values."""
        axes = tuple(range(1, x.ndim))
        x_k = scipy.fft.rfftn(x - at["input_mean"][0], axes=axes)
        x_k *= np.interp(wavenumbers(x.shape[1:], self.cell_size), self.k, transfer)
        return at["mean"][0] + scipy.fft.irfftn(x_k, x.shape[1:], axes=axes)

    def _linear_transfer(self, x: np.ndarray, at: dict[str, np.ndarray], seeds: list[Any]) -> np.ndarray:
        """Linear transfer of the input, P_xy / P_xx."""
        return self._filtered(x, at["transfer"], at)

    def _amplitude_transfer(self, x: np.ndarray, at: dict[str, np.ndarray], seeds: list[Any]) -> np.ndarray:
        """Linear transfer of the right power, sqrt(P_yy / P_xx) with the sign of P_xy."""
        signed = np.where(at["transfer"] < 0, -1.0, 1.0) * np.maximum(at["amplitude"], 0)
        return self._filtered(x, signed, at)

    def _local_remap(self, x: np.ndarray, at: dict[str, np.ndarray], seeds: list[Any]) -> np.ndarray:
        """Local remap of the input to the right one-point distribution."""
        values = np.maximum.accumulate(at["output_quantiles"])
        # Quantiles that coincide would leave the rank undefined.
        edges = np.maximum.accumulate(at["input_quantiles"]) + 1e-9 * np.ptp(at["input_quantiles"]) * QUANTILES
        rank = np.interp(x, edges, QUANTILES)
        if at["correlation"][0] < 0:
            rank = 1 - rank
        return np.maximum(np.interp(rank, QUANTILES, values), self.floor)

    def _log_normal(self, x: np.ndarray, at: dict[str, np.ndarray], seeds: list[Any]) -> np.ndarray:
        """Log-normal field of the right mean and power with random phases."""
        mean, shape = float(at["mean"][0]), x.shape[1:]
        if mean <= 0:
            return np.zeros_like(x)
        power = np.interp(wavenumbers(shape, self.cell_size), self.k, np.maximum(at["power"], 0)) ** 2
        power.flat[0] = 0.0
        # xi of the contrast, then of the Gaussian field whose exponential has it: xi_G = ln(1 + xi).
        volume = self.cell_size ** len(shape)
        xi = scipy.fft.irfftn(power / (mean**2 * volume), shape)
        gaussian = np.maximum(scipy.fft.rfftn(np.log(np.maximum(1 + xi, 1e-3))).real, 0.0)
        variance = float(scipy.fft.irfftn(gaussian, shape).flat[0])
        painted = np.empty(x.shape)
        for i, seed in enumerate(seeds):
            white = scipy.fft.rfftn(np.random.default_rng(seed).normal(size=shape))
            painted[i] = mean * np.exp(scipy.fft.irfftn(white * np.sqrt(gaussian), shape) - variance / 2)
        return painted


_METHODS: dict[str, Callable[..., np.ndarray]] = {
    "linear_transfer": Baselines._linear_transfer,
    "amplitude_transfer": Baselines._amplitude_transfer,
    "local_remap": Baselines._local_remap,
    "log_normal": Baselines._log_normal,
}


def _measure(x: np.ndarray, y: np.ndarray, cell_size: float, window: str | None) -> tuple[np.ndarray, dict[str, Any]]:
    """What the polynomials are fitted to, for the maps of one simulation."""
    k, P_xx, P_yy, P_xy = spectra(x, y, cell_size, window)
    P_xx, P_yy, P_xy = P_xx.mean(axis=0), P_yy.mean(axis=0), P_xy.mean(axis=0)
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(a, b)[0, 1]
    return k, {
        "transfer": ratio(P_xy, P_xx),
        "amplitude": np.sqrt(ratio(P_yy, P_xx)),
        "power": np.sqrt(P_yy),
        "mean": b.mean(),
        "input_mean": a.mean(),
        "correlation": np.nan_to_num(correlation),
        "input_quantiles": np.quantile(a, QUANTILES),
        "output_quantiles": np.quantile(b, QUANTILES),
    }


def _scaled(theta: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    half = np.where(upper > lower, (upper - lower) / 2, 1.0)
    return (theta - (lower + upper) / 2) / half


def _degree(simulations: int, parameters: int) -> int:
    """2 where the simulations are half as many again as the terms of a quadratic, else 1, else 0."""
    terms = [math.comb(parameters + degree, degree) for degree in range(3)]
    return max(degree for degree in range(3) if degree == 0 or simulations >= 1.5 * terms[degree])


def _design(scaled: np.ndarray, degree: int) -> np.ndarray:
    """Monomials of the scaled parameters: (n, n_par) to (n, n_terms)."""
    columns = range(scaled.shape[1])
    terms = [term for d in range(degree + 1) for term in itertools.combinations_with_replacement(columns, d)]
    return np.stack([scaled[:, list(term)].prod(axis=1) for term in terms], axis=1)
