"""Damaged map sets, cards and recipes, by hypothesis: used, or refused by one of the project's own errors.

A few seconds by default, always the same examples. ``HIGAN_FUZZ_SECONDS=600 pytest tests/test_fuzz.py -s`` looks for
new ones for ten minutes, and says how many it tried.
"""

import collections
import contextlib
import copy
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from higan.adversarial import loop, preparation
from higan.adversarial.batches import Batches
from higan.checkpoint import check_size, describe, load_card
from higan.errors import HiganError
from higan.recipe import load_recipe
from higan.scaling import from_dict
from higan.sources import open_source
from higan.validation.baselines import Baselines
from tests import tiny
from tests.fuzzed import look

SECONDS = float(os.environ.get("HIGAN_FUZZ_SECONDS", "0")) / 6  # for each of the tests


def fuzz(whole, strategy, check, examples=60):
    """`check` what is `whole`, then what `strategy` draws; hypothesis shows the least that gives another error."""
    check(whole)
    tried = collections.Counter()

    def counted(drawn):
        try:
            check(drawn)
            tried["used"] += 1
        except HiganError as error:
            tried["refused"] += 1
            message = str(error)
            assert "\n" not in message and message.isprintable() and len(message) < 2000, message

    run = settings(
        max_examples=1000 if SECONDS else examples,
        deadline=None,
        database=None,
        derandomize=not SECONDS,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(counted))
    until = time.monotonic() + SECONDS
    run()
    while time.monotonic() < until:
        run()
    print(f"{check.__name__}: {dict(tried)}")


# -- what values are exchanged for ---------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**53, 2**63, -(2**64), 10**30, 0.0, -1.0, 1e-300, 1e300, float("inf"), float("nan")]),
    st.floats(),
)
NAMES = ["density", "BIAS", "T_MEAN", "../../etc/passwd", "unet", "linear", "log", "asinh", "Mpc", "a\nb", "\x1b[2J"]
TEXTS = st.text(max_size=8) | st.sampled_from(NAMES)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def places(values, path=()):
    """The paths to all that is in nested lists and dictionaries."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def changed(draw, values):
    """`values` with one to three of its parts exchanged, removed, repeated or added."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(values), key=str) or [()]))
        table = values
        for part in path[:-1]:
            table = table[part]
        if not path:
            break
        key = path[-1]
        how = draw(st.sampled_from(["like", "like", "like", "exchange", "remove", "repeat", "add"]))
        if how == "like":
            likes = {bool: st.booleans(), int: NUMBERS, float: NUMBERS, str: TEXTS, list: st.lists(SCALARS, max_size=3)}
            table[key] = draw(likes.get(type(table[key]), VALUES))
        elif how == "exchange":
            table[key] = draw(VALUES)
        elif how == "remove":
            del table[key]
        elif how == "repeat" and isinstance(table, list):
            table.insert(key, copy.deepcopy(table[key]))
        elif isinstance(table, dict):
            table[draw(TEXTS)] = draw(VALUES)
    return values


@st.composite
def damaged(draw, content):
    """`content` with some bytes exchanged, or cut short, or with a piece moved."""
    # Places all over the file: those that hypothesis draws crowd at its start.
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        if len(content) < 2:
            break
        at = int(rng.integers(1, len(content)))
        how = rng.choice(["byte", "bit", "number", "copy", "cut"], p=[0.35, 0.3, 0.2, 0.1, 0.05])
        if how == "byte":
            content[at] = rng.integers(256)
        elif how == "bit":
            content[at] ^= 1 << int(rng.integers(8))
        elif how == "number":
            number = [0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1][rng.integers(7)]
            content[at : at + 8] = number.to_bytes(8, "little")
        elif how == "copy":
            start = int(rng.integers(len(content)))
            content[at : at + 64] = content[start : start + 64]
        else:
            del content[at:]
    return bytes(content)


# -- map sets ------------------------------------------------------------------------------------------------


class Elsewhere:
    """A check in a process of its own, of 4 GB: on damaged files HDF5 itself may crash, or not return for minutes."""

    def __init__(self, check):
        self.check, self.process, self.lost = check, None, collections.Counter()

    def __call__(self, path):
        if self.process is None:
            words = [sys.executable, "-m", "tests.fuzzed", self.check]
            root = Path(__file__).parents[1]
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        # The first one waits for the imports.
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        said = self.process.stdout.readline() if ready else ""
        if not said:
            self.process.kill()
            self.lost["crashes" if ready else "hangs"] += 1
            self.process.communicate()
            self.process = None
        elif said.startswith("refused"):
            raise HiganError(said.strip())
        assert not said.startswith("failed"), said

    def close(self):
        if self.process is not None:
            self.process.communicate()


def fuzz_bytes(content, path, check):
    """Refused or used; where HDF5 itself is lost, that is counted and said (none in the examples of every day)."""
    elsewhere = Elsewhere(check)

    def damaged_bytes(content):
        path.write_bytes(content)
        elsewhere(path)

    with contextlib.closing(elsewhere):
        fuzz(content, damaged(content), damaged_bytes)
    print(f"of these HDF5 was lost in: {dict(elsewhere.lost)}")
    assert SECONDS or not elsewhere.lost


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_bytes_of_map_sets(tmp_path, compression):
    path = tmp_path / "maps.h5"
    content = tiny.maps(n_sim=4, per_sim=1, shape=(4, 4)).save(path, compression=compression).read_bytes()
    fuzz_bytes(content, path, "maps")


TYPES = st.sampled_from(["f2", "f4", "f8", ">f4", "i4", "u1", "c8", "S3", "?", "M8[s]", "O"])
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@st.composite
def edits(draw):
    """A dataset exchanged for one of another type, shape or value, or an attribute for another."""
    names = ["fields/density", "fields/brightness_temp", "parameters", "simulation", "seeds", "split", "fields", "axis"]
    if draw(st.booleans()):
        return draw(st.sampled_from(names)), None, (draw(TYPES), draw(SHAPES), draw(st.floats()))
    attributes = ["format", "format_version", "geometry", "ndim", "box_size", "box_size_units", "periodic", "cosmology"]
    attributes += ["cell_size", "redshift", "thickness", "names", "units", "lower", "upper", "long_name", "simulator"]
    where = draw(st.sampled_from(["/", "parameters", "fields/density"]))
    value = st.one_of(
        SCALARS, st.binary(max_size=6), st.lists(st.floats(), max_size=3), st.lists(st.text(), max_size=3)
    )
    return where, draw(st.sampled_from(attributes)), draw(value)


def edit(file, where, attribute, value):
    if attribute is not None:
        if value is None:
            file[where].attrs.pop(attribute, None)
        else:
            file[where].attrs[attribute] = value
        return
    kind, shape, number = value
    attrs = dict(file[where].attrs) if where in file else {}
    if where in file:
        del file[where]
    with np.errstate(all="ignore"):
        if kind == "O":
            data = file.create_dataset(where, data=np.full(shape, str(number), dtype=object), dtype=h5py.string_dtype())
        elif kind == "M8[s]":
            data = file.create_dataset(where, data=np.zeros(shape, "i8").astype(h5py.opaque_dtype(np.dtype(kind))))
        else:
            data = file.create_dataset(where, data=np.full(shape, number).astype(kind))
    data.attrs.update(attrs)


def test_parts_of_map_sets(tmp_path):
    whole, path = tmp_path / "whole.h5", tmp_path / "maps.h5"
    tiny.maps(n_sim=4, per_sim=1, shape=(4, 4)).save(whole)

    def map_set_parts(changes):
        shutil.copy(whole, path)
        with h5py.File(path, "r+") as file:
            for change in changes:
                try:
                    edit(file, *change)
                except (TypeError, ValueError, OSError, KeyError, OverflowError, RuntimeError):
                    pass  # no HDF5 file can be so
        look(path)

    fuzz([], st.lists(edits(), min_size=1, max_size=3), map_set_parts, 150)


def test_bytes_of_baselines(tmp_path):
    path = tmp_path / "baselines.h5"
    fuzz_bytes(Baselines.fit(tiny.maps(), "density", "brightness_temp").save(path).read_bytes(), path, "baselines")


# -- cards ---------------------------------------------------------------------------------------------------


def test_cards(checkpoint, tmp_path):
    """Read, described, and painted with where the network is as small as it was."""
    from higan.emulator import Emulator
    from higan.painting.painter import Painter, build_model

    folder = shutil.copytree(checkpoint, tmp_path / "tiny")
    values = json.loads((folder / "card.json").read_text())
    values |= {"metrics": {"validation": {"D": 0.1, "R": {"value": 1, "error": 0.1}}}, "training": {"simulator": "law"}}
    models = {}

    def card(content):
        (folder / "card.json").write_bytes(content)
        describe(folder)
        found = load_card(folder)
        check_size(folder, found)
        key = json.dumps(
            [found.network.model_dump(), found.ndim, *map(len, (found.inputs, found.outputs, found.parameters))]
        )
        if found.stride != found.network.stride:
            return  # higan.load refuses it
        if found.network.count_weights(2, 1, 1, 2) > 10**5 or (key not in models and len(models) > 5):
            return
        if key not in models:
            models[key] = build_model(found)
        emulator = Emulator(Painter(found, models[key]))
        middle = {p.name: 0.5 * p.lower + 0.5 * p.upper for p in found.parameters}
        maps = {item.field: np.zeros((4,) * found.ndim) for item in found.inputs} or None
        shape = None if maps else (4,) * found.ndim
        with np.errstate(all="ignore"):
            emulator.sample(maps, middle, seed=1, shape=shape, batch_size=1)

    whole = json.dumps(values).encode()
    edited = changed(values).map(lambda v: json.dumps(v).encode())
    fuzz(whole, edited | edited | damaged(whole), card, 100)


# -- recipes -------------------------------------------------------------------------------------------------


def toml(values):
    """As TOML; what TOML has no word for is left out."""

    def word(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{word(k)} = {word(v)}" for k, v in value.items() if v is not None) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(word(v) for v in value if v is not None) + "]"
        if isinstance(value, float):
            return repr(value).replace("e-0", "e-").replace("e+", "e")
        return json.dumps(value, ensure_ascii=False)

    return "".join(f"{word(k)} = {word(v)}\n" for k, v in values.items() if v is not None)


def test_recipes(tmp_path):
    """Read, and used as far as to the first batch."""
    path, maps = tmp_path / "recipe.toml", tiny.maps(shape=(4, 4))
    values = copy.deepcopy(tiny.RECIPE)
    values["training"] |= {"crop": 2, "context": 0, "pixel": 1}
    del values["training"]["pixel"]
    values["data"] |= {"parameters": ["BIAS"], "fractions": [0.8, 0.1, 0.1], "simulate": {"simulator": "21cmfast"}}

    def recipe(content):
        path.write_bytes(content)
        found = load_recipe(path)
        if found.data.simulate is not None:
            preparation.simulation_of(found.data.simulate)
        if isinstance(found.data.source, dict):
            open_source(found.data.source)
        chosen, parts = preparation.select(maps, found)
        with np.errstate(all="ignore"):
            card = preparation.new_card(found, chosen, parts)
            scaled = [(item.field, from_dict(item.scaling)) for item in card.outputs]
            batches = Batches(
                preparation.unit_flux(chosen, found),
                chosen.rows_of(parts.train),
                [(item.field, from_dict(item.scaling)) for item in card.inputs],
                scaled,
                chosen.parameters,
                batch_size=found.training.batch_size,
                maps_per_simulation=found.training.maps_per_simulation,
                seed=found.seed,
                symmetries=found.data.symmetries,
                network=found.generator,
                crop=found.training.crop,
                context=found.training.context,
            )
            if found.training.batch_size <= 64:
                batches(0)
        for step in (0, 1, 10**6):
            loop._rates(found, step), loop._pixel_weight(found, step), loop._decay(found, step)

    whole = toml(values).encode()
    edited = changed(values).map(lambda v: toml(v).encode())
    fuzz(whole, edited | edited | edited | damaged(whole), recipe, 150)
