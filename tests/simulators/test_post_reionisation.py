import importlib.util

import numpy as np
import pytest

from higan.checkpoint import shipped_folder
from higan.errors import HiganError
from higan.mapset import MapSet
from higan.simulators import neutral_hydrogen as hi
from higan.simulators import simulate, simulator
from higan.simulators.post_reionisation import PostReionisation

needs_21cmfast = pytest.mark.skipif(
    importlib.util.find_spec("py21cmfast") is None,
    reason="21cmFAST is not installed: pip install 'higan[simulate]'",
)
FIDUCIAL = {"SIGMA_8": 0.8, "OMm": 0.31, "LOG10_GAMMA_HI": -12.3, "LOG10_M_MIN": 10.5}
SMALL = {"cells": 16, "box_size": 9.0}


@needs_21cmfast
def test_one_small_simulation(tmp_path):
    path = simulate("post-reionisation", output=tmp_path / "boxes.h5", simulations=[5], **SMALL)
    maps = MapSet.open(path)
    assert maps.shape == (16, 16, 16) and maps.geometry.redshift == 5.0 and maps.geometry.box_size == 9.0
    assert maps.parameter_names == ["SIGMA_8", "OMm", "LOG10_GAMMA_HI", "LOG10_M_MIN"]
    assert maps.extra["seeds"].tolist() == [11005] and "Omega_m" not in maps.geometry.cosmology
    density, hydrogen = (maps.read(name)[0].astype(float) for name in ("density", "hi_density"))
    assert abs(density.mean()) < 1e-3 and density.min() > -1 and (hydrogen > 0).all()
    # Between haloes the gas alone: what photo-ionisation equilibrium leaves of it, at least that everywhere.
    theta = dict(zip(maps.parameter_names, maps.parameters[0], strict=True))
    cosmology = maps.geometry.cosmology
    baryons = cosmology["Omega_b"] * hi.CRITICAL * cosmology["h"] ** 2
    gas = hi.intergalactic_hi(1 + density, 5.0, baryons, 10 ** theta["LOG10_GAMMA_HI"])
    assert (hydrogen >= gas * (1 - 1e-5)).all() and (hydrogen > 10 * gas).mean() > 0.05
    assert hydrogen.max() / hydrogen.min() > 1e5
    # The halo model has the same haloes without scatter, extent or gas between them.
    central = maps.read("hi_halo_model")[0]
    assert 0.5 < central.sum() / hydrogen.sum() < 2 and (central == 0).mean() > 0.5


@pytest.fixture(scope="module")
def matter():
    if importlib.util.find_spec("py21cmfast") is None:
        pytest.skip("21cmFAST is not installed: pip install 'higan[simulate]'")
    code = simulator("post-reionisation", **SMALL)
    return code, code.haloes(FIDUCIAL, seed=4)


def test_haloes_are_where_the_matter_is(matter):
    code, (density, mass, positions, cosmology) = matter
    assert cosmology.OMm == 0.31 and cosmology.SIGMA_8 == 0.8
    assert len(mass) > 100 and positions.min() >= 0 and positions.max() < code.box_size
    # No halo is lighter than a cell of the initial conditions, which has half the side of one of the map.
    cell = 0.31 * hi.CRITICAL * cosmology.hlittle**2 * (code.box_size / code.cells / 2) ** 3
    assert mass.min() > 0.5 * cell
    index = tuple((positions / code.box_size * code.cells).astype(int).T)
    assert np.average(density[index], weights=mass) > 1


def test_parameters_do_what_they_say(matter, monkeypatch):
    code, found = matter
    monkeypatch.setattr(PostReionisation, "haloes", lambda self, parameters, seed: found)
    boxes = {
        name: code.run({**FIDUCIAL, name: FIDUCIAL[name] + 0.3}, 4)["hi_density"]
        for name in ("LOG10_GAMMA_HI", "LOG10_M_MIN")
    }
    fiducial = code.run(FIDUCIAL, 4)["hi_density"]
    np.testing.assert_array_equal(fiducial, code.run(FIDUCIAL, 4)["hi_density"])
    empty = fiducial < np.percentile(fiducial, 20)
    # Twice the background, half the neutral gas between haloes; fewer haloes with HI, and no change between them.
    np.testing.assert_allclose(boxes["LOG10_GAMMA_HI"][empty] / fiducial[empty], 10**-0.3, rtol=1e-3)
    assert boxes["LOG10_M_MIN"].sum() < 0.8 * fiducial.sum()
    np.testing.assert_allclose(boxes["LOG10_M_MIN"][empty], fiducial[empty], rtol=1e-6)


def test_designs():
    code = simulator("post-reionisation")
    lh = code.design("lh")
    assert [(lh.split == name).sum() for name in ("train", "validation", "test")] == [152, 12, 12]
    assert len(set(lh.seeds) | set(code.design("cv").seeds) | set(code.design("1p").seeds)) == 176 + 27 + 1
    np.testing.assert_allclose(code.design("cv").parameters[0], [0.8, 0.31, -12.3, 10.5])


def test_senseless_settings(tmp_path):
    with pytest.raises(HiganError, match="cannot run with cells = 2"):
        simulate("post-reionisation", output=tmp_path / "boxes.h5", cells=2)
    assert not list(tmp_path.iterdir())


def test_as_much_hydrogen_as_is_observed():
    """Ω_HI of simulations over all parameters, about 1e-3 at z = 5 (Crighton et al. 2015: 4e-4 (1 + z)^0.6)."""
    maps = MapSet.open(shipped_folder("maps") / "hi-z5-test.h5")
    assert maps.geometry.redshift == 5.0
    omega = maps.read("hi_density", np.arange(len(maps))).mean() / (hi.CRITICAL * maps.geometry.cosmology["h"] ** 2)
    assert 5e-4 < omega < 2e-3
