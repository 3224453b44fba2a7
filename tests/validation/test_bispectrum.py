"""The bispectrum against its definition, and against fields whose bispectrum is known."""

import itertools

import numpy as np
import pytest

from higan.validation.bispectrum import Bispectrum, LogBispectrum, bispectrum, equilateral, longest, two_sides
from higan.validation.power_spectrum import bin_weights
from higan.validation.statistic import Setting
from tests.validation.fields import gaussian


@pytest.mark.parametrize(
    ("shape", "triangles"),
    [
        ((24,), [(1, 2, 3), (2, 2, 4), (5, 1, 6)]),
        ((12, 12), [(1, 1, 1), (1, 2, 2), (2, 4, 3), (3, 3, 4)]),
        ((11, 8), [(1, 2, 2), (2, 2, 2)]),
        ((8, 8, 8), [(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    ],
)
def test_sum_over_triangles(shape, triangles):
    """Triangle by triangle, with modes that may close around the box left out."""
    cell, ndim, N = 1.5, len(shape), int(np.prod(shape))
    values = np.random.default_rng(1).normal(size=shape) ** 2
    F = np.fft.fftn(values - values.mean())
    modes = [
        tuple(i if i <= n // 2 else i - n for i, n in zip(index, shape, strict=True)) for index in np.ndindex(shape)
    ]
    bins = bin_weights(shape).shape[0]
    length = {mode: max(shape) * np.sqrt(sum((i / n) ** 2 for i, n in zip(mode, shape, strict=True))) for mode in modes}
    shells = {i: [mode for mode in modes if i - 0.5 <= length[mode] < i + 0.5] for i in range(1, bins + 1)}
    _, found = bispectrum(values[None], cell, triangles)
    for triangle, B in zip(triangles, found[0], strict=True):
        third = set(shells[triangle[2]])
        products = [
            (F[a] * F[b] * F[c]).real
            for a, b in itertools.product(shells[triangle[0]], shells[triangle[1]])
            if (c := tuple(-i - j for i, j in zip(a, b, strict=True))) in third
        ]
        assert len(products) > 1
        assert B == pytest.approx(np.mean(products) * cell ** (2 * ndim) / N, rel=1e-9)


@pytest.mark.parametrize(("shape", "maps"), [((32, 32), 600), ((16, 16, 16), 400)])
def test_poisson_points(shape, maps):
    """Points without structure: 1 / n^2 for the overdensity, whatever the triangle."""
    rng, cell, per_cell = np.random.default_rng(2), 2.0, 0.1
    bins = shape[0] // 2
    overdensity = rng.poisson(per_cell, size=(maps, *shape)) / per_cell - 1
    _, B = bispectrum(overdensity, cell, np.concatenate([equilateral(bins), two_sides(bins)]))
    error = B.std(axis=0) / np.sqrt(maps)
    expected = (cell ** len(shape) / per_cell) ** 2
    assert (np.abs(B.mean(axis=0) - expected) < 4 * error).all()
    assert (error < 0.3 * expected).all()


def test_gaussian_fields_have_none():
    maps = gaussian(np.random.default_rng(3), 400, (24, 24), lambda k: k**-1.0, cell=1.0)
    _, B = bispectrum(maps, 1.0, np.concatenate([equilateral(12), two_sides(12)]))
    assert (np.abs(B.mean(axis=0)) < 4 * B.std(axis=0) / 20).all()


def test_square_of_a_gaussian_field():
    """f = g + a g^2 has B = 2 a (P1 P2 + P2 P3 + P3 P1) to first order in a."""

    def power(k):
        return 40.0 * np.exp(-((k / 0.6) ** 2))

    g = gaussian(np.random.default_rng(4), 400, (48, 48), power, cell=1.0)
    a = 0.01
    triangles = [(2, 2, 2), (3, 3, 3), (2, 4, 3), (2, 4, 5)]
    # The field with -a has the same noise: half their difference is B alone.
    k, above = bispectrum(g + a * g**2, 1.0, triangles)
    _, below = bispectrum(g - a * g**2, 1.0, triangles)
    B = (above - below) / 2
    first, second, third = power(k).T
    expected = 2 * a * (first * second + second * third + third * first)
    # Bins are as wide as the fundamental: P of the mean k is a few per cent off.
    np.testing.assert_allclose(B.mean(axis=0), expected, atol=0.05 * expected.max() + 3 * B.std(axis=0).max() / 20)


def test_window():
    """The level of skewed white noise is right with a window, too."""
    maps = np.random.default_rng(5).exponential(size=(600, 32, 32)) - 1
    _, B = bispectrum(maps, 1.0, [(4, 5, 6), (5, 5, 5)], "hann")
    assert (np.abs(B.mean(axis=0) - 2) < 4 * B.std(axis=0) / np.sqrt(600)).all()


def test_chunks_do_not_matter():
    maps = np.random.default_rng(6).normal(size=(150, 24, 24)).astype("float32")
    triangles = [(1, 2, 2), (3, 3, 3)]
    _, whole = bispectrum(maps, 1.0, triangles)
    _, one = bispectrum(maps[140:141], 1.0, triangles)
    np.testing.assert_allclose(whole[140], one[0], rtol=1e-9)


def test_refusals():
    maps = np.zeros((1, 16, 16))
    with pytest.raises(ValueError, match="have bins 1 to 8 of k, and triangles bins 0 to 3"):
        bispectrum(maps, 1.0, [(0, 2, 3)])
    with pytest.raises(ValueError, match=f"sum to 15: beyond {longest(8)} modes close"):
        bispectrum(maps, 1.0, [(5, 5, 5)])


def evaluate(truth, generated, setting, family=Bispectrum):
    family = family(setting)
    sums = family.measure_truth(truth) | family.measure(truth, generated)
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


def test_maps_twice_as_high():
    truth = np.random.default_rng(7).exponential(size=(6, 32, 32)).astype("float32")
    values = evaluate(truth, 2 * truth[:, None], Setting((32, 32), 1.0))
    for number in Bispectrum.numbers:
        assert values[number] == pytest.approx(7)
    assert values["B_angle_cosine"][0] < -0.85 and values["B_angle_cosine"][-1] > 0.85
    assert values.keys() == {**Bispectrum.numbers, **Bispectrum.curves}.keys()


def test_of_the_logarithm():
    """A factor makes nothing of it, a square eight times as much."""
    truth = 10 ** np.random.default_rng(7).exponential(size=(6, 32, 32)).astype("float32")
    decades = Setting((32, 32), 1.0, edges=np.geomspace(1e-3, 1e9, 11), logarithmic=True)
    raised, scaled = (evaluate(truth, maps[:, None], decades, LogBispectrum) for maps in (truth**2, 5 * truth))
    assert raised.keys() == {**LogBispectrum.numbers, **LogBispectrum.curves}.keys()
    assert not raised.keys() & {**Bispectrum.numbers, **Bispectrum.curves}.keys()
    _, of_logarithms = bispectrum(np.log10(truth), 1.0, equilateral(16))
    np.testing.assert_allclose(raised["B_log_truth"], of_logarithms.mean(axis=0), rtol=1e-4)
    for number in LogBispectrum.numbers:
        assert raised[number] == pytest.approx(7, rel=1e-4) and scaled[number] < 1e-3
    empty = evaluate(truth, np.zeros_like(truth)[:, None], decades, LogBispectrum)
    assert np.isfinite(empty["median_abs_B_ratio_minus_1_log"])
    ordinary = evaluate(truth, truth[:, None], Setting((32, 32), 1.0), LogBispectrum)
    assert all(np.isnan(ordinary[number]) for number in LogBispectrum.numbers)


@pytest.mark.parametrize(
    ("shape", "some"),
    [
        ((4,), False),
        ((32,), False),
        ((2, 2), False),
        ((4, 4), False),
        ((8, 8), True),
        ((9, 6), True),
        ((4, 4, 4), False),
        ((8, 8, 8), True),
    ],
)
def test_small_maps_and_maps_of_one_dimension(shape, some):
    """On a line no equilateral triangle closes."""
    truth = np.random.default_rng(8).exponential(size=(3, *shape)).astype("float32")
    values = evaluate(truth, 2 * truth[:, None], Setting(shape, 1.0))
    assert np.isfinite(values["median_abs_B_ratio_minus_1"]) == some
    for number in Bispectrum.numbers:
        assert np.isnan(values[number]) or values[number] == pytest.approx(7)
    empty = evaluate(0 * truth, truth[:, None], Setting(shape, 1.0))
    assert all(np.isnan(empty[number]) for number in Bispectrum.numbers)
