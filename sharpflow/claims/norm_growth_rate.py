"""The norm of a scale-invariant net grows at the predicted rate (Ziyin et al., section 5.2).

E[Δ‖θ‖²] = η²(Tr Σ/S + ‖∇L‖²) is exact for every step size where θ·∇ℓ = 0, so the band of 5 % is
for the finite number of steps measured. Sums over the measured steps are compared, not means of
ratios, whose denominators are noisy.
"""

from sharpflow.claims._noise import INF, NAN
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Sum of the measured increments of ‖θ‖² over that of the predicted ones."""
    if run.diverged:
        return INF
    _, measured, predicted = run.together("norm_increment", "norm_increment_predicted")
    return float(measured.sum() / predicted.sum()) if predicted.sum() > 0 else NAN


CLAIM = Claim(
    paper="ziyin2024",
    figure="normalisation",
    statement=(
        "‖θ‖² of scale-invariant nets grows under SGD by η²(Tr Σ/S + ‖∇L‖²) a step: measured over "
        "predicted is 1 ± 0.05."
    ),
    statistic=statistic,
    band_low=0.95,
    band_high=1.05,
    method="sum of the increments of ‖θ‖² at the measured steps over the sum of the predictions",
    cases=("net_*_sgd",),
)
