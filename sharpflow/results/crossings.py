"""Where a sharpness curve meets the stability threshold, and where it settles.

Definitions for section 3 of Li et al., *Analyzing Sharpness along GD Trajectory* (NeurIPS 2022).
The threshold is 2/η for gradient descent with learning rate η, in the units of the curve. Indices
are positions in the curve, not steps, so any stride will do.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from sharpflow.results.curves import (
    Curve,
    as_curve,
    finite_prefix,
    last_third,
    rank_correlation,
    two_step_average,
)

HYSTERESIS = 0.02
"""Half-width of the dead band around the threshold, as a share of the threshold."""


APPROACH_TO = "early minimum (the least record of the first half) to the first record at or above"
"""What `approach` spans, both records included."""


def check_threshold(threshold: float) -> None:
    """ValueError unless the threshold is positive and finite."""
    if not (np.isfinite(threshold) and threshold > 0):
        raise ValueError(f"threshold is {threshold}; it must be positive and finite.")


def levels(curve: Curve, threshold: float, hysteresis: float) -> np.ndarray:
    """Whether each entry counts as at or above the threshold, shape (n,), with hysteresis.

    The level changes where the curve passes the threshold, if it then goes beyond the far edge of
    the band threshold·(1 ± hysteresis) before it comes back to the near one; of several passages
    the last counts. A curve that never leaves the band keeps the level of its first entry.

    Raises:
        ValueError: a threshold that is not positive and finite, or a hysteresis outside [0, 1).
    """
    check_threshold(threshold)
    if not 0 <= hysteresis < 1:
        raise ValueError(f"hysteresis is {hysteresis}; it must be at least 0 and below 1.")
    above = curve >= threshold
    clear = np.where(curve >= threshold * (1 + hysteresis), 1, 0)
    clear[curve < threshold * (1 - hysteresis)] = -1
    marks = np.flatnonzero(clear)
    if not curve.size:
        return above
    level = np.full(curve.size, clear[marks[0]] > 0 if marks.size else above[0])
    for before, after in pairwise(marks):
        if clear[before] != clear[after]:
            side = clear[after] > 0
            passages = np.flatnonzero(
                (above[before + 1 : after + 1] == side) & (above[before:after] != side)
            )
            level[before + 1 + passages[-1] :] = side
    return level


def first_crossing(values: ArrayLike, threshold: float) -> int | None:
    """First index with values[i] ≥ threshold, on raw entries; None if there is none.

    0 for a curve that starts at or above the threshold.
    """
    check_threshold(threshold)
    (curve,) = finite_prefix(values)
    reached = np.flatnonzero(curve >= threshold)
    return int(reached[0]) if reached.size else None


def up_crossings(values: ArrayLike, threshold: float, hysteresis: float = HYSTERESIS) -> int:
    """Number of times that the two-step averaged curve passes the threshold upwards.

    A passage counts if the averaged curve was below threshold·(1 − hysteresis) since the last one
    and goes on to threshold·(1 + hysteresis). Raw entries would count every second step of a
    period-two alternation. A curve that slides onto the threshold without overshoot scores 0.
    """
    return int(up_crossing_indices(values, threshold, hysteresis).size)


def up_crossing_indices(
    values: ArrayLike, threshold: float, hysteresis: float = HYSTERESIS
) -> np.ndarray:
    """Indices of the `up_crossings`: the first average at or above the threshold, of each.

    Index i stands for the mean of entries i and i + 1.
    """
    (curve,) = finite_prefix(values)
    level = levels(two_step_average(curve), threshold, hysteresis)
    return np.flatnonzero(level[1:] & ~level[:-1]) + 1


def first_cycle_end(values: ArrayLike, threshold: float) -> int | None:
    """Index at which the first cycle is over; statistics "after the first crossing" start there.

    The first cycle goes from the first crossing over the peak back below the threshold, on two-step
    averages s: its end is the first i past the crossing with s[i] < threshold, once s has been at
    or above it. No hysteresis: a brief touch ends the cycle, and the spike that may follow counts
    as part of what comes after; the mean over the plateau has to be read beside a running mean.

    * The averaged curve never reaches the threshold (only the upper branch of an alternation
      touches it), or reaches it and never returns (a slide onto a plateau from below, or a run that
      ends in its spike): there is no finished cycle to leave out; the first crossing is returned.
    * The curve never crosses: None.
    """
    start = first_crossing(values, threshold)
    if start is None:
        return None
    (curve,) = finite_prefix(values)
    averaged = two_step_average(curve)[start:]
    reached = np.flatnonzero(averaged >= threshold)
    if not reached.size:
        return start
    returned = np.flatnonzero(averaged[reached[0] :] < threshold)
    return start + int(reached[0] + returned[0]) if returned.size else start


def settled(values: ArrayLike, threshold: float) -> Curve:
    """Entries from the end of the first cycle; of a curve that never crosses, the last third.

    A copy of the raw entries, before divergence.
    """
    (curve,) = finite_prefix(values)
    start = first_cycle_end(curve, threshold)
    return (last_third(curve) if start is None else curve[start:]).copy()


def plateau(values: ArrayLike, threshold: float, minimum: int = 2) -> float:
    """Mean of the two-step averages over the `settled` entries, in the units of the curve.

    For a curve that never crosses this is its level over the last third, so that a net that hovers
    below the threshold is seen to. NaN if the curve has a non-finite entry (a diverged run has no
    plateau) or if fewer than `minimum` settled entries remain (a crossing just before the end).
    """
    curve = as_curve(values)
    if not np.all(np.isfinite(curve)):
        return float("nan")
    tail = settled(curve, threshold)
    return float(two_step_average(tail).mean()) if tail.size >= max(minimum, 2) else float("nan")


def approach(values: ArrayLike, threshold: float) -> tuple[int, int]:
    """Index range [start, stop) of the approach to the threshold.

    It ends with the first crossing, which is the last entry of it, or with the curve if there is
    none, and starts at the early minimum: the smallest entry of the first half of all up to there.
    That half keeps a long fall followed by a jump from being taken for a rise.
    """
    (curve,) = finite_prefix(values)
    crossing = first_crossing(curve, threshold)
    stop = curve.size if crossing is None else crossing + 1
    start = int(np.argmin(curve[: (stop + 1) // 2])) if stop else 0
    return start, stop


def rising_trend(values: ArrayLike, threshold: float, minimum: int = 10) -> float:
    """Spearman's rank correlation of the curve with time over its `approach`, in [−1, 1].

    A curve that never crosses is judged to its end and not to its maximum, which would choose the
    rising part. NaN if the approach has fewer than `minimum` entries: a curve that starts above the
    threshold, or reaches it at once, says nothing on how it got there. 0 for a constant curve.
    """
    (curve,) = finite_prefix(values)
    start, stop = approach(curve, threshold)
    if stop - start < minimum:
        return float("nan")
    return rank_correlation(np.arange(start, stop), curve[start:stop])


@dataclass(frozen=True)
class SharpnessSummary:
    """A sharpness curve in six numbers; shares of the threshold unless stated.

    Attributes:
        first_crossing: step of the first raw entry at or above the threshold; NaN if never.
        peak: largest two-step average.
        lowest_after: smallest two-step average after the peak; NaN if the peak is the last entry.
        end_mean: mean of the two-step averages over the last third of the entries.
        end_spread: standard deviation (n − 1) of the same.
        up_crossings: count, see `up_crossings`.
    """

    first_crossing: float
    peak: float
    lowest_after: float
    end_mean: float
    end_spread: float
    up_crossings: int


def sharpness_summary(steps: ArrayLike, values: ArrayLike, threshold: float) -> SharpnessSummary:
    """The row of the report's table for one curve; what cannot be had is NaN.

    Args:
        steps: shape (n,), the steps at which the curve was measured.
        values: shape (n,), the curve; cut before its first non-finite entry.
        threshold: 2/η, in the units of the curve.
    """
    times, curve = finite_prefix(steps, values)
    crossing = first_crossing(curve, threshold)
    averaged = two_step_average(curve) / threshold
    nan = float("nan")
    top = int(np.argmax(averaged)) if averaged.size else 0
    after = averaged[top + 1 :]
    end = last_third(averaged)
    return SharpnessSummary(
        first_crossing=nan if crossing is None else float(times[crossing]),
        peak=float(averaged[top]) if averaged.size else nan,
        lowest_after=float(after.min()) if after.size else nan,
        end_mean=float(end.mean()) if end.size else nan,
        end_spread=float(end.std(ddof=1)) if end.size > 1 else nan,
        up_crossings=up_crossings(curve, threshold),
    )
