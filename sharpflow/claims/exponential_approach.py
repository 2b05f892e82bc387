"""The approach to the noise equilibrium is exponential (Ziyin et al., section 4, figure 2).

Over the window a straight decline and one as 1/t both give R² = 0.94, so 0.98 tells an exponential
from either. A charge that keeps over 0.9 of its start (gradient descent's) is an
outright failure (−inf), one that is on its way but not there is undefined (NaN).
"""

from sharpflow.claims._noise import INF, NAN, charge_decay, goodness_of_line
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import decay_window

UPPER, LOWER = 0.8, 0.1


def statistic(run: Run) -> float:
    """R² of a line through the logarithm of the charge's distance from its end."""
    if run.diverged:
        return -INF
    steps, share = charge_decay(run)
    if share.size and share[-1] > 0.9:
        return -INF
    window = decay_window(steps, share, UPPER, LOWER)
    return NAN if window is None else goodness_of_line(*window)


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "SGD approaches the noise equilibrium exponentially: a straight line explains at least "
        "98 % of the variance of log |C − C*|, C = ‖U‖² − ‖W‖², while it falls from 0.8 to 0.1 of "
        "its start."
    ),
    statistic=statistic,
    band_low=0.98,
    band_high=INF,
    method="R² of a least-squares line of log |C − C*| on the step, from 0.8 to 0.1 of its start",
    cases=("sgd_small_*",),
)
