"""Claim 4, over the run: ‖A‖² tracks Λ (Li et al., section 3).

Signs of differences of two-step averages: raw ones are those of the alternation with period two.
Undefined (NaN): a diverged run, an even stride, fewer than 50 steps.
"""

from sharpflow.claims._edge import NAN, SHARPNESS, WINDOW
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import resolves_alternation, sign_agreement


def statistic(run: Run) -> float:
    """Share of steps at which two-step averages of ‖A‖² and Λ move in the same direction."""
    steps, sharpness, norm = run.together(SHARPNESS, "output_norm_squared")
    if run.diverged or not resolves_alternation(steps) or steps[-1] - steps[0] < WINDOW:
        return NAN
    return sign_agreement(norm, sharpness, averaged=True)


CLAIM = Claim(
    paper="li2022",
    figure="output_norm",
    statement=(
        "The squared norm of the output layer tracks the sharpness: over the whole run their "
        "two-step averages move in the same direction at least two times in three."
    ),
    statistic=statistic,
    band_low=2 / 3,
    band_high=float("inf"),
    method="share of steps with Δ‖A‖²·ΔΛ > 0 on two-step averages",
)
