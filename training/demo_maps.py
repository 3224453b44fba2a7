"""Make the shipped map sets: a few slabs of simulations that no training sees, stored compactly.

    python training/demo_maps.py held-out maps/eor21cm-demo.h5 data/eor21cm-slabs.h5
    python training/demo_maps.py held-out maps/hi-z5-test.h5 data/hi-z5-new-slabs.h5 1
    python training/demo_maps.py boxes maps/eor21cm-boxes-test.h5 data/eor21cm-new.h5 2
    python training/demo_maps.py one-parameter maps/eor21cm-1p.h5 data/eor21cm-1p-3000-slabs.h5 …-3001-… …-3002-…

`held-out` takes four slabs, or so many, along each axis of each test simulation, `boxes` so many boxes of them.
`one-parameter` takes, from 1P sets of several seeds, the fiducial simulation and its nearest neighbours in each
parameter, two slabs along each axis. Values keep 11 of float32's 23 bits of mantissa (a relative error below 2.5e-4,
far below what any statistic sees), which is what makes them compress.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from higan.mapset import Field, MapSet
from higan.validation.response import fiducial_row

BITS = 11


def rounded(values: np.ndarray) -> np.ndarray:
    """Float32 `values` to the nearest with `BITS` bits of mantissa."""
    drop = 23 - BITS
    bits = values.view(np.uint32) + np.uint32(1 << (drop - 1))
    return (bits >> np.uint32(drop) << np.uint32(drop)).view(np.float32)


def some_slabs(slabs: MapSet, simulations: Sequence[int], per_axis: int) -> np.ndarray:
    """Rows of `per_axis` slabs along each axis of `simulations`; other axes start at other slabs."""
    axis, slab = slabs.extra["axis"], slabs.extra["slab"]
    every = (slab.max() + 1) // per_axis
    return np.flatnonzero(np.isin(slabs.simulation, simulations) & (slab % every == axis % every))


def write(
    parts: Sequence[tuple[MapSet, np.ndarray]], simulations: Sequence[int], fields: Sequence[str], path: str
) -> None:
    """Join rows of map sets of one design into one; only `simulations` keep their row of /parameters."""
    first = parts[0][0]
    number = {int(s): i for i, s in enumerate(simulations)}
    extra = {k: np.concatenate([m.extra[k][rows] for m, rows in parts]) for k in ("axis", "slab") if k in first.extra}
    extra["split"] = first.extra["split"][list(simulations)]
    if len(parts) == 1:
        extra["seeds"] = first.extra["seeds"][list(simulations)]
    maps = MapSet(
        {
            name: Field(
                rounded(np.concatenate([m.read(name, rows) for m, rows in parts])),
                first.fields[name].units,
                first.fields[name].long_name,
            )
            for name in fields
        },
        first.parameters[list(simulations)],
        first.parameter_info,
        [number[int(s)] for m, rows in parts for s in m.simulation[rows]],
        first.geometry,
        simulator=first.simulator,
        simulator_version=first.simulator_version,
        created_by=first.created_by,
        extra=extra,
    )
    maps.save(path, overwrite=True, compression="gzip")
    print(maps)


def held_out(path: str, source: str, per_axis: str = "4") -> None:
    """So many slabs along each axis of every test simulation."""
    slabs = MapSet.open(source)
    test = np.flatnonzero(slabs.extra["split"] == "test").tolist()
    write([(slabs, some_slabs(slabs, test, int(per_axis)))], test, list(slabs.fields), path)


def boxes(path: str, source: str, number: str) -> None:
    """The first boxes of the test simulations."""
    maps = MapSet.open(source)
    test = np.flatnonzero(maps.extra["split"] == "test")[: int(number)].tolist()
    write([(maps, np.flatnonzero(np.isin(maps.simulation, test)))], test, list(maps.fields), path)


def one_parameter(path: str, *sources: str) -> None:
    """The fiducial simulation and its nearest neighbours in each parameter, of each seed."""
    sets = [MapSet.open(source) for source in sources]
    theta = sets[0].parameters
    fiducial = fiducial_row(theta)
    chosen = {fiducial}
    for column in range(theta.shape[1]):
        steps = theta[:, column] - theta[fiducial, column]
        for side in (-1, 1):
            beyond = np.flatnonzero(side * steps > 0)
            chosen.add(int(beyond[np.abs(steps[beyond]).argmin()]))
    rows = sorted(chosen)
    write([(m, some_slabs(m, rows, 2)) for m in sets], rows, ["density", "brightness_temp"], path)


if __name__ == "__main__":
    {"held-out": held_out, "boxes": boxes, "one-parameter": one_parameter}[sys.argv[1]](*sys.argv[2:])
