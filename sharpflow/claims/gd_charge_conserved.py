"""GD keeps the Noether charge C = ‖U‖² − ‖W‖² (Ziyin et al., section 3).

Gradient flow conserves it exactly; steps of size η change it by η²∇LᵀQ∇L each, which adds up to a
relative order η while the loss comes down. A tenth bounds that at the learning rates used. A run
whose loss has not come down is undefined (NaN): what never moves conserves everything.
"""

from sharpflow.claims._noise import INF, NAN, U, W, first, has_learnt, last
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """|C − C₀|/|C₀| at the last step; inf for a diverged run."""
    if run.diverged:
        return INF
    if not has_learnt(run, share=1.0):
        return NAN
    start = first(run, "norm_squared", U) - first(run, "norm_squared", W)
    end = last(run, "norm_squared", U) - last(run, "norm_squared", W)
    return abs(end - start) / abs(start)


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "Gradient descent keeps the Noether charge ‖U‖² − ‖W‖² of its initialisation to 10 %."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=0.1,
    method="relative change of ‖U‖² − ‖W‖² from the first to the last step",
    cases=("gd", "gd_small_*", "gd_mild_*", "gd_phi_*"),
)
