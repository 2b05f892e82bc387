"""A constant learning rate diverges where a warmed-up one does not (Ziyin et al., figure 4).

About every seed, so the statistic is an indicator and one seed that behaves otherwise is enough to
make the claim inconclusive. Equal indicators have an interval of no width: it says that all seeds
agreed, not that no further seed could differ. Undefined (NaN) if a seed lacks one of the two cases.
"""

from collections.abc import Sequence

from sharpflow.claims._noise import NAN
from sharpflow.claims.base import Claim, Run

CONSTANT, WARMUP = "sgd_kaiming_constant", "sgd_kaiming_warmup"


def statistic(runs: Sequence[Run]) -> float:
    """1 if the constant rate diverged and the warmed-up one did not, else 0."""
    diverged = {run.case: run.diverged for run in runs}
    if not {CONSTANT, WARMUP} <= set(diverged):
        return NAN
    return float(diverged[CONSTANT] and not diverged[WARMUP])


CLAIM = Claim(
    paper="ziyin2024",
    figure="warmup",
    statement=(
        "From Kaiming's initialisation SGD diverges at the constant learning rate and stays stable "
        "with warm-up, for every seed."
    ),
    statistic=statistic,
    band_low=1.0,
    band_high=float("inf"),
    method="share of seeds of which the constant rate diverged and the warmed-up one did not",
    scope="experiment",
    cases=(CONSTANT, WARMUP),
)
