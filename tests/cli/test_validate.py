"""``higan validate`` and ``higan compare``: from files to a report, and each bad input with one sentence."""

import json

import h5py
import numpy as np
import pytest

from higan.cli import main
from higan.mapset import Field, Geometry, MapSet
from higan.validation import Baselines, validate
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    patch = pytest.MonkeyPatch()
    patch.setattr("higan.validation.comparison.RESAMPLES", 20)
    yield
    patch.undo()


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr("higan.validation.report._draw", lambda *arguments: {})


@pytest.fixture(scope="module")
def generated(tmp_path_factory, map_set):
    """Two realisations of the maps of ``map_set``, off by noise."""
    source = np.repeat(np.arange(len(map_set)), 2)
    rng = np.random.default_rng(1)
    values = map_set.read("brightness_temp", source) + rng.normal(size=(len(source), 16, 16))
    maps = MapSet(
        {"brightness_temp": Field(values.astype("float32"), "mK")},
        map_set.parameters,
        map_set.parameter_info,
        map_set.simulation[source],
        map_set.geometry,
        extra={"source_row": source, "realisation": np.tile([0, 1], len(map_set))},
    )
    return maps.save(tmp_path_factory.mktemp("generated") / "painted.h5")


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


BASELINES = ["linear transfer", "amplitude transfer", "local remap", "log normal"]


def test_a_generated_map_set(tmp_path, capsys, map_set, generated):
    out = tmp_path / "report"
    assert main(["validate", str(generated), str(map_set.path), "--output", str(out), "--split", "all"]) == 0
    assert "mean |R-1|" in capsys.readouterr().out
    values = metrics(out)
    assert list(values["models"]) == ["painted", *BASELINES]
    assert values["maps"] == 32 and values["models"]["painted"]["realisations"] == 2
    assert values["models"]["painted"]["numbers"]["r_mean_large_scales"]["value"] > 0.9
    assert {"report.html", "maps.png", "power_spectrum.png"} <= {path.name for path in out.iterdir()}


def test_the_test_simulations_alone_by_default(tmp_path, map_set, generated, no_figures):
    assert main(["validate", str(generated), str(map_set.path), "--output", str(tmp_path / "report")]) == 0
    assert metrics(tmp_path / "report")["simulations"] == [7]


def test_a_checkpoint(tmp_path, map_set, checkpoint, no_figures):
    out = tmp_path / "report"
    words = ["validate", str(checkpoint), str(map_set.path), "--output", str(out), "--split", "all"]
    words += ["--realisations", "2", "--seed", "3", "--baseline-checkpoint", str(checkpoint)]
    assert main(words) == 0
    first = metrics(out)
    assert list(first["models"]) == ["tiny", "mean network", *BASELINES]
    assert first["models"]["tiny"]["realisations"] == 2
    assert first["models"]["tiny"]["facts"]["noise seed"] == 3
    assert main([*words, "--overwrite"]) == 0
    assert metrics(out) == first


def test_painted_maps_are_judged_like_the_checkpoint(tmp_path, map_set, checkpoint, emulator, no_figures):
    words = ["--input", str(map_set.path), "--output", str(tmp_path / "painted.h5"), "--seed", "4"]
    assert main(["sample", str(checkpoint), *words, "--realisations", "2"]) == 0
    from_file = validate(MapSet.open(tmp_path / "painted.h5"), map_set, tmp_path / "a", split="all")
    direct = validate(emulator, map_set, tmp_path / "b", split="all", seed=4, realisations=2)
    for key in ("mean_abs_R_minus_1", "D", "r_mean_large_scales"):
        assert from_file.value("tiny", key)[0] == pytest.approx(direct.value("tiny", key)[0], rel=1e-4)


def test_baselines_beside_a_checkpoint(tmp_path, map_set, no_figures):
    folder = tiny.save(tiny.card(), tmp_path / "tiny")
    rows = map_set.rows_of([0, 1, 2])
    Baselines.fit(map_set, "density", "brightness_temp", rows).save(folder / "baselines.h5")
    held_out = map_set.select(map_set.rows_of([7]))
    truth = held_out.save(tmp_path / "truth.h5")
    assert main(["validate", str(folder), str(truth), "--output", str(tmp_path / "report")]) == 0
    facts = metrics(tmp_path / "report")["models"]["local remap"]["facts"]
    assert facts["fitted on"] == "3 training simulations"


def test_no_baselines_are_told(tmp_path, map_set, generated, no_figures):
    truth = tiny.maps(extra={}).save(tmp_path / "truth.h5")
    assert main(["validate", str(generated), str(truth), "--output", str(tmp_path / "report")]) == 0
    assert list(metrics(tmp_path / "report")["models"]) == ["painted"]
    assert "generated maps bring none" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_compare(tmp_path, capsys, map_set, checkpoint, generated):
    out = tmp_path / "report"
    words = ["compare", str(checkpoint), str(generated), str(generated), str(map_set.path), "--output", str(out)]
    assert main([*words, "--split", "all"]) == 0
    assert list(metrics(out)["models"])[:3] == ["tiny", "painted", "painted (painted.h5)"]
    assert (out / "comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": "other"}, "no field in common"),
        ({"units": "K"}, "Convert"),
        ({"extra": {"source_row": np.arange(32) + 5}}, "/source_row runs from 5 to 36"),
        ({"few": True}, "no /source_row"),
    ],
)
def test_bad_generated_sets(tmp_path, capsys, map_set, change, message):
    rows = np.arange(4 if "few" in change else 32)
    name, units = ("galaxies" if "fields" in change else "brightness_temp"), change.get("units", "mK")
    bad = map_set.select(rows)._replace(
        fields={name: Field(map_set.read("brightness_temp", rows), units)}, extra=change.get("extra", {})
    )
    path = bad.save(tmp_path / "bad.h5")
    refused(capsys, tmp_path, ["validate", str(path), str(map_set.path)], message)


def refused(capsys, tmp_path, words, message):
    out = tmp_path / "report"
    assert main([*words, "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_bad_words(tmp_path, capsys, map_set, generated, checkpoint):
    truth, painted = str(map_set.path), str(generated)
    refused(capsys, tmp_path, ["validate", painted, str(tmp_path / "none.h5")], "does not exist")
    refused(capsys, tmp_path, ["validate", str(tmp_path / "none.h5"), truth], "does not exist")
    refused(capsys, tmp_path, ["validate", "no-such-checkpoint", truth], "no-such-checkpoint")
    refused(capsys, tmp_path, ["validate", painted, truth, "--realisations", "0"], "at least 1")
    refused(capsys, tmp_path, ["validate", painted, truth, "--seed", "-1"], "seed must be")
    refused(capsys, tmp_path, ["validate", painted, truth, "--classifier"], "give checkpoints, not painted maps")
    refused(capsys, tmp_path, ["validate", painted, truth, "--field", "galaxies"], "no field 'galaxies'")
    refused(capsys, tmp_path, ["validate", painted, truth, "--baselines", truth], "not a file of baselines")
    not_hdf5 = tmp_path / "notes.h5"
    not_hdf5.write_text("notes")
    refused(capsys, tmp_path, ["validate", str(not_hdf5), truth], "not an HDF5 file")


def test_truth_that_does_not_fit_a_checkpoint(tmp_path, capsys, map_set, checkpoint):
    without = tiny.maps(n_sim=2).select(np.arange(8))
    without.fields.pop("density")
    refused(
        capsys,
        tmp_path,
        ["validate", str(checkpoint), str(without.save(tmp_path / "a.h5")), "--split", "all"],
        "'density'",
    )
    names = tiny.maps(n_sim=2, parameter_info=[tiny.PARAMETERS[0], tiny.Parameter("OTHER")])
    refused(
        capsys,
        tmp_path,
        ["validate", str(checkpoint), str(names.save(tmp_path / "b.h5")), "--split", "all"],
        "no parameter T_MEAN",
    )
    broken = tiny.maps(n_sim=2).save(tmp_path / "c.h5")
    with h5py.File(broken, "r+") as file:
        file["fields/brightness_temp"][5, 0, 0] = np.nan
    refused(capsys, tmp_path, ["validate", str(checkpoint), str(broken), "--split", "all"], "in map 5")


def test_no_test_simulations(tmp_path, capsys, generated):
    truth = tiny.maps(extra={"split": np.array(["train"] * 8)}).save(tmp_path / "truth.h5")
    refused(capsys, tmp_path, ["validate", str(generated), str(truth)], "no maps of test simulations (8 train")


def test_an_earlier_report_is_kept(tmp_path, capsys, map_set, generated):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("mine")
    assert main(["validate", str(generated), str(map_set.path), "--output", str(tmp_path / "report")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "report" / "report.html").read_text() == "mine"


def test_checks_against_the_training_maps(tmp_path, checkpoint, map_set):
    """Made where the truth, or another set, has training simulations; a checkpoint's ranks where it draws several."""
    out = tmp_path / "report"
    arguments = [str(checkpoint), str(map_set.path), "--output", str(out), "--realisations", "3", "--split", "all"]
    assert main(["validate", *arguments, "--training", str(map_set.path)]) == 0
    checks = metrics(out)["checks"]["tiny"]
    assert checks["ranks"] and all(
        name.startswith("p (Holm) of ") and 0 < p <= 1 for name, p in checks["ranks"].items()
    )
    assert checks["memorisation"]["median distance, true"] == 0  # they are the training maps, most of them
    deciles = checks["memorisation"]["deciles of the distance, generated"]
    assert deciles == sorted(deciles) and deciles[0] > 0
    assert "memorisation" in (out / "report.html").read_text() and (out / "checks.png").stat().st_size > 0


def test_parameters_are_recovered_from_the_logarithm_too(tmp_path, no_figures):
    """Of a field that spans decades."""
    paths = [tmp_path / name for name in ("training.h5", "truth.h5", "brighter.h5")]
    for path, seed, factor in zip(paths, (1, 2, 2), (1.0, 1.0, 1.1), strict=True):
        maps = tiny.maps(n_sim=16, per_sim=2, seed=seed)
        values = factor * 10 ** (maps.read("brightness_temp", np.arange(32)) / 3)
        maps.fields["brightness_temp"] = Field(values.astype("float32"), "mK")
        maps.save(path)
    training, truth, brighter = map(str, paths)
    arguments = ["--field", "brightness_temp", "--output", str(tmp_path / "report"), "--split", "all"]
    assert main(["validate", brighter, truth, *arguments, "--training", training]) == 0
    checks = metrics(tmp_path / "report")["checks"]["brighter"]
    for kind in ("recovery", "recovery_log"):
        assert list(checks[kind]) == ["BIAS", "T_MEAN"]
        assert 0 < abs(checks[kind]["T_MEAN"]["bias [sigma]"]) < 100
    assert checks["recovery"] != checks["recovery_log"]


def test_maps_that_are_judged_are_no_training_maps(tmp_path, checkpoint, map_set, no_figures):
    """Every map is nearest to itself: with all simulations judged none is left to compare with."""
    for split, checked in (("all", False), ("test", True)):
        out = tmp_path / split
        assert main(["validate", str(checkpoint), str(map_set.path), "--output", str(out), "--split", split]) == 0
        assert ("memorisation" in metrics(out)["checks"]["tiny"]) == checked


def test_training_maps_of_another_shape(tmp_path, checkpoint, map_set, capsys):
    other = tiny.maps(shape=(8, 8)).save(tmp_path / "other.h5")
    command = ["validate", str(checkpoint), str(map_set.path), "--output", str(tmp_path / "report")]
    assert main([*command, "--training", str(other)]) == 2
    assert "has maps of (8, 8)" in capsys.readouterr().err and not (tmp_path / "report").exists()


def test_a_field_of_the_truth_as_baseline(tmp_path, generated, map_set, no_figures):
    twice = Field(2 * map_set.read("brightness_temp"), "mK", "twice as bright")
    fields = {name: Field(map_set.read(name), field.units) for name, field in map_set.fields.items()}
    truth = tiny.maps(n_sim=8, fields=fields | {"by_hand": twice}).save(tmp_path / "truth.h5")
    out = tmp_path / "report"
    command = ["validate", str(generated), str(truth), "--output", str(out), "--split", "all", "--field"]
    assert main([*command, "brightness_temp", "--baseline-field", "by_hand"]) == 0
    model = metrics(out)["models"]["by hand"]
    assert model["baseline"] and model["facts"] == {"field": "twice as bright"}
    assert model["numbers"]["mean_abs_R_minus_1"]["value"] == pytest.approx(3, rel=1e-5)


def test_a_classifier_when_asked_for(tmp_path, checkpoint, map_set, no_figures, monkeypatch):
    monkeypatch.setattr("higan.validation.classifier.PATIENCE", 1)
    out = tmp_path / "report"
    assert (
        main(["validate", str(checkpoint), str(map_set.path), "--output", str(out), "--split", "all", "--classifier"])
        == 0
    )
    found = metrics(out)["checks"]["tiny"]["classifier"]
    assert found["accuracy of a classifier"] > 0.9  # the network was not trained
    assert found["its 95 % interval"]["to"] == 1 and found["maps judged"] == 16
    assert "accuracy of a classifier" in (out / "report.html").read_text()


def test_a_ring_test_when_asked_for(tmp_path, capsys, map_set, generated, no_figures):
    pytest.importorskip("galsim")
    refused(capsys, tmp_path, ["validate", str(generated), str(map_set.path), "--ring-test"], "cells of 2 Mpc")
    y, x = np.indices((32, 32)) - 15.5
    stamps = np.exp(-(x**2 / np.array([9, 12, 14, 16])[:, None, None] + y**2 / 11) / 2).astype("float32")
    geometry = Geometry(kind="image", ndim=2, periodic=False, cell_size=0.03, cell_size_units="arcsec")
    maps = MapSet({"image": Field(stamps, "ct / s")}, np.zeros((4, 0)), [], np.arange(4), geometry)
    truth = maps.save(tmp_path / "truth.h5")
    painted = maps._replace(fields={"image": Field(stamps[:, ::-1], "ct / s")}).save(tmp_path / "painted.h5")
    out = tmp_path / "report"
    assert main(["validate", str(painted), str(truth), "--output", str(out), "--ring-test"]) == 0
    found = metrics(out)["checks"]["painted"]["ring test"]
    assert found["galaxies"] == 4 and abs(found["m of generated less m of true galaxies"]) < 1e-3
