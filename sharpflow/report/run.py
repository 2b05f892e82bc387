"""The page on one run: commit, machine, time and memory a stage, checksums.

It stands beside the page and not on it: it is another one after every run.
"""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpflow.report.page import environment
from sharpflow.report.text import number

_GIB = 2**30


@dataclass(frozen=True)
class Stage:
    """What the jobs of a rule took.

    Attributes:
        rule: its name.
        jobs: number of recorded jobs.
        seconds: wall time of all of them together.
        longest: wall time of the longest.
        megabytes: largest resident memory of one, in MB; NaN where none was sampled.
    """

    rule: str
    jobs: int
    seconds: float
    longest: float
    megabytes: float


def stage(rule: str, records: Iterable[Mapping[str, str] | None]) -> Stage | None:
    """The stage of some jobs, each as `storage.benchmarks.read_benchmark` has it; None of none."""
    rows = [row for row in records if row is not None]
    if not rows:
        return None
    seconds = [float(row["s"]) for row in rows]
    memory = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("NA", "-", "")]
    largest = max(memory, default=float("nan"))
    return Stage(rule, len(rows), sum(seconds), max(seconds), largest)


def machine() -> dict[str, str]:
    """The machine that this runs on: system, processor, cores and memory."""
    try:
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB"
    except (OSError, ValueError, AttributeError):
        memory = "unknown"
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "memory": memory,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def build_run(
    manifest: Mapping[str, Any], stages: Sequence[Stage], where: Mapping[str, str]
) -> str:
    """The page on a run, as one HTML text that needs no other file.

    Args:
        manifest: what `manifest.json` holds: commit, devices, packages, python, sha256.
        stages: what the jobs took, in their order.
        where: what is known of the machine that wrote the manifest.
    """
    return (
        environment()
        .get_template("run.html")
        .render(
            commit=manifest["commit"],
            devices=", ".join(manifest["devices"]),
            packages={"python": manifest["python"], **manifest["packages"]},
            machine=where,
            stages=[
                {
                    "rule": each.rule,
                    "jobs": number(each.jobs),
                    "seconds": f"{each.seconds:,.1f}",
                    "longest": f"{each.longest:,.1f}",
                    "megabytes": number(each.megabytes),
                }
                for each in stages
            ],
            total=f"{sum(each.seconds for each in stages):,.0f}",
            checksums=sorted(manifest["sha256"].items()),
        )
    )
