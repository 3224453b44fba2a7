"""Adversarial objectives: pure functions of the discriminator's logits, one decorated function pair each.

An objective gives two losses, both to be minimised, from the logits of true and generated maps of the same condition
(any shape; one logit a patch, averaged). σ is the logistic function; log σ(x) = -softplus(-x).

================ ========================================================= ==============================
name             discriminator loss                                        generator loss
================ ========================================================= ==============================
minimax          -log σ(r) - log(1 - σ(f))                                 log(1 - σ(f))
nonsaturating    -log σ(r) - log(1 - σ(f))                                 -log σ(f)
lsgan            ½ (r - 1)² + ½ f²                                         ½ (f - 1)²
hinge            max(0, 1 - r) + max(0, 1 + f)                             -f
wgan-gp          f - r (with a gradient penalty on interpolates)           -f
relativistic     -log σ(r - f)                                             -log σ(f - r)
================ ========================================================= ==============================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from higan.errors import RecipeError

Loss = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Objective:
    """Two losses of (real logits, fake logits), each a scalar; `interpolated` asks for WGAN-GP's penalty."""

    name: str
    discriminator: Loss
    generator: Loss
    interpolated: bool = False


def minimax_discriminator(real: Any, fake: Any) -> Any:
    """-log D(x) - log(1 - D(G)), D = σ(logit): Goodfellow et al. 2014, 1406.2661, eq. 1, with its sign changed."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def minimax_generator(real: Any, fake: Any) -> Any:
    """log(1 - D(G)): Goodfellow et al. 2014, 1406.2661, eq. 1."""
    return -ops.mean(ops.softplus(fake))


def nonsaturating_generator(real: Any, fake: Any) -> Any:
    """-log D(G): Goodfellow et al. 2014, 1406.2661, end of sec. 3."""
    return ops.mean(ops.softplus(-fake))


def lsgan_discriminator(real: Any, fake: Any) -> Any:
    """½ (D(x) - 1)² + ½ D(G)²: Mao et al. 2017, 1611.04076, eq. 9."""
    return 0.5 * ops.mean(ops.square(real - 1.0)) + 0.5 * ops.mean(ops.square(fake))


def lsgan_generator(real: Any, fake: Any) -> Any:
    """½ (D(G) - 1)²: Mao et al. 2017, 1611.04076, eq. 9."""
    return 0.5 * ops.mean(ops.square(fake - 1.0))


def hinge_discriminator(real: Any, fake: Any) -> Any:
    """max(0, 1 - D(x)) + max(0, 1 + D(G)): Lim & Ye 2017, 1705.02894, eqs. 10-11; Miyato et al. 2018, eq. 16."""
    return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + fake))


def linear_generator(real: Any, fake: Any) -> Any:
    """-D(G): Arjovsky et al. 2017, 1701.07875, sec. 3; also with the hinge (Miyato et al. 2018, 1802.05957, eq. 17)."""
    return -ops.mean(fake)


def wasserstein_discriminator(real: Any, fake: Any) -> Any:
    """D(G) - D(x): Gulrajani et al. 2017, 1704.00028, eq. 3, without its penalty."""
    return ops.mean(fake) - ops.mean(real)


def relativistic_discriminator(real: Any, fake: Any) -> Any:
    """-log σ(D(x) - D(G)), patch by patch: Jolicoeur-Martineau 2018, 1807.00734, eq. 3; Huang et al. 2025, eq. 2."""
    return ops.mean(ops.softplus(fake - real))


def relativistic_generator(real: Any, fake: Any) -> Any:
    """-log σ(D(G) - D(x)): Jolicoeur-Martineau 2018, 1807.00734, eq. 4."""
    return ops.mean(ops.softplus(real - fake))


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("minimax", minimax_discriminator, minimax_generator),
        Objective("nonsaturating", minimax_discriminator, nonsaturating_generator),
        Objective("lsgan", lsgan_discriminator, lsgan_generator),
        Objective("hinge", hinge_discriminator, linear_generator),
        Objective("wgan-gp", wasserstein_discriminator, linear_generator, interpolated=True),
        Objective("relativistic", relativistic_discriminator, relativistic_generator),
    )
}


def objective(name: str) -> Objective:
    """The objective called `name`; a RecipeError that lists them otherwise."""
    if name not in OBJECTIVES:
        raise RecipeError(f"There is no objective {name!r}. Choose one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def zero_centred_penalty(gradient: Any) -> Any:
    """N ||∇ D||² averaged over the batch, N the number of cells: R1 on true, R2 on generated maps.

    Mescheder et al. 2018, 1801.04406, eq. 9 (the factor γ/2 is the caller's). `gradient` is that of the *mean* of a
    map's logits with respect to its cells; a sum over patches would make the penalty stronger by the square of their
    number. The factor N makes γ independent of the size of the map: of one random field, the gradient of a mean over
    patches falls as N^-1, and its square summed over N cells as N^-1.
    """
    axes = tuple(range(1, len(gradient.shape)))
    cells = 1
    for n in gradient.shape[1:-1]:
        cells = cells * n
    return ops.mean(ops.sum(ops.square(gradient), axis=axes)) * cells


def crps(first: Any, second: Any, truth: Any) -> Any:
    """Continuous ranked probability score of two realisations, cell by cell; lower is better.

    ½ (|x1 - y| + |x2 - y|) - ½ |x1 - x2|, whose expectation is E|X - y| - ½ E|X - X'| (Gneiting & Raftery 2007, JASA
    102, 359, eq. 21). It is least where x1 and x2 are distributed as the truth given the condition, not where they are
    the median of that, as for the absolute difference alone.

    Examples
    --------
    >>> import numpy as np
    >>> [float(crps(np.array(a), np.array(b), np.array(0.0))) for a, b in [(1.0, 1.0), (-1.0, 1.0), (1.0, 2.0)]]
    [1.0, 0.0, 1.0]
    """
    missed = ops.abs(first - truth) + ops.abs(second - truth)
    return 0.5 * (missed - ops.abs(first - second))


def unit_norm_penalty(gradient: Any) -> Any:
    """(||∇ D|| - 1)² averaged over the batch, on interpolates: Gulrajani et al. 2017, 1704.00028, eq. 3.

    The norm is that of the gradient of the mean logit, times sqrt(N cells), as for :func:`zero_centred_penalty`.
    """
    axes = tuple(range(1, len(gradient.shape)))
    cells = 1
    for n in gradient.shape[1:-1]:
        cells = cells * n
    norm = ops.sqrt(ops.sum(ops.square(gradient), axis=axes) * cells + 1e-12)
    return ops.mean(ops.square(norm - 1.0))
