import math

import numpy as np
import pytest

from higan.errors import ParameterError
from higan.networks.config import GeneratorConfig
from higan.painting.painter import receptive_radius
from higan.painting.regions import LARGEST_WHOLE, MOST_AT_ONCE, SEEN, _default_sides, batch_of, once_each, paint_maps
from tests import tiny

# Sums of float32 run in another order in a tile: 1e-4 of a map's scatter, in scaled space.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def painters():
    """Two- and three-dimensional painters with four-fold strides in the first."""
    return {
        2: tiny.painter(widths=[4, 6, 8]),
        3: tiny.painter(ndim=3, widths=[4, 6]),
        "deep": tiny.painter(widths=[2, 2, 2, 2]),
        "top-hats": tiny.painter(widths=[4, 6], top_hats=[1.0, 6.0]),
        "excursion": tiny.painter(widths=[4, 6], excursion_set={"smallest": 0.9, "step": 1.6, "radii": 3}),
        "boxes": tiny.painter(
            ndim=3,
            widths=[4, 6],
            top_hats=[1.0, 2.8],
            stochastic_barrier=True,
            smoothed_noise=2,
            exclusion=[1, 3],
            **dict.fromkeys(
                ["normalised", "isotropic", "interpolated", "tracing", "gated", "cellwise", "spilled", "diffuse"], True
            ),
        ),
    }


def paint(painter, shape, n=2, seed=5, rows=None, fields=None, **options):
    """Painted maps, in scaled space."""
    if fields is None:
        fields = 0.3 * np.random.default_rng(0).normal(size=(n, *shape, 1)).astype("float32")
    theta = np.linspace([1.2, 12.0], [2.8, 19.0], len(fields))
    rows = np.arange(len(fields)) if rows is None else rows
    out = paint_maps(painter, fields, theta, seed=seed, rows=rows, **options)
    assert out.shape == (len(fields), *shape, 1) and out.dtype == np.float32
    return painter.outputs[0].forward(out[..., 0])


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("ndim", "shape", "tiles"),
    [
        (2, (48, 48), (4, 16, 30)),
        (2, (64, 16), (16, 40)),
        (2, (50, 70), (16, 33)),
        (3, (20, 16, 24), (10, 16)),
        ("top-hats", (40, 50), (7, 16)),
        ("excursion", (37, 50), (7, 16)),
        ("boxes", (20, 24, 16), (9,)),  # all that the shipped boxes' networks have
    ],
)
def test_tiles_are_the_whole(painters, ndim, shape, tiles, periodic):
    whole = paint(painters[ndim], shape, periodic=periodic)
    assert whole.std() > 0.1
    for tile in tiles:
        tiled = paint(painters[ndim], shape, periodic=periodic, tile=tile)
        np.testing.assert_allclose(tiled, whole, atol=TOLERANCE)


def test_a_centred_map_is_painted_whole():
    """It has one middle, whatever tiles are asked for, and its sides meet as in training."""
    painter = tiny.painter(widths=[4, 6], centred=True, latent=3)
    whole = paint(painter, (16, 16))
    assert whole.std() > 0.1
    for options in ({"tile": 4}, {"periodic": False}):
        np.testing.assert_array_equal(paint(painter, (16, 16), **options), whole)


def test_tiles_are_painted_with_the_weights_of_now():
    """A training paints its validation maps with a network that goes on changing."""
    painter = tiny.painter(widths=[4, 6])
    before = paint(painter, (48, 48), tile=16)
    for variable in painter.model.trainable_variables:
        variable.assign(1.1 * variable)
    tiled = paint(painter, (48, 48), tile=16)
    assert np.abs(tiled - before).max() > 0.05
    np.testing.assert_allclose(tiled, paint(painter, (48, 48)), atol=TOLERANCE)


def test_tiles_that_saw_less_would_not_be(monkeypatch):
    """Tests of tiles can fail: where the way up begins with a cell less on every side, seams show."""
    painter = tiny.painter(widths=[4, 6, 8], interpolated=True)
    whole, less = paint(painter, (48, 48)), [n - 1 for n in painter.card.network.reaches]
    np.testing.assert_allclose(paint(painter, (48, 48), tile=16), whole, atol=TOLERANCE)
    monkeypatch.setattr(GeneratorConfig, "reaches", less)
    assert np.abs(paint(painter, (48, 48), tile=20) - whole).max() > 3 * TOLERANCE


@pytest.mark.parametrize("fields", [True, False])
@pytest.mark.parametrize(
    ("levels", "options"),
    [
        (1, {}),
        (2, {"spilled": True}),
        (4, {"interpolated": True, "bottom_blocks": 3}),
        (3, {"smoothed_noise": 4}),
        (2, {"exclusion": [1, 9]}),
        (4, {"top_hats": [1.0, 16.0]}),
        (3, {"bottom_blocks": 1, "top_hats": [16.0], "exclusion": [2]}),
    ],
)
def test_margins_are_receptive_radii(levels, options, fields):
    """Counted in two ways: where the way up starts, and how far a cell is seen, wherever in a coarse one it lies."""
    config = GeneratorConfig(**{**tiny.NETWORK, "widths": [4] * levels, **options})
    h, s, margin = receptive_radius(config, fields), config.stride, config.tile_margin(fields)
    assert margin % s == 0 and h - s < margin < h + s
    assert all(cells >= 0 for level in config.spared([margin]) for cells in level)


def test_large_maps_are_tiled_by_themselves(painters, monkeypatch):
    shape = (16, 420)
    whole = paint(painters[2], shape)
    calls, paint_host = [], painters[2].paint_host
    monkeypatch.setattr("higan.painting.regions.MOST_AT_ONCE", 16 * 100)
    monkeypatch.setattr(painters[2], "paint_host", lambda *a: calls.append(a[0].shape) or paint_host(*a))
    np.testing.assert_allclose(paint(painters[2], shape), whole, atol=TOLERANCE)
    # A margin of 28 on both sides, of which 4 cells take as much as those of the tile and 24 a quarter of that, 92 in
    # all: six tiles of 72 share 420, the last of which is shorter; five of 84 would take more.
    assert calls == [(2, 16, n + 2 * 28, 1) for n in (72, 72, 72, 72, 72, 60)]


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("extent", "tiled"),
    [
        ((1024, 1024), False),
        ((2048, 2048), True),
        ((4096, 64), False),
        ((32768, 512), True),
        ((64, 64, 64), False),
        ((256, 256, 256), True),
        ((1024, 160, 160), True),
    ],
)
def test_tiles_cost_no_more_than_they_save(extent, tiled, periodic):
    """Strides of 4 and 8, margins of 40 and 80 cells, as shipped: tiles take half of the memory at most."""
    for s, margin, reach in ((4, 40, 4), (8, 80, 4), (4, 48, 9)):
        sides = _default_sides(extent, s, margin, reach, periodic)
        assert (sides != list(extent)) == tiled and all(side % s == 0 for side in sides)
        margins = [0 if periodic and side == n else margin for side, n in zip(sides, extent, strict=True)]
        painted, seen = (
            math.prod(side + 2 * min(m, most) for side, m in zip(sides, margins, strict=True))
            for most in (reach, margin)
        )
        assert not tiled or painted + SEEN * (seen - painted) <= min(MOST_AT_ONCE, math.prod(extent) / 2)
        # Of narrow tiles margins are most of the work: no narrower than they have to be.
        assert seen <= (120 if len(extent) == 3 else 4) * math.prod(sides)


@pytest.mark.parametrize("margin", [24, 80])
def test_what_is_painted_at_once_does_not_grow_with_the_box(margin):
    """By default, whatever the margins; the box whole would be 134 or 1,074 million cells."""
    sides = [_default_sides([n] * 3, 8, margin, 4, True) for n in (512, 1024)]
    at_once = [SEEN * math.prod(n + 2 * margin for n in side) for side in sides]
    at_once = [a + (1 - SEEN) * math.prod(n + 8 for n in side) for a, side in zip(at_once, sides, strict=True)]
    assert at_once[1] <= 1.2 * at_once[0] and max(at_once) <= MOST_AT_ONCE
    assert _default_sides((1024, 160, 160), 8, margin, 4, True)[1:] == [160, 160]  # no margins where none are needed


@pytest.mark.parametrize("tile", [-8, 0, 8.0, "8"])
def test_bad_tiles(painters, tile):
    with pytest.raises(ParameterError, match="tile must be a whole number of at least 1, received "):
        paint(painters[2], (16, 16), tile=tile)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(50, 70), (3, 5), (1, 40), (17, 16)])
def test_any_size(painters, shape, periodic):
    out = paint(painters["deep"], shape, periodic=periodic)
    assert np.isfinite(out).all()


def test_away_from_the_seam_an_odd_size_is_like_any_other(painters):
    """Cells farther than h from the seam at the origin do not know how the map was extended."""
    painter = painters[2]
    h, s = painter.card.receptive_radius, painter.card.stride
    rng = np.random.default_rng(0)
    fields = 0.3 * rng.normal(size=(1, 112, 16, 1)).astype("float32")
    # Open and periodic continuations of a map of 110 (no multiple of the stride) differ at its ends alone.
    found = [
        paint(painter, (110, 16), fields=fields[:, :110], periodic=p, tile=t) for p, t in ((True, None), (True, 40))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=TOLERANCE)
    longer = paint(painter, (112, 16), fields=fields)
    inner = slice(h, 110 - h)
    assert 110 % s and inner.stop - inner.start > 30
    np.testing.assert_allclose(found[0][:, inner], longer[:, inner], atol=TOLERANCE)
    assert np.abs(found[0][:, :h] - longer[:, :h]).max() > 100 * TOLERANCE


def test_periodic_maps_roll(painters):
    """With noise that rolls too, which a region at another origin has."""
    painter, s = painters[2], painters[2].card.stride
    fields = 0.3 * np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype("float32")
    rolled = np.roll(fields, 2 * s, axis=1)
    theta = np.array([[2.0, 15.0]])
    whole = painter.paint_host(fields, theta, painter.noise((32, 32), seed=1, rows=[0]))
    noise = painter.noise((32, 32), seed=1, rows=[0], origin=(-2 * s, 0), period=(32, 32))
    np.testing.assert_allclose(painter.paint_host(rolled, theta, noise), np.roll(whole, 2 * s, axis=1), atol=1e-3)


def test_open_maps_are_continued_by_reflection(painters):
    """Painting an open map is painting the middle of the map continued by hand."""
    painter = painters[2]
    h = painter.card.receptive_radius
    margin = -(-h // painter.card.stride) * painter.card.stride
    fields = 0.3 * np.random.default_rng(0).normal(size=(1, 32, 24, 1)).astype("float32")
    found = paint(painter, (32, 24), fields=fields, periodic=False)
    mirrored = np.pad(fields, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    noise = painter.noise(mirrored.shape[1:-1], seed=5, rows=[0], origin=(-margin, -margin))
    by_hand = painter.paint_host(mirrored, np.array([[1.2, 12.0]]), noise)[..., 0]
    by_hand = painter.outputs[0].forward(by_hand[:, margin:-margin, margin:-margin])
    np.testing.assert_allclose(found, by_hand, atol=TOLERANCE)
    # Opposite sides do not touch: a change at one end is not seen at the other.
    changed = fields.copy()
    changed[:, -1] += 3.0
    difference = np.abs(paint(painter, (32, 24), fields=changed, periodic=False) - found)
    assert difference[:, 0].max() < 1e-6 < 0.01 < difference[:, -1].max()


def test_shards_are_slices_of_the_whole(painters):
    fields = 0.3 * np.random.default_rng(0).normal(size=(6, 16, 16, 1)).astype("float32")
    theta, painter = np.linspace([1.2, 12.0], [2.8, 19.0], 6), painters[2]
    whole = paint_maps(painter, fields, theta, seed=1, rows=np.arange(6), realisations=np.arange(6) % 2)
    for rows in ([2, 3], [5], [4, 0]):
        part = paint_maps(painter, fields[rows], theta[rows], seed=1, rows=rows, realisations=np.array(rows) % 2)
        np.testing.assert_allclose(part, whole[rows], atol=8 * TOLERANCE)
    other = paint_maps(painter, fields[[2]], theta[[2]], seed=1, rows=[3])
    assert np.abs(other - whole[[2]]).max() > 0.1


@pytest.mark.parametrize("tile", [None, 16])
def test_realisations_of_a_map_are_painted_on_it_once(painters, tile, monkeypatch):
    fields = 0.3 * np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    theta, painter = np.array([[1.2, 12.0], [2.8, 19.0]]), painters[2]
    row, draw = np.repeat([4, 7], 3), np.tile(np.arange(3), 2)
    options = {"seed": 1, "rows": row, "realisations": draw, "tile": tile}
    apart = paint_maps(painter, fields[[0, 0, 0, 1, 1, 1]], theta[[0, 0, 0, 1, 1, 1]], **options)
    seen, paint_host = set(), painter.paint_host
    monkeypatch.setattr(painter, "paint_host", lambda f, *rest: seen.add(len(f)) or paint_host(f, *rest))
    together = paint_maps(painter, fields, theta, **options)
    assert seen == {2}
    np.testing.assert_allclose(together, apart, atol=8 * TOLERANCE)
    assert np.abs(apart - np.roll(apart, 1, axis=0)).max(axis=(1, 2)).min() > 0.1  # the order is not left to chance


def test_realisations_are_painted_by_whole_maps():
    """A batch of some maps, or of a part of one, so that what they share can be shared; of any size if none fits."""
    for shape in [(64, 64), (500, 500), (64, 64, 64), (16, 16, 16)]:
        for realisations in [1, 2, 3, 8, 11, 32, 100]:
            size = batch_of(shape, realisations)
            assert size % realisations == 0 or realisations % size == 0
            assert size * np.prod(shape) <= LARGEST_WHOLE
    runs = [0], [0, 0, 0], [0, 1, 2], [0, 0, 1, 1, 0, 0], [0, 0, 1]
    found = [len(maps) // len(once_each(np.array(maps))) for maps in runs]
    assert found == [1, 3, 1, 2, 1]


def test_three_dimensional_noise_and_fields_line_up(painters):
    """A tile's noise is that of its place: with the noise of the origin everywhere, tiles would differ."""
    painter = tiny.painter(ndim=3, widths=[4, 6])
    whole = paint(painter, (16, 16, 16), n=1)
    look_up = painter.noise
    painter.noise = lambda shape, origin, **rest: look_up(shape, origin=(0, 0, 0), **rest)
    assert np.abs(paint(painter, (16, 16, 16), n=1, tile=8) - whole).max() > 100 * TOLERANCE
