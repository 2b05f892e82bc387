"""The norm of a scale-invariant net grows at the predicted rate (Ziyin et al., section 5.2).

E[Δ‖θ‖²] = η²(Tr Σ/S + ‖∇L‖²) is exact for every step size where θ·∇ℓ = 0. Compared is the growth
that the run had, every step of it, with predictions at the measured states and straight lines
between: one draw of a step varies by as much as its mean, thousands of them leave under 1 % a run.
The growth counts from the second measured state: at first ‖θ‖² changes within fewer steps than lie
between two of them. The band of 5 % is for this rule and the finite number of held-out samples.
"""

from sharpflow import dynamics
from sharpflow.claims._noise import INF, NAN, U, W
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Growth of ‖θ‖² over what the predicted increments add up to."""
    if run.diverged:
        return INF
    layers = (("norm_squared", W), ("norm_squared", U))
    steps, inner, outer, predicted = (
        values[1:] for values in run.together(*layers, "norm_increment_predicted")
    )
    total = dynamics.accumulated(steps, predicted).sum()
    norm = inner + outer
    return float((norm[-1] - norm[0]) / total) if total > 0 else NAN


CLAIM = Claim(
    paper="ziyin2024",
    figure="normalisation",
    statement=(
        "‖θ‖² of scale-invariant nets grows under SGD by η²(Tr Σ/S + ‖∇L‖²) a step: grown over "
        "predicted is 1 ± 0.05."
    ),
    statistic=statistic,
    band_low=0.95,
    band_high=1.05,
    method="growth of ‖θ‖² over the accumulated predictions, from the second measured state on",
    cases=("net_*_sgd",),
)
