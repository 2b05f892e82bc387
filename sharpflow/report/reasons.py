"""Why a claim is not supported, or open, as far as tables, settings and its paper tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sharpflow.statistics.intervals import share_interval, t_quantile
from sharpflow.statistics.verdicts import EVERY, LEAST_RUNS, judge_runs

MOST_SEEDS = 200
"""More seeds than this are no advice."""
SEEDS, DIVERGED, EXPLAINED = "too few seeds", "diverged", "explained"
BAND_END, NO_VALUE, UNKNOWN = "at the band’s end", "no value", "cause not shown"
MOST_SETTINGS = 3
"""More settings than this in which a run is smaller are counted."""

Row = Mapping[str, Any]
Differences = Sequence[tuple[str, str, str]]


class Reason(NamedTuple):
    """Which kind it is, and what shows it, as plain text without a full stop."""

    kind: str
    text: str


def reason(
    row: Row, differences: Differences | None, recorded: str = "", explanation: str = ""
) -> Reason:
    """Why one measurement is not supported, as far as tables and the paper's folder tell.

    What is computed comes first: seeds straddle a band because they are few, if more of the same
    kind would decide; runs diverged; what came out. Then what the paper's folder says of this case.
    Without either the cause is not shown, and what a reader has to know to look for it is told.

    Args:
        row: of `verdicts.claim_entries`, not supported.
        differences: from the papers' own scale; None where that is not known.
        recorded: verdict of the same measurement at the papers' scale; empty where none is kept.
        explanation: that of the paper's folder for this case (`explanation_of`); may be empty.
    """
    if row["verdict"] == "straddles" and (enough := seeds_needed(row)) is not None:
        words = f"{row['count']} were run; about {enough} like them would decide"
        return Reason(SEEDS, _both(words, explanation))
    if row["diverged"]:
        return Reason(DIVERGED, _both(row["reason"], explanation))
    if explanation:
        return Reason(EXPLAINED, _both(_found(row), explanation))
    if row["verdict"] == "undefined":
        return Reason(NO_VALUE, row["reason"])
    if row["verdict"] == "straddles":
        more = f"{MOST_SEEDS} seeds like these would not decide"
        return Reason(BAND_END, _both(_found(row), more))
    return Reason(UNKNOWN, _both(_found(row), _unlike(differences, recorded == row["verdict"])))


def explanation_of(row: Row, written: Mapping[str, str]) -> str:
    """What a paper's folder, by case, says of a row; empty where it says nothing of its case."""
    return written.get(row["case"].partition(" (")[0], "")


def _both(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _found(row: Row) -> str:
    """What came out, against the band."""
    if row["runs"] or not math.isfinite(row["raw"]["statistic"]):
        return row["reason"]
    return f"{row['result']} {row['interval']} against a band of {row['band']}"


def _unlike(differences: Differences | None, recorded: bool) -> str:
    """In what the run is unlike the paper's: that it is so shows no cause."""
    if recorded:
        return "the scale is not the cause, for the same is recorded at the paper’s"
    if not differences:
        return "" if differences is None else "the scale is not the cause, for it is the paper’s"
    more = len(differences) - MOST_SETTINGS
    rest = f" and {more} more" if more > 0 else ""
    return f"it differs from the paper in {shortfall(differences[:MOST_SETTINGS])}{rest}"


def seeds_needed(row: Row) -> int | None:
    """How many seeds would decide a row that straddles, were the further ones like those there.

    Returns:
        The number; None if `MOST_SEEDS` would not do.
    """
    count, level = row["count"], row["level"]
    if row["runs"]:
        return _runs_needed(row["inside"], count, level)
    low, centre, high = (row["raw"][name] for name in ("low", "statistic", "high"))
    ends = [row["raw"]["band_low"], row["raw"]["band_high"]]
    if not all(map(math.isfinite, (low, centre, high))):
        return None
    method = row["interval_method"]
    if "t-interval" not in method:
        return None
    if method.endswith("of the logarithm"):
        low, centre, high = (math.log(value) for value in (low, centre, high))
        ends = [math.log(end) if end > 0 else -math.inf for end in ends]
    spread = (high - low) / 2 * math.sqrt(count) / float(t_quantile(count, level))
    room = min(abs(centre - end) for end in ends if math.isfinite(end))
    sizes = np.arange(count + 1, MOST_SEEDS + 1)
    decided = t_quantile(sizes, level) * spread / np.sqrt(sizes) <= room
    return int(sizes[decided][0]) if decided.any() else None


def _runs_needed(inside: int, count: int, level: float) -> int | None:
    """Likewise for a statement on every run, of which the same share would lie inside."""
    if inside == count:
        return LEAST_RUNS if count < LEAST_RUNS else None
    for size in range(count + 1, MOST_SEEDS + 1):
        expected = round(inside / count * size)
        values = [1.0] * expected + [0.0] * (size - expected)
        found = judge_runs(values, (1.0, 1.0), level)
        if found.verdict != "straddles" or share_interval(expected, size, level).low >= EVERY:
            return size
    return None


def shortfall(differences: Differences) -> str:
    """Differences from the papers' scale as text: `training.steps 700 (1200)`."""
    return ", ".join(f"{key} {here} ({there})" for key, here, there in differences)
