import importlib.util

import pytest

from higan.cli import main
from higan.cli.simulate import rows
from higan.mapset import MapSet


@pytest.mark.skipif(
    importlib.util.find_spec("py21cmfast") is None,
    reason="21cmFAST is not installed: pip install 'higan[simulate]'",
)
def test_real_simulation(tmp_path, capfd):
    """A real simulation through the command, at the smallest size."""
    path = tmp_path / "boxes.h5"
    command = "simulate 21cmfast --set cv --simulations 1:2 --cells 8 --box-size 16".split()
    assert main([*command, "--output", str(path)]) == 0
    maps = MapSet.open(path)
    assert maps.extra["seeds"].tolist() == [2001] and maps.attributes["set"] == "cv"
    out, err = capfd.readouterr()
    assert str(path) in out and "Warning" not in err
    assert main([*command, "--output", str(path)]) == 2
    assert "exists already" in capfd.readouterr().err


def test_rows():
    assert rows("3") == 3
    assert rows("0:2,160:162") == [0, 1, 160, 161]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--simulations", "few"], "--simulations 'few' is not understood"),
        (["--simulations", "1-3"], "0:40"),
        (["--simulations", "190:210"], "Simulations 190 to 209 are asked for, but the set has 200"),
        (["--processes", "0"], "in 0 processes"),
        (["--cells", "1"], "cannot run with cells"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, message):
    assert main(["simulate", "21cmfast", "--output", str(tmp_path / "boxes.h5"), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [["21cmfast"], [], ["21cmslow", "--output", "x.h5"], ["21cmfast", "--output", "x.h5", "--set", "2p"]],
)
def test_usage(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["simulate", *arguments])
    assert left.value.code == 2
    assert not list(tmp_path.iterdir())
