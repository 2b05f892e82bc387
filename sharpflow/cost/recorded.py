"""Recorded jobs: from the benchmark files of runs, and as a compact table."""

import csv
from dataclasses import fields
from pathlib import Path

from sharpflow.cost.fit import Recorded
from sharpflow.cost.sweep import Sweep
from sharpflow.cost.work import Job, Measured
from sharpflow.errors import ConfigError
from sharpflow.storage.benchmarks import read_benchmark

_FIELDS = [f.name for f in fields(Job)]


def read_benchmarks(sweep: Sweep, results: str | Path, run: str = "") -> list[Recorded]:
    """The recorded jobs of a configuration whose size is known.

    Args:
        sweep: of the configuration.
        results: its results root, with a folder `benchmarks`.
        run: what to call it beside others.

    Raises:
        ConfigError: there is none.
    """
    found = []
    folder = Path(results) / "benchmarks"
    for name, (experiment, job) in sweep.jobs().items():
        row = None if job is None else read_benchmark(folder / name)
        if job is None or row is None:
            continue
        forked = row.get("forked") == "yes"
        if row["max_rss"] in ("NA", "-") or not float(row["max_rss"]) > 0:
            continue  # of an earlier release, whose records were sampled
        seconds = round(max(float(row["cpu_time"]), 0.1), 2)
        megabytes = None if forked else float(row["max_rss"])
        found.append(Recorded(experiment, job, seconds, megabytes, forked, run))
    if not found:
        raise ConfigError(f"{folder} holds no benchmark file of this configuration's jobs.")
    return found


def write_table(path: str | Path, recorded: list[Recorded]) -> None:
    """Recorded jobs as CSV."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["run", "experiment", "seconds", "megabytes", "forked", *_FIELDS])
        for one in recorded:
            values = [getattr(one.job, name) for name in _FIELDS]
            plain = [_text(value) for value in values]
            taken = (one.seconds, one.megabytes, int(one.forked) or None)
            writer.writerow([one.run, one.experiment, *taken, *plain])


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(
            ":".join(str(getattr(one, f.name)) for f in fields(Measured)) for one in value
        )
    return str(int(value)) if isinstance(value, (bool, int)) and value else str(value or "")


def read_table(path: str | Path) -> list[Recorded]:
    """What `write_table` wrote.

    Raises:
        ConfigError: it is no such table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return [_read(row) for row in csv.DictReader(handle)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no table of recorded jobs ({error}).") from None


def _read(row: dict[str, str]) -> Recorded:
    kinds = {f.name: f.type for f in fields(Job)}
    values: dict[str, object] = {"stage": row["stage"]}
    for name in (n for n in _FIELDS if n not in ("stage", "measured")):
        text = row.get(name) or ""  # one of an earlier table lacks the later fields
        kind = kinds[name]
        values[name] = text if kind is str or isinstance(kind, str) else kind(int(text or 0))
    values["measured"] = tuple(_measured(one.split(":")) for one in row["measured"].split())
    job = Job(**values)  # pyright: ignore[reportArgumentType]
    seconds, megabytes = (float(row[n]) if row[n] else None for n in ("seconds", "megabytes"))
    forked, run = row.get("forked") == "1", row.get("run") or ""
    return Recorded(row["experiment"], job, seconds, megabytes, forked, run)


def _measured(words: list[str]) -> Measured:
    numbers = len(fields(Measured)) - 1  # a kind stands last, and not in an earlier table
    return Measured(*map(int, words[:numbers]), *words[numbers:])  # pyright: ignore
