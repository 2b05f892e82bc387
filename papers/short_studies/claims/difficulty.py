"""The sharpness at the end against the difficulty of the data (Yoo, Song and Yun 2025)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import last_third, two_step_average
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined


@claim(
    statement=(
        "Where steps are small, the hardest data end at least 1.5 times as sharp as the easiest: "
        "with the largest share of wrong labels against the least."
    ),
    band=(1.5, INF),
    origin=(
        "chosen: runs at the edge of stability, which end at 2/η alike, fall short of it; 2 came "
        "first, which not all runs on seeds that are not judged reached"
    ),
    method="λ₁, mean over the last third, with the most wrong labels over that with the fewest",
    reads=["hessian_sharpness"],
    controls=["edge_*"],
    scope="experiment",
)
def harder_is_sharper(runs: Sequence[Run]) -> float:
    """λ₁ at the end on the hardest data over that on the easiest, of one seed."""
    shares = {run.setting("data.label_noise"): run for run in runs}
    if len(shares) < 2:
        return Undefined("it needs two shares of wrong labels")
    return end(shares[max(shares)]) / end(shares[min(shares)])


def end(run: Run) -> float:
    """Mean of two-step averages of λ₁ over the last third of the records."""
    return end_of(run.curve("hessian_sharpness")[1])


def end_of(values: np.ndarray) -> float:
    """Mean of two-step averages of a curve over the last third of its records."""
    return float(two_step_average(last_third(values)).mean())
