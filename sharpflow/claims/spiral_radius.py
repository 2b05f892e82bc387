"""SGD spirals outwards on a scale-invariant loss at the predicted rate (Ziyin et al., figure 1).

The prediction, (r₀⁴ + 2η²Tr[Σ₁]t)^¼ with Tr[Σ₁] at the minimum, leaves out the descent to the
minimum, which adds 1 to 3 % to the radius; 5 % allows for it.
"""

import math

from sharpflow.claims._noise import INF, last
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """‖θ‖ at the last step over the predicted radius; inf for a diverged run."""
    if run.diverged:
        return INF
    return math.sqrt(last(run, "norm_squared")) / last(run, "predicted_radius")


CLAIM = Claim(
    paper="ziyin2024",
    figure="scale_invariance",
    statement=(
        "SGD on a scale-invariant loss spirals outwards as the noise predicts: its radius at the "
        "end is within 1 ± 0.05 of the prediction."
    ),
    statistic=statistic,
    band_low=0.95,
    band_high=1.05,
    method="‖θ‖ over (r₀⁴ + 2η²Tr[Σ₁]t/S)^¼ at the last step",
    cases=("sgd",),
)
