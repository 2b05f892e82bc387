"""GD hardly moves the norm of a scale-invariant net (Ziyin et al., figures 1 and 5).

Gradient flow conserves it, and finite steps add η²‖∇L‖² while the loss comes down, a few per cent
in all; SGD multiplies it by 10 or more. Growth is the test: that the norm never shrinks is an
identity, θ·∇ℓ = 0.
"""

from sharpflow.claims._noise import INF, NAN, total_norm
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """‖θ‖² at the end over ‖θ‖² at the start; inf for a diverged run."""
    if run.diverged:
        return INF
    _, norm = total_norm(run)
    return float(norm[-1] / norm[0]) if norm.size else NAN


CLAIM = Claim(
    paper="ziyin2024",
    figure="normalisation",
    statement=(
        "‖θ‖² of scale-invariant nets hardly grows under gradient descent: by at most 10 % in all."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=1.1,
    method="‖θ‖² at the last step over ‖θ‖² at the first",
    cases=("net_*_gd", "gd"),
)
