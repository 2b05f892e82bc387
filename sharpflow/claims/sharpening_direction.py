"""From a balanced start SGD sharpens or flattens as the data decide (Ziyin et al., section 5.1).

log(Tr H at the end / at the start) is compared with its prediction, so that sign and size both
count: 0 is gradient descent's, a negative value the wrong direction. The band is wide, 0.5 to 1.3:
the quietest directions need far more steps than the rest, which leaves a quarter of the way to go
where noise follows the signal most, and terms of order η lower Tr H by 1 to 2 %, a quarter of the
smallest change predicted. Noise in proportion to the signal (k = 1), where no change is predicted,
is `sharpening_absent`.
"""

import math

from sharpflow.claims._noise import INF, NAN, end_over_start, first
from sharpflow.claims.base import Claim, Run

LEAST = 0.02
"""Smallest predicted |log ratio| that has a direction."""


def statistic(run: Run) -> float:
    """Logarithm of Tr H at the end over the start, over its prediction; inf if it diverged."""
    if run.diverged:
        return INF
    predicted = math.log(first(run, "hessian_trace_predicted") / first(run, "hessian_trace"))
    if abs(predicted) < LEAST:
        return NAN
    return math.log(end_over_start(run, "hessian_trace")) / predicted


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement=(
        "From a balanced start SGD changes Tr H in the predicted direction, up where the noise is "
        "larger where the signal is larger and else down, by 0.5 to 1.3 of the predicted logarithm."
    ),
    statistic=statistic,
    band_low=0.5,
    band_high=1.3,
    method="log of Tr H (mean of the last fifth / start) over its closed form",
    cases=("sgd_k_0", "sgd_k_0_*", "sgd_k_1_*", "sgd_k_2"),
)
