"""A small page to test with, and a reader that checks its HTML."""

import re
import struct
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from sharpflow.claims.base import COLUMNS
from sharpflow.report import FigureEntry, build
from sharpflow.report.text import number

VOID = {"wbr", "meta", "img", "br", "hr", "link", "input"}


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
        "drawn": {"dense": [["tanh", 8, 0.02, "gauss_newton_sharpness"]]},
    }
    return FigureEntry(name, paper, **{**given, **changes})


def claim(**changes) -> dict:
    """A row of `claims.csv`: 5 seeds, all of them in the band."""
    given = {
        "claim": "edge_of_stability",
        "paper": "li2022",
        "figure": "phases",
        "experiment": "dense",
        "case": "tanh",
        "control": False,
        "statement": "Λ hovers around 2/η",
        "source": "paper: section 3",
        "estimand": "runs",
        "statistic": 1.0,
        "low": 0.4782,
        "high": 1.0,
        "confidence": 0.95,
        "median": 1.0123456,
        "least": 0.98,
        "largest": 1.04,
        "band_low": 0.9,
        "band_high": 1.1,
        "origin": "chosen: a tenth tells thresholds apart",
        "revised": "",
        "verdict": "supported",
        "reason": "",
        "seeds": 5,
        "inside": 5,
        "undefined": 0,
        "failed": 0,
        "diverged": 0,
        "p_value": 1.0,
        "size": 0.00856,
        "noticed": "a failure in 28 % of runs",
        "method": "mean of Λ over 2/η; exact binomial interval over 5 seeds",
    }
    assert set(changes) <= set(given)
    return {**given, **changes}


def claims(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


RELU = {
    "verdict": "not supported",
    "reason": "4 of 5 failed (it diverged at step 46)",
    "statistic": 0.2,
    "low": 0.00505,
    "high": 0.7164,
    "median": 0.7,
    "least": 0.7,
    "largest": 0.7,
    "inside": 1,
    "failed": 4,
    "diverged": 4,
    "p_value": 0.00092,
}
"""What four diverged runs of five make of a row."""
ELU = {
    "verdict": "straddles",
    "reason": "1 of 5 outside the band",
    "statistic": 0.8,
    "low": 0.2836,
    "high": 0.9949,
    "inside": 4,
    "p_value": 0.8191,
}
SELU = {
    "verdict": "undefined",
    "reason": "1 of 5 undefined (too short)",
    "statistic": 0.8,
    "low": 0.2836,
    "inside": 4,
    "undefined": 1,
}
MEAN = {
    "estimand": "mean",
    "statistic": 1.0123456,
    "low": 0.98,
    "high": 1.04,
    "size": 0.025,
    "noticed": "a mean 0.047 outside the band",
    "origin": "derived: first order in η",
    "method": "ratio of ‖U‖² and ‖W‖²; t-interval over 5 seeds",
}


SETTINGS = {
    "dense": {
        "title": "Dense",
        "paper": "li2022",
        "data": {"source": "photos", "samples": 1000},
        "seeds": 5,
        "cases": {"tanh": {"widths": [8], "learning_rates": ["0.02"]}},
    }
}
JUDGED = {
    "dense": [{"name": "edge_of_stability", "reads": ["gauss_newton_sharpness"], "cases": ["tanh"]}]
}
PAPERS = {
    "li2022": {
        "key": "li2022",
        "title": "Analyzing Sharpness along GD Trajectory",
        "authors": "Wang, Li and Li",
        "venue": "NeurIPS 2022",
        "link": "https://arxiv.org/abs/2207.12678",
        "says": ["The sharpness rises until it reaches 2/η.", "In a linear net it can be proved."],
    },
    "ziyin2024": {
        "key": "ziyin2024",
        "title": "Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent",
    },
}
PROVENANCE = {"torch": "2.13.0", "configuration": "config/config.yaml", "commit": "0123abc"}


class Checker(HTMLParser):
    """Checks that tags are balanced, ids unique and headings in order; collects what it reads."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.words = [], [], [], [], []
        self.headings, self.attributes, self.tags, self.folded_words = [], [], [], []
        self.numbers = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert len(given) == len(attrs), f"attribute twice in {tag}"
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if "data-claim" in given:
            place = tuple(given[f"data-{name}"] for name in ("experiment", "claim", "case"))
            self.numbers.append((place, len(self.open), []))
        if tag == "data" and self.numbers:
            self.numbers[-1][2].append((float(given["value"] or "nan"), len(self.words)))
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
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if "details" in self.open:
                self.folded_words.append(data)

    @property
    def shown(self) -> Iterator[tuple[tuple[str, str, str], list[tuple[float, str]]]]:
        """Rows of `claims.csv` that stand on the page, each with its numbers and their texts."""
        for place, _, values in self.numbers:
            yield place, [(value, self.words[at].strip()) for value, at in values]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def folded(self) -> str:
        """What stands in folded parts."""
        return " ".join(" ".join(self.folded_words).split())


def compare_with_claims(page: str, table: pd.DataFrame) -> int:
    """Compare every number of a measurement on the page with its row of `claims.csv`."""
    rows = {}
    for row in table.to_dict("records"):
        rows[row["experiment"], row["claim"], row["case"]] = row
    seen, compared = set(), 0
    for place, values in checked(page).shown:
        row = rows[place]
        runs = row["estimand"] == "runs"
        level = ["inside", "seeds"] if runs else ["statistic"]
        seeds = ["median", "least", "largest"] if pd.notna(row["median"]) else []
        bounds = ["low", "high"]
        orders = ([*level, *bounds, *seeds], [*seeds, *level] if runs else [*level, *bounds])
        found = [value for value, _ in values]
        expected = [[float(row[name]) for name in order] for order in orders]
        assert any(np.array_equal(found, each, equal_nan=True) for each in expected), place
        for value, text in values:
            assert text == number(value) or float(text) == value
        compared += len(values)
        seen.add(place)
    assert seen == set(rows)
    return compared


def checked(page: str) -> Checker:
    assert page.lstrip().startswith("<!DOCTYPE html>")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    for link in checker.links:
        assert link.startswith(("#", "https://", "../"))
        assert link[1:] in checker.ids or link[0] != "#", link
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
            claim(case="relu", **RELU),
            claim(case="elu", **ELU),
            claim(case="selu", **SELU),
            claim(
                claim="norm", paper="ziyin2024", figure="warmup", statement="Norms balance", **MEAN
            ),
        ),
        "experiments": SETTINGS,
        "papers": PAPERS,
        "provenance": PROVENANCE,
        "judged": JUDGED,
    }
    return build(**{**given, **changes})
