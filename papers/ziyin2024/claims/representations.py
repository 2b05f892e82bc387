"""SGD aligns the representations of the two layers, GD does not (Ziyin et al., figures 6 and 9)."""

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import IDLE, has_learnt, tail_mean
from sharpflow.results.runs import Run

METHOD = "cosine of UᵀΓ_U U and WΓ_W Wᵀ, mean over the last fifth of the steps"


@claim(
    statement=(
        "SGD aligns the layers of two-layer nonlinear nets: the cosine of UᵀΓ_U U and WΓ_W Wᵀ ends "
        "at 0.8 or above."
    ),
    band=(0.8, INF),
    origin="chosen: above what random positive matrices of this shape reach (0.2 to 0.4), and GD",
    method=METHOD,
    reads=["alignment"],
    cases=["*_sgd"],
)
def representations_align(run: Run) -> float:
    """Tail average of the cosine of UᵀΓ_U U and WΓ_W Wᵀ.

    The equality is exact for linear nets and approximate for others, so a cosine of 1 is not
    expected.
    """
    return tail_mean(run, "alignment")


@claim(
    statement=(
        "Gradient descent does not align the layers: the cosine of UᵀΓ_U U and WΓ_W Wᵀ ends at "
        "0.6 or below."
    ),
    band=(-INF, 0.6),
    origin="chosen: well below the 0.8 of representations_align",
    method=METHOD,
    reads=["alignment"],
    cases=["*_gd"],
)
def representations_gd_apart(run: Run) -> float:
    """Tail average of the cosine of UᵀΓ_U U and WΓ_W Wᵀ.

    True from a standard initialisation on anisotropic data only: on isotropic data a GD run that
    starts small inherits the balance of its start. Undefined for a run that has not learnt (loss
    above 0.7 of its start).
    """
    return tail_mean(run, "alignment") if has_learnt(run) else IDLE


@claim(
    statement=(
        "On anisotropic data it is the noise-weighted representations that SGD aligns: their "
        "cosine ends at least 0.2 above that of UᵀU and WWᵀ."
    ),
    band=(0.2, INF),
    origin="chosen: the gap between the bounds of the two claims above",
    method="weighted less unweighted cosine, means over the last fifth of the steps",
    reads=["alignment", "alignment_unweighted"],
    cases=["*_sgd"],
)
def representations_weighting(run: Run) -> float:
    """Tail average of the cosine with the weights Γ, less that without.

    On isotropic data the two cosines are the same and the claim fails.
    """
    return tail_mean(run, "alignment") - tail_mean(run, "alignment_unweighted")
