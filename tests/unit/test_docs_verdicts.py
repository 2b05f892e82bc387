"""What pages say of verdicts in words and counts is what their tables hold."""

import re
import sys
from collections import Counter

import pytest
from specs import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import paper_page

from sharpflow.report.markdown import MARKER
from sharpflow.report.text import many, times
from sharpflow.report.verdicts import VERDICTS

PAGES = [page for page in paper_page.verdict_pages() if "\n### " in page.read_text("utf-8")]
VERDICTS_PAGE = ROOT / "docs" / "results" / "verdicts.md"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def rows(page) -> list[dict[str, str]]:
    """The rows of a page's tables of verdicts."""
    found, experiment = [], ""
    names = ("claim", "case", "values", "band", "result", "verdict")
    for line in page.read_text("utf-8").partition(MARKER)[2].splitlines():
        if line.startswith("### "):
            experiment = line
        elif line.startswith("| `"):
            row = dict(zip(names, cells(line), strict=True))
            found.append(row | {"claim": row["claim"].strip("`"), "experiment": experiment})
    return found


def is_control(row: dict[str, str]) -> bool:
    return row["case"].endswith("(control)")


def kind(row: dict[str, str]) -> str:
    return row["verdict"].partition(":")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_line_above_the_tables_counts_them(page):
    every = rows(page)
    judged = [row for row in every if not is_control(row)]
    counts = Counter(map(kind, judged))
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    claims = len({row["claim"] for row in judged})
    entries = len({(row["claim"], row["experiment"]) for row in judged})
    made = page.read_text("utf-8").partition(MARKER)[2]
    assert (
        f"\n{many(claims, 'claim')}, judged {times(entries)}, "
        f"{many(len(judged), 'measurement')}: {parts}.\n"
    ) in made
    controls = [row for row in every if is_control(row)]
    failing = sum(kind(row) == "not supported" for row in controls)
    assert (f"\nBeside them, {failing} of {len(controls)} controls" in made) == bool(controls)


def test_what_changed_ends_in_what_the_tables_hold():
    """The column `now`, a row for each claim that was ever judged."""
    section = VERDICTS_PAGE.read_text("utf-8").partition("## What changed")[2].partition(MARKER)[0]
    told = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            name, _, now, _ = cells(line)
            assert name not in told
            told[name] = Counter({v: int(n) for n, v in re.findall(r"(\d+) ([a-z ]+)", now)})
    found: dict[str, Counter] = {f"`{row['claim']}`": Counter() for row in rows(VERDICTS_PAGE)}
    for row in rows(VERDICTS_PAGE):
        if not is_control(row):
            found[f"`{row['claim']}`"][kind(row)] += 1
    assert {name: counts for name, counts in told.items() if counts} == found


def held(claim: str, *cases: str, experiment: str = "dense") -> list[list[float]]:
    """Median, least and largest of a claim's cases in the table."""
    found = {
        row["case"]: [float(n) for n in re.findall(r"[-\d.e]+", row["values"].replace("−", "-"))]
        for row in rows(VERDICTS_PAGE)
        if row["claim"] == claim and row["experiment"] == f"### li2022: `{experiment}`"
    }
    return [found[case] for case in cases]


def test_numbers_of_the_background_are_those_of_the_table():
    page = (ROOT / "docs" / "background" / "li2022.md").read_text("utf-8")
    words = " ".join(page.split())

    law = [each[0] for each in held("growth_law", "elu", "tanh", "softplus")]
    assert f"slope of {min(law):.2f} to {max(law):.2f} for ELU, tanh and softplus" in words
    ((_, least, largest),) = held("growth_law", "relu")
    assert f"little to go by: {least:.2f} to {largest:.2f} in four runs" in words

    elu, tanh, softplus = held("outputs_turn", "elu", "tanh", "softplus")
    assert f"{elu[0]:g} steps (ELU) and {tanh[0]:g} steps (tanh) after" in words
    early = [abs(steps) for steps in softplus]
    assert f"and {early[0]:g} before it for softplus" in words
    late = (min(elu[1], tanh[1]), max(elu[2], tanh[2]))
    assert f"{late[0]:g} to {late[1]:g} after, {early[2]:g} to {early[1]:g} before" in words

    level = [each[0] for each in held("edge_of_stability", "relu", "elu", "tanh", "softplus")]
    assert min(level) == level[0]
    assert f"plateaus of {level[0]:.2f} (ReLU) to {max(level):.2f} of 2/η" in words

    relu, *others = held("output_norm_before_crossing", "relu", "elu", "tanh", "softplus")
    told = f"{100 * relu[1]:.0f} to {100 * relu[2]:.0f} % of ReLU's steps are anomalies"
    assert told in words
    assert f"the others have 0 to {100 * max(each[2] for each in others):.1f} %" in words
    assert min(each[1] for each in others) == 0

    falls = [each[0] for each in held("loss_not_residual", "elu", "tanh", "softplus")]
    told = f"falls in {100 * min(falls):.0f} to {100 * max(falls):.0f} % of cases"
    assert f"{told} (medians; ReLU {100 * held('loss_not_residual', 'relu')[0][0]:.0f} %" in words

    elu, relu = held("edge_of_stability", "elu", "relu", experiment="cnn")
    assert f"ELU (2/η = 400) keeps {elu[1]:.2f} to {elu[2]:.2f} of 2/η" in words
    assert f"ReLU (2/η = 200) {relu[1]:.2f} to {relu[2]:.2f}, one run outside" in words

    second = held("one_unstable_eigenvalue", "relu", "tanh", experiment="alignment")
    fourth = held("few_unstable_eigenvalues", "relu", "tanh", experiment="alignment")
    assert max(each[2] for each in second) < 0.27
    assert max(each[2] for each in fourth) < 0.04
    assert "second eigenvalue stays below 0.27 of 2/η, the fourth below 0.04" in words
