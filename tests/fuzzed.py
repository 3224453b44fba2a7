"""What :mod:`tests.test_fuzz` does with HDF5 files, in a process of its own: reads paths, says what came of each."""

import resource
import sys
import traceback
from pathlib import Path

import numpy as np

from higan.cli import info
from higan.errors import HiganError
from higan.mapset import MapSet
from higan.split import split
from higan.validation.baselines import Baselines


def look(path):
    """At everything in a map set; the file goes, as it may stay open."""
    try:
        maps = MapSet.open(path)
    finally:
        path.unlink()
    info.describe(maps)
    repr(maps)
    maps.content_sha256()
    for name, field in maps.fields.items():
        maps.check_units(name, "mK" if field.units else "", "the test")
        maps.read(name, [0])
    parts = split(maps)
    maps.select(maps.rows_of(parts.train)).read(next(iter(maps.fields)))


def paint_baseline(path):
    Baselines.load(path).paint("local_remap", np.zeros((1, 8, 8)), np.array([[2.0, 15.0]]))


if __name__ == "__main__":
    check = {"maps": look, "baselines": paint_baseline}[sys.argv[1]]
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
    for line in sys.stdin:
        try:
            check(Path(line.strip()))
            said = "used"
        except HiganError as error:
            said = f"refused {error}"
        except BaseException:
            said = f"failed {traceback.format_exc()!a}"
        print(said, flush=True)
