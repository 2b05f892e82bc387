"""On anisotropic data the norms of the layers do not balance (Ziyin et al., figure 3).

The prediction is below 1 for every unequal split of the variance, and 0.968 at φ = 0.75, the
mildest one of figure 3; 0.99 is a third of the way from balance to it.
"""

from sharpflow.claims._noise import NAN, U, W, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Final ‖U‖²/‖W‖²; undefined (NaN) for a diverged run."""
    if run.diverged:
        return NAN
    return tail_mean(run, "norm_squared", U) / tail_mean(run, "norm_squared", W)


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement=(
        "On anisotropic data with isotropic label noise SGD does not balance the layers: "
        "‖U‖²/‖W‖² ends below 0.99."
    ),
    statistic=statistic,
    band_low=-float("inf"),
    band_high=0.99,
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth",
    cases=("sgd_phi_0_*", "sgd_phi_1_*"),
)
