"""Why a claim is not supported, or open, as far as tables and settings tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sharpflow.statistics.intervals import share_interval, t_quantile
from sharpflow.statistics.verdicts import EVERY, LEAST_RUNS, judge_runs

MOST_SEEDS = 200
"""More seeds than this are no advice."""
SEEDS, SCALE, DEFINITION, PAPER = "too few seeds", "default scale", "definition", "the paper"

Row = Mapping[str, Any]
Differences = Sequence[tuple[str, str, str]]


class Reason(NamedTuple):
    """Which of the four kinds it is, and what shows it, as plain text."""

    kind: str
    text: str


def reason(row: Row, differences: Differences | None, recorded: str = "") -> Reason:
    """Why one measurement is not supported.

    Seeds straddle a band because they are few, if more of the same kind would decide; else the
    level lies at the end of the band, which is a matter of definition. A measurement that failed,
    or could not be made, is the scale's where the experiment falls short of the papers' and the
    same verdict is not recorded there; else the band's where that was chosen here, and the paper's.

    Args:
        row: of `verdicts.claim_entries`, not supported.
        differences: from the papers' own scale; None where that is not known.
        recorded: verdict of the same measurement at the papers' scale; empty where none is kept.
    """
    said = f"the band is {row['origin']}: {row['why']}"
    if row["verdict"] == "straddles":
        enough = seeds_needed(row)
        if enough is not None:
            words = f"{row['count']} were run; about {enough} like them would decide"
            return Reason(SEEDS, words)
        return Reason(DEFINITION, f"it lies at the end of its band, and {said}")
    same = recorded == row["verdict"]
    if differences and not same:
        return Reason(SCALE, row["reason"] or "it is run smaller than in the paper")
    if row["verdict"] == "undefined":
        return Reason(DEFINITION, row["reason"])
    if row["origin"] == "chosen":
        return Reason(DEFINITION, said)
    return Reason(PAPER, said)


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
    if low > 0 and not math.isclose(high - centre, centre - low, rel_tol=1e-3):  # of the logarithm
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
