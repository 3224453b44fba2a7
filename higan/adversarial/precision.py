"""What networks are trained in: bfloat16 where it is asked for and the machine computes in it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

CPU = Path("/proc/cpuinfo")
NATIVE = {"amx_bf16", "avx512_bf16", "bf16"}  # flags of x86, the last of Arm


class EmulatedPrecisionWarning(UserWarning):
    """A training is in float32, as the machine would emulate what was asked for."""


def precision_here(asked: str, backend: Any) -> str:
    """The Keras dtype policy to train with, "float32" in place of "mixed_bfloat16" on CPUs that emulate bfloat16.

    Emulated it took more than six times as long (boxes, AMD Zen 3); what is trained is the same but for rounding.

    Parameters
    ----------
    asked : {"float32", "mixed_bfloat16"}
    backend : module
        Of the active Keras backend's own ways (:func:`higan.adversarial.step.load_backend`).

    Examples
    --------
    >>> from higan.adversarial.step import load_backend
    >>> precision_here("float32", load_backend())
    'float32'
    """
    if asked == "float32" or backend.accelerated() or NATIVE & _flags():
        return asked
    warnings.warn(
        "this CPU has no bfloat16 and would emulate it slowly: training in float32.",
        EmulatedPrecisionWarning,
        stacklevel=3,
    )
    return "float32"


def _flags() -> set[str]:
    """What the first CPU says that it can do; nothing where there is no telling."""
    try:
        found = re.search(r"^(flags|Features)\s*:(.*)$", CPU.read_text(), flags=re.MULTILINE)
    except OSError:
        return set()
    return set(found[2].split()) if found else set()
