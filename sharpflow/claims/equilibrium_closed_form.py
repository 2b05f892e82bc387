"""Tail averages of U Uᵀ and Wᵀ W are the closed form's (Ziyin et al., theorem 4.3).

The bound of 6 % allows for terms of relative order η that the closed form leaves out (some 3 % at
the learning rates used) and for the slowest directions. The factors themselves are not unique, the
two products are. Only anisotropic data can decide; `plain_balance_excluded` says that these do.
"""

from sharpflow.claims._noise import INF, last
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """The larger relative Frobenius error of the two tail averages; inf for a diverged run."""
    if run.diverged:
        return INF
    return max(last(run, "equilibrium_error", index) for index in (0, 1))


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "On anisotropic data SGD settles at the closed form of the noise equilibrium: the averages "
        "of U Uᵀ and Wᵀ W over the end of training are within 6 % of it."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=0.06,
    method="larger relative Frobenius error of the averages of Wᵀ W and U Uᵀ",
    cases=("sgd_*",),
)
