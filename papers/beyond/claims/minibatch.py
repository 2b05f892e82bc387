"""Mini-batches: where the sharpness of the full loss settles."""

import math
from collections.abc import Sequence

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import HYSTERESIS
from sharpflow.results.curves import kendall_tau
from sharpflow.results.edge import end_level
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

LEAST_CASES = 3


@claim(
    statement=(
        "With mini-batches the sharpness of the full loss stays below 2/η: its mean over the last "
        f"third of the run is at most {1 - HYSTERESIS:g} of it."
    ),
    band=(-INF, 1 - HYSTERESIS),
    origin="chosen: below the dead band that a crossing has to leave",
    method="mean over 2/η of two-step averages of Λ over the last third",
    reads=["gauss_newton_sharpness"],
    cases=["batch_*"],
)
def sgd_stays_below(run: Run) -> float:
    """Mean of Λ over 2/η, over the last third of the records.

    Undefined: an even stride, fewer than twelve records.
    """
    return end_level(run)


@claim(
    statement=(
        "The smaller the batch, the lower the sharpness of the full loss ends: Kendall's τ between "
        "the two is at least 0.6."
    ),
    band=(0.6, 1.0),
    origin="chosen: of four batch sizes at most one pair of six may be out of order",
    method="Kendall's τ of the batch size and the mean of Λ over 2/η over the last third",
    reads=["gauss_newton_sharpness", "samples"],
    scope="experiment",
)
def smaller_batch_flatter(runs: Sequence[Run]) -> float:
    """Kendall's τ between the batch size and the level at which Λ ends.

    Gradient descent counts with all samples. Undefined: fewer than
    three cases, several runs of one batch size, an even stride, fewer than twelve records.
    """
    sizes = [run.batch or run.samples for run in runs]
    if len(runs) < LEAST_CASES or len(set(sizes)) < len(runs):
        return Undefined("it needs three cases, each with its own batch size")
    levels = [end_level(run) for run in runs]
    for level in levels:
        if not math.isfinite(level):
            return level
    return kendall_tau(sizes, levels)
