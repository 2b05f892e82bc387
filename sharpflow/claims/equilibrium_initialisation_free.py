"""Where SGD settles does not depend on where it starts (Ziyin et al., theorem 4.3).

Over the initialisations of one seed, which share their data, the tail averages of ‖W‖² and ‖U‖² are
compared. The bound is that of `equilibrium_closed_form`; the initial norms differ by a factor of
16, a relative range of 1.8. Undefined (NaN) with fewer than two cases.
"""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims._noise import INF, NAN, U, W, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(runs: Sequence[Run]) -> float:
    """Range over mean of the tail averages of ‖W‖² and ‖U‖², the larger of the two."""
    if any(run.diverged for run in runs):
        return INF
    if len({run.case for run in runs}) < 2:
        return NAN
    levels = np.array([[tail_mean(run, "norm_squared", index) for run in runs] for index in (W, U)])
    return float(np.max(np.ptp(levels, axis=1) / levels.mean(axis=1)))


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "The noise equilibrium does not depend on the initialisation: final ‖U‖² and ‖W‖² from "
        "different starts agree within 6 %."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=0.06,
    method="(max − min)/mean over initialisations of the mean of ‖U‖², ‖W‖² over the last fifth",
    scope="experiment",
    cases=("sgd_*",),
)
