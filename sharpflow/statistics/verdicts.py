"""The verdict on a statement from one value a seed, and how sure it is.

A statement about every run is judged by the share of runs inside its band, one about a level by an
interval for the mean. What could not be measured, and what failed outright, is counted as that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

from sharpflow.statistics.intervals import (
    Interval,
    bounded_interval,
    bounded_tail,
    log_interval,
    share_interval,
    t_interval,
    t_quantile,
    t_tail,
)

Verdict = Literal["supported", "not supported", "straddles", "undefined"]
Support = tuple[float, float]
Band = tuple[float, float]

REAL: Support = (-math.inf, math.inf)
EVERY = 0.9
"""A statement about every run is about at least nine in ten: it fails if fewer hold."""
LEAST_RUNS = 3
"""Fewest runs that can support a statement about every run."""
POWER = 0.8
"""Chance with which a failure of the stated size is noticed."""


class Undefined(float):
    """A NaN that says why there is no value."""

    reason: str

    def __new__(cls, reason: str) -> Self:
        """The NaN with its reason."""
        made = super().__new__(cls, math.nan)
        made.reason = reason
        return made


class Failed(float):
    """An infinity that says why a run fails whatever the band is."""

    reason: str

    def __new__(cls, reason: str) -> Self:
        """The infinity with its reason."""
        made = super().__new__(cls, math.inf)
        made.reason = reason
        return made


class Diverged(Failed):
    """An outright failure that says at which step the run left the finite numbers."""

    step: int

    def __new__(cls, step: int) -> Self:
        """The infinity with its step."""
        made = Failed.__new__(cls, f"it diverged at step {step}")
        made.step = step
        return made


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on.

    Attributes:
        interval: of the share of runs inside the band, or of the mean.
        verdict: `supported`, `not supported`; `straddles` if the seeds allow both; `undefined` if
            only runs without a value keep it from `supported`, or where there is no mean.
        reason: what a reader should know of it; may be empty.
        inside, undefined, failed: how many seeds lie in the band, have no value, fail outright.
        p_value: of the hypothesis that the statement holds, two-sided; `not supported` means that
            it is below 1 − confidence.
        size: the largest chance of a `not supported` by chance where the statement holds.
        noticed: the failure that these seeds would have noticed four times in five, in words.
    """

    interval: Interval
    verdict: Verdict
    reason: str
    inside: int
    undefined: int
    failed: int
    p_value: float
    size: float
    noticed: str


def judge_runs(values: Sequence[float], band: Band, confidence: float = 0.95) -> Judgement:
    """Judge a statement about every run.

    `supported` if at least three runs were made and all lie inside the band, or if the interval of
    their share does lie above nine in ten; `not supported` if it lies below; `undefined` if only
    runs without a value keep it from `supported`. A run without a value counts as outside for the
    lower bound, and as inside for the upper one.

    Args:
        values: one a run; NaN is `undefined`, an infinity an outright failure.
        band: where they must lie, ends included; one end may be infinite.
        confidence: of the exact interval.

    Raises:
        ValueError: there is no value, or the band is none.
    """
    check_band(band)
    array, count = np.asarray(values, dtype=float), len(values)
    undefined, failed = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    holds = np.isfinite(array) & (array >= band[0]) & (array <= band[1])
    inside = int(holds.sum())
    least = share_interval(inside, count, confidence)
    most = share_interval(inside + undefined, count, confidence)
    interval = Interval(
        least.statistic, least.low, most.high, confidence, least.method, least.seeds
    )
    p_value = min(1.0, 2 * float(bdtr(inside + undefined, count, EVERY)))
    if inside == count >= LEAST_RUNS or interval.low >= EVERY:
        verdict: Verdict = "supported"
    elif p_value < 1 - confidence:
        verdict = "not supported"
    else:
        missing = undefined and inside + undefined == count
        verdict = "undefined" if missing else "straddles"
    sizes = [float(bdtr(k, count, EVERY)) for k in range(count + 1)]
    return Judgement(
        interval,
        verdict,
        _reason_of_runs(values, inside, count, verdict),
        inside,
        undefined,
        failed,
        p_value,
        max((size for size in sizes if 2 * size < 1 - confidence), default=0.0),
        f"a failure in {100 * (1 - (1 - POWER) ** (1 / count)):.2g} % of runs",
    )


def judge_mean(
    values: Sequence[float], band: Band, support: Support = REAL, confidence: float = 0.95
) -> Judgement:
    """Judge a statement about a level: the mean over seeds.

    `supported` if the interval lies inside the band, `not supported` outside it. A seed without a
    value leaves the mean undefined; one that fails outright has no mean, and the statement does not
    hold, with a p-value of 0: of a level that exists no seed fails. The interval is Student's; of
    the logarithm where the values are positive by their nature, and without assumption on the
    spread where they are bounded.

    Args:
        values: one a seed; NaN is `undefined`, an infinity an outright failure.
        band: where the mean must lie, ends included; one end may be infinite.
        support: the values that are possible: all, (0, inf), or bounded.
        confidence: of the interval.

    Raises:
        ValueError: there is no value, the band is none, or a value is outside the support.
    """
    check_band(band)
    support = float(support[0]), float(support[1])
    array, count = np.asarray(values, dtype=float), len(values)
    undefined, failed = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    inside = int((np.isfinite(array) & (array >= band[0]) & (array <= band[1])).sum())
    if failed or undefined or count == 1:
        level = float(array[0]) if count == 1 and not (failed or undefined) else math.nan
        unknown = Interval(level, -math.inf, math.inf, confidence, "no interval", count)
        reasons = [_reasons(values, Failed), _reasons(values, Undefined)]
        single = "" if math.isnan(level) else "one seed has no spread"
        return Judgement(
            unknown,
            "not supported" if failed else "undefined",
            "; ".join(part for part in (*reasons, single) if part),
            inside,
            undefined,
            failed,
            0.0 if failed else 1.0,
            0.0,
            "nothing" if count == 1 else "any outright failure",
        )
    interval, nearest = _interval(array, support, confidence), _nearest(array, band, support)
    p_value = 1.0 if nearest is None else _tail(array, interval, support, nearest)
    if interval.low >= band[0] and interval.high <= band[1]:
        verdict: Verdict = "supported"
    elif interval.low > band[1] or interval.high < band[0]:
        verdict = "not supported"
    else:
        verdict = "straddles"
    edge = "reaches over an end of the band"
    return Judgement(
        interval,
        verdict,
        f"the interval {edge}" if verdict == "straddles" else "",
        inside,
        0,
        0,
        p_value,
        (1 - confidence) / 2,
        _noticed(interval, support),
    )


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values: rejecting those below α errs once or more with chance α at most.

    Args:
        p_values: (n,); of any dependence.

    Returns:
        Shape (n,), in the same order.

    Raises:
        ValueError: they have another shape, or one is not between 0 and 1.
    """
    raw = np.asarray(p_values, dtype=float)
    if raw.ndim != 1 or not np.all((raw >= 0) & (raw <= 1)):
        raise ValueError("p_values must be one row of numbers from 0 to 1.")
    order = np.argsort(raw, kind="stable")
    scaled = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def check_band(band: Band) -> None:
    """ValueError unless a band is ordered, with a finite end."""
    low, high = band
    if not low <= high or (math.isinf(low) and math.isinf(high)):
        raise ValueError(f"The band is [{low}, {high}]; it must be ordered, with a finite end.")


def _interval(array: np.ndarray, support: Support, confidence: float) -> Interval:
    if support == REAL:
        return t_interval(array, confidence)
    if support == (0, math.inf):
        return log_interval(array, confidence)
    return bounded_interval(array, support, confidence)


def _nearest(array: np.ndarray, band: Band, support: Support) -> float | None:
    """The end of the band that the mean lies beyond; None if it lies inside."""
    mean = math.exp(np.log(array).mean()) if support == (0, math.inf) else float(array.mean())
    if mean > band[1]:
        return band[1]
    return band[0] if mean < band[0] else None


def _tail(array: np.ndarray, interval: Interval, support: Support, value: float) -> float:
    if support == REAL:
        return t_tail(interval, value)
    if support == (0, math.inf):
        if value <= 0:
            return 0.0
        return t_tail(t_interval(np.log(array), interval.confidence), math.log(value))
    return bounded_tail(array, support, value)


def _noticed(interval: Interval, support: Support) -> str:
    """The distance beyond the band that is called `not supported` four times in five, about."""
    quantile = float(t_quantile(interval.seeds, interval.confidence))
    more = 1 + float(t_quantile(interval.seeds, 2 * POWER - 1)) / quantile
    if support == (0, math.inf):
        with np.errstate(divide="ignore", over="ignore"):  # two far values leave ends of 0 and inf
            factor = np.exp(more * np.log(np.divide(interval.high, interval.low)) / 2)
        return f"a mean {100 * (factor - 1):.2g} % outside the band"
    return f"a mean {more * (interval.high - interval.low) / 2:.2g} outside the band"


def _reason_of_runs(values: Sequence[float], inside: int, count: int, verdict: Verdict) -> str:
    parts = [_reasons(values, Failed), _reasons(values, Undefined)]
    finite = sum(math.isfinite(value) for value in values)
    if outside := finite - inside:
        parts.insert(0, f"{outside} of {count} outside the band")
    elif verdict == "straddles" and inside == count:
        parts.append(f"{count} run{'s' if count > 1 else ''} cannot speak for every one")
    return "; ".join(part for part in parts if part)


def _reasons(values: Sequence[float], kind: type[Undefined] | type[Failed]) -> str:
    """How many seeds are undefined, or failed, and why."""
    test, words = (math.isnan, "undefined") if kind is Undefined else (math.isinf, "failed")
    found = [value for value in values if test(value)]
    if not found:
        return ""
    steps = sorted(value.step for value in found if isinstance(value, Diverged))
    apart = len(set(steps)) > 1
    whys = [f"they diverged at steps {steps[0]} to {steps[-1]}"] if apart else []
    whys += [
        value.reason
        for value in found
        if isinstance(value, (Undefined, Failed)) and not (apart and isinstance(value, Diverged))
    ]
    why = ", ".join(dict.fromkeys(whys))
    return f"{len(found)} of {len(values)} {words}" + (f" ({why})" if why else "")
