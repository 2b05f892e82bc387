"""Claim 9: over a sweep of learning rates the plateau is 2/η (Li et al., section 3).

One regression with intercept a seed, over all learning rates and widths of the case; a run that
never crosses enters with its level over the last third. The slope is about proportion, the level is
`edge_of_stability`'s. Undefined (NaN): fewer than three learning rates, or any run of the seed
without a plateau (diverged, too short, an even stride).
"""

from collections.abc import Sequence

from sharpflow.claims._edge import NAN, plateau_level
from sharpflow.claims.base import Claim, Run
from sharpflow.statistics import slope

LEAST = 3


def statistic(runs: Sequence[Run]) -> float:
    """Least-squares slope of the plateau of Λ on 2/η over a seed's runs."""
    thresholds = [run.threshold for run in runs]
    if len(set(thresholds)) < LEAST:
        return NAN
    return slope(thresholds, [plateau_level(run) for run in runs])


CLAIM = Claim(
    paper="li2022",
    figure="plateau",
    statement=(
        "The level at which the sharpness settles is proportional to 2/η: the slope of a "
        "regression of the one on the other over the sweep is within [0.9, 1.1]."
    ),
    statistic=statistic,
    band_low=0.9,
    band_high=1.1,
    method="slope of a least-squares line, one a seed, of the plateau on 2/η over rates and widths",
    scope="case",
)
