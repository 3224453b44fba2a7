"""Figures: maps side by side on one colour scale, P(k) with R(k), r(k), one-point PDFs, global means.

Drawn on the Agg canvas without pyplot, so that nothing global changes: figures can be made in a training loop or a
notebook alike. Colours are those of Okabe & Ito, which colour-blind readers can tell apart; the truth is black.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "image.origin": "lower",
    "image.interpolation": "nearest",
}
TRUTH = "black"
OUTPUT_MAP, INPUT_MAP = "magma", "cividis"


def maps_and_ratio(
    inputs: np.ndarray | None,
    truth: np.ndarray,
    generated: np.ndarray,
    k: np.ndarray,
    R: np.ndarray,
    path: str | os.PathLike[str],
    *,
    units: str = "",
    input_units: str = "",
    length_units: str = "Mpc",
    side: float | None = None,
    title: str = "",
) -> Path:
    """A few maps beside their truth, and R(k): the figure that a training draws at every tick.

    Parameters
    ----------
    inputs : ndarray, shape (m, *shape), or None
        The input of each map, if there is one; of 1, 2 or 3 dimensions (a plane is shown).
    truth, generated : ndarray, shape (m, *shape)
        In `units`; both are shown on the colour scale of the truth.
    k : ndarray, shape (nk,)
        In 1 / `length_units`.
    R : ndarray, shape (nk,) or (lines, nk)
        Ratio of power, dimensionless.
    path : path
        The PNG to write; it appears whole or not at all.
    units, input_units, length_units : str
    side : float, optional
        Length of the maps' first axis; cells are counted where it is not given.
    title : str

    Returns
    -------
    Path

    Examples
    --------
    >>> import tempfile
    >>> maps = np.random.default_rng(1).normal(size=(2, 16, 16))
    >>> folder = tempfile.TemporaryDirectory()
    >>> maps_and_ratio(maps, maps, maps, np.arange(1, 9), np.ones(8), f"{folder.name}/tick.png").name
    'tick.png'
    """
    columns: dict[str, np.ndarray] = {"truth": truth, "generated": generated}
    if inputs is not None:
        columns = {"input": inputs, **columns}
    rows = len(truth)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.9 * len(columns) + 4.2, max(1.9 * rows + 0.5, 2.8)), dpi=DPI)
        left, right = figure.subfigures(1, 2, width_ratios=(1.9 * len(columns) + 0.9, 3.2))
        _map_grid(left, columns, units, input_units, length_units, side, [""] * rows)
        axes = right.subplots()
        for line in np.atleast_2d(R):
            axes.plot(k, line, color=COLOURS[0], alpha=1.0 if np.ndim(R) == 1 else 0.6)
        _ratio_axes(axes, k, np.atleast_2d(R), length_units)
        if title:
            figure.suptitle(title)
        return save(figure, path)


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write `figure` as PNG (150 dots an inch); the file appears whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _plane(values: np.ndarray) -> np.ndarray:
    """What of a map is shown: all of it in 2D, the central plane in 3D, one row in 1D."""
    while values.ndim > 2:
        values = values[..., values.shape[-1] // 2]
    return np.atleast_2d(values)


def _map_grid(
    figure: Any,
    columns: Mapping[str, np.ndarray],
    units: str,
    input_units: str,
    length_units: str,
    side: float | None,
    labels: Sequence[str],
) -> None:
    """Maps in rows, what they are in columns; the column "input" has a colour scale of its own."""
    rows = len(labels)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    cell = 1.0 if side is None else side / next(iter(columns.values())).shape[1]
    limits = {name: _limits(columns["input" if name == "input" else "truth"]) for name in columns}
    images = {}
    for column, (name, maps) in enumerate(columns.items()):
        for row in range(rows):
            axes, plane = grid[row, column], _plane(maps[row])
            low, high = limits[name]
            # First axis upwards on y would turn the map: x is the first axis, as in f[x, y].
            images[name] = axes.imshow(
                plane.T if plane.shape[0] > 1 else plane,
                extent=(0, cell * plane.shape[0], 0, cell * plane.shape[1]) if plane.shape[0] > 1 else None,
                cmap=INPUT_MAP if name == "input" else OUTPUT_MAP,
                vmin=low,
                vmax=high,
                aspect="equal" if plane.shape[0] > 1 else "auto",
            )
            axes.spines[:].set_visible(False)
            axes.tick_params(length=2, labelsize=7)
            if row == 0:
                axes.set_title(name)
            if row < rows - 1:
                axes.set_xticklabels([])
            if column > 0:
                axes.set_yticklabels([])
            elif labels[row]:
                axes.set_ylabel(labels[row], fontsize=7.5)
    figure.supxlabel("cells" if side is None else f"x [{length_units}]", fontsize=8)
    outputs = [i for i, name in enumerate(columns) if name != "input"]
    last = list(columns)[outputs[-1]]
    _colour_bar(figure, images[last], grid[:, outputs].ravel(), units, "right")
    if "input" in columns:
        _colour_bar(figure, images["input"], grid[:, [0]].ravel(), input_units, "left")


def _colour_bar(figure: Any, image: Any, axes: Any, units: str, where: str) -> None:
    bar = figure.colorbar(
        image, ax=list(axes), location=where, fraction=0.05, pad=0.02, aspect=30, shrink=0.9
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    if units:
        bar.ax.set_title(units, fontsize=7.5)


def _limits(maps: np.ndarray) -> tuple[float, float]:
    """A colour scale that a few extreme cells do not wash out."""
    low, high = np.percentile(np.stack([_plane(values) for values in maps]), (0.2, 99.8))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _ratio_axes(axes: Axes, k: np.ndarray, R: np.ndarray, length_units: str) -> None:
    axes.axhspan(0.95, 1.05, color="0.9", lw=0)
    axes.axhline(1.0, color=TRUTH, lw=0.8)
    finite = R[np.isfinite(R)]
    reach = float(np.abs(finite - 1).max()) if finite.size else 0.0
    reach = min(max(1.15 * reach, 0.12), 1.05)
    axes.set_ylim(1 - reach, 1 + reach)
    axes.set_xscale("log")
    axes.set_xlim(k[0] * 0.9, k[-1] * 1.1)
    axes.set_xlabel(f"k [1/{length_units}]")
    axes.set_ylabel(r"R(k) = P / P$_\mathrm{truth}$")
