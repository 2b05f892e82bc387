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
_PACED = 5
"""Times that coefficients and the load of each run are found in turn."""
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
        run: which run it was of; all jobs of one are slower, or faster, by the load of the machine.
    """

    experiment: str
    job: Job
    seconds: float | None
    megabytes: float | None
    forked: bool = False
    run: str = ""


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
    """Coefficients of every stage that has recorded jobs, at the load of the first run.

    Args:
        recorded: jobs of one class of machines.
        machine: what that class is called.
    """
    timed = [r for r in recorded if r.seconds is not None]
    seconds = _times(timed, {})
    if len({r.run for r in timed}) > 1:
        for _ in range(_PACED):
            seconds = _times(timed, paces(timed, Coefficients(machine, seconds, {}, {})))
    megabytes, margin = {}, {}
    for stage in dict.fromkeys(r.job.stage for r in recorded):
        weighed = [
            (MEMORY[stage](r.job), r.megabytes)
            for r in recorded
            if r.job.stage == stage and r.megabytes is not None
        ]
        if weighed:
            found = megabytes[stage] = solve(*zip(*weighed, strict=True))
            worst = max(taken / product(needed, found) for needed, taken in weighed)
            margin[stage] = ADDED_MARGIN * max(worst, 1.0)
    return Coefficients(machine, seconds, megabytes, margin)


def _times(timed: Sequence[Recorded], pace: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Coefficients of time, by stage, of jobs whose run takes `pace` times as long as it might."""
    seconds: dict[str, dict[str, float]] = {}
    stages = dict.fromkeys(one.job.stage for one in timed)
    for stage in sorted(stages, key=lambda stage: stage != "train"):  # evaluation replays it
        rows = [one for one in timed if one.job.stage == stage]
        taken = [(one.seconds or 0.0) / pace.get(one.run, 1.0) for one in rows]
        spans = [spent(one.job, one.forked) for one in rows]
        seconds[stage] = _solve_with_replay(spans, taken, seconds.get("train", {}))
    return seconds


def paces(recorded: Sequence[Recorded], known: Coefficients) -> dict[str, float]:
    """By run, the median of what its jobs took over what was foretold; 1 for the first run."""
    found: dict[str, list[float]] = {}
    for one in recorded:
        if one.seconds is not None and one.job.stage in known.seconds:
            ratio = one.seconds / max(known.time(one.job, one.forked), 1e-9)
            found.setdefault(one.run, []).append(ratio)
    medians = {run: float(np.median(ratios)) for run, ratios in found.items()}
    first = next(iter(medians.values()), 1.0)
    return {run: median / first for run, median in medians.items()}


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
    """Cross-validation, by stage and for `all`; the load of a run is that of its other jobs.

    Args:
        recorded: jobs.
        by_experiment: leave out one whole experiment at a time, as of one that was never run; else
            a tenth of all jobs, as of another run of what was recorded.
    """
    rows: dict[str, list[dict[str, bool]]] = {}
    for left in _experiments(recorded) if by_experiment else _tenths(recorded):
        apart = set(left)
        seen = [r for i, r in enumerate(recorded) if i not in apart]
        known = fit(seen, "")
        pace = paces(seen, known)
        for row in (recorded[i] for i in left):
            found = _compared(row, known, pace.get(row.run, 1.0))
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


def _compared(row: Recorded, known: Coefficients, pace: float) -> dict[str, bool]:
    found: dict[str, bool] = {}
    if row.seconds is not None and row.job.stage in known.seconds:
        missed = abs(pace * known.time(row.job, row.forked) - row.seconds)
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
        and (one.job, one.forked, one.experiment, one.run)
        == (row.job, row.forked, row.experiment, row.run)
    ]
    if row.seconds is None or not others:
        return None
    return abs(float(np.median(others)) - row.seconds) <= WITHIN * row.seconds
