"""The first layer of the page: what came out of each paper, and why where it did not."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sharpflow.report.entries import FigureEntry
from sharpflow.report.reasons import Differences, explanation_of, reason, shortfall
from sharpflow.report.text import many, times
from sharpflow.report.verdicts import FEW, counts, few_runs, names, single_rows

Entry = Mapping[str, Any]
Paper = Mapping[str, Any]
REST = "Further claims"


def answer(
    paper: Paper,
    entries: Sequence[Entry],
    figures: Sequence[FigureEntry],
    scale: Mapping[str, Differences] | None = None,
) -> dict[str, Any]:
    """The screen of one paper.

    Args:
        paper: what its `paper.yaml` says, and its `recorded` results, if any.
        entries: of `verdicts.claim_entries`, those of the paper, each with the `anchor` of the
            figure that draws its data, or None.
        figures: the paper's.
        scale: by experiment, its differences from the papers' own scale; None where not known.

    Returns:
        `sentences`: two, on what came out; `groups`: the paper's statements, each with its
        `entries`; `unjudged`: what it says beside them; `open`: a line for each claim that is not
        supported; `cards`: a card a figure; `source`: of what is recorded at the paper's scale;
        `smaller`: in what each experiment falls short of that; `ordered`: all entries in their
        order.
    """
    groups = statements(paper, entries)
    ordered = [entry for group in groups for entry in group["entries"]]
    recorded, own = paper.get("recorded") or {}, {entry["experiment"] for entry in entries}
    verdicts = recorded.get("verdicts", {})
    return {
        "sentences": sentences(groups),
        "groups": groups,
        "unjudged": [each for each in paper.get("says", ()) if isinstance(each, str)],
        "open": [
            why_open(
                entry,
                scale,
                verdicts.get(entry["experiment"], {}).get(entry["claim"]),
                written(paper, entry),
            )
            for entry in ordered
            if entry["verdict"] != "supported"
        ],
        "cards": [card(figure, ordered, paper) for figure in figures],
        "source": recorded.get("source", ""),
        "smaller": [(name, text) for name, text in fallen_short(scale) if name in own],
        "ordered": ordered,
    }


def written(paper: Paper, entry: Entry) -> Mapping[str, str]:
    """What a paper's folder says, by case, of why a claim does not hold."""
    return paper.get("explanations", {}).get(entry["experiment"], {}).get(entry["claim"], {})


def explained(paper: Paper, entry: Entry) -> dict[str, str]:
    """Its text for each case that is not supported, cases of one text together."""
    found: dict[str, list[str]] = {}
    for row in single_rows([entry]):
        text = explanation_of(row, written(paper, entry))
        if text and row["verdict"] != "supported":
            found.setdefault(text, []).append(row["case"])
    return {", ".join(cases): text for text, cases in found.items()}


def statements(paper: Paper, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The claims of a paper under its statements, in the paper's order; then all others.

    Each has a `name`, its `text`, its `entries`, and `measured`: how many of their measurements are
    supported.
    """
    said = [each for each in paper.get("says", ()) if not isinstance(each, str)]
    groups, taken = [], set()

    def add(name: str, text: str, own: list[Entry]) -> None:
        found = counts(single_rows(own))
        measured = f"{found['supported']} of {many(found['all'], 'measurement')} supported"
        groups.append({"name": name, "text": text, "entries": own, "measured": measured})

    for each in said:
        own = [e for name in each["claims"] for e in entries if e["claim"] == name]
        own = [e for e in own if e["id"] not in taken]
        taken |= {e["id"] for e in own}
        if own:
            add(each["name"], each["text"], own)
    if rest := [entry for entry in entries if entry["id"] not in taken]:
        add(REST if groups else "", "", rest)
    return groups


def sentences(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What came out of a paper, in two sentences, from the verdicts alone."""
    entries = [entry for group in groups for entry in group["entries"]]
    if not entries:
        return ["No claim of this paper was judged in this run."]
    whole, single = counts(entries), counts(single_rows(entries))
    few, drawn = few_runs(entries), names(entry for entry in entries if entry["drawn"])
    first = (
        f"{many(names(entries), 'claim')}"
        + (f" ({drawn} of them consequences drawn here)" if drawn else "")
        + f", judged {times(whole['all'])}: "
        f"{whole['supported']} {_are(whole['supported'])} supported in every case"
        + (f" ({few} of them on {FEW} runs or fewer in a case)" if few else "")
        + f", {whole['not supported']} {_are(whole['not supported'])} not supported in one or "
        f"more, and for {whole['straddles'] + whole['undefined']} the runs do not decide; behind "
        f"them are {many(single['all'], 'measurement')}, of which {single['supported']} "
        f"{_are(single['supported'])} supported and {single['not supported']} not."
    )
    return [first, *_by_statement([group for group in groups if group["name"]])]


def _by_statement(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which statements all claims support, which some do, and which none does."""
    found: dict[str, list[str]] = {"every": [], "some": [], "none": []}
    for group in groups:
        number = counts(group["entries"])
        kept, every = number["supported"], number["all"]
        kind = "every" if kept == every else "some" if kept else "none"
        found[kind].append(f"{group['name']} ({kept} of {every})")
    words = {
        "every": "supported in every claim: ",
        "some": "supported in some claims: ",
        "none": "in no claim throughout: ",
    }
    parts = [words[kind] + _listed(names) for kind, names in found.items() if names]
    return [_capital("; ".join(parts)) + "."] if parts else []


def why_open(
    entry: Entry,
    scale: Mapping[str, Differences] | None,
    recorded: Mapping[str, Sequence[str]] | None,
    explanations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One line on a claim that is not supported: which cases, why, and at the paper's scale.

    Args:
        entry: the claim.
        scale: as for `answer`.
        recorded: verdict and result at the paper's scale, by case.
        explanations: those of the paper's folder, by case.
    """
    differences = None if scale is None else scale.get(entry["experiment"])
    rows = [row for row in single_rows([entry]) if row["verdict"] != "supported"]
    rows.sort(key=lambda row: row["verdict"])
    worst = next(row for row in rows if row["verdict"] == entry["verdict"])
    kept = recorded or {}
    known = {row["case"]: kept[row["case"]] for row in rows if row["case"] in kept}
    there = (known.get(worst["case"]) or ("", ""))[0]
    found = reason(worst, differences, there, explanation_of(worst, explanations or {}))
    return {
        "entry": entry,
        "cases": "; ".join(
            f"{verdict}: {', '.join(row['case'] for row in members)}"
            for verdict, members in groupby(rows, key=lambda row: row["verdict"])
        )
        if entry["cases"]
        else "",
        "kind": found.kind,
        "text": f"{worst['case']}: {found.text}" if len(rows) > 1 else found.text,
        "scale": _at_scale(differences, known),
    }


def _at_scale(differences: Differences | None, known: Mapping[str, Sequence[str]]) -> str:
    """What is known of cases at the paper's scale."""
    if known:
        said = ", ".join(f"{case} {verdict} ({value})" for case, (verdict, value) in known.items())
        return f"At the paper’s scale: {said}."
    return "This is the paper’s scale." if differences is not None and not differences else ""


def card(figure: FigureEntry, ordered: Sequence[Entry], paper: Paper) -> dict[str, Any]:
    """A figure as a card: its claim with the published value and ours, then the others.

    Its claim is the first of those that the fewest figures share. `place` says which figure of the
    publication it is, or, where that is not known, what of the publication it belongs to.
    """
    own = [entry for entry in ordered if entry["anchor"] == figure.anchor]
    if not own:
        return {"figure": figure, "first": None, "place": place(figure, [], is_published(paper))}
    shared = {
        entry["claim"]: len({e["anchor"] for e in ordered if e["claim"] == entry["claim"]})
        for entry in own
    }
    rarest = sorted(own, key=lambda entry: shared[entry["claim"]])
    first = rarest[0]
    rows = single_rows([first])
    shown = next(row for row in rows if row["verdict"] == first["verdict"])
    return {
        "figure": figure,
        "first": first,
        "place": place(figure, rarest, is_published(paper)),
        "published": paper.get("published", {}).get(first["claim"], ""),
        "shown": shown,
        "case": shown["case"] if len(rows) > 1 else "",
        "others": [entry for entry in own if entry is not first],
    }


def is_published(paper: Paper) -> bool:
    """Whether a paper's folder names a publication."""
    return any(paper.get(key) for key in ("venue", "citation", "link"))


def place(figure: FigureEntry, claims: Sequence[Entry], published: bool = True) -> str:
    """Where in the publication a figure belongs, without a number that is not known.

    It is drawn here only where the publication states none of its claims.

    Args:
        figure: its own place, where its paper says one.
        claims: those of its data.
        published: whether there is a publication.
    """
    if figure.published:
        return f"{figure.published} of the publication"
    stated = [entry for entry in claims if not entry["drawn"]]
    if claims and not stated:
        return "No figure of the publication: drawn here"
    source = stated[0]["source"] if stated else ""
    if not (source or published):
        return "No publication is named"
    return f"Publication, {source or 'place not given'}"


def fallen_short(scale: Mapping[str, Differences] | None) -> list[tuple[str, str]]:
    """Experiments that fall short of the papers' scale, with the differences as text."""
    return [(name, shortfall(found)) for name, found in (scale or {}).items() if found]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
