"""How far generated maps are from the true ones, statistic by statistic, with errors.

    statistic.py       what a statistic is, and the registry; one file a family of them:
    power_spectrum.py  P(k), R(k), R_s(k), T(k), r(k), P(k) of the logarithm, and power beyond the Nyquist wavenumber
    angular_power.py   C_l, R_l and r_l of maps of the sky
    realisations.py    r_mean(k) and the spread among realisations
    calibration.py     spread scale by scale, ranks and coverage of the truth among realisations
    one_point.py       PDF, D, Wasserstein distance
    mean.py            global means, and the cells of simulations with hardly any signal
    bispectrum.py      equilateral triangles, and the angle between two sides
    minkowski.py       Minkowski functionals of excursion sets
    extrema.py         peaks and minima by height
    column_density.py  column-density distribution of HI
    galaxy_shapes.py   shapes of galaxies on stamps; magnitudes and sizes beside those asked for
    voids.py           void size function
    scattering.py      scattering coefficients and their Fréchet distance
    covariance.py      covariance of P(k) among maps of the same parameters
    neighbours.py      whether training maps were memorised
    recovery.py        whether parameters inferred from generated and true maps agree
    bootstrap.py       errors over simulations
    baselines.py       what simple methods make of the same input
    models.py          what can be compared: emulators, generated map sets, baselines
    comparison.py      streams the maps through all statistics
    results.py         what it found, as a table and as metrics.json
    response.py        whether parameters are used: responses of P(k), shuffled parameters
    checks.py          what is asked of a model once: uniform ranks, recovery, memorisation
    assessment.py      a whole validation: comparison, baselines, report
    report.py          report.html, metrics.json, figures
    plots.py           the figures

>>> from higan.validation import validate
>>> validate(higan.load("eor21cm-2d"), MapSet.open("test.h5"), "report", realisations=8)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Baselines", "Comparison", "Model", "compare", "compare_models", "validate", "write_report"]

_PLACES = {
    "Baselines": "baselines",
    "Comparison": "results",
    "Model": "models",
    "compare": "comparison",
    "compare_models": "assessment",
    "validate": "assessment",
    "write_report": "report",
}

if TYPE_CHECKING:
    from higan.validation.assessment import compare_models, validate
    from higan.validation.baselines import Baselines
    from higan.validation.comparison import compare
    from higan.validation.models import Model
    from higan.validation.report import write_report
    from higan.validation.results import Comparison


def __getattr__(name: str) -> Any:
    # Imported when asked for: training takes the power spectrum alone.
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(f"higan.validation.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'higan.validation' has no attribute {name!r}")
