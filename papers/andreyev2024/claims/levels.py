"""Where SGD settles: the batch sharpness, and the sharpness of the loss of all samples below it."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.curves import kendall_tau
from sharpflow.results.edge import BAND_HIGH, BAND_LOW, end_level
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

BATCH_SHARPNESS = "batch_sharpness_mean_of_ratios"
SHARPNESS = "hessian_sharpness"
HALF = 0.5
LEAST_CASES = 3


@claim(
    statement=(
        "The batch sharpness E[gᵀ H_B g/‖g‖²] settles at 2/η: its mean over the last third of the "
        "run is within 10 % of it."
    ),
    band=(BAND_LOW, BAND_HIGH),
    origin="chosen: the band of edge_of_stability",
    method="mean over 2/η of two-step averages of the batch sharpness over the last third",
    reads=["batch_sharpness_mean_of_ratios"],
    estimand="mean",
    controls=["two_classes"],
)
def batch_sharpness_level(run: Run) -> float:
    """Mean of E[gᵀ H_B g/‖g‖²] over 2/η, over the last third of the records.

    Batches B have gradient g and Hessian H_B; with all samples in the batch it is the curvature
    along the gradient. A diverged run fails outright; undefined: an even stride, fewer than twelve
    records.
    """
    return end_level(run, BATCH_SHARPNESS)


@claim(
    statement=(
        "The sharpness of the loss of all samples stays far below 2/η meanwhile: the mean of its "
        f"largest Hessian eigenvalue over the last third of the run is at most {HALF:g} of it."
    ),
    band=(-INF, HALF),
    origin="chosen: half of what gradient descent settles at",
    method="mean over 2/η of two-step averages of λ₁ over the last third",
    reads=["hessian_sharpness"],
    estimand="mean",
    controls=["full"],
)
def sharpness_far_below(run: Run) -> float:
    """Mean of λ₁ of the loss of all samples over 2/η, over the last third of the records.

    Failed and undefined as `batch_sharpness_level`.
    """
    return end_level(run, SHARPNESS)


@claim(
    statement=(
        "The smaller the batch, the flatter the loss of all samples: Kendall's τ of the batch size "
        "and the level of λ₁ over 2/η is 1."
    ),
    band=(1.0, 1.0),
    origin="stated: the sharpness at which SGD settles falls with the batch size",
    method="Kendall's τ of the batch size and the mean of λ₁ over 2/η over the last third",
    reads=["hessian_sharpness", "samples"],
    scope="experiment",
)
def flatter_with_smaller_batches(runs: Sequence[Run]) -> float:
    """Kendall's τ between the batch size and the level of λ₁, over the runs of one seed.

    A diverged run fails outright. Undefined: fewer than three batch sizes, two runs of one, an even
    stride, fewer than twelve records.
    """
    sizes = [run.batch or run.samples for run in runs]
    if len(runs) < LEAST_CASES or len(set(sizes)) < len(runs):
        return Undefined("it needs three runs, each with a batch size of its own")
    levels = [end_level(run, SHARPNESS) for run in runs]
    for level in levels:
        if not np.isfinite(level):
            return level
    return kendall_tau(sizes, levels)
