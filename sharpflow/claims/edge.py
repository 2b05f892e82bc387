"""Progressive sharpening and the edge of stability.

Λ is the Gauss-Newton sharpness; all levels are over the stability threshold of the same step, which
is 2/η for gradient descent. Runs that cannot tell are said at each claim.
"""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import APPROACH_TO, rising_trend, settled
from sharpflow.results.curves import running_mean
from sharpflow.results.edge import (
    BAND_HIGH,
    BAND_LOW,
    EVEN_STRIDE,
    SHARPNESS,
    WINDOW,
    at_edge,
    entries,
    plateau_level,
    reached,
    sees_both_branches,
)
from sharpflow.results.runs import Run
from sharpflow.statistics.intervals import slope
from sharpflow.statistics.verdicts import Failed, Undefined

RUNNING_BOUND = 0.15
APPROACH = 0.9
AT_THRESHOLD = "chosen: a tenth tells the threshold from those of other learning rates, 20 % apart"
NOT_THERE = Failed("it neither reaches the threshold nor swings about it")
LEAST_RECORDS, LEAST_RATES = 10, 3


@claim(
    statement=(
        "Progressive sharpening: from its early minimum until it comes to 0.9 of the stability "
        "threshold the sharpness rises, with a rank correlation with the step of at least 0.9."
    ),
    band=(0.9, INF),
    origin=(
        "chosen: the paper shows monotone curves; one random walk in three passes too, judged from "
        "its own minimum, so that three runs that pass by chance are one in thirty"
    ),
    method=f"Spearman correlation of Λ and the step, {APPROACH_TO} 0.9 of 2/η (or the end)",
    reads=["gauss_newton_sharpness"],
    diverged="counts",
)
def progressive_sharpening(run: Run) -> float:
    """Spearman's rank correlation of Λ with the step over the approach to the threshold.

    A run that never comes to 0.9 of the threshold is judged from its early minimum to its end.
    Undefined where fewer than ten entries lead up to it, as for a run that starts above it.
    """
    trend = rising_trend(run.relative(SHARPNESS)[1], APPROACH)
    if np.isnan(trend):
        return Undefined(f"fewer than {LEAST_RECORDS} records lead up to 0.9 of the threshold")
    return trend


@claim(
    statement=(
        "The sharpness reaches its stability threshold, from below or, where it starts above, from "
        "above."
    ),
    band=(1.0, INF),
    origin="stated: sharpening goes on until 2/η",
    method=(
        "largest Λ over the threshold; for a run that starts above it, the threshold over the "
        "smallest Λ"
    ),
    reads=["gauss_newton_sharpness"],
    diverged="counts",
)
def reaches_threshold(run: Run) -> float:
    """Largest Λ over the threshold; for a run that starts above, the threshold over the least Λ.

    On raw records, as the first crossing is everywhere. Getting there is not staying there, which
    is `edge_of_stability`. Undefined: under ten records before divergence.
    """
    return reached(run, SHARPNESS, LEAST_RECORDS)


@claim(
    statement=(
        "Edge of stability: the run reaches the stability threshold, 2/η for gradient descent, or "
        "swings about it, and the mean of its sharpness after the first cycle is within 10 % of it."
    ),
    band=(BAND_LOW, BAND_HIGH),
    origin=AT_THRESHOLD,
    method=(
        "mean over the threshold of two-step averages of Λ after the first cycle, of runs that "
        "cross it or in which Dᵀv₁ (1 % of ‖D‖² or more) flips at 90 % of the last third's records"
    ),
    reads=["gauss_newton_sharpness"],
)
def edge_of_stability(run: Run) -> float:
    """Plateau of Λ over the threshold.

    A run that neither reaches the threshold nor swings across the valley with period two (see
    `results.edge.at_edge`) is not at the edge however close it hovers: its level over the last
    third if that is outside the band, else an outright failure. Undefined
    where fewer than 50 steps follow the first cycle, or where Λ was measured at an even stride,
    which shows one branch only of an alternation with period two.
    """
    level = plateau_level(run)
    inside = BAND_LOW <= level <= BAND_HIGH
    return NOT_THERE if inside and not at_edge(run) else level


@claim(
    statement=(
        "Edge of stability over time: after the first cycle a 50-step running mean of the "
        "sharpness stays within 15 % of 2/η."
    ),
    band=(-INF, RUNNING_BOUND),
    origin="chosen: half as much again as the plateau's band, for a mean of 50 steps",
    method="largest |running mean of Λ over 50 steps / (2/η) − 1| after the first cycle",
    reads=["gauss_newton_sharpness"],
)
def running_plateau(run: Run) -> float:
    """Largest distance of the 50-step running mean of Λ over the threshold from 1.

    An outright failure: a run that neither reaches the threshold nor swings though
    its running mean over the last third is within the bound. Undefined where fewer than 50 steps
    follow the first cycle, or at an even stride.
    """
    steps, ratio = run.relative(SHARPNESS)
    if not sees_both_branches(run):
        return EVEN_STRIDE
    means = running_mean(settled(ratio, 1.0), entries(steps, WINDOW))
    if not means.size:
        return Undefined(f"fewer than {WINDOW} steps follow the first cycle")
    distance = float(np.max(np.abs(means - 1)))
    return NOT_THERE if distance <= RUNNING_BOUND and not at_edge(run) else distance


@claim(
    statement=(
        "The level at which the sharpness settles is proportional to 2/η: the mean slope of a "
        "regression of the one on the other over the sweep is within [0.9, 1.1]."
    ),
    band=(BAND_LOW, BAND_HIGH),
    origin=AT_THRESHOLD,
    method="slope of a least-squares line, one a seed, of the plateau on 2/η over rates and widths",
    reads=["gauss_newton_sharpness"],
    estimand="mean",
    scope="case",
)
def plateau_slope(runs: Sequence[Run]) -> float:
    """Least-squares slope of the plateau of Λ on the threshold over a seed's runs.

    One regression with intercept a seed, over all learning rates and widths of the case; a run that
    never crosses enters with its level over the last third. The slope is about proportion, the
    level is `edge_of_stability`'s. Undefined: fewer than
    three learning rates, or a run of the seed without a plateau (too short, an even stride).
    """
    thresholds = [run.threshold for run in runs]
    if len(set(thresholds)) < LEAST_RATES:
        return Undefined(f"fewer than {LEAST_RATES} learning rates were run")
    levels = [plateau_level(run) for run in runs]
    for level in levels:
        if np.isnan(level):
            return level
    return slope(thresholds, np.multiply(levels, thresholds))
