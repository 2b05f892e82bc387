"""Rates along training: of an exponential approach and of early sharpening; their sums."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import Curve, finite_prefix

UPPER, LOWER = 0.9, 0.3
"""Shares of its start between which a decaying curve is fitted."""
LEAST_ENTRIES = 5
"""Fewest entries that a line is fitted to."""


def decay_window(
    steps: ArrayLike, share: ArrayLike, upper: float = UPPER, lower: float = LOWER
) -> tuple[Curve, Curve] | None:
    """Steps and log share from the first entry below `upper` to the first below `lower`.

    Args:
        steps: shape (n,).
        share: shape (n,), what is left of a decaying quantity, 1 at its start.
        upper: share below which the window begins.
        lower: share below which it ends, 0 < lower < upper.

    Returns:
        Two arrays of one length; None if the curve does not come down to `lower`, or has under
        `LEAST_ENTRIES` entries on its way. Both curves are cut at the first non-finite entry.

    Raises:
        ValueError: `lower` is not positive or not below `upper`.
    """
    if not 0 < lower < upper:
        raise ValueError(f"lower is {lower}; it must be positive and below upper, {upper}.")
    times, values = finite_prefix(steps, share)
    below = np.flatnonzero(values < lower)
    if not below.size:
        return None
    start = int(np.flatnonzero(values < upper)[0])
    chosen = slice(start, int(below[0]))
    if below[0] - start < LEAST_ENTRIES:
        return None
    return times[chosen], np.log(values[chosen])


def decay_rate(
    steps: ArrayLike, share: ArrayLike, upper: float = UPPER, lower: float = LOWER
) -> float:
    """Rate of decay a step: minus the least-squares slope of log share over the `decay_window`.

    NaN where there is no window. Arguments and errors as for `decay_window`.
    """
    window = decay_window(steps, share, upper, lower)
    if window is None:
        return float("nan")
    return -_slope(*window)


def accumulated(steps: ArrayLike, rates: ArrayLike) -> np.ndarray:
    """What rates a step add up to from each step to the next by the trapezoidal rule, (n − 1,).

    Args:
        steps: shape (n,).
        rates: at each of the steps, shape (n,); further dimensions are kept.
    """
    times, values = np.asarray(steps, float), np.asarray(rates, float)
    lengths = np.diff(times).reshape(-1, *[1] * (values.ndim - 1))
    return lengths * (values[1:] + values[:-1]) / 2


def growth_rates(
    curves: Sequence[tuple[ArrayLike, ArrayLike]], thresholds: Sequence[float], minimum: int = 10
) -> Curve:
    """Growth rates a step of several sharpness curves over one horizon, shape (curves,).

    Each is the least-squares slope of the curve on the step, from its start to the earliest first
    crossing among all of them, or to the earliest end if none crosses: early rates are larger, so
    that horizons of their own would compare different stretches.

    Args:
        curves: (steps, values) of each run; cut before the first non-finite entry.
        thresholds: stability threshold of each, in the units of its curve.
        minimum: fewest entries of a curve within the horizon.

    Returns:
        NaN for all if any curve has fewer than `minimum` entries there.

    Raises:
        ValueError: there are not as many thresholds as curves.
    """
    kept = [finite_prefix(*curve) for curve in curves]
    ends = []
    for (steps, values), threshold in zip(kept, thresholds, strict=True):
        crossing = first_crossing(values, threshold)
        ends.append(steps[-1 if crossing is None else crossing] if steps.size else -np.inf)
    early = [steps <= min(ends) for steps, _ in kept]
    if not kept or min(int(part.sum()) for part in early) < max(minimum, 2):
        return np.full(len(kept), np.nan)
    return np.array([_slope(t[part], v[part]) for (t, v), part in zip(kept, early, strict=True)])


def _slope(x: Curve, y: Curve) -> float:
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))
