import healpy as hp
import numpy as np
import pytest

import higan.painting.sphere as sphere
from higan.checkpoint import shipped_folder
from higan.emulator import Emulator
from higan.errors import MapSetError, ParameterError
from higan.mapset import UNSEEN, Geometry
from higan.networks.layers import within
from higan.painting import faces
from higan.painting.painter import Painter
from higan.painting.sphere import BLEND, Sky, cell_angle, cells_along_face, paint_sky
from tests import tiny

NSIDE = 32
THETA = np.array([[2.0, 15.0]])
PARAMETERS = {"BIAS": 2.0, "T_MEAN": 15.0}
ANGLE = float(hp.nside2resol(NSIDE, arcmin=True))


@pytest.fixture(scope="module")
def painter():
    return tiny.painter()


@pytest.fixture(scope="module")
def smoothed():
    """One that sees noise of larger scales than its coarsest level, too."""
    return tiny.painter(widths=[8], bottom_blocks=1, smoothed_noise=2, cellwise=True)


@pytest.fixture(scope="module")
def isotropic():
    """One that knows no directions, whose cells share what is drawn."""
    return tiny.painter(isotropic=True, spilled=True, exclusion=[2], cellwise=True)


def gaussian_alm(C, seed=3):
    """Coefficients a_lm of a Gaussian field of power C (lmax + 1,)."""
    lmax = len(C) - 1
    degree, m = hp.Alm.getlm(lmax)
    real, imaginary = np.random.default_rng(seed).normal(size=(2, m.size)) * np.sqrt(C[degree] / 2)
    return np.where(m == 0, np.sqrt(2) * real, real + 1j * imaginary)


@pytest.fixture(scope="module")
def density():
    """A sky with C_l ~ (l + 5)^-2, RING."""
    sky = hp.alm2map(gaussian_alm((np.arange(3 * NSIDE) + 5.0) ** -2), NSIDE)
    return (0.3 * sky / sky.std()).astype("float32")


def paint(painter, sky, **options):
    return paint_sky(painter, sky[:, None], THETA, **{"n": NSIDE, "seed": 5, **options})[:, 0]


def identity(monkeypatch, **changes):
    """A painter whose network gives back its input."""
    painter = tiny.painter(outputs=("density",), **changes)
    painter.outputs = painter.inputs
    monkeypatch.setattr(painter, "_forward", lambda inputs, around: within(inputs[0], around))
    return painter


@pytest.mark.parametrize(
    ("nside", "n", "out", "width"),
    # Pixels that are cells change nothing. Where two regriddings follow each other, each by less than a factor of two,
    # one multipole may be off by 2 %, but not a band of nine.
    [(32, 32, 32, 1), (64, 54, 32, 1), (64, 38, 32, 9)],
)
@pytest.mark.parametrize("rotation", [(0, 0, 0), (40, 25, 70)])
def test_the_power_of_a_smooth_field_is_kept(monkeypatch, nside, n, out, width, rotation):
    """Through a network that changes nothing, however the sky lies, C_l stays what it was up to l = 2 nside."""
    lmax = 3 * out
    alm = gaussian_alm((np.arange(lmax + 1) + 5.0) ** -2.5)
    hp.Rotator(rot=rotation).rotate_alm(alm, inplace=True)
    # Means over pixels: of 16 sub-pixels each, and over the pixels of the input.
    fine = hp.alm2map(alm, 4 * nside, lmax=lmax)
    painted = paint(identity(monkeypatch), hp.ud_grade(fine, nside).astype("float32"), n=n, nside=out)
    found, expected = (
        hp.anafast(sky, lmax=2 * out)[2:].reshape(-1, width).mean(axis=1) for sky in (painted, hp.ud_grade(fine, out))
    )
    assert np.abs(found / expected - 1).max() < (1e-5 if n == out else 0.01)
    np.testing.assert_allclose(painted.mean(), fine.mean(), atol=1e-5)


def test_the_same_seed_gives_the_same_sky(painter, density):
    first = paint(painter, density)
    assert first.std() > 0.5
    np.testing.assert_array_equal(paint(painter, density), first)
    nested = paint(painter, hp.reorder(density, r2n=True), ordering="NESTED")
    np.testing.assert_array_equal(hp.reorder(nested, n2r=True), first)
    for change in ({"seed": 6}, {"row": 1}, {"realisation": 1}):
        assert np.abs(paint(painter, density, **change) - first).max() > 0.1


@pytest.mark.parametrize("name", ["painter", "smoothed"])
def test_tiles_are_the_whole(name, density, monkeypatch, request):
    painter = request.getfixturevalue(name)
    whole = paint(painter, density)
    monkeypatch.setattr(sphere, "LARGEST_WHOLE", 48**2)
    sides = []
    paint_host = painter.paint_host
    monkeypatch.setattr(painter, "paint_host", lambda f, *rest: sides.append(f.shape[1]) or paint_host(f, *rest))
    np.testing.assert_allclose(paint(painter, density), whole, atol=1e-4 * 8)
    assert len(sides) >= 48 and max(sides) <= 48


@pytest.mark.parametrize("name", ["painter", "smoothed"])
def test_faces_agree_where_the_lattice_goes_on(name, density, request):
    """A polar face paints what its equatorial neighbours paint: the border cannot be seen, blended or not."""
    painter = request.getfixturevalue(name)
    sky = Sky(painter, density[:, None], NSIDE, "RING")
    painted = [sky.paint(face, THETA, seed=5, row=0)[..., 0] for face in range(12)]
    inner = slice(sky.reach, sky.reach + NSIDE)
    flat = np.concatenate([values[inner, inner].ravel() for values in painted])
    away = slice(sky.margin, NSIDE - sky.margin)  # so far from the vertices no missing quadrant is seen
    for face in range(4):
        for region in ((-BLEND, 0), (0, NSIDE)), ((0, NSIDE), (-BLEND, 0)):
            (x0, x1), (y0, y1) = region
            there = faces.cells(NSIDE, face, (x0, y0), (x1, y1))
            assert set(np.unique(there // NSIDE**2)) <= {4, 5, 6, 7}
            here = painted[face][x0 + sky.reach : x1 + sky.reach, y0 + sky.reach : y1 + sky.reach]
            cut = (slice(None), away) if x0 < 0 else (away, slice(None))
            np.testing.assert_allclose(here[cut], flat[there][cut], atol=1e-3)


def test_faces_agree_where_the_lattice_turns(density, isotropic):
    """From one polar face to the next it turns by a right angle, which is nothing to a network without directions."""
    sky = Sky(isotropic, density[:, None], NSIDE, "RING")
    painted = [sky.paint(face, THETA, seed=5, row=0)[..., 0] for face in range(4)]
    inner = slice(sky.reach, sky.reach + NSIDE)
    flat = np.concatenate([values[inner, inner].ravel() for values in painted])
    away = slice(sky.margin, NSIDE - sky.margin)
    for face in range(4):
        beyond = slice(NSIDE, NSIDE + BLEND)
        for region, cut in (((beyond, slice(0, NSIDE)), np.s_[:, away]), ((slice(0, NSIDE), beyond), np.s_[away])):
            x, y = region
            there = faces.cells(NSIDE, face, (x.start, y.start), (x.stop, y.stop))
            assert len({face, *np.unique(there // NSIDE**2)} & {0, 1, 2, 3}) == 2
            here = painted[face][tuple(slice(side.start + sky.reach, side.stop + sky.reach) for side in region)]
            np.testing.assert_allclose(here[cut], flat[there][cut], atol=1e-3)


def test_edges_between_polar_faces_cannot_be_seen():
    """The lattice turns there; a trained network paints steps as within faces, beside vertices, too."""
    painter = Painter.load(shipped_folder("checkpoints") / "eor21cm-2d")
    theta = np.array([[(p.lower + p.upper) / 2 for p in painter.card.parameters]])
    n = 64
    squares = {"edge": [], "vertex": [], "within": []}
    for seed in range(4):
        sky = hp.alm2map(gaussian_alm((np.arange(3 * n) + 5.0) ** -1.0, seed), n)
        sky = (np.exp(0.3 * sky / sky.std() - 0.045) - 1).astype("float32")
        on_faces = faces.to_faces(paint_sky(painter, sky[:, None], theta, n=n, seed=seed)[:, 0], "RING")
        for face in (0, 1, 2, 3, 8, 9, 10, 11):
            polar = n if face < 4 else 0  # the sides towards the pole
            for axis in (0, 1):
                first, last = [0, 0], [n, n]
                first[axis], last[axis] = polar - 1, polar + 1
                cells = faces.cells(n, face, tuple(first), tuple(last))
                assert set(np.unique(cells // n**2)) <= set(range(4) if face < 4 else range(8, 12))
                step = np.diff(on_faces.reshape(-1)[cells], axis=axis).ravel() ** 2
                squares["edge"].append(step)
                # Away from the pole, where three faces meet.
                squares["vertex"].append(step[:4] if face < 4 else step[-4:])
                squares["within"].append(np.diff(on_faces[face], axis=axis)[8:-8, 8:-8].ravel() ** 2)
    edge, vertex, within = (np.concatenate(squares[name]).mean() for name in ("edge", "vertex", "within"))
    assert (
        0.75 < edge / within < 1.25
    )  # 0.88 ± 0.03 of twelve skies, 1.25 of the density: pixels are farther apart there
    assert 0.3 < vertex / within < 2


def test_weights_of_all_faces_add_up_to_one():
    for n, blend, reach in ((16, 4, 4), (16, 3, 4), (8, 2, 8)):
        total = np.zeros(12 * n * n)
        for face in range(12):
            np.add.at(
                total, faces.cells(n, face, (-reach,) * 2, (n + reach,) * 2), sphere.face_weights(n, face, blend, reach)
            )
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_noise_is_white_on_the_sphere():
    """Looked up at cells, it has the C_l of independent pixels: the area of one."""
    from higan.networks.config import GeneratorConfig
    from higan.noise import noise_of_cells

    (noise,) = noise_of_cells(
        GeneratorConfig(widths=[4], noise_channels=1), [np.arange(12 * 64**2).reshape(12, 64, 64)], seed=1, rows=[0]
    )
    power = hp.anafast(faces.from_faces(noise[0, ..., 0], "RING"), lmax=128)[2:]
    modes = (2 * np.arange(2, 129) + 1).sum()
    assert abs(np.average(power, weights=2 * np.arange(2, 129) + 1) / hp.nside2pixarea(64) - 1) < 4 * (2 / modes) ** 0.5


def test_a_mask_hides_and_leaves_the_rest_alone(painter, density):
    """What is painted away from masked pixels is what it was; masked ones are UNSEEN, whichever their mark."""
    whole = paint(painter, density)
    face = faces.from_faces(np.repeat(np.arange(12), NSIDE**2).reshape(12, NSIDE, NSIDE), "RING")
    masked = np.where(face == 6, UNSEEN, density).astype("float32")
    painted = paint(painter, masked)
    np.testing.assert_array_equal(painted == np.float32(UNSEEN), face == 6)
    np.testing.assert_array_equal(painted[face == 4], whole[face == 4])
    assert np.isfinite(painted).all() and np.abs(painted[(face == 1)] - whole[face == 1]).max() > 0
    np.testing.assert_array_equal(paint(painter, np.where(face == 6, np.nan, density)), painted)
    with pytest.raises(MapSetError, match="All pixels of the sky are masked"):
        paint(painter, np.full_like(density, UNSEEN))


def test_a_face_that_is_masked_is_not_painted(painter, density, monkeypatch):
    face = faces.from_faces(np.repeat(np.arange(12), NSIDE**2).reshape(12, NSIDE, NSIDE), "RING")
    calls = []
    paint_host = painter.paint_host
    monkeypatch.setattr(painter, "paint_host", lambda *a: calls.append(1) or paint_host(*a))
    monkeypatch.setattr(sphere, "BLEND", 0)
    paint(painter, np.where(face < 4, density, UNSEEN))
    assert len(calls) == 4


def test_the_emulator_paints_skies(painter, density):
    emulator = Emulator(painter)
    sky = emulator.sample_sky(density, PARAMETERS, seed=5, cell_angle=ANGLE)
    np.testing.assert_array_equal(sky, paint(painter, density))
    draws = emulator.sample_sky({"density": density}, PARAMETERS, seed=5, cell_angle=ANGLE, realisations=2, nside=8)
    assert draws.shape == (2, 12 * 64)
    np.testing.assert_allclose(draws[0], hp.ud_grade(sky, 8), rtol=1e-5)
    for fields, options, words in (
        (density[:-1], {}, "no full sky"),
        (density, {"cell_angle": ANGLE / 2}, "coarser than a cell of tiny"),
        (density, {"nside": 64}, "finer than the cells"),
        ({"rho": density}, {}, "paints on density"),
        (density[None], {}, "one axis"),
    ):
        with pytest.raises(MapSetError, match=words):
            emulator.sample_sky(fields, PARAMETERS, seed=5, **{"cell_angle": ANGLE, **options})
    with pytest.raises(ParameterError, match="BIAS"):
        emulator.sample_sky(density, {"BIAS": 9.0, "T_MEAN": 15.0}, seed=5, cell_angle=ANGLE)


def test_the_angle_of_a_cell():
    """2 Mpc at z = 8, 9132 Mpc away (Planck18)."""
    card = tiny.card()
    angle = cell_angle(card, redshift=8.0, thickness=8.0)
    np.testing.assert_allclose(angle, np.degrees(2 / 9132.3) * 60, rtol=1e-4)
    # Einstein-de Sitter: 2 c / H0 (1 - 1/3).
    flat = cell_angle(card, redshift=8.0, thickness=8.0, cosmology={"h": 0.5, "Omega_m": 1.0})
    np.testing.assert_allclose(flat, np.degrees(2 / (4 / 3 * 2.99792458e5 / 50)) * 60, rtol=1e-2)
    for options, words in (
        ({"redshift": None}, "redshift of the shell is unknown"),
        ({"thickness": None}, "thickness of the shell is unknown"),
        ({"thickness": 20.0}, "20 Mpc thick"),
        ({"redshift": 7.0}, "trained at z = 8"),
    ):
        with pytest.raises(MapSetError, match=words):
            cell_angle(card, **{"redshift": 8.0, "thickness": 8.0, **options})


def test_cells_along_a_face():
    card = tiny.card(widths=[4, 4, 4])  # stride 4
    npix = 12 * 64**2

    def angle(n):
        return float(np.degrees(faces.pixel_angle(n)) * 60)

    assert cells_along_face(card, npix, angle(64)) == 64
    assert cells_along_face(card, npix, angle(64.9)) == 64  # near enough not to regrid
    assert cells_along_face(card, npix, angle(40.3)) == 40
    with pytest.raises(MapSetError, match="paints multiples of 4"):
        cells_along_face(card, npix, angle(10))
    with pytest.raises(MapSetError, match="coarser than a cell of tiny"):
        cells_along_face(card, npix, angle(100))


def test_a_pixel_is_the_cell_of_a_sky():
    geometry = Geometry(kind="healpix", ndim=1, thickness=8.0)
    np.testing.assert_allclose(geometry.cell((12 * NSIDE**2,)), ANGLE)
    assert geometry.length_units == "arcmin"
