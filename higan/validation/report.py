"""A report of a comparison: one HTML file that needs nothing else, the figures as PNG, and metrics.json."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from higan.errors import OutputError
from higan.validation import checks, plots
from higan.validation.results import Comparison
from higan.validation.statistic import Setting, statistics

REPORT, METRICS = "report.html", "metrics.json"

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.lead { color: #444; margin-top: 0; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption, caption { color: #444; font-size: .9rem; text-align: left; max-width: 50rem; }
caption { padding-bottom: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
thead th, thead td { border-bottom: 2px solid #555; vertical-align: bottom; }
tbody th { text-align: left; font-weight: 500; }
td span { color: #555; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0 0 0 1.2rem; }
"""


def write_report(
    comparison: Comparison,
    folder: str | os.PathLike[str],
    *,
    title: str = "Generated maps beside the truth",
    notes: Mapping[str, str] | None = None,
    overview: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write report.html, metrics.json and the figures of a comparison into a folder.

    Files are made elsewhere and then moved into place, the report last.

    Parameters
    ----------
    comparison : Comparison
    folder : path
        Made where it does not exist; other files in it stay as they are.
    title : str
    notes : mapping of str to str, optional
        Further facts for the report.
    overview : bool
        Add one figure with all models (comparison.png).
    overwrite : bool
        Replace an earlier report.

    Returns
    -------
    Path
        Of report.html.

    Raises
    ------
    OutputError
        If the folder holds a report already (without `overwrite`), or cannot be written.

    Examples
    --------
    >>> write_report(comparison, "report")  # doctest: +SKIP
    """
    folder = Path(folder)
    check_folder(folder, overwrite)
    staging = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        os.chmod(staging, 0o755)
        figures = _draw(comparison, staging, overview)
        metrics = json.dumps(comparison.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        (staging / METRICS).write_text(metrics + "\n", encoding="utf-8")
        (staging / REPORT).write_text(_page(comparison, figures, staging, title, notes or {}), encoding="utf-8")
        if folder.exists():
            for path in sorted(staging.iterdir(), key=lambda path: path.name == REPORT):
                os.replace(path, folder / path.name)
        else:
            os.replace(staging, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}). Make room, or choose another place.") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return folder / REPORT


def check_folder(folder: str | os.PathLike[str], overwrite: bool) -> None:
    """Refuse an output folder that holds a report already (unless `overwrite`), is a file, or cannot be written to.

    Examples
    --------
    >>> check_folder("no-such-folder-yet", overwrite=False)
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Give the name of a folder.")
    for name in (REPORT, METRICS):
        if (folder / name).exists() and not overwrite:
            raise OutputError(
                f"{folder / name} exists already. Choose another folder, or add --overwrite to replace it."
            )
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"{folder} cannot be written: no permission in {above}. Choose another place.")


def _draw(comparison: Comparison, folder: Path, overview: bool) -> dict[str, str]:
    """Figures by file name, with their captions."""
    figures = {"maps.png": plots.example_maps(comparison, folder / "maps.png")}
    if overview:
        figures["comparison.png"] = plots.overview(comparison, folder / "comparison.png")
    for cls in statistics(comparison.setting.kind):
        caption = cls.figure(comparison, folder / f"{cls.name}.png")
        if caption is not None:
            figures[f"{cls.name}.png"] = caption
    caption = checks.figure(comparison, folder / "checks.png")
    if caption is not None:
        figures["checks.png"] = caption
    return figures


def _page(
    comparison: Comparison, figures: Mapping[str, str], folder: Path, title: str, notes: Mapping[str, str]
) -> str:
    setting = comparison.setting
    size = " x ".join(map(str, setting.shape))
    lead = (
        f"{setting.field} [{setting.units or '1'}]: {comparison.maps} maps of {size} cells of {setting.cell_size:g} "
        f"{setting.length_units}, from {len(comparison.simulations)} simulations."
    )
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
        f"<h1>{escape(title)}</h1>\n<p class='lead'>{escape(lead)}</p>",
        "<h2>In words</h2>",
        *(f"<p>{escape(sentence)}</p>" for sentence in in_words(comparison)),
        "<h2>Numbers</h2>",
        _table(comparison),
        _bins(comparison),
        *(
            _facts(f"{name}: {check}", _flat(values))
            for name, found in comparison.checks.items()
            for check, values in found.items()
        ),
        "<h2>Figures</h2>",
        *(_figure(folder / name, caption) for name, caption in figures.items()),
        "<h2>What the numbers mean</h2>\n<dl>",
        *(
            f"<dt>{escape(number.label)}</dt><dd>{escape(number.meaning)}</dd>"
            for number in comparison.definitions.values()
        ),
        "</dl>\n<h2>What was compared</h2>",
        _facts("The truth", comparison.truth),
        *(_facts(name, result.model.facts) for name, result in comparison.models.items() if result.model.facts),
        _facts("How", _how(comparison) | dict(notes)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def in_words(comparison: Comparison) -> list[str]:
    """The headline of the first model in a few plain sentences.

    Examples
    --------
    >>> in_words(comparison)[1]  # doctest: +SKIP
    'The share of cells below any of 61 values differs from the truth by at most 1.2 % (± 0.3); that of …'
    """
    name, result = next(iter(comparison.models.items()))
    numbers = result.numbers

    def share(key: str) -> str:
        value, error = numbers[key]
        return f"{100 * value:.1f} %" + (f" (± {100 * error:.1f})" if error == error else "")

    edges = len(comparison.setting.edges)
    if comparison.setting.kind == "healpix":
        return [
            f"The angular power spectrum of the maps of {name} is off by {share('mean_abs_R_l_minus_1')} on average "
            f"over multipoles, and by {share('max_abs_R_l_minus_1')} where it is worst, at l = "
            f"{numbers['max_abs_R_l_minus_1_l'][0]:.0f}.",
            f"The share of pixels below any of {edges} values differs from the truth by at most {share('D')}.",
        ]
    sentences = [
        f"The power spectrum of the maps of {name} is off by {share('mean_abs_R_minus_1')} on average over scales, and "
        f"by {share('max_abs_R_minus_1')} where it is worst, at k = {numbers['max_abs_R_minus_1_k'][0]:.2g} "
        f"/{comparison.setting.length_units}.",
        f"The share of cells below any of {edges} values differs from the truth by at most "
        f"{share('D')}; that of cells at or below the lowest of them by {share('empty_share_error')}.",
    ]
    if comparison.bright.any():
        sentences.append(
            "For the maps of one simulation alone, the power of the median simulation is off by "
            f"{share('median_abs_R_s_minus_1')}."
        )
    faint = int((~comparison.bright).sum())
    if faint:
        sentences.append(
            f"{faint} of the {len(comparison.bright)} simulations are nearly ionised, with a power spectrum that "
            "vanishes: they are left out of ratios of single simulations and judged by the error of their cells."
        )
    r, r_mean = numbers["r_large_scales"][0], numbers["r_mean_large_scales"][0]
    if r_mean == r_mean:
        sentences.append(
            f"On large scales one realisation has a correlation of {r:.3f} with the truth, and the mean of "
            f"{result.model.realisations} realisations one of {r_mean:.3f}. A stochastic generator is not meant to hit "
            "the truth cell by cell: it is the mean that compares with a network trained for the mean."
        )
    return sentences


def _table(comparison: Comparison) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in comparison.models)
    lines = []
    for label, cells in comparison.rows():
        row = "".join(
            f"<td>{value} <span>± {error}</span></td>" if error else f"<td>{value or '–'}</td>"
            for value, error in cells
        )
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{row}</tr>')
    setting = comparison.setting
    caption = "± is one standard deviation by bootstrap over simulations; – is a number that is not defined."
    if setting.kind != "healpix":
        caption += (
            f" Large scales are k up to {setting.large_scale_k:g} /{setting.length_units}, small scales those above "
            "half the Nyquist wavenumber."
        )
    return "\n".join(
        [
            f'<div class="scroll"><table id="numbers"><caption>{escape(caption)}</caption>',
            f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def _bins(comparison: Comparison) -> str:
    """How many bins of every curve agree, for models that are no baselines."""
    rows = {
        f"{name}, {curve}": f"{found['within']} of {found['bins']}; errors are at most 5 % in {found['known']}"
        for name, result in comparison.models.items()
        if not result.model.baseline
        for curve, found in comparison.agreement(name).items()
    }
    return _facts("Bins that are within 5 %, or two standard errors, of the truth", rows) if rows else ""


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(str(value))}</td></tr>' for key, value in facts.items()
    )
    return f'<table class="facts"><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>'


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Numbers as text, those of a nested mapping on one line."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {text(item)}" for key, item in value.items())
        if isinstance(value, list):
            return ", ".join(map(text, value))
        return f"{value:.3g}" if isinstance(value, float) else "–" if value is None else str(value)

    return {key: text(value) for key, value in values.items()}


def _window(setting: Setting) -> dict[str, str]:
    if setting.kind != "healpix":
        return {"window": setting.window or "none: the maps are periodic"}
    if setting.seen is None or setting.seen.all():
        return {"C_l": "healpy's anafast, the whole sky"}
    return {"C_l": f"healpy's anafast, f_sky = {setting.seen.mean():.3f}; the mask's coupling of l is undone by MASTER"}


def _how(comparison: Comparison) -> dict[str, str]:
    setting = comparison.setting
    edges = setting.edges
    return {
        "bootstrap": f"{comparison.resamples} resamples of the simulations, seed {comparison.seed}",
        **_window(setting),
        "one-point edges": f"{len(edges)} from {edges[0]:g} to {edges[-1]:g} {setting.units}",
        "versions": ", ".join(f"{name} {version}" for name, version in comparison.versions.items()),
    }
