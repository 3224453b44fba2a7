"""Memory of a training on a CPU: what a step frees the next one needs again."""

from __future__ import annotations

import ctypes

# Of glibc's mallopt (malloc.h): blocks from which on each is mapped for itself, free memory at the top from which on it
# is given back, and what is asked for beyond what is needed.
SETTINGS = {-3: 1 << 30, -1: (1 << 31) - 1, -2: 1 << 28}


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, where it is glibc; whether it does.

    It would give the memory of large arrays back to the kernel step by step, which empties every page anew before the
    next step has it: that was half of the time of some trainings.

    Examples
    --------
    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(setting, value) for setting, value in SETTINGS.items()])
