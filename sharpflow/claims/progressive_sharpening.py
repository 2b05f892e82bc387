"""Claim 1: Λ rises until it reaches 2/η (Li et al., section 3, phase I).

A run that never crosses is judged from its early minimum to its end. Undefined (NaN) where fewer
than ten entries lead up to the crossing, as for a run that starts above the threshold.
"""

from sharpflow.claims._edge import SHARPNESS
from sharpflow.claims.base import Claim, Run
from sharpflow.dynamics import rising_trend


def statistic(run: Run) -> float:
    """Spearman's rank correlation of Λ with the step over the approach to 2/η."""
    return rising_trend(run.curve(SHARPNESS)[1], run.threshold)


CLAIM = Claim(
    paper="li2022",
    figure="output_norm",
    statement=(
        "Progressive sharpening: from its early minimum to the first crossing of 2/η the sharpness "
        "has a rising trend, with a rank correlation with the step of at least 0.9."
    ),
    statistic=statistic,
    band_low=0.9,
    band_high=float("inf"),
    method="Spearman correlation of Λ and the step, early minimum to first crossing (or the end)",
)
