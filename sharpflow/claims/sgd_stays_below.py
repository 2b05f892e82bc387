"""Beyond li2022: under SGD the sharpness of the full loss settles below 2/η.

About the cases named `batch_…`. The margin is the dead band of `sharpflow.dynamics`. A diverged run
fails outright (inf); undefined (NaN): an even stride, fewer than twelve records.
"""

from sharpflow.claims._edge import INF, end_level
from sharpflow.claims.base import Claim
from sharpflow.dynamics import HYSTERESIS

CLAIM = Claim(
    paper="beyond",
    figure="beyond",
    statement=(
        "With mini-batches the sharpness of the full loss stays below 2/η: its mean over the last "
        f"third of the run is at most {1 - HYSTERESIS:g} of it."
    ),
    statistic=end_level,
    band_low=-INF,
    band_high=1 - HYSTERESIS,
    method="mean over 2/η of two-step averages of Λ over the last third",
    cases=("batch_*",),
)
