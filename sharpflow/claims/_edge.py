"""What the claims of li2022 share: a run's sharpness curve, and lengths in steps as entries."""

import numpy as np

from sharpflow.claims.base import Run
from sharpflow.dynamics import first_crossing, plateau, resolves_alternation

SHARPNESS = "gauss_newton_sharpness"
INF = float("inf")
NAN = float("nan")

WINDOW = 50
"""Steps of the running mean; also the least number of steps that count as a plateau."""


def entries(steps: np.ndarray, span: int) -> int:
    """An even number of entries, at least 2, that `span` steps hold at the curve's own stride."""
    stride = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return max(2, 2 * round(span / stride / 2))


def sees_both_branches(run: Run) -> bool:
    """Whether Λ was measured at a stride that tells a period-two alternation from its mean."""
    return resolves_alternation(run.curve(SHARPNESS)[0])


def plateau_level(run: Run) -> float:
    """Plateau of Λ; NaN for a diverged run, an even stride, or under `WINDOW` steps of plateau."""
    steps, values = run.curve(SHARPNESS)
    if run.diverged or not sees_both_branches(run):
        return NAN
    return plateau(values, run.threshold, minimum=entries(steps, WINDOW))


def crosses(run: Run) -> bool:
    """Whether Λ ever reaches 2/η."""
    return first_crossing(run.curve(SHARPNESS)[1], run.threshold) is not None


def from_crossing(sharpness: np.ndarray, threshold: float) -> slice:
    """Entries from the first crossing on; all of them for a curve that never crosses."""
    return slice(first_crossing(sharpness, threshold) or 0, None)
