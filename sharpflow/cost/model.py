"""From a job's features to what it takes and what is asked for it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sharpflow.cost.work import LIKE, MEMORY, TIME, Job
from sharpflow.errors import ConfigError

VARIABLE = "SHARPFLOW_COST"
SHIPPED = Path(__file__).parent / "coefficients.json"
UNKNOWN_MB, UNKNOWN_MINUTES = 2000, 120
"""What is asked for a job whose size nobody can tell beforehand, at the first attempt."""
SNAKEMAKES, SNAKEMAKE_MB, SHARD_MB = 2, 200, 0.005
"""That a job of a cluster starts around its script; memory of one, and of its plan by shard."""
FORKED = "forked_job"
_WAIT = 4
"""Times the predicted CPU time that a job may take: machines differ, and are shared."""
_LEAST_MINUTES = 5
_UNRECORDED = 1.5
"""Times what another stage's coefficients foretell, where a stage has none of its own."""


@dataclass(frozen=True)
class Coefficients:
    """A cost of each feature, by stage; made by `python -m sharpflow.cost fit`.

    Attributes:
        machine: class of the machine that they were recorded on.
        seconds: of CPU time, by stage and feature.
        megabytes: likewise, of memory.
        margin: by stage, the factor of the predicted memory that covers every recorded job, and
            what was added to that.
    """

    machine: str
    seconds: Mapping[str, Mapping[str, float]]
    megabytes: Mapping[str, Mapping[str, float]]
    margin: Mapping[str, float]

    def time(self, job: Job, forked: bool = False) -> float:
        """CPU seconds, the middle of what is expected; less where libraries are loaded already."""
        factor, known = _nearest(self.seconds, job.stage)
        return factor * product(spent(job, forked and FORKED in known), known)

    def typical_memory(self, job: Job) -> float:
        """Megabytes, the middle of what is expected."""
        factor, known = _nearest(self.megabytes, job.stage)
        return factor * product(MEMORY[job.stage](job), known)

    def memory(self, job: Job) -> float:
        """Megabytes that the job stays within."""
        return self.typical_memory(job) * self.margin.get(job.stage, max(self.margin.values()))

    def wall(self, job: Job, threads: int = 1, forked: bool = False) -> float:
        """Seconds on a machine with nothing else to do; threads share half of the work."""
        return self.time(job, forked) * _shared(threads)

    def begin(self, job: Job, threads: int = 1, forked: bool = False) -> float:
        """Seconds of these until its work begins."""
        factor, known = _nearest(self.seconds, job.stage)
        name = FORKED if forked and FORKED in known else "job"
        return factor * known.get(name, 0.0) * _shared(threads)

    def mem_mb(self, job: Job | None, attempt: int = 1, beside: int = 0) -> int:
        """Memory to ask for, in MB: more at each attempt; `UNKNOWN_MB` where no size is known.

        Args:
            job: which.
            attempt: from 1.
            beside: MB that others take within the same request.
        """
        own = UNKNOWN_MB if job is None else round(self.memory(job) + 0.5)
        return attempt * (own + beside)

    def runtime(self, job: Job | None, attempt: int = 1, threads: int = 1) -> int:
        """Minutes to ask for: a generous multiple of the predicted time, more at each attempt."""
        if job is None:
            return attempt * UNKNOWN_MINUTES
        minutes = _WAIT * self.wall(job, threads) / 60
        return attempt * max(_LEAST_MINUTES, round(minutes + 0.5))

    def written(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "machine": self.machine,
                "seconds": self.seconds,
                "megabytes": self.megabytes,
                "margin": self.margin,
            },
            indent=1,
            sort_keys=True,
        )


def around(shards: int) -> int:
    """MB of the Snakemakes that an executor of a cluster starts around a job's script.

    Args:
        shards: of the whole plan, which each of them reads.
    """
    return round(SNAKEMAKES * (SNAKEMAKE_MB + SHARD_MB * shards) + 0.5)


def _nearest(
    by_stage: Mapping[str, Mapping[str, float]], stage: str
) -> tuple[float, Mapping[str, float]]:
    """The coefficients of a stage; those of another with a factor where nothing is recorded."""
    if stage in by_stage or stage not in LIKE:
        return 1.0, by_stage[stage]
    return _UNRECORDED, by_stage[LIKE[stage]]


def _shared(threads: int) -> float:
    return 0.5 + 0.5 / threads


def spent(job: Job, forked: bool) -> dict[str, float]:
    """Features of a job's time; what it takes to begin has a name of its own where it is forked."""
    found = TIME[job.stage](job)
    return {FORKED if name == "job" and forked else name: value for name, value in found.items()}


def product(features: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    """Coefficients times features, summed; a feature without a coefficient counts nothing."""
    return sum(value * coefficients.get(name, 0.0) for name, value in features.items())


def read(path: str | Path) -> Coefficients:
    """Coefficients from a file that `fit` wrote.

    Raises:
        ConfigError: it is missing or not such a file.
    """
    try:
        return Coefficients(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is no file of coefficients ({error}); make one with "
            "`python -m sharpflow.cost fit`."
        ) from None


def completed(path: str | Path) -> Coefficients:
    """Coefficients from a file, with those that come with the library for stages that it lacks.

    Raises:
        ConfigError: as `read`.
    """
    own, ours = read(path), read(SHIPPED)
    return Coefficients(
        own.machine,
        {**ours.seconds, **own.seconds},
        {**ours.megabytes, **own.megabytes},
        {**ours.margin, **own.margin},
    )


@cache
def shipped() -> Coefficients:
    """The coefficients that `$SHARPFLOW_COST` names, or those that come with the library.

    Raises:
        ConfigError: the variable names no such file.
    """
    return completed(os.environ.get(VARIABLE) or SHIPPED)
