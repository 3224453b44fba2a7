"""The last step of a training: painted values are mapped onto the quantiles of true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from higan.adversarial.monitor import Monitor, painted_batches, spread
from higan.checkpoint import QuantileCard, save_checkpoint
from higan.mapset import MapSet
from higan.painting.painter import Painter, weights_of
from higan.progress import progress
from higan.quantile_mapping import QuantileMapping
from higan.recipe import Recipe


def map_quantiles(checkpoint: Path, recipe: Recipe, maps: MapSet, rows: np.ndarray, monitor: Monitor) -> None:
    """Give a checkpoint the mappings that its recipe asks for, and validate it with them.

    Parameters
    ----------
    checkpoint : Path
        A folder, which is replaced; left alone where it has been given them before.
    recipe : Recipe
    maps : MapSet
    rows : array of int
        Those to train on, of which `recipe.training.quantile_maps`, evenly spread, are painted.
    monitor : Monitor
    """
    painter, asked = Painter.load(checkpoint), recipe.model_dump(mode="json")
    if all(painter.mappings) and painter.card.recipe == asked:
        return
    painter.mappings = [None] * len(painter.outputs)
    rows = spread(rows, recipe.training.quantile_maps)
    rows = rows[np.argsort(maps.simulation[rows], kind="stable")]
    cells = int(np.prod(maps.shape))
    generated, true = (np.empty((len(painter.outputs), len(rows), cells), np.float32) for _ in range(2))
    with progress(f"{recipe.name}: quantiles", len(rows), job=True) as advance:
        for start, batch, painted in painted_batches(painter, maps, rows, recipe.seed):
            part = slice(start, start + len(batch))
            for i, (item, scaling) in enumerate(zip(painter.card.outputs, painter.outputs, strict=True)):
                generated[i, part] = scaling.forward(painted[..., i]).reshape(len(batch), -1)
                true[i, part] = scaling.forward(maps.read(item.field, batch)).reshape(len(batch), -1)
            advance(len(batch))
    simulations, starts = np.unique(maps.simulation[rows], return_index=True)
    theta = painter.scale_parameters(maps.parameters[simulations].astype(np.float32))
    mappings = []
    for fields in zip(generated, true, strict=True):
        x, y = ([part.reshape(-1) for part in np.split(field, starts[1:])] for field in fields)
        mappings.append(QuantileMapping.fit(x, y, theta))

    painter.mappings, monitor.painter = list(mappings), painter
    card, result = painter.card, monitor()
    outputs = [
        item.model_copy(update={"quantile_mapping": QuantileCard(generated=mapping.generated, true=mapping.true)})
        for item, mapping in zip(card.outputs, mappings, strict=True)
    ]
    metrics = {**card.metrics, "validation": {**card.metrics.get("validation", {}), **result.scalars}}
    card = card.model_copy(update={"outputs": outputs, "metrics": metrics, "recipe": asked})
    weights = weights_of(painter.model, painter.model.get_weights())
    save_checkpoint(checkpoint, card, weights, overwrite=True)
