"""Claim 10: the two-layer net of the proof sharpens to 2/η and returns (Li et al., section 5).

A run that does not come up to 2/η did not sharpen until the threshold, and one that diverged never
came back: both are an outright failure (inf). Undefined (NaN): a run that starts at or above 2/η,
one that ends within 20 steps of its first crossing, an even stride.
"""

from sharpflow.claims._edge import INF, NAN, SHARPNESS, sees_both_branches
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import HYSTERESIS, first_crossing, sharpness_summary

LEAST_STEPS = 20


def statistic(run: Run) -> float:
    """Lowest two-step average of Λ after its peak, over 2/η."""
    steps, values = run.curve(SHARPNESS)
    if run.diverged:
        return INF
    if not sees_both_branches(run):
        return NAN
    crossing = first_crossing(values, run.threshold)
    if crossing is None:
        return INF
    if crossing == 0 or steps[-1] - steps[crossing] < LEAST_STEPS:
        return NAN
    return sharpness_summary(steps, values, run.threshold).lowest_after


CLAIM = Claim(
    paper="li2022",
    figure="two_layer_theory",
    statement=(
        "The two-layer linear network of the proof sharpens until 2/η and then returns below it: "
        f"after its peak Λ falls under {1 - HYSTERESIS:g} of 2/η."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=1 - HYSTERESIS,
    method=(
        "lowest two-step average of Λ after the largest one, over 2/η, for runs that start below "
        "2/η; infinite for a run that never reaches 2/η"
    ),
)
