"""Layers that paint galaxies as the sum of their parts: smooth profiles, and point-like knots of star formation."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import gammaincinv

from higan.photometry import sersic_light

INDICES = np.geomspace(0.3, 6.2, 32)  # Sérsic indices whose sums of Gaussians are tabled
WIDTHS = np.geomspace(0.03, 8.0, 14)  # standard deviations of the Gaussians, in half-light radii
PIXEL = 1 / 12  # variance of a pixel, in pixels²
SOFT = 0.56  # pixels²: added to the squares of ellipses that cells are told of, which may be thinner than a pixel
LARGEST, SMALLEST = 8.0, 3.0  # half-light radii, in pixels, of the first and the last profile of a new network
FLATTER, STEEPER = 1.0, 4.0  # their indices: a disc and a bulge
ANGLES, SECANTS = 8, 4  # of a quarter of a turn, and steps, by which half of the light is found
FARTHEST = 1.5  # logarithm of how many times larger or smaller a galaxy is made for it
FLATTEST = 3.2  # -ln of the least axis ratio, 0.04


class Ellipses(keras.layers.Layer):
    """Elliptical radii of the cells of a map (batch, ny, nx, channels) about its middle, in half-light radii.

    Called on the map, of which only the shape counts, and on what tells galaxies and their direction, as
    :class:`Galaxies` is. Returns (batch, ny, nx, n): ρ with ρ² = xᵀ M⁻¹ x + p² / (r² + p²), M = r² S + p², where r and
    S are radius and shape of a profile and p² is SOFT.

    Parameters
    ----------
    count : int
        n, how many ellipses.
    cell : int
        Side of a cell in pixels, those of the finest level.
    """

    def __init__(self, count: int, cell: int, **options: Any):
        super().__init__(**options)
        self.count, self.cell = count, cell

    def call(self, inputs: Any) -> Any:
        x, told, direction = inputs
        ny, nx = ops.shape(x)[1:3]
        flatness, radius = _ellipses(told, self.count)
        square = ops.square(radius)
        coefficients, _ = _quadratic(*_shapes(flatness, direction), square, SOFT)
        rest = SOFT / (square + SOFT)
        squared = ops.matmul(_terms(ny, nx, self.cell), coefficients) + rest[:, None]
        return ops.sqrt(ops.maximum(ops.reshape(squared, (-1, ny, nx, self.count)), 1e-6))

    def compute_output_shape(self, shapes: Any) -> Any:
        return (*shapes[0][:-1], self.count)


class Galaxies(keras.layers.Layer):
    """Stamps of galaxies: elliptical Sérsic profiles about the middle, and point-like knots that lie as the first does.

    All of them lie along one direction, as what is round or flat, and seen from aside, does.

    Called on what tells them (batch, :meth:`higan.networks.config.GeneratorConfig.numbers_told`), all of any size; on a
    direction (batch, 2), of any length, which they turn with; where `asked`, on half-light radii (batch, 1), in pixels;
    where there are knots, on random numbers (batch, 5 knots); and on a map (batch, ny, nx, …) of which only the shape
    counts, unless the shape is given. Returns their light, (batch, ny, nx, outputs), whose sum over a stamp is 1.

    What tells them is, for each of n profiles, its axis ratio q, the logarithm of its half-light radius r over that in
    a new network, and its Sérsic index; of the knots the logarithm of their radius over the first profile's, that of an
    exponent, and how few there are; then the logarithm of the share of each profile, and of the knots, in the light of
    each output. A profile is seen through a Gaussian, and pixels: it is a sum of Gaussians
    (Hogg & Lang 2013, PASP 125, 719, section 2), which stay Gaussians, of covariance w² r² S + psf² + 1 / 12,
    S = diag(1 / q, q) along the direction.

    Of a knot's five numbers four tell where it lies: half the sum of their squares is the radius in exponential discs,
    in scale lengths (a Gamma distribution of shape 2), which is raised to the first profile's index times the exponent,
    as of other profiles about the same number is; the first two give the direction. Where the fifth is high the knot is
    there. All have the same light.

    Where a half-light radius is asked for, radii are told in units of each other alone: a galaxy is made as large as it
    has to be for half of its light in the stamp, taken as a disc of the same area, to lie within. Of the light of a
    Gaussian of standard deviations a and b a circle of radius L holds 1 - exp(-L² / 2 (a² cos² φ + b² sin² φ)),
    averaged over φ: the integral over the angle, in terms of the eccentric anomaly φ.

    Parameters
    ----------
    profiles, knots, outputs : int
    psf : float
        Standard deviation of the Gaussian, in pixels.
    shape : sequence of int, optional
        Pixels (ny, nx).
    asked : bool
        Whether half-light radii are given: those of the first output, about the middle.
    """

    abrupt = 8.0  # how sharply a knot is there or not
    few = -2.0  # the logarithm of the knots' share of light over a profile's in a new network

    def __init__(
        self,
        profiles: int,
        knots: int,
        outputs: int,
        psf: float,
        shape: Sequence[int] | None = None,
        asked: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.asked = asked
        self.profiles, self.knots, self.outputs = profiles, knots, outputs
        self.variance = psf**2 + PIXEL
        self.shape = None if shape is None else tuple(shape)

    def call(self, inputs: Any) -> Any:
        told, direction, *others = inputs
        asked = others.pop(0) if self.asked else None
        ny, nx = ops.shape(others[-1])[1:3] if self.shape is None else self.shape
        n = self.profiles
        flatness, radius = _ellipses(told, n)
        index, of_knots, shares = ops.split(told[:, 2 * n :], [n, n + 3 if self.knots else n], axis=-1)
        shares = ops.reshape(shares, (-1, n + (1 if self.knots else 0), self.outputs))
        if self.knots:
            shares = shares + np.array([[0.0]] * n + [[self.few]], np.float32)
        shares = ops.softmax(shares, axis=1)
        amounts, knots = _amounts(index), None
        if asked is not None:
            radius = _about(asked, radius, shares[..., 0])
        if self.knots:
            knots = self._scattered(flatness[:, :1], radius[:, :1], index, of_knots, others[0])
        if asked is not None:
            area = ops.cast(ny * nx, "float32")
            larger = self._enlarged(asked, area, flatness, radius, amounts, shares[..., 0], knots)
            radius = larger * radius
            knots = None if knots is None else (larger * knots[0], larger * knots[1], knots[2])
        light = self._smooth(ny, nx, _shapes(flatness, direction), radius, amounts, shares[:, :n])
        if knots is not None:
            light = light + self._pointed(ny, nx, knots, direction) * shares[:, None, n:]
        # Some of it lies beyond the stamp, a tenth of that of a bulge: what stamps are told to have is within.
        return light / (ops.sum(light, axis=(1, 2), keepdims=True) + 1e-12)

    def _enlarged(
        self, asked: Any, area: Any, flatness: Any, radius: Any, amounts: Any, shares: Any, knots: Any
    ) -> Any:
        """How many times larger, (batch, 1), a galaxy has to be for the half-light radius that is asked for."""
        angles = (np.arange(ANGLES) + 0.5) * (0.5 * math.pi / ANGLES)
        long, short = (np.square(function(angles)).astype(np.float32) for function in (np.cos, np.sin))
        stretched = ops.exp(flatness)[..., None, None]
        squares = np.square(WIDTHS).astype(np.float32)[:, None] * (stretched * long + short / stretched)
        squares = ops.square(radius)[..., None, None] * squares  # (batch, n, widths, angles)
        circles = (ops.square(asked), ops.ones_like(asked) * (area / math.pi))

        def missing(times: Any) -> Any:
            """Half, less the share of the stamp's light within the radius, of a galaxy exp(times) times as large."""
            variances = ops.exp(2.0 * times)[..., None, None] * squares + self.variance
            found = []
            for square in circles:
                held = ops.mean(1.0 - ops.exp(-0.5 * square[..., None, None] / variances), axis=-1)
                light = ops.sum(ops.sum(amounts * held, axis=-1) * shares[:, : self.profiles], axis=-1, keepdims=True)
                if knots is not None:
                    far = ops.exp(2.0 * times) * (ops.square(knots[0]) + ops.square(knots[1]))
                    held = _held(square / self.variance, far / self.variance)
                    light = light + ops.sum(knots[2] * held, axis=-1, keepdims=True) * shares[:, -1:]
                found.append(light)
            return 0.5 - found[0] / (found[1] + 1e-6)

        # By secants to where it is half, without gradients; then a step more, with the gradient of where that is.
        before, times, slope = ops.zeros_like(asked), 0.05 * ops.ones_like(asked), ops.ones_like(asked)
        at = ops.stop_gradient(missing(before))
        for _ in range(SECANTS):
            now, step = ops.stop_gradient(missing(times)), times - before
            moved = ops.abs(step) > 1e-3
            slope = ops.where(moved, ops.clip((now - at) / ops.where(moved, step, 1.0), 0.1, 2.0), slope)
            before, at = times, now
            times = ops.clip(times - ops.clip(now / slope, -0.5, 0.5), -FARTHEST, FARTHEST)
        return ops.exp(ops.clip(times - missing(times) / slope, -FARTHEST, FARTHEST))

    def _smooth(self, ny: Any, nx: Any, shapes: Any, radius: Any, amounts: Any, shares: Any) -> Any:
        gaussians = self.profiles * len(WIDTHS)
        square = ops.square(radius)[..., None] * np.square(WIDTHS).astype(np.float32)
        xx, yy, xy = (x[..., None] for x in shapes)
        coefficients, determinant = _quadratic(xx, yy, xy, square, self.variance)
        heights = amounts * ops.rsqrt(determinant) / (2.0 * math.pi)
        heights = ops.reshape(heights[..., None] * shares[:, :, None], (-1, gaussians, self.outputs))
        exponents = ops.matmul(_terms(ny, nx, 1), ops.reshape(-0.5 * coefficients, (-1, 3, gaussians)))
        light = ops.matmul(ops.exp(exponents), heights)
        # The sums of profiles flatter than a Gaussian have negative terms, and may fall below zero where nothing is.
        return ops.reshape(ops.maximum(light, 0.0), (-1, ny, nx, self.outputs))

    def _scattered(self, flatness: Any, radius: Any, index: Any, told: Any, drawn: Any) -> tuple[Any, Any, Any]:
        """Where knots lie along the direction and across it, in pixels, and their shares of light, (batch, knots)."""
        size, exponent, few = ops.split(told, 3, axis=-1)
        drawn = ops.reshape(drawn, (-1, self.knots, 5))
        far = 0.5 * ops.sum(ops.square(drawn[..., :4]), axis=-1) + 1e-6
        # An exponential disc's half-light radius is 1.68 scale lengths.
        index = INDICES[0] * ops.exp(_place(index)[:, :1] * math.log(INDICES[-1] / INDICES[0]))
        far = radius * ops.exp(_within(size, 0.5)) * (far / 1.68) ** (index * ops.exp(_within(exponent, 0.5)))
        cosine, sine = _unit(ops.reshape(drawn[..., :2], (-1, 2)))
        along, across = (far * ops.reshape(values, (-1, self.knots)) for values in (cosine, sine))
        there = ops.sigmoid(self.abrupt * (drawn[..., 4] - _within(few, 2.5)))
        each = there / (ops.sum(there, axis=-1, keepdims=True) + 1e-3)
        return along * ops.exp(0.5 * flatness), across * ops.exp(-0.5 * flatness), each

    def _pointed(self, ny: Any, nx: Any, knots: tuple[Any, Any, Any], direction: Any) -> Any:
        along, across, each = knots
        cosine, sine = _unit(direction)
        x, y = cosine * along - sine * across, sine * along + cosine * across

        def seen(place: Any, cells: Any) -> Any:
            """(batch, knots, cells), of unit sum."""
            away = _offsets(cells) - place[..., None]
            return ops.exp(-0.5 / self.variance * ops.square(away)) / math.sqrt(2.0 * math.pi * self.variance)

        rows = ops.transpose(each[..., None] * seen(y, ny), (0, 2, 1))
        return ops.matmul(rows, seen(x, nx))[..., None]

    def compute_output_shape(self, shapes: Any) -> Any:
        ny, nx = shapes[-1][1:3] if self.shape is None else self.shape
        return (shapes[0][0], ny, nx, self.outputs)


@functools.cache
def sersic_gaussians() -> np.ndarray:
    """Shares of light in round Gaussians of WIDTHS that sum up to Sérsic profiles of INDICES, (indices, widths).

    Fitted by least squares, as those of Hogg & Lang 2013, to the profile of unit light (Graham & Driver 2005, PASA 22,
    118, eqs. 1-4). For indices below 0.5, flatter in the middle than a Gaussian, some shares are negative.

    Examples
    --------
    >>> disc = sersic_gaussians()[np.abs(INDICES - 1).argmin()]
    >>> round(float(disc.sum()), 2)
    1.0
    """
    radius = np.geomspace(0.015, 12.0, 300)
    # Light in equal steps of ln r counts, and in steps of r, of which the middle has more.
    counts = radius + radius**2
    gaussians = counts[:, None] * np.exp(-0.5 * (radius[:, None] / WIDTHS) ** 2) / (2 * np.pi * WIDTHS**2)
    few = len(WIDTHS)
    matrix = np.vstack([gaussians, 0.5 * np.ones(few), 2e-3 * np.eye(few)])
    rows = []
    for n in INDICES:
        b = gammaincinv(2 * n, 0.5)
        profile = counts * np.exp(-b * (radius ** (1 / n) - 1)) / sersic_light(n)
        rows.append(np.linalg.lstsq(matrix, np.concatenate([profile, [0.5], np.zeros(few)]), rcond=None)[0])
    return np.array(rows)


def _ellipses(told: Any, count: int) -> tuple[Any, Any]:
    """-ln of axis ratios, and half-light radii in pixels, (batch, count) each."""
    flatness, size = ops.split(told[:, : 2 * count], 2, axis=-1)
    first = np.geomspace(LARGEST, SMALLEST, count, dtype=np.float32)
    return _within(ops.softplus(flatness), FLATTEST), first * ops.exp(_within(size, 4.0))


def _about(asked: Any, radius: Any, shares: Any) -> Any:
    """Radii of profiles (batch, n) whose mean logarithm, by light, is that of the radius asked for; knots are alike."""
    logs = ops.log(radius)
    first = logs[:, :1]  # where knots lie
    return radius * asked * ops.exp(-first - ops.sum((logs - first) * shares[:, : radius.shape[-1]], -1, keepdims=True))


def _amounts(index: Any) -> Any:
    """Shares of a profile's light in its Gaussians, (batch, n, widths): between indices of the table interpolated."""
    row = (len(INDICES) - 1) * _place(index)[..., None]
    near = ops.maximum(1.0 - ops.abs(row - np.arange(len(INDICES), dtype=np.float32)), 0.0)
    return ops.matmul(near, sersic_gaussians().astype(np.float32))


def _place(index: Any) -> Any:
    """Where Sérsic indices lie between the least and the largest, by their logarithms: 0 to 1, (batch, n)."""
    first = np.geomspace(FLATTER, STEEPER, index.shape[-1])
    place = np.log(first / INDICES[0]) / np.log(INDICES[-1] / INDICES[0])
    return ops.sigmoid(index + np.log(place / (1 - place)).astype(np.float32))


def _held(square: Any, far: Any) -> Any:
    """Share of a round Gaussian of unit variance within a circle of radius √square whose middle is √far away.

    A χ² distribution of two degrees of freedom that is not centred: Sankaran 1963, Biometrika 50, 199, to a hundredth.
    """
    far = ops.minimum(far, 1e8)  # its square is a float32
    mean, twice = 2.0 + far, 2.0 + 2.0 * far
    h = 1.0 - 2.0 * mean * (2.0 + 3.0 * far) / (3.0 * ops.square(twice))
    p = twice / ops.square(mean)
    m = (h - 1.0) * (1.0 - 3.0 * h)
    above = (square / mean) ** h - (1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p))
    return 0.5 * (1.0 + ops.erf(above / (h * ops.sqrt(4.0 * p) * (1.0 + 0.5 * m * p))))


def _within(values: Any, most: float) -> Any:
    """Values of any size, those beyond `most` drawn in: a training that has strayed can come back."""
    return most * ops.tanh(values / most)


def _shapes(flatness: Any, direction: Any) -> tuple[Any, Any, Any]:
    """Matrices S along a direction: S_xx, S_yy, S_xy; their determinants are 1."""
    cosine, sine = _unit(direction)
    twice, double = ops.square(cosine) - ops.square(sine), 2.0 * cosine * sine
    a, c = ops.sinh(flatness), ops.cosh(flatness)
    return c + a * twice, c - a * twice, a * double


def _quadratic(xx: Any, yy: Any, xy: Any, square: Any, variance: float) -> tuple[Any, Any]:
    """xᵀ M⁻¹ x, M = square S + variance: its coefficients, stacked along axis 1; and det M."""
    determinant = ops.square(square) + variance * square * (xx + yy) + variance**2
    coefficients = [square * yy + variance, square * xx + variance, -2.0 * square * xy]
    return ops.stack([x / determinant for x in coefficients], axis=1), determinant


def _terms(ny: Any, nx: Any, cell: int) -> Any:
    """x², y² and x y of the centres of cells from the middle, (cells, 3), what :func:`_quadratic` gives factors of."""
    x, y = ops.meshgrid(cell * _offsets(nx), cell * _offsets(ny))
    return ops.reshape(ops.stack([x * x, y * y, x * y], axis=-1), (-1, 3))


def _unit(direction: Any) -> tuple[Any, Any]:
    """Cosine and sine (batch, 1) of directions (batch, 2) of any length."""
    length = ops.sqrt(ops.sum(ops.square(direction), axis=-1, keepdims=True) + 1e-12)
    cosine, sine = ops.split(direction / length, 2, axis=-1)
    return cosine, sine


def _offsets(cells: Any) -> Any:
    """Of the centres of so many cells from the middle, in cells."""
    return ops.arange(cells, dtype="float32") - 0.5 * (ops.cast(cells, "float32") - 1.0)
