"""The approach to equilibrium does not depend on the width (Ziyin et al., figure 8).

Γ of a fitted net knows the data only, so the exponent is 0 up to the scatter of small nets. At
0.05 the rate would change by a quarter over two decades of width.
"""

from collections.abc import Sequence

from sharpflow.claims._noise import decay_rate, log_log_slope
from sharpflow.claims.base import Claim, Run


def statistic(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the width over a seed's runs."""
    return log_log_slope([run.width for run in runs], [decay_rate(run) for run in runs])


CLAIM = Claim(
    paper="ziyin2024",
    figure="convergence_speed",
    statement=(
        "The rate at which SGD approaches the noise equilibrium does not depend on the width: the "
        "exponent is 0 ± 0.05."
    ),
    statistic=statistic,
    band_low=-0.05,
    band_high=0.05,
    method=(
        "slope, one a seed, of log rate on log width; rate of |‖U‖² − ‖W‖²| between 0.9 and 0.3 of "
        "its start"
    ),
    scope="case",
    cases=("width",),
)
