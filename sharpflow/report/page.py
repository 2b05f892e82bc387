"""Builds the page from plain inputs: pictures as bytes, tables as data frames, settings as dicts.

The same inputs give the same text: the page carries no date, no path and nothing from outside.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from sharpflow.report.explorer import BUDGET, ExplorerData, section
from sharpflow.report.text import anchor, flatten, number, settings_digest
from sharpflow.report.verdicts import claim_entries, confidences, counts, family, single_rows

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FigureEntry:
    """A figure as the page shows it.

    Attributes:
        name, paper: name of the figure and key of its paper; together they are unique on a page.
        title, caption: plain text.
        png: the picture.
        experiments: names of the experiments that it draws.
        command: command that rebuilds this figure alone.
    """

    name: str
    paper: str
    title: str
    caption: str
    png: bytes
    experiments: list[str] = field(default_factory=list)
    command: str = ""

    @property
    def anchor(self) -> str:
        """Fragment identifier of the figure's section."""
        return anchor("figure", self.paper, self.name)


class TableEntry(NamedTuple):
    """A table as the page shows it: a heading, its numbers, and what they mean (plain text)."""

    title: str
    frame: pd.DataFrame
    note: str = ""


def build(
    figures: Sequence[FigureEntry],
    claims: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    papers: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, str],
    tables: Sequence[TableEntry | tuple[str, pd.DataFrame]] = (),
    explorer: ExplorerData | None = None,
    explorer_budget: int = BUDGET,
) -> str:
    """Page with all figures, claims and verdicts, as one HTML text that needs no other file.

    Args:
        figures: in the order in which a paper's section shows them.
        claims: rows of `claims.csv` (see `sharpflow.claims.base.judge`); may be empty.
        experiments: settings of each experiment by its name.
        papers: what the page says of each paper, by its key and in their order: `key` and `title`,
            and if known `authors`, `venue`, `link` and `says`.
        provenance: package versions, device, configuration, commit: shown as they are.
        tables: further tables to show after the papers.
        explorer: curves of runs, for the reader to choose from; None leaves the part out.
        explorer_budget: bytes of the page that these curves may take.

    Returns:
        The page's HTML.

    Raises:
        ValueError: a column or the summary of a claim is missing, a figure appears twice or is no
            PNG, a figure names an experiment whose settings are not given, or a figure or claim
            belongs to a paper that is not.
    """
    _check_figures(figures, experiments)
    named = {figure.paper for figure in figures} | {str(paper) for paper in claims.get("paper", ())}
    if unknown := sorted(named - set(papers)):
        raise ValueError(
            f"papers has no {unknown[0]!r}, which a figure or claim belongs to; "
            f"given: {', '.join(papers) or 'none'}"
        )
    anchors = {(figure.paper, figure.name): figure.anchor for figure in figures}
    entries = [
        entry
        | {
            "anchor": anchors.get((entry["paper"], entry["figure"])),
            "settings": anchor("experiment", entry["experiment"])
            if entry["experiment"] in experiments
            else None,
        }
        for entry in claim_entries(claims)
    ]
    shown = [t if isinstance(t, TableEntry) else TableEntry(*t) for t in tables]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sharpflow", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        papers=[_paper_section(paper, figures, entries) for paper in papers.values()],
        total=_totals(entries),
        family=family(single_rows(entries)),
        confidence=confidences(entries),
        figures=[_figure_section(figure, entries) for figure in figures],
        experiments=[_experiment_section(*item) for item in experiments.items()],
        provenance=sorted((str(key), str(value)) for key, value in provenance.items()),
        tables=[_plain_table(i, entry) for i, entry in enumerate(shown)],
        explorer=section(explorer, explorer_budget) if explorer and explorer.drawn else None,
    )


def _check_figures(
    figures: Sequence[FigureEntry], experiments: Mapping[str, Mapping[str, Any]]
) -> None:
    seen: set[str] = set()
    for figure in figures:
        if figure.anchor in seen:
            raise ValueError(f"figures has {figure.paper}/{figure.name} twice; names must differ")
        seen.add(figure.anchor)
        if not figure.png.startswith(_PNG_SIGNATURE):
            raise ValueError(f"png of figure {figure.name!r} is not a PNG picture")
        for name in figure.experiments:
            if name not in experiments:
                raise ValueError(
                    f"experiments has no {name!r}, which figure {figure.name!r} draws; "
                    f"given: {', '.join(sorted(experiments)) or 'none'}"
                )


def _paper_section(
    paper: Mapping[str, Any],
    figures: Sequence[FigureEntry],
    entries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    key = paper["key"]
    own = [entry for entry in entries if entry["paper"] == key]
    source = (paper.get("authors", ""), paper.get("venue", ""))
    return {
        "key": key,
        "anchor": anchor("paper", key),
        "claims_anchor": anchor("claims", key),
        "authors": ", ".join(part for part in source if part),
        "title": paper["title"],
        "link": paper.get("link", ""),
        "says": paper.get("says", []),
        "counts": _totals(own),
        "claims": own,
        "figures": [figure.anchor for figure in figures if figure.paper == key],
    }


def _totals(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {"claims": counts(entries), "cases": counts(single_rows(entries))}


def _figure_section(figure: FigureEntry, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "anchor": figure.anchor,
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "image": base64.b64encode(figure.png).decode("ascii"),
        "size": _png_size(figure.png),
        "command": figure.command,
        "claims": [entry for entry in entries if entry["anchor"] == figure.anchor],
        "experiments": [(name, anchor("experiment", name)) for name in figure.experiments],
    }


def _experiment_section(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "anchor": anchor("experiment", name),
        "digest": settings_digest(settings),
        "settings": list(flatten(settings)),
    }


def _png_size(png: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header; None if the header is cut off."""
    if len(png) < 24:
        return None
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _plain_table(position: int, entry: TableEntry) -> dict[str, Any]:
    frame = entry.frame
    return {
        "anchor": f"table-{position + 1}",
        "title": str(entry.title),
        "note": str(entry.note),
        "columns": [str(column) for column in frame.columns],
        "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes],
        "rows": [[number(value) for value in row] for row in frame.itertuples(index=False)],
    }
