"""GD leaves the sharpness of its initialisation as it is (Ziyin et al., figure 4).

Fitting takes away the smaller factor, 2‖W‖² of ‖U‖² + ‖W‖² or 6 % of Tr H for these shapes, and
steps with ηλ near 1 may add as much again, so that the band is 15 %. SGD takes Tr H down by a
factor of 20.
"""

from sharpflow.claims._noise import end_over_start
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run."""
    return end_over_start(run, "hessian_trace")


CLAIM = Claim(
    paper="ziyin2024",
    figure="warmup",
    statement=(
        "From Kaiming's initialisation gradient descent leaves Tr H within 15 % of where it was."
    ),
    statistic=statistic,
    band_low=0.85,
    band_high=1.15,
    method="Tr H, mean of the last fifth over its start",
    cases=("gd_kaiming",),
)
