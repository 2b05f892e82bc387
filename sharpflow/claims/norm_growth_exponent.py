"""The norm of a scale-invariant net grows as the root of time (Ziyin et al., section 5.2).

Σ ∝ 1/‖θ‖² gives ‖θ‖² = (r₀⁴ + ct)^½: over the last decade of a run whose norm has grown tenfold
the slope is 0.48 to 0.50. The band of 0.05 leaves room for a loss that is still falling, and none
for the next simple powers, 0 and 1.
"""

import numpy as np

from sharpflow.claims._noise import INF, NAN, total_norm
from sharpflow.claims.base import Claim, Run
from sharpflow.statistics import slope

LEAST_ENTRIES = 5


def statistic(run: Run) -> float:
    """Slope of log ‖θ‖² on log step over the last decade of steps; inf for a diverged run."""
    if run.diverged:
        return INF
    steps, norm = total_norm(run)
    late = steps >= max(steps[-1] / 10, 1) if steps.size else steps.astype(bool)
    if late.sum() < LEAST_ENTRIES:
        return NAN
    return slope(np.log(steps[late]), np.log(norm[late]))


CLAIM = Claim(
    paper="ziyin2024",
    figure="normalisation",
    statement=(
        "‖θ‖² of scale-invariant nets grows as the root of time under SGD: the slope of log ‖θ‖² "
        "on log t is 0.5 ± 0.05."
    ),
    statistic=statistic,
    band_low=0.45,
    band_high=0.55,
    method="least-squares slope of log ‖θ‖² on log step from a tenth of the run to its end",
    cases=("net_*_sgd",),
)
