"""The page: self-contained, escaped, valid, complete and the same every time."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_page import (
    PAPERS,
    PROVENANCE,
    SETTINGS,
    checked,
    claim,
    claims,
    entry,
    full_page,
)

import sharpflow.report
from sharpflow.report import build, settings_digest


def test_page_is_valid_and_complete():
    page = checked(full_page())
    for word in ("Λ hovers around 2/η", "Norms balance", "tanh", "relu", "elu", "1.012"):
        assert word in page.text
    for figure in ("phases", "residual", "warmup"):
        assert f"Title of {figure}" in page.text
        assert f"Caption of {figure}." in page.text
        assert f"{figure}.png" in page.text
    assert "[ 0.4782 , 1 ]" in page.text
    assert "1.012 ( 0.98 to 1.04 )" in page.text
    assert "0.9 to 1.1" in page.text
    assert "data.samples" in page.text
    assert settings_digest(SETTINGS["dense"]) in page.text
    assert "2.13.0" in page.text
    assert "Parameter Symmetry and Noise Equilibrium" in page.text
    assert "Wang, Li and Li, NeurIPS 2022. The publication" in page.text
    assert PAPERS["li2022"]["link"] in page.links


@pytest.mark.parametrize(
    ("venues", "lead"),
    [
        (["NeurIPS"], "What papers on gradient noise"),
        ([""], "What was asked of these networks"),
        (["NeurIPS", ""], "their text, and what was asked beside them"),
    ],
)
def test_a_page_says_of_published_papers_alone_that_they_were_run_again(venues, lead):
    papers = {
        key: {"key": key, "title": key, "venue": venue}
        for key, venue in zip("ab", venues, strict=False)
    }
    page = build([], pd.DataFrame(), {}, papers, PROVENANCE)
    assert lead in page
    assert ("run again" in page) == any(venues)


def test_page_needs_nothing_from_outside():
    page = full_page()
    loads = r"//[a-z][^ ]*\.|@import|url\((?!#)|<link|<iframe|\bfetch\(|\bimport\("
    assert not re.search(loads, re.sub(r'<a href="https://[^"]*"', "", page))
    assert [i["src"].split(",")[0] for i in checked(page).images] == ["data:image/png;base64"] * 3


def test_images_have_text_and_size():
    for image in checked(full_page()).images:
        assert "Title of" in image["alt"]
        assert (image["width"], image["height"]) == ("4", "3")
    (image,) = checked(full_page(figures=[entry(alt="A curve that rises.")])).images
    assert image["alt"] == "A curve that rises."


def test_table_headers_have_a_scope():
    page = checked(full_page(tables=[("T", pd.DataFrame({"a": [1]}))]))
    scoped = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
    assert len(scoped) == page.tags.count("th")
    assert set(scoped) == {"col", "row"}
    assert page.tags.count("caption") == page.tags.count("table")


def test_same_inputs_give_the_same_text():
    assert full_page() == full_page()
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", full_page())


def test_same_text_whatever_the_order_of_provenance():
    turned = dict(reversed(PROVENANCE.items()))
    assert full_page(provenance=turned) == full_page()


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_any_text_is_escaped(text):
    nasty = f"<script>alert('{text}')</script>\"&"
    says = {"says": [nasty, {"name": nasty, "text": nasty, "claims": [nasty]}]}
    says |= {"published": {nasty: nasty}, "link": f"https://{nasty}"}
    nasty_columns = (
        "claim", "paper", "figure", "experiment", "statement", "method", "reason", "origin",
        "noticed", "source", "revised",
    )  # fmt: skip
    rows = dict.fromkeys(nasty_columns, nasty)
    page = build(
        [entry(title=nasty, caption=nasty, command=nasty, experiments=[nasty])],
        claims(
            claim(case=nasty, **rows),
            claim(case=nasty + "2", **rows),
            claim(case=nasty),
        ),
        {nasty: {nasty: nasty}},
        PAPERS | {nasty: dict.fromkeys(("key", "title", "authors", "venue"), nasty) | says},
        {nasty: nasty},
        [(nasty, pd.DataFrame({nasty: [nasty]}))],
    )
    checker = checked(page)
    assert checker.tags.count("script") == 1
    assert not [value for _, name, value in checker.attributes if name.startswith("on")]
    assert " ".join(nasty.split()) in checker.text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=6, unique=True))
def test_any_figure_names_give_distinct_anchors(names):
    assert len({entry(name).anchor for name in names}) == len(names)


def test_what_a_paper_says_beyond_its_claims_is_shown():
    papers = {key: dict(paper) | {"says": ["Depth helps."]} for key, paper in PAPERS.items()}
    assert "Depth helps." in checked(full_page(papers=papers)).text


def test_page_of_nothing():
    page = checked(build([], pd.DataFrame(), {}, {}, {}))
    assert "No claim was judged" in page.text
    assert "No figure was drawn" in page.text


def test_experiments_are_listed_once_and_linked():
    page = checked(full_page(experiments={**SETTINGS, "linear": {"width": 77, "cases": {}}}))
    assert page.text.count("data.samples") == 1
    assert page.text.count(settings_digest(SETTINGS["dense"])) == 1
    assert page.links.count("#experiment-dense") == 3 + 2
    assert "width 77" in page.text


def test_every_part_is_named_in_the_navigation():
    page = checked(
        full_page(tables=[("T", pd.DataFrame({"a": [1]}))], run_page="../benchmarks/run.html")
    )
    parts = {"answer", "paper-li2022", "paper-ziyin2024", "figures", "claims", "table-1"}
    parts |= {"experiments", "made"}
    assert {f"#{part}" for part in parts} <= set(page.links)
    assert "../benchmarks/run.html" in page.links


def test_claims_of_a_paper_without_figures():
    page = checked(build([], claims(claim()), {}, {"li2022": PAPERS["li2022"]}, {}))
    assert "No figure of this paper was drawn" in page.text
    assert "Λ hovers" in page.text


def test_long_caption_survives():
    long = "word " * 5000 + "x" * 3000
    assert "x" * 3000 in checked(full_page(figures=[entry(caption=long)])).text


def test_further_tables():
    frame = pd.DataFrame({"case": ["tanh"], "peak": [1.23456], "up-crossings": [np.nan]})
    text = checked(full_page(tables=[("Sharpness in numbers", frame)])).text
    assert "tanh 1.235 –" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claims": claims(claim()).drop(columns=["verdict", "band_low"])}, "band_low, verdict"),
        ({"claims": claims(claim()).drop(columns="noticed")}, "claims has no column noticed"),
        ({"figures": [entry(), entry()]}, "li2022/phases twice"),
        ({"figures": [entry(png=b"<svg/>")]}, "not a PNG"),
        ({"figures": [entry(experiments=["cnn"])]}, "experiments has no 'cnn'"),
        ({"papers": {"li2022": PAPERS["li2022"]}}, "papers has no 'ziyin2024'"),
        ({"figures": [], "papers": {}}, "papers has no 'li2022'"),
    ],
)
def test_bad_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        full_page(**changes)


def test_report_imports_no_torch():
    code = "import sys, sharpflow.report; print('torch' in sys.modules)"
    root = Path(sharpflow.report.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"
