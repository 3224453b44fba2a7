"""The column-density distribution function of neutral hydrogen, f(N_HI): how many columns of each density a path meets.

A cell of mean comoving density rho over a comoving depth L has the proper column of N = rho L (1 + z)^2 / m_H atoms per
area: rho L / m_H on the comoving grid, whose areas shrink by (1 + z)^2. The depth is the slab's in 2D, and the side of
a cell in 3D and 1D, so that whatever lies behind each other in a box counts singly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.validation.one_point import shares
from higan.validation.statistic import Number, Setting, Summary, average, ratio, statistic

if TYPE_CHECKING:
    from higan.validation.results import Comparison

FIRST_DECADE, DECADES, BINS_A_DECADE = 10, 14, 4
RARE = 1e-5  # share of the true cells below which a decade holds too few to compare


def atoms_per_area(density: Any, units: str, depth: float, redshift: float, length_units: str = "Mpc") -> Any:
    """Proper column of hydrogen atoms through a comoving depth of a mean comoving mass density.

    N = rho L (1 + z)^2 / m_H.

    Parameters
    ----------
    density : array_like
        Comoving mass density of neutral hydrogen, in `units`.
    units : str
        As :class:`astropy.units.Unit` reads them.
    depth : float
        Comoving, in `length_units`.
    redshift : float
    length_units : str

    Returns
    -------
    float or ndarray
        Atoms per proper cm^2.

    Raises
    ------
    ValueError
        If the units are not those of a density and a length. "Mpc/h" is not one here: without h there is no column.

    Examples
    --------
    >>> N = atoms_per_area(1e8, "solMass / Mpc3", depth=2.0, redshift=5.0)
    >>> round(float(np.log10(N)), 3)  # 7.2e9 solar masses per proper Mpc^2
    17.954
    """
    from astropy import constants
    from astropy import units as u

    try:
        column = u.Quantity(1, units) * u.Quantity(1, length_units)
        atoms = column.to_value(u.g / u.cm**2) / (constants.m_p + constants.m_e).cgs.value
    except (ValueError, TypeError) as error:
        raise ValueError(f"{units!r} times {length_units!r} is not a mass per area") from error
    return np.asarray(density, dtype=np.float64)[()] * (atoms * depth * (1 + redshift) ** 2)


@statistic("column_density")
class ColumnDensity(Summary):
    """f(N) = d^2 n / dN dL: cells with a column of N per dN and per comoving path L.

    Per absorption distance, as observers give it (Bahcall & Peebles 1969, ApJ 156, L7), it is f(N, X) = f(N) c /
    ((1 + z)^2 H_0), as dX = (1 + z)^2 H_0 / H dz and dL = c / H dz. Masses are taken to be those of neutral hydrogen;
    fields whose unit is no mass density, and maps without a redshift or, in 2D, a thickness, have none of it.

    Numbers are by decade of N, those that hold more than 1e-5 of the true cells: of all cells, N < 1e10 ones as well.
    """

    order = 65
    numbers = {
        "column_density_error": Number(
            "columns, error",
            "How far the number of columns of a density is off, averaged over decades of column density.",
            "%",
            missing="the field is no mass density, or redshift or slab thickness are unknown",
        ),
        "column_density_worst_error": Number(
            "columns, worst decade",
            "The same in the decade where it is worst.",
            "%",
            missing="the field is no mass density, or redshift or slab thickness are unknown",
        ),
        "column_density_worst_decade": Number(
            "at log10 N",
            "Where that decade starts, N in atoms per cm^2.",
            missing="the field is no mass density, or redshift or slab thickness are unknown",
        ),
    }
    curves = {
        "log10_column_density": "log10 of the column density at the centre of each bin, in atoms per cm^2",
        "column_density_truth": "true cells per column density (cm^2) and comoving path",
        "column_density": "generated cells per column density (cm^2) and comoving path",
    }
    bins = {"column_density": "truth"}

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.log10_edges = FIRST_DECADE + np.arange(DECADES * BINS_A_DECADE + 1) / BINS_A_DECADE
        depth = setting.thickness if len(setting.shape) == 2 else setting.cell_size
        # Edges in units of the field, so that no cell needs a logarithm.
        self.depth, self.edges = np.nan, None
        if depth is not None and setting.redshift is not None:
            try:
                atoms = atoms_per_area(1.0, setting.units, depth, setting.redshift, setting.length_units)
            except ValueError:
                return
            self.depth, self.edges = depth, 10**self.log10_edges / atoms

    def summarise(self, maps: np.ndarray) -> np.ndarray:
        """Share of a map's cells in each bin of log10 N: (n, bins)."""
        if self.edges is None:
            return np.full((len(maps), len(self.log10_edges) - 1), np.nan)
        return shares(maps, self.edges)[:, 1:-1]

    def evaluate(self, sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """See the class."""
        truth, generated = self.means(sums)
        true_decades, decades = (values.reshape(DECADES, BINS_A_DECADE).sum(axis=1) for values in (truth, generated))
        off = np.where(true_decades > RARE, np.abs(ratio(decades, true_decades) - 1), np.nan)
        worst = int(np.nanargmax(off)) if np.isfinite(off).any() else None
        width = np.diff(10**self.log10_edges) * self.depth
        return {
            "column_density_error": average(off),
            "column_density_worst_error": np.nan if worst is None else float(off[worst]),
            "column_density_worst_decade": np.nan if worst is None else float(FIRST_DECADE + worst),
            "log10_column_density": (self.log10_edges[1:] + self.log10_edges[:-1]) / 2,
            "column_density_truth": truth / width,
            "column_density": generated / width,
        }

    @classmethod
    def figure(cls, comparison: Comparison, path: Path) -> str | None:
        """f(N)."""
        from higan.validation import plots

        curves = next(iter(comparison.models.values())).curves
        if not (curves["column_density_truth"] > 0).any():
            return None
        panel = plots.Panel(
            "log10_column_density",
            "column_density",
            "log$_{10}$ N$_{HI}$ [cm$^{-2}$]",
            f"f(N$_{{HI}}$) [cm$^2$ / {comparison.setting.length_units}]",
            y_scale="log",
        )
        plots.beside_truth(comparison, path, [panel])
        return (
            "Column-density distribution of neutral hydrogen, per comoving path; below, its ratio to that of the truth "
            "with errors by bootstrap."
        )
