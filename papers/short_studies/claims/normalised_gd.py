"""Two rules that follow flows along the minimisers (Arora, Li and Panigrahi 2022)."""

import numpy as np

from sharpflow.claims.base import claim
from sharpflow.results.runs import Run

ENTRY = 10
"""The first 1/ENTRY of the records, in which the run comes to the minimisers, is left out."""
SHARPNESS, RATE = "minimiser_sharpness", "predicted_log_sharpness_rate"
METHOD = "change of log λ₁ at the nearby minimiser over the last nine tenths, over the integral"


def measured_over_predicted(run: Run, other: bool = False) -> float:
    """Change of log λ₁ over the integral of its rate, past the entry.

    The rate is the predicted one, or with `other` 2/λ₁ of it, which takes gradient descent on √L to
    the flow of normalised gradient descent.
    """
    steps, sharpness, rate = run.together(SHARPNESS, RATE)
    late = slice(steps.size // ENTRY, None)
    logs, rates = np.log(sharpness[late]), rate[late]
    rates = 2 * rates / sharpness[late] if other else rates
    return (logs[-1] - logs[0]) / np.trapezoid(rates, steps[late])


@claim(
    statement=(
        "Under normalised gradient descent log λ₁ falls as the flow along the minimisers says, "
        "d log λ₁ = −(η²/4) ‖P∇log λ₁‖² a step: the change is within 10 % of it."
    ),
    band=(0.9, 1.1),
    origin="chosen: the flow is the limit of small η; ratios spread by 3 % at η = 0.02",
    method=METHOD,
    reads=[SHARPNESS, RATE],
    cases=["normalised_gd"],
    controls=["gradient_descent"],
)
def normalised_gd_flow(run: Run) -> float:
    """Measured over predicted change of log λ₁, once the run has come to the minimisers."""
    return measured_over_predicted(run)


@claim(
    statement=(
        "Under gradient descent on √L log λ₁ falls as its flow along the minimisers says, "
        "d log λ₁ = −(η²/8) λ₁ ‖P∇log λ₁‖² a step: the change is within 10 % of it."
    ),
    band=(0.9, 1.1),
    origin="chosen: the band of normalised_gd_flow",
    method=METHOD,
    reads=[SHARPNESS, RATE],
    cases=["descent_on_root"],
    controls=["gradient_descent"],
    foils={"normalised_gd’s flow": lambda run: measured_over_predicted(run, other=True)},
)
def root_gd_flow(run: Run) -> float:
    """Measured over predicted change of log λ₁, once the run has come to the minimisers."""
    return measured_over_predicted(run)
