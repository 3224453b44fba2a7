"""Dust and neutral hydrogen of the Milky Way, patch by patch, for dust-hi4pi.toml.

    python training/dust_hi4pi.py DUST.fits HI.fits data/dust-hi4pi

makes data/dust-hi4pi-patches.h5, 48 patches of the sky, 29° wide: of the four in each of HEALPix's faces two to train
on, one for validation and one for the test; and data/dust-hi4pi-test.h5, the sky with all masked but the last. Both
maps are full skies of one nside: Planck's E(B - V) in mag (Planck Collaboration 2014, A&A 571, A11) and HI4PI's column
density in cm^-2 (HI4PI Collaboration 2016, A&A 594, A116).
"""

import argparse
import dataclasses

import h5py
import healpy
import numpy as np

from higan.cuts import patches
from higan.mapset import UNSEEN, Field, MapSet
from higan.sources.healpix import healpix

# Another quarter of each face, so that no side of the sky is for one purpose alone.
REGIONS = np.array(
    [["test", "train", "validation", "train"][(part + face) % 4] for face in range(12) for part in range(4)]
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dust", metavar="DUST.fits", help="E(B - V), mag")
    parser.add_argument("hydrogen", metavar="HI.fits", help="HI column density, cm^-2")
    parser.add_argument("output", metavar="OUTPUT", help="of the two files, without their ending")
    arguments = parser.parse_args()

    fields = {}
    for name, path, units in (("dust", arguments.dust, "mag"), ("hi_column", arguments.hydrogen, "1e20 / cm2")):
        sky = healpix(path, [name], units={name: units})
        values = np.asarray(sky.read(name), dtype=np.float64)
        if sky.geometry.ordering == "NESTED":
            values = healpy.reorder(values, n2r=True)
        # In units of which squares stay within single precision.
        fields[name] = Field((values / (1e20 if name == "hi_column" else 1.0)).astype(np.float32), units)
    nside = healpy.npix2nside(sky.shape[0])
    whole = MapSet(fields, np.zeros((1, 0)), [], [0], sky.geometry, simulator="Planck, HI4PI")
    whole = whole.with_geometry(dataclasses.replace(sky.geometry, ordering="RING"))
    with h5py.File(patches(whole, f"{arguments.output}-patches.h5", nside // 2), "r+") as file:
        file["split"] = REGIONS.astype(object)

    x, y, face = healpy.pix2xyf(nside, np.arange(12 * nside**2))
    seen = REGIONS[4 * face + 2 * (x >= nside // 2) + (y >= nside // 2)] == "test"
    masked = {
        name: dataclasses.replace(field, array=np.where(seen, field.array, UNSEEN).astype(np.float32))
        for name, field in whole.fields.items()
    }
    whole.with_fields(masked).save(f"{arguments.output}-test.h5")
