"""Splits by simulation: maps of one simulation share structure, so that a split by map would leak."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from higan.errors import MapSetError
from higan.mapset import SPLITS, MapSet


@dataclasses.dataclass(frozen=True)
class Split:
    """Numbers of the simulations to train on, to validate with and to test with, each ascending.

    ``mapset.rows_of(split.train)`` gives the rows of their maps.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(mapset: MapSet, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Split:
    """Split a map set by simulation.

    A set that says which simulation is for what (/split) is taken at its word; where it names training
    simulations but none for validation, a share of the training ones is set aside, drawn by `seed`. Any other
    set is drawn by `fractions` and `seed`. Only simulations with maps count.

    Parameters
    ----------
    mapset : MapSet
    fractions : (train, validation, test)
        Of the simulations; they sum to 1. Validation gets at least one simulation, and so does test if its
        fraction is not 0 and there are three.
    seed : int

    Raises
    ------
    MapSetError
        If fractions make no sense, or there are not enough simulations: one to train and one to validate.

    Examples
    --------
    >>> from higan.sources import from_arrays
    >>> maps = from_arrays({"density": np.zeros((20, 4, 4), "float32")}, simulation=np.arange(20) // 2,
    ...                    parameters={"SIGMA_8": np.linspace(0.7, 0.9, 10)})
    >>> parts = split(maps)
    >>> len(parts.train), len(parts.validation), len(parts.test), len(maps.rows_of(parts.train))
    (8, 1, 1, 16)
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (3,) or not (shares >= 0).all() or not np.isclose(shares.sum(), 1) or shares[0] == 0:
        raise MapSetError(
            f"Split fractions {tuple(fractions)} are not three shares (train, validation, test) that sum to "
            "1. Give, for instance, 0.8, 0.1, 0.1."
        )
    simulations = mapset.simulations()
    rng = np.random.default_rng(seed)
    labels = mapset.extra.get("split")
    if labels is not None:
        unknown = sorted(set(map(str, labels)) - set(SPLITS))
        if unknown:
            raise MapSetError(f"{mapset.name}: '/split' says {unknown[0]!r}. It may say {', '.join(SPLITS)}.")
        train, validation, test = (simulations[labels[simulations] == name] for name in SPLITS)
        if len(train) > 1 and not len(validation):
            order = rng.permutation(train)
            n_validation = _share(shares[1] / (shares[0] + shares[1]), len(train))
            validation, train = order[:n_validation], order[n_validation:]
    else:
        order = rng.permutation(simulations)
        n_test = _share(shares[2], len(order)) if shares[2] and len(order) > 2 else 0
        n_validation = _share(shares[1], len(order))
        test, validation, train = np.split(order, [n_test, n_test + n_validation])
    if not len(train) or not len(validation):
        raise MapSetError(
            f"{mapset.name} has not enough simulations to split: of {len(simulations)}, {len(train)} would "
            f"train and {len(validation)} validate. Give a set with at least one for each."
        )
    return Split(np.sort(train), np.sort(validation), np.sort(test))


def training_rows(mapset: MapSet) -> np.ndarray:
    """Rows of the maps of training simulations: those that /split says, all where a set has no splits.

    Examples
    --------
    >>> from higan.sources import from_arrays
    >>> training_rows(from_arrays({"density": np.zeros((3, 4, 4), "float32")}, simulation=np.arange(3)))
    array([0, 1, 2])
    """
    labels = mapset.extra.get("split")
    return np.arange(len(mapset)) if labels is None else np.flatnonzero(labels[mapset.simulation] == "train")


def _share(fraction: float, n: int) -> int:
    return max(1, round(fraction * n))
