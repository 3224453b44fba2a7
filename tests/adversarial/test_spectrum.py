import numpy as np
import pytest

from higan.adversarial.spectrum import spectral_loss
from higan.validation.power_spectrum import power_spectrum


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("shape", [(32,), (16, 16), (12, 10), (8, 8, 8), (7, 9)])
def test_spectral_loss_is_that_of_the_validation(shape, window):
    """The bins and sums of R(k) as the validation defines it, with an offset a hundred times the scatter."""
    rng = np.random.default_rng(3)
    real, fake = (100 + rng.normal(size=(4, *shape, 2)) for _ in range(2))
    fake[..., 1] *= 3.0
    expected = []
    for channel in range(2):
        P = [power_spectrum(maps[..., channel], 1.0, window)[1].sum(axis=0) for maps in (fake, real)]
        expected.append(np.abs(P[0] / P[1] - 1).mean())
    fake, real = fake.astype("float32"), real.astype("float32")
    found = float(spectral_loss(fake, real, window))
    assert found == pytest.approx(np.mean(expected), rel=1e-3)
    assert float(spectral_loss(real, real, window)) == 0


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
