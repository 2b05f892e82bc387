"""Beyond li2022: the smaller the batch, the lower the sharpness of the full loss ends.

The batch size is the integer that ends the name of a case, `batch_8`; a case without one takes all
samples. Undefined (NaN): fewer than three cases, several runs of one batch size, or a run without
an end level (diverged, an even stride, fewer than twelve records).
"""

from collections.abc import Sequence

from sharpflow.claims._edge import INF, NAN, case_number, end_level
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import kendall_tau

LEAST_CASES = 3


def statistic(runs: Sequence[Run]) -> float:
    """Kendall's τ between the batch size and the level at which Λ ends."""
    sizes = [case_number(run.case) or run.samples for run in runs]
    if len(runs) < LEAST_CASES or len(set(sizes)) < len(runs):
        return NAN
    return kendall_tau(sizes, [end_level(run) for run in runs])


CLAIM = Claim(
    paper="beyond",
    figure="beyond",
    statement=(
        "The smaller the batch, the lower the sharpness of the full loss ends: Kendall's τ between "
        "the two is at least 0.6."
    ),
    statistic=statistic,
    band_low=0.6,
    band_high=INF,
    method="Kendall's τ of the batch size and the mean of Λ over 2/η over the last third",
    scope="experiment",
)
