"""`python -m benchmarks.progress CONFIG LOG CORES`: the time left as a finished run was told it.

The log is Snakemake's, of a run that made everything (`.snakemake/log/`), whose lines say when each
job began and ended, to a second. What the run's line said at a share of its time, without the jobs'
own word, is set against what was then left of it. `--speed 2` tells it as of a machine that is
twice as fast.
"""

import argparse
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sharpflow import console
from sharpflow.cost import shipped
from sharpflow.cost.__main__ import sweep_of
from sharpflow.cost.work import TIME
from sharpflow.progress import Event, Planned, Run

SHARES = (0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95)
_TIME = re.compile(r"^\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]$")
_RULE = re.compile(r"^(?:local)?rule (\w+):$")
_JOB = re.compile(r"^    jobid: (\d+)$")
_LOG = re.compile(r"^    log: \S*?/logs/(\S+)\.log")  # and the benchmark file is called likewise
_WILDCARDS = re.compile(r"^    wildcards: (.+)$")
_ENDED = re.compile(r"^Finished jobid: (\d+) ")


class Said(NamedTuple):
    """What a log says of a job: its kind, and the name of its benchmark file."""

    kind: tuple[str, ...]
    record: str


def events(text: str) -> tuple[list[Event], dict[int, Said]]:
    """What a log says of jobs, in its order."""
    now, job, rule, record, found, said = 0.0, 0, "", "", [], {}
    for line in text.splitlines():
        if match := _TIME.match(line):
            now = datetime.strptime(match[1], "%a %b %d %H:%M:%S %Y").timestamp()
        elif match := _RULE.match(line):
            rule, record = match[1], ""
        elif match := _LOG.match(line):
            record = f"{match[1]}.tsv"
        elif match := _JOB.match(line):
            job = int(match[1])
            found.append(Event(now, "started", job))
            said[job] = Said(console.kind_of(rule, {}), record)
        elif match := _WILDCARDS.match(line):
            pairs = dict(pair.split("=", 1) for pair in match[1].split(", "))
            said[job] = Said(console.kind_of(rule, pairs), record)
        elif match := _ENDED.match(line):
            found.append(Event(now, "finished", int(match[1])))
    return found, said


def planned(config: str, said: dict[int, Said], forked: bool) -> dict[int, Planned]:
    """The jobs of a run as they are foretold."""
    known, sizes, found = shipped(), sweep_of(config).jobs(), {}
    for number, (kind, record) in said.items():
        times = console.LIGHT if kind[0] not in TIME else (None, 0.0)
        if (job := sizes.get(record, ("", None))[1]) is not None:
            times = known.wall(job, forked=forked), known.begin(job, forked=forked)
        found[number] = Planned("/".join(kind), kind, *times)
    return found


def main() -> None:
    """Print, for some shares of the run, the seconds that were left and those that were said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("log", type=Path)
    parser.add_argument("cores", type=int)
    parser.add_argument("--speed", type=float, default=1.0)
    options = parser.parse_args()
    heard, said = events(options.log.read_text(encoding="utf-8"))
    heard = [event._replace(at=event.at / options.speed) for event in heard]
    run = Run(planned(options.config, said, forked=True), options.cores)
    begun, ended = heard[0].at, heard[-1].at
    print(f"{len(said)} jobs in {ended - begun:,.0f} s\n at    left    said   ratio")
    for share in SHARES:
        now = begun + share * (ended - begun)
        while heard and heard[0].at <= now:
            run.take(heard.pop(0))
        said_left, left = run.left(now).seconds, ended - now
        print(f"{share:4.0%} {left:6,.0f} s {said_left:5,.0f} s {said_left / left:7.2f}")


if __name__ == "__main__":
    main()
