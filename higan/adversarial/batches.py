"""Training batches: a pure function of (seed, step), so that a resumed training sees what it would have seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from higan.adversarial.parts import in_parts
from higan.errors import TrainingError
from higan.excursion import SharpCuts
from higan.mapset import MapSet
from higan.networks.config import GeneratorConfig
from higan.noise import generator_noise
from higan.scaling import Scaling

Batch = dict[str, Any]
_ORDER, _AUGMENT, _SKY = 1, 2, 3  # streams of the generator, beside one another for one seed
MOST_KEPT = 4e9  # bytes of smoothed maps, which take long to make; of the others all is made anew


class Batches:
    """Scaled, augmented batches of paired maps with their parameters and noise.

    Parameters
    ----------
    maps : MapSet
    rows : array of int
        The maps to draw from.
    inputs, outputs : sequence of (str, Scaling)
    parameters : array, shape (n_sim, n_par)
        Scaled to [-1, 1].
    batch_size : int
    seed : int
    maps_per_simulation : int
        So many maps of one simulation lie beside one another in a batch. An epoch leaves out what is left over of a
        simulation, other maps each time.
    symmetries : sequence of str
        "roll", "rotate", "reflect": those of the box.
    network : GeneratorConfig, optional
        The generator, whose noise goes with the maps.
    realisations : int
        Of the noise: those of the first for all maps, then of the second.
    crop : int, optional
        Train on random cubes of this side instead of whole maps; an epoch takes as many of a map as fill it.
    context : int
        Cells that fields and noise extend beyond a crop on every side. Both are multiples of the generator's stride.
    beyond : int
        Cells that fields extend beyond that, for the generator's top-hats.
    flux : array, shape (n_sim,), optional
        What the maps of each simulation were divided by, where the discriminator sees them with the noise of the sky.
    radius : array, shape (n_sim,), optional
        Half-light radii in pixels of the maps of each simulation, where a loss asks for them.
    share : (int, int)
        Rank and number of the processes among whom a batch is shared, in equal parts: that of this one is made.
    """

    def __init__(
        self,
        maps: MapSet,
        rows: np.ndarray,
        inputs: Sequence[tuple[str, Scaling]],
        outputs: Sequence[tuple[str, Scaling]],
        parameters: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        maps_per_simulation: int = 1,
        symmetries: Sequence[str] = (),
        network: GeneratorConfig | None = None,
        realisations: int = 1,
        crop: int | None = None,
        context: int = 0,
        beyond: int = 0,
        flux: np.ndarray | None = None,
        radius: np.ndarray | None = None,
        share: tuple[int, int] = (0, 1),
    ):
        self.flux, self.radius, self.share = flux, radius, share
        self.maps, self.crop, self.context, self.beyond = maps, crop, context, beyond
        self.shape = tuple(maps.shape[: maps.geometry.ndim]) if crop is None else (crop,) * maps.geometry.ndim
        self.extent = tuple(n + 2 * context for n in self.shape)
        self.seen = tuple(n + 2 * beyond for n in self.extent)
        if any(inner > n for inner, n in zip(self.seen, maps.shape, strict=True)):
            hats = f", and {beyond} more for generator.top_hats," if beyond else ""
            less = ", generator.top_hats" if beyond else ""
            raise TrainingError(
                f"crops of {crop} cells with {context} around them{hats} do not fit in the maps of {maps.name}, of "
                f"{' x '.join(map(str, maps.shape))}. Make training.crop{less} or training.context smaller."
            )
        self.rows = np.repeat(rows, math.prod(n // inner for n, inner in zip(maps.shape, self.shape, strict=True)))
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.parameters = parameters.astype(np.float32)
        self.batch_size, self.group, self.seed = batch_size, maps_per_simulation, seed
        self.symmetries = tuple(symmetries)
        self.network, self.realisations = network, realisations
        self._smoothed: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._epoch: tuple[int, np.ndarray] = (0, self._shuffled(0))
        if not len(self._epoch[1]):
            raise TrainingError(
                f"{maps.name} has no simulation with {maps_per_simulation} maps to train on: set maps_per_simulation "
                "to what simulations have."
            )

    def __call__(self, step: int) -> Batch:
        """The batch of one step: maps, fields, parameters, noise (a list), interpolation, sky, flux and radius.

        With an excursion set the fields are followed, channel by channel, by what its filters leave of them, and
        `scatter` is the logarithm of the variance of each over the whole map.
        """
        first = step * self.batch_size
        rng = self._rng(_AUGMENT, step)
        moves = [Symmetry.draw(rng, self.maps.shape, self.symmetries) for _ in range(self.batch_size)]
        corners = None
        if self.crop is not None:
            room = np.subtract(self.maps.shape, self.seen)
            corners = self._own(rng.integers(0, room, (self.batch_size, len(room)), endpoint=True))
        # What is drawn is drawn for all; what takes time is done for the own part.
        positions = self._own(first + np.arange(self.batch_size))
        rows = self._own(self.rows_of(step))
        moves = [moves[position - first] for position in positions]
        batch: Batch = {
            "maps": self._scaled(self.outputs, rows, moves, corners, self.context + self.beyond),
            "interpolation": self._own(rng.random(self.batch_size, dtype=np.float32)),
        }
        if self.inputs:
            batch["fields"] = self._scaled(self.inputs, rows, moves, corners)
        if self.network is not None and self.network.excursion_set:
            smoothed, scatter = zip(*map(self._smoothings, rows), strict=True)
            places = [None] * len(rows) if corners is None else corners.tolist()
            parts = [self._part(*each) for each in zip(smoothed, moves, places, strict=True)]
            batch["fields"] = np.concatenate([batch["fields"], np.stack(parts)], axis=-1)
            batch["scatter"] = np.stack(scatter)
        if self.parameters.shape[1]:
            batch["parameters"] = self.parameters[self.maps.simulation[rows]]
        if self.flux is not None:
            shape = (2 * self.batch_size, *self.shape, len(self.outputs))
            batch["sky"] = self._own(self._rng(_SKY, step).standard_normal(shape, dtype=np.float32))
            batch["flux"] = self.flux[self.maps.simulation[rows]].astype(np.float32)
        if self.radius is not None:
            batch["radius"] = self.radius[self.maps.simulation[rows]].astype(np.float32)
        if self.network is not None and self.network.random:
            batch["noise"] = generator_noise(
                self.network,
                self.extent,
                seed=self.seed,
                rows=np.tile(positions, self.realisations),
                realisations=np.repeat(np.arange(self.realisations), len(rows)),
            )
        return batch

    def rows_of(self, step: int) -> np.ndarray:
        """The maps in the batch of a step."""
        return self._rows(step * self.batch_size)

    def _own(self, values: np.ndarray) -> np.ndarray:
        """This process' part of what runs over the maps of a batch."""
        rank, count = self.share
        return in_parts(values, self.batch_size, count)[rank]

    def _rows(self, first: int) -> np.ndarray:
        """Rows of positions first … first + batch_size - 1 of an endless sequence of shuffled epochs."""
        # One look at what is kept, as another thread may be in another epoch.
        epoch, order = self._epoch
        positions = np.arange(first, first + self.batch_size)
        out = np.empty(self.batch_size, dtype=np.int64)
        for number in np.unique(positions // len(order)):
            if epoch != number:
                epoch, order = self._epoch = (int(number), self._shuffled(int(number)))
            here = positions // len(order) == number
            out[here] = order[positions[here] % len(order)]
        return out

    def _shuffled(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, shuffled in groups of one simulation."""
        rng = self._rng(_ORDER, epoch)
        rows = rng.permutation(self.rows)
        if self.group == 1:
            return rows
        simulations = self.maps.simulation[rows]
        own = (rows[simulations == simulation] for simulation in np.unique(simulations))
        groups = [r[: len(r) // self.group * self.group].reshape(-1, self.group) for r in own]
        return rng.permutation(np.concatenate(groups)).ravel()

    def _rng(self, stream: int, counter: int) -> np.random.Generator:
        # The counter in the highest word: streams of 2^192 numbers do not meet.
        return np.random.Generator(np.random.Philox(key=[self.seed, stream], counter=[0, 0, 0, counter]))

    def _scaled(
        self,
        fields: Sequence[tuple[str, Scaling]],
        rows: np.ndarray,
        moves: Sequence[Symmetry],
        corners: np.ndarray | None,
        inset: int = 0,
    ) -> np.ndarray:
        """Moved maps, cropped from `inset` cells within the region that starts at each of `corners`."""
        channels = []
        for name, scaling in fields:
            if corners is None:
                read = self.maps.read(name, rows)
                values = [move(value) for move, value in zip(moves, read, strict=True)]
            else:
                starts = corners + inset
                sizes = [n - 2 * inset for n in self.seen]
                values = [
                    self._crop(name, row, move, start, sizes)
                    for row, move, start in zip(rows, moves, starts.tolist(), strict=True)
                ]
            channels.append(scaling.forward(np.stack(values)).astype(np.float32))
        return np.stack(channels, axis=-1)

    def _smoothings(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """A whole map, scaled, smoothed over each radius of the excursion set, and the logarithm of its variances."""
        if (kept := self._smoothed.get(row)) is not None:
            return kept
        assert self.network is not None and self.network.excursion_set is not None
        ((name, scaling),) = self.inputs
        field = scaling.forward(self.maps.read(name, [row])[0])
        cuts = SharpCuts(field, self.network.excursion_set.cells, self.maps.geometry.periodic)
        found = np.stack([cut.astype(np.float16) for cut in cuts]), cuts.scatter()
        # None makes room for another: in shuffled epochs those that are kept come again as soon as any.
        if (len(self._smoothed) + 1) * found[0].nbytes <= MOST_KEPT:
            self._smoothed[row] = found
        return found

    def _part(self, smoothed: np.ndarray, move: Symmetry, corner: Sequence[int] | None) -> np.ndarray:
        """What is seen of moved maps (n, *shape), as channels."""
        start, size = ([0] * len(self.seen), self.maps.shape) if corner is None else (corner, self.seen)
        index = move.cells(self.maps.shape, start, size)
        part = np.stack([each[np.ix_(*index)] for each in smoothed]).astype(np.float32)
        return np.moveaxis(part.transpose(0, *(1 + axis for axis in move.axes)), 0, -1)

    def _crop(self, name: str, row: int, move: Symmetry, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """A region of a moved map, of which no more is read than is needed where it does not wrap around."""
        index = move.cells(self.maps.shape, start, size)
        place = [slice(int(along.min()), int(along.max()) + 1) for along in index]
        part = self.maps.read(name, [row], place=tuple(place))[0]
        inner = [along - bounds.start for along, bounds in zip(index, place, strict=True)]
        return part[np.ix_(*inner)].transpose(move.axes)


class Symmetry:
    """A symmetry of the periodic box: a roll, then a permutation of the axes, then reflections.

    Examples
    --------
    >>> move = Symmetry.draw(np.random.default_rng(1), (8, 8), ("roll", "rotate", "reflect"))
    >>> sorted(move(np.arange(64).reshape(8, 8)).ravel().tolist()) == list(range(64))
    True
    """

    def __init__(self, roll: Sequence[int], axes: Sequence[int], flips: Sequence[int]):
        self.roll, self.axes, self.flips = tuple(roll), tuple(axes), tuple(flips)

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: Sequence[int], symmetries: Sequence[str]) -> Symmetry:
        """A random one of those that `symmetries` allow; axes are exchanged only where they are of one length."""
        ndim = len(shape)
        roll = rng.integers(0, shape) if "roll" in symmetries else np.zeros(ndim, int)
        turn, mirror = "rotate" in symmetries and len(set(shape)) == 1, "reflect" in symmetries
        axes = rng.permutation(ndim) if turn else np.arange(ndim)
        flip = rng.integers(0, 2, ndim) if turn or mirror else np.zeros(ndim, int)
        if not mirror and _determinant(axes, flip) < 0:
            flip[0] ^= 1  # a proper rotation
        return cls(roll.tolist(), axes.tolist(), np.flatnonzero(flip).tolist())

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """`values` moved; a new array."""
        values = np.roll(values, self.roll, tuple(range(values.ndim)))
        return np.flip(values.transpose(self.axes), self.flips)

    def cells(self, shape: Sequence[int], start: Sequence[int], size: Sequence[int]) -> list[np.ndarray]:
        """Where a region of moved values comes from: cells along each axis of the values, whose order `axes` gives.

        Examples
        --------
        >>> move, values = Symmetry((1, 2), (1, 0), (0,)), np.arange(64).reshape(8, 8)
        >>> cells = move.cells(values.shape, (3, 4), (2, 3))
        >>> bool((values[np.ix_(*cells)].transpose(move.axes) == move(values)[3:5, 4:7]).all())
        True
        """
        along = [np.empty(0, np.int64)] * len(shape)
        for axis, source in enumerate(self.axes):
            cells = np.arange(start[axis], start[axis] + size[axis])
            if axis in self.flips:
                cells = shape[source] - 1 - cells
            along[source] = (cells - self.roll[source]) % shape[source]
        return along


def _determinant(axes: np.ndarray, flip: np.ndarray) -> float:
    return float(np.linalg.det(np.eye(len(axes))[axes])) * (-1) ** int(flip.sum())


def prefetch(make: Callable[[int], Batch], first: int, last: int, threads: int = 1) -> Iterator[Batch]:
    """Batches of steps first … last - 1, made by threads while those before are trained on.

    As many are made ahead as there are threads, and two.

    An exception in a thread is raised here.
    """
    steps = iter(range(first, last))
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Batch]] = deque(pool.submit(make, step) for step in islice(steps, threads + 2))
        try:
            while coming:
                batch = coming.popleft().result()
                coming.extend(pool.submit(make, step) for step in islice(steps, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
