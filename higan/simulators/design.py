"""Designs: which parameters and seeds a set of simulations is run with.

As in CAMELS (Villaescusa-Navarro et al. 2021, ApJ 915, 71, section 3) there are three sets: one that fills
the parameter space, ``lh``; one at the fiducial parameters with many seeds, ``cv`` (cosmic variance); and one
that varies one parameter at a time at one seed, ``1p`` (responses). A fourth, ``new``, goes on from the first with
parameters and seeds that none of it has: for a last test of what was trained and chosen on ``lh``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from higan.errors import HiganError
from higan.mapset import Parameter

SETS = {
    "lh": "fills the parameter space",
    "new": "other points of it, for a last test",
    "cv": "fiducial parameters, many seeds",
    "1p": "one parameter at a time, one seed",
}
STEPS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
"""Values of a one-parameter set, in half-widths of the parameter's range around its fiducial value."""


@dataclasses.dataclass(frozen=True)
class Design:
    """The simulations of a set, in order.

    Parameters
    ----------
    parameters : array, shape (n_sim, n_par)
    seeds : array of int, shape (n_sim,)
    split : array of str, shape (n_sim,)
        "train", "validation" or "test".
    """

    parameters: np.ndarray
    seeds: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    def select(self, rows: Sequence[int] | np.ndarray) -> Design:
        """The simulations `rows`, in that order.

        Raises
        ------
        HiganError
            If there are none, or a row is not in the design.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if not len(rows):
            raise HiganError("No simulations are chosen. Choose at least one.")
        if rows.min() < 0 or rows.max() >= len(self):
            raise HiganError(
                f"Simulations {rows.min()} to {rows.max()} are asked for, but the set has {len(self)} (0 to "
                f"{len(self) - 1}). Choose among these."
            )
        return Design(self.parameters[rows], self.seeds[rows], self.split[rows])


def design_of(
    set: str, parameters: Sequence[Parameter], splits: Sequence[tuple[str, int]], first_seed: int, n: int | None = None
) -> Design:
    """The simulations of one of the sets.

    Parameters
    ----------
    set : {"lh", "new", "cv", "1p"}
    parameters : sequence of Parameter
    splits : sequence of (str, int)
        Of "lh": names and numbers of simulations.
    first_seed : int
    n : int, optional
        Simulations of "cv", 27 where not given; of "new", 24.
    """
    if set == "lh":
        return sobol(parameters, splits, first_seed)
    if set == "new":
        known = _power_of_two(sum(count for _, count in splits))
        return sobol(parameters, [("test", 24 if n is None else n)], first_seed, after=known)
    if set == "cv":
        return cosmic_variance(parameters, 27 if n is None else n, first_seed)
    return one_parameter(parameters, first_seed)


def fiducial(parameters: Sequence[Parameter]) -> np.ndarray:
    """The middle of each parameter's range, shape (n_par,)."""
    # Rounded: (-1.7 - 1.1) / 2 is -1.4000000000000001 in floating point, and a seed's universe depends on
    # every bit.
    return np.array([round((item.lower + item.upper) / 2, 12) for item in parameters])


def sobol(
    parameters: Sequence[Parameter],
    splits: Sequence[tuple[str, int]],
    first_seed: int,
    *,
    after: int = 0,
    scramble_seed: int = 1,
) -> Design:
    """Fill the parameter space with a scrambled Sobol sequence.

    Parameters
    ----------
    parameters : sequence of Parameter
    splits : sequence of (str, int)
        Names of the splits and their number of simulations, in order.
    first_seed : int
        Simulation i has seed ``first_seed + i``.
    after : int
        Points of the sequence that are passed over.
    scramble_seed : int

    Examples
    --------
    >>> sobol([Parameter("SIGMA_8", "", 0.7, 0.9)], [("train", 3), ("test", 1)], 100).seeds
    array([100, 101, 102, 103])
    """
    from scipy.stats import qmc

    names, counts = zip(*splits, strict=True)
    n = sum(counts)
    # A power of two keeps the sequence balanced.
    drawn = qmc.Sobol(len(parameters), scramble=True, seed=scramble_seed).random(_power_of_two(after + n))
    points = drawn[after : after + n]
    theta = qmc.scale(points, [item.lower for item in parameters], [item.upper for item in parameters])
    return Design(theta, first_seed + np.arange(n), np.repeat(names, counts))


def _power_of_two(n: int) -> int:
    """The least that is no less than `n`."""
    return 1 << (n - 1).bit_length()


def cosmic_variance(parameters: Sequence[Parameter], n: int, first_seed: int) -> Design:
    """`n` simulations at the fiducial parameters, each with its own seed; all of them for testing."""
    return Design(np.tile(fiducial(parameters), (n, 1)), first_seed + np.arange(n), np.repeat("test", n))


def one_parameter(parameters: Sequence[Parameter], seed: int, steps: Sequence[float] = STEPS) -> Design:
    """The fiducial simulation, then each parameter in turn over its range: one seed, all for testing.

    Row 0 is fiducial; row ``1 + len(steps) * p + s`` has parameter p at fiducial + ``steps[s]`` × half its
    range, the others fiducial. The inner steps are for derivatives (central differences), the outer ones show
    how far they hold.

    Examples
    --------
    >>> design = one_parameter([Parameter("SIGMA_8", "", 0.7, 0.9)], seed=1, steps=(-1, 1))
    >>> design.parameters.ravel().round(6).tolist()
    [0.8, 0.7, 0.9]
    """
    middle = fiducial(parameters)
    rows = [middle]
    for column, item in enumerate(parameters):
        for step in steps:
            row = middle.copy()
            row[column] = round(middle[column] + step * (item.upper - item.lower) / 2, 12)
            rows.append(row)
    return Design(np.array(rows), np.full(len(rows), seed), np.repeat("test", len(rows)))
