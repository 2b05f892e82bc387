"""GD does not align the representations of the two layers (Ziyin et al., figures 6 and 9).

0.6 is well below the 0.8 of `representations_align`. True from a standard initialisation on
anisotropic data only: on isotropic data a GD run that starts small inherits the balance of its
start. A run that has not learnt (loss above 0.7 of its start) is undefined (NaN).
"""

from sharpflow.claims._noise import INF, NAN, has_learnt, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tail average of the cosine of UᵀΓ_U U and WΓ_W Wᵀ."""
    return NAN if run.diverged or not has_learnt(run) else tail_mean(run, "alignment")


CLAIM = Claim(
    paper="ziyin2024",
    figure="representations",
    statement=(
        "Gradient descent does not align the layers: the cosine of UᵀΓ_U U and WΓ_W Wᵀ ends at "
        "0.6 or below."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=0.6,
    method="cosine of UᵀΓ_U U and WΓ_W Wᵀ, mean over the last fifth of the steps",
    cases=("*_gd",),
)
