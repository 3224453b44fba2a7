"""Plain arrays as a map set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from higan.errors import MapSetError
from higan.mapset import Field, Geometry, MapSet, Parameter


def from_arrays(
    fields: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    box_size: float | None = None,
    box_size_units: str = "Mpc",
    cell_size: float | None = None,
    cell_size_units: str | None = None,
    periodic: bool = True,
    ndim: int | None = None,
    kind: str = "box",
    redshift: float | None = None,
    thickness: float | None = None,
    units: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    parameter_units: Mapping[str, str] | None = None,
    simulation: Any = None,
    split: Sequence[str] | None = None,
    simulator: str = "",
) -> MapSet:
    """A map set on arrays, memory maps or other array-likes, which are not copied.

    Parameters
    ----------
    fields : mapping of str to array, shape (n, *shape) or (n, *shape, channels)
        Floating-point; anything with ``shape`` and ``dtype`` that slices to numpy.
    parameters : mapping of str to array, shape (n_sim,), optional
        None where not given: each map is then a simulation of its own, or of that which `simulation` says.
    box_size, box_size_units, cell_size, cell_size_units, periodic, kind, redshift, thickness
        As of :class:`higan.mapset.Geometry`.
    ndim : int, optional
        Spatial axes of a map; all axes but the first where ``None``.
    units : mapping of str to str, optional
        Of the fields; strings that ``astropy.units`` reads.
    bounds : mapping of str to (lower, upper), optional
        Ranges of the parameters; the extremes of their values where not given.
    parameter_units : mapping of str to str, optional
    simulation : array of int, shape (n,), optional
        The entry of `parameters` each map belongs to; needed where maps outnumber simulations.
    split : sequence of str, shape (n_sim,), optional
        "train", "validation" or "test".
    simulator : str

    Raises
    ------
    MapSetError
        If shapes, counts or types do not fit, or a name in `units` or `bounds` is none of the set's.

    Examples
    --------
    >>> density = np.zeros((4, 8, 8), "float32")
    >>> sigma_8 = {"SIGMA_8": [0.8, 0.9]}
    >>> maps = from_arrays({"density": density}, sigma_8, simulation=[0, 0, 1, 1], box_size=16.0)
    >>> maps.parameter_info[0]
    Parameter(name='SIGMA_8', units='', lower=0.8, upper=0.9)
    """
    if not fields:
        raise MapSetError("No fields are given. Give at least one array.")
    arrays = {
        name: values if hasattr(values, "dtype") and hasattr(values, "shape") else np.asarray(values)
        for name, values in fields.items()
    }
    for name, values in arrays.items():
        if len(values.shape) < 2:
            raise MapSetError(f"Field {name!r} has shape {tuple(values.shape)}. Fields need (n, *shape).")
    n = int(next(iter(arrays.values())).shape[0])
    columns = {name: np.atleast_1d(np.asarray(values, np.float64)) for name, values in (parameters or {}).items()}
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise MapSetError(f"The parameters have different numbers of simulations ({lengths}). They need one number.")
    belongs = np.arange(n) if simulation is None else np.asarray(simulation)
    alone = int(belongs.max()) + 1 if belongs.size and belongs.dtype.kind in "iu" else n
    table = np.stack(list(columns.values()), axis=1) if columns else np.zeros((alone, 0))
    if simulation is None and len(table) != n:
        raise MapSetError(
            f"There are {n} maps and {len(table)} simulations. Say with `simulation` which map belongs to which."
        )
    if len(table) == n > alone:
        raise MapSetError(
            f"`parameters` have {n} entries, one a map, but `simulation` names {alone} simulations. Give one entry a "
            "simulation, in the order of their numbers."
        )
    for what, given, there in (
        ("units", units, arrays),
        ("bounds", bounds, columns),
        ("parameter_units", parameter_units, columns),
    ):
        for name in given or {}:
            if name not in there:
                raise MapSetError(
                    f"`{what}` names {name!r}, which is not in the set. It holds {', '.join(there) or 'none'}."
                )
    info = []
    for name, values in columns.items():
        lower, upper = (bounds or {}).get(name, (values.min(), values.max()))
        info.append(Parameter(name, (parameter_units or {}).get(name, ""), float(lower), float(upper)))
    return MapSet(
        {name: Field(values, (units or {}).get(name, ""), name) for name, values in arrays.items()},
        table,
        info,
        belongs,
        Geometry(
            kind=kind,
            ndim=len(next(iter(arrays.values())).shape) - 1 if ndim is None else ndim,
            box_size=box_size,
            box_size_units=box_size_units,
            periodic=periodic,
            cell_size=cell_size,
            cell_size_units=cell_size_units,
            redshift=redshift,
            thickness=thickness,
        ),
        simulator=simulator,
        extra={} if split is None else {"split": np.asarray(split)},
    )
