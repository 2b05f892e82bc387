"""Freezing layers, the output layer first, slows sharpening (Li et al., section 3)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import claim
from sharpflow.results.curves import kendall_tau
from sharpflow.results.edge import SHARPNESS
from sharpflow.results.rates import growth_rates
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

LEAST_CASES, LEAST_ENTRIES = 3, 10


@claim(
    statement=(
        "The more layers are frozen, output layer first, the slower the sharpness of all "
        "parameters grows: Kendall's τ between the two is at most −0.6."
    ),
    band=(-1.0, -0.6),
    origin="chosen: of four cases at most one pair of six may be out of order",
    method=(
        "Kendall's τ of frozen layers and least-squares slope of Λ, from the start to the earliest "
        "first crossing of the seed's runs"
    ),
    reads=["gauss_newton_sharpness"],
    scope="experiment",
    diverged="counts",
)
def freezing_slows(runs: Sequence[Run]) -> float:
    """Kendall's τ between the number of frozen layers and the growth rate of Λ.

    The growth rate is the least-squares slope of Λ of all parameters over its threshold, over one
    horizon for all runs of a seed: to the earliest first crossing among them, or the end.
    Undefined: fewer than three cases, several runs of one number of frozen layers, or a horizon of
    fewer than ten entries.
    """
    frozen = np.array([run.setting("training.frozen") for run in runs])
    if len(runs) < LEAST_CASES or len(set(frozen)) < len(runs):
        return Undefined("it needs three cases, each with its own number of frozen layers")
    curves = [run.relative(SHARPNESS) for run in runs]
    rates = growth_rates(curves, [1.0] * len(runs), LEAST_ENTRIES)
    if not np.all(np.isfinite(rates)):
        return Undefined(f"a run crosses within {LEAST_ENTRIES} records")
    return kendall_tau(frozen, rates)
