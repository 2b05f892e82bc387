"""What a job used of time and memory: a table of one row, beside its log."""

import csv
import resource
import sys
import time
from pathlib import Path

_BEGUN = time.monotonic()
_UNITS = 2**20 if sys.platform == "darwin" else 2**10  # of the largest memory, in MiB
COLUMNS = ("s", "cpu_time", "max_rss", "forked")
"""Seconds since the job's code began to be loaded, CPU seconds of all threads, MiB, and yes or no.

A job that was forked did not load its libraries itself: see `sharpflow.forkserver`.
"""


def write_benchmark(path: str | Path, forked: bool = False) -> None:
    """Write what this process and those that it waited for have used until now.

    Args:
        path: where to.
        forked: whether its libraries were loaded before it began.
    """
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = sum(used.ru_utime + used.ru_stime for used in (own, others))
    memory = max(own.ru_maxrss, others.ru_maxrss) / _UNITS
    wall = time.monotonic() - _BEGUN
    row = (f"{wall:.3f}", f"{cpu:.3f}", f"{memory:.1f}", "yes" if forked else "no")
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter="\t", lineterminator="\n").writerows([COLUMNS, row])


def read_benchmark(path: str | Path) -> dict[str, str] | None:
    """The last row of a benchmark file by column; None where there is no such file, or no row."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except FileNotFoundError:
        return None
    return rows[-1] if rows else None
