"""Coefficients from recorded jobs: non-negative least squares of the relative error, robustly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sharpflow.cost.model import Coefficients
from sharpflow.cost.work import MEMORY, REPLAYED, TIME, Job

ADDED_MARGIN = 1.1
"""Factor on top of the largest ratio of recorded to predicted memory."""
WITHIN = 0.25
SAMPLING = 0.5
"""Seconds between the samples that Snakemake takes of a job."""
_ROUNDS = 10
_BEND = 0.15  # relative errors beyond it count linearly (Huber)


@dataclass(frozen=True)
class Recorded:
    """What one job took.

    Attributes:
        experiment: whose job it was; a whole one is left out at a time.
        seconds: of CPU time.
        megabytes: largest resident memory that was seen.
    """

    experiment: str
    job: Job
    seconds: float
    megabytes: float


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
        spans = [TIME[stage](r.job) for r in rows]
        seconds[stage] = _solve_with_replay(
            spans, [r.seconds for r in rows], seconds.get("train", {})
        )
        needed = [MEMORY[stage](r.job) for r in rows]
        megabytes[stage] = solve(needed, [r.megabytes for r in rows])
        known = Coefficients(machine, {}, megabytes, {})
        worst = max(r.megabytes / known.typical_memory(r.job) for r in rows)
        margin[stage] = ADDED_MARGIN * max(worst, 1.0)
    return Coefficients(machine, seconds, megabytes, margin)


@dataclass(frozen=True)
class HeldOut:
    """How jobs of experiments that were left out of the fit came out.

    Attributes:
        jobs: their number.
        time: share whose CPU time is predicted within 25 %.
        near_time: share within 25 % or within half a second, the span at which Snakemake samples.
        memory: likewise, of the typical memory.
        enough: share that stays within the memory that is asked for at the first attempt.
    """

    jobs: int
    time: float
    near_time: float
    memory: float
    enough: float


def held_out(recorded: Sequence[Recorded]) -> dict[str, HeldOut]:
    """Cross-validation that leaves out one whole experiment at a time, by stage and for `all`."""
    rows: dict[str, list[tuple[bool, bool, bool, bool]]] = {}
    for experiment in dict.fromkeys(r.experiment for r in recorded):
        known = fit([r for r in recorded if r.experiment != experiment], "")
        for row in (r for r in recorded if r.experiment == experiment):
            if row.job.stage not in known.seconds:
                continue
            missed = abs(known.time(row.job) - row.seconds)
            near = missed <= WITHIN * row.seconds
            memory = abs(known.typical_memory(row.job) / row.megabytes - 1) <= WITHIN
            enough = known.memory(row.job) >= row.megabytes
            for key in (row.job.stage, "all"):
                found = (near, near or missed <= SAMPLING, memory, enough)
                rows.setdefault(key, []).append(found)
    return {
        key: HeldOut(len(found), *(sum(column) / len(found) for column in zip(*found, strict=True)))
        for key, found in rows.items()
    }
