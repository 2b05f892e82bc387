"""Noise in proportion to the signal leaves Tr H of a balanced start as it is.

With noise std in proportion to input std the plain balance is the noise equilibrium, and the closed
form predicts no change. Terms of order η lower Tr H by 1 to 2 %; 5 % is half of the smallest
deviation from 1 that the far ends of the sweep are predicted to show.
"""

from sharpflow.claims._noise import end_over_start
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run."""
    return end_over_start(run, "hessian_trace")


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement=(
        "From a balanced start with noise in proportion to the signal SGD leaves Tr H within 5 % "
        "of where it was."
    ),
    statistic=statistic,
    band_low=0.95,
    band_high=1.05,
    method="Tr H, mean of the last fifth over its start",
    cases=("sgd_k_1",),
)
