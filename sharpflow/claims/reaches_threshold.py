"""Beyond li2022: does the sharpness of a network get to its stability threshold at all?

From whichever side it starts, and on raw records, as the first crossing is everywhere. Getting
there is not staying there, which is `edge_of_stability`. Undefined (NaN): under ten records before
divergence.
"""

from sharpflow.claims._edge import INF, NAN, SHARPNESS
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import finite_prefix

LEAST = 10


def statistic(run: Run) -> float:
    """Largest Λ over the threshold; for a run that starts above, the threshold over the least Λ."""
    (values,) = finite_prefix(run.curve(SHARPNESS)[1])
    if values.size < LEAST:
        return NAN
    ratio = values / run.threshold
    return float(ratio.max() if ratio[0] < 1 else 1 / ratio.min())


CLAIM = Claim(
    paper="beyond",
    figure="beyond",
    statement=(
        "The sharpness reaches its stability threshold, from below or, where it starts above, from "
        "above."
    ),
    statistic=statistic,
    band_low=1.0,
    band_high=INF,
    method=(
        "largest Λ over the threshold; for a run that starts above it, the threshold over the "
        "smallest Λ"
    ),
)
