"""Fields and map sets with known statistics that the tests of this folder share."""

import numpy as np

from higan.mapset import Field, Geometry, MapSet, Parameter
from higan.validation.power_spectrum import wavenumbers

CELL = 2.0


def gaussian(rng, n, shape, power, cell=CELL):
    """Periodic Gaussian fields of power spectrum `power`(k)."""
    axes = tuple(range(1, len(shape) + 1))
    k = wavenumbers(shape, cell)
    k.flat[0] = np.inf  # no power in the mean
    amplitude = np.sqrt(power(k) / np.prod(np.broadcast_to(cell, len(shape))))
    white = np.fft.rfftn(rng.normal(size=(n, *shape)), axes=axes)
    return np.fft.irfftn(white * amplitude, shape, axes=axes)


def map_set(n_sim=12, per_sim=4, shape=(16, 16), seed=0, **changes):
    """Density, a temperature 10 + bias * density + noise with a parameter BIAS, and a split of two thirds and one."""
    rng = np.random.default_rng(seed)
    simulation = np.repeat(np.arange(n_sim), per_sim)
    bias = np.linspace(1.0, 3.0, n_sim)[rng.permutation(n_sim)]
    density = gaussian(rng, len(simulation), shape, lambda k: 20 * k**-1.5).astype("float32")
    each = bias[simulation].reshape(-1, *(1,) * len(shape))
    temperature = 10 + each * density + 0.1 * rng.normal(size=density.shape)
    keep = dict(
        fields={
            "density": Field(density, "", "overdensity"),
            "brightness_temp": Field(temperature.astype("float32"), "mK", "brightness temperature"),
        },
        parameters=bias[:, None],
        parameter_info=[Parameter("BIAS", "", 1.0, 3.0)],
        simulation=simulation,
        geometry=Geometry(ndim=len(shape), box_size=CELL * shape[0], redshift=8.0),
        simulator="law",
        extra={"split": np.array(["train"] * (2 * n_sim // 3) + ["test"] * (n_sim - 2 * n_sim // 3))},
    )
    return MapSet(**{**keep, **changes})
