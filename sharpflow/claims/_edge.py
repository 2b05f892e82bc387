"""What claims about a sharpness curve share: levels of a run, and lengths in steps as entries."""

import re

import numpy as np

from sharpflow.claims.base import Run
from sharpflow.dynamics import first_crossing, plateau, resolves_alternation, sharpness_summary

SHARPNESS = "gauss_newton_sharpness"
INF = float("inf")
NAN = float("nan")

WINDOW = 50
"""Steps of the running mean; also the least number of steps that count as a plateau."""
BAND_LOW, BAND_HIGH = 0.9, 1.1
"""A level within 10 % of the threshold is at it."""
LEAST_RECORDS = 12
"""Fewest records whose last third counts as an end."""


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


def end_level(run: Run, quantity: str = SHARPNESS) -> float:
    """Mean of two-step averages of a curvature over the threshold, over the last third of the run.

    inf for a diverged run; NaN at an even stride, or for fewer than `LEAST_RECORDS` records.
    """
    steps, values = run.curve(quantity)
    if run.diverged:
        return INF
    usable = values.size >= LEAST_RECORDS and np.all(np.isfinite(values))
    if not (usable and resolves_alternation(steps)):
        return NAN
    return sharpness_summary(steps, values, run.threshold).end_mean


def case_number(case: str) -> int | None:
    """The integer that ends the name of a case, 2 of `frozen_2`; None if there is none."""
    match = re.search(r"(\d+)$", case)
    return int(match.group(1)) if match else None


def crosses(run: Run) -> bool:
    """Whether Λ ever reaches 2/η."""
    return first_crossing(run.curve(SHARPNESS)[1], run.threshold) is not None


def from_crossing(sharpness: np.ndarray, threshold: float) -> slice:
    """Entries from the first crossing on; all of them for a curve that never crosses."""
    return slice(first_crossing(sharpness, threshold) or 0, None)
