"""Builds the page from plain inputs: pictures as bytes, tables as data frames, settings as dicts.

The same inputs give the same text: the page carries no date and no time, and loads nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from sharpflow.report import drawings
from sharpflow.report.answer import answer, explained, fallen_short, is_published
from sharpflow.report.entries import PNG_SIGNATURE, FigureEntry, TableEntry
from sharpflow.report.evidence import drawn_rows, experiment_section, figure_section, plain_table
from sharpflow.report.places import places
from sharpflow.report.reasons import MOST_SEEDS, Differences
from sharpflow.report.text import anchor, number
from sharpflow.report.verdicts import (
    FEW,
    claim_entries,
    confidences,
    counts,
    family,
    few_runs,
    names,
    single_rows,
)


def build(
    figures: Sequence[FigureEntry],
    claims: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    papers: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, str],
    tables: Sequence[TableEntry | tuple[str, pd.DataFrame]] = (),
    *,
    judged: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    differences: Mapping[str, Mapping[str, Any]] | None = None,
    scale: Mapping[str, Differences] | None = None,
    rules: Sequence[tuple[str, str]] = (),
    run_page: str = "",
    by_seed: str = "",
    explorer: Mapping[str, Any] | None = None,
) -> str:
    """Page with all figures, claims and verdicts, as one HTML text that needs no other file.

    Args:
        figures: in the order in which a paper's section shows them.
        claims: rows of `claims.csv` (see `sharpflow.claims.base.judge`); may be empty.
        experiments: settings of each experiment by its name, in their order.
        papers: what the page says of each paper, by its key and in their order: `key` and `title`,
            and if known `authors`, `venue`, `link`, `says`, `published` and `recorded`.
        provenance: package versions, device, configuration: shown as they are.
        tables: further tables to show after the claims.
        judged: claims by experiment, as `places.places` takes them, to find the figure that draws
            what a claim is judged on.
        differences: settings of each experiment that are not the defaults; those of `experiments`
            in full where not given.
        scale: in what each experiment differs from its paper's own scale; None where not known.
        rules: pairs of rules of the workflow, the second of which reads what the first writes.
        run_page: address of the page on the run, relative to this one.
        by_seed: address of the table of every seed's value, likewise.
        explorer: what `explorer.html` shows (`ExplorerData.section`); None leaves it out.

    Returns:
        The page's HTML.

    Raises:
        ValueError: a column of the claims is missing, a figure appears twice or is no
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
    entries = _entries(figures, claims, experiments, papers, judged or {})
    short = dict(fallen_short(scale))
    plain = differences or {name: {"cases": {"": own}} for name, own in experiments.items()}
    shown = [t if isinstance(t, TableEntry) else TableEntry(*t) for t in tables]
    return (
        environment()
        .get_template("page.html")
        .render(
            papers=[_paper_section(paper, figures, entries, scale) for paper in papers.values()],
            lead=_lead(papers.values()),
            total={
                "claims": counts(entries),
                "cases": counts(single_rows(entries)),
                "names": names(entries),
                "few": few_runs(entries),
                "revised": names(entry for entry in entries if entry["revised"]),
            },
            most_few=FEW,
            family=family(single_rows(entries)),
            confidence=confidences(entries),
            most_seeds=MOST_SEEDS,
            figures=[figure_section(figure, entries) for figure in figures],
            experiments=[
                experiment_section(name, settings, plain.get(name, {}), short.get(name, ""))
                for name, settings in experiments.items()
            ],
            provenance=sorted((str(key), str(value)) for key, value in provenance.items()),
            tables=[plain_table(i, entry) for i, entry in enumerate(shown)],
            graph=drawings.graph(rules, "The rules of the workflow, from data to page"),
            run_page=run_page,
            by_seed=by_seed,
            explorer=explorer,
        )
    )


def environment() -> jinja2.Environment:
    """Templates of the pages, with their filters: `num`, a number; `words`, a name as words."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("sharpflow.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["num"] = _shown
    made.filters["words"] = lambda name: str(name).replace("_", " ")
    return made


def _lead(papers: Iterable[Mapping[str, Any]]) -> str:
    """What the page is about: a paper without a venue, link or citation is one's own question."""
    known = list(map(is_published, papers))
    if not any(known):
        return "What was asked of these networks"
    said = (
        "What papers on gradient noise, step size and sharpness say, run again from nothing but "
        "their text"
    )
    return said if all(known) else f"{said}, and what was asked beside them"


def _shown(value: float) -> Markup:
    """A number as text, with all its digits for programs."""
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), number(float(value)))


def _entries(
    figures: Sequence[FigureEntry],
    claims: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    papers: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """The claims, in the order of the experiments, each with its place and its measurements."""
    place = places(figures, judged, experiments)
    order = {name: position for position, name in enumerate(experiments)}
    found = []
    for entry in claim_entries(claims):
        name, experiment = entry["claim"], entry["experiment"]
        paper = papers[entry["paper"]]
        more = {
            "anchor": place.get((experiment, name)),
            "settings": anchor("experiment", experiment) if experiment in order else None,
            "published": paper.get("published", {}).get(name, ""),
            "explained": explained(paper, entry),
            "rows": drawn_rows(entry),
        }
        found.append(entry | more)
    return sorted(found, key=lambda entry: order.get(entry["experiment"], len(order)))


def _check_figures(
    figures: Sequence[FigureEntry], experiments: Mapping[str, Mapping[str, Any]]
) -> None:
    seen: set[str] = set()
    for figure in figures:
        if figure.anchor in seen:
            raise ValueError(f"figures has {figure.paper}/{figure.name} twice; names must differ")
        seen.add(figure.anchor)
        if not figure.png.startswith(PNG_SIGNATURE):
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
    scale: Mapping[str, Differences] | None,
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
        "answer": answer(paper, own, [f for f in figures if f.paper == key], scale),
    }
