"""Claim 8: freezing layers, output layer first, slows sharpening (Li et al., section 3).

The number of frozen layers is the integer that ends the name of a case: `frozen_0`, `frozen_1`, ….
The growth rate is the least-squares slope of Λ of all parameters on the step, over one horizon for
all runs of a seed: to the earliest first crossing among them, or the end. Undefined (NaN): fewer
than three cases, several runs of one case, or a horizon of fewer than ten entries.
"""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims._edge import INF, NAN, SHARPNESS, case_number
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import growth_rates, kendall_tau

LEAST_CASES, LEAST_ENTRIES = 3, 10


def frozen_layers(case: str) -> int:
    """The integer at the end of a case's name; ValueError if there is none."""
    number = case_number(case)
    if number is None:
        raise ValueError(
            f"case is {case!r}; its name must end with the number of frozen layers, as frozen_2."
        )
    return number


def statistic(runs: Sequence[Run]) -> float:
    """Kendall's τ between the number of frozen layers and the growth rate of Λ."""
    frozen = np.array([frozen_layers(run.case) for run in runs])
    if len(runs) < LEAST_CASES or len(set(frozen)) < len(runs):
        return NAN
    rates = growth_rates(
        [run.curve(SHARPNESS) for run in runs], [run.threshold for run in runs], LEAST_ENTRIES
    )
    return kendall_tau(frozen, rates)


CLAIM = Claim(
    paper="li2022",
    figure="freezing",
    statement=(
        "The more layers are frozen, output layer first, the slower the sharpness of all "
        "parameters grows: Kendall's τ between the two is at most −0.6."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=-0.6,
    method=(
        "Kendall's τ of frozen layers and least-squares slope of Λ, from the start to the earliest "
        "first crossing of the seed's runs"
    ),
    scope="experiment",
)
