"""GD balances the layers if it has weight decay, whatever the data (Ziyin et al., figure 3).

Weight decay shrinks ‖U‖² − ‖W‖² by (1 − ηγ)² a step, at every covariance of the data: 2 % is what
an unfinished decay may leave. It is the plain balance, which SGD without decay does not go to.
"""

from sharpflow.claims._noise import INF, U, W, last
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """‖U‖²/‖W‖² at the last step; inf for a diverged run."""
    if run.diverged:
        return INF
    return last(run, "norm_squared", U) / last(run, "norm_squared", W)


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement=(
        "Gradient descent with weight decay balances the layers whatever the data: ‖U‖²/‖W‖² ends "
        "within 1 ± 0.02."
    ),
    statistic=statistic,
    band_low=0.98,
    band_high=1.02,
    method="‖U‖²/‖W‖² at the last step",
    cases=("gd_decay_phi_*",),
)
