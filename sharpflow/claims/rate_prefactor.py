"""The approach to equilibrium has the predicted rate (Ziyin et al., section 4, figure 8).

The prediction 4kη²/S · Var(x) Var(ε) is that near the minimum in continuous time. A residual that
is still there and the discrete-time term raise the rate by up to a tenth; 0.15 allows for them.
"""

from sharpflow.claims._noise import decay_rate, first
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Decay rate of the charge over its prediction."""
    return decay_rate(run) / first(run, "rate_predicted")


CLAIM = Claim(
    paper="ziyin2024",
    figure="convergence_speed",
    statement=(
        "SGD approaches the noise equilibrium at the predicted rate, 4kη²/S a step for k inputs: "
        "measured over predicted is 1 ± 0.15."
    ),
    statistic=statistic,
    band_low=0.85,
    band_high=1.15,
    method="rate of |‖U‖² − ‖W‖²| between 0.9 and 0.3 of its start, over 4kη²/S · Var(x) Var(ε)",
    cases=("eta", "batch_*", "width"),
)
