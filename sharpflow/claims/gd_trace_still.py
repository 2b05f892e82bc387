"""GD leaves Tr H of a balanced start at a minimum as it is, whatever the noise.

The start fits the teacher, so that the population's gradient vanishes and nothing but the noise of
SGD could move the factors. On a finite sample GD moves them to the sample's minimum: 2 % allows for
that.
"""

from sharpflow.claims._noise import end_over_start
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run."""
    return end_over_start(run, "hessian_trace")


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement="From a balanced start gradient descent leaves Tr H within 2 % of where it was.",
    statistic=statistic,
    band_low=0.98,
    band_high=1.02,
    method="Tr H, mean of the last fifth over its start",
    cases=("gd_k_*",),
)
