"""Galaxies of profiles and knots, against GalSim and against moments that are known."""

import numpy as np
import pytest
from scipy.special import gamma, gammaincinv
from scipy.stats import ncx2

from higan import scaling
from higan.networks.config import GeneratorConfig
from higan.networks.galaxies import (
    FLATTER,
    FLATTEST,
    INDICES,
    LARGEST,
    SMALLEST,
    SOFT,
    STEEPER,
    WIDTHS,
    Ellipses,
    Galaxies,
    _held,
    sersic_gaussians,
)
from higan.networks.generator import build_generator
from higan.photometry import measure
from tests import backends, tiny

ASINH = scaling.fit("asinh", [np.geomspace(1e-6, 1e-2, 50)], lower=0.0, softening=1e-4)


def drawn_in(value, most):
    """What has to be told for `value`, as it is drawn in towards `most`."""
    return most * np.arctanh(value / most)


def told(ellipses, indices, shares, knots=()):
    """Numbers of one galaxy, from axis ratio and half-light radius, and index, of each profile, and shares of light."""
    first = np.geomspace(LARGEST, SMALLEST, len(ellipses))
    q, radius = np.array(ellipses, float).T
    places = [np.array(indices), np.geomspace(FLATTER, STEEPER, len(indices))]
    place, at_first = (np.log(n / INDICES[0]) / np.log(INDICES[-1] / INDICES[0]) for n in places)
    flat = np.log(np.expm1(drawn_in(np.maximum(-np.log(q), 1e-6), FLATTEST)))
    rows = [
        flat,
        drawn_in(np.log(radius / first), 4.0),
        np.log(place / (1 - place)) - np.log(at_first / (1 - at_first)),
    ]
    return np.concatenate([*rows, knots, np.log(shares)])[None].astype("float32")


def shape(q, angle):
    """The matrix S of an axis ratio, along a direction in radians."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([1 / q, q]) @ turn.T


GALAXIES = {"network": "profiles", "latent": 5, "profiles": 2}


def towards(angle):
    return 2 * np.array([[np.cos(angle), np.sin(angle)]], "float32")


@pytest.mark.parametrize("n, worst", [(0.5, 0.016), (1.0, 0.002), (2.5, 0.003), (4.0, 0.015), (6.0, 0.045)])
def test_sums_of_gaussians_are_sersic_profiles(n, worst):
    """Half of their light lies within the half-light radius, and light in rings is right to a fraction of its most."""
    near = np.abs(INDICES - n).argmin()
    shares, index = sersic_gaussians()[near], INDICES[near]
    within = (shares * -np.expm1(-0.5 / WIDTHS**2)).sum()
    assert within == pytest.approx(0.5, abs=0.01 if n < 5 else 0.02)
    radius = np.geomspace(0.05, 8.0, 200)
    b = gammaincinv(2 * index, 0.5)
    light = 2 * np.pi * index * np.exp(b) * b ** (-2 * index) * gamma(2 * index)
    true = radius**2 * np.exp(-b * (radius ** (1 / index) - 1)) / light
    found = radius[:, None] ** 2 * (np.exp(-0.5 * (radius[:, None] / WIDTHS) ** 2) / (2 * np.pi * WIDTHS**2)) @ shares
    assert np.abs(found - true).max() < worst * true.max()


@pytest.mark.parametrize("n, radius, q", [(0.7, 6.0, 0.5), (1.0, 3.0, 0.8), (1.0, 9.0, 0.25), (4.0, 2.0, 0.7)])
def test_profiles_as_galsim_draws_them(n, radius, q):
    """Through a Gaussian and pixels, with one more profile of a third of the light."""
    galsim = pytest.importorskip("galsim")
    angle, fwhm = 0.5, 2.5
    image = galsim.Image(48, 64, scale=1.0, dtype=float)  # 64 rows
    shear = galsim.Shear(q=q, beta=angle * galsim.radians)
    parts = galsim.Sersic(n, half_light_radius=radius, flux=2 / 3).shear(shear)
    parts += galsim.Exponential(half_light_radius=4.0, flux=1 / 3)
    galsim.Convolve(parts, galsim.Gaussian(fwhm=fwhm)).drawImage(image)
    layer = Galaxies(2, 0, 1, fwhm / np.sqrt(8 * np.log(2)), (64, 48))
    numbers, direction = told([(q, radius), (1.0, 4.0)], [n, 1.0], [2 / 3, 1 / 3]), towards(angle)
    found = backends.host(layer([numbers, direction]))
    assert found.shape == (1, 64, 48, 1) == layer.compute_output_shape([numbers.shape, direction.shape])
    found, true = found[0, ..., 0], image.array / image.array.sum()
    assert np.abs(found - true).sum() < 0.01 * true.sum()
    assert np.abs(found - true).max() < 0.01 * true.max()


def test_flat_profiles_are_nowhere_negative():
    """An index of 0.3, whose sum has negative terms, on a stamp that reaches far beyond it."""
    layer = Galaxies(1, 0, 1, 0.0, (64, 64))
    found = backends.host(layer([told([(1.0, 3.0)], [0.31], [1.0]), towards(0.0)]))
    assert found.min() == 0 and found.sum() == pytest.approx(1, abs=0.03)


def test_knots():
    """They lie as the light of an exponential disc of the first profile's shape does, and are as bright as is told."""
    rng, (q, tilt) = np.random.default_rng(1), (0.5, 0.7)
    n, count, scale, psf = 500, 40, 2.6, 1.1
    layer = Galaxies(2, count, 1, psf, (80, 64))
    knots = drawn_in(np.log(0.8), 0.5), 0.0, -9.0  # smaller than the profile, as a disc, all of them there
    numbers = told([(q, 1.68 * scale / 0.8), (1.0, 3.0)], [1.0, 1.0], [1e-9, 1e-9, np.exp(2.0)], knots)
    assert numbers.shape[1] == GeneratorConfig(**GALAXIES, knots=count).numbers_told(1)
    direction = towards(tilt)
    drawn = rng.normal(size=(n, 5 * count)).astype("float32")
    found = backends.host(layer([np.tile(numbers, (n, 1)), np.tile(direction, (n, 1)), drawn]))
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=0.06)  # one may lie outside
    # ∫ r² of exp(-r / h) along one axis is 3 h².
    expected = 3 * scale**2 * shape(q, tilt) + (psf**2 + 1 / 12) * np.eye(2)
    mean = found.mean(axis=0)[..., 0] / found.mean(axis=0).sum()
    y, x = (axis - middle for axis, middle in zip(np.indices(mean.shape), (39.5, 31.5), strict=True))
    moments = np.array([[(mean * u * v).sum() for v in (x, y)] for u in (x, y)])
    np.testing.assert_allclose(moments, expected, rtol=0.05)
    # One of them alone, at its place to a fraction of a pixel.
    drawn[0] = 0
    drawn[0, :5] = [1.0, 0.5, 0.2, 0.1, 9.0]
    numbers[:, 8] = 8.0
    alone = backends.host(layer([numbers, direction, drawn[:1]]))[0, ..., 0]
    place = [(alone * axis).sum() / alone.sum() for axis in (x, y)]
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    there = scale * 0.65 * turn @ np.array([q**-0.5, 0.5 * q**0.5]) / np.hypot(1.0, 0.5)
    np.testing.assert_allclose(place, there, atol=0.01)


@pytest.mark.parametrize("count", [0, 12])
def test_half_of_the_light_lies_within_the_radius_that_is_asked_for(count):
    """As measured on stamps; however large the parts are told to be, their ratio alone counts."""
    rng, n = np.random.default_rng(1), 40
    asked = rng.uniform(2.0, 12.0, (n, 1)).astype("float32")
    rows = []
    for radius in asked[:, 0]:
        ellipses = [(rng.uniform(0.2, 1), radius * rng.uniform(*reach)) for reach in ((0.5, 2.0), (0.2, 1.0))]
        knots = (0.0, 0.0, 0.0) if count else ()
        shares = [rng.uniform(0.1, 1), rng.uniform(0.1, 1), *([0.5] if count else [])]
        rows.append(told(ellipses, rng.uniform(0.4, 4.0, 2), shares, knots))
    numbers, direction = np.concatenate(rows), rng.normal(size=(n, 2)).astype("float32")
    layer = Galaxies(2, count, 1, 1.06, (64, 64), asked=True)
    drawn = [rng.normal(size=(n, 5 * count)).astype("float32")] if count else []
    stamps = backends.host(layer([numbers, direction, asked, *drawn]))[..., 0]
    off = np.log(measure(stamps)["flux_radius"] / asked[:, 0])
    # What a flat galaxy has beyond the sides of the stamp is not that beyond a disc.
    assert abs(np.median(off)) < 0.005 and np.quantile(abs(off), 0.9) < 0.02
    larger = numbers.copy()
    larger[:, 2:4] = 4 * np.tanh(larger[:, 2:4] / 4) + 1.6
    larger[:, 2:4] = drawn_in(larger[:, 2:4], 4.0)
    again = backends.host(layer([larger, direction, asked, *drawn]))[..., 0]
    assert np.abs(again - stamps).max() < 1e-2 * stamps.max()


def test_what_a_circle_holds_of_a_knot():
    square, far = np.geomspace(0.5, 1500, 40)[:, None], np.geomspace(1e-3, 1500, 40)[None]
    found = backends.host(_held(square.astype("float32"), far.astype("float32")))
    np.testing.assert_allclose(found, ncx2.cdf(square, 2, far), atol=0.01)


def test_ellipses():
    """Radii within flattened and turned circles of the same area, in half-light radii, whatever the level."""
    cell, q, tilt = 2, 0.4, 0.9
    layer = Ellipses(2, cell)
    numbers = told([(q, 3.0), (1.0, 16.0)], [1.0, 1.0], [0.5, 0.5])
    found = backends.host(layer([np.zeros((1, 9, 12, 3), "float32"), numbers, towards(tilt)]))
    assert found.shape == (1, 9, 12, 2) == layer.compute_output_shape([(1, 9, 12, 3), numbers.shape, (1, 2)])
    y, x = (cell * (axis - middle) for axis, middle in zip(np.indices((9, 12)), (4.0, 5.5), strict=True))
    points = np.stack([x, y], axis=-1)
    for i, (matrix, radius) in enumerate(((shape(q, tilt), 3.0), (np.eye(2), 16.0))):
        inverse = np.linalg.inv(radius**2 * matrix + SOFT * np.eye(2))
        squared = np.einsum("...i,ij,...j->...", points, inverse, points) + SOFT / (radius**2 + SOFT)
        np.testing.assert_allclose(found[0, ..., i], np.sqrt(squared), rtol=1e-4)


@pytest.mark.parametrize("knots", [0, 4])
@pytest.mark.parametrize("network", ["unet", "profiles"])
def test_a_generator_with_profiles_turns_with_its_latent_vector(network, knots):
    """What is drawn straight away turns by a right angle when the vector's first two numbers do."""
    values = {"network": network, "latent": 5, "profiles": 3, "knots": knots, "psf": 1.0, "embedding": 8}
    config = GeneratorConfig(**values, **({"widths": [4, 8], "centred": True} if network == "unet" else {}))
    options = {"ndim": 2, "n_inputs": 0, "n_outputs": 2, "n_parameters": 1, "scalings": [ASINH] * 2}
    model = tiny.woken(build_generator(config, **options, shape=(16, 16)))
    for variable in model.variables:
        if variable.path == "head/kernel":
            variable.assign(0 * backends.host(variable))
    rng, seen = np.random.default_rng(1), [np.ones((2, 1), "float32")]
    seen += [rng.normal(size=(2, 16 >> i, 16 >> i, 4)).astype("float32") for i in range(2) if network == "unet"]
    latent = rng.normal(size=(2, config.random_numbers)).astype("float32")

    def call(latent):
        return backends.host(model([*seen, latent]))

    out = call(latent)
    assert out.shape == (2, 16, 16, 2) and np.abs(out - out[:, ::-1]).max() > 0.01 * out.std()
    turned = np.concatenate([latent[:, 1:2], -latent[:, :1], latent[:, 2:]], axis=1)
    np.testing.assert_allclose(call(turned), np.rot90(out, axes=(1, 2)), atol=1e-4)
    other = np.concatenate([latent[:, :5], latent[:, 5:] + 1], axis=1)
    assert (np.abs(call(other) - out).max() > 1e-3 * out.std()) == bool(knots)


def test_settings_that_make_no_galaxies():
    with pytest.raises(ValueError, match="they need centred = true and latent above 2"):
        GeneratorConfig(latent=2, centred=True, profiles=3)
    for name, value in (("knots", 3), ("psf", 1.0)):
        with pytest.raises(ValueError, match=f"{name} .*: give profiles, or leave {name} out"):
            GeneratorConfig(**{"latent": 3, "centred": True, name: value})
    config = GeneratorConfig(**GALAXIES)
    assert GeneratorConfig.model_validate(config.model_dump()) == config
    with pytest.raises(ValueError, match="network 'profiles' has no convolutions that widths is of: leave it out"):
        GeneratorConfig(**GALAXIES, widths=[4])
    with pytest.raises(ValueError, match="network 'profiles' paints galaxies of profiles: say how many"):
        GeneratorConfig(**{**GALAXIES, "profiles": 0})
