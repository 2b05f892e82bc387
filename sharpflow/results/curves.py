"""Elementary operations on a curve: the part before divergence, averages, monotone steps.

A *curve* is a one-dimensional array of one quantity along training, oldest entry first. Windows
and tolerances are counted in entries; where a curve was measured at a stride, the caller converts.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]
MOST_EVEN = 0.1
"""Share of gaps between records that may be even where both branches are seen."""


def as_curve(values: ArrayLike, name: str = "values") -> Curve:
    """`values` as a float64 vector; ValueError unless it is one-dimensional."""
    curve = np.asarray(values, dtype=np.float64)
    if curve.ndim != 1:
        raise ValueError(f"{name} has shape {curve.shape}; a curve is one-dimensional.")
    return curve


def finite_prefix(*curves: ArrayLike) -> tuple[Curve, ...]:
    """The curves up to, and without, the first entry at which any of them is NaN or infinite.

    A diverged run carries NaN from the step at which it left the finite numbers. Every function of
    this package looks at this prefix only, unless its docstring says otherwise.

    Args:
        curves: arrays of one common length n.

    Returns:
        As many arrays, all of one length ≤ n.

    Raises:
        ValueError: the lengths differ, or an array is not one-dimensional.
    """
    arrays = [as_curve(curve) for curve in curves]
    lengths = {array.size for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"curves have lengths {sorted(lengths)}; they must be of one length.")
    bad = np.flatnonzero(~np.logical_and.reduce([np.isfinite(array) for array in arrays]))
    end = bad[0] if bad.size else arrays[0].size
    return tuple(array[:end] for array in arrays)


def two_step_average(values: ArrayLike) -> Curve:
    """Means of neighbouring entries, (values[i] + values[i+1]) / 2: shape (n,) to (n − 1,).

    At the edge of stability the iterates jump across the valley along v₁ at every step, so that the
    sharpness alternates with period two; this mean cancels an alternation of constant amplitude
    exactly, and differences of it are (values[i+2] − values[i]) / 2, taken within one branch. The
    curve must hold both branches, see `resolves_alternation`. NaN spreads to the pairs it is in.
    """
    curve = as_curve(values)
    return (curve[:-1] + curve[1:]) / 2


def last_third(values: Curve) -> Curve:
    """The entries of a curve's last third, from floor(2n/3) of n on."""
    return values[2 * len(values) // 3 :]


def resolves_alternation(steps: ArrayLike) -> bool:
    """Whether neighbouring entries are an odd number of steps apart, and hence on both branches.

    A curve measured at an even stride sees one branch of a period-two alternation only, and no
    average of it can tell the branch from the mean. A tenth of the gaps may be even: where a value
    is missing, and at a run's end, which is recorded whether or not the stride meets it. False for
    fewer than two entries.
    """
    gaps = np.diff(np.asarray(steps))
    strides = gaps[:-1] if gaps.size > 2 else gaps
    return bool(strides.size and np.mean(strides % 2 == 0) <= MOST_EVEN)


def running_mean(values: ArrayLike, window: int) -> Curve:
    """Means over `window` neighbouring entries: shape (n,) to (n − window + 1,), or empty.

    An even window cancels a period-two alternation, an odd one leaves 1/window of its amplitude.
    NaN spreads to the windows it is in.

    Raises:
        ValueError: `window` is below 1.
    """
    curve = as_curve(values)
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1.")
    if curve.size < window:
        return np.empty(0)
    return np.lib.stride_tricks.sliding_window_view(curve, window).mean(axis=1)


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation with average ranks for ties, in [−1, 1].

    0 where either is constant (no trend); NaN for fewer than three entries. Curves are cut at the
    first non-finite entry of either.
    """
    a, b = finite_prefix(first, second)
    if a.size < 3:
        return float("nan")
    ranks = [_average_ranks(a), _average_ranks(b)]
    spread = [np.linalg.norm(rank - rank.mean()) for rank in ranks]
    if min(spread) == 0:
        return 0.0
    centred = [rank - rank.mean() for rank in ranks]
    return float(np.clip(centred[0] @ centred[1] / (spread[0] * spread[1]), -1, 1))


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's τ of two vectors of one length, in [−1, 1]: agreeing less opposite pairs.

    Over all pairs of entries; a tie in either counts as neither (τ-a), so that vectors which do not
    move cannot reach ±1. NaN for fewer than two entries, or where an entry is not finite.

    Raises:
        ValueError: the lengths differ, or a vector is not one-dimensional.
    """
    a, b = as_curve(first, "first"), as_curve(second, "second")
    if a.size != b.size:
        raise ValueError(f"first and second have {a.size} and {b.size} entries; they must agree.")
    if a.size < 2 or not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return float("nan")
    i, j = np.triu_indices(a.size, 1)
    return float(np.mean(np.sign(a[j] - a[i]) * np.sign(b[j] - b[i])))


def _average_ranks(values: Curve) -> Curve:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
