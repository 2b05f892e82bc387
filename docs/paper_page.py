"""The page of a paper, from its folder and from the verdicts that pages of docs/results hold."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from sharpflow.claims.base import Claim, load_claim
from sharpflow.config.reference import shipped
from sharpflow.report.markdown import MARKER

DOCS = Path(__file__).resolve().parent
PAPERS = DOCS.parent / "papers"


def verdict_pages() -> list[Path]:
    """The pages whose tables `sharpflow.report.markdown` writes."""
    pages = [*sorted(DOCS.glob("results/*.md")), *sorted(DOCS.glob("papers/*.md"))]
    return [page for page in pages if MARKER in page.read_text(encoding="utf-8")]


def sources(key: str) -> list[Path]:
    """The files that a page is made from."""
    return [
        *sorted((PAPERS / key).rglob("*.yaml")),
        *sorted((PAPERS / key).rglob("*.py")),
        *verdict_pages(),
        Path(__file__),
    ]


def _cells(*texts: object) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", str(t)).replace("|", "\\|") for t in texts) + " |"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    head = list(head)
    return "\n".join([_cells(*head), _cells(*["---"] * len(head)), *(_cells(*r) for r in rows)])


def _pages(key: str) -> list[Path]:
    """The pages with verdicts on a paper's claims, but for those of its own scale."""
    scale = PAPERS / key / "recorded.yaml"
    text = scale.read_text(encoding="utf-8") if scale.is_file() else ""
    pages = (page for page in verdict_pages() if str(page.relative_to(DOCS.parent)) not in text)
    return [page for page in pages if _sections(page, key)]


def _sections(page: Path, key: str) -> list[str]:
    """The sections of a page that have verdicts on a paper's claims."""
    found = page.read_text(encoding="utf-8").split("\n### ")[1:]
    return [section for section in found if section.startswith(f"{key}: ")]


def recorded(key: str) -> dict[str, Counter]:
    """How often each verdict was given on each claim of a paper, controls left out."""
    found: dict[str, Counter] = {}
    for section in (own for page in _pages(key) for own in _sections(page, key)):
        for name, case, verdict in re.findall(
            r"^\| `(\w+)` \| ([^|]*)\|.*\| ([a-z ]+)[^|]* \|$", section, re.M
        ):
            if not case.rstrip().endswith("(control)"):
                found.setdefault(name, Counter())[verdict.strip()] += 1
    return found


def _where(key: str) -> str:
    """The finished run that the verdicts are of, as a link from a paper's page."""
    pages = _pages(key)
    if not pages:
        return "a finished run; none is recorded yet"
    if pages[0] == DOCS / "papers" / f"{key}.md":
        return "a finished run, below"
    return f"[a finished run](../{pages[0].relative_to(DOCS)})"


def _band(claim: Claim) -> str:
    low, high = (f"{end:g}".replace("-", "−") for end in claim.band)
    if low == "−inf":
        return f"≤ {high}"
    return f"≥ {low}" if high == "inf" else f"{low} to {high}"


def _at_scale(record: Mapping[str, Any]) -> list[str]:
    """What a finished run at the paper's scale gave."""
    rows = [
        (f"`{experiment}`", f"`{claim}`", case, verdict, value)
        for experiment, claims in record["verdicts"].items()
        for claim, cases in claims.items()
        for case, (verdict, value) in cases.items()
    ]
    head = ("experiment", "claim", "case", "verdict", "runs in the band, or mean [interval]")
    return ["## At the paper's scale", f"{record['source']}.", table(head, rows)]


def _figures(experiment: Mapping[str, Any]) -> dict[str, str]:
    """The module of each figure of an experiment, which lists names, or gives the modules too."""
    figures = experiment.get("figures", [])
    return figures if isinstance(figures, dict) else {name: name for name in figures}


def markdown(key: str) -> str:
    """The sections of a paper's page: what it says, figures, claims, experiments."""
    folder = PAPERS / key
    paper = yaml.safe_load((folder / "paper.yaml").read_text(encoding="utf-8"))
    files = sorted((folder / "experiments").glob("*.yaml"))
    experiments = {f.stem: yaml.safe_load(f.read_text(encoding="utf-8")) for f in files}
    registry = shipped().registry
    verdicts = recorded(key)
    lines = [f"**{paper['title']}**"]
    if "citation" in paper:
        lines.append(f"{paper['citation']} [Publication]({paper['link']}).")

    if said := paper.get("says"):
        texts = [each if isinstance(each, str) else each["text"] for each in said]
        lines += ["## What it says", "\n".join(f"* {text}" for text in texts)]

    lines.append("## Figures")
    rows = []
    drawn = {name: _figures(experiment) for name, experiment in experiments.items()}
    for name in paper["figures"]:
        by = [experiment for experiment, figures in drawn.items() if name in figures]
        module = import_module(registry.figure(drawn[by[0]][name], key).part.module)
        number = getattr(module, "PUBLISHED", "") or "–"
        rows.append((f"`{name}`", module.TITLE, number, ", ".join(f"`{n}`" for n in by)))
    lines.append(
        "[All of them, small](../gallery.md). Where no number stands, the publication has no such "
        "figure."
    )
    lines.append(table(("figure", "shows", "of the publication", "drawn from"), rows))

    lines.append("## Claims")
    lines.append(
        "Each is a number and a band that it must lie in. Recorded are the verdicts on its cases "
        f"in {_where(key)}."
    )
    stated, origins = paper.get("published", {}), paper.get("sources", {})
    names = dict.fromkeys(name for e in experiments.values() for name in e.get("claims", []))
    entries = []
    told_revised = " Changed after verdicts had been seen: {}."
    for name in names:
        declared = registry.claim(name, key)
        claim = load_claim(declared.part.module, declared.name)
        counts = verdicts.get(declared.name, Counter())
        told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())) or "nothing"
        given = f" The paper gives: {stated[declared.name]}." if declared.name in stated else ""
        entries.append(
            f"* `{name}`: {claim.statement}{given}\n"
            f"  * Source: {origins.get(declared.name, 'not given')}.\n"
            f"  * Band: {_band(claim)}; {claim.origin}."
            f"{told_revised.format(claim.revised) if claim.revised else ''}\n"
            f"  * Recorded: {told}."
        )
    lines.append("\n".join(entries))
    scale = folder / "recorded.yaml"
    if scale.is_file():
        lines += _at_scale(yaml.safe_load(scale.read_text(encoding="utf-8")))

    lines.append("## Experiments")
    lines.append("As their files stand, before a configuration makes them smaller.")
    rows = []
    for name, e in experiments.items():
        link = f"[`{name}`](../../papers/{key}/experiments/{name}.yaml)"
        numbers = (e.get("seeds", "–"), e["widths"], e["learning_rates"])
        shown = [", ".join(map(str, v)) if isinstance(v, list) else v for v in numbers]
        steps = e.get("training", {}).get("steps", "–")
        rows.append((link, e["title"], ", ".join(e["cases"]), *shown, steps))
    head = ("experiment", "asks", "cases", "seeds", "widths", "learning rates", "steps")
    lines.append(table(head, rows))
    return "\n\n".join(lines) + "\n"
