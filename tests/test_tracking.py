import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from higan.tracking import JsonLines, TensorBoard, Trackers, Wandb


@pytest.fixture
def picture(tmp_path):
    import matplotlib.pyplot as plt

    plt.imsave(tmp_path / "picture.png", np.zeros((4, 4)))
    return tmp_path / "picture.png"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_text() == ""
    for maps in (10, 20, 30):
        log.metrics({"loss": maps / 7}, maps)
    assert lines(tmp_path / "log.jsonl") == [{"maps": m, "loss": m / 7} for m in (10, 20, 30)]


def test_json_lines_are_json(tmp_path):
    """Which has no NaN."""
    log = JsonLines(tmp_path / "log.jsonl")
    log.metrics({"a": float("nan"), "b": float("-inf"), "c": 1.5}, 10)
    assert (tmp_path / "log.jsonl").read_text() == '{"maps": 10, "a": null, "b": null, "c": 1.5}\n'


def test_resuming_cuts_what_lies_beyond_the_state(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"maps": 10, "a": 1}\n{"maps": 20, "a": 2}\n{"maps": 30, "a": 3}\n{"maps": 20}\n{"maps": 1')
    log = JsonLines(path, maps=20)
    log.metrics({"a": 4.0}, 30)
    assert lines(path) == [{"maps": 10, "a": 1}, {"maps": 20, "a": 2}, {"maps": 20}, {"maps": 30, "a": 4.0}]
    assert os.listdir(tmp_path) == ["log.jsonl"]


class Failing:
    """A tracker whose `method` fails."""

    def __init__(self, method):
        self.calls = []
        for name in ("metrics", "figure", "report", "close"):
            setattr(self, name, lambda *_, name=name: self._call(name, method))

    def _call(self, name, failing):
        self.calls.append(name)
        if name == failing:
            raise ConnectionError("no network")


@pytest.mark.parametrize("method", ["metrics", "figure", "report", "close"])
def test_a_tracker_that_fails_is_dropped_and_the_others_go_on(tmp_path, picture, method):
    failing = Failing(method)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trackers = Trackers([("wandb", lambda: failing), ("log", lambda: JsonLines(tmp_path / "log.jsonl"))])
        for maps in (1, 2):
            trackers.metrics({"a": 1.0}, maps)
            trackers.figure("figure", picture, maps)
        trackers.report(picture)
        trackers.close()
    assert [str(item.message) for item in caught] == ["wandb is no longer tracked: ConnectionError: no network"]
    assert failing.calls.count(method) == 1 and failing.calls[-1] == method
    assert len(lines(tmp_path / "log.jsonl")) == 2


def test_a_tracker_that_cannot_start(tmp_path):
    def make():
        raise ImportError("No module named 'wandb'")

    with pytest.warns(UserWarning, match="wandb is no longer tracked: ImportError: No module named 'wandb'"):
        trackers = Trackers([("wandb", make), ("log", lambda: JsonLines(tmp_path / "log.jsonl"))])
    trackers.metrics({"a": 1.0}, 1)
    assert len(lines(tmp_path / "log.jsonl")) == 1


def test_wandb_offline(tmp_path, picture, monkeypatch):
    """Without an account or a network: a run that `wandb sync` can upload."""
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "report.html").write_text("<p>report</p>")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trackers = Trackers([("wandb", lambda: Wandb(tmp_path, "tiny", "higan", "offline", {"seed": 3}, resume=False))])
        trackers.metrics({"loss": 0.5}, 10)
        trackers.figure("validation", picture, 10)
        trackers.report(tmp_path / "report.html")
        trackers.report(picture)
        trackers.close()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    assert record.stat().st_size > 0
    assert list(run.rglob("media/images/validation*.png")) and list(run.rglob("*.html"))


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    """Resumed, and after a training without wandb; another training in a folder of that name is another run."""
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    ids = []
    for folder, resume in (("a/run", False), ("a/run", True), ("a/run", True), ("b/run", True), ("b/run", False)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        tracker = Wandb(tmp_path / folder, "tiny", "higan", "offline", {"seed": 3}, resume=resume)
        ids.append(tracker._run.id)
        tracker.metrics({"loss": 0.5}, 10)
        tracker.close()
    assert ids[0] == ids[1] == ids[2] and len(set(ids)) == 3
    # The id is in the name of what `wandb sync` uploads.
    assert len(list((tmp_path / "a/run/wandb").glob(f"offline-run-*-{ids[0]}"))) >= 1


KILLED = """
import os, pathlib, signal, sys, warnings
from higan.tracking import JsonLines, Trackers, Wandb

folder = pathlib.Path(sys.argv[1])
make = lambda: Wandb(folder, "tiny", "higan", "offline", {}, resume=False)
trackers = Trackers([("wandb", make), ("log", lambda: JsonLines(folder / "log.jsonl"))])
trackers.metrics({"loss": 0.5}, 10)
service = [
    int(path.parent.name)
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
    if b"wandb-core" in path.read_bytes() and str(os.getpid()).encode() in path.read_bytes()
]
for process in service:
    os.kill(process, signal.SIGKILL)
assert service
for maps in (20, 30):
    trackers.metrics({"loss": 0.4}, maps)
trackers.close()
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for a process in /proc")
def test_wandb_killed(tmp_path):
    """Its own process killed between two steps: said once, and the training goes on."""
    pytest.importorskip("wandb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wandb is no longer tracked: ") == 1
    assert [line["maps"] for line in lines(tmp_path / "log.jsonl")] == [10, 20, 30]


SERVER = """
import http.server, json

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        made = {"id": "1", "name": "tiny", "displayName": "", "description": "", "config": "{}", "sweepName": None}
        made |= {"project": {"id": "1", "name": "higan", "entity": {"id": "1", "name": "us"}}, "historyLineCount": 0}
        data = {"upsertBucket": {"bucket": made, "inserted": True}} if "upsertBucket" in sent.get("query", "") else {}
        body = json.dumps({"data": {"model": {"bucket": None}, **data}, "exitcode": None, "limits": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""

GONE = """
import pathlib, subprocess, sys, os, time
from higan import tracking
from higan.tracking import JsonLines, Trackers, Wandb

folder, tracking.UPLOAD = pathlib.Path(sys.argv[1]), 2.0
server = subprocess.Popen([sys.executable, "-c", sys.argv[2]], stdout=subprocess.PIPE, text=True)
os.environ |= {"WANDB_BASE_URL": f"http://127.0.0.1:{int(server.stdout.readline())}", "WANDB_API_KEY": "a" * 40}
make = lambda: Wandb(folder, "tiny", "higan", "online", {}, resume=False)
trackers = Trackers([("wandb", make), ("log", lambda: JsonLines(folder / "log.jsonl"))])
assert "wandb" in trackers._trackers, "the server was not taken for one"
trackers.metrics({"loss": 0.5}, 10)
server.kill()
server.wait()
trackers.metrics({"loss": 0.4}, 20)
began = time.monotonic()
trackers.close()
assert time.monotonic() - began < 30
"""


def test_the_server_of_wandb_goes_away(tmp_path):
    """In the middle of a training, which ends all the same, and soon; what was not sent is kept."""
    pytest.importorskip("wandb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    words = [sys.executable, "-c", GONE, str(tmp_path), SERVER]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wandb is no longer tracked: TimeoutError: ") == 1
    assert [line["maps"] for line in lines(tmp_path / "log.jsonl")] == [10, 20]
    assert next((tmp_path / "wandb").glob("run-*/*.wandb")).stat().st_size > 0


def test_tensorboard(tmp_path, picture):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    for maps in (10, 20):
        board.metrics({"loss": maps / 4}, maps)
    board.figure("validation", picture, 20)
    board.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(item.step, item.value) for item in found.Scalars("loss")] == [(10, 2.5), (20, 5.0)]
    assert found.Images("validation")[0].encoded_image_string == picture.read_bytes()
