"""Several devices and processes train as one does; the first process alone writes; what becomes of the others' ends."""

import json
import os
import signal
import socket
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from higan.adversarial.batches import Batches
from higan.adversarial.parts import part_of
from higan.adversarial.step import load_backend
from higan.adversarial.workers import Workers
from higan.cli import main
from higan.errors import StoppedError, TrainingError
from higan.networks.config import GeneratorConfig
from higan.scaling import Linear
from tests import tiny
from tests.adversarial import replicas
from tests.adversarial.test_loop import log

BACKENDS = ("tensorflow", "jax")
TWO_DEVICES = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2"
STOPS_AT, DIES_AT, STEPS = 0, 4, 6
TICK = 2  # steps


# -- two devices ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_device():
    return replicas.results()


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_devices_train_as_one(backend, one_device, tmp_path):
    """In two parts each, too: what losses are measured by is of the whole batch, and noise goes with its maps."""
    pytest.importorskip(backend)
    path = tmp_path / "results.npz"
    command = [sys.executable, "-m", "tests.adversarial.replicas", "devices", str(path)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": TWO_DEVICES}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    _check_results(path, one_device)


def _check_results(path, one_device):
    with np.load(path) as found:
        assert set(found) == set(one_device)
        for name, expected in one_device.items():
            # A critic's offset is no part of its loss: its gradient is a rounding error, of which Adam makes a step.
            offset = 2e-3 if name == "crps/generator/1" else 0
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6 + offset, err_msg=name)


# -- two processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_with_every_loss_and_a_discriminator_train_as_one(backend, one_device, tmp_path):
    pytest.importorskip(backend)
    path = tmp_path / "results.npz"
    command = [sys.executable, "-m", "tests.adversarial.replicas", "processes", str(path)]
    codes, errors = _together(backend, [command] * 2, _cluster(backend))
    assert codes == [0, 0], "\n".join(errors)
    _check_results(path, one_device)


@pytest.fixture(scope="module")
def recipe(map_set, tmp_path_factory):
    size = tiny.RECIPE["training"]["batch_size"]
    return tiny.recipe_toml(
        tmp_path_factory.mktemp("replicas") / "tiny.toml",
        map_set.path,
        # No discriminator, which would take its time to compile.
        objective={"name": "none", "pixel": "crps", "pixel_weight": 1.0, "mean_power_weight": 0.5},
        training={**tiny.RECIPE["training"], "maps": STEPS * size, "tick_maps": TICK * size},
        validation={"select": "last"},
    )


@pytest.fixture(scope="module")
def one_process(recipe, tmp_path_factory):
    """The folder of a run that nothing interrupted, in one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert main(["train", str(recipe), "--output", str(run)]) == 0
    return run


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_train_as_one_until_one_is_killed(backend, recipe, one_process, tmp_path):
    """Both end where one is asked to, go on together, the other ends when one is killed, and a single one goes on."""
    pytest.importorskip(backend)
    run = tmp_path / "run"
    codes, errors = _workers(backend, recipe, run, _cluster(backend), 1, STOPS_AT, DIES_AT)
    assert codes == [75, -9], "\n".join(errors)
    assert "stopped by SIGTERM after" in errors[0] and "worker 0 of 2 has lost another" in errors[0], errors[0]
    assert "Traceback" not in errors[0]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run"]
    with h5py.File(run / "state.h5") as file:
        assert file.attrs["step"] == DIES_AT
    words = ["train", str(recipe), "--output", str(run)]
    if backend == keras.backend.backend():
        assert main(words) == 0
    else:
        environment = {**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": TWO_DEVICES}
        command = [sys.executable, "-m", "higan", *words]
        alone = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert alone.returncode == 0, alone.stderr
    assert [line["maps"] for line in log(run)] == [line["maps"] for line in log(one_process)]
    for here, there in zip(log(run), log(one_process), strict=True):
        for name in set(there) - {"hours", "maps_per_s"}:
            assert here[name] == pytest.approx(there[name], rel=1e-3, abs=1e-5), (name, here, there)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_go_on_from_one_until_the_first_is_killed(backend, recipe, tmp_path):
    pytest.importorskip(backend)
    run = tmp_path / "run"
    codes, errors = _workers(backend, recipe, run, [{}], 0, "never", TICK)
    assert codes == [-9], errors
    codes, errors = _workers(backend, recipe, run, _cluster(backend), 0, "never", DIES_AT)
    # JAX ends the others itself, in its own words, where it is the first to notice.
    assert codes in ([-9, 75], [-9, -signal.SIGABRT] if backend == "jax" else None), "\n".join(errors)
    if backend == "tensorflow":
        assert "worker 1 of 2 has lost another" in errors[1] and "Traceback" not in errors[1], errors[1]
    with h5py.File(run / "state.h5") as file:
        assert file.attrs["step"] == DIES_AT
    size = tiny.RECIPE["training"]["batch_size"]
    assert [line["maps"] for line in log(run)] == [size * step for step in range(TICK, DIES_AT + 1, TICK)]


def _workers(backend, recipe, run, clusters, rank, stops_at, dies_at):
    """Exit codes and what was said of a process for each environment, of which that of `rank` is killed."""
    commands = []
    for own in range(len(clusters)):
        # Only the first writes: the other would into a folder of its own, and has the state from the first.
        output = run if own == 0 else run.parent / "never"
        words = ["worker", str(recipe), str(output), str(rank), str(stops_at), str(dies_at)]
        commands.append([sys.executable, "-m", "tests.adversarial.replicas", *words])
    return _together(backend, commands, clusters)


def _together(backend, commands, clusters):
    """Exit codes and what was said of commands that run side by side, each in its environment."""
    processes = [
        subprocess.Popen(
            command, env={**os.environ, "KERAS_BACKEND": backend, **cluster}, stderr=subprocess.PIPE, text=True
        )
        for command, cluster in zip(commands, clusters, strict=True)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], errors


def _cluster(backend):
    """The environment of each of two processes on this host."""
    sockets = [socket.socket() for _ in range(2)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    hosts = [f"127.0.0.1:{item.getsockname()[1]}" for item in sockets]
    for item in sockets:
        item.close()
    if backend == "tensorflow":
        task = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": rank}} for rank in range(2)]
        return [{"TF_CONFIG": json.dumps(config)} for config in task]
    return [
        {"JAX_COORDINATOR_ADDRESS": hosts[0], "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank)}
        for rank in range(2)
    ]


# -- who does what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4])
def test_processes_make_their_parts_of_a_batch(count):
    """All realisations of their maps, the noise of the sky of true and generated ones, crops and symmetries."""
    maps = tiny.maps()
    options = dict(batch_size=8, seed=1, maps_per_simulation=2, symmetries=("roll", "rotate"), crop=8, context=2)
    options |= dict(network=GeneratorConfig(**tiny.NETWORK), realisations=2, flux=np.arange(1.0, 9.0))
    arguments = (maps, np.arange(24), [("density", Linear())], [("brightness_temp", Linear())], maps.parameters)
    whole = Batches(*arguments, **options)
    for rank in range(count):
        own = Batches(*arguments, **options, share=(rank, count))
        for step in (0, 5):
            expected, found = part_of(whole(step), rank, count), own(step)
            assert set(found) == set(expected) and len(found["maps"]) == 8 // count
            assert len(found["noise"][0]) == len(found["sky"]) == 2 * 8 // count
            keras.tree.map_structure(np.testing.assert_array_equal, found, expected)


class Cluster:
    """A backend of some processes that never meet."""

    def __init__(self, rank=0, count=1, devices=1):
        self.rank, self.count, self.devices, self.left = rank, count, devices, False

    def join(self):
        pass

    def workers(self):
        return self.rank, self.count

    def replicas(self):
        return self.devices

    def lost(self, error):
        return isinstance(error, ConnectionError)

    def leave(self, code):
        self.left = code


@pytest.mark.parametrize(
    ("devices", "size", "group", "accumulate", "message"),
    [
        (1, 16, 4, 1, None),
        (4, 16, 4, 2, None),
        (3, 16, 1, 1, "is 16, which 3 devices cannot share equally: make it a multiple of 3, or"),
        (4, 8, 4, 1, "is 8, which 4 devices cannot share equally in groups of 4 maps: make it a multiple of 16"),
        (2, 12, 3, 4, "share equally in groups of 3 maps in 4 parts: make it a multiple of 24"),
        (1, 6, 1, 4, "is 6, which 1 devices cannot"),
    ],
)
def test_batches_that_cannot_be_shared(devices, size, group, accumulate, message):
    workers = Workers(Cluster(devices=devices))
    if message is None:
        workers.check_batch(size, group, accumulate)
        return
    with pytest.raises(TrainingError) as caught:
        workers.check_batch(size, group, accumulate)
    assert message in str(caught.value)


def test_which_errors_are_another_s():
    """What a device does wrong would be done again by a job that is put back in the queue."""
    backend = load_backend()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gone = [
            tf.errors.UnavailableError(None, None, "failed"),
            tf.errors.InternalError(None, None, "Collective ops is aborted by: Connection reset by peer"),
        ]
        own = [
            tf.errors.InternalError(None, None, "CUDA error: an illegal memory access was encountered"),
            tf.errors.InternalError(None, None, "node CollectiveReduceV2 failed: cuDNN launch failure"),
            tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory"),
        ]
    else:
        import jax

        gone = [
            jax.errors.JaxRuntimeError("UNAVAILABLE: failed"),
            jax.errors.JaxRuntimeError("INTERNAL: NCCL operation failed: remote error"),
            ValueError("Gloo all-reduce failed: timed out"),
        ]
        own = [
            jax.errors.JaxRuntimeError("INTERNAL: CUDA error: an illegal memory access was encountered"),
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2 bytes"),
            jax.errors.JaxRuntimeError("INTERNAL: CUDA error in thunk all-reduce: connection closed"),
        ]
    others = [ValueError("I/O operation on closed file"), ConnectionError("wandb: Failed to connect")]
    assert all(map(backend.lost, gone)) and not any(map(backend.lost, [*own, *others]))


def test_errors_of_one_of_several():
    """Nobody waits for the others then; that one has gone is said as such."""
    backend = Cluster(rank=1, count=3)
    with pytest.raises(StoppedError, match=r"worker 1 of 3 has lost another.*\(Collective ops is aborted by x\)"):
        with Workers(backend).together():
            raise ConnectionError("Graph execution error:\n\nCollective ops is aborted by x.\n")
    assert backend.left == 75
    for error, code in ((ZeroDivisionError(), 1), (TrainingError("ConnectionError"), 2)):
        backend = Cluster(count=3)
        with pytest.raises(type(error)), Workers(backend).together():
            raise error
        assert backend.left == code
    backend = Cluster()
    with pytest.raises(ConnectionError), Workers(backend).together():
        raise ConnectionError
    assert not backend.left


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TF_CONFIG is TensorFlow's")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, (0, 1)),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}, (1, 2)),
        ({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}, (1, 2)),
        ({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}, (0, 2)),
        (
            {"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}},
            "makes this process 'ps' 0",
        ),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}, "process 'worker' 3 of"),
        ("{", "TF_CONFIG cannot be read"),
    ],
)
def test_tf_config(monkeypatch, config, expected):
    from higan.adversarial.backend_tensorflow import workers

    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    if isinstance(expected, tuple):
        assert workers() == expected
        return
    with pytest.raises(TrainingError, match=expected):
        workers()
