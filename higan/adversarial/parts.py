"""A batch in parts of equal size: over processes, devices, and passes of one step.

Arrays of a batch run over its maps once, or several times where there are several realisations: a part of a batch has
all realisations of its maps, and is itself such a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def part_of(batch: Mapping[str, Any], index: int, count: int) -> dict[str, Any]:
    """Part `index` of `count` of a batch of numpy arrays (or lists of them), whose "maps" run over its maps once.

    Examples
    --------
    >>> part_of({"maps": np.arange(4), "noise": [np.arange(8)]}, 1, 2)
    {'maps': array([2, 3]), 'noise': [array([2, 3, 6, 7])]}
    """
    n = len(batch["maps"])
    return each(lambda x: in_parts(x, n, count)[index], batch)


def in_parts(x: Any, n: int, count: int, ops: Any = np) -> Any:
    """An array that runs over `n` maps, some times over, in `count` parts along a new first axis.

    Examples
    --------
    >>> in_parts(np.array([1, 2, 3, 4, -1, -2, -3, -4]), 4, 2).tolist()
    [[1, 2, -1, -2], [3, 4, -3, -4]]
    """
    times, shape = x.shape[0] // n, tuple(x.shape[1:])
    x = ops.moveaxis(ops.reshape(x, (times, count, n // count, *shape)), 1, 0)
    return ops.reshape(x, (count, times * (n // count), *shape))


def of_parts(x: Any, times: int, ops: Any = np) -> Any:
    """What :func:`in_parts` made parts of: an array that runs over its maps so many `times`.

    Examples
    --------
    >>> of_parts(np.array([[1, 2, -1, -2], [3, 4, -3, -4]]), 2).tolist()
    [1, 2, 3, 4, -1, -2, -3, -4]
    """
    count, length, *shape = x.shape
    x = ops.moveaxis(ops.reshape(x, (count, times, length // times, *shape)), 1, 0)
    return ops.reshape(x, (count * length, *shape))


def each(function: Callable[[Any], Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    """`function` of every array of a batch."""
    return {
        name: [function(x) for x in values] if isinstance(values, list) else function(values)
        for name, values in batch.items()
    }
