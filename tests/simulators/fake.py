"""A simulator that takes no time, for tests of what is around simulators."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import time
from pathlib import Path

import numpy as np

from higan.mapset import Geometry, Parameter
from higan.simulators.design import cosmic_variance, one_parameter, sobol


@dataclasses.dataclass(frozen=True)
class Fake:
    """White noise; `trouble` makes the simulation with seed 102 go wrong."""

    cells: int = 4
    delay: float = 0.0
    trouble: str = ""
    log: str = ""

    name = "Fake"
    parameters = (Parameter("SIGMA_8", "", 0.7, 0.9),)
    fields = {"density": ("", "overdensity"), "brightness_temp": ("mK", "brightness temperature")}
    per_part = 1
    sets = {"lh": "space", "cv": "seeds", "1p": "responses"}

    def check(self):
        pass

    def version(self):
        return "1.0"

    def shape(self):
        return (self.cells,) * 3

    def geometry(self):
        return Geometry(ndim=3, box_size=8.0, redshift=8.0, cosmology={"h": 0.7})

    def design(self, set, seed=None, n=None):
        first = 100 if seed is None else seed
        if set == "lh":
            return sobol(self.parameters, [("train", 4), ("validation", 2), ("test", 2)], first)
        return cosmic_variance(self.parameters, n or 3, first) if set == "cv" else one_parameter(self.parameters, first)

    def run(self, parameters, seed):
        if self.log:
            Path(self.log, f"{seed}-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.delay)
        if seed == 102:
            if self.trouble == "raise":
                raise ValueError("the universe is empty")
            if self.trouble == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "full":
                raise OSError(errno.ENOSPC, "No space left on device")
        values = np.random.default_rng(seed).normal(size=(2, *self.shape())).astype("float32")
        if seed == 102 and self.trouble == "nan":
            values[0, 0, 0, 0] = np.nan
        return {"density": values[0], "brightness_temp": values[1] * np.float32(parameters["SIGMA_8"])}
