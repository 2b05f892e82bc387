"""Claim 3: the phases follow one another in order, I, II, III, IV (Li et al., section 3, figure 1).

Undefined (NaN), as there is nothing to order: a run that never crosses or slides onto the plateau
(fewer than two exits from I or III), one that diverges, fewer than 100 steps from the first
crossing on, an even stride.
"""

import numpy as np

from sharpflow import dynamics
from sharpflow.claims._edge import NAN, SHARPNESS, entries, sees_both_branches
from sharpflow.claims.base import Claim, Run

SMOOTHING, LEAST_STEPS, LEAST_EXITS = 20, 100, 2
SURROGATES = 200
STREAM = 20220003
"""Marks the surrogates' random stream, which the seed of the run completes."""


def statistic(run: Run) -> float:
    """Share of the free exits in order, less that of phase-randomised surrogates."""
    steps, values = run.curve(SHARPNESS)
    start = dynamics.first_crossing(values, run.threshold)
    if run.diverged or start is None or not sees_both_branches(run):
        return NAN
    if steps[-1] - steps[start] < LEAST_STEPS:
        return NAN
    result = dynamics.cycles(
        values[start:],
        run.threshold,
        np.random.default_rng([STREAM, run.seed]),
        window=entries(steps, SMOOTHING),
        surrogates=SURROGATES,
    )
    return result.excess if result.free_exits >= LEAST_EXITS else NAN


CLAIM = Claim(
    paper="li2022",
    figure="phases",
    statement=(
        "Cycles: from the first crossing on, leaving phase I goes to II and leaving III goes to IV "
        "more often, by at least 0.05 of these exits, than in phase-randomised surrogates of the "
        "same curve."
    ),
    statistic=statistic,
    band_low=0.05,
    band_high=float("inf"),
    method=(
        "share of exits from I and III in order, less the pooled share in 200 surrogates; running "
        "mean of 20 steps, hysteresis 2 % of 2/η"
    ),
)
