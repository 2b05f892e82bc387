"""A step of SGD moves a charge by the Noether flow (Ziyin et al., section 4, equation 5).

Index 0 of what was measured is a minimum of GD, index 1 a generic point.
"""

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import NAN
from sharpflow.results.runs import Run

MINIMUM, GENERIC = 0, 1


@claim(
    statement=(
        "The mean change of the Noether charge in a step of SGD is η²(Tr[ΣQ]/S + ∇LᵀQ∇L), at a "
        "minimum and away from it: measured over predicted is 1 ± 0.02."
    ),
    band=(0.98, 1.02),
    method="mean of many one-step draws over the prediction, at the point further from 1",
    reads=["flow_measured", "flow_predicted"],
)
def noether_flow_ratio(run: Run) -> float:
    """Measured over predicted mean change of the charge, at the point further from 1.

    The law is exact for every step size, so the band of 2 % is for the finite number of draws
    alone. Of the points measured the one whose ratio is further from 1 enters: symmetric about 1 if
    the law holds, and what fails at one point cannot hide behind the other.
    """
    ratios = []
    for index in run.indices("flow_measured"):
        _, measured, predicted = run.together(("flow_measured", index), ("flow_predicted", index))
        if not measured.size or predicted[-1] == 0:
            return NAN
        ratios.append(float(measured[-1] / predicted[-1]))
    return max(ratios, key=lambda ratio: abs(ratio - 1), default=NAN)


@claim(
    statement=(
        "Away from a minimum the Noether flow of the SDE, 2σ²Tr[ΣQ], without the discrete-time "
        "term η²∇LᵀQ∇L misses the mean change of the charge by at least 2 %."
    ),
    band=(0.02, INF),
    method="|1 − η²Tr[ΣQ]/S over the mean of many one-step draws| at a generic point",
    reads=["flow_measured", "flow_sde"],
)
def noether_flow_discrete_term(run: Run) -> float:
    """|1 − SDE flow / measured| at the generic point (a finding of this project).

    dC/dt = 2σ²Tr[ΣQ] of the paper leaves out η²∇LᵀQ∇L, which a step of finite size adds. Relative
    to the noise term it is of order S, so it matters most for large batches far from the minimum;
    at a minimum it vanishes. The bound of 2 % is the width of the band that the full law keeps:
    beyond it the two laws are told apart. The term may have either sign, its size is what counts.
    """
    _, measured, without = run.together(("flow_measured", GENERIC), ("flow_sde", GENERIC))
    if not measured.size or measured[-1] == 0:
        return NAN
    return float(abs(1 - without[-1] / measured[-1]))


@claim(
    statement=(
        "On anisotropic data, where the factors are anisotropic too, isotropic Γ of the same trace "
        "miss the Noether flow by at least 20 %."
    ),
    band=(0.2, INF),
    method="|mean of many one-step draws over the unweighted prediction − 1| at a minimum",
    reads=["flow_measured", "flow_unweighted"],
    cases=["narrow*"],
)
def noether_flow_weighted(run: Run) -> float:
    """|measured / unweighted − 1| at the minimum, where no discrete-time term interferes.

    Isotropic Γ of the same trace give the same flow wherever the factors, or the data, are
    isotropic: at a minimum that a wide net finds from a random start the two agree within 2 %. A
    net that is narrower than the data has rank keeps the loud inputs, and its factors are as
    anisotropic as they are. The bound of 20 % is ten times the width of the band that the right law
    keeps (`noether_flow_ratio`): a flow within that band is far from the unweighted one.
    """
    _, measured, plain = run.together(("flow_measured", MINIMUM), ("flow_unweighted", MINIMUM))
    if not measured.size or plain[-1] == 0:
        return NAN
    return float(abs(measured[-1] / plain[-1] - 1))
