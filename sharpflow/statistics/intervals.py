"""Confidence intervals over seeds, and the verdict of an interval against a band."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

Verdict = Literal["supported", "not supported", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A statistic with a confidence interval over seeds.

    Attributes:
        statistic: the mean over seeds; NaN if it is undefined for any seed.
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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie strictly between 0 and 1.")
    freedom = np.asarray(count, dtype=np.float64) - 1
    quantile = stdtrit(np.maximum(freedom, 1), (1 + confidence) / 2)
    return np.where(freedom >= 1, quantile, np.inf)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t-interval for the mean of one value a seed.

    Seeds are taken as independent draws with a normal spread. One seed has no spread: its bounds
    are infinite; equal values have no width, however few. No value is ever dropped:

    * NaN says that the statistic is undefined for a seed. One is enough to make the mean NaN and
      the bounds infinite, since leaving it out would judge the seeds that happen to qualify.
    * ±inf says that a seed fails whatever the band. If all seeds are the same infinity, so are the
      statistic and both bounds; among finite values it makes the bounds infinite.

    Args:
        values: shape (seeds,), at least one.
        confidence: nominal coverage.

    Raises:
        ValueError: no values, more than one dimension, or a confidence outside (0, 1).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values has shape {array.shape}; it must hold one value a seed.")
    count = array.size
    quantile = float(t_quantile(count, confidence))
    method = f"t-interval over {count} seed{'s' if count > 1 else ''}"
    undefined = int(np.isnan(array).sum())
    if undefined:
        method += f", undefined for {undefined}"
        return Interval(math.nan, -math.inf, math.inf, confidence, method, count)
    infinite = int(np.isinf(array).sum())
    if infinite:
        method += f", outright failure of {infinite}"
        if np.all(array == array[0]):
            fail = float(array[0])
            return Interval(fail, fail, fail, confidence, method, count)
        return Interval(math.nan, -math.inf, math.inf, confidence, method, count)
    mean = float(array.mean())
    if count == 1:
        return Interval(mean, -math.inf, math.inf, confidence, method, count)
    # Equal values: their mean may be off by an ulp, which would pretend to a spread.
    mean = min(max(mean, float(array.min())), float(array.max()))
    spread = 0.0 if np.ptp(array) == 0 else float(array.std(ddof=1))
    half = quantile * spread / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, confidence, method, count)


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x, with an intercept; NaN if x is constant or y not finite."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"x and y have shapes {a.shape} and {b.shape}; they must be equal vectors."
        )
    if a.size < 2 or np.ptp(a) == 0 or not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return math.nan
    centred = a - a.mean()
    return float(centred @ b / (centred @ centred))


def slope_interval(
    x: ArrayLike, y: ArrayLike, seeds: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Interval of a regression slope clustered by seed: one slope a seed, then t over seeds.

    Points of one seed share data and initial weights over the sweep, so a pooled regression would
    count them as independent and come out too narrow.

    Args:
        x: shape (points,).
        y: shape (points,).
        seeds: shape (points,); a seed's points are those with its number.
        confidence: nominal coverage.

    Raises:
        ValueError: the shapes differ, there are no points, or a confidence outside (0, 1).
    """
    a, b, group = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    if not a.shape == b.shape == group.shape:
        raise ValueError(
            f"x, y and seeds have shapes {a.shape}, {b.shape} and {group.shape}; they must agree."
        )
    slopes = [slope(a[group == seed], b[group == seed]) for seed in np.unique(group)]
    return t_interval(slopes, confidence)


def verdict(interval: Interval, band_low: float, band_high: float) -> Verdict:
    """`supported` inside the band, `not supported` wholly outside it, else `inconclusive`.

    An end of the band may be infinite, not both. A band's end belongs to it. An interval with an
    infinite bound (one seed, an undefined seed) never supports, even against a one-sided band.

    Raises:
        ValueError: band_low > band_high, a NaN, or both ends infinite.
    """
    if not band_low <= band_high or (math.isinf(band_low) and math.isinf(band_high)):
        raise ValueError(
            f"The band is [{band_low}, {band_high}]; it must be ordered, with a finite end."
        )
    if math.isnan(interval.statistic):
        return "inconclusive"
    if interval.low > band_high or interval.high < band_low:
        return "not supported"
    finite = math.isfinite(interval.low) and math.isfinite(interval.high)
    if math.isinf(interval.statistic):
        return "not supported"
    inside = finite and interval.low >= band_low and interval.high <= band_high
    return "supported" if inside else "inconclusive"
