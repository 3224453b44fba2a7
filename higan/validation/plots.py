"""Figures: maps side by side on one colour scale, P(k) with R(k), r(k), one-point PDFs, global means.

Drawn on the Agg canvas without pyplot, so that nothing global changes: figures can be made in a training loop or a
notebook alike. Colours are those of Okabe & Ito, which colour-blind readers can tell apart; the truth is black.
"""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from higan.mapset import MASKED
from higan.validation.one_point import spans_decades

if TYPE_CHECKING:
    from higan.validation.results import Comparison, ModelResult

DPI = 150
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (4, 1, 1, 1)), (0, (1, 1.2)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
STYLE: dict[Any, Any] = {
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
MOST_COLUMNS = 6


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
        halves: Any = figure.subfigures(1, 2, width_ratios=(1.9 * len(columns) + 0.9, 3.2))
        left, right = halves
        _map_grid(left, columns, units, input_units, length_units, side, [""] * rows)
        axes = right.subplots()
        for line in np.atleast_2d(R):
            axes.plot(k, line, color=COLOURS[0], alpha=1.0 if np.ndim(R) == 1 else 0.6)
        ratio_axes(axes, k, np.atleast_2d(R), length_units)
        axes.set_box_aspect(0.9)
        if title:
            figure.suptitle(title)
        return save(figure, path)


def example_maps(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """A few true maps, their input and what the models make of it, on one colour scale; returns the caption.

    Of stamps, a wall of them (:func:`wall`).

    Examples
    --------
    >>> example_maps(comparison, "maps.png")  # doctest: +SKIP
    """
    setting, examples = comparison.setting, comparison.examples
    shown = ("input", "truth")
    columns: dict[str, np.ndarray] = {name: examples[name] for name in shown if name in examples}
    for name, result in comparison.models.items():
        if len(columns) < MOST_COLUMNS:
            columns[name] = result.examples
    if setting.kind == "healpix":
        labels = [f"simulation {number}" for number in examples["simulation"]]
        nested = comparison.truth.get("ordering") == "NESTED"
        units = {"input": comparison.truth.get("input units", "")}
        return skies(columns, path, labels=labels, units=setting.units, nested=nested, column_units=units)
    if setting.kind == "image":
        columns.pop("input", None)
        return wall(columns, path, units=setting.units)
    labels = [f"simulation {number}" for number in examples["simulation"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.75 * len(columns) + 1.3, 1.75 * len(labels) + 0.7), dpi=DPI)
        side = setting.cell_size * setting.shape[0]
        # A field without a unit is told by its name.
        told = str(comparison.truth.get("input units", "") or comparison.truth.get("input", ""))
        _map_grid(figure, columns, setting.units, told, setting.length_units, side, labels)
        save(figure, path)
    plane = ", a plane of each" if len(setting.shape) == 3 else ""
    return f"{setting.field} of a few maps{plane}: truth and models on one colour scale, first realisation."


def skies(
    columns: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] = (),
    units: str = "",
    nested: bool = False,
    column_units: Mapping[str, str] | None = None,
) -> str:
    """Maps of the sky in Mollweide's projection, those of a row on one scale but for "input"; returns the caption.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (n, 12 nside²)
        Masked pixels, UNSEEN, are left white.
    path : path
        The PNG to write.
    labels : sequence of str
        Of the rows.
    units : str
    nested : bool
        Whether pixels are in NESTED order; else RING.
    column_units : mapping of str to str, optional
        Of columns that have another unit.

    Examples
    --------
    >>> import tempfile
    >>> sky = np.arange(192.0)[None]
    >>> folder = tempfile.TemporaryDirectory()
    >>> skies({"truth": sky, "generated": sky}, f"{folder.name}/skies.png")[:18]
    'Maps of the sky in'
    """
    import healpy
    from healpy.projector import MollweideProj

    projection = MollweideProj(xsize=800)

    def projected(sky: np.ndarray) -> np.ndarray:
        nside = healpy.npix2nside(len(sky))
        image = projection.projmap(
            np.where(sky > MASKED, sky, np.nan), lambda x, y, z: healpy.vec2pix(nside, x, y, z, nest=nested)
        )
        return np.where(np.isfinite(image), image, np.nan)

    rows = len(next(iter(columns.values())))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(columns), 2.7 * rows + 0.3), dpi=DPI)
        grid = figure.subplots(rows, len(columns), squeeze=False)
        images = {
            name: [projected(np.asarray(sky, dtype=np.float64)) for sky in skies] for name, skies in columns.items()
        }
        shared = next((name for name in columns if name != "input"), "input")
        for (row, column), axes in np.ndenumerate(grid):
            name = list(columns)[column]
            scale = images[name if name == "input" else shared][row]
            shown = axes.imshow(
                images[name][row],
                cmap=INPUT_MAP if name == "input" else OUTPUT_MAP,
                norm=_norm([scale[np.isfinite(scale)]]),
            )
            axes.set_axis_off()
            title = textwrap.fill(name, 40)
            axes.set_title(f"{title}, {labels[row]}" if labels else title)
            bar = figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05, pad=0.02, aspect=40, shrink=0.6)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=6, length=2)
            bar.set_label((column_units or {}).get(name, units), fontsize=7.5)
        save(figure, path)
    return "Maps of the sky in Mollweide's projection; truth and models on one colour scale, first realisation."


def wall(kinds: Mapping[str, np.ndarray], path: str | os.PathLike[str], *, units: str = "", across: int = 6) -> str:
    """Walls of stamps, true beside generated, on one colour scale; returns the caption.

    Parameters
    ----------
    kinds : mapping of str to ndarray, shape (n, nx, ny)
        Stamps in `units`; the first kind sets the colour scale. Those of one place are of the same parameters.
    path : path
        The PNG to write.
    units : str
    across : int
        Stamps side by side.

    Examples
    --------
    >>> import tempfile
    >>> stamps = np.random.default_rng(1).uniform(size=(8, 16, 16))
    >>> folder = tempfile.TemporaryDirectory()
    >>> wall({"truth": stamps, "generated": stamps}, f"{folder.name}/wall.png")[:14]
    'Stamps, each k'
    """
    first = next(iter(kinds.values()))
    rows = -(-len(first) // across)
    # Linear about the faintest that is seen in print, logarithmic above: cores and outskirts alike.
    peak = float(np.max(first))
    norm = AsinhNorm(linear_width=max(peak, 1e-30) * 1e-3, vmin=0.0, vmax=max(peak, 1e-30))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(kinds) + 0.8, 4.4 * rows / across + 0.5), dpi=DPI)
        grid = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, (name, stamps) in zip(grid, kinds.items(), strict=True):
            _, nx, ny = stamps.shape
            image = np.full((rows * (ny + 1), across * (nx + 1)), np.nan)
            for i, stamp in enumerate(stamps):
                x, y = i % across * (nx + 1), (rows - 1 - i // across) * (ny + 1)
                image[y : y + ny, x : x + nx] = stamp.T
            shown = axes.imshow(image, cmap=OUTPUT_MAP, norm=norm)
            axes.set_title(textwrap.fill(name, 40))
            axes.set_axis_off()
        _colour_bar(figure, shown, grid, units, "right")
        save(figure, path)
    return (
        f"Stamps, each kind for the same parameters in the same places, from bright to faint: {', '.join(kinds)}. One "
        "colour scale, linear below a thousandth of the brightest true pixel and logarithmic above."
    )


def power_spectra(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """P(k) of truth and models above R(k) with bands; returns the caption.

    Examples
    --------
    >>> power_spectra(comparison, "power_spectrum.png")  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 6.2), dpi=DPI)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.1))
        _draw_power(top, comparison)
        _draw_ratio(bottom, comparison)
        top.set_xlabel("")
        legend(top)
        save(figure, path)
    return (
        "Above, the mean power spectrum. Below, its ratio to the truth: the darker band is one standard deviation by "
        "bootstrap over simulations, the lighter one holds the central 68 % of single simulations; grey marks 5 %."
    )


def correlations(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """r(k) of one realisation and of the mean of realisations; returns the caption.

    Examples
    --------
    >>> correlations(comparison, "correlation.png")  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), dpi=DPI)
        axes = figure.subplots()
        _draw_correlation(axes, comparison)
        legend(axes)
        save(figure, path)
    return (
        "Correlation of generated with true maps, scale by scale; where there are several realisations, the line with "
        "dots is that of their mean. One realisation of a calibrated generator lies at the square of it."
    )


def one_point(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """One-point PDFs, the truth as an area; returns the caption.

    Examples
    --------
    >>> one_point(comparison, "one_point.png")  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), dpi=DPI)
        axes = figure.subplots()
        _draw_pdf(axes, comparison)
        legend(axes)
        save(figure, path)
    return "Distribution of the values of single cells, over all maps; the grey area is the truth."


def means(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """Error of the global mean of each simulation; returns the caption.

    Examples
    --------
    >>> means(comparison, "mean.png")  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), dpi=DPI)
        axes = figure.subplots()
        _draw_means(axes, comparison)
        legend(axes)
        save(figure, path)
    return "Global mean of the maps of each simulation: generated less true, against true."


@dataclasses.dataclass(frozen=True)
class Panel:
    """A curve of models beside that of the truth, for :func:`beside_truth`.

    Parameters
    ----------
    x, y : str
        Names of curves: the abscissa, and what a model has; the truth's is called the same with "_truth" behind.
    x_label, y_label : str
    row : int, optional
        Of curves that have several rows.
    x_scale, y_scale : str
        As Matplotlib takes them.
    power : float
        Of the abscissa; multiplies what is shown above, as for curves that span too many decades.
    ratio : bool
        Below is the model's over the true one, otherwise the difference, over the largest true value.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    row: int | None = None
    x_scale: str = "linear"
    y_scale: str = "linear"
    power: float = 0.0
    ratio: bool = True


def beside_truth(comparison: Comparison, path: str | os.PathLike[str], panels: Sequence[Panel]) -> Path:
    """Curves of truth and models side by side, below each its ratio to, or difference from, the truth with errors.

    Examples
    --------
    >>> panel = Panel("k", "P", "k [1/Mpc]", "P(k)", x_scale="log", y_scale="log")
    >>> beside_truth(comparison, "power.png", [panel])  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(6.4, 3.2 * len(panels)), 5.4), dpi=DPI)
        grid = figure.subplots(2, len(panels), sharex="col", height_ratios=(1.3, 1), squeeze=False)
        for (above, below), panel in zip(grid.T, panels, strict=True):
            _draw_panel(above, below, panel, comparison)
        legend(grid[0, 0])
        return save(figure, path)


def _draw_panel(above: Axes, below: Axes, panel: Panel, comparison: Comparison) -> None:
    def of(curves: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        return np.asarray(curves[name] if panel.row is None else curves[name][panel.row], dtype=np.float64)

    first = next(iter(comparison.models.values()))
    x, truth = np.asarray(first.curves[panel.x]), of(first.curves, f"{panel.y}_truth")
    above.plot(x, x**panel.power * truth, color=TRUTH, lw=2.2, label="truth")
    seen = [x**panel.power * truth]
    largest = np.nanmax(np.abs(truth)) if np.isfinite(truth).any() else np.nan
    against = np.where(truth == 0, np.nan, truth) if panel.ratio else np.full_like(truth, largest or np.nan)
    reach = 0.12
    for name, result, style in lines(comparison):
        value = of(result.curves, panel.y)
        above.plot(x, x**panel.power * value, label=name, **style)
        off = (value - truth) / against
        below.plot(x, off, **style)
        if result.model.baseline:
            continue
        seen.append(x**panel.power * value)
        error = of(result.difference_errors, panel.y) / np.abs(against)
        if np.isfinite(error).any():
            below.fill_between(x, off - error, off + error, color=style["color"], alpha=0.35, lw=0)
        if np.isfinite(off).any():
            reach = max(reach, min(1.15 * float(np.nanmax(np.abs(off))), 1.05))
    below.axhspan(-0.05, 0.05, color="0.9", lw=0, zorder=0)
    below.axhline(0.0, color=TRUTH, lw=0.8)
    below.set_ylim(-reach, reach)
    above.set_xscale(panel.x_scale)
    if panel.x_scale == "log" and 0.01 < x[0] < x[-1] < 1000:
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        below.xaxis.set_minor_formatter(NullFormatter())
    if panel.y_scale == "log":
        above.set_yscale("log", nonpositive="mask")
    _frame(above, np.concatenate(seen), panel.y_scale)
    above.set_ylabel(panel.y_label)
    below.set_xlabel(panel.x_label)
    below.set_ylabel("generated / true - 1" if panel.ratio else "(generated - true) / max")


def _frame(axes: Axes, values: np.ndarray, scale: str) -> None:
    """Show these values, with room around them, whatever else is drawn: baselines may be off by orders of magnitude."""
    known = values[np.isfinite(values) & ((values > 0) | (scale != "log"))]
    if known.size and known.max() > known.min():
        low, high, room = known.min(), known.max(), 0.1 * np.ptp(known)
        axes.set_ylim((low / 4, high * 3) if scale == "log" else (low - room, high + 2 * room))


def overview(comparison: Comparison, path: str | os.PathLike[str]) -> str:
    """Power, its ratio, correlation and one-point PDF of all models in one figure; returns the caption.

    Examples
    --------
    >>> overview(comparison, "comparison.png")  # doctest: +SKIP
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 7.4), dpi=DPI)
        grid = figure.subplots(2, 2)
        draw = (_draw_power, _draw_ratio, _draw_correlation, _draw_pdf)
        for axes, panel in zip(grid.ravel(), draw, strict=True):
            panel(axes, comparison)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5))
        save(figure, path)
    return "Power spectrum, its ratio to the truth, correlation with the truth and one-point distribution."


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
    norms = {name: _norm(columns["input" if name == "input" else "truth"]) for name in columns}
    images = {}
    for column, (name, maps) in enumerate(columns.items()):
        for row in range(rows):
            axes, plane = grid[row, column], _plane(maps[row])
            # First axis upwards on y would turn the map: x is the first axis, as in f[x, y].
            images[name] = axes.imshow(
                plane.T if plane.shape[0] > 1 else plane,
                extent=(0, cell * plane.shape[0], 0, cell * plane.shape[1]) if plane.shape[0] > 1 else None,
                cmap=INPUT_MAP if name == "input" else OUTPUT_MAP,
                norm=norms[name],
                aspect="equal" if plane.shape[0] > 1 else "auto",
            )
            axes.spines[:].set_visible(False)
            axes.tick_params(length=2, labelsize=7)
            if row == 0:
                axes.set_title(textwrap.fill(name, 18))
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
    bar = figure.colorbar(image, ax=list(axes), location=where, fraction=0.05, pad=0.02, aspect=40, shrink=0.9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    if units:
        bar.set_label(units, fontsize=7.5)


def _norm(maps: Any) -> Normalize:
    """A colour scale that a few extreme cells do not wash out; logarithmic for what spans decades."""
    low, high = (float(x) for x in np.percentile(np.stack([_plane(values) for values in maps]), (0.2, 99.8)))
    if spans_decades(low, high):
        return LogNorm(low, high, clip=True)
    return Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def lines(comparison: Comparison) -> Iterator[tuple[str, ModelResult, dict[str, Any]]]:
    """Models and how each is drawn: full lines, and thinner broken ones for baselines."""
    broken = 0
    for i, (name, result) in enumerate(comparison.models.items()):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "lw": 1.6}
        if result.model.baseline:
            style |= {"lw": 1.1, "ls": DASHES[broken % len(DASHES)]}
            broken += 1
        yield name, result, style


def legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))


def _draw_power(axes: Axes, comparison: Comparison) -> None:
    setting = comparison.setting
    first = next(iter(comparison.models.values()))
    axes.loglog(first.curves["k"], first.curves["P_truth"], color=TRUTH, lw=2.2, label="truth")
    for name, result, style in lines(comparison):
        axes.loglog(result.curves["k"], result.curves["P"], label=name, **style)
    top, low = np.nanmax(first.curves["P_truth"]), np.nanmin(first.curves["P_truth"])
    if top > low > 0:
        axes.set_ylim(low / 4, top * 3)
    unit = f"({setting.units})$^2$ " if setting.units else ""
    axes.set_ylabel(f"P(k) [{unit}{setting.length_units}$^{len(setting.shape)}$]")
    _k_axis(axes, first.curves["k"], setting.length_units)


def _draw_ratio(axes: Axes, comparison: Comparison) -> None:
    shown = []
    for name, result, style in lines(comparison):
        k, R = result.curves["k"], result.curves["R"]
        axes.plot(k, R, label=name, **style)
        if result.model.baseline:
            continue
        error = result.curve_errors["R"]
        if np.isfinite(error).any():
            axes.fill_between(k, R - error, R + error, color=style["color"], alpha=0.35, lw=0)
            shown += [R - error, R + error]
        of_simulations = result.by_simulation["R_s"][comparison.bright]
        if len(of_simulations) > 2 and np.isfinite(of_simulations).any():
            low, high = np.nanpercentile(of_simulations, (16, 84), axis=0)
            axes.fill_between(k, low, high, color=style["color"], alpha=0.15, lw=0)
            shown += [low, high]
        shown.append(R)
    drawn = shown or [result.curves["R"] for result in comparison.models.values()]
    ratio_axes(
        axes, next(iter(comparison.models.values())).curves["k"], np.stack(drawn), comparison.setting.length_units
    )


def _draw_correlation(axes: Axes, comparison: Comparison) -> None:
    for name, result, style in lines(comparison):
        k = result.curves["k"]
        axes.plot(k, result.curves["r"], label=name, **style)
        if np.isfinite(result.curves["r_mean"]).any():
            label = f"{name}, mean of {result.model.realisations}"
            axes.plot(k, result.curves["r_mean"], label=label, color=style["color"], lw=0.8, marker="o", ms=2.5)
    axes.axhline(0.0, color="0.7", lw=0.8)
    axes.axhline(1.0, color=TRUTH, lw=0.8)
    axes.set_xscale("log")
    axes.set_ylabel("r(k)")
    axes.set_ylim(top=1.03)
    _k_axis(axes, k, comparison.setting.length_units)


def _draw_pdf(axes: Axes, comparison: Comparison) -> None:
    setting = comparison.setting
    first = next(iter(comparison.models.values()))
    edges = first.curves["edges"]
    # Of a field that spans decades the share of cells a decade is what an eye compares.
    width = np.diff(np.log10(edges)) / np.diff(edges) if setting.logarithmic else 1.0
    truth = first.curves["pdf_truth"] / width
    axes.stairs(truth, edges, fill=True, color="0.82", label="truth")
    for name, result, style in lines(comparison):
        axes.stairs(result.curves["pdf"] / width, edges, baseline=None, label=name, **style)
    axes.set_yscale("log")
    positive = truth[truth > 0]
    if positive.size:
        axes.set_ylim(max(positive.min(), 1e-6 * positive.max()) / 2, positive.max() * 3)
    axes.set_xlabel(f"{setting.field} [{setting.units or '1'}]")
    if setting.logarithmic:
        axes.set_xscale("log")
        axes.set_ylabel("share of cells a decade")
    else:
        axes.set_ylabel(f"PDF [1/{setting.units}]" if setting.units else "PDF")


def _draw_means(axes: Axes, comparison: Comparison) -> None:
    units = comparison.setting.units or "1"
    for i, (name, result, style) in enumerate(lines(comparison)):
        true = result.by_simulation["mean_truth"]
        error = result.by_simulation["mean"] - true
        marker = "osD^vPX*"[i % 8]
        face = style["color"] if not result.model.baseline else "none"
        axes.plot(true, error, marker, ms=4, color=style["color"], mfc=face, label=name)
    axes.axhline(0.0, color=TRUTH, lw=0.8)
    axes.set_xlabel(f"true mean of a simulation [{units}]")
    axes.set_ylabel(f"generated - true [{units}]")


def _k_axis(axes: Axes, k: np.ndarray, length_units: str) -> None:
    axes.set_xlim(k[0] * 0.9, k[-1] * 1.1)
    # Of an axis of few decades at 2 and 5 as well.
    digits = (1, 2, 5) if k[-1] < 100 * k[0] else (1,)
    plain = FuncFormatter(lambda k, _: f"{k:g}" if round(k / 10 ** np.floor(np.log10(k))) in digits else "")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain)
    axes.set_xlabel(f"k [1/{length_units}]")


def ratio_axes(axes: Axes, k: np.ndarray, R: np.ndarray, length_units: str) -> None:
    axes.axhspan(0.95, 1.05, color="0.9", lw=0, zorder=0)
    axes.axhline(1.0, color=TRUTH, lw=0.8)
    finite = R[np.isfinite(R)]
    reach = float(np.abs(finite - 1).max()) if finite.size else 0.0
    reach = min(max(1.15 * reach, 0.12), 1.05)
    axes.set_ylim(1 - reach, 1 + reach)
    axes.set_xscale("log")
    _k_axis(axes, k, length_units)
    axes.set_ylabel(r"R(k) = P / P$_\mathrm{truth}$")
