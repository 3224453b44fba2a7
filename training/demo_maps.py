"""Make the shipped demo maps: a few slabs of each test simulation, stored compactly.

    python training/demo_maps.py data/eor21cm-slabs.h5 maps/eor21cm-demo.h5

Of each test simulation it takes four slabs along each axis. Values keep 11 of float32's 23 bits of mantissa (a relative
error below 2.5e-4, far below what any statistic sees), which is what makes them compress.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from higan.mapset import MapSet

PER_AXIS, BITS = 4, 11


def rounded(values: np.ndarray) -> np.ndarray:
    """Float32 `values` to the nearest with `BITS` bits of mantissa."""
    drop = 23 - BITS
    bits = values.view(np.uint32) + np.uint32(1 << (drop - 1))
    return (bits >> np.uint32(drop) << np.uint32(drop)).view(np.float32)


def main(source: str, target: str) -> None:
    """Write the demo maps of `source`."""
    slabs = MapSet.open(source)
    test = np.flatnonzero(slabs.extra["split"] == "test")
    axis, slab = slabs.extra["axis"], slabs.extra["slab"]
    every = (slab.max() + 1) // PER_AXIS
    rows = np.flatnonzero(np.isin(slabs.simulation, test) & (slab % every == axis % every))
    chosen = slabs.select(rows)
    # The rows of the design that have no maps here are left out; /seeds and /parameters follow.
    number = {int(s): i for i, s in enumerate(test)}
    demo = MapSet(
        {name: dataclasses.replace(f, array=rounded(chosen.read(name))) for name, f in chosen.fields.items()},
        slabs.parameters[test],
        slabs.parameter_info,
        [number[int(s)] for s in chosen.simulation],
        slabs.geometry,
        simulator=slabs.simulator,
        simulator_version=slabs.simulator_version,
        created_by=slabs.created_by,
        extra={k: v[test] if k in ("seeds", "split") else v for k, v in chosen.extra.items()},
    )
    demo.save(target, overwrite=True, compression="gzip")
    print(demo)


if __name__ == "__main__":
    main(*sys.argv[1:])
