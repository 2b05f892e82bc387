"""The last layer of the page: figures, claims, settings, and how all was made."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from sharpflow.report import drawings
from sharpflow.report.entries import FigureEntry, TableEntry
from sharpflow.report.text import anchor, flatten, number, settings_digest
from sharpflow.report.verdicts import single_rows

LARGEST_SVG = 1_500_000
"""Bytes of an SVG over which a figure is shown as its PNG, which grows no further."""

Entry = Mapping[str, Any]


def figure_section(figure: FigureEntry, entries: Sequence[Entry]) -> dict[str, Any]:
    """A figure with the claims that are judged on what it draws."""
    alt = figure.alt or f"{figure.title}. The caption describes it."
    vector = figure.svg and len(figure.svg) <= LARGEST_SVG
    return {
        "anchor": figure.anchor,
        "name": figure.name,
        "paper": figure.paper,
        "published": figure.published,
        "title": figure.title,
        "caption": figure.caption,
        "alt": alt,
        "svg": drawings.inline(figure.svg, f"plot-{figure.anchor}", alt) if vector else Markup(""),
        "image": "" if vector else base64.b64encode(figure.png).decode("ascii"),
        "size": figure.size,
        "command": figure.command,
        "numbers": figure.numbers,
        "links": list(figure.links.items()),
        "claims": [entry for entry in entries if entry["anchor"] == figure.anchor],
        "experiments": [(name, anchor("experiment", name)) for name in figure.experiments],
    }


def drawn_rows(entry: Entry) -> list[dict[str, Any]]:
    """The measurements of a claim, and then its controls, each with its drawing."""
    return [
        {**row, "drawing": drawings.interval(row["raw"], row["runs"], row["band"])}
        for row in [*single_rows([entry]), *entry["controls"]]
    ]


def experiment_section(
    name: str, settings: Mapping[str, Any], differences: Mapping[str, Any], short: str = ""
) -> dict[str, Any]:
    """What an experiment sets that is not the default: for all its cases, then for each.

    Args:
        name: of the experiment.
        settings: all of them, for the digest.
        differences: those that are not the defaults; under `cases` those of each case.
        short: in what it falls short of its paper's scale, as text.
    """
    cases = {case: dict(flatten(own)) for case, own in differences.get("cases", {}).items()}
    shared = {
        key: value
        for key, value in next(iter(cases.values()), {}).items()
        if all(own.get(key) == value for own in cases.values())
    }
    top = {key: value for key, value in differences.items() if key != "cases"}
    return {
        "name": name,
        "title": settings.get("title", ""),
        "anchor": anchor("experiment", name),
        "digest": settings_digest(settings),
        "settings": [("", key, value) for key, value in [*flatten(top), *shared.items()]]
        + list(_of_cases(cases, shared)),
        "short": short,
    }


def _of_cases(
    cases: Mapping[str, Mapping[str, str]], shared: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for case, own in cases.items():
        yield from ((case, key, value) for key, value in own.items() if key not in shared)


def plain_table(position: int, entry: TableEntry) -> dict[str, Any]:
    """A table of numbers as text."""
    frame = entry.frame
    return {
        "anchor": f"table-{position + 1}",
        "title": str(entry.title),
        "note": str(entry.note),
        "columns": [str(column) for column in frame.columns],
        "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes],
        "rows": [[number(value) for value in row] for row in frame.itertuples(index=False)],
    }
