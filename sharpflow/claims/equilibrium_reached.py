"""SGD reaches the noise equilibrium from every initialisation (Ziyin et al., theorem 4.3, fig. 2).

The bound of 0.1 is this project's: two independent random matrices of these sizes are 0.5 to 0.9
apart, a learning rate of 0.01 leaves fluctuations of some 0.05. The imbalance is that of the second
moments Γ. On isotropic data it cannot tell the weighted from the plain balance; there
`equilibrium_closed_form` decides.
"""

from sharpflow.claims._noise import INF, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Tail average of ‖UᵀΓ_U U − WΓ_W Wᵀ‖/(‖UᵀΓ_U U‖ + ‖WΓ_W Wᵀ‖); inf for a diverged run."""
    return INF if run.diverged else tail_mean(run, "noise_imbalance")


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "SGD reaches the noise equilibrium from every initialisation: the relative imbalance of "
        "UᵀΓ_U U and WΓ_W Wᵀ falls below 0.1."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=0.1,
    method="relative imbalance ‖A − B‖/(‖A‖ + ‖B‖), mean over the last fifth of the steps",
    cases=("sgd_*",),
)
