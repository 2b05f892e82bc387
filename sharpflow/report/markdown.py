"""The verdicts of a finished run as Markdown, for the documentation.

A table an experiment, a row a measurement with its reason.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from sharpflow.errors import exit_status
from sharpflow.report.text import many, times
from sharpflow.report.verdicts import VERDICTS, claim_entries, counts, names, outcome, single_rows
from sharpflow.storage.files import write_bytes

MARKER = "<!-- made from tables -->"
HEADER = (
    "| claim | case | median over seeds (range) | band | in the band, or mean | verdict |",
    "|---|---|---|---|---|---|",
)


def lines(claims: pd.DataFrame) -> Iterator[str]:
    """How many measurements have which verdict, then a heading and a table an experiment.

    Args:
        claims: columns `sharpflow.claims.columns.COLUMNS`.
    """
    entries = claim_entries(claims)
    single = single_rows(entries)
    found = counts(single)
    rows = [row for entry in entries for row in (*single_rows([entry]), *entry["controls"])]
    parts = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS)
    yield (
        f"{many(names(entries), 'claim')}, judged {times(len(entries))}, "
        f"{many(found['all'], 'measurement')}: {parts}."
    )
    if len(rows) > len(single):
        failing = sum(row["control"] and row["verdict"] == "not supported" for row in rows)
        yield ""
        yield (
            f"Beside them, {failing} of {len(rows) - len(single)} controls, on which a claim must "
            "fail, are not supported."
        )
    for (paper, experiment), group in groupby(sorted(rows, key=_experiment), key=_experiment):
        yield from ("", f"### {paper}: `{experiment}`", "", *HEADER)
        yield from map(_row, group)


def _experiment(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["paper"], row["experiment"]


def _row(row: Mapping[str, Any]) -> str:
    cells = (
        f"`{row['claim']}`",
        row["case"] + " (control)" * row["control"],
        row["values"] or "–",
        row["band"],
        outcome(row),
        ": ".join(part for part in (row["verdict"], row["reason"]) if part),
    )
    return f"| {' | '.join(cells)} |"


def replace_below(path: Path, made: Iterable[str]) -> None:
    """Write lines below the marker of a Markdown file; what stands above it stays.

    A file without the marker, or none at all, gets it at its end.

    Raises:
        OSError: the file cannot be read or written.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    head = text.partition(MARKER)[0].rstrip()
    parts = ([head, ""] if head else []) + [MARKER, "", *made]
    write_bytes(str(path), ("\n".join(parts) + "\n").encode())


def main() -> int:
    """Write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", type=Path, help="claims.csv of a finished run")
    parser.add_argument("output", type=Path, help="the file; what is above its marker stays")
    parser.add_argument("--papers", nargs="+", metavar="KEY", help="of these alone; all by default")
    options = parser.parse_args()
    return exit_status(lambda: _write(options.claims, options.output, options.papers), OSError)


def _write(claims: Path, output: Path, papers: list[str] | None) -> None:
    table = pd.read_csv(claims)
    if papers is not None:
        table = table[table["paper"].isin(papers)]
    replace_below(output, lines(table))


if __name__ == "__main__":
    sys.exit(main())
