"""Normalised gradient descent along the minimisers (Arora, Li and Panigrahi 2022)."""

import numpy as np

from sharpflow.claims.base import claim
from sharpflow.results.runs import Run

ENTRY = 10
"""The first 1/ENTRY of the records, in which the run comes to the minimisers, is left out."""


@claim(
    statement=(
        "Under normalised gradient descent log λ₁ falls as the flow along the minimisers says, "
        "d log λ₁ = −(η²/4) ‖P∇log λ₁‖² a step: the change is within 10 % of it."
    ),
    band=(0.9, 1.1),
    origin="chosen: the flow is the limit of small η; ratios spread by 3 % at η = 0.02",
    method="change of log λ₁ at the nearby minimiser over the last nine tenths, over the integral",
    reads=["minimiser_sharpness", "predicted_log_sharpness_rate"],
    controls=["gradient_descent"],
)
def normalised_gd_flow(run: Run) -> float:
    """Measured over predicted change of log λ₁, once the run has come to the minimisers."""
    steps, sharpness, rate = run.together("minimiser_sharpness", "predicted_log_sharpness_rate")
    late = slice(steps.size // ENTRY, None)
    logs, times = np.log(sharpness[late]), steps[late]
    return (logs[-1] - logs[0]) / np.trapezoid(rate[late], times)
