"""Claim 7: only a few eigenvalues ever exceed 2/η (Li et al., section 4).

"At most three" is the same as "the fourth never does", and the fourth is a continuous quantity with
an interval, which a largest count is not. Where fewer than four eigenvalues were measured, the last
of them bounds the fourth from above: it will do if it stays below 2/η, else undefined (NaN). A
diverged run is undefined.
"""

import numpy as np

from sharpflow.claims._edge import NAN, SHARPNESS
from sharpflow.claims.base import Claim, Run

ALLOWED = 3


def statistic(run: Run) -> float:
    """Largest value over the run of the fourth eigenvalue over 2/η."""
    index = min(max(run.indices(SHARPNESS), default=0), ALLOWED)
    _, values = run.curve(SHARPNESS, index)
    if run.diverged or not values.size or not np.all(np.isfinite(values)):
        return NAN
    ratio = float(values.max()) / run.threshold
    return NAN if index < ALLOWED and ratio > 1 else ratio


CLAIM = Claim(
    paper="li2022",
    figure="alignment",
    statement="At most three Gauss-Newton eigenvalues ever exceed 2/η: the fourth never does.",
    statistic=statistic,
    band_low=-float("inf"),
    band_high=1.0,
    method="largest fourth eigenvalue of the run over 2/η (a lower-numbered one is an upper bound)",
)
