"""The phases of a cycle, and the network of the proof (Li et al., sections 3 and 5)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import HYSTERESIS, first_crossing, sharpness_summary
from sharpflow.results.edge import NAN, SHARPNESS, entries, sees_both_branches
from sharpflow.results.phases import cycles as cycles_of
from sharpflow.results.runs import Run

SMOOTHING, LEAST_STEPS, LEAST_EXITS = 20, 100, 2
SURROGATES = 200
STREAM = 20220003
"""Marks the surrogates' random stream, which the seed of the run completes."""
LEAST_AFTER = 20


@claim(
    statement=(
        "Cycles: from the first crossing on, leaving phase I goes to II and leaving III goes to IV "
        "more often, by at least 0.05 of these exits, than in phase-randomised surrogates of the "
        "same curve."
    ),
    band=(0.05, INF),
    method=(
        "share of exits from I and III in order, less the pooled share in 200 surrogates; running "
        "mean of 20 steps, hysteresis 2 % of 2/η"
    ),
    reads=["gauss_newton_sharpness"],
)
def cycles(run: Run) -> float:
    """Share of the free exits in order, less that of phase-randomised surrogates.

    Undefined (NaN), as there is nothing to order: a run that never crosses or slides onto the
    plateau (fewer than two exits from I or III), one that diverges, fewer than 100 steps from the
    first crossing on, an even stride.
    """
    steps, ratio = run.relative(SHARPNESS)
    start = first_crossing(ratio, 1.0)
    if run.diverged or start is None or not sees_both_branches(run):
        return NAN
    if steps[-1] - steps[start] < LEAST_STEPS:
        return NAN
    result = cycles_of(
        ratio[start:],
        1.0,
        np.random.default_rng([STREAM, run.seed]),
        window=entries(steps, SMOOTHING),
        surrogates=SURROGATES,
    )
    return result.excess if result.free_exits >= LEAST_EXITS else NAN


@claim(
    statement=(
        "The two-layer linear network of the proof sharpens until 2/η and then returns below it: "
        f"after its peak Λ falls under {1 - HYSTERESIS:g} of 2/η."
    ),
    band=(-INF, 1 - HYSTERESIS),
    method=(
        "lowest two-step average of Λ after the largest one, over 2/η, for runs that start below "
        "2/η; infinite for a run that never reaches 2/η"
    ),
    reads=["gauss_newton_sharpness"],
)
def two_layer_returns(run: Run) -> float:
    """Lowest two-step average of Λ after its peak, over 2/η.

    A run that does not come up to 2/η did not sharpen until the threshold, and one that diverged
    never came back: both are an outright failure (inf). Undefined (NaN): a run that starts at or
    above 2/η, one that ends within 20 steps of its first crossing, an even stride.
    """
    steps, ratio = run.relative(SHARPNESS)
    if run.diverged:
        return INF
    if not sees_both_branches(run):
        return NAN
    crossing = first_crossing(ratio, 1.0)
    if crossing is None:
        return INF
    if crossing == 0 or steps[-1] - steps[crossing] < LEAST_AFTER:
        return NAN
    return sharpness_summary(steps, ratio, 1.0).lowest_after
