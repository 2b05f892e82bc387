"""A step of SGD moves the charge by the Noether flow with its discrete term (Ziyin et al., eq. 5).

E[ΔC] = η²(Tr[Σ Q]/S + ∇LᵀQ∇L) is exact for every step size, so the band of 2 % is for the
finite number of draws alone. Of the points measured (index 0 a minimum of GD, 1 a generic point)
the one whose ratio is further from 1 enters: symmetric about 1 if the law holds, and what fails at
one point cannot hide behind the other.
"""

from sharpflow.claims._noise import NAN
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Measured over predicted mean change of the charge, at the point further from 1."""
    ratios = []
    for index in run.indices("flow_measured"):
        _, measured, predicted = run.together(("flow_measured", index), ("flow_predicted", index))
        if not measured.size or predicted[-1] == 0:
            return NAN
        ratios.append(float(measured[-1] / predicted[-1]))
    return max(ratios, key=lambda ratio: abs(ratio - 1), default=NAN)


CLAIM = Claim(
    paper="ziyin2024",
    figure="noether_flow",
    statement=(
        "The mean change of the Noether charge in a step of SGD is η²(Tr[ΣQ]/S + ∇LᵀQ∇L), at a "
        "minimum and away from it: measured over predicted is 1 ± 0.02."
    ),
    statistic=statistic,
    band_low=0.98,
    band_high=1.02,
    method="mean of many one-step draws over the prediction, at the point further from 1",
)
