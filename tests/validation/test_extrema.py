"""Peaks and minima: planted ones, white noise, and Gaussian fields cell by cell and beside the analytic number."""

import itertools

import numpy as np
import pytest

from higan.validation.extrema import Extrema, peak_counts, peaks
from higan.validation.statistic import Setting
from tests.validation.fields import gaussian


def brute_force(values, periodic):
    found = np.zeros(values.shape, dtype=bool)
    steps = [step for step in itertools.product((-1, 0, 1), repeat=values.ndim) if any(step)]
    for cell in np.ndindex(values.shape):
        if not periodic and any(i in (0, n - 1) for i, n in zip(cell, values.shape, strict=True)):
            continue
        beside = [tuple(np.add(cell, step) % values.shape) for step in steps]
        found[cell] = all(values[cell] > values[other] for other in beside)
    return found


@pytest.mark.parametrize("shape", [(50,), (16, 12), (8, 7, 6), (2, 5), (1, 4)])
@pytest.mark.parametrize("periodic", [True, False])
def test_cell_by_cell(shape, periodic):
    smooth = gaussian(np.random.default_rng(1), 2, shape, lambda k: np.exp(-(k**2)))
    rounded = np.round(4 * smooth).astype(int)  # with many plateaus
    for maps in (smooth, rounded):
        expected = np.stack([brute_force(values, periodic) for values in maps])
        np.testing.assert_array_equal(peaks(maps, periodic), expected)


def test_planted_peaks():
    maps = np.zeros((2, 12, 12))
    maps[0, 3, 3], maps[0, 8, 8], maps[0, 0, 11] = 1.0, 2.0, 3.0
    maps[1, 5, 5], maps[1, 5, 6] = 2.0, 2.0  # as high as each other
    edges = [1.5, 2.0, 4.0]
    np.testing.assert_array_equal(peak_counts(maps, edges), [[1, 0, 2, 0], [0, 0, 0, 0]])
    # The corner touches cells across the boundary.
    np.testing.assert_array_equal(peak_counts(maps, edges, periodic=False)[0], [1, 0, 1, 0])
    maps[0, 11, 0] = 4.0
    np.testing.assert_array_equal(peak_counts(maps, edges)[0], [1, 0, 1, 1])


def test_flat_maps_have_none():
    assert not peaks(np.zeros((1, 6, 6, 6))).any()


@pytest.mark.parametrize(("shape", "share"), [((4096,), 1 / 3), ((128, 128), 1 / 9), ((32, 32, 32), 1 / 27)])
def test_white_noise(shape, share):
    """Each cell is the highest of its block as often as any other."""
    maps = np.random.default_rng(2).normal(size=(8, *shape)).astype("float32")
    assert peaks(maps).mean() == pytest.approx(share, rel=0.03)


def test_peaks_of_a_smooth_gaussian_field():
    """Number density 1 / (4 sqrt(3) pi R^2) in 2D, R^2 = 2 <g_x^2> / <g_xx^2 + …>: Bond & Efstathiou 1987."""
    scale = 5.0  # correlation length in cells; P = exp(-k^2 scale^2) has sigma_1^2 / sigma_2^2 = scale^2 / 2
    maps = gaussian(np.random.default_rng(3), 60, (128, 128), lambda k: np.exp(-((k * scale) ** 2)), cell=1.0)
    R_squared = 2 * scale**2 / 2
    assert peaks(maps).mean() == pytest.approx(1 / (4 * np.sqrt(3) * np.pi * R_squared), rel=0.03)


def evaluate(truth, generated, setting):
    family = Extrema(setting)
    sums = family.measure_truth(truth) | family.measure(truth, generated)
    return family.evaluate(sums | {"maps": np.ones(len(truth))})


SETTING = Setting((16, 16), 1.0, levels=np.array([-1.0, 0.0, 1.0]))


def test_numbers():
    truth = np.random.default_rng(4).normal(size=(6, 16, 16)).astype("float32")
    same = evaluate(truth, truth[:, None], SETTING)
    assert same["peaks_error"] == same["minima_error"] == same["peaks_excess"] == 0
    assert same.keys() == {**Extrema.numbers, **Extrema.curves}.keys()
    np.testing.assert_array_equal(same["extrema_heights"], [-1.5, -0.5, 0.5, 1.5])
    # Upside down, minima are peaks.
    turned = evaluate(-truth, truth[:, None], SETTING)
    np.testing.assert_array_equal(turned["minima_truth"], same["peaks"][::-1])
    # All are in the last bin: too many there, and as many missing elsewhere.
    high = evaluate(truth, truth[:, None] + 100, SETTING)
    assert high["peaks_error"] == pytest.approx(2 - 2 * same["peaks"][-1] / same["peaks"].sum())
    assert high["peaks_excess"] == pytest.approx(0)
    flat = evaluate(truth, 0 * truth[:, None], SETTING)
    assert flat["peaks_error"] == flat["minima_error"] == -flat["peaks_excess"] == 1


def test_heights_of_a_field_that_spans_decades():
    setting = Setting((8,), 1.0, levels=np.array([1.0, 10.0, 1000.0]), logarithmic=True)
    np.testing.assert_allclose(np.log10(Extrema(setting).heights), [-0.5, 0.5, 2, 4])


@pytest.mark.parametrize("levels", [[], [0.5], [0.5, 1.0]])
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 2), (4, 4, 4)])
def test_flat_truth_has_no_numbers(shape, levels):
    setting = Setting(shape, 1.0, levels=np.array(levels), window="hann")
    truth = np.zeros((2, *shape), dtype="float32")
    values = evaluate(truth, truth[:, None], setting)
    assert all(np.isnan(values[number]) for number in Extrema.numbers)
    assert len(values["extrema_heights"]) == len(values["peaks"]) == len(levels) + 1
