"""SGD aligns the weighted representations of the two layers (Ziyin et al., figures 6 and 9).

The equality is exact for linear nets and approximate for others, so a cosine of 1 is not expected;
0.8 is above what two random positive semi-definite matrices of this shape reach (0.2 to 0.4) and
what the unweighted matrices do (`representations_weighting`).
"""

from sharpflow.claims._noise import INF, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tail average of the cosine of UᵀΓ_U U and WΓ_W Wᵀ; −inf for a diverged run."""
    return -INF if run.diverged else tail_mean(run, "alignment")


CLAIM = Claim(
    paper="ziyin2024",
    figure="representations",
    statement=(
        "SGD aligns the layers of two-layer nonlinear nets: the cosine of UᵀΓ_U U and WΓ_W Wᵀ ends "
        "at 0.8 or above."
    ),
    statistic=statistic,
    band_low=0.8,
    band_high=INF,
    method="cosine of UᵀΓ_U U and WΓ_W Wᵀ, mean over the last fifth of the steps",
    cases=("*_sgd",),
)
