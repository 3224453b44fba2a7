"""higan: a conditional GAN for cosmological mock maps.

>>> import higan
>>> emulator = higan.load("eor21cm-2d")  # doctest: +SKIP
>>> maps = emulator.sample(density, parameters={"F_STAR10": -1.4, …}, seed=1)  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# oneDNN's kernels, which TensorFlow leaves off on x86 without AVX-512: there boxes are painted twice to five times as
# fast with them. It asks when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
__all__ = ["Emulator", "MapSet", "__version__", "load"]

if TYPE_CHECKING:
    from higan.emulator import Emulator, load
    from higan.mapset import MapSet


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Imported when asked for: `import higan` alone costs milliseconds.
    if name in ("Emulator", "load"):
        import higan.emulator

        return getattr(higan.emulator, name)
    if name == "MapSet":
        from higan.mapset import MapSet

        return MapSet
    raise AttributeError(f"module 'higan' has no attribute {name!r}")
