"""Coefficients from recorded jobs: non-negative least squares of the relative error, robustly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sharpflow.cost.model import Coefficients, product, spent
from sharpflow.cost.work import MEMORY, REPLAYED, Job

ADDED_MARGIN = 1.1
"""Factor on top of the largest ratio of recorded to predicted memory."""
WITHIN = 0.25
SAMPLING = 0.5
"""Seconds between the samples that Snakemake takes of a job."""
_ROUNDS = 10
_FOLDS = 10
_BEND = 0.15  # relative errors beyond it count linearly (Huber)


@dataclass(frozen=True)
class Recorded:
    """What one job took.

    Attributes:
        experiment: whose job it was; a whole one is left out at a time.
        seconds: of CPU time; None where it is not that of today's code.
        megabytes: largest resident memory that was seen; None of a forked job, which shares what
            it was forked with.
        forked: whether the libraries were loaded before it began.
    """

    experiment: str
    job: Job
    seconds: float | None
    megabytes: float | None
    forked: bool = False


def solve(features: Sequence[Mapping[str, float]], taken: Sequence[float]) -> dict[str, float]:
    """Non-negative coefficients by name that make Σ coefficient × feature near what was taken.

    The relative error is made small; large ones count linearly, by reweighting.
    """
    names = list(dict.fromkeys(name for one in features for name in one))
    matrix = np.array([[one.get(name, 0.0) for name in names] for one in features])
    matrix /= np.asarray(taken)[:, None]
    scale = np.abs(matrix).max(axis=0)
    scale[scale == 0] = 1.0
    weights = np.ones(len(matrix))
    for _ in range(_ROUNDS):
        found, _ = nnls(matrix / scale * weights[:, None], weights)
        errors = np.abs(matrix / scale @ found - 1)
        weights = np.sqrt(_BEND / np.maximum(errors, _BEND))
    return {n: float(c) for n, c in zip(names, found / scale, strict=True) if c > 0}


def _solve_with_replay(
    features: Sequence[Mapping[str, float]], taken: Sequence[float], steps: Mapping[str, float]
) -> dict[str, float]:
    """`solve`, with one common factor for all features that training has coefficients of."""
    known = {f"{REPLAYED}{name}": value for name, value in steps.items()}
    joined = [
        {n: v for n, v in one.items() if not n.startswith(REPLAYED)}
        | {REPLAYED: sum(v * known.get(n, 0.0) for n, v in one.items() if n.startswith(REPLAYED))}
        for one in features
    ]
    found = solve(joined, taken)
    factor = found.pop(REPLAYED, 0.0)
    used = {name for one in features for name in one}
    return found | {n: factor * v for n, v in known.items() if factor and n in used}


def fit(recorded: Sequence[Recorded], machine: str) -> Coefficients:
    """Coefficients of every stage that has recorded jobs.

    Args:
        recorded: jobs of one class of machines.
        machine: what that class is called.
    """
    seconds, megabytes, margin = {}, {}, {}
    stages = dict.fromkeys(one.job.stage for one in recorded)
    for stage in sorted(stages, key=lambda stage: stage != "train"):  # evaluation replays it
        rows = [one for one in recorded if one.job.stage == stage]
        timed = [(spent(r.job, r.forked), r.seconds) for r in rows if r.seconds is not None]
        weighed = [(MEMORY[stage](r.job), r.megabytes) for r in rows if r.megabytes is not None]
        if timed:
            spans, taken = zip(*timed, strict=True)
            seconds[stage] = _solve_with_replay(spans, taken, seconds.get("train", {}))
        if weighed:
            found = megabytes[stage] = solve(*zip(*weighed, strict=True))
            worst = max(taken / product(needed, found) for needed, taken in weighed)
            margin[stage] = ADDED_MARGIN * max(worst, 1.0)
    return Coefficients(machine, seconds, megabytes, margin)


@dataclass(frozen=True)
class HeldOut:
    """How jobs that were left out of the fit came out; shares of those with such a record.

    Attributes:
        jobs: their number.
        time: share whose CPU time is predicted within 25 %.
        near_time: share within 25 % or within half a second, the span at which Snakemake samples.
        memory: likewise, of the typical memory.
        enough: share that stays within the memory that is asked for at the first attempt.
        likes: share whose CPU time is within 25 % of the median of jobs with equal parameters, its
            own left out: what no model of these parameters can do better than.
    """

    jobs: int
    time: float
    near_time: float
    memory: float
    enough: float
    likes: float


def _experiments(recorded: Sequence[Recorded]) -> list[list[int]]:
    names = dict.fromkeys(r.experiment for r in recorded)
    return [[i for i, r in enumerate(recorded) if r.experiment == name] for name in names]


def _tenths(recorded: Sequence[Recorded]) -> list[list[int]]:
    order = np.random.default_rng(0).permutation(len(recorded)).tolist()
    return [order[first::_FOLDS] for first in range(min(_FOLDS, len(recorded)))]


def held_out(recorded: Sequence[Recorded], by_experiment: bool = True) -> dict[str, HeldOut]:
    """Cross-validation, by stage and for `all`.

    Args:
        recorded: jobs.
        by_experiment: leave out one whole experiment at a time, as of one that was never run; else
            a tenth of all jobs, as of another run of what was recorded.
    """
    rows: dict[str, list[dict[str, bool]]] = {}
    for left in _experiments(recorded) if by_experiment else _tenths(recorded):
        apart = set(left)
        known = fit([r for i, r in enumerate(recorded) if i not in apart], "")
        for row in (recorded[i] for i in left):
            found = _compared(row, known)
            for key in (row.job.stage, "all"):
                rows.setdefault(key, []).append(found)
    for row in recorded:
        if (near := _near_its_likes(row, recorded)) is not None:
            for key in (row.job.stage, "all"):
                rows.setdefault(key, []).append({"likes": near})
    names = ("time", "near_time", "memory", "enough", "likes")
    return {
        key: HeldOut(
            sum("likes" not in one for one in found),
            *(_share([one[name] for one in found if name in one]) for name in names),
        )
        for key, found in rows.items()
    }


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else math.nan


def _compared(row: Recorded, known: Coefficients) -> dict[str, bool]:
    found: dict[str, bool] = {}
    if row.seconds is not None and row.job.stage in known.seconds:
        missed = abs(known.time(row.job, row.forked) - row.seconds)
        near = missed <= WITHIN * row.seconds
        found |= {"time": near, "near_time": near or missed <= SAMPLING}
    if row.megabytes is not None and row.job.stage in known.megabytes:
        found["memory"] = abs(known.typical_memory(row.job) / row.megabytes - 1) <= WITHIN
        found["enough"] = known.memory(row.job) >= row.megabytes
    return found


def _near_its_likes(row: Recorded, recorded: Sequence[Recorded]) -> bool | None:
    others = [
        one.seconds
        for one in recorded
        if one is not row
        and one.seconds is not None
        and (one.job, one.forked, one.experiment) == (row.job, row.forked, row.experiment)
    ]
    if row.seconds is None or not others:
        return None
    return abs(float(np.median(others)) - row.seconds) <= WITHIN * row.seconds
