import shutil
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.cosmology import units as cosmology_units

from higan.errors import MapSetError
from higan.sources import open_source
from higan.sources.camels import FIELDS
from higan.split import split

N_SIM, CELLS = 6, 16


@pytest.fixture
def cmd(tmp_path):
    """Files laid out as those of CMD: 15 maps a simulation, parameters in text."""
    rng = np.random.default_rng(0)
    lower, upper = np.array([0.1, 0.6, 0.25, 0.25, 0.5, 0.5]), np.array([0.5, 1.0, 4.0, 4.0, 2.0, 2.0])
    np.savetxt(tmp_path / "params_LH_IllustrisTNG.txt", rng.uniform(lower, upper, (N_SIM, 6)), fmt="%.5f")
    for name in ("Mcdm", "HI"):
        maps = rng.lognormal(10, 1, (15 * N_SIM, CELLS, CELLS)).astype("float32")
        np.save(tmp_path / f"Maps_{name}_IllustrisTNG_LH_z=0.00.npy", maps)
    return tmp_path


def spec(cmd, **changes):
    return {"kind": "camels", "folder": str(cmd), "inputs": ["Mcdm"], "outputs": ["HI"], **changes}


def test_reads_the_layout(cmd):
    maps = open_source(spec(cmd))
    assert len(maps) == 90 and maps.n_sim == N_SIM and maps.shape == (CELLS, CELLS)
    assert maps.parameter_names == ["Omega_m", "sigma_8", "A_SN1", "A_AGN1", "A_SN2", "A_AGN2"]
    assert (maps.parameter_info[2].lower, maps.parameter_info[2].upper) == (0.25, 4.0)
    geometry = maps.geometry
    assert (geometry.box_size, geometry.box_size_units, geometry.thickness, geometry.redshift) == (
        25.0,
        "Mpc/h",
        5.0,
        0,
    )
    assert geometry.periodic and maps.cell_size == 25.0 / CELLS
    for name in ("Mcdm", "HI"):
        assert isinstance(maps.fields[name].array, np.memmap), "maps are not read into memory"
        whole = np.load(cmd / f"Maps_{name}_IllustrisTNG_LH_z=0.00.npy")
        np.testing.assert_array_equal(maps.read(name, [31, 2]), whole[[31, 2]])
    # The rule of CMD: map i has the parameters of row i // 15.
    np.testing.assert_array_equal(maps.simulation, np.arange(90) // 15)
    np.testing.assert_array_equal(maps.parameters, np.loadtxt(cmd / "params_LH_IllustrisTNG.txt"))


def test_split_by_simulation(cmd):
    maps = open_source(spec(cmd))
    parts = split(maps)
    assert len(maps.rows_of(parts.train)) == 15 * len(parts.train) and len(parts.train) == 4


def test_units_are_astropy_units():
    with u.add_enabled_units(cosmology_units):
        h = cosmology_units.littleh
        assert u.Unit(FIELDS["HI"][0]) == (u.Msun / h) / (u.Mpc / h) ** 2
        assert u.Unit(FIELDS["P"][0]) == h**2 * u.Msun * (u.km / u.s) ** 2 / u.kpc**3
        for units, _ in FIELDS.values():
            u.Unit(units)


def test_seed_table(cmd):
    """The table of CosmoAstroSeed: a name, six parameters, a seed."""
    values = np.loadtxt(cmd / "params_LH_IllustrisTNG.txt")
    lines = ["#Name  Omega_m  sigma_8  A_SN1     A_AGN1  A_SN2  A_AGN2  seed"]
    lines += [f"  LH_{i} {' '.join(f'{value:.5f}' for value in row)} {i + 40}" for i, row in enumerate(values)]
    (cmd / "seeds.txt").write_text("\n".join(lines) + "\n")
    maps = open_source(spec(cmd, parameters="seeds.txt"))
    np.testing.assert_array_equal(maps.parameters, values)
    assert maps.extra["seeds"].tolist() == [40, 41, 42, 43, 44, 45]


def test_other_suites(cmd):
    for name in list(cmd.iterdir()):
        shutil.copy(name, cmd / name.name.replace("IllustrisTNG", "Astrid"))
    astrid = open_source(spec(cmd, suite="Astrid"))
    assert astrid.parameter_info[5].upper == 4.0 and astrid.simulator == "CAMELS Astrid"
    shutil.copy(cmd / "Maps_HI_IllustrisTNG_LH_z=0.00.npy", cmd / "Maps_Mtot_Nbody_IllustrisTNG_LH_z=0.00.npy")
    shutil.copy(cmd / "params_LH_IllustrisTNG.txt", cmd / "params_LH_Nbody_IllustrisTNG.txt")
    dark = open_source(spec(cmd, suite="Nbody_IllustrisTNG", inputs=["Mtot"], outputs=[]))
    assert dark.parameter_names == ["Omega_m", "sigma_8"]


def _maps(folder, values, name="HI"):
    np.save(folder / f"Maps_{name}_IllustrisTNG_LH_z=0.00.npy", values)


def _truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-1000])


HI, PARAMS = "Maps_HI_IllustrisTNG_LH_z=0.00.npy", "params_LH_IllustrisTNG.txt"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / HI).unlink(), f"{HI} does not exist"),
        (lambda f: (f / PARAMS).unlink(), f"{PARAMS} does not exist"),
        (lambda f: _truncate(f / HI), "truncated or not an .npy file"),
        (lambda f: (f / HI).write_text("<html>"), "truncated or not an .npy file"),
        (lambda f: (f / PARAMS).write_text("<html> no page"), "not a table of numbers"),
        (lambda f: (f / PARAMS).write_text(""), "6 parameters"),
        (lambda f: np.savetxt(f / PARAMS, np.ones((N_SIM, 28))), "6 parameters"),
        (lambda f: np.savetxt(f / PARAMS, np.ones((N_SIM - 1, 6))), "has 90 maps, but .* has 5 simulations"),
        (lambda f: np.savetxt(f / PARAMS, np.full((N_SIM, 6), np.nan)), "NaN"),
        (lambda f: _maps(f, np.zeros((75, 16, 16), "f4")), "'HI' has 75 maps"),
        (lambda f: _maps(f, np.zeros((90, 16, 8), "f4")), r"shape \(90, 16, 8\)"),
        (lambda f: _maps(f, np.zeros((6, 16, 16, 16), "f4")), "3D grids"),
        (lambda f: _maps(f, np.zeros((90, 8, 8), "f4")), "need one shape"),
        (lambda f: _maps(f, np.zeros((90, 16, 16), "i4")), "of type int32"),
        (lambda f: _maps(f, np.array([None] * 90)), "not an .npy file"),
    ],
)
def test_damaged_files(cmd, damage, message):
    damage(cmd)
    with pytest.raises(MapSetError, match=message) as caught:
        open_source(spec(cmd))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": ["H1"]}, "no field 'H1'.*HI"),
        ({"outputs": "HI"}, "lists of fields"),
        ({"redshift": "1.00"}, "z=1.00.npy does not exist"),
        ({"suite": "TNG"}, "Maps_Mcdm_TNG_LH"),
        ({"folder": "/nowhere"}, "is not a folder"),
        ({"kind": "camel"}, "no source of kind 'camel'.*camels"),
        ({"input": ["Mcdm"]}, "unexpected keyword argument 'input'"),
    ],
)
def test_wrong_tables(cmd, changes, message):
    with pytest.raises(MapSetError, match=message):
        open_source(spec(cmd, **changes))


def test_not_finite_names_the_map(cmd):
    values = np.zeros((90, 16, 16), "f4")
    values[33, 2, 2] = np.inf
    _maps(cmd, values)
    with pytest.raises(MapSetError, match="map 33 "):
        open_source(spec(cmd)).read("HI")


def test_a_redshift_that_is_no_number(cmd):
    with pytest.raises(MapSetError, match="redshift of a camels source is 'abc'"):
        open_source(spec(cmd, redshift="abc"))


def test_units_agree_with_those_of_a_card(cmd):
    open_source(spec(cmd)).check_units("HI", "Msun littleh / Mpc2", "me")
