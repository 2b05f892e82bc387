"""`python -m benchmarks.progress CONFIG LOG CORES`: the time left as a finished run was told it.

The log is Snakemake's, of a run that made everything (`.snakemake/log/`), whose lines say when each
job began and ended, to a second. What the run's line said at a share of its time is set against
what was then left of it.
"""

import argparse
import re
from datetime import datetime
from pathlib import Path

from sharpflow.cost import shipped
from sharpflow.cost.__main__ import sweep_of
from sharpflow.progress import Event, Planned, Run

SHARES = (0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95)
_TIME = re.compile(r"^\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]$")
_JOB = re.compile(r"^    jobid: (\d+)$")
_RECORDED = re.compile(r"^    benchmark: .*?benchmarks/(.+)$")
_ENDED = re.compile(r"^Finished jobid: (\d+) ")


def events(text: str) -> tuple[list[Event], dict[int, str]]:
    """What a log says of jobs, in its order, and the name of each job's benchmark file."""
    now, job, found, names = 0.0, 0, [], {}
    for line in text.splitlines():
        if match := _TIME.match(line):
            now = datetime.strptime(match[1], "%a %b %d %H:%M:%S %Y").timestamp()
        elif match := _JOB.match(line):
            job = int(match[1])
            found.append(Event(now, "started", job))
        elif match := _RECORDED.match(line):
            names[job] = match[1]
        elif match := _ENDED.match(line):
            found.append(Event(now, "finished", int(match[1])))
    return found, names


def main() -> None:
    """Print, for some shares of the run, the seconds that were left and those that were said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("log", type=Path)
    parser.add_argument("cores", type=int)
    options = parser.parse_args()
    heard, names = events(options.log.read_text(encoding="utf-8"))
    known, sizes = shipped(), sweep_of(options.config).jobs()
    planned = {}
    for number, name in names.items():
        job = sizes.get(name, ("", None))[1]
        stage = name if job is None else job.stage
        planned[number] = Planned(name, stage, None if job is None else known.wall(job))
    run, begun, ended = Run(planned, options.cores), heard[0].at, heard[-1].at
    print(f"{len(planned)} jobs in {ended - begun:,.0f} s\n at    left    said   ratio")
    for share in SHARES:
        now = begun + share * (ended - begun)
        while heard and heard[0].at <= now:
            run.take(heard.pop(0))
        said, left = run.left(now).seconds, ended - now
        print(f"{share:4.0%} {left:6,.0f} s {said:5,.0f} s {said / left:7.2f}")


if __name__ == "__main__":
    main()
