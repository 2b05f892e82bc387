"""The norms of the layers settle at the ratio that the data set (Ziyin et al., figure 3).

The closed form is first order in η, and at the ends of the sweep the quiet directions (a tenth of
the mean variance) are the slowest; 5 % covers both. The plain balance (ratio 1) is 3 to 130 % off
over the sweep.
"""

from sharpflow.claims._noise import INF, U, W, first, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Final ‖U‖²/‖W‖² over the prediction; inf for a diverged run."""
    if run.diverged:
        return INF
    ratio = tail_mean(run, "norm_squared", U) / tail_mean(run, "norm_squared", W)
    return ratio / first(run, "norm_ratio_predicted")


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement=(
        "With isotropic label noise the covariance of the data sets the ratio ‖U‖²/‖W‖² at which "
        "SGD settles: measured over predicted is 1 ± 0.05."
    ),
    statistic=statistic,
    band_low=0.95,
    band_high=1.05,
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth, over the closed form",
    cases=("sgd_phi_*", "sgd_decay_phi_*"),
)
