"""Claim 5, monotonicity: the loss is not monotone at the edge, ‖R‖² is (Li et al., section 4).

From the first crossing on, since both fall before it; a run that never crosses is judged whole, and
fails. Undefined (NaN): a diverged run, or fewer than 50 steps.
"""

from sharpflow.claims._edge import NAN, SHARPNESS, WINDOW, from_crossing
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import falling_share


def statistic(run: Run) -> float:
    """Share of falling steps of ‖R‖² less that of the loss, from the first crossing on."""
    steps, sharpness, loss, rest = run.together(SHARPNESS, "loss", "rest_norm_squared")
    part = from_crossing(sharpness, run.threshold)
    if run.diverged or not steps.size or steps[-1] - steps[part][0] < WINDOW:
        return NAN
    return falling_share(rest[part]) - falling_share(loss[part])


CLAIM = Claim(
    paper="li2022",
    figure="residual",
    statement=(
        "At the edge the loss is not monotone while ‖R‖² is: from the first crossing on the share "
        "of steps at which ‖R‖² falls exceeds that of the loss by at least 0.1."
    ),
    statistic=statistic,
    band_low=0.1,
    band_high=float("inf"),
    method="share of falling raw steps of ‖R‖² less that of the loss, from the first crossing on",
)
