"""The sphere as HEALPix's twelve base faces, each a square lattice that a generator can be run on.

HEALPix (Górski et al. 2005, ApJ 622, 759) cuts the sphere into twelve faces of n x n pixels of one area. Across an edge
the lattice of a face goes on in that of its neighbour, turned by 90° between two polar faces; at eight vertices three
faces meet instead of four, so that a quadrant is missing. Cell (face, x, y) has the number (face n + x) n + y here,
x towards north-east and y towards north-west; n may be any whole number, not only a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FACES = 12
STRIP = 256  # lines that are regridded at a time

# Of healpix_cxx (healpix_tables.cc): the face beyond a side or vertex, from (x < 0, y < 0) to (x >= n, y >= n) with x
# running faster, and what becomes of the coordinates there: 1 reverses x, 2 reverses y, 4 exchanges them.
_NEIGHBOUR = np.array(
    [
        [8, 9, 10, 11, -1, -1, -1, -1, 10, 11, 8, 9],
        [5, 6, 7, 4, 8, 9, 10, 11, 9, 10, 11, 8],
        [-1, -1, -1, -1, 5, 6, 7, 4, -1, -1, -1, -1],
        [4, 5, 6, 7, 11, 8, 9, 10, 11, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        [1, 2, 3, 0, 0, 1, 2, 3, 5, 6, 7, 4],
        [-1, -1, -1, -1, 7, 4, 5, 6, -1, -1, -1, -1],
        [3, 0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 7],
        [2, 3, 0, 1, -1, -1, -1, -1, 0, 1, 2, 3],
    ]
)
_TURN = np.array([[0, 0, 3], [0, 0, 6], [0, 0, 0], [0, 0, 5], [0, 0, 0], [5, 0, 0], [0, 0, 0], [6, 0, 0], [3, 0, 0]])


def cells(n: int, face: int, first: Sequence[int], last: Sequence[int]) -> np.ndarray:
    """Numbers of the cells of a region of a face's lattice, which may go up to n cells beyond its sides.

    Parameters
    ----------
    n : int
        Cells along a side of a face.
    face : int
        0 … 11, as HEALPix counts them.
    first, last : sequence of int
        The region is first[0] … last[0] - 1 along x, and likewise along y.

    Returns
    -------
    array of int64, shape (last[0] - first[0], last[1] - first[1])
        Where a quadrant is missing, the lattice of either neighbour goes on round the vertex up to the diagonal.

    Examples
    --------
    >>> cells(2, 0, (0, 0), (3, 2))  # the last row is the neighbour's, turned
    array([[0, 1],
           [2, 3],
           [5, 7]])
    """
    x, y = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]), indexing="ij")
    home, x_there, y_there = _move(n, np.full(x.shape, face), x, y)
    missing = home < 0
    if missing.any():
        home[missing], x_there[missing], y_there[missing] = _round_vertex(n, face, x[missing], y[missing])
    return (home * n + x_there) * n + y_there


def has_quadrant(face: int) -> np.ndarray:
    """Whether the lattice of a face goes on beyond each of its vertices, bool (2, 2): [x >= n, y >= n].

    Examples
    --------
    >>> has_quadrant(0).tolist()  # a polar face: not to the east and the west
    [[True, False], [False, True]]
    """
    return np.array([[_NEIGHBOUR[0, face], _NEIGHBOUR[6, face]], [_NEIGHBOUR[2, face], _NEIGHBOUR[8, face]]]) >= 0


def order(n: int, ordering: str, face: int) -> np.ndarray:
    """HEALPix pixels of a face's cells, (n, n), for `ordering` "RING" or "NESTED" (n a power of two then).

    Examples
    --------
    >>> order(2, "NESTED", 1)
    array([[4, 6],
           [5, 7]])
    """
    import healpy

    return healpy.xyf2pix(n, np.arange(n)[:, None], np.arange(n)[None, :], face, nest=ordering == "NESTED")


def to_faces(maps: np.ndarray, ordering: str) -> np.ndarray:
    """A map (12 n²,) of HEALPix pixels as (12, n, n)."""
    n = side_of(len(maps))
    faces = np.empty((FACES, n, n), dtype=maps.dtype)
    for face in range(FACES):
        faces[face] = maps[order(n, ordering, face)]
    return faces


def from_faces(faces: np.ndarray, ordering: str) -> np.ndarray:
    """:func:`to_faces` backwards.

    Examples
    --------
    >>> sky = np.arange(48)
    >>> bool((from_faces(to_faces(sky, "RING"), "RING") == sky).all())
    True
    """
    maps = np.empty(faces.size, dtype=faces.dtype)
    for face, values in enumerate(faces):
        maps[order(faces.shape[1], ordering, face)] = values
    return maps


def side_of(npix: int) -> int:
    """n (nside) of a map of 12 n² pixels; ValueError where there is none."""
    n = round((npix / FACES) ** 0.5)
    if n < 1 or FACES * n * n != npix:
        raise ValueError(f"{npix} pixels are no full sky: HEALPix has 12 nside²")
    return n


def pixel_angle(n: int) -> float:
    """Side of a square of a pixel's area, in radians: sqrt(pi / 3) / n.

    Examples
    --------
    >>> round(60 * float(np.degrees(pixel_angle(64))), 1)  # arcmin
    55.0
    """
    return float(np.sqrt(np.pi / 3) / n)


def regrid(faces: np.ndarray, n: int, lower: float | None = None, upper: float | None = None) -> np.ndarray:
    """Maps on faces (12, m, m), means over cells, as means over other cells, (12, n, n).

    All cells of a face have one area, so both lattices are even along its sides, and no geometry enters. Along each
    side in turn, the running integral, known at the edges of the old cells, is read at those of the new ones by a
    quintic spline. Where that would leave the field's bounds, `lower` and `upper`, inside an old cell, the spline's
    departures from the mean of that cell are made smaller (the limiter of Zhang & Shu 2010, J. Comput. Phys. 229,
    3091). So the mean of every old cell is kept, and where n divides m new cells have the means of the old ones they
    are made of.

    Examples
    --------
    >>> faces = np.random.default_rng(1).normal(size=(12, 8, 8))
    >>> bool(np.allclose(regrid(faces, 4), faces.reshape(12, 4, 2, 4, 2).mean(axis=(2, 4)), atol=1e-6))
    True
    """
    if n == faces.shape[1]:
        return faces
    out = np.empty((FACES, n, n), dtype=np.float32)
    bounds = -np.inf if lower is None else lower, np.inf if upper is None else upper
    for face, values in zip(out, faces, strict=True):
        face[:] = _regrid_lines(_regrid_lines(values, n, *bounds).T, n, *bounds).T
    return out


def _regrid_lines(values: np.ndarray, n: int, low: float, high: float) -> np.ndarray:
    """(m, lines) to (n, lines)."""
    from scipy.interpolate import make_interp_spline

    m, lines = values.shape
    # In units of 1 / (m n), so that common edges are recognised.
    edges = np.union1d(np.arange(m + 1) * n, np.arange(n + 1) * m)
    old, new = edges[:-1] // n, edges[:-1] // m
    first_old, first_new = np.searchsorted(old, np.arange(m)), np.searchsorted(new, np.arange(n))
    width = np.diff(edges)[:, None] / m
    degree = min(5, m - 1 + m % 2)
    out = np.empty((n, lines), dtype=np.float32)
    for start in range(0, lines, STRIP):
        mean = values[:, start : start + STRIP].astype(np.float64)
        integral = np.zeros((m + 1, mean.shape[1]))
        np.cumsum(mean * n, axis=0, out=integral[1:])
        pieces = np.diff(make_interp_spline(np.arange(m + 1) * n, integral, k=degree)(edges), axis=0) / (width * m)
        least, most = (f.reduceat(pieces, first_old, axis=0) for f in (np.minimum, np.maximum))
        with np.errstate(divide="ignore", invalid="ignore"):
            keep = np.minimum(
                np.where(least < low, (mean - low) / (mean - least), 1.0),
                np.where(most > high, (high - mean) / (most - mean), 1.0),
            )
        pieces = mean[old] + np.clip(keep, 0.0, 1.0)[old] * (pieces - mean[old])
        out[:, start : start + STRIP] = np.add.reduceat(pieces * width, first_new, axis=0)
    return out


def _move(n: int, face: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face and coordinates of cells given in the lattice of `face`; face -1 where the quadrant is missing."""
    side = 4 + (x >= n).astype(int) - (x < 0) + 3 * (y >= n) - 3 * (y < 0)
    home, turn = _NEIGHBOUR[side, face], _TURN[side, face // 4]
    x, y = x % n, y % n
    x, y = np.where(turn & 1, n - 1 - x, x), np.where(turn & 2, n - 1 - y, y)
    return home, np.where(turn & 4, y, x), np.where(turn & 4, x, y)


def _round_vertex(n: int, face: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`_move` into a missing quadrant: across the side that is crossed further, then on along it."""
    beyond_x, beyond_y = (np.where(c < 0, -c, c - n + 1) for c in (x, y))
    by_x = beyond_x >= beyond_y
    here = np.full(x.shape, face)
    # The cell beyond that side, beside the vertex, and the step from its inner neighbour to it.
    edge_x, edge_y = np.clip(x, 0, n - 1), np.clip(y, 0, n - 1)
    inner_x, inner_y = (np.where(c == 0, 1, n - 2) for c in (edge_x, edge_y))
    home, x1, y1 = _move(n, here, np.where(by_x, x, edge_x), np.where(by_x, edge_y, y))
    _, x0, y0 = _move(n, here, np.where(by_x, x, inner_x), np.where(by_x, inner_y, y))
    steps = np.where(by_x, beyond_y, beyond_x)
    return _move(n, home, x1 + (x1 - x0) * steps, y1 + (y1 - y0) * steps)
