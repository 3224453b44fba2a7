"""Map sets, cards and batches of the right shape, filled with noise: speed does not depend on what maps show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.mapset_writer import MapSetWriter
from higan.noise import noise_field

PARAMETERS = [
    Parameter("F_STAR10", "", -1.7, -1.1),
    Parameter("ALPHA_STAR", "", 0.3, 0.7),
    Parameter("SIGMA_8", "", 0.7, 0.9),
]
FIELDS = {"density": ("", 0.0, 0.2), "brightness_temp": ("mK", 15.0, 5.0)}  # units, mean, standard deviation
CELL, THICKNESS = 2.0, 8.0
PER_SIMULATION = 48


def map_set(path: Path, n: int, size: int, fields: Sequence[str] = tuple(FIELDS)) -> MapSet:
    """Write `n` slabs of `size`² cells, 48 a simulation, and open them."""
    rng = np.random.default_rng(0)
    n_sim = -(-n // PER_SIMULATION)
    lower, upper = (np.array([getattr(p, end) for p in PARAMETERS]) for end in ("lower", "upper"))
    simulation = np.arange(n) // PER_SIMULATION
    empty = np.broadcast_to(np.float32(0), (n, size, size))
    like = MapSet(
        {name: Field(empty) for name in fields},
        rng.uniform(lower, upper, (n_sim, len(PARAMETERS))),
        PARAMETERS,
        simulation,
        Geometry(ndim=2, box_size=CELL * size, thickness=THICKNESS, redshift=8.0),
        simulator="noise",
    )
    columns = {name: ((size, size), FIELDS[name][0], name) for name in fields}
    with MapSetWriter(path, like, columns, n) as writer:
        for start in range(0, n, 256):
            shape = (min(256, n - start), size, size)
            maps = {name: rng.standard_normal(shape, np.float32) * FIELDS[name][2] + FIELDS[name][1] for name in fields}
            writer.write(start, maps)
    return MapSet.open(path)


def checkpoint(folder: Path, widths: Sequence[int] | None = None, ndim: int = 2, bottom_blocks: int = 2) -> Path:
    """A checkpoint with initial weights for such maps; needs a backend. Returns its folder."""
    from higan.checkpoint import Card, FieldCard, ParameterCard, save_checkpoint
    from higan.networks.config import GeneratorConfig
    from higan.painting.painter import build_model, receptive_radius, weights_of

    widths = GeneratorConfig().widths if widths is None else list(widths)
    config = GeneratorConfig(widths=widths, bottom_blocks=bottom_blocks)
    cards = {
        name: FieldCard(field=name, units=units, scaling={"name": "linear", "shift": mean, "scale": scatter})
        for name, (units, mean, scatter) in FIELDS.items()
    }
    card = Card(
        name="initial",
        network=config,
        ndim=ndim,
        stride=config.stride,
        receptive_radius=receptive_radius(config),
        inputs=[cards["density"]],
        outputs=[cards["brightness_temp"]],
        parameters=[ParameterCard(name=p.name, units=p.units, lower=p.lower, upper=p.upper) for p in PARAMETERS],
        cell_size=CELL,
        thickness=THICKNESS if ndim == 2 else None,
        redshift=8.0,
    )
    model = build_model(card)
    save_checkpoint(folder, card, weights_of(model, model.variables))
    return folder


def batch(size: int, n: int, levels: int, noise_channels: int, seed: int = 0, ndim: int = 2) -> dict[str, Any]:
    """A training batch of `n` maps of `size`² or `size`³ cells, as higan.adversarial.batches.Batches makes it."""
    rng = np.random.default_rng(seed)
    return {
        "maps": rng.standard_normal((n, *(size,) * ndim, 1), np.float32),
        "fields": rng.standard_normal((n, *(size,) * ndim, 1), np.float32),
        "parameters": rng.uniform(-1, 1, (n, len(PARAMETERS))).astype(np.float32),
        "noise": noise(size, n, levels, noise_channels, seed, ndim),
    }


def noise(size: int, n: int, levels: int, channels: int, seed: int = 0, ndim: int = 2) -> list[np.ndarray]:
    """The noise fields of `n` maps, one a level."""
    rows = np.arange(n)
    return [noise_field([size >> level] * ndim, channels, seed=seed, rows=rows, level=level) for level in range(levels)]
