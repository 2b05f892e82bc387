"""Beyond li2022: under SGD it is the batch sharpness that is expected at 2/η.

E[gᵀ H_B g]/E‖g‖² over batches B with gradient g and Hessian H_B (Andreyev and Beneventano 2024,
"Edge of Stochastic Stability"); with all samples in the batch it is the curvature along the
gradient. The band is that of `edge_of_stability`. A diverged run fails outright (inf); undefined
(NaN): an even stride, fewer than twelve records.
"""

from sharpflow.claims._edge import BAND_HIGH, BAND_LOW, end_level
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Mean of the batch sharpness over 2/η, over the last third of the records."""
    return end_level(run, "batch_sharpness")


CLAIM = Claim(
    paper="beyond",
    figure="beyond",
    statement=(
        "Whatever the batch, the batch sharpness E[gᵀ H_B g]/E‖g‖² settles at 2/η: its mean over "
        "the last third of the run is within 10 % of it."
    ),
    statistic=statistic,
    band_low=BAND_LOW,
    band_high=BAND_HIGH,
    method="mean over 2/η of two-step averages of the batch sharpness over the last third",
)
