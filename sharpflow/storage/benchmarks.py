"""What Snakemake records of a job's time and memory: a table of one row a run of it."""

import csv
from pathlib import Path


def read_benchmark(path: str | Path) -> dict[str, str] | None:
    """The last row of a benchmark file by column; None where there is no such file, or no row."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except FileNotFoundError:
        return None
    return rows[-1] if rows else None
