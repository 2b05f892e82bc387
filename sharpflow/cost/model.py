"""From a job's features to what it takes and what is asked for it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sharpflow.cost.work import MEMORY, TIME, Job
from sharpflow.errors import ConfigError

VARIABLE = "SHARPFLOW_COST"
SHIPPED = Path(__file__).parent / "coefficients.json"
UNKNOWN_MB, UNKNOWN_MINUTES = 2000, 120
"""What is asked for a job whose size nobody can tell beforehand, at the first attempt."""
_WAIT = 4
"""Times the predicted CPU time that a job may take: machines differ, and are shared."""
_LEAST_MINUTES = 5


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

    def time(self, job: Job) -> float:
        """CPU seconds, the middle of what is expected."""
        return _product(TIME[job.stage](job), self.seconds[job.stage])

    def typical_memory(self, job: Job) -> float:
        """Megabytes, the middle of what is expected."""
        return _product(MEMORY[job.stage](job), self.megabytes[job.stage])

    def memory(self, job: Job) -> float:
        """Megabytes that the job stays within."""
        return self.typical_memory(job) * self.margin[job.stage]

    def mem_mb(self, job: Job | None, attempt: int = 1) -> int:
        """Memory to ask for, in MB: more at each attempt; `UNKNOWN_MB` where no size is known."""
        return attempt * (UNKNOWN_MB if job is None else round(self.memory(job) + 0.5))

    def runtime(self, job: Job | None, attempt: int = 1, threads: int = 1) -> int:
        """Minutes to ask for: a generous multiple of the predicted time, more at each attempt.

        Threads are taken to share half of the work.
        """
        if job is None:
            return attempt * UNKNOWN_MINUTES
        alone = self.time(job) * (0.5 + 0.5 / threads)
        return attempt * max(_LEAST_MINUTES, round(_WAIT * alone / 60 + 0.5))

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


def _product(features: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    return sum(value * coefficients.get(name, 0.0) for name, value in features.items())


def read(path: str | Path) -> Coefficients:
    """Coefficients from a file that `fit` wrote.

    Raises:
        ConfigError: it is missing or not such a file.
    """
    try:
        return Coefficients(**json.loads(Path(path).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is no file of coefficients ({error}); make one with "
            "`python -m sharpflow.cost fit`."
        ) from None


@cache
def shipped() -> Coefficients:
    """The coefficients that `$SHARPFLOW_COST` names, or those that come with the library.

    Raises:
        ConfigError: the variable names no such file.
    """
    return read(os.environ.get(VARIABLE) or SHIPPED)
