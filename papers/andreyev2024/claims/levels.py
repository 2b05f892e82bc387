"""Where SGD settles: the batch sharpness, and the sharpness of the loss of all samples below it."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import kendall_tau
from sharpflow.results.edge import BAND_HIGH, BAND_LOW
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

BATCH_SHARPNESS = "batch_sharpness_mean_of_ratios"
SHARPNESS = "hessian_sharpness"
HALF = 0.5
LEAST_CASES, LEAST_RECORDS = 2, 3


def level(run: Run, quantity: str) -> float:
    """Mean of a curvature over 2/η at the records of the last third of a run.

    SGD has no alternation with period two that a stride could miss. Undefined: fewer than three
    records there.
    """
    steps, ratio = run.relative(quantity)
    end = ratio[3 * steps >= 2 * run.curve("loss")[0][-1]]
    if end.size < LEAST_RECORDS or not np.isfinite(end).all():
        return Undefined(f"it has fewer than {LEAST_RECORDS} records in its last third")
    return float(end.mean())


@claim(
    statement=(
        "The batch sharpness E[gᵀ H_B g/‖g‖²] settles at 2/η: its mean over the last third of the "
        "run is within 10 % of it."
    ),
    band=(BAND_LOW, BAND_HIGH),
    origin="chosen: the band of edge_of_stability",
    method="mean of the batch sharpness over 2/η over the records of the last third",
    reads=["batch_sharpness_mean_of_ratios", "loss"],
    estimand="mean",
    cases=["batch_*"],
    controls=["too_short"],
)
def batch_sharpness_level(run: Run) -> float:
    """Mean of E[gᵀ H_B g/‖g‖²] over 2/η, over the last third of the records.

    Batches B have gradient g and Hessian H_B; with all samples in the batch it is the curvature
    along the gradient. Undefined as `level`.
    """
    return level(run, BATCH_SHARPNESS)


@claim(
    statement=(
        "The sharpness of the loss of all samples stays far below 2/η meanwhile: the mean of its "
        f"largest Hessian eigenvalue over the last third of the run is at most {HALF:g} of it."
    ),
    band=(-INF, HALF),
    origin="chosen: half of what gradient descent settles at",
    method="mean of λ₁ over 2/η over the records of the last third",
    reads=["hessian_sharpness", "loss"],
    estimand="mean",
    cases=["batch_*"],
    controls=["full"],
)
def sharpness_far_below(run: Run) -> float:
    """Mean of λ₁ of the loss of all samples over 2/η, over the last third of the records.

    Undefined as `level`.
    """
    return level(run, SHARPNESS)


@claim(
    statement=(
        "The smaller the batch, the flatter the loss of all samples: Kendall's τ of the batch size "
        "and the level of λ₁ over 2/η is 1."
    ),
    band=(1.0, 1.0),
    origin="stated: the sharpness at which SGD settles falls with the batch size",
    method="Kendall's τ of the batch size and the mean of λ₁ over 2/η over the last third",
    reads=["hessian_sharpness", "samples", "loss"],
    cases=["batch_*"],
    scope="experiment",
)
def flatter_with_smaller_batches(runs: Sequence[Run]) -> float:
    """Kendall's τ between the batch size and the level of λ₁, over the runs of one seed.

    Undefined too: fewer than two batch sizes, two runs of one.
    """
    sizes = [run.batch or run.samples for run in runs]
    if len(runs) < LEAST_CASES or len(set(sizes)) < len(runs):
        return Undefined("it needs two runs, each with a batch size of its own")
    levels = [level(run, SHARPNESS) for run in runs]
    for each in levels:
        if not np.isfinite(each):
            return each
    return kendall_tau(sizes, levels)
