"""Whether the curvature itself goes on rising once the optimiser is at its threshold."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import last_third
from sharpflow.results.edge import LEAST_RECORDS
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

PRECONDITIONED = "preconditioned_sharpness"
RAW = "hessian_sharpness"


@claim(
    statement=(
        "At its threshold an adaptive method goes on into higher curvature: after the "
        "preconditioned sharpness first comes to the threshold, the sharpness itself grows by "
        "half or more."
    ),
    band=(1.5, INF),
    origin="chosen: far from the 1.04 of Nesterov, which its threshold holds back, on other seeds",
    method=(
        "mean λ₁(H) of the last third over λ₁(H) at the last record before the preconditioned "
        "sharpness first reaches the threshold"
    ),
    reads=[PRECONDITIONED, RAW],
    cases=["rmsprop*", "adam*"],
    controls=["nesterov*", "heavy_ball*"],
)
def curvature_goes_on(run: Run) -> float:
    """Mean of λ₁(H) over the last third of the run, over what it was at the first crossing.

    Undefined: the threshold is not reached, or was before λ₁(H) was
    first measured; fewer than twelve records of λ₁(H).
    """
    steps, ratio = run.relative(PRECONDITIONED)
    crossing = first_crossing(ratio, 1.0)
    times, curvature = run.curve(RAW)
    if crossing is None:
        return Undefined("it never comes to its threshold")
    before = np.flatnonzero(times <= steps[crossing])
    if not before.size or curvature.size < LEAST_RECORDS:
        return Undefined(f"it has fewer than {LEAST_RECORDS} records of the sharpness")
    return float(last_third(curvature).mean() / curvature[before[-1]])
