"""It is the weighted representations that align, not the plain ones (Ziyin et al., theorem 4.3).

A difference of 0.2 is the gap between the bounds of `representations_align` and
`representations_gd_apart`. On isotropic data the two cosines are the same and the claim fails.
"""

from sharpflow.claims._noise import NAN, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tail average of the cosine with the weights Γ, less that without."""
    if run.diverged:
        return NAN
    return tail_mean(run, "alignment") - tail_mean(run, "alignment_unweighted")


CLAIM = Claim(
    paper="ziyin2024",
    figure="representations",
    statement=(
        "On anisotropic data it is the noise-weighted representations that SGD aligns: their "
        "cosine ends at least 0.2 above that of UᵀU and WWᵀ."
    ),
    statistic=statistic,
    band_low=0.2,
    band_high=float("inf"),
    method="weighted less unweighted cosine, means over the last fifth of the steps",
    cases=("*_sgd",),
)
