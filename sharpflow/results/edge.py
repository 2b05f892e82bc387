"""What is asked of one run at the edge of stability: its level, and whether it is there at all.

Curvatures are over the stability threshold of the same step, so that schedules, and rules whose
threshold moves, are read like the others. Spans are in steps.
"""

import numpy as np

from sharpflow.results.crossings import first_crossing, plateau, sharpness_summary
from sharpflow.results.curves import finite_prefix, last_third, resolves_alternation
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Failed, Undefined

SHARPNESS = "gauss_newton_sharpness"

DIVERGED = Failed("it diverged")
EVEN_STRIDE = Undefined("an even stride shows one branch of the alternation only")

WINDOW = 50
"""Steps of the running mean; also the least number of steps that count as a plateau."""
BAND_LOW, BAND_HIGH = 0.9, 1.1
"""A level within 10 % of the threshold is at it."""
LEAST_FLIPS, LEAST_SHARE = 0.9, 0.01
"""Of a run that swings: share of records at which Dᵀv₁ flips, and its part of ‖D‖²."""
LEAST_RECORDS = 12
"""Fewest records whose last third counts as an end."""


def entries(steps: np.ndarray, span: int) -> int:
    """An even number of entries, at least 2, that `span` steps hold at the curve's own stride."""
    stride = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return max(2, 2 * round(span / stride / 2))


def sees_both_branches(run: Run) -> bool:
    """Whether Λ was measured at a stride that tells a period-two alternation from its mean."""
    return resolves_alternation(run.curve(SHARPNESS)[0])


def curve_plateau(steps: np.ndarray, ratio: np.ndarray) -> float:
    """Plateau of a ratio to the threshold; NaN at an even stride, or under `WINDOW` steps of it."""
    if not resolves_alternation(steps):
        return EVEN_STRIDE
    level = plateau(ratio, 1.0, minimum=entries(steps, WINDOW))
    if np.isnan(level):
        return Undefined(f"fewer than {WINDOW} steps follow the first cycle")
    return level


def plateau_level(run: Run) -> float:
    """Plateau of Λ over the threshold; inf for a diverged run, and NaN as `curve_plateau`."""
    return DIVERGED if run.diverged else curve_plateau(*run.relative(SHARPNESS))


def reached(run: Run, quantity: str, least: int) -> float:
    """Largest curvature over the threshold; for a run that starts above, the inverse of the least.

    Args:
        run: one run.
        quantity: the curvature.
        least: fewest records before divergence, below which it is undefined.
    """
    (ratio,) = finite_prefix(run.relative(quantity)[1])
    if ratio.size < least:
        return Undefined(f"it has fewer than {least} records")
    return float(ratio.max() if ratio[0] < 1 else 1 / ratio.min())


def end_level(run: Run, quantity: str = SHARPNESS) -> float:
    """Mean of two-step averages of a curvature over the threshold, over the last third of the run.

    inf for a diverged run; NaN at an even stride, or for fewer than `LEAST_RECORDS` records.
    """
    steps, ratio = run.relative(quantity)
    if run.diverged:
        return DIVERGED
    if not resolves_alternation(steps):
        return EVEN_STRIDE
    if ratio.size < LEAST_RECORDS or not np.all(np.isfinite(ratio)):
        return Undefined(f"it has fewer than {LEAST_RECORDS} records")
    return sharpness_summary(steps, ratio, 1.0).end_mean


def at_edge(run: Run) -> bool:
    """Whether the run comes to the edge of stability: Λ reaches the threshold, or the run swings.

    A run that swings is at the edge though Λ stays short of the threshold. On an orbit of period
    two between θ₊ and θ₋ the gradients are opposite, so that the Hessian averaged over the segment
    between them has the eigenvalue 2/η exactly; at the two ends Λ may be less, as with ReLU, whose
    kinks lie in between. Without the instability Dᵀv₁ decays by |1 − ηΛ| a step.
    """
    return first_crossing(run.relative(SHARPNESS)[1], 1.0) is not None or swings(run)


def swings(run: Run) -> bool:
    """Whether Dᵀv₁ changes sign at nearly every record of the last third, and is not negligible.

    False where it was not measured, or at an even stride.
    """
    if not {"residual_along_v1", "residual_norm_squared"} <= run.known:
        return False
    steps, along, total = run.together("residual_along_v1", "residual_norm_squared")
    along, total = map(last_third, (along, total))
    if not resolves_alternation(steps) or along.size < LEAST_RECORDS:
        return False
    flips = np.mean(along[1:] * along[:-1] < 0)
    share = np.median(along**2 / total) if np.all(total > 0) else 0.0
    return bool(flips >= LEAST_FLIPS and share >= LEAST_SHARE)
