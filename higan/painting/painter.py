"""A trained generator with its scalings: physical fields in, physical maps out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from higan import scaling
from higan.checkpoint import Card, check_size, load_card, load_weights
from higan.errors import ParameterError
from higan.excursion import SharpCuts
from higan.mapset import MapSet
from higan.matter import Cosmology, draw_density
from higan.networks.config import GeneratorConfig, half_width, halvings
from higan.networks.generator import barrier, build_generator
from higan.networks.layers import sharp_cuts
from higan.noise import generator_noise
from higan.photometry import flux
from higan.quantile_mapping import QuantileMapping

EMPTY = 1e-6  # of the flux that the networks aim at; a map with less is painted empty


def receptive_radius(config: GeneratorConfig, fields: bool = True) -> int:
    """Cells beyond which nothing reaches a cell of the output, whatever the cell's place in its coarse cell.

    The interval of cells that one input cell touches is followed through the network: a 3 x 3 convolution widens it
    by one on each side, halving and doubling round it outwards, and interpolation touches the cells beside it. Without
    input `fields` it begins as a cell of the coarsest noise. Smoothed noise comes in at the bottom, and means in
    top-hats go by ways of their own; exclusion, and what spills over, reach farther. What an excursion set smooths is
    of the whole map, and not counted.

    Examples
    --------
    >>> receptive_radius(GeneratorConfig(widths=[4], bottom_blocks=1))
    4
    """

    def reach(cell: int) -> int:
        first, last = (cell - 1, cell + 1) if fields else (cell // config.stride - 1, cell // config.stride + 1)  # stem
        for _ in range(config.levels - 1 if fields else 0):
            first, last = (first - 2) // 2, (last + 2) // 2
        if config.smoothed_noise:
            drawn, half = cell // config.stride, 2**config.smoothed_noise - 1
            half += 0 if fields else 1  # the stem
            first, last = min(first, drawn - half), max(last, drawn + half)
        first, last = first - 2 * config.bottom_blocks, last + 2 * config.bottom_blocks
        between = 1 if config.interpolated else 0
        for _ in range(config.levels - 1):
            first, last = 2 * first - between - 3, 2 * last + 1 + between + 3
        found = [cell - (first - 1), last + 1 - cell]  # head
        # What is taken of the map halved so often, so many of its cells to each side.
        for radius in config.top_hats if fields else ():
            level, half = halvings(radius), half_width(radius)
            first, last = (cell >> level) - half, (cell >> level) + half
            for _ in range(level):
                first, last = 2 * first - 1, 2 * last + 2
            found += [cell - (first - 3), last + 3 - cell]  # the last block, head
        return max(found) + max(config.exclusion, default=0) + config.spilled

    return max(reach(cell) for cell in range(config.stride))


class Painter:
    """The generator of a card, with its scalings.

    Parameters
    ----------
    card : Card
    model : keras.Model
        Built from the card's network, in float32.
    """

    def __init__(self, card: Card, model: keras.Model):
        self.card, self.model = card, model
        self.inputs = [scaling.from_dict(item.scaling) for item in card.inputs]
        self.outputs = [scaling.from_dict(item.scaling) for item in card.outputs]
        quantiles = [item.quantile_mapping for item in card.outputs]
        self.mappings = [None if q is None else QuantileMapping(q.generated, q.true) for q in quantiles]
        self.lower = np.array([p.lower for p in card.parameters], dtype=np.float32)
        self.upper = np.array([p.upper for p in card.parameters], dtype=np.float32)
        self._of_tiles: dict[tuple[int, ...], keras.Model] = {}
        self._barrier = barrier(model, card.network) if card.network.excursion_set else None

    @classmethod
    def load(cls, folder: Path) -> Painter:
        """Build the network of a checkpoint folder and load its weights; CheckpointError where they disagree."""
        card = load_card(folder)
        check_size(folder, card)
        model = build_model(card)
        names = weight_names(model)
        weights = load_weights(folder, card, {n: tuple(v.shape) for n, v in zip(names, model.variables, strict=True)})
        assign(model, weights)
        return cls(card, model)

    def __reduce__(self) -> tuple[Any, ...]:
        """A painter travels to another process as its card and its weights, and is built there once."""
        weights = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in self.model.variables]
        return _arrived, (self.card, weights, self._digest(weights))

    def __dask_tokenize__(self) -> str:
        return self.__reduce__()[1][-1]

    def _digest(self, weights: Sequence[np.ndarray]) -> str:
        digest = hashlib.sha256(self.card.model_dump_json().encode())
        for array in weights:
            digest.update(array.tobytes())
        return digest.hexdigest()

    def scale_parameters(self, parameters: Any) -> Any:
        """Parameters (…, n_par) mapped from their trained range to [-1, 1]."""
        return scale_parameters(parameters, self.lower, self.upper)

    def read_inputs(self, maps: MapSet, rows: Any, place: tuple[slice, ...] | None = None) -> np.ndarray:
        """The card's input fields of rows of a map set, (n, *shape, n_inputs), or of their cells at `place`."""
        place = tuple(map(slice, maps.shape[: self.card.ndim])) if place is None else place
        cells = [cells.stop - (cells.start or 0) for cells in place]
        fields = np.empty((len(rows), *cells, len(self.inputs)), dtype=np.float32)
        for i, item in enumerate(self.card.inputs):
            fields[..., i] = maps.read(item.field, rows, place=place)
        return fields

    def draw_inputs(
        self, shape: Sequence[int], parameters: np.ndarray, *, seed: int, rows: Any, realisations: Any
    ) -> np.ndarray:
        """The input field that the card draws, (batch, *shape, 1), one for each of `rows` and `realisations`."""
        card, drawn = self.card, self.card.drawn
        assert drawn is not None and card.redshift is not None
        fields = np.empty((len(rows), *shape, 1), dtype=np.float32)
        for i, (universe, row, realisation) in enumerate(
            zip(self.universes(parameters), rows, realisations, strict=True)
        ):
            fields[i, ..., 0] = draw_density(
                shape[0],
                card.cell_size,
                card.redshift,
                universe,
                seed=seed,
                row=int(row),
                realisation=int(realisation),
                coarse=drawn.coarse,
            )
        return fields

    def universes(self, parameters: np.ndarray) -> list[Cosmology]:
        """Those that `parameters` (n, n_par) are of; ParameterError that names the first row that is of none."""
        assert self.card.drawn is not None
        names = [item.name for item in self.card.parameters]
        found = []
        for row, theta in enumerate(parameters):
            try:
                found.append(self.card.drawn.universe(dict(zip(names, theta, strict=True))))
            except ParameterError as error:
                raise ParameterError(f"row {row} (counted from 0): {error}") from error
        return found

    def noise(
        self,
        shape: Sequence[int],
        *,
        seed: int,
        rows: Any,
        realisations: Any = 0,
        origin: Sequence[int] | None = None,
        period: Sequence[int] | None = None,
        around: Sequence[int] = (),
    ) -> list[np.ndarray]:
        """What :func:`higan.noise.generator_noise` gives for the card's network."""
        return generator_noise(
            self.card.network,
            shape,
            seed=seed,
            rows=rows,
            realisations=realisations,
            origin=origin,
            period=period,
            around=around,
        )

    def paint(self, fields: Any, parameters: Any, noise: Sequence[Any]) -> Any:
        """Physical output of physical input, in keras.ops alone: differentiable, no checks.

        An excursion set takes maps as periodic, and needs to know their shape when it is compiled.

        Parameters
        ----------
        fields : tensor, shape (batch, *shape, n_inputs)
            Not looked at where the card has no inputs.
        parameters : tensor, shape (batch, n_par)
        noise : sequence of tensor
            As :meth:`noise` gives it.

        Returns
        -------
        tensor, shape (batch, *shape, n_outputs)
        """
        # Tensors throughout: Keras takes no mixture with arrays, nor does Torch's gradient.
        inputs = []
        if self.inputs:
            fields = ops.convert_to_tensor(fields)
            scaled = [s.forward(fields[..., i : i + 1], xp=ops) for i, s in enumerate(self.inputs)]
            inputs = [ops.concatenate(scaled, axis=-1) if len(scaled) > 1 else scaled[0]]
            if self.card.network.excursion_set:
                inputs = list(sharp_cuts(inputs[0], self.card.network.excursion_set.cells))
        if len(self.lower):
            tensors = (ops.convert_to_tensor(x, dtype="float32") for x in (parameters, self.lower, self.upper))
            inputs.append(scale_parameters(*tensors))
        out = self.model([*inputs, *(ops.convert_to_tensor(x) for x in noise)])
        theta = inputs[-1] if len(self.lower) else ops.zeros((ops.shape(out)[0], 0))
        physical = [self._physical(i, out[..., i : i + 1], theta, ops) for i in range(len(self.outputs))]
        painted = ops.concatenate(physical, axis=-1) if len(physical) > 1 else physical[0]
        return self._of_magnitude(painted, parameters, ops)

    def paint_host(
        self, fields: np.ndarray, parameters: np.ndarray, noise: Sequence[np.ndarray], around: Sequence[int] = ()
    ) -> np.ndarray:
        """:meth:`paint` for numpy arrays, compiled by the backend; noise may be that of several realisations.

        With an excursion set what :meth:`above_barrier` gives follows the fields as a channel. Of a tile of larger
        maps, `fields` reach `around` cells beyond what is painted on either side of each axis, a margin or none, and
        noise is drawn for that.
        """
        scaled = []
        if self.inputs:
            channels = [s.forward(fields[..., i]) for i, s in enumerate(self.inputs)]
            channels += [fields[..., i] for i in range(len(channels), fields.shape[-1])]
            scaled.append(np.stack(channels, axis=-1).astype(np.float32))
        parameters = np.asarray(parameters, np.float32)
        theta = self.scale_parameters(parameters)
        if len(self.lower):
            scaled.append(theta)
        out = self._forward([*scaled, *noise], tuple(around))
        each, theta = (np.tile(x, (len(out) // len(parameters), 1)) for x in (parameters, theta))
        painted = np.stack([self._physical(i, out[..., i], theta, np) for i in range(len(self.outputs))], axis=-1)
        return self._of_magnitude(painted, each, np)

    def above_barrier(self, fields: np.ndarray, parameters: np.ndarray, periodic: bool = True) -> np.ndarray:
        """By how much whole maps (n, *shape, 1) are above the barrier of the excursion set, likewise (n, *shape, 1).

        Of cards without one it has no channels. Takes the memory of two maps of float32 beside those and itself.
        """
        network = self.card.network
        if network.excursion_set is None or self._barrier is None:
            return np.empty((*fields.shape[:-1], 0), np.float32)
        out = np.empty(fields.shape, np.float32)
        for field, above, theta in zip(
            fields[..., 0], out[..., 0], self.scale_parameters(np.asarray(parameters, np.float32)), strict=True
        ):
            above[:] = self.inputs[0].forward(field)
            cuts = SharpCuts(above, network.excursion_set.cells, periodic)
            told = [cuts.scatter()[None], *([theta[None]] if len(self.lower) else [])]
            ((height, *heights),) = ops.convert_to_numpy(self._barrier(told))
            above -= height
            cuts.maximum(heights, above)
        return out

    def _physical(self, output: int, y: Any, parameters: Any, xp: Any) -> Any:
        """Physical values of what the network gives for an output, of scaled parameters."""
        mapping = self.mappings[output]
        return self.outputs[output].inverse(y if mapping is None else mapping(y, parameters, xp), xp)

    def _of_magnitude(self, painted: Any, parameters: Any, xp: Any) -> Any:
        """Maps (batch, *shape, n_outputs) whose sums are the flux that is asked for, if one is."""
        if not self.card.magnitude:
            return painted
        names = [item.name for item in self.card.parameters]
        around = (-1, *(1,) * (len(painted.shape) - 1))
        asked = xp.reshape(flux(parameters[:, names.index(self.card.magnitude)]), around)
        total = xp.sum(painted, axis=tuple(range(1, len(painted.shape) - 1)), keepdims=True)
        return painted * (asked / xp.maximum(total, EMPTY))

    def _forward(self, inputs: list[np.ndarray], around: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self._network(around).predict_on_batch(inputs))

    def _network(self, around: tuple[int, ...]) -> keras.Model:
        """The generator of regions that reach `around` cells beyond what is painted, with the weights of now."""
        if not any(around) and self._barrier is None:
            return self.model
        with _building:
            if around not in self._of_tiles:
                self._of_tiles[around] = build_model(self.card, around=around, excursion=self._barrier is not None)
            # By way of numpy: JAX gives the arrays that it predicts with away.
            assign(self._of_tiles[around], weights_of(self.model, self.model.get_weights()))
            return self._of_tiles[around]


_painters: dict[str, Painter] = {}
_building = threading.Lock()


def _arrived(card: Card, weights: Sequence[np.ndarray], digest: str) -> Painter:
    """The painter of a pickle; one a process, however many tasks bring it."""
    with _building:
        if digest not in _painters:
            model = build_model(card)
            for variable, array in zip(model.variables, weights, strict=True):
                variable.assign(array)
            _painters.clear()
            _painters[digest] = Painter(card, model)
        return _painters[digest]


def scale_parameters(parameters: Any, lower: Any, upper: Any) -> Any:
    """Parameters mapped from [lower, upper] to [-1, 1]."""
    return (parameters - lower) / (upper - lower) * 2.0 - 1.0


def build_model(
    card: Card,
    seed: int = 0,
    dtype: str = "float32",
    beyond: int = 0,
    around: Sequence[int] = (),
    excursion: bool = False,
) -> keras.Model:
    """The generator that a card describes, with initial weights; the rest as of `build_generator`."""
    return build_generator(
        card.network,
        ndim=card.ndim,
        n_inputs=len(card.inputs),
        n_outputs=len(card.outputs),
        n_parameters=len(card.parameters),
        seed=seed,
        dtype=dtype,
        beyond=beyond,
        around=around,
        excursion=excursion,
        scalings=[scaling.from_dict(item.scaling) for item in card.outputs],
        shape=card.shape,
        radius=card.radius,
    )


def weight_names(model: keras.Model) -> list[str]:
    """Names of a model's weights, in the order of ``model.variables``."""
    return [str(variable.path) for variable in model.variables]


def assign(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Give a model the weights of its names."""
    for name, variable in zip(weight_names(model), model.variables, strict=True):
        variable.assign(weights[name])


def weights_of(model: keras.Model, arrays: Sequence[Any]) -> dict[str, np.ndarray]:
    """`arrays`, one a variable of `model`, under their names."""
    return {name: np.asarray(array) for name, array in zip(weight_names(model), arrays, strict=True)}
