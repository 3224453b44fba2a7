"""The report: whole, self-contained, true to its metrics; and every figure."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from higan.errors import OutputError
from higan.validation import plots
from higan.validation.comparison import compare
from higan.validation.models import Model
from higan.validation.report import check_folder, write_report
from higan.validation.results import written
from tests.validation.fields import map_set

FIELD = "brightness_temp"
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def comparison():
    truth = map_set(n_sim=6, per_sim=2)
    rng = np.random.default_rng(1)

    def noisy(rows):
        return truth.read(FIELD, rows)[:, None] + rng.normal(size=(len(rows), 2, 16, 16))

    models = {
        "noisy <i>": Model(noisy, 2, facts={"licence": "<script>alert(1)</script>"}),
        "flat": Model(lambda rows: np.full((len(rows), 16, 16), 10.0), baseline=True),
    }
    return compare(truth, models, FIELD, input="density", resamples=20)


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    write_report(comparison, folder, title="A & B", notes={"seed": "1"}, overview=True)
    return folder


class Table(HTMLParser):
    """The cells of the table of numbers, and every address the page would fetch."""

    def __init__(self):
        super().__init__()
        self.rows, self.addresses, self.tags, self.inside, self.alts = [], [], set(), False, []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.addresses += [attrs[name] for name in ("src", "href", "srcset", "data") if name in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt"))
        if tag == "table":
            self.inside = attrs.get("id") == "numbers"
        if self.inside and tag == "tr":
            self.rows.append([])
        if self.inside and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "table"

    def handle_data(self, data):
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


@pytest.fixture(scope="module")
def page(folder):
    parser = Table()
    parser.feed((folder / "report.html").read_text(encoding="utf-8"))
    return parser


def test_the_report_needs_nothing_else(folder, page):
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object"}
    text = re.sub(r"base64,[^\"]*", "", (folder / "report.html").read_text(encoding="utf-8"))
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert all(page.alts)


def test_what_a_card_says_is_shown_not_run(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text and "noisy &lt;i&gt;" in text and "<title>A &amp; B</title>" in text


def test_every_number_in_the_table_is_in_the_metrics(folder, page):
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    header, *rows = page.rows
    assert header[1:] == list(metrics["models"])
    definitions = {
        entry["label"] + (f" [{entry['units']}]" if entry["units"] else ""): key
        for key, entry in metrics["definitions"].items()
    }
    seen = 0
    for heading, *cells in rows:
        percent = heading.endswith(" [%]")
        key = definitions[heading.removesuffix(" [%]") if percent else heading]
        for name, cell in zip(header[1:], cells, strict=True):
            entry = metrics["models"][name]["numbers"][key]
            if entry["value"] is None:
                assert cell.strip() == "–"
                continue
            scale = 100 if percent else 1
            error = np.nan if entry["error"] is None else scale * entry["error"]
            value, error = written(scale * entry["value"], error)
            assert cell.strip() == (f"{value} ± {error}" if error else value)
            seen += 1
    assert seen >= 15


def test_files(folder):
    names = {path.name for path in folder.iterdir()}
    figures = {"maps.png", "comparison.png", "power_spectrum.png", "correlation.png", "one_point.png", "mean.png"}
    figures |= {f"{name}.png" for name in ("bispectrum", "minkowski", "extrema", "voids", "scattering", "calibration")}
    figures |= {"covariance.png", "isotropy.png"}
    assert names == {"report.html", "metrics.json"} | figures
    for name in figures:
        data = (folder / name).read_bytes()
        assert data.startswith(PNG) and len(data) > 5000
    assert [path.name for path in folder.parent.iterdir()] == ["report"]  # nothing half done beside it


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr("higan.validation.report._draw", lambda *arguments: {})


def test_an_earlier_report_is_kept_unless_told(comparison, tmp_path, no_figures):
    (tmp_path / "notes.txt").write_text("mine")
    write_report(comparison, tmp_path)
    before = (tmp_path / "report.html").stat().st_mtime_ns
    with pytest.raises(OutputError, match="exists already"):
        write_report(comparison, tmp_path)
    assert (tmp_path / "report.html").stat().st_mtime_ns == before
    write_report(comparison, tmp_path, overwrite=True)
    assert (tmp_path / "report.html").stat().st_mtime_ns > before
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_failure_leaves_nothing(comparison, tmp_path, monkeypatch, no_figures):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("higan.validation.report._page", full)
    with pytest.raises(OutputError, match="No space left"):
        write_report(comparison, tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "taken", overwrite=True)
    with pytest.raises(OutputError):
        check_folder(tmp_path / "taken" / "below", overwrite=True)


@pytest.mark.parametrize(("shape", "with_input"), [((16,), True), ((16, 24), False), ((8, 8, 8), True)])
def test_training_figure(tmp_path, shape, with_input):
    maps = np.random.default_rng(1).normal(size=(2, *shape))
    R = np.array([1.0, np.nan, 3.0, 0.9])
    path = plots.maps_and_ratio(
        maps if with_input else None, maps, maps, np.arange(1.0, 5), R, tmp_path / "tick.png", units="mK", title="1"
    )
    assert path.read_bytes().startswith(PNG) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("shape", [(16,), (8, 8, 8)])
def test_figures_of_any_dimensions(tmp_path, shape):
    truth = map_set(n_sim=2, per_sim=1, shape=shape)
    result = compare(truth, {"zero": lambda rows: np.zeros((len(rows), *shape))}, FIELD, resamples=3)
    for draw in (
        plots.example_maps,
        plots.power_spectra,
        plots.correlations,
        plots.one_point,
        plots.means,
        plots.overview,
    ):
        path = tmp_path / f"{draw.__name__}.png"
        assert draw(result, path).endswith(".")
        assert path.read_bytes().startswith(PNG)
