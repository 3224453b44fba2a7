"""Invertible scalings between a field's physical values and what the networks see.

A scaling is fitted on the training simulations only and carries the field's physical bounds: the inverse never
leaves them. The functions take numpy arrays or, with ``xp=keras.ops``, tensors of any backend, so that painting is
differentiable from end to end.

=========== ========================================================== ==========================
name        forward                                                    for
=========== ========================================================== ==========================
linear      (x - shift) / scale                                        fields of order one
log         (log10(x + floor) - shift) / scale                         positive fields, decades
asinh       (asinh(x / softening) - shift) / scale                     both signs, heavy tails
yeo-johnson (((1 + x / softening)^power - 1) / power - shift) / scale  positive fields, skewed
=========== ========================================================== ==========================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from higan.errors import RecipeError


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Base of the scalings: a monotone function of the physical value, then a shift and a scale.

    Parameters
    ----------
    shift, scale : float
        Mean and standard deviation of the transformed training values.
    lower, upper : float, optional
        Physical bounds of the field, in its own units.
    gap : float
        Width, in the field's units, of the gap above `lower` in which (next to) no true values lie, as in fields that
        are either empty or not: what is painted in it is put on `lower`.
    """

    shift: float = 0.0
    scale: float = 1.0
    lower: float | None = None
    upper: float | None = None
    gap: float = 0.0

    name: ClassVar[str] = ""

    def _transform(self, x: Any, xp: Any) -> Any:
        raise NotImplementedError

    def _restore(self, y: Any, xp: Any) -> Any:
        raise NotImplementedError

    def forward(self, x: Any, xp: Any = np) -> Any:
        """Scaled values of physical `x`, any shape."""
        return (self._transform(x, xp) - self.shift) / self.scale

    def inverse(self, y: Any, xp: Any = np) -> Any:
        """Physical values of scaled `y`, within the field's bounds."""
        return self.bound_physical(self.restore(y, xp), xp)

    def restore(self, y: Any, xp: Any = np) -> Any:
        """Physical values of scaled `y`, wherever they lie."""
        return self._restore(y * self.scale + self.shift, xp)

    def bound_physical(self, x: Any, xp: Any = np) -> Any:
        """Physical `x`, clipped to the field's bounds."""
        if self.lower is not None:
            x = xp.where(x < self.lower + self.gap, self.lower, x)
        if self.upper is not None:
            x = xp.minimum(x, self.upper)
        return x

    def bound(self, y: Any, xp: Any = np) -> Any:
        """Scaled `y` of what :meth:`bound_physical` makes of its physical values (all scalings are increasing)."""
        # A logarithm's bound may be minus infinity: no bound.
        with np.errstate(divide="ignore"):
            if self.lower is not None:
                lower, above = (float(self.forward(np.float64(x))) for x in (self.lower, self.lower + self.gap))
                y = xp.where(y < above, lower, y)
            if self.upper is not None:
                y = xp.minimum(y, float(self.forward(np.float64(self.upper))))
        return y

    def to_dict(self) -> dict[str, Any]:
        """Name and constants, as a checkpoint's card keeps them."""
        return {"name": self.name, **dataclasses.asdict(self)}


SCALINGS: dict[str, type[Scaling]] = {}


def _register(name: str) -> Callable[[type[Scaling]], type[Scaling]]:
    def add(cls: type[Scaling]) -> type[Scaling]:
        cls.name = name
        SCALINGS[name] = cls
        return cls

    return add


@_register("linear")
@dataclasses.dataclass(frozen=True)
class Linear(Scaling):
    """(x - shift) / scale.

    Examples
    --------
    >>> scaling = fit("linear", [np.array([0.0, 10.0, 20.0])], lower=0.0)
    >>> float(scaling.inverse(scaling.forward(12.0)))
    12.0
    >>> float(scaling.inverse(-5.0))
    0.0
    """

    def _transform(self, x: Any, xp: Any) -> Any:
        return x

    def _restore(self, y: Any, xp: Any) -> Any:
        return y


@_register("log")
@dataclasses.dataclass(frozen=True)
class Log(Scaling):
    """(log10(x + floor) - shift) / scale; `floor` in the field's units keeps the logarithm of empty cells finite."""

    floor: float = 0.0

    def _transform(self, x: Any, xp: Any) -> Any:
        return xp.log10(x + self.floor)

    def _restore(self, y: Any, xp: Any) -> Any:
        return 10.0**y - self.floor


@_register("asinh")
@dataclasses.dataclass(frozen=True)
class Asinh(Scaling):
    """(asinh(x / softening) - shift) / scale; linear within `softening` (the field's units), logarithmic beyond."""

    softening: float = 1.0

    def _transform(self, x: Any, xp: Any) -> Any:
        return xp.arcsinh(x / self.softening)

    def _restore(self, y: Any, xp: Any) -> Any:
        return self.softening * xp.sinh(y)


@_register("yeo-johnson")
@dataclasses.dataclass(frozen=True)
class YeoJohnson(Scaling):
    """(((1 + x / softening)^power - 1) / power - shift) / scale, of fields at or above zero (Yeo & Johnson 2000).

    For a `power` below 1 it draws large values in, below 0 more than a logarithm does; not 0, which is one. Scaled
    values beyond what a `power` below 0 can reach are taken as 1e-3 of `power` before that: restored, they are large.

    References
    ----------
    Yeo & Johnson 2000, Biometrika 87, 954, eq. 2.1, for values at or above zero.
    """

    softening: float = 1.0
    power: float = 0.5

    def _transform(self, x: Any, xp: Any) -> Any:
        return ((1 + x / self.softening) ** self.power - 1) / self.power

    def _restore(self, y: Any, xp: Any) -> Any:
        return self.softening * (xp.maximum(1 + self.power * y, 1e-3) ** (1 / self.power) - 1)


def from_dict(constants: dict[str, Any]) -> Scaling:
    """The scaling that :meth:`Scaling.to_dict` described.

    Raises
    ------
    RecipeError
        If there is no scaling of that name, or a constant it does not have or cannot be.
    """
    given = dict(constants)
    cls = named(str(given.pop("name", None)))
    made: dict[str, Any] = {}
    for name, value in given.items():
        bound = value is None and name in ("lower", "upper")
        if not bound and (isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300):
            raise RecipeError(f"Scaling {cls.name!r} cannot be made with {name} = {value!r:.40}. Give a finite number.")
        if (name in ("scale", "softening") and value <= 0) or (name == "power" and value == 0):
            raise RecipeError(f"Scaling {cls.name!r} divides by {name}, which is {value}. Give a positive number.")
        made[name] = value if bound else float(value)
    try:
        return cls(**made)
    except TypeError as error:
        raise RecipeError(f"Scaling {cls.name!r} cannot be made of these constants: {error}.") from error


def named(name: str) -> type[Scaling]:
    """The scaling class called `name`; a RecipeError that lists them otherwise."""
    if name not in SCALINGS:
        raise RecipeError(f"There is no scaling {name!r}. Choose one of {', '.join(sorted(SCALINGS))}.")
    return SCALINGS[name]


def fit(
    name: str,
    batches: Iterable[np.ndarray],
    *,
    lower: float | None = None,
    upper: float | None = None,
    **constants: float,
) -> Scaling:
    """Fit shift and scale on batches of physical values, in one pass.

    Parameters
    ----------
    name : str
        "linear", "log", "asinh" or "yeo-johnson".
    batches : iterable of array
        Values of the training simulations, any shape.
    lower, upper : float, optional
        Physical bounds.
    **constants
        `gap` above the lower bound; `floor` of "log", `softening` of "asinh", `softening` and `power` of "yeo-johnson".

    Raises
    ------
    RecipeError
        If the scaling does not exist, does not know a constant, or the values do not fit it (a logarithm of
        nothing, a field that never changes).

    Examples
    --------
    >>> scaling = fit("log", [np.array([1e2, 1e4]), np.array([1e6])], lower=0.0)
    >>> scaling.shift, round(scaling.scale, 3)
    (4.0, 1.633)
    """
    try:
        raw = named(name)(lower=lower, upper=upper, **constants)
    except TypeError as error:
        raise RecipeError(f"Scaling {name!r} cannot be made of {constants}: {error}.") from error
    if lower is not None and upper is not None and lower >= upper:
        raise RecipeError(f"Scaling {name!r}: the lower bound {lower:g} is not below the upper bound {upper:g}.")
    if raw.gap < 0 or (raw.gap > 0 and lower is None):
        raise RecipeError(f"Scaling {name!r}: a gap is a width above a lower bound; received {raw.gap:g} and {lower}.")
    count, mean, squares = 0, 0.0, 0.0
    with np.errstate(all="ignore"):
        if lower is not None and np.isnan(raw.forward(np.float64(lower))):
            raise RecipeError(
                f"Scaling {name!r} is not defined at the lower bound {lower:g}. Raise the bound or floor."
            )
        for batch in batches:
            values = np.asarray(raw._transform(np.asarray(batch, dtype=np.float64), np)).ravel()
            # Chan, Golub & LeVeque (1983): means and squares of two samples joined without loss of precision.
            total = count + values.size
            delta = values.mean() - mean
            squares += values.var() * values.size + delta**2 * count * values.size / total
            mean += delta * values.size / total
            count = total
    scale = float(np.sqrt(squares / max(count, 1)))
    if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
        raise RecipeError(
            f"Scaling {name!r} does not fit the training maps (mean {mean:.3g}, scatter {scale:.3g} after it). "
            "Choose another scaling, or a floor above the most negative value."
        )
    return dataclasses.replace(raw, shift=float(mean), scale=scale)
