"""Maps of the whole sky, painted on HEALPix's base faces.

A flat generator takes square cells of one size. The faces' lattices are the nearest that a sphere has to them: cells of
one area, as many along a face as make that area the generator's, and nothing interpolated between them, neither fields
nor noise. What it costs is shear: cells are rhombi, stretched by up to 1.2 along the equator and 1.5 across it where
|sin(latitude)| = 2/3. Grids on tangent planes keep cells square, but have to be filled from pixels and read back to
them, and each border between two of them is a seam across which neither lattice nor noise agree.

Each face is painted with a margin that is its neighbours', so that their maps are the same there but for the two cases
in which no lattice goes on unbroken: between two polar faces it is turned by 90°, and a quadrant is missing at the
eight vertices where three faces meet. Faces are blended over a few cells at their borders; noise there is that of the
cell, whichever face it is painted in, so that blending takes next to no variance away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.checkpoint import Card
from higan.errors import MapSetError, ParameterError
from higan.mapset import MASKED, UNSEEN, MapSet
from higan.noise import noise_of_cells
from higan.painting.faces import FACES, cells, from_faces, has_quadrant, pixel_angle, regrid, side_of, to_faces
from higan.painting.regions import LARGEST_WHOLE, check_count

if TYPE_CHECKING:
    from higan.painting.painter import Painter

BLEND = 4  # cells on either side of a face's border over which two faces are blended
ARCMIN = math.pi / 10800
# How unlike the training maps' a shell may be.
ANGLE_TOLERANCE = 0.02
THICKNESS_TOLERANCE = 0.05
REDSHIFT_TOLERANCE = 0.02  # of 1 + z


def cell_angle(
    card: Card,
    *,
    redshift: float | None,
    thickness: float | None,
    cosmology: Mapping[str, Any] | None = None,
) -> float:
    """The angle of a checkpoint's cell on a shell, in arcmin.

    Parameters
    ----------
    card : Card
    redshift : float or None
        Of the shell.
    thickness : float or None
        Of the shell, in the card's `depth_units`.
    cosmology : mapping, optional
        A flat one by its h and Omega_m; astropy's Planck18 where it has not both.

    Returns
    -------
    float
        Cell size over comoving distance; the cell itself where the checkpoint was trained on patches of the sky.

    Raises
    ------
    MapSetError
        If the shell does not say its redshift or thickness, or is unlike the slabs the checkpoint was trained on.
    """
    override = "or give the angle of a cell (--cell-angle)"
    of_the_sky = card.geometry == "patch"
    for what, value, known in (("redshift", redshift, card.redshift), ("thickness", thickness, card.thickness)):
        if value is None and (known is not None or (what == "redshift" and not of_the_sky)):
            raise MapSetError(
                f"The {what} of the shell is unknown, but {card.name} has cells of {card.cell_size:g} "
                f"{card.length_units}{'' if known is None else f' and the {what} {known:g}'}. Say it (--{what}), "
                f"{override}."
            )
    if (
        redshift is not None
        and card.redshift is not None
        and abs(redshift - card.redshift) > REDSHIFT_TOLERANCE * (1 + card.redshift)
    ):
        raise MapSetError(
            f"The shell is at z = {redshift:g}, but {card.name} was trained at z = {card.redshift:g}. Take a shell of "
            f"that redshift, {override}."
        )
    if card.thickness is not None:
        assert thickness is not None
        if abs(thickness - card.thickness) > THICKNESS_TOLERANCE * card.thickness:
            raise MapSetError(
                f"The shell is {thickness:g} {card.depth_units} thick, but {card.name} was trained on slabs of "
                f"{card.thickness:g} {card.depth_units}. Take a shell of that thickness, {override}."
            )
    if of_the_sky:
        return card.cell_size
    assert redshift is not None
    return card.cell_size / comoving_distance(redshift, card.length_units, cosmology) / ARCMIN


def lattices(card: Card, maps: MapSet, angle: float | None = None) -> list[int]:
    """Cells along a side of a face for each map of a set on the sphere.

    Parameters
    ----------
    card : Card
    maps : MapSet
        Of geometry "healpix", with redshift and thickness of its shells, which may differ (/redshift, /thickness).
    angle : float, optional
        Of a cell, in arcmin, whatever the shells are.

    Raises
    ------
    MapSetError
        If the set is not on the sphere, or one of its shells does not suit the checkpoint.
    """
    geometry, npix = maps.geometry, maps.shape[0]
    if geometry.kind != "healpix" or geometry.ordering not in ("RING", "NESTED"):
        raise MapSetError(
            f"{maps.name} does not hold maps of the sky in a known ordering: its geometry is {geometry.kind!r}, its "
            f"ordering {geometry.ordering!r}. Give HEALPix maps, RING or NESTED."
        )
    if card.ndim != 2:
        raise MapSetError(f"{card.name} paints {card.ndim}D maps, and the sky has two dimensions.")
    if angle is not None:
        return [cells_along_face(card, npix, angle)] * len(maps)
    shared = {"redshift": geometry.redshift, "thickness": geometry.thickness}
    own = {name: maps.extra.get(name, [value] * len(maps)) for name, value in shared.items()}
    if None not in own["thickness"] and card.thickness is not None and geometry.depth_units != card.depth_units:
        raise MapSetError(
            f"{maps.name} has shells measured in {geometry.depth_units}, but {card.name} takes {card.depth_units}. "
            "Convert the thickness first."
        )
    return [
        cells_along_face(card, npix, cell_angle(card, redshift=z, thickness=depth, cosmology=geometry.cosmology))
        for z, depth in zip(own["redshift"], own["thickness"], strict=True)
    ]


def comoving_distance(redshift: float, units: str = "Mpc", cosmology: Mapping[str, Any] | None = None) -> float:
    """Comoving distance to `redshift` in "Mpc" or "Mpc/h"; `cosmology` as of :func:`cell_angle`.

    Examples
    --------
    >>> round(comoving_distance(8.0))
    9132
    """
    from astropy.cosmology import FlatLambdaCDM, Planck18

    given = cosmology or {}
    model = FlatLambdaCDM(100 * given["h"], given["Omega_m"]) if {"h", "Omega_m"} <= set(given) else Planck18
    if units not in ("Mpc", "Mpc/h"):
        raise MapSetError(f"Cells in {units} have no angle on a shell. Give it (--cell-angle).")
    if not redshift > 0:
        raise MapSetError(f"The redshift of a shell must be positive, received {redshift:g}.")
    return float(model.comoving_distance(redshift).value) * (model.h if units == "Mpc/h" else 1.0)


def cells_along_face(card: Card, npix: int, angle: float) -> int:
    """Cells along a side of a face, for cells of `angle` arcmin and a map of `npix` pixels.

    The map's own nside where that is as good, and else the multiple of the network's stride that comes next.

    Raises
    ------
    MapSetError
        If `npix` is no full sky, the pixels are coarser than the cells, the cells too large for a lattice on a face, or
        the network has an excursion set.
    """
    if card.network.excursion_set:
        raise MapSetError(
            f"{card.name} smooths whole boxes or slabs (generator.excursion_set), and a sky is neither. Take a "
            "checkpoint that does not."
        )
    try:
        nside = side_of(npix)
    except ValueError as error:
        raise MapSetError(f"{error}. Give a map of all its pixels, masked ones UNSEEN.") from None
    if not angle > 0:
        raise ParameterError(f"The angle of a cell must be positive, received {angle:g} arcmin.")
    wanted = pixel_angle(1) / (angle * ARCMIN)
    if nside < wanted * (1 - ANGLE_TOLERANCE):
        least = math.ceil(wanted * (1 - ANGLE_TOLERANCE))
        raise MapSetError(
            f"A pixel of nside {nside} is {pixel_angle(nside) / ARCMIN:.3g} arcmin wide, coarser than a cell of "
            f"{card.name}, {angle:.3g} arcmin. Give a shell of nside {least} or more, {1 << (least - 1).bit_length()} "
            "where it has to be a power of two."
        )
    s = card.stride
    n = nside if nside % s == 0 and abs(nside / wanted - 1) <= ANGLE_TOLERANCE else max(1, round(wanted / s)) * s
    if abs(n / wanted - 1) > ANGLE_TOLERANCE:
        fitting = {f"{pixel_angle(k * s) / ARCMIN:.4g}" for k in (max(1, int(wanted / s)), int(wanted / s) + 1)}
        raise MapSetError(
            f"A face of the sky is {wanted:.1f} cells of {angle:.3g} arcmin wide, but {card.name} paints multiples of "
            f"{s}. Give an angle (--cell-angle) of {' or '.join(sorted(fitting))}."
        )
    return n


def default_nside(npix: int, n: int) -> int:
    """nside of what is painted on a map of `npix` pixels: the map's own, or the power of two next below `n` cells.

    Examples
    --------
    >>> default_nside(12 * 64**2, 64), default_nside(12 * 64**2, 56)
    (64, 32)
    """
    nside = side_of(npix)
    return nside if nside <= n else 1 << (n.bit_length() - 1)


def check_nside(nside: int, n: int, *, nested: bool) -> None:
    """Refuse an nside that is no whole number, finer than `n` cells along a face, or, in NESTED order, no power of two.

    Examples
    --------
    >>> check_nside(64, 32, nested=False)
    Traceback (most recent call last):
    higan.errors.MapSetError: nside 64 is finer than the cells that are painted, 32 along a face. Ask for 32 or less.
    """
    check_count("nside", nside)
    if nside > n:
        raise MapSetError(
            f"nside {nside} is finer than the cells that are painted, {n} along a face. Ask for {n} or less."
        )
    if nested and nside & (nside - 1):
        raise MapSetError(f"nside {nside} is no power of two, as NESTED order needs. Ask for one, or use RING.")


class Sky:
    """A sky on the generator's lattice, ready to be painted face by face.

    Parameters
    ----------
    painter : Painter
    maps : array of float32, shape (npix, n_inputs)
        Physical units; masked pixels UNSEEN or NaN.
    n : int
        Cells along a side of a face, a multiple of the stride.
    ordering : {"RING", "NESTED"}
    """

    def __init__(self, painter: Painter, maps: np.ndarray, n: int, ordering: str):
        if painter.card.network.centred:
            raise MapSetError(f"{painter.card.name} paints maps that have a middle, not a sky.")
        self.painter, self.n, self.ordering = painter, n, ordering
        s = painter.card.stride
        self.blend = min(BLEND, n // 4)
        self.reach = -(-self.blend // s) * s  # what of its neighbours is painted with a face
        # On a small sky there is no room for all of it: all that there is, is painted then, and seams may show.
        needed = painter.card.network.tile_margin(bool(painter.card.inputs))
        self.margin = min(needed, (n - self.reach) // s * s)
        self.around = (self.margin,) * 2 if self.margin == needed else (0, 0)
        masked = ~(np.isfinite(maps) & (maps > MASKED)).all(axis=1)
        self.mask = to_faces(masked, ordering) if masked.any() else None
        if masked.all():
            raise MapSetError("All pixels of the sky are masked. Give a map with some that are not.")
        fields = np.empty((FACES, n, n, maps.shape[1]), dtype=np.float32)
        for i in range(maps.shape[1]):
            faces = to_faces(maps[:, i], ordering)
            if self.mask is not None:
                faces = fill(faces, self.mask)
            scaling = painter.inputs[i]
            fields[..., i] = regrid(faces, n, scaling.lower, scaling.upper)
        self.fields = fields.reshape(FACES * n * n, -1)

    def paint(self, face: int, parameters: np.ndarray, *, seed: int, row: int, realisation: int = 0) -> np.ndarray:
        """A face with `reach` cells around it, (n + 2 reach, n + 2 reach, n_outputs), in physical units.

        Tiles that a mask covers are left at zero.
        """
        s, n, network = self.painter.card.stride, self.n, self.painter.card.network
        side = n + 2 * self.reach
        most = max(s, (math.isqrt(LARGEST_WHOLE) - 2 * self.margin) // s * s)
        tile = -(-side // (-(-side // most) * s)) * s
        out = np.zeros((side, side, len(self.painter.outputs)), dtype=np.float32)
        for x, y in itertools.product(range(0, side, tile), repeat=2):
            first = (x - self.reach, y - self.reach)
            last = tuple(min(a + tile, n + self.reach) for a in first)
            if self.mask is not None and not self._is_seen(face, first, last):
                continue
            low, high = [a - self.margin for a in first], [b + self.margin for b in last]
            drawn = [
                cells(n >> j, face, [(a >> j) + less[0] for a in low], [(b >> j) - less[0] for b in high])
                for j, less in enumerate(network.spared(self.around))
            ]
            noise = noise_of_cells(network, drawn, seed=seed, rows=[row], realisations=realisation)
            fields = self.fields[cells(n, face, low, high)][None]
            painted = self.painter.paint_host(fields, parameters, noise, self.around)[0]
            left = self.margin - self.around[0]
            painted = painted[tuple(slice(left, left + b - a) for a, b in zip(first, last, strict=True))]
            out[x : x + tile, y : y + tile] = painted
        return out

    def _is_seen(self, face: int, first: tuple[int, int], last: tuple[int, ...]) -> bool:
        """Whether any pixel of a region is not masked; `mask` may be finer or coarser than the cells."""
        assert self.mask is not None
        m = self.mask.shape[1]
        a = tuple(math.floor(i * m / self.n) for i in first)
        b = tuple(math.ceil(i * m / self.n) for i in last)
        return not bool(self.mask.reshape(-1)[cells(m, face, (a[0], a[1]), (b[0], b[1]))].all())

    def assemble(self, painted: Iterable[np.ndarray], nside: int) -> np.ndarray:
        """The sky (12 nside², n_outputs) of its twelve faces as :meth:`paint` gives them; masked pixels are UNSEEN."""
        n = self.n
        total = np.zeros((FACES * n * n, len(self.painter.outputs)), dtype=np.float32)
        for face, values in enumerate(painted):
            where = cells(n, face, (-self.reach,) * 2, (n + self.reach,) * 2)
            weight = face_weights(n, face, self.blend, self.reach)
            counts = weight > 0
            total[where[counts]] += weight[counts, None] * values[counts]
        outputs = [
            regrid(total[:, i].reshape(FACES, n, n), nside, scaling.lower, scaling.upper)
            for i, scaling in enumerate(self.painter.outputs)
        ]
        sky = np.stack([from_faces(faces, self.ordering) for faces in outputs], axis=-1)
        if self.mask is not None:
            sky[from_faces(regrid(self.mask.astype(np.float32), nside), self.ordering) > 0.5] = UNSEEN
        return sky


def paint_sky(
    painter: Painter,
    maps: np.ndarray,
    parameters: np.ndarray,
    *,
    n: int,
    seed: int,
    row: int = 0,
    realisation: int = 0,
    nside: int | None = None,
    ordering: str = "RING",
) -> np.ndarray:
    """Paint a sky in memory.

    Parameters
    ----------
    painter : Painter
    maps : array of float32, shape (npix, n_inputs)
        Physical units; masked pixels UNSEEN or NaN, and UNSEEN in what is painted.
    parameters : array, shape (1, n_par)
    n : int
        Cells along a side of a face; see :func:`cells_along_face`.
    seed, row, realisation : int
    nside : int, optional
        Of what is painted, up to `n`; :func:`default_nside` where not given.
    ordering : {"RING", "NESTED"}
        Of both maps.

    Returns
    -------
    array of float32, shape (12 nside², n_outputs)
        In physical units, means over pixels.
    """
    sky = Sky(painter, maps, n, ordering)
    faces = (sky.paint(face, parameters, seed=seed, row=row, realisation=realisation) for face in range(FACES))
    return sky.assemble(faces, default_nside(len(maps), n) if nside is None else nside)


def face_weights(n: int, face: int, blend: int, reach: int) -> np.ndarray:
    """Weights of a face and what is painted around it, (n + 2 reach, n + 2 reach); those of all faces add up to one.

    Examples
    --------
    >>> total = np.zeros(12 * 16**2)
    >>> for face in range(12):
    ...     weight = face_weights(16, face, 4, 4)
    ...     np.add.at(total, cells(16, face, (-4, -4), (20, 20)), weight)
    >>> bool(np.allclose(total, 1))
    True
    """
    inside = np.arange(-reach, n + reach) + 0.5
    ends = [_ramp(np.minimum(inside, n - inside), blend)] * 2
    weights = np.outer(*ends)
    half = reach + n // 2
    # Where three faces meet, the fourth's share is missing.
    for (i, j), there in np.ndenumerate(has_quadrant(face)):
        if not there:
            vertex = tuple(slice(half, None) if end else slice(None, half) for end in (i, j))
            beyond = [n - inside[half:] if end else inside[:half] for end in (i, j)]
            missing = np.outer(*(_ramp(-np.abs(t), blend) for t in beyond))
            quadrant = np.outer(*(t < 0 for t in beyond))
            weights[vertex] = np.where(quadrant, 0.0, weights[vertex] / (1 - missing))
    return weights.astype(np.float32)


def fill(faces: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A map on faces (12, m, m) with means over ever larger cells in place of pixels that `mask`, bool, takes away.

    Examples
    --------
    >>> faces = np.zeros((12, 4, 4)); faces[0] = np.nan; faces[1] = 3.0
    >>> float(fill(faces, np.isnan(faces))[0, 0, 0].round(3))  # all that is left: the mean of the sky
    0.273
    """
    faces = np.where(mask, 0.0, faces).astype(np.float32)
    m = faces.shape[1]
    if m % 2 or not mask.reshape(FACES, -1).any():
        return np.where(mask, faces.sum() / max(1, (~mask).sum()), faces)
    seen = (~mask).reshape(FACES, m // 2, 2, m // 2, 2).sum(axis=(2, 4))
    coarse = faces.reshape(FACES, m // 2, 2, m // 2, 2).sum(axis=(2, 4)) / np.maximum(seen, 1)
    coarse = fill(coarse, seen == 0)
    return np.where(mask, coarse.repeat(2, axis=1).repeat(2, axis=2), faces)


def _ramp(inside: Any, blend: int) -> np.ndarray:
    """From 0, `blend` cells outside, to 1, as many inside; that of t and -t add up to one."""
    if not blend:
        return (np.asarray(inside) > 0).astype(np.float64)
    t = np.clip((np.asarray(inside) / blend + 1) / 2, 0.0, 1.0)
    return t * t * (3 - 2 * t)
