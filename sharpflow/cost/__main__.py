"""`python -m sharpflow.cost fit CONFIG=RESULTS … -o FILE`, `estimate CONFIG` or `check TABLE`."""

import argparse
import sys
from collections.abc import Iterable
from math import isnan
from pathlib import Path

from sharpflow.config import load, make_plan
from sharpflow.cost.model import Coefficients, completed, shipped
from sharpflow.cost.sweep import Sweep
from sharpflow.cost.work import Job
from sharpflow.errors import ConfigError, exit_status

_ROW_BYTES = 5
"""Of a stored table's row, compressed; measured in docs/how-to/scaling.md."""


def sweep_of(file: str) -> Sweep:
    """The jobs of a configuration file."""
    settings = load(file)
    return Sweep(settings, make_plan(settings))


def storage_gb(jobs: Iterable[Job]) -> float:
    """Gigabytes of what jobs leave: stored states, and tables, which aggregation writes again."""
    total = 0.0
    for job in jobs:
        if job.stage in ("train", "integrate_flow"):
            total += job.runs * job.state_bytes * job.stored + _ROW_BYTES * job.trajectory_rows
        elif job.stage == "evaluate_sharpness":
            total += _ROW_BYTES * job.measured_rows
        elif job.stage == "aggregate":
            total += _ROW_BYTES * job.rows
    return total / 1e9


def estimate(file: str, known: Coefficients, core_price: float, storage_price: float) -> str:
    """What a configuration takes, as text; prices are of a core-hour and a GB-month."""
    sweep = sweep_of(file)
    jobs = sweep.jobs()
    sized = {name: job for name, (_, job) in jobs.items() if job is not None}
    times = {name: known.time(job) for name, job in sized.items()}
    memories = {name: known.mem_mb(job) for name, job in sized.items()}
    hours, stored = sum(times.values()) / 3600, storage_gb(sized.values())
    runs = sum(len(shard.training["seeds"]) for shard in sweep.plan.shards.values())
    longest, largest = max(times, key=times.__getitem__), max(memories, key=memories.__getitem__)
    lines = [
        f"{file} on {known.machine}",
        f"jobs          {len(jobs):,} ({runs:,} runs in {len(sweep.plan.shards):,} shards)",
        f"core-hours    {hours:,.2f}",
        f"peak memory   {memories[largest]:,} MB asked for by {largest}",
        f"longest job   {times[longest]:,.1f} s of CPU time: {longest}",
        f"storage       {stored:,.2f} GB",
    ]
    if core_price or storage_price:
        money = hours * core_price, stored * storage_price
        lines.append(f"money         {money[0]:,.2f} to compute, {money[1]:,.2f} a month to keep")
    if unknown := len(jobs) - len(sized):
        lines.append(f"not counted   {unknown:,} jobs whose size only their data or network tells")
    by_experiment: dict[str, list[float]] = {}
    for name, seconds in times.items():
        by_experiment.setdefault(jobs[name][0], []).append(seconds)
    lines += ["", "   CPU s  share   jobs  experiment"]
    lines += [
        f"{sum(each):8,.0f} {sum(each) / (3600 * hours):6.0%} {len(each):6,}  {experiment}"
        for experiment, each in sorted(by_experiment.items(), key=lambda one: -sum(one[1]))
    ]
    return "\n".join(lines)


def _fit(options: argparse.Namespace) -> str:
    from sharpflow.cost.fit import fit
    from sharpflow.cost.recorded import read_benchmarks, read_table, write_table

    recorded = [row for table in options.table for row in read_table(table)]
    for pair in options.results:
        file, separator, results = pair.partition("=")
        sweep = sweep_of(file)
        root = results if separator else sweep.settings.configuration.results
        recorded += read_benchmarks(sweep, root, Path(file).stem)
    if not recorded:
        raise ConfigError("fit needs a configuration that was run, or --table FILE.")
    if options.record:
        write_table(options.record, recorded)
    with open(options.output, "w", encoding="utf-8") as handle:
        handle.write(fit(recorded, options.machine).written() + "\n")
    return f"{options.output}: fitted to {len(recorded)} jobs\n{_report(recorded)}"


def _report(recorded: list) -> str:
    from sharpflow.cost.fit import held_out

    lines = []
    for by_experiment, what in ((True, "an experiment"), (False, "a tenth of all jobs")):
        lines += [
            f"left out, {what} at a time:",
            "stage                 jobs  time±25%  (or ±0.5 s)  likes±25%  memory±25%  enough",
        ]
        lines += [
            f"{stage:<20} {one.jobs:>5} {_percent(one.time, 9)} {_percent(one.near_time, 12)} "
            f"{_percent(one.likes, 10)} {_percent(one.memory, 11)} {_percent(one.enough, 7)}"
            for stage, one in sorted(held_out(recorded, by_experiment).items())
        ]
    return "\n".join(lines)


def _percent(share: float, width: int) -> str:
    return f"{'–' if isnan(share) else f'{share:.0%}':>{width}}"


def _check(options: argparse.Namespace) -> str:
    from sharpflow.cost.recorded import read_table

    return _report(read_table(options.table))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 if what it was given is wrong."""
    parser = argparse.ArgumentParser(prog="python -m sharpflow.cost", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("fit", help="coefficients from the benchmark files of runs")
    one.add_argument("results", nargs="*", metavar="CONFIG[=RESULTS]", help="what was run, where")
    one.add_argument("--table", action="append", default=[], help="recorded jobs of earlier fits")
    one.add_argument("--record", help="write the recorded jobs to this CSV file")
    one.add_argument("--machine", default="this machine", help="what to call its class")
    one.add_argument("-o", "--output", required=True, help="file of coefficients to write")
    one.set_defaults(run=_fit)
    one = commands.add_parser("estimate", help="what a configuration takes")
    one.add_argument("config", help="a configuration file")
    one.add_argument("--coefficients", help="a file that `fit` wrote, not the shipped one")
    one.add_argument("--core-hour", type=float, default=0.0, help="price of a core-hour")
    one.add_argument("--gb-month", type=float, default=0.0, help="price of a GB a month")
    one.set_defaults(
        run=lambda o: estimate(
            o.config,
            completed(o.coefficients) if o.coefficients else shipped(),
            o.core_hour,
            o.gb_month,
        )
    )
    one = commands.add_parser("check", help="how well jobs are foretold that the fit did not see")
    one.add_argument("table", help="recorded jobs, as `fit --record` writes them")
    one.set_defaults(run=_check)
    options = parser.parse_args(arguments)
    return exit_status(lambda: print(options.run(options)))


if __name__ == "__main__":
    sys.exit(main())
