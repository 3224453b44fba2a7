"""The emulator that pipelines import.

>>> import higan
>>> emulator = higan.load("eor21cm-2d")  # doctest: +SKIP
>>> theta = {"F_STAR10": -1.4, "ALPHA_STAR": 0.5, "SIGMA_8": 0.82}
>>> maps = emulator.sample(density, parameters=theta, seed=1, realisations=8)  # doctest: +SKIP
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from higan.checkpoint import CARD, Card, ParameterCard, find_checkpoint
from higan.errors import CheckpointError, MapSetError, ParameterError
from higan.mapset import MapSet, outside
from higan.painting.lazy import is_lazy, paint_lazily
from higan.painting.painter import Painter, receptive_radius
from higan.painting.regions import batch_of, check_count, once_each, paint_maps
from higan.sources.tables import converted

FEWEST_CELLS, MOST_CELLS = 1000, 2**20  # whose mean and deviation tell a convention


class ExtrapolationWarning(UserWarning):
    """Maps were painted for parameters outside the range that the generator was trained on."""


class UnlikeTrainingWarning(UserWarning):
    """Input maps are in other units, or follow another convention, than those that the generator was trained on."""


def load(checkpoint: str | os.PathLike[str]) -> Emulator:
    """Load a checkpoint.

    Parameters
    ----------
    checkpoint : str or path
        The name of a shipped checkpoint, or a folder.

    Raises
    ------
    CheckpointError
        If there is none, it is damaged, or its card disagrees with its own network.

    Examples
    --------
    >>> emulator = load("eor21cm-2d")
    >>> emulator
    Emulator('eor21cm-2d': density -> brightness_temp)
    >>> [(p.name, p.lower, p.upper) for p in emulator.card.parameters][0]
    ('F_STAR10', -1.7, -1.1)
    """
    folder = find_checkpoint(checkpoint)
    painter = Painter.load(folder)
    network = painter.card.network
    # Tiles are laid by these two: with others they would not fit together.
    radius = receptive_radius(network, bool(painter.card.inputs))
    for name, expected in (("stride", network.stride), ("receptive_radius", radius)):
        found = getattr(painter.card, name)
        if found != expected:
            raise CheckpointError(
                f"{folder / CARD} is damaged: {name} is {found}, but its network has {expected}. Get the checkpoint "
                "again."
            )
    return Emulator(painter)


class Emulator:
    """A trained generator: fields and parameters in, maps in physical units out.

    Made by :func:`load`. `card` says what goes in and out, in which units and ranges, and how accurate it is.
    """

    def __init__(self, painter: Painter):
        self.painter = painter

    def __repr__(self) -> str:
        names = [", ".join(item.field for item in items) for items in (self.card.inputs, self.card.outputs)]
        return f"Emulator({self.card.name!r}: {names[0] or 'noise'} -> {names[1]})"

    @property
    def card(self) -> Card:
        """The checkpoint's card: inputs, outputs, units, bounds, accuracy."""
        return self.painter.card

    def sample(
        self,
        fields: Any = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int,
        realisations: int | None = None,
        rows: Any = None,
        shape: Sequence[int] | None = None,
        periodic: bool = True,
        tile: int | None = None,
        batch_size: int | None = None,
        allow_extrapolation: bool = False,
    ) -> Any:
        """Paint maps.

        Dask arrays give a dask array, of any size: nothing is painted until it is computed, on threads, processes or a
        cluster, in the memory of a tile each. ``emulator.sample(da.from_zarr("density.zarr"), …).to_zarr("hi.zarr")``
        paints a box that does not fit into memory. (Checkpoints with an excursion set, `card.network.excursion_set`,
        look at each map as a whole first, which takes the memory of eight.)

        Parameters
        ----------
        fields : array, mapping of field name to array, or MapSet
            One map (*shape), or several (n, *shape), numpy's or dask's, in the units of `card.inputs`; any size. A
            map set's units, cells and redshift are compared with the card's, and it brings its parameters. Left
            out for a checkpoint without inputs, or one that draws its input itself (`card.drawn`): as many maps are
            drawn as `rows` or the longest of the parameters has entries, every realisation on an input of its own
            (:meth:`draw_density`).
        parameters : mapping of str to float or array, shape (n,)
            Every parameter of the card, in its units; :func:`higan.sources.tables.read_parameters` reads a catalogue's.
        seed : int
            The same seed, inputs and rows give the same maps, whatever the batches and tiles.
        realisations : int, optional
            Draw so many of each map.
        rows : array_like of int, shape (n,), optional
            Global numbers of the maps, 0 … n - 1 where not given; each has its own randomness.
        shape : sequence of int, optional
            Cells of a map where no fields are given; that of the training maps where not given either.
        periodic : bool
            Whether opposite sides of a map touch; otherwise it is continued by reflection.
        tile : int, optional
            Paint in tiles of this side, in cells; the result is the same. Where not given, large maps are painted in
            tiles where that saves memory (:func:`higan.painting.regions.paint_maps`).
        batch_size : int, optional
            Maps at a time.
        allow_extrapolation : bool
            Take parameters outside the trained range; an :class:`ExtrapolationWarning` names them then.

        Warns
        -----
        UnlikeTrainingWarning
            If an array's cells are far from those of the training maps, as where 1 + δ is given for an overdensity δ.

        Returns
        -------
        array of float32
            (n, *shape), or (n, realisations, *shape) where `realisations` is given; without the leading n for a
            single map. A last axis for the outputs where there are several. In the units of `card.outputs`. A dask
            array, a tile a chunk, where `fields` is one.

        Raises
        ------
        MapSetError
            If a field is missing, has the wrong shape or is not finite (a dask array's cells: when they are painted).
        ParameterError
            If a parameter is missing, misnamed, of the wrong length or out of its range, or `seed`, `realisations`,
            `tile` or `batch_size` is no such number.

        Examples
        --------
        >>> import dask.array as da  # doctest: +SKIP
        >>> box = emulator.sample(da.from_zarr("density.zarr"), theta, seed=1)  # doctest: +SKIP
        >>> box[:64, :64, :64].compute()  # paints one corner  # doctest: +SKIP
        """
        for name, value in (("realisations", realisations), ("tile", tile), ("batch_size", batch_size)):
            if value is not None:
                check_count(name, value)
        check_seed(seed)
        if isinstance(fields, MapSet):
            periodic = periodic and fields.geometry.periodic
            fields, parameters = self._of_mapset(fields, parameters)
        drawn = fields is None and self.card.drawn is not None
        stacked, single = (
            self._fields(fields, shape)
            if self.card.inputs and not drawn
            else self._empty(fields, parameters, rows, shape)
        )
        lazy = isinstance(stacked, list)
        n = 1 if single else len(stacked[0] if lazy else stacked)
        theta = self.check_parameters(parameters, n, allow_extrapolation=allow_extrapolation)
        rows = _numbers(rows, n)
        draws = 1 if realisations is None else int(realisations)
        self._warn_of_extrapolation(theta)
        if self.card.inputs and not (drawn or lazy):
            self.warn_of_unlike(stacked)
        if lazy:
            painted: Any = paint_lazily(
                self.painter,
                stacked,
                theta,
                seed=int(seed),
                rows=rows,
                realisations=draws,
                periodic=periodic,
                tile=tile,
                batch_size=batch_size,
            )
            painted = painted if len(self.card.outputs) > 1 else painted[..., 0]
            painted = painted[:, 0] if realisations is None else painted
            return painted[0] if single else painted
        size = batch_size or self.default_batch(stacked.shape[1:-1], draws)
        out = np.empty((n * draws, *stacked.shape[1:-1], len(self.card.outputs)), dtype=np.float32)
        for start in range(0, n * draws, size):
            index = np.arange(start, min(start + size, n * draws))
            # A batch is always full: a backend that compiles by shape would compile the last one anew.
            full = np.resize(index, size) if n * draws > size else index
            at, draw = full // draws, full % draws
            if drawn:
                each = index // draws
                fields = self.painter.draw_inputs(
                    stacked.shape[1:-1], theta[each], seed=int(seed), rows=rows[each], realisations=index % draws
                )[full - start]
                maps = at
            else:
                maps = once_each(at) if self.card.inputs else at
                fields = stacked[maps]
            painted = self.paint_rows(
                fields, theta[maps], seed=int(seed), rows=rows[at], realisations=draw, periodic=periodic, tile=tile
            )
            out[index] = painted[: len(index)]
        if len(self.card.outputs) == 1:
            out = out[..., 0]
        if realisations is not None:
            out = out.reshape(n, draws, *out.shape[1:])
        return out[0] if single else out

    def draw_density(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int,
        realisations: int | None = None,
        rows: Any = None,
        shape: Sequence[int] | None = None,
        allow_extrapolation: bool = False,
    ) -> np.ndarray:
        """The matter that :meth:`sample` paints on where it is given no fields, for the same arguments.

        Gaussian initial conditions with the linear power spectrum of `parameters`, evolved by second-order Lagrangian
        perturbation theory (:mod:`higan.matter`), for checkpoints whose card has `drawn`.

        Returns
        -------
        array of float32
            The overdensity, (n, *shape), or (n, realisations, *shape) where `realisations` is given; without the
            leading n for a single map.

        Raises
        ------
        MapSetError
            If the checkpoint draws no density, or `shape` is no cube.
        ParameterError
            As of :meth:`sample`.

        Examples
        --------
        >>> theta = {"F_STAR10": -1.4, "ALPHA_STAR": 0.5, "SIGMA_8": 0.82}
        >>> density = emulator.draw_density(theta, seed=1)  # doctest: +SKIP
        >>> maps = emulator.sample(density, theta, seed=1)  # doctest: +SKIP
        >>> same = emulator.sample(parameters=theta, seed=1)  # doctest: +SKIP
        """
        if self.card.drawn is None:
            raise MapSetError(f"{self.card.name} draws no density by itself. Take a checkpoint that does.")
        if realisations is not None:
            check_count("realisations", realisations)
        check_seed(seed)
        empty, single = self._empty(None, parameters, rows, shape)
        n, draws = len(empty), 1 if realisations is None else int(realisations)
        theta = self.check_parameters(parameters, n, allow_extrapolation=allow_extrapolation)
        self._warn_of_extrapolation(theta)
        at, draw = np.arange(n * draws) // draws, np.arange(n * draws) % draws
        drawn = self.painter.draw_inputs(
            empty.shape[1:-1], theta[at], seed=int(seed), rows=_numbers(rows, n)[at], realisations=draw
        )[..., 0]
        if realisations is not None:
            drawn = drawn.reshape(n, draws, *drawn.shape[1:])
        return drawn[0] if single else drawn

    def sample_sky(
        self,
        fields: Any,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int,
        cell_angle: float | None = None,
        realisations: int | None = None,
        row: int = 0,
        nside: int | None = None,
        nested: bool = False,
        allow_extrapolation: bool = False,
    ) -> np.ndarray:
        """Paint a map of the whole sky, or of a part of it.

        Parameters
        ----------
        fields : array, shape (12 nside²,), or mapping of field name to array
            HEALPix maps in the units of `card.inputs`, masked pixels UNSEEN or NaN.
        parameters : mapping of str to float
            Every parameter of the card, in its units.
        seed : int
            The same seed, input and row give the same sky.
        cell_angle : float, optional
            Of one of the generator's cells, in arcmin: :func:`higan.painting.sphere.cell_angle` gives that of a shell.
            A generator that was trained on patches of the sky has its own.
        realisations : int, optional
            Draw so many of the sky.
        row : int
            Global number of the map: each has its own randomness.
        nside : int, optional
            Of what is painted; that of the input where not given, if the cells are as fine.
        nested : bool
            Whether pixels are in NESTED order, going in and out; else RING.
        allow_extrapolation : bool
            As of :meth:`sample`.

        Returns
        -------
        array of float32
            (12 nside²,), or (realisations, 12 nside²) where `realisations` is given; a last axis for the outputs where
            there are several. In the units of `card.outputs`; masked pixels are UNSEEN.

        Raises
        ------
        MapSetError
            If a field is missing or no map of the sky, its pixels are coarser than the cells, or `nside` finer.
        ParameterError
            As of :meth:`sample`.
        """
        from higan.painting.sphere import cells_along_face, check_nside, default_nside, paint_sky

        if realisations is not None:
            check_count("realisations", realisations)
        check_seed(seed)
        stacked = self._skies(fields)
        theta = self.check_parameters(parameters, 1, allow_extrapolation=allow_extrapolation)
        self._warn_of_extrapolation(theta)
        if cell_angle is None:
            if self.card.geometry != "patch":
                raise ParameterError(
                    f"{self.card.name} has cells of {self.card.cell_size:g} {self.card.length_units}: give cell_angle, "
                    "in arcmin."
                )
            cell_angle = self.card.cell_size
        n = cells_along_face(self.card, len(stacked), cell_angle)
        nside = default_nside(len(stacked), n) if nside is None else nside
        check_nside(nside, n, nested=nested)
        skies = [
            paint_sky(
                self.painter,
                stacked,
                theta,
                n=n,
                seed=int(seed),
                row=row,
                realisation=draw,
                nside=nside,
                ordering="NESTED" if nested else "RING",
            )
            for draw in range(1 if realisations is None else int(realisations))
        ]
        out = np.stack(skies)
        if len(self.card.outputs) == 1:
            out = out[..., 0]
        return out[0] if realisations is None else out

    def paint_rows(
        self,
        fields: np.ndarray,
        parameters: np.ndarray,
        *,
        seed: int,
        rows: Any,
        realisations: Any = 0,
        periodic: bool = True,
        tile: int | None = None,
    ) -> np.ndarray:
        """One batch, unchecked, as :func:`higan.painting.regions.paint_maps` takes it."""
        return paint_maps(
            self.painter,
            fields,
            parameters,
            seed=seed,
            rows=rows,
            realisations=realisations,
            periodic=periodic,
            tile=tile,
        )

    def default_batch(self, shape: Sequence[int], realisations: int = 1) -> int:
        """Maps of `shape` to paint at a time, where there are so many realisations of each."""
        return batch_of(shape[: self.card.ndim], realisations)

    def paint(self, fields: Any, parameters: Any, noise: Sequence[Any]) -> Any:
        """Paint with given noise, in keras.ops alone: scalings included, no checks, differentiable.

        ``jax.grad``, ``jax.jit`` and ``tf.GradientTape`` go through it. With an excursion set maps are taken as
        periodic, and their shape has to be known when it is compiled.

        Parameters
        ----------
        fields : tensor, shape (batch, *shape, n_inputs)
            Physical units; the shape in multiples of `card.stride`.
        parameters : tensor, shape (batch, n_par)
            In the order of `card.parameters`.
        noise : sequence of tensor
            From :meth:`noise`.

        Returns
        -------
        tensor, shape (batch, *shape, n_outputs)
            Physical units, those of `card.outputs`.

        Examples
        --------
        >>> emulator, theta = load("eor21cm-2d"), [[-1.4, 0.5, 0.82]]
        >>> noise = emulator.noise((64, 64), seed=1, rows=[0])
        >>> maps = emulator.paint(np.zeros((1, 64, 64, 1), "float32"), np.float32(theta), noise)
        >>> tuple(maps.shape)
        (1, 64, 64, 1)
        """
        return self.painter.paint(fields, parameters, noise)

    def noise(self, shape: Sequence[int], *, seed: int, rows: Any, realisations: Any = 0) -> list[np.ndarray]:
        """The noise that :meth:`sample` draws for periodic maps of `shape`, one array a level, for :meth:`paint`.

        Parameters
        ----------
        shape : sequence of int
            In cells, multiples of `card.stride` (:meth:`sample` extends other maps to these).
        seed : int
        rows, realisations : array_like of int, shape (batch,)

        Returns
        -------
        list of array, shape (batch, *shape / 2^level, channels)
        """
        return self.painter.noise(shape, seed=seed, rows=rows, realisations=realisations)

    def check_parameters(
        self, parameters: Mapping[str, Any] | None, n: int, *, allow_extrapolation: bool = False
    ) -> np.ndarray:
        """Parameters of `n` maps as (n, n_par), in the card's order; ParameterError where they do not fit."""
        parameters = _named(parameters)
        known = [p.name for p in self.card.parameters]
        for name in parameters:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}."
                raise ParameterError(f"{self.card.name} has no parameter {name!r}; {hint}")
        columns = []
        for p in self.card.parameters:
            if p.name not in parameters:
                raise ParameterError(f"parameter {p.name} is missing: {self.card.name} takes {', '.join(known)}.")
            given = parameters[p.name]
            try:
                values = np.where(np.ma.getmaskarray(given), np.nan, np.asarray(given, dtype=np.float64))
                values = converted(f"parameter {p.name}", values, getattr(given, "unit", None), p)
                values = np.broadcast_to(values, (n,))
            except (TypeError, ValueError) as error:
                raise ParameterError(
                    f"parameter {p.name} should be a number or {n} of them (one a map), received {_brief(given)}."
                ) from error
            bad = ~np.isfinite(values)
            if bad.any():
                raise ParameterError(
                    f"parameter {p.name}{_of_map(given, bad)} is {values[bad][0]}, not a finite number. Mend that, "
                    "or leave it out."
                )
            bad = outside(values, p)
            if bad.any() and not allow_extrapolation:
                raise ParameterError(
                    f"{self._leaves_range(p, values[bad], _of_map(given, bad))}. Stay inside, or allow extrapolation "
                    "explicitly."
                )
            columns.append(values)
        return np.stack(columns, axis=1) if columns else np.empty((n, 0))

    def extrapolates(self, parameters: np.ndarray) -> bool:
        """Whether any of `parameters` (n, n_par), in the card's order, is outside the trained range."""
        return any(outside(values, p).any() for values, p in zip(parameters.T, self.card.parameters, strict=True))

    def columns_of(self, maps: MapSet) -> dict[str, np.ndarray]:
        """The card's parameters of a map set, each map by map; those that the generator does not know are left out."""
        names = [p.name for p in self.card.parameters]
        for name in names:
            if name not in maps.parameter_names:
                raise ParameterError(
                    f"{maps.name} has no parameter {name!r}: it has {', '.join(maps.parameter_names) or 'none'}."
                )
        return {name: maps.parameters[maps.simulation, maps.parameter_names.index(name)] for name in names}

    def check_mapset(self, maps: MapSet, *, drawn: bool = False) -> None:
        """Refuse maps whose fields, units, cell size, slab thickness, redshift or dimensions differ from the card's.

        Where they are to be `drawn` fields are not looked for, but maps have to be cubes.
        """
        card = self.card
        if drawn and (card.drawn is None or len(set(maps.shape[: card.ndim])) > 1):
            raise MapSetError(
                f"{card.name} draws no density for maps of shape {maps.shape}. Give cubes, and a checkpoint that draws."
            )
        if maps.geometry.ndim != card.ndim:
            raise MapSetError(f"{maps.name} has {maps.geometry.ndim}D maps; {card.name} paints {card.ndim}D ones.")
        for item in [] if drawn else card.inputs:
            maps.check_units(item.field, item.units, card.name)
            if len(maps.field(item.field).shape) != card.ndim:
                raise MapSetError(
                    f"{maps.name}: field {item.field!r} has maps of shape {maps.field(item.field).shape}, but "
                    f"{card.name} takes {card.ndim} dimensions. Give each channel as a field of its own."
                )
        depths = maps.geometry.depth_units, card.depth_units
        for what, ours, theirs, (unit, needed) in (
            ("cell size", maps.cell_size, card.cell_size, (maps.geometry.length_units, card.length_units)),
            ("slab thickness", maps.geometry.thickness, card.thickness, depths),
        ):
            if theirs is None and ours is None:
                continue
            if ours is None or theirs is None or unit != needed or abs(ours - theirs) > 1e-3 * theirs:
                received = "none" if ours is None else f"{ours:g} {unit}"
                wanted = "none" if theirs is None else f"{theirs:g} {needed}"
                raise MapSetError(
                    f"{maps.name} has a {what} of {received}, but {card.name} was trained on {wanted}. "
                    "Regrid the maps, or train on such maps."
                )

        ours, theirs = maps.geometry.redshift, card.redshift
        if ours is not None and theirs is not None and abs(ours - theirs) > 0.01 * (1 + theirs):
            raise MapSetError(
                f"{maps.name} is at redshift {ours:g}, but {card.name} was trained at {theirs:g}. Give such maps."
            )

    def _warn_of_extrapolation(self, parameters: np.ndarray) -> None:
        for p, values in zip(self.card.parameters, parameters.T, strict=True):
            beyond = values[outside(values, p)]
            if beyond.size:
                warnings.warn(
                    f"{self._leaves_range(p, beyond)}: what is painted there is extrapolated.",
                    ExtrapolationWarning,
                    stacklevel=3,
                )

    def warn_of_unlike(self, fields: np.ndarray) -> None:
        """An :class:`UnlikeTrainingWarning` for fields (…, n_inputs) in other units or conventions than the training's.

        Scaled training cells have mean 0 and standard deviation 1; those of a small map may be some tenths off. Of
        large maps a million cells are looked at.
        """
        cells = fields.reshape(-1, fields.shape[-1])
        cells = cells[:: len(cells) // MOST_CELLS * 2 + 1]  # no divisor of the sides, which are even
        for i, (item, scaling) in enumerate(zip(self.card.inputs, self.painter.inputs, strict=True)):
            with np.errstate(all="ignore"):
                scaled = scaling.forward(cells[:, i].astype(np.float64))
            mean, deviation = float(scaled.mean()), float(scaled.std())
            if scaled.size >= FEWEST_CELLS and not (abs(mean) <= 1 and 0.1 <= deviation <= 10):
                warnings.warn(
                    f"{item.field} is unlike the maps that {self.card.name} was trained on: scaled as these were, to "
                    f"mean 0 and standard deviation 1, it has {mean:.2g} and {deviation:.2g}. It takes the "
                    f"{item.long_name or item.field} in units of {item.units or '1'}; look whether yours is.",
                    UnlikeTrainingWarning,
                    stacklevel=3,
                )

    def _leaves_range(self, p: ParameterCard, values: np.ndarray, where: str = "") -> str:
        return (
            f"parameter {p.name}{where} = {values[0]:g} is outside the range [{p.lower:g}, {p.upper:g}] that "
            f"{self.card.name} was trained on"
        )

    def _empty(
        self, fields: Any, parameters: Mapping[str, Any] | None, rows: Any, shape: Sequence[int] | None
    ) -> tuple[Any, bool]:
        """No fields, as (n, *shape, 0), and whether a single map is asked for."""
        card = self.card
        if fields is not None:
            raise MapSetError(f"{card.name} draws maps from noise and parameters alone: give it no fields.")
        try:
            shape = tuple(card.shape if shape is None else shape)
        except TypeError:
            raise MapSetError(
                f"shape is {shape!r}; {card.name} paints maps of {card.ndim} dimensions: give as many numbers of cells."
            ) from None
        if len(shape) != card.ndim:
            raise MapSetError(f"shape is {shape}; {card.name} paints maps of {card.ndim} dimensions.")
        for n in shape:
            check_count("shape", n)
        if card.network.network == "profiles" and list(shape) != card.shape:
            raise MapSetError(
                f"shape is {shape}; {card.name} paints stamps of {tuple(card.shape)} alone. Leave it out."
            )
        if card.drawn is not None and len(set(shape)) > 1:
            raise MapSetError(f"shape is {shape}; {card.name} draws cubes. Give equal sides.")
        counts = [np.size(values) for values in _named(parameters).values() if np.ndim(values)]
        counts += [] if rows is None else [np.size(rows)]
        return np.empty((max(counts, default=1), *shape, 0), dtype=np.float32), not counts

    def _of_mapset(self, maps: MapSet, parameters: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Fields, None for a card without inputs, and parameters of a map set, map by map."""
        if parameters is not None:
            raise ParameterError(f"{maps.name} brings its own parameters: leave parameters out, or give arrays.")
        self.check_mapset(maps)
        return {item.field: maps.read(item.field) for item in self.card.inputs} or None, self.columns_of(maps)

    def _fields(self, fields: Any, shape: Sequence[int] | None) -> tuple[Any, bool]:
        """Fields as (n, *shape, n_inputs), or a list of dask's as they are, and whether it was a single map."""
        card = self.card
        if shape is not None:
            raise MapSetError(f"shape is that of the input fields of {card.name}. Leave it out.")
        if fields is None:
            raise MapSetError(f"{card.name} paints on {', '.join(item.field for item in card.inputs)}: give such maps.")
        if not isinstance(fields, Mapping):
            if len(card.inputs) > 1:
                names = ", ".join(item.field for item in card.inputs)
                raise MapSetError(f"{card.name} takes several fields ({names}): give a mapping of name to array.")
            fields = {card.inputs[0].field: fields}
        arrays = []
        for item in card.inputs:
            if item.field not in fields:
                raise MapSetError(f"field {item.field!r} is missing: received {', '.join(fields) or 'none'}.")
            array = fields[item.field]
            try:
                array = array if is_lazy(array) else np.asarray(array, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise MapSetError(f"field {item.field!r} is not an array of numbers ({error}).") from error
            if array.ndim not in (card.ndim, card.ndim + 1) or 0 in array.shape or np.isnan(array.shape).any():
                raise MapSetError(
                    f"field {item.field!r} has shape {array.shape}; {card.name} takes one map of {card.ndim} "
                    f"dimensions, or several along a first axis."
                )
            arrays.append(array)
        if len({array.shape for array in arrays}) > 1:
            raise MapSetError(f"fields differ in shape: {', '.join(str(a.shape) for a in arrays)}.")
        single = arrays[0].ndim == card.ndim
        if any(map(is_lazy, arrays)):
            # Left as they are, so that a tile reads its own region only; its values are looked at then.
            return arrays, single
        stacked = np.stack([array[None] if single else array for array in arrays], axis=-1)
        finite = np.isfinite(stacked).reshape(len(stacked), -1).all(axis=1)
        if not finite.all():
            raise MapSetError(f"map {int(np.flatnonzero(~finite)[0])} (counted from 0) holds NaN or infinite values.")
        return stacked, single

    def _skies(self, fields: Any) -> np.ndarray:
        """Maps of the sky as (npix, n_inputs), masked pixels UNSEEN or NaN."""
        card = self.card
        if not isinstance(fields, Mapping):
            fields = {card.inputs[0].field: fields} if len(card.inputs) == 1 else {}
        arrays = []
        for item in card.inputs:
            if item.field not in fields:
                names = ", ".join(field.field for field in card.inputs)
                raise MapSetError(f"{card.name} paints on {names}: give a mapping of name to map of the sky.")
            arrays.append(np.asarray(fields[item.field], dtype=np.float32))
            if arrays[-1].ndim != 1 or arrays[-1].shape != arrays[0].shape:
                raise MapSetError(
                    f"field {item.field!r} has shape {arrays[-1].shape}; a map of the sky has one axis, of 12 nside² "
                    "pixels, as many as the other fields."
                )
        if not arrays:
            raise MapSetError(
                f"{card.name} paints without an input field, and a sky needs one. Take a checkpoint that has it."
            )
        return np.stack(arrays, axis=-1)


def _numbers(rows: Any, n: int) -> np.ndarray:
    """Global numbers of `n` maps; MapSetError if there are not as many."""
    numbers = np.arange(n) if rows is None else np.asarray(rows, dtype=np.int64).reshape(-1)
    if len(numbers) != n:
        raise MapSetError(f"rows has {len(numbers)} entries for {n} maps. Give one a map.")
    return numbers


def check_seed(seed: Any) -> None:
    """Refuse what is no seed of the noise."""
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**64):
        raise ParameterError(f"seed must be a whole number from 0 to 2^64 - 1, received {seed!r}.")


def _named(parameters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`parameters`, none of them where not given; ParameterError where they are no mapping."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ParameterError(
            f"parameters should be a mapping of names to numbers, received a {type(parameters).__name__}; of an "
            "astropy or pandas table it is dict(table)."
        )
    return parameters or {}


def _of_map(given: Any, bad: np.ndarray) -> str:
    """Words for the first bad one of values that were given map by map."""
    return f" of map {int(np.argmax(bad))} (counted from 0)" if np.ndim(given) else ""


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
