"""Set before any test imports a backend: TensorFlow, quiet, on the CPU (the tolerances of the tests are a CPU's)."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Optimising the many small programs would take longer than running them; JAX's are compiled once for all processes.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

import numpy as np
import pytest

from higan.mapset import MapSet
from tests import tiny

# Who runs the tests in the background may have them ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(scope="session")
def map_set(tmp_path_factory):
    """8 simulations of 4 maps of 16², in a file: not to be changed."""
    return MapSet.open(tiny.maps().save(tmp_path_factory.mktemp("maps") / "maps.h5"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a 2D checkpoint with initial weights: not to be changed."""
    return tiny.save(tiny.card(), tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def emulator(checkpoint):
    """The emulator of `checkpoint`."""
    import higan

    return higan.load(checkpoint)


@pytest.fixture(scope="session")
def jax_results(tmp_path_factory, checkpoint):
    """What :mod:`tests.backends` gives on JAX, in a process that cannot import TensorFlow."""
    return _elsewhere("jax", tmp_path_factory, checkpoint)


@pytest.fixture(scope="session")
def torch_results(tmp_path_factory, checkpoint):
    """What :mod:`tests.backends` gives on Torch, in a process that cannot import TensorFlow."""
    return _elsewhere("torch", tmp_path_factory, checkpoint)


def _elsewhere(backend, tmp_path_factory, checkpoint):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    path = tmp_path_factory.mktemp(backend) / "results.npz"
    run = subprocess.run(
        [sys.executable, "-m", "tests.backends", str(checkpoint), str(path)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    with np.load(path) as file:
        return dict(file)
