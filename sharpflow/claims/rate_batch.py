"""The approach to equilibrium slows down as 1/S (Ziyin et al., figure 8).

The batch size is the number that ends the name of a case: `batch_25`. The noise term is exactly
proportional to 1/S and the discrete-time term does not depend on S; where it is not negligible it
lifts the rate at large batches, and 0.1 allows for it.
"""

from collections.abc import Sequence

from sharpflow.claims._noise import decay_rate, log_log_slope, trailing_number
from sharpflow.claims.base import Claim, Run


def statistic(runs: Sequence[Run]) -> float:
    """Exponent of the decay rate in the batch size over a seed's runs."""
    return log_log_slope(
        [trailing_number(run.case) for run in runs], [decay_rate(run) for run in runs]
    )


CLAIM = Claim(
    paper="ziyin2024",
    figure="convergence_speed",
    statement=(
        "The rate at which SGD approaches the noise equilibrium scales as 1/S: the exponent is "
        "−1 ± 0.1."
    ),
    statistic=statistic,
    band_low=-1.1,
    band_high=-0.9,
    method=(
        "slope, one a seed, of log rate on log S; rate of |‖U‖² − ‖W‖²| between 0.9 and 0.3 of its "
        "start"
    ),
    scope="experiment",
    cases=("batch_*",),
)
