"""Checkpoints made to do harm: refused before any of it runs, is read from elsewhere, or takes memory."""

import json
import marshal
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import higan
from higan.checkpoint import describe, file_sha256, load_card
from higan.cli import main
from higan.errors import CheckpointError
from higan.scaling import Linear
from tests import tiny

CODE = "import pathlib; pathlib.Path({!r}).write_text('it ran')"


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A checkpoint to be changed."""
    return shutil.copytree(checkpoint, tmp_path / "tiny")


def edit(folder, **changes):
    """Change the card, a part by ``inputs__0__field``, and let it agree with the weights."""
    values = json.loads((folder / "card.json").read_text())
    values["weights_sha256"] = file_sha256(folder / "generator.weights.h5")
    for path, value in changes.items():
        *tables, key = (int(part) if part.isdigit() else part for part in path.split("__"))
        table = values
        for part in tables:
            table = table[part]
        table[key] = value
    (folder / "card.json").write_text(json.dumps(values))


def keras_config(ran):
    """What Keras would make a layer of that runs its code."""
    code = compile(CODE.format(str(ran)), "lambda", "exec")
    layer = {"class_name": "Lambda", "config": {"name": "l", "function": [marshal.dumps(code).hex(), None, None]}}
    return {"class_name": "Functional", "config": {"layers": [layer]}, "build_config": {}, "compile_config": {}}


def test_code_in_a_keras_config_of_the_card_is_refused(folder, tmp_path):
    edit(folder, network=keras_config(tmp_path / "ran"))
    for look in (describe, higan.load):
        with pytest.raises(CheckpointError, match=r"is damaged: network\.\w+: Extra inputs are not permitted"):
            look(folder)
    assert not (tmp_path / "ran").exists()


def test_code_beside_the_weights_is_not_looked_at(folder, tmp_path):
    """In attributes where Keras keeps a model's configuration, and in files it and pickle would read."""
    config = json.dumps(keras_config(tmp_path / "ran"))
    with h5py.File(folder / "generator.weights.h5", "r+") as file:
        file.attrs.update({"model_config": config, "keras_version": "2.0", "layer_names": ["l"]})
    (folder / "config.json").write_text(config)
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    (folder / "__init__.py").write_text(CODE.format(str(tmp_path / "ran")))
    edit(folder)
    maps = higan.load(folder).sample(np.zeros((8, 8)), {"BIAS": 2.0, "T_MEAN": 15.0}, seed=1)
    assert np.isfinite(maps).all() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("field", ["../../out", "/parameters", ".", "", "a\nb", "\x1b[2J", "x" * 300])
def test_names_that_lead_elsewhere(folder, field):
    edit(folder, outputs__0__field=field)
    with pytest.raises(CheckpointError, match=r"is damaged: outputs\.0\.field: ") as caught:
        load_card(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", ".hidden", ""])
def test_names_of_checkpoints_that_lead_elsewhere(folder, name):
    edit(folder, name=name)
    with pytest.raises(CheckpointError, match="is damaged: name: "):
        load_card(folder)


ABSURD = {
    "widths": ({"network__widths": [8192] * 8}, "weights, and generator.weights.h5 only"),
    "wider": ({"network__widths": [2**40]}, "network.widths.0: Input should be less than or equal to 8192"),
    "no width": ({"network__widths": [0, 8]}, "network.widths.0: Input should be greater than or equal to 1"),
    "bottom blocks": ({"network__widths": [4096], "network__bottom_blocks": 16}, "weights, and generator.weights.h5"),
    "deeper": ({"network__bottom_blocks": 10**9}, "network.bottom_blocks: Input should be less than or equal to 16"),
    "embedding": ({"network__embedding": 4096}, "weights, and generator.weights.h5 only"),
    "latent": ({"network__latent": 2**62}, "network.latent: Input should be less than or equal to 4096"),
    "dimensions": ({"ndim": 3, "shape": [8] * 3, "network__widths": [999]}, "weights, and generator.weights.h5 only"),
    "maps": ({"inputs": [], "shape": [2**20, 2**20]}, "maps of shape [1048576, 1048576] have more than 134217728"),
    "axis": ({"shape": [2**40, 2]}, "shape.0: Input should be less than 2097152"),
    "axes": ({"shape": [16] * 99}, "shape: List should have at most 3 items"),
    "other axes": ({"shape": [16]}, "maps of shape [16] have not 2 dimensions"),
    "smoothed fields": (
        {"network__excursion_set": {"smallest": 1.0, "radii": 4}, "inputs": []},
        "network.excursion_set smooths one field, and there are 0 inputs",
    ),
    "profiles": (
        {"ndim": 3, "shape": [8] * 3, "network__profiles": 2, "network__latent": 3, "network__centred": True},
        "network.profiles are of maps in two dimensions, not in 3",
    ),
    "galaxies of fields": (
        {"network": {"network": "profiles", "latent": 3, "profiles": 1}},
        "network 'profiles' makes maps of a known shape of parameters alone",
    ),
    "convolved galaxies": (
        {"network__network": "profiles", "network__latent": 3, "network__profiles": 1},
        "network 'profiles' has no convolutions that widths is of",
    ),
    "many inputs": ({"inputs": [{"field": "a", "scaling": {"name": "linear"}}] * 10**5}, "inputs: List should have at"),
    "the same twice": ({"inputs": [{"field": "a", "scaling": {"name": "linear"}}] * 2}, "the input 'a' is there twice"),
    "nested": ({"metrics": None}, "is not valid JSON"),
    "digits": ({"stride": None}, "is not valid JSON"),
    "huge number": ({"cell_size": 1e999}, "cell_size: Input should be a finite number"),
    "empty range": ({"parameters__0__upper": 1.0}, "parameters.0: the range from 1 to 1 is empty"),
    "wide range": ({"parameters__0__upper": 1e300}, "parameters.0: the range from 1 to 1e+300 is empty"),
    "no scale": (
        {"outputs__0__scaling__scale": 0.0},
        "outputs.0.scaling: Scaling 'linear' divides by scale, which is 0",
    ),
    "no number": ({"inputs__0__scaling__shift": "0"}, "Scaling 'linear' cannot be made with shift = '0'"),
    "no scaling": ({"inputs__0__scaling__name": "os.system"}, "There is no scaling 'os.system'"),
    "drawn in two dimensions": (
        {"drawn": {"field": "density", "h": 0.7, "Omega_m": 0.3, "Omega_b": 0.05, "n_s": 1.0, "sigma_8": 0.8}},
        "a density is drawn in periodic boxes of three dimensions, in Mpc",
    ),
    "no universe": (
        {
            **{"ndim": 3, "shape": [8] * 3, "thickness": None},
            "drawn": {"field": "density", "h": 1e-200, "Omega_m": 0.3, "Omega_b": 0.05, "n_s": 1.0, "sigma_8": 0.8},
        },
        "No density can be drawn in a universe of Cosmology(h=1e-200",
    ),
    "drawn from nothing": (
        {"drawn": {"field": "HI", "h": 0.7, "Omega_m": 0.3, "Omega_b": 0.05, "n_s": 1.0, "sigma_8": 0.8}},
        "what is drawn, 'HI', is not the only input, or has a unit",
    ),
    "no magnitude": ({"magnitude": "mag"}, "the magnitude 'mag' is none of the parameters"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_cards_are_refused_before_a_network_is_built(folder, what, monkeypatch):
    from higan.painting import painter

    changes, message = ABSURD[what]
    edit(folder, **changes)
    card = (folder / "card.json").read_text()
    card = card.replace('"metrics": null', '"metrics": ' + "[" * 10**6).replace(
        '"stride": null', '"stride": ' + "9" * 9999
    )
    (folder / "card.json").write_text(card)
    monkeypatch.setattr(painter, "build_model", lambda *_: pytest.fail("it was built"))
    with pytest.raises(CheckpointError) as caught:
        higan.load(folder)
    assert message in str(caught.value) and "card.json" in str(caught.value) and len(str(caught.value)) < 500


def test_a_large_file_is_no_card(folder):
    with open(folder / "card.json", "r+b") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(CheckpointError, match="has more than 16777216 bytes: it is not a higan checkpoint"):
        higan.load(folder)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_files_without_an_end(folder):
    for name, message in (("generator.weights.h5", "there is no such file"), ("card.json", "it is not a checkpoint")):
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match=message):
            higan.load(folder)


def elsewhere(folder, file):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["bias"] = np.ones(4, "f4")
    file["stem/bias"] = h5py.ExternalLink(folder / "secret.h5", "bias")


def virtual(folder, file):
    elsewhere(folder, {})
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "bias", (4,))
    file.create_virtual_dataset("stem/bias", layout)


def wide_text(folder, file):
    file.create_dataset("stem/bias", (4,), "S2000000000", chunks=(1,), compression="gzip")


def text(folder, file):
    file["stem/bias"] = [b"os.system"] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (elsewhere, "'stem/bias' is a link to something else"),
        (virtual, "'stem/bias' lie in other files"),
        (wide_text, "'stem/bias' declares 8000000000 bytes, but only 0"),
        (text, "'stem/bias' is of type object"),
        (lambda _, file: file.create_group("stem/bias"), "'stem/bias' is no array"),
    ],
)
def test_weights_that_are_not_there(folder, make, message):
    with h5py.File(folder / "generator.weights.h5", "r+") as file:
        assert file["stem/bias"].shape == (4,)
        del file["stem/bias"]
        make(folder, file)
    edit(folder)
    with pytest.raises(CheckpointError) as caught:
        higan.load(folder)
    assert message in str(caught.value) and "Get the checkpoint again" in str(caught.value)


def test_what_a_terminal_obeys_is_not_printed(folder, capsys):
    edit(folder, description="\x1b[2J\x1b]0;owned\x07", metrics={"validation": {"\x1b[1m": 10**400}})
    assert main(["info", str(folder)]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_baselines_of_strangers(folder, map_set, tmp_path, capsys):
    """They lie beside the weights, and a validation reads them."""
    with h5py.File(folder / "baselines.h5", "w") as file:
        file.attrs.update({"format": "higan-baselines", "format_version": 1, "input": "density", "output": "x"})
        file.attrs.update({"cell_size": 1.0, "length_units": "Mpc", "floor": 0.0, "simulations": 9})
        file.attrs["parameter_names"] = ["BIAS"]
        file["lower"] = file["upper"] = np.ones(1)
        file["k"] = h5py.ExternalLink("/etc/passwd", "k")
    words = ["validate", str(folder), str(map_set.path), "--output", str(tmp_path / "report")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "'k' is a link to something else" in err and err.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("n_inputs", [0, 2])
def test_weights_are_counted_without_building(n_inputs, centred):
    """As many as the network has, whatever it is made of."""
    from higan.networks.config import GeneratorConfig
    from higan.networks.generator import build_generator

    without_edges = {} if centred else {"exclusion": [1, 4], "spilled": True, "diffuse": True}
    for ndim, n_parameters, changes in (
        (1, 0, {"noise_channels": 0 if n_inputs else 1}),
        (2, 3, {"latent": 5, "widths": [3, 5, 7], **({"profiles": 2, "knots": 3, "psf": 1.0} if centred else {})}),
        (3, 0, {"latent": 2, "bottom_blocks": 3, "widths": [3]}),
        (2, 1, {"isotropic": not centred, "widths": [3, 5]}),
        (2, 1, {"tracing": True, "interpolated": True, "gated": True, "cellwise": True, **without_edges}),
        (3, 2, {} if centred else {"top_hats": [1.0, 2.0, 8.0], "top_hat_widths": [5, 7, 7, 3]}),
        (2, 0, {"top_hats": [] if centred else [1.0]}),
        (2, 1, {} if centred else {"top_hats": [1.0], "stochastic_barrier": True, "smoothed_noise": 3}),
    ):
        config = GeneratorConfig(**{**tiny.NETWORK, "centred": centred, **changes})
        shape = {"ndim": ndim, "n_inputs": n_inputs, "n_outputs": 2, "n_parameters": n_parameters}
        model = build_generator(config, **shape, scalings=[Linear()] * 2)
        assert config.count_weights(**shape) == model.count_params()
    for n_parameters, changes in ((3, {"top_hats": [1.0]}), (0, {"stochastic_barrier": True, "cellwise": True})):
        config = GeneratorConfig(**tiny.NETWORK, excursion_set={"smallest": 0.7, "radii": 5}, **changes)
        shape = {"ndim": 2, "n_inputs": 1, "n_outputs": 1, "n_parameters": n_parameters}
        assert config.count_weights(**shape) == build_generator(config, **shape).count_params()
    for knots in (0, 5):
        config = GeneratorConfig(network="profiles", latent=7, profiles=2, knots=knots, embedding=12)
        shape = {"ndim": 2, "n_inputs": 0, "n_outputs": 2, "n_parameters": 3 if knots else 0}
        model = build_generator(config, **shape, scalings=[Linear()] * 2, shape=(16, 16))
        assert config.count_weights(**shape) == model.count_params()
