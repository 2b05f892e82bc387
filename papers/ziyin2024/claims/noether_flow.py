"""A step of SGD moves a charge by the Noether flow (Ziyin et al., section 4, equation 5).

Index 0 of what was measured is a minimum of GD, index 1 a generic point.
"""

import math

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING, last
from sharpflow.results.runs import Run

MINIMUM, GENERIC = 0, 1


@claim(
    statement=(
        "Away from a minimum the Noether flow of the SDE, 2σ²Tr[ΣQ], without the discrete-time "
        "term η²∇LᵀQ∇L misses the mean change of the charge by at least 2 %."
    ),
    band=(0.02, INF),
    origin="derived: the full law holds to the 2 % of the finite number of draws",
    method="|1 − η²Tr[ΣQ]/S over the mean of many one-step draws| at a generic point",
    reads=["flow_measured", "flow_sde"],
)
def noether_flow_discrete_term(run: Run) -> float:
    """|1 − SDE flow / measured| at the generic point (a finding of this project).

    dC/dt = 2σ²Tr[ΣQ] of the paper leaves out η²∇LᵀQ∇L, which a step of finite size adds. Relative
    to the noise term it is of order S, so it matters most for large batches far from the minimum;
    at a minimum it vanishes. The term may have either sign, its size is what counts.
    """
    _, measured, without = run.together(("flow_measured", GENERIC), ("flow_sde", GENERIC))
    if not measured.size or measured[-1] == 0:
        return MISSING
    return float(abs(1 - without[-1] / measured[-1]))


@claim(
    statement=(
        "On anisotropic data, where the factors are anisotropic too, isotropic Γ of the same trace "
        "miss the Noether flow by at least 20 %."
    ),
    band=(0.2, INF),
    origin="chosen: ten times the scatter of the finite number of draws",
    method="|mean of many one-step draws over the unweighted prediction − 1| at a minimum",
    reads=["flow_measured", "flow_unweighted"],
    cases=["narrow*"],
)
def noether_flow_weighted(run: Run) -> float:
    """|measured / unweighted − 1| at the minimum, where no discrete-time term interferes.

    Isotropic Γ of the same trace give the same flow wherever the factors, or the data, are
    isotropic: at a minimum that a wide net finds from a random start the two agree within 2 %. A
    net that is narrower than the data has rank keeps the loud inputs, and its factors are as
    anisotropic as they are.
    """
    _, measured, plain = run.together(("flow_measured", MINIMUM), ("flow_unweighted", MINIMUM))
    if not measured.size or plain[-1] == 0:
        return MISSING
    return float(abs(measured[-1] / plain[-1] - 1))


@claim(
    statement=(
        "Along the orbit e^{λQ}θ of a random symmetric Q the Noether flow Tr[ΣQ] falls, has one "
        "zero, and SGD drifts to it from both sides (theorem 4.3)."
    ),
    band=(1.0, INF),
    origin="stated: theorem 4.3",
    method=(
        "least of three shares of four random directions: the sampled flow falls at each of eight "
        "steps of λ from −2 to 2; it has one zero; drawn steps at the ends lead inwards"
    ),
    reads=["orbit_falling", "orbit_single_zero", "orbit_returning"],
    cases=["isotropic", "rotated"],
)
def orbit_theorem(run: Run) -> float:
    """The least of the three shares of directions."""
    shares = [last(run, name) for name in ("orbit_falling", "orbit_single_zero", "orbit_returning")]
    return next((share for share in shares if not math.isfinite(share)), min(shares))
