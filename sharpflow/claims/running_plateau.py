"""Claim 2, over time: the running mean of Λ stays near 2/η (Li et al., section 3).

Outright failures (inf): a diverged run, and one that neither reaches 2/η nor swings (see
`_edge.at_edge`) though its running mean over the last third is within the bound. Undefined (NaN)
where fewer than 50 steps follow the first cycle, at an even stride, or where Λ is not finite in a
run that did not diverge.
"""

import numpy as np

from sharpflow.claims._edge import (
    INF,
    NAN,
    SHARPNESS,
    WINDOW,
    at_edge,
    entries,
    sees_both_branches,
)
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import running_mean, settled

BOUND = 0.15


def statistic(run: Run) -> float:
    """Largest distance of the 50-step running mean from 2/η, over 2/η, after the first cycle."""
    if run.diverged:
        return INF
    steps, values = run.curve(SHARPNESS)
    if not sees_both_branches(run) or not np.all(np.isfinite(values)):
        return NAN
    means = running_mean(settled(values, run.threshold), entries(steps, WINDOW))
    if not means.size:
        return NAN
    distance = float(np.max(np.abs(means / run.threshold - 1)))
    return INF if distance <= BOUND and not at_edge(run) else distance


CLAIM = Claim(
    paper="li2022",
    figure="output_norm",
    statement=(
        "Edge of stability over time: after the first cycle a 50-step running mean of the "
        "sharpness stays within 15 % of 2/η."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=BOUND,
    method="largest |running mean of Λ over 50 steps / (2/η) − 1| after the first cycle",
)
