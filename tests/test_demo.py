"""The main job as a newcomer runs it: built into a wheel, unpacked elsewhere, ``higan demo`` from an empty folder."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
    result = subprocess.run(
        [sys.executable, "-m", "higan", "demo"], env=environment, cwd=work, capture_output=True, text=True
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


def test_generated_maps_have_the_power_of_the_truth(demo):
    metrics = json.loads((demo[0] / "metrics.json").read_text())
    assert metrics["models"], "metrics.json lists what was compared"


def test_memory_stays_below_three_gigabytes(demo):
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    assert peak < 3.0, f"the largest child process took {peak:.2f} GB"
