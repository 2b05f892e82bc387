"""Claim 2, level: past its first cycle Λ stays around 2/η (Li et al., section 3).

A run that neither reaches the threshold nor swings across the valley with period two (see
`_edge.at_edge`) is not at the edge however close it hovers: its level over the last third if that
is outside the band, else −inf. A diverged run: inf. Undefined (NaN) where fewer than
50 steps follow the first cycle, or where Λ was measured at an even stride, which shows one branch
only of an alternation with period two.
"""

from sharpflow.claims._edge import BAND_HIGH, BAND_LOW, INF, at_edge, plateau_level
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Plateau of Λ over 2/η."""
    if run.diverged:
        return INF
    ratio = plateau_level(run) / run.threshold
    return -INF if ratio >= BAND_LOW and not at_edge(run) else ratio


CLAIM = Claim(
    paper="li2022",
    figure="output_norm",
    statement=(
        "Edge of stability: the run reaches the stability threshold, 2/η for gradient descent, or "
        "swings about it, and the mean of its sharpness after the first cycle is within 10 % of it."
    ),
    statistic=statistic,
    band_low=BAND_LOW,
    band_high=BAND_HIGH,
    method=(
        "mean over the threshold of two-step averages of Λ after the first cycle, of runs that "
        "cross it or in which Dᵀv₁ (1 % of ‖D‖² or more) flips at 90 % of the last third's records"
    ),
)
