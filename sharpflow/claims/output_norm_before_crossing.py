"""Claim 4, before the edge: ‖A‖² and Λ move together (Li et al., section 3).

Raw steps, the paper's anomaly points: before the first crossing there is no alternation. A run that
never crosses is judged over all its steps. Undefined (NaN) for fewer than ten steps.
"""

from sharpflow.claims._edge import NAN, SHARPNESS
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import anomaly_points, first_crossing

LEAST = 10


def statistic(run: Run) -> float:
    """Share of anomaly points among the steps up to the first crossing."""
    _, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    crossing = first_crossing(sharpness, run.threshold)
    stop = None if crossing is None else crossing + 1
    points = anomaly_points(norm[:stop], sharpness[:stop])
    return float(points.mean()) if points.size >= LEAST else NAN


CLAIM = Claim(
    paper="li2022",
    figure="output_norm",
    statement=(
        "Before the first crossing of the stability threshold, at most 3 % of steps are anomaly "
        "points, where ‖A‖² and the sharpness move in opposite directions."
    ),
    statistic=statistic,
    band_low=-float("inf"),
    band_high=0.03,
    method="share of raw steps before the first crossing (or of all) with Δ‖A‖²·ΔΛ < 0",
)
