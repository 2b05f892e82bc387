"""Confidence intervals over seeds: of a mean, of the mean of a bounded quantity, of a share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, stdtr, stdtrit

from sharpflow.arguments import is_count

_DRAWS, _BEYOND = 20_000, 100
"""Draws of a bounded mean, at least, and beyond each end of its interval."""
_SURE = 0.9999
"""Largest confidence that these draws are made for."""
_STREAM = 2005


@dataclass(frozen=True)
class Interval:
    """A statistic with a confidence interval over seeds.

    Attributes:
        statistic: a mean over seeds, or a share of them.
        low, high: bounds, in the units of the statistic; −inf and inf if nothing can be said.
        confidence: nominal coverage, in (0, 1).
        method: how the bounds were made, in words.
        seeds: number of seeds.
    """

    statistic: float
    low: float
    high: float
    confidence: float
    method: str
    seeds: int


def t_quantile(count: ArrayLike, confidence: float) -> np.ndarray:
    """Two-sided quantile of Student's t with count − 1 degrees of freedom; inf for a count of 1."""
    _check_confidence(confidence)
    freedom = np.asarray(count, dtype=np.float64) - 1
    quantile = stdtrit(np.maximum(freedom, 1), (1 + confidence) / 2)
    return np.where(freedom >= 1, quantile, np.inf)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t-interval for the mean of one value a seed.

    Seeds are taken as independent draws with a normal spread. One seed has no spread: its bounds
    are infinite; equal values have no width, however few. A value that is not finite makes the mean
    NaN and the bounds infinite: leaving it out would judge the seeds that happen to qualify.

    Args:
        values: shape (seeds,), at least one.
        confidence: nominal coverage.

    Raises:
        ValueError: no values, more than one dimension, or a confidence outside (0, 1).
    """
    array = _vector(values)
    count = array.size
    quantile = float(t_quantile(count, confidence))
    method = f"t-interval over {count} seed{'s' if count > 1 else ''}"
    if not np.all(np.isfinite(array)):
        return Interval(math.nan, -math.inf, math.inf, confidence, method, count)
    mean = _mean(array)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, confidence, method, count)
    unit = unit_of(array)
    spread = 0.0 if np.ptp(array) == 0 else float((array / unit).std(ddof=1)) * unit
    half = quantile * spread / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, confidence, method, count)


def log_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t-interval of the logarithm of a positive quantity: its geometric mean.

    Args:
        values: shape (seeds,), positive.
        confidence: nominal coverage.

    Raises:
        ValueError: as `t_interval`, or a value is not positive.
    """
    array = _vector(values)
    if np.any(array <= 0):
        raise ValueError(f"values has {array.min():g}; all must be positive.")
    logarithm = t_interval(np.log(array), confidence)
    low, high = math.exp(logarithm.low), _exponential(logarithm.high)
    if not math.isfinite(logarithm.high):
        low, high = 0.0, math.inf
    statistic = math.exp(logarithm.statistic)
    if array.size > 1 and np.ptp(array) == 0:  # as it is: a logarithm and back may move it
        statistic = low = high = float(array[0])
    method = f"geometric mean, {logarithm.method} of the logarithm"
    return Interval(statistic, low, high, confidence, method, array.size)


def bounded_interval(
    values: ArrayLike, support: tuple[float, float], confidence: float = 0.95
) -> Interval:
    """Interval for the mean of a quantity that cannot leave `support`; makes no other assumption.

    Gaffke's bound (2005; Learned-Miller and Thomas 2020): with the sorted values and the end of the
    support as atoms, weights spread over them like the gaps between ordered uniform numbers; the
    bound is a quantile of the weighted mean. No case is known where it covers less often than it
    says, for any sample size; on zeros and ones it is Clopper and Pearson's. The quantile is one of
    draws that are always the same, a hundred or more of them beyond each end.

    Args:
        values: shape (seeds,), inside the support.
        support: the least and the largest possible value.
        confidence: nominal coverage.

    Raises:
        ValueError: as `t_interval`, a value outside the support, a support without two finite ends,
            or a confidence above 0.9999.
    """
    array, (least, largest) = _bounded(values, support)
    _check_confidence(confidence)
    if confidence > _SURE:
        raise ValueError(
            f"confidence is {confidence}; the interval of a bounded mean is known up to {_SURE}."
        )
    tail = (1 - confidence) / 2
    draws = max(_DRAWS, math.ceil(_BEYOND / tail))
    low = float(np.quantile(_weighted_means(array, least, draws), tail))
    high = float(np.quantile(_weighted_means(array, largest, draws), 1 - tail))
    count = array.size
    method = f"bounded mean (Gaffke) over {count} seed{'s' if count > 1 else ''}"
    return Interval(_mean(array), low, high, confidence, method, count)


def share_interval(inside: int, count: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a share, from Clopper and Pearson's two binomial tests.

    Args:
        inside: how many of the seeds count.
        count: number of seeds.
        confidence: least coverage.

    Raises:
        ValueError: not 0 ≤ inside ≤ count with a positive count.
    """
    _check_confidence(confidence)
    if not (is_count(inside, 0) and is_count(count)) or inside > count:
        raise ValueError(f"{inside!r} of {count!r} is no share.")
    tail = (1 - confidence) / 2
    low = float(betaincinv(inside, count - inside + 1, tail)) if inside else 0.0
    high = float(betaincinv(inside + 1, count - inside, 1 - tail)) if inside < count else 1.0
    method = f"exact binomial interval over {count} seed{'s' if count > 1 else ''}"
    return Interval(inside / count, low, high, confidence, method, count)


def t_tail(interval: Interval, value: float) -> float:
    """Two-sided p-value of the mean `value`, for a `t_interval`; 1 where nothing can be said."""
    if not math.isfinite(interval.low):
        return 1.0
    half = interval.high - interval.statistic
    if half == 0:
        return 1.0 if value == interval.statistic else 0.0
    error = half / float(t_quantile(interval.seeds, interval.confidence))
    return float(2 * stdtr(interval.seeds - 1, -abs(interval.statistic - value) / error))


def bounded_tail(values: ArrayLike, support: tuple[float, float], value: float) -> float:
    """Two-sided p-value of the mean `value`: 1 − the confidence whose interval ends there.

    Raises:
        ValueError: as `bounded_interval`, or for a value that is no number.
    """
    array, support = _bounded(values, support)
    if math.isnan(value):
        raise ValueError("the mean that is asked for is NaN.")
    if value > array.mean():
        outside = _weighted_means(array, support[1]) >= value
    else:
        outside = _weighted_means(array, support[0]) <= value
    # what was seen is one more draw, so that no number of draws gives a p-value of 0
    return min(1.0, 2 * float(outside.sum() + 1) / (outside.size + 1))


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x, with an intercept; NaN if x is constant or y not finite."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"x and y have shapes {a.shape} and {b.shape}; they must be equal vectors."
        )
    if a.size < 2 or np.ptp(a) == 0 or not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return math.nan
    units = unit_of(a), unit_of(b)
    centred = a / units[0] - (a / units[0]).mean()
    return float(centred @ (b / units[1]) / (centred @ centred)) / units[0] * units[1]


def intercept(x: ArrayLike, y: ArrayLike) -> float:
    """Where the least-squares line of y on x meets x = 0; NaN where `slope` is."""
    centre = [float(np.asarray(values, dtype=np.float64).mean()) for values in (x, y)]
    return centre[1] - slope(x, y) * centre[0]


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie strictly between 0 and 1.")


def unit_of(array: np.ndarray) -> float:
    """A power of two near the largest value, so that no square vanishes or overflows; 1 for zeros.

    A quotient by it is exact.
    """
    exponent = math.frexp(float(np.abs(array).max()))[1]
    return math.ldexp(1.0, min(max(exponent, -1000), 1000))


def _exponential(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf


def _bounded(values: ArrayLike, support: Sequence[float]) -> tuple[np.ndarray, tuple[float, float]]:
    """Values and their support, as numbers.

    Raises:
        ValueError: the support has no two finite ends in order, or a value lies outside.
    """
    array = _vector(values)
    least, largest = map(float, support)
    if not -math.inf < least < largest < math.inf:
        raise ValueError(f"support is [{least:g}, {largest:g}]; it must have two finite ends.")
    if not np.all((array >= least) & (array <= largest)):
        raise ValueError(f"values has entries outside [{least:g}, {largest:g}], or not finite.")
    return array, (least, largest)


def _vector(values: ArrayLike) -> np.ndarray:
    if np.ma.is_masked(values):
        raise ValueError("values has masked entries; leave them out, or give NaN for them.")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values has shape {array.shape}; it must hold one value a seed.")
    return array


def _mean(array: np.ndarray) -> float:
    # Equal values: their mean may be off by an ulp, which would pretend to a spread.
    return min(max(float(array.mean()), float(array.min())), float(array.max()))


def _weighted_means(array: np.ndarray, end: float, draws: int = _DRAWS) -> np.ndarray:
    """Draws of the mean of the values and an end of their support, with Dirichlet weights."""
    stream, atoms = np.random.default_rng(_STREAM), np.append(np.sort(array), end)
    found = []
    for start in range(0, draws, _DRAWS):  # a block at a time, of one stream
        gaps = stream.exponential(size=(min(_DRAWS, draws - start), array.size + 1))
        gaps /= gaps.sum(axis=1, keepdims=True)
        found.append(gaps @ atoms)
    return np.concatenate(found)
