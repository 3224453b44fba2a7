import numpy as np
import pytest
import tensorflow as tf

from higan.adversarial.spectrum import mode_score, spectral_crps, spectral_loss, spread_loss
from higan.validation.power_spectrum import axis_shares, bin_weights, power_spectrum, taper, tapered


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("shape", [(32,), (16, 16), (12, 10), (8, 8, 8), (7, 9)])
def test_spectral_loss(shape, window):
    """R(k) as the validation defines it, and beyond it in the corners, of an offset a hundred times the scatter."""
    rng = np.random.default_rng(3)
    real, fake = (100 + rng.normal(size=(4, *shape, 2)) for _ in range(2))
    fake[..., 1] *= 3.0
    k = np.linalg.norm(np.meshgrid(*(np.fft.fftfreq(n) * max(shape) for n in shape), indexing="ij"), axis=0)
    bins = np.floor(k + 0.5 + 1e-9).astype(int)
    R = []
    for channel in range(2):
        squares = [
            np.abs(np.fft.fftn(tapered(maps[..., channel], window)[i])) ** 2 for maps in (fake, real) for i in range(4)
        ]
        sums = [np.bincount(bins.ravel(), sum(each).ravel())[1:] for each in (squares[:4], squares[4:])]
        R.append(sums[0] / sums[1])
        P = [power_spectrum(maps[..., channel], 1.0, window)[1].sum(axis=0) for maps in (fake, real)]
        whole = len(P[0]) - 1  # the last bin of the validation ends at the Nyquist wavenumber
        np.testing.assert_allclose((P[0] / P[1])[:whole], R[-1][:whole])
    fake, real = fake.astype("float32"), real.astype("float32")
    found = float(spectral_loss(fake, real, window))
    assert found == pytest.approx(np.abs(np.array(R) - 1).mean(), rel=1e-3)
    assert float(spectral_loss(real, real, window)) == 0


@pytest.mark.parametrize("loss", [spectral_loss, lambda x, y: spectral_crps(x, x, y), lambda x, y: mode_score(x, x, y)])
def test_modes_beyond_the_nyquist_sphere(loss):
    """A box without the modes in the corners, half of all, has the right P(k) up to the Nyquist wavenumber."""
    real = np.random.default_rng(4).normal(size=(4, 12, 12, 12))
    k = np.linalg.norm(np.meshgrid(*[12 * np.fft.fftfreq(12)] * 3, indexing="ij"), axis=0)
    fake = np.fft.ifftn(np.fft.fftn(real, axes=(1, 2, 3)) * (k <= 6), axes=(1, 2, 3)).real
    P = [power_spectrum(maps, 1.0)[1] for maps in (fake, real)]
    np.testing.assert_allclose(P[0], P[1])
    assert float(loss(*(maps[..., None].astype("float32") for maps in (fake, real)))) > 0.2


@pytest.mark.parametrize("shape", [(12, 12), (8, 8, 8), (12, 10)])
def test_power_along_each_axis(shape):
    """All power along the first axis, as much as isotropic maps have: only the losses by axis see it."""
    rng = np.random.default_rng(10)
    real = rng.normal(size=(200, *shape)).astype("float32")
    axes = tuple(range(1, len(shape) + 1))
    shares = axis_shares(shape, corners=True)
    modes = np.fft.rfftn(real, axes=axes)
    fake = np.fft.irfftn(modes * np.sqrt(shares[0].reshape(modes.shape[1:])), shape, axes=axes).astype("float32")
    weights = bin_weights(shape, corners=True)
    squares = [np.abs(np.fft.rfftn(maps, axes=axes)).reshape(len(maps), -1) ** 2 for maps in (fake, real)]
    sums = [np.concatenate([weights @ (share * square.sum(axis=0)) for share in shares]) for square in squares]
    expected = np.abs(sums[0] / sums[1] - 1)[sums[1] > 0].sum() / len(sums[1])
    fake, real = fake[..., None], real[..., None]
    assert expected > 0.5
    assert float(spectral_loss(fake, real, by_axis=True)) == pytest.approx(expected, rel=1e-3)
    assert float(spectral_loss(fake, real)) < 0.1
    by_axis, together = (float(spectral_crps(fake, fake, real, group=200, by_axis=each)) for each in (True, False))
    assert together < 0.1 < 0.5 < by_axis


def test_spectral_loss_of_groups():
    """R is that of each group of neighbours; too much power in one does not make up for too little in another."""
    rng = np.random.default_rng(6)
    real, fake = (rng.normal(size=(6, 8, 8, 2)).astype("float32") for _ in range(2))
    fake[:2] *= 2.0
    expected = [float(spectral_loss(fake[i : i + 2], real[i : i + 2])) for i in (0, 2, 4)]
    assert float(spectral_loss(fake, real, group=2)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(spectral_loss(fake, real)) < 0.9 * np.mean(expected)


def test_spectral_loss_of_a_nearly_empty_group():
    """A group without much power is measured by a tenth of the mean, and an empty one cannot outweigh the others."""
    rng = np.random.default_rng(7)
    real = np.repeat(rng.normal(size=(1, 8, 8, 1)).astype("float32"), 4, axis=0)
    real[2:] *= 1e-4
    fake = real.copy()
    fake[2:] = real[:2] * 0.1  # a hundredth of the others' power: 0.2 of a tenth of the mean, which is half of theirs
    assert float(spectral_loss(fake, real, group=2)) == pytest.approx(0.2 / 2, rel=1e-4)


@pytest.mark.parametrize("unit", [1e-30, 1e20])
def test_spectral_loss_does_not_depend_on_the_unit(unit):
    rng = np.random.default_rng(4)
    real, fake = (rng.normal(size=(4, 8, 8, 1)).astype("float32") for _ in range(2))
    expected = float(spectral_loss(fake, real))
    unit = np.float32(unit)
    assert expected > 0.1 and float(spectral_loss(fake * unit, real * unit)) == pytest.approx(expected, rel=1e-4)


def test_spectral_loss_of_empty_maps():
    """A truth without power says nothing; one channel of two counts half."""
    rng = np.random.default_rng(5)
    fake, real = (rng.normal(size=(2, 8, 8, 1)).astype("float32") for _ in range(2))
    empty = np.zeros_like(real)
    assert float(spectral_loss(fake, empty)) == 0
    both = float(spectral_loss(np.concatenate([fake, fake], -1), np.concatenate([real, empty], -1)))
    assert both == pytest.approx(float(spectral_loss(fake, real)) / 2)


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("shape", [(12, 10), (6, 6, 6)])
def test_mode_score_is_that_of_complex_modes(shape, window):
    """Mode by mode with numpy's complex transform; the mean of a map is measured as the largest-scale modes."""
    first, second, real = 50 + np.random.default_rng(8).normal(size=(3, 4, *shape))
    axes = tuple(range(1, len(shape) + 1))
    weights = np.ones(shape) if window is None else taper(shape, window)

    def modes(maps):
        sums = (maps * weights).sum(axis=axes, keepdims=True)
        return sums.ravel(), np.fft.rfftn((maps - sums / weights.sum()) * weights, axes=axes).reshape(len(maps), -1)

    def score(one, other, truth):
        return (0.5 * (abs(one - truth) + abs(other - truth)) - 0.5 * abs(one - other)).mean(axis=0)

    transforms = [modes(maps) for maps in (first, second, real)]
    sums, (f1, f2, f) = zip(*transforms, strict=True)
    bins = bin_weights(shape, corners=True)
    missed = bins @ (abs(f1 - f) ** 2 + abs(f2 - f) ** 2).mean(axis=0) / 2
    # Of independent realisations half of it is the spread; few modes tell more or less.
    root = np.sqrt(np.maximum(2 * (missed - bins @ (abs(f1 - f2) ** 2).mean(axis=0) / 2), missed / 10))
    scores = np.array([score(*sums) / root[0], *(bins @ score(f1, f2, f) / root)])
    maps = [x[..., None].astype("float32") for x in (first, second, real)]
    assert float(mode_score(*maps, window)) == pytest.approx(scores.mean(), rel=1e-3)
    octaves = [scores[:1], *(scores[2**i : 2 ** (i + 1)] for i in range(10) if 2**i < len(scores))]
    expected = np.mean([octave.mean() for octave in octaves])
    assert float(mode_score(*maps, window, by_octave=True)) == pytest.approx(expected, rel=1e-3)


def test_every_scale_should_scatter_as_the_truth():
    """Faint small scales that nothing tells: a score of cells hardly notices them, that of modes does."""
    rng = np.random.default_rng(9)
    common = 30 * rng.normal(size=(64, 1, 1, 1)) * np.cos(2 * np.pi * np.arange(16) / 16)[:, None, None]
    first, second, real = rng.normal(size=(3, 64, 16, 16, 1))

    def score(scatter):
        return float(mode_score(*((common + x).astype("float32") for x in (scatter * first, scatter * second, real))))

    scores = [score(scatter) for scatter in (0.3, 1.0, 3.0)]
    assert scores[1] < 0.9 * scores[0] and scores[1] < 0.8 * scores[2]


def test_scales_that_are_nearly_known_should_scatter_as_the_truth():
    """Large scales that are known to a percent count as much as any other."""
    rng = np.random.default_rng(9)
    wave = np.cos(2 * np.pi * np.arange(16) / 16)[:, None, None]
    common, (first, second, real) = 100 * rng.normal(size=(64, 1, 1, 1)), rng.normal(size=(3, 64, 1, 1, 1))
    white = rng.normal(size=(3, 64, 16, 16, 1))

    def score(scatter):
        waves = (common + x for x in (scatter * first, scatter * second, real))
        return float(mode_score(*((w * wave + x).astype("float32") for w, x in zip(waves, white, strict=True))))

    assert score(0.0) - score(1.0) > 0.003


def test_mode_score_of_nearly_empty_maps():
    """Neither a truth without power nor a generator without it makes much more of a mode than itself."""
    rng = np.random.default_rng(10)
    full, faint = rng.normal(size=(4, 8, 8, 1)).astype("float32"), 1e-5 * rng.normal(size=(4, 8, 8, 1))
    for fake, real in ((full, faint.astype("float32")), (faint.astype("float32"), full)):
        assert float(mode_score(fake, fake, real)) < 4


def test_mode_score_of_empty_maps():
    empty = np.zeros((2, 8, 8, 1), np.float32)
    assert float(mode_score(empty, empty, empty)) == 0


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("scatter", [0.8, 1.0, 1.3])
def test_spread_loss(scatter, window):
    """ln of what realisations scatter by over what they miss the truth by, whatever all of them have in common."""
    common, first, second, real = np.random.default_rng(11).normal(size=(4, 64, 64, 64, 1))
    maps = [(30 + common + x).astype("float32") for x in (scatter * first, scatter * second, real)]
    expected = np.log(1.5 * scatter**2 / (1 + 0.5 * scatter**2))
    assert float(spread_loss(*maps, window)[1]) == pytest.approx(expected, abs=0.03)


def test_spread_loss_by_octave():
    """Realisations that differ by too much on the largest scale alone: one bin of 46, but one octave of seven."""
    first, second, real = np.random.default_rng(11).normal(size=(3, 64, 64, 64, 1))
    wave = 100 * np.cos(2 * np.pi * np.arange(64) / 64)[:, None, None]
    maps = [x.astype("float32") for x in (first + wave, second - wave, real)]
    by_bin, by_octave = (float(spread_loss(*maps, by_octave=by)[1]) for by in (False, True))
    assert 0 < by_bin < 0.05 and by_octave > 4 * by_bin


def test_spread_loss_is_of_each_map_and_of_all():
    """Maps that are hard to tell have too little spread, and those that are not too much: neither makes up for it."""
    noise = np.random.default_rng(11).normal(size=(3, 64, 64, 64, 1)).astype("float32")
    size = np.where(np.arange(64) < 32, 10.0, 1.0).astype("float32")[:, None, None, None]
    first, second, real = noise[0] * 6, noise[1] * 6, noise[2] * size
    hard, easy = (float(spread_loss(first[half], second[half], real[half])[1]) for half in (slice(32), slice(32, 64)))
    assert hard < -0.4 and easy > 0.8
    of_all = np.log(3 * 2 * 36 / (2 * 36 + 4 * (100 + 1) / 2))
    assert float(spread_loss(first, second, real)[1]) == pytest.approx(((hard + easy) / 2 + of_all) / 2, abs=0.05)


def test_spread_loss_of_maps_without_any():
    maps, empty = (
        np.random.default_rng(12).normal(size=(8, 8, 8, 1)).astype("float32"),
        np.zeros((8, 8, 8, 1), "float32"),
    )
    assert [float(x) for x in spread_loss(empty, empty, empty)] == [0, 0]
    assert [float(x) for x in spread_loss(maps, maps, maps)] == [0, 0]  # the truth itself
    assert float(spread_loss(maps, maps, -maps)[0]) == 1


@pytest.mark.parametrize("start", [0.1, 3.0])
def test_spread_loss_moves_realisations_apart_or_together(start):
    """By descent along its gradient alone noise that is too little grows, and too much of it shrinks, to the right."""
    first, second, real = np.random.default_rng(13).normal(size=(3, 256, 8, 8, 1)).astype("float32")
    scatter = tf.Variable(np.log(start), dtype="float32")
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = spread_loss(tf.exp(scatter) * first, tf.exp(scatter) * second, real)[1]
        scatter.assign_sub(0.1 * tape.gradient(loss, scatter))
    assert np.exp(scatter.numpy()) == pytest.approx(1.0, abs=0.1)


def test_spectral_crps_of_slopes():
    """Power that is too high by the same factor in all bins has no wrong slopes; a floor hides what is below it."""
    real = np.random.default_rng(9).normal(size=(3, 16, 16)).astype("float32")
    steepness = 0.4
    # A bin is one fundamental wide: powers there grow by exp(steepness) from bin to bin, within a bin's width.
    k = 16 * np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.rfftfreq(16), indexing="ij"))
    steep = np.fft.irfft2(np.fft.rfft2(real) * np.exp(steepness / 2 * np.round(k)), (16, 16)).astype("float32")

    def slopes(fake, **options):
        fake, true = fake[..., None], real[..., None]
        without, alone = (float(spectral_crps(fake, fake, true, slope_weight=w, **options)) for w in (0.0, 1.0))
        return alone - without

    assert slopes(3 * real, floor=1e-6) == pytest.approx(0.0, abs=1e-4)
    assert slopes(steep, floor=1e-6) == pytest.approx(steepness, rel=0.1)
    assert slopes(steep, floor=1e6) < 1e-3
    assert slopes(steep, floor=1e-6, by_axis=True) == pytest.approx(steepness, rel=0.1)
