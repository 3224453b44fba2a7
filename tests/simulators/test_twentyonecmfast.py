import importlib.util
import sys

import numpy as np
import pytest

from higan.errors import HiganError, MissingDependencyError
from higan.mapset import MapSet
from higan.simulators import simulate, simulator, twentyonecmfast

needs_21cmfast = pytest.mark.skipif(
    importlib.util.find_spec("py21cmfast") is None,
    reason="21cmFAST is not installed: pip install 'higan[simulate]'",
)


@needs_21cmfast
def test_one_small_simulation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = simulate("21cmfast", output="boxes.h5", simulations=[3], cells=16, box_size=32.0)
    maps = MapSet.open(path)
    assert maps.shape == (16, 16, 16) and maps.cell_size == 2.0 and maps.geometry.redshift == 8.0
    assert maps.extra["seeds"].tolist() == [1003] and maps.parameter_names == [
        "F_STAR10",
        "ALPHA_STAR",
        "SIGMA_8",
    ]
    assert maps.geometry.cosmology["Omega_m"] == pytest.approx(0.3096, abs=1e-4)
    density, neutral, brightness = (
        maps.read(name)[0].astype(float) for name in ("density", "neutral_fraction", "brightness_temp")
    )
    assert abs(density.mean()) < 1e-3 and density.min() > -1 and density.std() > 0.1
    assert neutral.min() >= 0 and neutral.max() <= 1
    # Spin temperature far above the CMB: T = T_0 (1 + density) x_HI, with T_0 of about 26 mK at z = 8.
    ratio = brightness[neutral > 0.1] / ((1 + density) * neutral)[neutral > 0.1]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-4)
    assert 24 < np.median(ratio) < 28
    assert [item.name for item in tmp_path.iterdir()] == ["boxes.h5"], "21cmFAST left files behind"


@needs_21cmfast
def test_inputs_are_those_of_the_reference_set():
    inputs = simulator("21cmfast").inputs({"F_STAR10": -1.5, "ALPHA_STAR": 0.4, "SIGMA_8": 0.85}, 1007)
    options, astro, cosmo = inputs.simulation_options, inputs.astro_params, inputs.cosmo_params
    assert (options.HII_DIM, options.DIM, options.BOX_LEN, options.N_THREADS) == (64, 128, 128.0, 1)
    assert (astro.F_STAR10, astro.ALPHA_STAR, cosmo.SIGMA_8, inputs.random_seed) == (-1.5, 0.4, 0.85, 1007)
    assert astro.R_BUBBLE_MAX == 32.0
    small = simulator("21cmfast", cells=16, box_size=32.0).inputs({}, 1)
    assert small.astro_params.R_BUBBLE_MAX <= 32.0 / 3


@pytest.mark.parametrize("settings", [{"cells": 2}, {"box_size": 0.0}, {"redshift": -1.0}])
def test_senseless_settings(tmp_path, settings):
    with pytest.raises(HiganError, match=f"cannot run with {next(iter(settings))}"):
        simulate("21cmfast", output=tmp_path / "boxes.h5", **settings)
    assert not list(tmp_path.iterdir())


def test_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py21cmfast", None)
    twentyonecmfast.import_21cmfast.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install 'higan\[simulate\]'"):
        simulate("21cmfast", output=tmp_path / "boxes.h5")
    twentyonecmfast.import_21cmfast.cache_clear()
    assert not list(tmp_path.iterdir())


def test_a_library_is_missing(tmp_path, monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "py21cmfast":
                raise ImportError("libgsl.so.27: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "py21cmfast", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    twentyonecmfast.import_21cmfast.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"a library it needs is missing \(libgsl"):
        simulate("21cmfast", output=tmp_path / "boxes.h5")
    twentyonecmfast.import_21cmfast.cache_clear()
