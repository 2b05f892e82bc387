"""Freezing layers, the output layer first, slows sharpening (Li et al., section 3)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import kendall_tau
from sharpflow.results.edge import NAN, SHARPNESS
from sharpflow.results.rates import growth_rates
from sharpflow.results.runs import Run

LEAST_CASES, LEAST_ENTRIES = 3, 10


@claim(
    statement=(
        "The more layers are frozen, output layer first, the slower the sharpness of all "
        "parameters grows: Kendall's τ between the two is at most −0.6."
    ),
    band=(-INF, -0.6),
    method=(
        "Kendall's τ of frozen layers and least-squares slope of Λ, from the start to the earliest "
        "first crossing of the seed's runs"
    ),
    reads=["gauss_newton_sharpness"],
    scope="experiment",
)
def freezing_slows(runs: Sequence[Run]) -> float:
    """Kendall's τ between the number of frozen layers and the growth rate of Λ.

    The growth rate is the least-squares slope of Λ of all parameters over its threshold, over one
    horizon for all runs of a seed: to the earliest first crossing among them, or the end. Undefined
    (NaN): fewer than three cases, several runs of one number of frozen layers, or a horizon of
    fewer than ten entries.
    """
    frozen = np.array([run.setting("training.frozen") for run in runs])
    if len(runs) < LEAST_CASES or len(set(frozen)) < len(runs):
        return NAN
    curves = [run.relative(SHARPNESS) for run in runs]
    return kendall_tau(frozen, growth_rates(curves, [1.0] * len(runs), LEAST_ENTRIES))
