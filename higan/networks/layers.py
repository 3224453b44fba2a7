"""Layers that the networks share: convolution, means in top-hats, pixel norm, modulation, resampling.

None of them looks beyond its kernel: no statistics over space, so that the value of a cell does not depend on the
extent of the map it is painted in, and a box rolled by the generator's stride gives the output rolled.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from higan.excursion import LEAST, square, wavenumbers, widest
from higan.networks.config import half_width, halvings
from higan.scaling import Scaling


class HostNormal(keras.initializers.Initializer):
    """Normal initial weights of standard deviation gain / sqrt(fan_in), drawn by numpy.

    Keras initialisers give other numbers on each backend for one seed; these are the same everywhere.

    Parameters
    ----------
    seed : int
    name : str
        Name of the layer: each draws its own numbers, whatever the order they are built in.
    gain : float
        sqrt(2) keeps the variance through a rectifier (He et al. 2015, 1502.01852, eq. 10).
    """

    def __init__(self, seed: int, name: str, gain: float):
        self.seed, self.name, self.gain = seed, name, gain

    def __call__(self, shape: Any, dtype: Any = None, **_: Any) -> Any:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, zlib.crc32(self.name.encode())]))
        values = rng.standard_normal(tuple(shape)) * self.gain / np.sqrt(np.prod(shape[:-1]))
        return ops.convert_to_tensor(values.astype("float32"), dtype=dtype)


class PeriodicPadding(keras.layers.Layer):
    """Wrap `width` cells of the opposite side around each spatial axis of (batch, *shape, channels)."""

    def __init__(self, width: int = 1, **options: Any):
        super().__init__(**options)
        self.width = width

    def call(self, x: Any) -> Any:
        return periodic(x, self.width)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        inner = [None if n is None else n + 2 * self.width for n in shape[1:-1]]
        return (shape[0], *inner, shape[-1])


def periodic(x: Any, width: int, axes: Sequence[int] | None = None) -> Any:
    """See :class:`PeriodicPadding`; along `axes` of the array alone. Goes round again where a map has fewer cells."""
    for axis in range(1, len(x.shape) - 1) if axes is None else axes:
        n = x.shape[axis]
        if n is not None and n >= 2 * width:
            # The gradient of a split is a concatenation; that of slices adds up maps that are zero but for an edge.
            first, inner, last = split(x, [width, n - 2 * width, width], axis)
            x = ops.concatenate([last, first, inner, last, first], axis=axis)
        else:
            cells = ops.shape(x)[axis]
            x = ops.take(x, ops.arange(-width, cells + width) % cells, axis=axis)
    return x


def split(x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    """Parts of so many cells each along an axis.

    On TensorFlow by its own operation: Keras has the graph compute the sizes, which takes as long to trace as all else.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: TID251 (nothing in keras.ops takes sizes that are known)

        return tf.split(x, sizes, axis)
    return ops.split(x, list(itertools.accumulate(sizes[:-1])), axis=axis)


class Interpolation(keras.layers.Layer):
    """Twice as many cells along each spatial axis of (batch, *shape, channels), linearly between the centres of cells.

    Periodic, or, with an `edge`, constant beyond the outermost centres.
    """

    def __init__(self, edge: bool = False, **options: Any):
        super().__init__(**options)
        self.edge = edge

    def call(self, x: Any) -> Any:
        return interpolate(x, self.edge)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], *(None if n is None else 2 * n for n in shape[1:-1]), shape[-1])


def interpolate(x: Any, edge: bool = False) -> Any:
    """See :class:`Interpolation`."""
    for axis in range(1, len(x.shape) - 1):
        shape = list(ops.shape(x))
        first, rest = _cut(x, 1, axis)
        start, last = _cut(x, -1, axis)
        before = ops.concatenate([first if edge else last, start], axis=axis)
        after = ops.concatenate([rest, last if edge else first], axis=axis)
        near = 0.75 * x
        x = ops.stack([near + 0.25 * before, near + 0.25 * after], axis=axis + 1)
        shape[axis] = 2 * shape[axis]
        x = ops.reshape(x, shape)
    return x


def _cut(x: Any, at: int, axis: int) -> list[Any]:
    """`x` before and after cell `at` of an axis."""
    n = x.shape[axis]
    if n is not None and n > 1:
        # The gradient of a split is a concatenation; that of slices adds up maps that are zero but for an edge.
        return split(x, [at % n, n - at % n], axis)
    before, after = [slice(None)] * len(x.shape), [slice(None)] * len(x.shape)
    before[axis], after[axis] = slice(None, at), slice(at, None)
    return [x[tuple(before)], x[tuple(after)]]


class Position(keras.layers.Layer):
    """Add channels that say where a cell of (batch, *shape, channels) lies from the middle of the map.

    They are the coordinates in units of 8 cells, and Gaussians of the radius of widths 2, 4, 8 and 16 cells.
    """

    widths = (2.0, 4.0, 8.0, 16.0)

    def call(self, x: Any) -> Any:
        shape = ops.shape(x)
        ndim = len(shape) - 2
        coordinates, squared = [], 0.0
        for axis in range(1, ndim + 1):
            along = [1] * (ndim + 2)
            along[axis] = -1
            cells = ops.cast(shape[axis], "float32")
            offset = ops.reshape(ops.arange(shape[axis], dtype="float32") - 0.5 * (cells - 1.0), along)
            coordinates.append(offset / 8.0)
            squared = squared + ops.square(offset)
        channels = [*coordinates, *(ops.exp(-0.5 * squared / width**2) for width in self.widths)]
        added = [ops.broadcast_to(ops.cast(channel, x.dtype), (*shape[:-1], 1)) for channel in channels]
        return ops.concatenate([x, *added], axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        assert shape[-1] is not None
        return (*shape[:-1], shape[-1] + len(shape) - 2 + len(self.widths))


def _around(values: Any, ndim: int = 2) -> Any:
    """(batch, n) as (batch, 1, ..., n)."""
    return ops.reshape(values, (-1, *(1,) * ndim, values.shape[-1]))


class TopHats(keras.layers.Layer):
    """Means of each field of (batch, *shape, fields) within spheres (discs in two dimensions) about each cell.

    Returns (batch, *shape, fields * len(radii)). A cell at the rim counts by 1/2 plus how far its centre lies within.
    A radius of more than four cells is taken of the map halved until it is not, and interpolated. So rims are soft, by
    about a cell of that map, and spheres larger than they are called: by their second moment an eighth from 2 cells on,
    a quarter just above 4, 8 or 16. Means are multiplied by 1 + R / 3, about what the scatter of a matter field falls
    by.

    Parameters
    ----------
    radii : sequence of float
        R, in cells, ascending.
    beyond : int or sequence of int
        Cells that the fields extend beyond what means are returned of on either side, of every axis or of each
        (:attr:`higan.networks.config.GeneratorConfig.beyond`); 0 where maps are periodic.
    """

    def __init__(self, radii: Sequence[float], beyond: int | Sequence[int] = 0, **options: Any):
        super().__init__(**options)
        self.radii, self.beyond = list(radii), beyond

    def call(self, x: Any) -> Any:
        n_fields, means = x.shape[-1], []
        beyond = self._beyond(len(x.shape) - 2)
        wrapping = [axis for axis, cells in enumerate(beyond, 1) if not cells]
        # Every field is a map of its own: kernels are the same for all of them.
        x = ops.reshape(ops.moveaxis(x, -1, 1), (-1, *ops.shape(x)[1:-1], 1))
        halved = 0
        for level, group in itertools.groupby(self.radii, halvings):
            for _ in range(level - halved):
                x = ops.average_pool(x, 2, strides=2, data_format="channels_last")
            halved, radii = level, list(group)
            half = half_width(radii[-1])
            more = 1 if level else 0  # to interpolate with
            part = within(x, [(cells >> level) - half - more if cells else 0 for cells in beyond])
            mean = ops.conv(
                periodic(part, half, wrapping), self._kernel(radii, half, len(beyond)), data_format="channels_last"
            )
            for _ in range(level):
                mean = interpolate(mean)
            means.append(within(mean, [more << level if cells else 0 for cells in beyond]))
        joined = ops.concatenate(means, axis=-1)
        shape = ops.shape(joined)[1:-1]
        joined = ops.moveaxis(ops.reshape(joined, (-1, n_fields, *shape, len(self.radii))), 1, -2)
        return ops.reshape(joined, (-1, *shape, n_fields * len(self.radii)))

    def _beyond(self, ndim: int) -> list[int]:
        return [self.beyond] * ndim if isinstance(self.beyond, int) else list(self.beyond)

    def _kernel(self, radii: list[float], half: int, ndim: int) -> Any:
        """Of maps that are halved alike: (2 * half + 1, …, 1, len(radii))."""
        distance = np.sqrt(sum(np.square(offset) for offset in np.indices((2 * half + 1,) * ndim) - half))
        kernel = np.stack([np.clip(r / 2 ** halvings(r) + 0.5 - distance, 0, 1) for r in radii], axis=-1)
        kernel *= (1 + np.array(radii) / 3) / kernel.sum(axis=tuple(range(ndim)))
        return ops.convert_to_tensor(kernel[..., None, :].astype(np.float32))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        assert shape[-1] is not None
        beyond = self._beyond(len(shape) - 2)
        inner = [None if n is None else n - 2 * cells for n, cells in zip(shape[1:-1], beyond, strict=True)]
        return (shape[0], *inner, shape[-1] * len(self.radii))


def sharp_cuts(field: Any, radii: Sequence[float]) -> tuple[Any, Any]:
    """Periodic maps (n, *shape, 1) and :class:`higan.excursion.SharpCuts` of them, all as channels; and the scatter."""
    shape, last = tuple(field.shape[1:-1]), len(field.shape) - 2
    squares, counts = wavenumbers(shape, periodic=True)
    modes = ops.rfft(ops.cast(field, "float32")[..., 0])
    for axis in range(1, last):
        modes = fourier_along(axis, modes)
    power = math.prod(counts) * (ops.square(modes[0]) + ops.square(modes[1])) / math.prod(shape) ** 2
    channels, variances, axes = [field], [], tuple(range(1, last + 1))
    mean = power[(slice(None), *(0,) * last)]
    for radius in [0.0, *radii]:
        scale, kept = (
            1 + radius / 3,
            np.float32(1) if not radius else (sum(squares) <= square(radius)).astype("float32"),
        )
        variances.append(scale**2 * (ops.sum(kept * power, axis=axes) - mean))
        if radius:
            # The inverse transform is that of the complex conjugate, conjugated.
            smooth = (kept * modes[0], -kept * modes[1])
            for axis in range(1, last):
                smooth = fourier_along(axis, smooth)
            smooth = ops.irfft((smooth[0], -smooth[1]), fft_length=shape[-1])
            smooth = scale / math.prod(shape[:-1]) * smooth[..., None]
            channels.append(smooth if radius <= widest(shape) else ops.full_like(smooth, -np.inf))
    return ops.concatenate(channels, axis=-1), ops.log(ops.maximum(ops.stack(variances, axis=-1), LEAST))


def fourier_along(axis: int, modes: tuple[Any, Any]) -> tuple[Any, Any]:
    """The Fourier transform along an axis of (real, imaginary) parts."""
    real, imaginary = ops.fft(tuple(ops.swapaxes(part, axis, -1) for part in modes))
    return ops.swapaxes(real, axis, -1), ops.swapaxes(imaginary, axis, -1)


class Above(keras.layers.Layer):
    """The most by which a channel of (batch, *shape, c) is above its height, of (batch, c): (batch, *shape, 1)."""

    def call(self, inputs: Any) -> Any:
        x, heights = inputs
        return ops.max(x - _around(heights, len(x.shape) - 2), axis=-1, keepdims=True)

    def compute_output_shape(self, shapes: Any) -> tuple[int | None, ...]:
        return (*shapes[0][:-1], 1)


class Brightest(keras.layers.Layer):
    """The largest value within so many cells along each axis of (batch, *shape, c); periodic."""

    def __init__(self, half_width: int, **options: Any):
        super().__init__(**options)
        self.half_width = half_width

    def call(self, x: Any) -> Any:
        for axis in range(1, len(x.shape) - 1):
            width = 1
            while width < 2 * self.half_width + 1:  # the window that starts at a cell, twice as wide each time
                step = min(width, 2 * self.half_width + 1 - width)
                x, width = ops.maximum(x, ops.roll(x, -step, axis)), width + step
            x = ops.roll(x, self.half_width, axis)
        return x

    def compute_output_shape(self, shape: Any) -> tuple[int | None, ...]:
        return shape


class Spilled(keras.layers.Layer):
    """Amounts (batch, *shape, c), shared by each cell with the cells it has a face in common with; periodic.

    A neighbour gets exp(middle + aside * mark) times what the cell keeps: `middle` and `aside`, of the shape of the
    amounts, are the cell's own, and the mark (batch, *shape, 1), a normal deviate, is the neighbour's. Their sum stays.
    """

    def call(self, inputs: Any) -> Any:
        amounts, middle, aside, marks = inputs
        sides = [(axis, step) for axis in range(1, len(amounts.shape) - 1) for step in (1, -1)]
        ratios = [ops.exp(middle + aside * ops.roll(marks, -step, axis)) for axis, step in sides]
        kept = amounts / (1.0 + sum(ratios))
        given = [ops.roll(ratio * kept, step, axis) for (axis, step), ratio in zip(sides, ratios, strict=True)]
        return kept + sum(given)

    def compute_output_shape(self, shapes: Any) -> tuple[int | None, ...]:
        return shapes[0]


def within(maps: Any, around: int | Sequence[int]) -> Any:
    """(batch, *shape, channels) without so many cells on either side, of every axis or of each."""
    if isinstance(around, int):
        around = [around] * (len(maps.shape) - 2)
    return maps[(slice(None), *(slice(n, -n or None) for n in around))] if any(around) else maps


def by_channel(function: Callable[[Scaling, Any], Any], scalings: Sequence[Scaling], maps: Any) -> Any:
    """`function` of each channel's scaling and maps."""
    channels = [function(scaling, maps[..., i : i + 1]) for i, scaling in enumerate(scalings)]
    return channels[0] if len(channels) == 1 else ops.concatenate(channels, axis=-1)


def forward(scaling: Scaling, x: Any) -> Any:
    return scaling.forward(x, ops)


def restore(scaling: Scaling, y: Any) -> Any:
    return scaling.restore(y, ops)


def spill(x: Any, sharing: Any, marks: Any, scalings: Sequence[Scaling]) -> Any:
    """Scaled maps whose cells share what is above the lower bound; what is out of bounds passes by, as it is.

    How much, is linear in the value of the cell: bright ones share, at first, and others hardly. The sum of amounts
    stays where all cells are within bounds.
    """
    inside = by_channel(_inside, scalings, x)
    amounts = by_channel(_amount, scalings, inside)
    middle, more, aside, further = ops.split(sharing, 4, axis=-1)
    middle = ops.clip(middle - 6.0 + (more + 0.5) * inside, -20.0, 2.0)
    aside = ops.clip(aside + 1.5 + further * inside, -3.0, 3.0)
    amounts = Spilled(name="spilled", dtype="float32")([amounts, middle, aside, marks])
    return by_channel(_scaled_amount, scalings, amounts) + x - inside


def summed(x: Any, other: Any, scalings: Sequence[Scaling]) -> Any:
    """Scaled maps of the sum of the amounts of two; gradients pass what is out of bounds."""
    inside = [y + ops.stop_gradient(by_channel(_inside, scalings, y) - y) for y in (x, other)]
    return by_channel(_scaled_amount, scalings, sum(by_channel(_amount, scalings, y) for y in inside))


def _amount(scaling: Scaling, y: Any) -> Any:
    """Of scaled `y`, within bounds: what is above the lower one, in physical units."""
    return scaling.restore(y, ops) - _lowest(scaling)


def _lowest(scaling: Scaling) -> float:
    """What amounts are counted from."""
    return scaling.lower or 0.0


def _inside(scaling: Scaling, y: Any) -> Any:
    """Scaled `y` within bounds, and where amounts are within single precision, ten standard deviations up at most."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest, highest = (float(scaling.forward(np.float64(x))) for x in (_lowest(scaling), 1e30))
    return ops.clip(scaling.bound(y, ops), lowest if np.isfinite(lowest) else -10.0, min(highest, 10.0))


def _scaled_amount(scaling: Scaling, amount: Any) -> Any:
    """What is so much above the lower bound, scaled: more than the bound, which may have no logarithm."""
    lower = _lowest(scaling)
    return scaling.forward(lower + ops.maximum(amount, max(1e-6 * abs(lower), 1e-37)), ops)


class Repeated(keras.layers.Layer):
    """(n, …) over again, as often as the second input, (times * n, …), is longer: as many realisations of each map."""

    def __init__(self, **options: Any):
        super().__init__(autocast=False, **options)

    def call(self, inputs: Any) -> Any:
        x, drawn = inputs
        times = ops.shape(drawn)[0] // ops.shape(x)[0]
        # TensorFlow may know only when it runs how often.
        return x if isinstance(times, int) and times == 1 else ops.tile(x, (times, *(1,) * (len(x.shape) - 1)))

    def compute_output_shape(self, shapes: Any) -> Any:
        return (shapes[1][0], *shapes[0][1:])


class After(keras.layers.Layer):
    """The first input as it is, once the second has been computed: what follows takes no memory until then.

    TensorFlow alone computes whatever it has the inputs of, and keeps it: others compile with an eye on memory, or
    compute layer by layer.
    """

    def __init__(self, **options: Any):
        super().__init__(autocast=False, **options)

    def call(self, inputs: Any) -> Any:
        x, other = inputs
        if keras.backend.backend() != "tensorflow":
            return x
        import tensorflow as tf  # noqa: TID251 (keras.ops knows no order)

        with tf.control_dependencies([other]):
            return tf.identity(x)

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]


class Smoothed(keras.layers.Layer):
    """White noise (batch, *shape, channels), beside it smoothed over 2, 4, … cells: (1 + times) * channels.

    Binomial weights of 1, 2, 1 along every axis, their cells twice as far apart each time (the algorithme à trous of
    Holschneider et al. 1989). Each is of unit variance on maps of 2^(times + 1) - 1 cells and more. Periodic.
    """

    def __init__(self, times: int, **options: Any):
        super().__init__(**options)
        self.times = times

    def call(self, x: Any) -> Any:
        found, weights, axes = [x], np.ones(1), range(1, len(x.shape) - 1)
        for far in (2**i for i in range(self.times)):
            for axis in axes:
                x = 0.5 * x + 0.25 * (ops.roll(x, far, axis) + ops.roll(x, -far, axis))
            apart = np.zeros(2 * far + 1)
            apart[::far] = 0.25, 0.5, 0.25
            weights = np.convolve(weights, apart)
            found.append(float(np.square(weights).sum() ** (-len(axes) / 2)) * x)
        return ops.concatenate(found, axis=-1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], (1 + self.times) * shape[-1])


class PixelNorm(keras.layers.Layer):
    """Scale each cell's features to unit mean square over channels (Karras et al. 2018, 1710.10196, sec. 4.2)."""

    def call(self, x: Any) -> Any:
        # The mean square in float32, whatever the features are in.
        scale = ops.rsqrt(ops.mean(ops.square(ops.cast(x, "float32")), axis=-1, keepdims=True) + 1e-6)
        return x * ops.cast(scale, x.dtype)


class Modulation(keras.layers.Layer):
    """Scale and shift features by a function of the embedded parameters (FiLM, Perez et al. 2018, 1709.07871)."""

    def __init__(self, channels: int, seed: int, **options: Any):
        super().__init__(**options)
        self.channels = channels
        self.dense = keras.layers.Dense(
            2 * channels,
            kernel_initializer=HostNormal(seed, self.name, 0.1),
            name="dense",
            dtype=self.dtype_policy,
        )

    def build(self, shapes: Any) -> None:
        self.dense.build(shapes[1])
        self.built = True

    def call(self, inputs: Any) -> Any:
        x, embedding = inputs
        gamma, beta = ops.split(self.dense(embedding), 2, axis=-1)
        gamma, beta = (_around(values, len(x.shape) - 2) for values in (gamma, beta))
        return x * (1.0 + gamma) + beta

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]


class IsotropicConvolution(keras.layers.Layer):
    """Convolution, 3 cells wide, that commutes with exchanging axes and reflecting them, on (batch, *shape, channels).

    Weights are those of the centre and of the neighbours at 1, √2 and √3 cells, (ndim + 1, channels, `channels`), in
    an orthonormal basis. It takes a cell from each side of a map.
    """

    def __init__(self, channels: int, seed: int, gain: float, **options: Any):
        super().__init__(**options)
        self.channels, self.seed, self.gain = channels, seed, gain

    def build(self, shape: Any) -> None:
        ndim = len(shape) - 2
        steps = np.abs(np.indices((3,) * ndim) - 1).sum(axis=0).ravel()
        alike = steps[:, None] == np.arange(ndim + 1)
        self.basis = (alike / np.sqrt(alike.sum(axis=0))).astype(np.float32)
        normal = HostNormal(self.seed, self.name, self.gain)
        self.kernel = self.add_weight(shape=(ndim + 1, shape[-1], self.channels), initializer=normal, name="kernel")
        self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x: Any) -> Any:
        basis = ops.convert_to_tensor(self.basis, dtype=self.kernel.dtype)
        kernel = ops.tensordot(basis, self.kernel, 1)
        kernel = ops.reshape(kernel, (*(3,) * (len(x.shape) - 2), x.shape[-1], self.channels))
        return ops.conv(x, kernel, padding="valid", data_format="channels_last") + self.bias

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        inner = [None if n is None else n - 2 for n in shape[1:-1]]
        return (shape[0], *inner, self.channels)


def convolution(
    x: Any,
    channels: int,
    name: str,
    seed: int,
    *,
    kernel: int = 3,
    gain: float = 2**0.5,
    edge: bool = False,
    isotropic: bool = False,
    dtype: Any,
) -> Any:
    """Convolution in as many dimensions as `x` has: periodic, or, with an `edge`, zero beyond it."""
    ndim = len(x.shape) - 2
    if kernel > 1 and not edge:
        x = PeriodicPadding(kernel // 2, name=f"{name}_pad", dtype=dtype)(x)
    if kernel == 3 and isotropic:
        return IsotropicConvolution(channels, seed, gain, name=name, dtype=dtype)(x)
    layer = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[ndim]
    return layer(
        channels,
        kernel,
        padding="same" if edge else "valid",
        data_format="channels_last",
        kernel_initializer=HostNormal(seed, name, gain),
        name=name,
        dtype=dtype,
    )(x)


def activation(x: Any, name: str, dtype: Any) -> Any:
    """Leaky rectifier of slope 0.2."""
    return keras.layers.LeakyReLU(negative_slope=0.2, name=name, dtype=dtype)(x)


def halve(x: Any, name: str, dtype: Any) -> Any:
    """Mean over 2 cells along each axis; blocks start at even absolute cells."""
    ndim = len(x.shape) - 2
    layer = {
        1: keras.layers.AveragePooling1D,
        2: keras.layers.AveragePooling2D,
        3: keras.layers.AveragePooling3D,
    }[ndim]
    return layer(2, data_format="channels_last", name=name, dtype=dtype)(x)


def double(x: Any, name: str, dtype: Any, *, edge: bool = False, interpolated: bool = False) -> Any:
    """Repeat each cell twice along each axis, or interpolate; a convolution follows, so that no checkerboard arises."""
    ndim = len(x.shape) - 2
    if interpolated:
        return Interpolation(edge, name=name, dtype=dtype)(x)
    if ndim == 1:
        return keras.layers.UpSampling1D(2, name=name, dtype=dtype)(x)
    layer = {2: keras.layers.UpSampling2D, 3: keras.layers.UpSampling3D}[ndim]
    return layer(2, data_format="channels_last", name=name, dtype=dtype)(x)


def dense(x: Any, width: int, name: str, seed: int, gain: float, dtype: Any = "float32", offset: float = 0.0) -> Any:
    """A dense layer whose initial weights are the same on every backend, with offsets of that scatter."""
    kernel, bias = HostNormal(seed, name, gain), HostNormal(seed, f"{name}_offset", offset)
    return keras.layers.Dense(width, kernel_initializer=kernel, bias_initializer=bias, name=name, dtype=dtype)(x)


def embed(parameters: Any, width: int, seed: int, prefix: str, dtype: Any) -> Any:
    """Two dense layers from the scaled parameters to an embedding of `width`.

    Those of the first have offsets from the start. Without, all rectifiers bend in the middle of the parameters'
    ranges, and training leaves a cusp there.
    """
    x, offset = parameters, (2 / parameters.shape[-1]) ** 0.5  # as of one parameter more, which is 1
    for i in range(2):
        name = f"{prefix}_embed{i}"
        x = activation(dense(x, width, name, seed, 2**0.5, dtype, offset), f"{name}_act", dtype)
        offset = 0.0
    return x
