"""A flat checkpoint on the sphere beside itself on flat maps, for a Gaussian density of the demo maps' power.

    python benchmarks/sphere.py --nside 128 --skies 4

prints C_l over that of flat maps in bands of l, density and painted; the variance of derivatives along meridians over
that along parallels, by |sin(latitude)|, which is 1 where the painted texture has no direction; the mean square step
between pixels across the edges of polar faces, where a lattice is turned, over that inside faces; and mean, scatter and
share of empty pixels.
"""

import argparse
import itertools

import healpy
import numpy as np

import higan
from higan.checkpoint import shipped_folder
from higan.mapset import MapSet
from higan.painting.faces import cells, to_faces
from higan.validation.power_spectrum import power_spectrum

CELL = 2.0  # Mpc
FLAT = 512
BANDS, LATITUDES = 8, (0.0, 0.2, 0.4, 0.55, 0.75, 0.9, 1.0)
THETA = {"F_STAR10": -1.4, "ALPHA_STAR": 0.5, "SIGMA_8": 0.8}


def main() -> None:
    """Paint both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nside", type=int, default=128)
    parser.add_argument("--skies", type=int, default=4)
    options = parser.parse_args()
    nside = options.nside
    rng = np.random.default_rng(1)
    emulator = higan.load("eor21cm-2d")
    demo = MapSet.open(shipped_folder("maps") / "eor21cm-demo.h5")
    k, P = power_spectrum(demo.read("density"), CELL)
    # On the flat sky l = k chi and C_l = P / chi^2; the distance is what makes a pixel a cell.
    chi = CELL / healpy.nside2resol(nside)
    multipoles = np.arange(3 * nside)
    C = np.exp(np.interp(np.log(np.maximum(multipoles, 1) / chi), np.log(k), np.log(P.mean(axis=0)))) / chi**2
    C[0] = 0

    flat_k = 2 * np.pi * np.fft.fftfreq(FLAT, CELL)
    flat_l = chi * np.hypot(flat_k[:, None], flat_k)
    amplitude = np.sqrt(np.interp(flat_l, multipoles, C, right=0)) * chi / CELL
    white = rng.normal(size=(4, FLAT, FLAT))
    flat_density = np.fft.ifft2(np.fft.fft2(white) * amplitude).real.astype("float32")
    flat_painted = emulator.sample(flat_density, THETA, seed=1)

    edges = np.linspace(0, 2 * nside, BANDS + 1)

    def banded(multipole: np.ndarray, power: np.ndarray) -> np.ndarray:
        index = np.digitize(multipole, edges) - 1
        return np.array([power[(index == i) & (multipole > 1)].mean() for i in range(BANDS)])

    def flat_power(maps: np.ndarray) -> np.ndarray:
        power = (np.abs(np.fft.fft2(maps - maps.mean())) ** 2).mean(axis=0) * (CELL / FLAT / chi) ** 2
        return banded(flat_l.ravel(), power.ravel())

    def power(sky: np.ndarray) -> np.ndarray:
        found = healpy.anafast(sky - sky.mean(), lmax=2 * nside)
        return banded(np.arange(len(found)), found)

    angle = float(healpy.nside2resol(nside, arcmin=True))
    rows: dict[str, list] = {"density": [], "painted": [], "isotropy": [], "step": [], "values": []}
    height = np.abs(healpy.pix2vec(nside, np.arange(12 * nside**2))[2])
    degree, m = healpy.Alm.getlm(3 * nside - 1)
    for row in range(options.skies):
        real, imaginary = rng.normal(size=(2, m.size)) * np.sqrt(C[degree] / 2)
        alm = np.where(m == 0, np.sqrt(2) * real, real + 1j * imaginary)
        density = healpy.alm2map(alm, nside).astype("float32")
        sky = emulator.sample_sky(density, THETA, seed=1, cell_angle=angle, row=row)
        rows["density"].append(power(density) / flat_power(flat_density))
        rows["painted"].append(power(sky) / flat_power(flat_painted))
        _, along, across = healpy.alm2map_der1(healpy.map2alm(sky, lmax=2 * nside), nside, lmax=2 * nside)
        zones = [(height >= low) & (height < high) for low, high in itertools.pairwise(LATITUDES)]
        rows["isotropy"].append([np.var(along[zone]) / np.var(across[zone]) for zone in zones])
        rows["step"].append(_step(to_faces(sky, "RING")))
        rows["values"].append([sky.mean(), sky.std(), (sky < 0.5).mean()])
    for name, values in rows.items():
        error = np.std(values, axis=0) / max(options.skies - 1, 1) ** 0.5
        print(f"{name:10}", *(f"{x:.3f}±{e:.3f}" for x, e in zip(np.mean(values, axis=0), error, strict=True)))
    flat = flat_painted.mean(), flat_painted.std(), (flat_painted < 0.5).mean()
    print("of flat   ", *(f"{x:.3f}" for x in flat))


def _step(faces: np.ndarray) -> list[float]:
    """Mean square step across the edges between northern faces over that between rows well inside them."""
    n = faces.shape[1]
    across, inside = [], []
    for face in range(4):
        last, beyond = faces.ravel()[cells(n, face, (n - 1, 0), (n + 1, n))]
        across.append((beyond - last) ** 2)
        inside.append(np.diff(faces[face][3 * n // 5 : 3 * n // 4], axis=0) ** 2)
    return [float(np.mean(across) / np.mean(inside))]


if __name__ == "__main__":
    main()
