"""The squared norm ‖A‖² of the output layer moves with the sharpness (Li et al., section 3)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import resolves_alternation
from sharpflow.results.edge import EVEN_STRIDE, SHARPNESS, WINDOW, entries
from sharpflow.results.residual import agreement_excess, anomaly_points
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

LEAST, LAG = 10, 20


@claim(
    statement=(
        "Before the first crossing of the stability threshold, at most 3 % of steps are anomaly "
        "points, where ‖A‖² and the sharpness move in opposite directions."
    ),
    band=(-INF, 0.03),
    origin="chosen: the paper counts few of them, and gives no number",
    method="share of raw steps before the first crossing (or of all) with Δ‖A‖²·ΔΛ < 0",
    reads=["gauss_newton_sharpness", "output_norm_squared"],
    diverged="counts",
)
def output_norm_before_crossing(run: Run) -> float:
    """Share of anomaly points among the steps up to the first crossing.

    Raw steps, the paper's anomaly points: before the first crossing there is no alternation. A run
    that never crosses is judged over all its steps. Undefined for fewer than ten steps.
    """
    steps, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    crossing = first_crossing(sharpness / run.threshold_at(steps, SHARPNESS), 1.0)
    stop = None if crossing is None else crossing + 1
    points = anomaly_points(norm[:stop], sharpness[:stop])
    if points.size < LEAST:
        return Undefined(f"it crosses within {LEAST} records")
    return float(points.mean())


@claim(
    statement=(
        "Past the first crossing the squared norm of the output layer goes on tracking the "
        "sharpness: their two-step averages move together more often, by 0.01 or more, than by "
        "chance and than under 95 % of the shifts in time."
    ),
    band=(0.01, INF),
    origin="derived: 0 is the null of random signs, and of a shift in time",
    method=(
        "share of steps from the first crossing on with Δ‖A‖²·ΔΛ > 0 on two-step averages, less "
        "the larger of ½ and its 95th percentile over circular shifts by 20 steps or more"
    ),
    reads=["gauss_newton_sharpness", "output_norm_squared"],
    revised="≥ 2/3 before, of the share of steps itself, without a null",
)
def output_norm_tracks(run: Run) -> float:
    """Agreement in direction of ‖A‖² and Λ after the crossing, less what chance gives.

    Signs of differences of two-step averages: raw ones are those of the alternation with period
    two. The shifts keep the share of rises of either curve. Undefined: a run that never crosses, an
    even stride, fewer than 50 steps from the crossing on.
    """
    steps, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    if not resolves_alternation(steps):
        return EVEN_STRIDE
    start = first_crossing(sharpness / run.threshold_at(steps, SHARPNESS), 1.0)
    if start is None or steps[-1] - steps[start] < WINDOW:
        return Undefined(f"fewer than {WINDOW} steps follow a first crossing")
    excess = agreement_excess(norm[start:], sharpness[start:], entries(steps, LAG))
    return Undefined("too few records follow the crossing") if np.isnan(excess) else excess
