"""The image and the jobs that run it: what can be seen without an engine or a cluster."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def requirements(*words):
    command = [sys.executable, "deploy/requirements.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_requirements_of_an_image():
    """All that the package needs, and the backend asked for alone; each pinned to one version."""
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "deploy/constraints.txt").read_text().split() if "==" in line
    }
    for backend, other in (("tensorflow", "jax"), ("jax", "tensorflow")):
        lines = requirements(backend, "cpu").stdout.split()
        names = {re.split(r"[\[<>=]", line)[0].lower() for line in lines}
        assert {"keras", "h5py", "healpy", "wandb", backend} <= names and other not in names
        assert names <= pinned, names - pinned
    assert "tensorflow[and-cuda]" in requirements("tensorflow", "gpu").stdout
    assert "jax[cuda12]" in requirements("jax", "gpu").stdout
    wrong = requirements("torch", "cpu")
    assert wrong.returncode == 1 and "take tensorflow or jax" in wrong.stderr


def test_jobs_train_from_the_mounted_folders_and_are_put_back():
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["train"]
    job = yaml.safe_load((ROOT / "deploy/kubernetes.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert compose["command"] == container["args"] == ["train", "/data/recipe.toml"]
    assert [volume.split(":")[-1] for volume in compose["volumes"]] == ["/data", "/runs"]
    assert [volume["mountPath"] for volume in container["volumeMounts"]] == ["/data", "/runs"]
    # SIGTERM is given as long as a step and its state may take; 75 is not a failure.
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] == 120 and compose["stop_grace_period"] == "2m"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [75]
    image = (ROOT / "Dockerfile").read_text()
    assert f"USER {job['template']['spec']['securityContext']['runAsUser']}\n" in image


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert "scontrol requeue" in script.read_text()
