"""Seconds that each statistic of `higan validate` takes for a box of truth and one of the model.

    python benchmarks/validation.py --side 128

The boxes are log-normal over some eight decades, so that statistics of the logarithm and of column densities are taken.
"""

import argparse
import time

import numpy as np
import scipy.fft

from higan.validation.statistic import LEVELS, Setting, statistics

CELL = 0.28  # Mpc


def boxes(n: int, side: int) -> np.ndarray:
    """Log-normal fields of a power that falls as k^-2, (n, side, side, side)."""
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(side)] * 3, indexing="ij", sparse=True)))
    k.flat[0] = np.inf
    white = np.random.default_rng(1).normal(size=(n, *k.shape))
    field = scipy.fft.ifftn(scipy.fft.fftn(white, axes=(1, 2, 3)) / k, axes=(1, 2, 3)).real
    return (1e6 * 10 ** (1.3 * field / field.std())).astype("float32")


def main() -> None:
    """Time each, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=128, help="cells along a side of the boxes")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    maps = boxes(2, options.side)
    setting = Setting(
        shape=maps.shape[1:],
        cell_size=CELL,
        field="hi_density",
        units="solMass / Mpc3",
        edges=10 ** np.arange(0, 13, 0.05),
        logarithmic=True,
        levels=np.quantile(maps, LEVELS),
        redshift=5.0,
    )
    total = 0.0
    for kind in statistics():
        statistic, seconds = kind(setting), []
        for _ in range(options.repeats):
            start = time.perf_counter()
            statistic.measure_truth(maps[:1])
            statistic.measure(maps[:1], maps[1:, None])
            seconds.append(time.perf_counter() - start)
        total += float(np.median(seconds))
        print(f"{kind.name:22} {np.median(seconds):6.2f} ({min(seconds):.2f} - {max(seconds):.2f})")
    print(f"{'together':22} {total:6.2f}")


if __name__ == "__main__":
    main()
