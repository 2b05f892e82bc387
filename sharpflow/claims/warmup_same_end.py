"""Warm-up from Kaiming and a small start end at the same sharpness (Ziyin et al., figure 4).

The two runs of a seed share their samples. Kaiming's Tr H starts at some 20 times the value that
both end at, so a factor of 1.25 either way is near. A diverged run is an outright failure (inf).
"""

from collections.abc import Sequence

from sharpflow.claims._noise import INF, NAN, tail_mean
from sharpflow.claims.base import Claim, Run

WARMUP, XAVIER = "sgd_kaiming_warmup", "sgd_xavier"


def statistic(runs: Sequence[Run]) -> float:
    """Tail average of Tr H with warm-up over that from Xavier's initialisation."""
    named = {run.case: run for run in runs}
    if any(run.diverged for run in runs):
        return INF
    if not {WARMUP, XAVIER} <= set(named):
        return NAN
    return tail_mean(named[WARMUP], "hessian_trace") / tail_mean(named[XAVIER], "hessian_trace")


CLAIM = Claim(
    paper="ziyin2024",
    figure="warmup",
    statement=(
        "SGD with warm-up from Kaiming's initialisation and SGD from Xavier's end at the same "
        "Tr H, within a factor 1.25."
    ),
    statistic=statistic,
    band_low=0.8,
    band_high=1.25,
    method="ratio of the means of Tr H over the last fifth, paired by seed",
    scope="experiment",
    cases=(WARMUP, XAVIER),
)
