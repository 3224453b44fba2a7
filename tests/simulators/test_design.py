import numpy as np
import pytest

from higan.errors import HiganError
from higan.simulators import SIMULATORS, simulator
from higan.simulators.design import STEPS, fiducial


@pytest.fixture
def reference():
    return simulator("21cmfast")


def test_reference_set(reference):
    """The reference set's first and last points, as numbers: anyone must be able to make it again."""
    design = reference.design("lh")
    assert design.parameters.shape == (200, 3)
    np.testing.assert_allclose(design.parameters[0], [-1.60672081, 0.53549893, 0.82150644], atol=1e-8)
    np.testing.assert_allclose(design.parameters[199], [-1.63827986, 0.34233481, 0.79558879], atol=1e-8)
    np.testing.assert_array_equal(design.seeds, np.arange(1000, 1200))
    assert (design.split[:160] == "train").all()
    assert (design.split[160:176] == "validation").all()
    assert (design.split[176:] == "test").all()
    lower, upper = ([getattr(item, side) for item in reference.parameters] for side in ("lower", "upper"))
    assert (design.parameters >= lower).all() and (design.parameters <= upper).all()


def test_fiducial_is_exact(reference):
    assert fiducial(reference.parameters).tolist() == [-1.4, 0.5, 0.8]


@pytest.mark.parametrize("name", ["21cmfast", "post-reionisation"])
def test_new_parameters(name):
    """Points that the space-filling set has none of, whatever the number, over all of the ranges; all for testing."""
    code = simulator(name)
    design, known = code.design("new", n=40), code.design("lh")
    assert len(code.design("new")) == 24
    np.testing.assert_array_equal(code.design("new").parameters, design.parameters[:24])
    assert not set(design.seeds) & set(known.seeds) and (design.split == "test").all()
    lower, upper = np.array([(item.lower, item.upper) for item in code.parameters]).T
    here, there = ((one.parameters - lower) / (upper - lower) for one in (design, known))
    assert np.abs(here[:, None] - there).max(axis=2).min() > 1e-3
    assert here.min() >= 0 and here.max() <= 1 and (here.min(axis=0) < 0.1).all() and (here.max(axis=0) > 0.9).all()


def test_cosmic_variance(reference):
    design = reference.design("cv")
    assert len(design) == 27 and len(reference.design("cv", n=40)) == 40
    assert (design.parameters == [-1.4, 0.5, 0.8]).all()
    assert not set(design.seeds) & set(reference.design("lh").seeds)
    assert (design.split == "test").all()


def test_one_parameter(reference):
    design = reference.design("1p", seed=7)
    assert len(design) == 1 + 3 * len(STEPS) and (design.seeds == 7).all()
    moved = design.parameters != design.parameters[0]
    assert not moved[0].any() and (moved[1:].sum(axis=1) == 1).all()
    for column, item in enumerate(reference.parameters):
        values = design.parameters[moved[:, column], column]
        assert values.min() == item.lower and values.max() == item.upper
        # Steps come in pairs around the fiducial value, for central differences.
        np.testing.assert_allclose(values + values[::-1], 2 * design.parameters[0, column])


@pytest.mark.parametrize("rows", [[200], [-1], []])
def test_rows_out_of_range(reference, rows):
    with pytest.raises(HiganError, match="Choose"):
        reference.design("lh").select(rows)


def test_unknown_names():
    with pytest.raises(HiganError, match=r"no simulator '21cmslow'.*21cmfast"):
        simulator("21cmslow")
    with pytest.raises(HiganError, match=r"no setting 'cell'.*cells"):
        simulator("21cmfast", cell=3)
    assert list(SIMULATORS)
