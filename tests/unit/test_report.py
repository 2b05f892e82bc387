"""The page: self-contained, escaped, valid, complete and the same every time."""

import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sharpflow.report
from sharpflow.figures.base import ExperimentTable
from sharpflow.report import FigureEntry, build, settings_digest, sharpness_table
from sharpflow.report.page import CLAIM_COLUMNS, band, flatten, number

VOID = {"meta", "img", "br", "hr", "link", "input"}


def png(width: int = 4, height: int = 3) -> bytes:
    """A white picture, made by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\xff" * width) * height
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def entry(name: str = "phases", paper: str = "li2022", **changes) -> FigureEntry:
    given = {
        "title": f"Title of {name}",
        "caption": f"Caption of {name}.",
        "png": png(),
        "experiments": ["dense"],
        "command": f"snakemake results/figures/{paper}/{name}.png",
    }
    return FigureEntry(name, paper, **{**given, **changes})


def claim(**changes) -> dict:
    given = {
        "claim": "edge_of_stability",
        "paper": "li2022",
        "figure": "phases",
        "experiment": "dense",
        "case": "tanh",
        "statement": "Λ hovers around 2/η",
        "statistic": 1.0123456,
        "low": 0.98,
        "high": 1.04,
        "confidence": 0.95,
        "method": "t-interval over 5 seeds",
        "band_low": 0.9,
        "band_high": 1.1,
        "verdict": "supported",
        "seeds": 5,
    }
    return {**given, **changes}


def claims(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(CLAIM_COLUMNS))


SETTINGS = {"dense": {"title": "Dense", "data": {"source": "photos", "samples": 1000}, "seeds": 5}}
PROVENANCE = {"torch": "2.13.0", "configuration": "config/config.yaml", "commit": "0123abc"}


class Checker(HTMLParser):
    """Checks that tags are balanced, ids unique and headings in order; collects what it reads."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.words = [], [], [], [], []
        self.headings, self.attributes, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert len(given) == len(attrs), f"attribute twice in {tag}"
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def checked(page: str) -> Checker:
    assert page.lstrip().startswith("<!DOCTYPE html>")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    for link in checker.links:
        assert link.startswith("#")
        assert link[1:] in checker.ids
    for first, second in zip(checker.headings, checker.headings[1:], strict=False):
        assert second <= first + 1
    references = [value for _, name, value in checker.attributes if name == "aria-labelledby"]
    assert set(references) <= set(checker.ids)
    return checker


def full_page(**changes) -> str:
    given = {
        "figures": [entry(), entry("residual"), entry("warmup", "ziyin2024")],
        "claims": claims(
            claim(),
            claim(case="relu", verdict="not supported", statistic=0.7, low=0.6, high=0.8),
            claim(case="elu", verdict="inconclusive", low=0.8),
            claim(claim="norm", paper="ziyin2024", figure="warmup", statement="Norms balance"),
        ),
        "experiments": SETTINGS,
        "provenance": PROVENANCE,
    }
    return build(**{**given, **changes})


def test_page_is_valid_and_complete():
    page = checked(full_page())
    for word in ("Λ hovers around 2/η", "Norms balance", "tanh", "relu", "elu", "1.012"):
        assert word in page.text
    for figure in ("phases", "residual", "warmup"):
        assert f"Title of {figure}" in page.text
        assert f"Caption of {figure}." in page.text
        assert f"{figure}.png" in page.text
    assert "[0.98, 1.04]" in page.text
    assert "0.9 to 1.1" in page.text
    assert "data.samples" in page.text
    assert settings_digest(SETTINGS["dense"]) in page.text
    assert "2.13.0" in page.text
    assert "Parameter Symmetry and Noise Equilibrium" in page.text


def test_every_claim_appears_in_the_list_and_at_its_figure():
    rows = [claim(claim=f"claim_{i}", statement=f"Statement number {i};") for i in range(30)]
    text = checked(full_page(claims=claims(*rows))).text
    for i in range(30):
        assert text.count(f"Statement number {i};") == 2


def test_verdicts_are_counted_by_paper():
    page = checked(full_page())
    assert "li2022 1 1 1 3" in page.text
    assert "ziyin2024 1 0 0 1" in page.text
    assert "all 2 1 1 4" in page.text


def test_verdicts_have_symbol_and_text():
    text = checked(full_page()).text
    for shown in ("✓ supported", "✗ not supported", "? inconclusive"):
        assert shown in text


def test_page_needs_nothing_from_outside():
    page = full_page()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<iframe", page)
    assert [i["src"].split(",")[0] for i in checked(page).images] == ["data:image/png;base64"] * 3


def test_images_have_text_and_size():
    for image in checked(full_page()).images:
        assert "Title of" in image["alt"]
        assert (image["width"], image["height"]) == ("4", "3")


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
    page = build(
        [entry(title=nasty, caption=nasty, command=nasty, experiments=[nasty])],
        claims(claim(statement=nasty, case=nasty, claim=nasty, method=nasty, figure="phases")),
        {nasty: {nasty: nasty}},
        {nasty: nasty},
        [(nasty, pd.DataFrame({nasty: [nasty]}))],
    )
    checker = checked(page)
    assert "script" not in checker.tags
    assert " ".join(nasty.split()) in checker.text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=6, unique=True))
def test_any_figure_names_give_distinct_anchors(names):
    assert len({entry(name).anchor for name in names}) == len(names)


def test_page_of_nothing():
    page = checked(build([], pd.DataFrame(), {}, {}))
    assert "No claim was judged" in page.text
    assert "No figure was drawn" in page.text


def test_empty_claims_with_figures():
    page = checked(full_page(claims=claims()))
    assert page.text.count("No claim is judged on this figure.") == 3
    assert len(page.images) == 3


def test_figure_without_claims_says_so():
    assert "No claim is judged on this figure." in checked(full_page()).text


def test_claim_without_figure_has_no_link():
    page = checked(full_page(claims=claims(claim(figure="alignment"))))
    assert "alignment" in page.text
    assert not any("alignment" in link for link in page.links)


def test_claims_of_a_paper_without_figures():
    page = checked(build([], claims(claim()), {}, {}))
    assert "No figure of this paper was drawn" in page.text
    assert "Λ hovers" in page.text


def test_long_caption_survives():
    long = "word " * 5000 + "x" * 3000
    assert "x" * 3000 in checked(full_page(figures=[entry(caption=long)])).text


def test_unfinished_numbers_are_shown_as_such():
    row = claim(
        statistic=np.nan, low=-np.inf, high=np.inf, band_high=np.inf, verdict="inconclusive"
    )
    text = checked(full_page(claims=claims(row))).text
    assert "– [−∞, ∞]" in text
    assert "≥ 0.9" in text
    missing = claim(low=np.nan, high=np.nan, confidence=np.nan, band_low=np.nan, band_high=1.0)
    assert "≤ 1" in checked(full_page(claims=claims(missing))).text


def test_unknown_verdict_is_shown_and_counted_apart():
    text = checked(full_page(claims=claims(claim(verdict="not judged")))).text
    assert "– not judged" in text
    assert "li2022 0 0 0 1 1" in text


def test_further_tables():
    frame = pd.DataFrame({"case": ["tanh"], "peak": [1.23456], "up-crossings": [np.nan]})
    text = checked(full_page(tables=[("Sharpness in numbers", frame)])).text
    assert "tanh 1.235 –" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claims": claims(claim()).drop(columns=["verdict", "band_low"])}, "band_low, verdict"),
        ({"figures": [entry(), entry()]}, "li2022/phases twice"),
        ({"figures": [entry(png=b"<svg/>")]}, "not a PNG"),
        ({"figures": [entry(experiments=["cnn"])]}, "experiments has no 'cnn'"),
    ],
)
def test_bad_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        full_page(**changes)


def test_digest_follows_the_settings_and_not_their_order():
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{16}", settings_digest({}))


def test_settings_are_flattened_in_order():
    given = {"b": {"x": 1, "y": {"z": [1, 2]}}, "a": None, "c": True, "d": {}, "e": []}
    assert list(flatten(given)) == [
        ("b.x", "1"),
        ("b.y.z", "1, 2"),
        ("a", "(none)"),
        ("c", "true"),
        ("d", "(none)"),
        ("e", "(none)"),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5678, "1,235"),
        (-0.5, "−0.5"),
        (-3.0, "−3"),
        (1.5e-7, "1.5e−07"),
        (float("inf"), "∞"),
        (np.int64(1200), "1,200"),
        (True, "yes"),
        (None, "–"),
        (pd.NA, "–"),
        ("tanh", "tanh"),
    ],
)
def test_numbers_as_text(value, text):
    assert number(value) == text


def test_bands_as_text():
    assert band(0.9, 1.1) == "0.9 to 1.1"
    assert band(-np.inf, 0.03) == "≤ 0.03"
    assert band(0.5, np.nan) == "≥ 0.5"
    assert band(np.nan, np.nan) == "–"


def test_sharpness_table_of_a_known_curve():
    steps = np.arange(300)
    rows = []
    for seed, peak in enumerate([1.2, 1.3, 1.4]):
        values = np.interp(steps, [0, 100, 150, 200, 299], [50, 100, 100 * peak, 80, 80])
        rows.append(pd.DataFrame({"seed": seed, "step": steps * 2, "value": values}))
    runs = pd.concat(rows, ignore_index=True).assign(
        case="tanh", width=8, learning_rate=0.02, quantity="gauss_newton_sharpness", index=0
    )
    table = sharpness_table({"dense": ExperimentTable(runs, pd.DataFrame(), {})})
    row = table.iloc[0]
    assert (row["experiment"], row["case"], row["2/η"]) == ("dense", "tanh", 100.0)
    assert (row["seeds"], row["crossed"], row["up-crossings"]) == (3, 3, 1)
    assert row["first crossing (step)"] == 200
    assert row["peak / (2/η)"] == pytest.approx(1.3, abs=0.01)
    assert row["lowest after / (2/η)"] == pytest.approx(0.8)
    assert row["end mean / (2/η)"] == pytest.approx(0.8, abs=0.01)
    checked(full_page(tables=[("Sharpness", table)]))


def test_sharpness_table_of_nothing_has_its_columns():
    columns = ["case", "width", "learning_rate", "seed", "step", "quantity", "index", "value"]
    empty = ExperimentTable(pd.DataFrame(columns=columns), pd.DataFrame(), {})
    table = sharpness_table({"dense": empty})
    assert table.empty
    assert "up-crossings" in table.columns


def test_report_imports_no_torch():
    code = "import sys, sharpflow.report; print('torch' in sys.modules)"
    root = Path(sharpflow.report.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"
