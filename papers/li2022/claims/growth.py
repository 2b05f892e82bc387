"""What the analysis says of the residual along v₁ and of ‖A‖² (Li et al., sections 3 and 4)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.crossings import APPROACH_TO, approach, first_crossing, first_cycle_end
from sharpflow.results.curves import two_step_average
from sharpflow.results.edge import LEAST_FLIPS, SHARPNESS
from sharpflow.results.residual import growth_steps
from sharpflow.results.runs import Run
from sharpflow.statistics.intervals import slope
from sharpflow.statistics.verdicts import Failed, Undefined

SHARE = 0.001
"""Part of ‖D‖² that lies along v₁ where the swing stands out from what drives it."""
LEAST_STEPS, LEAST_RECORDS = 20, 10
READS = ["gauss_newton_sharpness", "residual_along_v1", "residual_norm_squared"]
FEW = Undefined(f"under {LEAST_STEPS} single steps past 2/η have 0.1 % of ‖D‖² along v₁")


@claim(
    statement=(
        "Past the threshold the residual along v₁ follows d⁺ = (1 − ηΛ) d: the slope of log|d⁺/d| "
        "on log|1 − ηΛ| is 1 ± 0.2."
    ),
    band=(0.8, 1.2),
    origin="derived: the law is that of a quadratic along v₁; 0.2 allows for the turn of v₁ and Λ",
    method="least-squares slope over the steps with Λ > 2/η and over 0.1 % of ‖D‖² along v₁",
    reads=READS,
    diverged="counts",
)
def growth_law(run: Run) -> float:
    """Least-squares slope of log|d⁺/d| on log|1 − ηΛ|, d = Dᵀv₁.

    Where the swing is smaller, d is what drives it and not the unstable mode. Undefined: under
    twenty such steps, as where Λ was not measured at every step. A diverged run counts as far as it
    goes.
    """
    factors, ratios = _steps(run)
    return slope(np.log(np.abs(factors)), np.log(np.abs(ratios))) if factors.size else FEW


@claim(
    statement=(
        "Past the threshold the residual along v₁ changes its sign at every step, as 1 − ηΛ < 0 "
        "says: at nine steps in ten or more."
    ),
    band=(LEAST_FLIPS, INF),
    origin="derived: every step by the law; one in ten is left to rounding near a sign change",
    method="share of sign changes of Dᵀv₁ over the steps of growth_law",
    reads=READS,
    diverged="counts",
)
def residual_flips(run: Run) -> float:
    """Share of sign changes of Dᵀv₁ over the steps of `growth_law`."""
    _, ratios = _steps(run)
    return float(np.mean(ratios < 0)) if ratios.size else FEW


def _steps(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """1 − ηΛ and d⁺/d at the steps that the law is judged on; empty if they are too few."""
    steps, sharpness, along, total = run.together(*READS)
    threshold = run.threshold_at(steps, SHARPNESS)
    factors, ratios = growth_steps(steps, sharpness / threshold, along, total, SHARE)
    return (factors, ratios) if factors.size >= LEAST_STEPS else (factors[:0], ratios[:0])


@claim(
    statement=(
        "DᵀF turns positive, which makes ‖A‖² fall, where Λ peaks: within 5 steps of the largest "
        "two-step average of the first cycle."
    ),
    band=(-5.0, 5.0),
    origin="chosen: phases III and IV last 10 to 30 steps in the published curves",
    method="first step past the crossing with a positive two-step average of DᵀF, less the peak's",
    reads=["gauss_newton_sharpness", "residual_dot_outputs"],
)
def outputs_turn(run: Run) -> float:
    """Steps from the peak of Λ to the first positive two-step average of DᵀF.

    d‖A‖²/dt = −(4/n) DᵀF. A run whose DᵀF never turns positive fails. Undefined: no
    finished first cycle.
    """
    steps, sharpness, product = run.together("gauss_newton_sharpness", "residual_dot_outputs")
    ratio = sharpness / run.threshold_at(steps, SHARPNESS)
    start, end = first_crossing(ratio, 1.0), first_cycle_end(ratio, 1.0)
    if start is None or end is None or end <= start + 1:
        return Undefined("it has no finished first cycle")
    peak = start + int(np.argmax(two_step_average(ratio)[start:end]))
    positive = np.flatnonzero(two_step_average(product)[start:] > 0)
    if not positive.size:
        return Failed("DᵀF never turns positive")
    return float(steps[start + positive[0]] - steps[peak])


@claim(
    statement=(
        "Before the first crossing Λ grows in proportion to ‖A‖²: the slope of log Λ on log ‖A‖² "
        "is 1 ± 0.25."
    ),
    band=(0.75, 1.25),
    origin=(
        "derived: 1 if the output layer alone moves Λ, 2 if two equal layers do; a quarter of the "
        "way from the one to the other is chosen"
    ),
    method=f"least-squares slope over the approach, {APPROACH_TO} 0.9 of 2/η",
    reads=["gauss_newton_sharpness", "output_norm_squared"],
    estimand="mean",
    diverged="counts",
)
def output_norm_exponent(run: Run) -> float:
    """Least-squares slope of log Λ on log ‖A‖² over the approach to the threshold.

    For the two-layer linear network, with a = ‖A‖² and w that of the first layer along the leading
    direction, a and w grow by the same amount and the slope is 2a/(a + w). Undefined for fewer than
    ten records, or where ‖A‖² does not grow.
    """
    steps, sharpness, norm = run.together("gauss_newton_sharpness", "output_norm_squared")
    start, stop = approach(sharpness / run.threshold_at(steps, SHARPNESS), 0.9)
    early = slice(start, stop)
    if stop - start < LEAST_RECORDS or norm[early][-1] <= norm[early][0]:
        return Undefined("‖A‖² does not grow over ten records or more before the crossing")
    return slope(np.log(norm[early]), np.log(sharpness[early]))
