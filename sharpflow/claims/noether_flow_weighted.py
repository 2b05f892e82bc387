"""The flow knows the weights Γ: with the plain balance in their place it is another flow.

Ziyin et al., section 5.1. Isotropic Γ of the same trace give the same flow wherever the factors, or
the data, are isotropic: at a minimum that a wide net finds from a random start the two agree within
2 %. A net that is narrower than the data has rank keeps the loud inputs, and its factors are as
anisotropic as they are. The bound of 20 % is ten times the width of the band that the right law
keeps (`noether_flow_ratio`): a flow within that band is far from the unweighted one.
"""

from sharpflow.claims._noise import INF, NAN
from sharpflow.claims.base import Claim, Run

MINIMUM = 0


def statistic(run: Run) -> float:
    """|measured / unweighted − 1| at the minimum, where no discrete-time term interferes."""
    _, measured, plain = run.together(("flow_measured", MINIMUM), ("flow_unweighted", MINIMUM))
    if not measured.size or plain[-1] == 0:
        return NAN
    return float(abs(measured[-1] / plain[-1] - 1))


CLAIM = Claim(
    paper="ziyin2024",
    figure="noether_flow",
    statement=(
        "On anisotropic data, where the factors are anisotropic too, isotropic Γ of the same trace "
        "miss the Noether flow by at least 20 %."
    ),
    statistic=statistic,
    band_low=0.2,
    band_high=INF,
    method="|mean of many one-step draws over the unweighted prediction − 1| at a minimum",
    cases=("narrow*",),
)
