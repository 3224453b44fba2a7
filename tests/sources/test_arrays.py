import numpy as np
import pytest

from higan.errors import MapSetError
from higan.sources import from_arrays

DENSITY = np.arange(4 * 64, dtype="float32").reshape(4, 8, 8)


def test_arrays():
    maps = from_arrays(
        {"density": DENSITY, "brightness_temp": DENSITY + 1},
        {"SIGMA_8": [0.8, 0.9]},
        simulation=[0, 0, 1, 1],
        box_size=16.0,
        units={"brightness_temp": "mK"},
        bounds={"SIGMA_8": (0.7, 0.9)},
        redshift=8.0,
        split=["train", "test"],
    )
    assert maps.geometry.ndim == 2 and maps.cell_size == 2.0 and maps.fields["brightness_temp"].units == "mK"
    assert (maps.parameter_info[0].lower, maps.parameter_info[0].upper) == (0.7, 0.9)
    assert maps.fields["density"].array is DENSITY, "arrays are not copied"
    np.testing.assert_array_equal(maps.read("brightness_temp", [2]), DENSITY[[2]] + 1)


def test_without_parameters():
    maps = from_arrays({"density": DENSITY}, box_size=16.0)
    assert maps.n_sim == 4 and maps.parameters.shape == (4, 0)
    maps = from_arrays({"density": DENSITY}, simulation=[0, 0, 1, 1], box_size=16.0)
    assert maps.n_sim == 2 and maps.parameters.shape == (2, 0)


def test_channels():
    maps = from_arrays({"shear": np.zeros((2, 8, 8, 2), "float32")}, ndim=2, box_size=1.0)
    assert maps.shape == (8, 8, 2) and maps.geometry.ndim == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields": {}}, "No fields"),
        ({"fields": {"density": np.zeros(4)}}, r"shape \(4,\)"),
        ({"parameters": {"SIGMA_8": [0.8, 0.9]}}, "4 maps and 2 simulations"),
        ({"parameters": {"a": [1.0] * 4, "b": [1.0] * 3}}, "a 4, b 3"),
        (
            {"parameters": {"SIGMA_8": [0.8, 0.8, 0.9, 0.9]}, "simulation": [0, 0, 1, 1]},
            "`parameters` have 4 entries, one a map, but `simulation` names 2 simulations",
        ),
        ({"box_size": -2.0}, "'box_size' is -2, but it is a length above 0"),
        ({"units": {"HI": ""}}, "names 'HI'"),
        ({"bounds": {"SIGMA_8": (0, 1)}}, "names 'SIGMA_8'"),
        ({"fields": {"density": np.zeros((4, 8, 8), int)}}, "of type int64"),
    ],
)
def test_wrong_arrays(arguments, message):
    with pytest.raises(MapSetError, match=message):
        from_arrays(**{"fields": {"density": DENSITY}, **arguments})
