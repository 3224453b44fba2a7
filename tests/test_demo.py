"""The main job as a newcomer runs it: built into a wheel, unpacked elsewhere, ``higan demo`` from an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from higan.checkpoint import load_card, shipped_folder

ROOT = Path(__file__).parent.parent
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
open("peak", "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("higan-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    work = folder / "work"
    work.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "KERAS_BACKEND": "tensorflow"}
    where = subprocess.run(
        [sys.executable, "-c", "import higan; print(higan.__file__)"],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert str(folder / "site") in where.stdout, "the wheel must be what runs, not the source tree"
    # Through a process that has no other children, whose memory is then the demo's.
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "higan", "demo"],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return work / "demo", result


def test_writes_report_metrics_and_figures(demo):
    folder, result = demo
    report = (folder / "report.html").read_text()
    assert "<img" in report
    assert 'src="http' not in report and 'href="http' not in report.replace('href="https://arxiv.org', "")
    assert len(list(folder.glob("*.png"))) >= 4
    assert "eor21cm-2d" in result.stdout


def test_generated_maps_beat_the_network_trained_for_the_mean(demo):
    models = json.loads((demo[0] / "metrics.json").read_text())["models"]
    value = {name: model["numbers"]["mean_abs_R_minus_1_small_scales"]["value"] for name, model in models.items()}
    assert value["mean network"] > 5 * value["eor21cm-2d"]


@pytest.mark.parametrize("name", ["mean_abs_R_minus_1", "r_large_scales", "D", "wasserstein"])
def test_as_good_as_the_card_says(demo, name):
    """The demo maps are a quarter of the maps that the card's figures are of: three errors of both together.

    R_s of a simulation is of twelve maps and one realisation here, which scatter more than 48 maps and many: below.
    """
    here = json.loads((demo[0] / "metrics.json").read_text())["models"]["eor21cm-2d"]["numbers"][name]
    card = load_card(shipped_folder("checkpoints") / "eor21cm-2d").metrics["test"][name]
    assert abs(here["value"] - card["value"]) < 3 * np.hypot(here["error"], card["error"])


def test_power_of_single_simulations(demo):
    here = json.loads((demo[0] / "metrics.json").read_text())["models"]["eor21cm-2d"]["numbers"]
    assert here["median_abs_R_s_minus_1"]["value"] < 0.06


def test_memory_stays_below_three_gigabytes(demo):
    peak = float((demo[0].parent / "peak").read_text()) / 1e6
    assert 0.3 < peak < 3.0, f"the demo took {peak:.2f} GB"
