"""Memory of a training on a CPU: what a step frees the next one needs again."""

from __future__ import annotations

import ctypes

# Of glibc's mallopt (malloc.h): the size from which on a block is mapped for itself, of which older versions take 32
# MiB at most; never to give back free memory at the top; and what is asked for beyond what is needed.
MAPPED, LARGEST = -3, ((1 << 31) - 1, 1 << 25)
OTHERS = {-1: -1, -2: 1 << 28}


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, where it is glibc; whether it does.

    It would give the memory of large arrays back to the kernel step by step, which empties every page anew before the
    next step has it: that was half of the time of some trainings. Threads other than the first have heaps of 64 MiB,
    and map what is larger all the same.

    Examples
    --------
    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # The others alone would fix the first at its lowest.
    if not any(mallopt(MAPPED, size) for size in LARGEST):
        return False
    return all([mallopt(setting, value) for setting, value in OTHERS.items()])
