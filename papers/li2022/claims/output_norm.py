"""The squared norm ‖A‖² of the output layer moves with the sharpness (Li et al., section 3)."""

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import resolves_alternation
from sharpflow.results.edge import NAN, SHARPNESS, WINDOW
from sharpflow.results.residual import anomaly_points, sign_agreement
from sharpflow.results.runs import Run

LEAST = 10


@claim(
    statement=(
        "Before the first crossing of the stability threshold, at most 3 % of steps are anomaly "
        "points, where ‖A‖² and the sharpness move in opposite directions."
    ),
    band=(-INF, 0.03),
    method="share of raw steps before the first crossing (or of all) with Δ‖A‖²·ΔΛ < 0",
    reads=["gauss_newton_sharpness", "output_norm_squared"],
)
def output_norm_before_crossing(run: Run) -> float:
    """Share of anomaly points among the steps up to the first crossing.

    Raw steps, the paper's anomaly points: before the first crossing there is no alternation. A run
    that never crosses is judged over all its steps. Undefined (NaN) for fewer than ten steps.
    """
    steps, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    crossing = first_crossing(sharpness / run.threshold_at(steps, SHARPNESS), 1.0)
    stop = None if crossing is None else crossing + 1
    points = anomaly_points(norm[:stop], sharpness[:stop])
    return float(points.mean()) if points.size >= LEAST else NAN


@claim(
    statement=(
        "The squared norm of the output layer tracks the sharpness: over the whole run their "
        "two-step averages move in the same direction at least two times in three."
    ),
    band=(2 / 3, INF),
    method="share of steps with Δ‖A‖²·ΔΛ > 0 on two-step averages",
    reads=["gauss_newton_sharpness", "output_norm_squared"],
)
def output_norm_tracks(run: Run) -> float:
    """Share of steps at which two-step averages of ‖A‖² and Λ move in the same direction.

    Signs of differences of two-step averages: raw ones are those of the alternation with period
    two. Undefined (NaN): a diverged run, an even stride, fewer than 50 steps.
    """
    steps, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    if run.diverged or not resolves_alternation(steps) or steps[-1] - steps[0] < WINDOW:
        return NAN
    return sign_agreement(norm, sharpness, averaged=True)
