import healpy as hp
import numpy as np
import pytest

from higan.painting import faces

N = 8


def all_pixels(n):
    """RING pixels by the number of their cell."""
    return np.concatenate([faces.order(n, "RING", face).ravel() for face in range(12)])


def test_the_lattice_goes_on_as_healpix_does():
    """Every cell's neighbours, across edges and vertices, are those that healpy finds."""
    pixel = all_pixels(N)
    for face in range(12):
        around = pixel[faces.cells(N, face, (-1, -1), (N + 1, N + 1))]
        for x in range(N):
            for y in range(N):
                found = set(around[x : x + 3, y : y + 3].ravel().tolist())
                assert found - {around[x + 1, y + 1]} == set(hp.get_all_neighbours(N, around[x + 1, y + 1])) - {-1}


def test_margins_are_unbroken_but_for_the_missing_quadrants():
    """Cells side by side in a wide margin touch on the sky, except across the diagonal of a missing quadrant."""
    pixel = np.array(hp.pix2vec(N, all_pixels(N))).T
    for face in range(12):
        place = pixel[faces.cells(N, face, (-N, -N), (2 * N, 2 * N))]
        x, y = np.meshgrid(np.arange(-N, 2 * N), np.arange(-N, 2 * N), indexing="ij")
        missing = np.zeros(x.shape, dtype=bool)
        for (i, j), there in np.ndenumerate(faces.has_quadrant(face)):
            missing |= ((x >= N) if i else (x < 0)) & ((y >= N) if j else (y < 0)) & (not there)
        for axis in (0, 1):
            step = np.linalg.norm(np.diff(place, axis=axis), axis=-1) / hp.nside2resol(N)
            both = [np.take(missing, range(k, 3 * N - 1 + k), axis=axis) for k in (0, 1)]
            assert step[~both[0] & ~both[1]].max() < 2
            assert (step > 2).sum() <= 4 * N  # along two diagonals
        assert missing.sum() == 2 * N * N


def test_orderings():
    ring = np.arange(12 * N * N)
    nested = hp.reorder(ring, r2n=True)
    np.testing.assert_array_equal(faces.to_faces(ring, "RING"), faces.to_faces(nested, "NESTED"))
    for ordering in ("RING", "NESTED"):
        np.testing.assert_array_equal(faces.from_faces(faces.to_faces(ring, ordering), ordering), ring)
    # Any n has an order of rings.
    assert sorted(all_pixels(6)) == list(range(12 * 36))
    with pytest.raises(ValueError, match="no full sky"):
        faces.side_of(12 * N * N - 1)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 11, 24])
def test_regridding_keeps_means_and_what_is_empty(n):
    rng = np.random.default_rng(2)
    values = np.where(rng.uniform(size=(12, N, N)) < 0.4, 0.0, 10 ** rng.uniform(0, 6, size=(12, N, N)))
    out = faces.regrid(values, n, lower=0.0, upper=values.max())
    np.testing.assert_allclose(out.mean(axis=(1, 2)), values.mean(axis=(1, 2)), rtol=1e-5)
    assert out.min() >= -1e-3 and out.max() <= values.max() * (1 + 1e-6)
    # What is empty stays so.
    block = np.ones((12, N, N))
    block[:, :4, :4] = 0
    assert np.abs(faces.regrid(block, n, 0.0, 1.0)[:, : n // 2 - 1, : n // 2 - 1]).max() < 1e-6


def test_regridding_of_a_smooth_field_is_nearly_exact():
    """Means over cells of a wave of 6 cells a period, against its integral; linear overlap would be off by 17 %."""
    m, n = 48, 35
    k = 2 * np.pi * 8

    def means(cells):
        edges = np.linspace(0, 1, cells + 1)
        wave = np.diff(np.sin(k * edges)) / k * cells
        return np.broadcast_to(wave[:, None] + 2 * wave[None, :], (12, cells, cells))

    np.testing.assert_allclose(faces.regrid(means(m), n)[:, 2:-2, 2:-2], means(n)[:, 2:-2, 2:-2], atol=0.02)
