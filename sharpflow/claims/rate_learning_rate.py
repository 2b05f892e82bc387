"""The approach to equilibrium speeds up as η² a step (Ziyin et al., figure 8).

In units of SDE time, t = ηk, the same exponent is 1. Discrete time adds a correction of relative
order η, which tilts the exponent by a few hundredths over the sweep; 0.1 allows for it.
"""

from collections.abc import Sequence

from sharpflow.claims._noise import decay_rate, log_log_slope
from sharpflow.claims.base import Claim, Run


def statistic(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the learning rate over a seed's runs."""
    return log_log_slope([run.learning_rate for run in runs], [decay_rate(run) for run in runs])


CLAIM = Claim(
    paper="ziyin2024",
    figure="convergence_speed",
    statement=(
        "The rate a step at which SGD approaches the noise equilibrium scales as η²: the exponent "
        "is 2 ± 0.1."
    ),
    statistic=statistic,
    band_low=1.9,
    band_high=2.1,
    method=(
        "slope, one a seed, of log rate on log η; rate of |‖U‖² − ‖W‖²| between 0.9 and 0.3 of its "
        "start"
    ),
    scope="case",
    cases=("eta",),
)
