"""The unweighted balance UᵀU = WWᵀ does not describe where SGD settles (Ziyin et al., section 4).

The bound is five times that of `equilibrium_closed_form`: an average that is within 6 % of one of
two closed forms that lie this far apart cannot be near the other. On isotropic data the two are the
same and this claim fails, as it should.
"""

from sharpflow.claims._noise import INF, NAN, last
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """The smaller relative Frobenius error of the two tail averages against the plain balance."""
    if run.diverged:
        return NAN
    return min(last(run, "plain_balance_error", index) for index in (0, 1))


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "On anisotropic data the plain balance UᵀU = WWᵀ is excluded: the averages of U Uᵀ and "
        "Wᵀ W are both at least 30 % away from it."
    ),
    statistic=statistic,
    band_low=0.3,
    band_high=INF,
    method="smaller relative Frobenius error against the unweighted balance",
    cases=("sgd_*",),
)
