"""Drawings on the page: measurements against bands, the workflow's rules, figures in its paper."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from sharpflow.report.drawings import WIDTH, graph, inline, interval, layers

NAMES = ("statistic", "low", "high", "median", "least", "largest", "band_low", "band_high")


def raw(**changes) -> dict[str, float]:
    return dict(zip(NAMES, (1.0, 0.8, 1.2, 1.0, 0.7, 1.4, 0.9, 1.1), strict=True)) | changes


def places(svg: str) -> dict[str, float]:
    root = ElementTree.fromstring(svg)
    band, line, dot = root.find("rect"), root.find("path"), root.find("circle")
    left, right = re.match(r"M([\d.]+) 11H([\d.]+)", line.get("d")).groups()
    start = float(band.get("x"))
    return {
        "band": start,
        "band_end": start + float(band.get("width")),
        "left": float(left),
        "right": float(right),
        "dot": float(dot.get("cx")),
    }


class TestInterval:
    def test_places_are_in_the_order_of_the_numbers(self):
        found = places(interval(raw(), False, "0.9 to 1.1"))
        order = ["left", "band", "dot", "band_end", "right"]
        assert sorted(found, key=found.get) == order

    def test_places_are_in_proportion(self):
        found = places(interval(raw(), False, ""))
        assert found["dot"] - found["left"] == pytest.approx(found["right"] - found["dot"], abs=0.2)
        assert found["band_end"] - found["band"] == pytest.approx(
            (found["right"] - found["left"]) / 2, abs=0.3
        )

    def test_runs_are_drawn_from_the_least_to_the_largest(self):
        mean, runs = (places(interval(raw(), kind, "")) for kind in (False, True))
        assert runs["band"] > runs["left"]
        assert (runs["right"] - runs["band_end"]) > (mean["right"] - mean["band_end"])

    @pytest.mark.parametrize(("end", "value"), [("band_high", np.inf), ("band_low", -np.inf)])
    def test_a_one_sided_band_reaches_the_end(self, end, value):
        found = places(interval(raw(**{end: value}), False, ""))
        if value > 0:
            assert found["band_end"] == pytest.approx(WIDTH - 1, abs=0.2)
        else:
            assert found["band"] == pytest.approx(1, abs=0.2)

    def test_what_was_not_measured_is_not_drawn(self):
        assert interval(raw(statistic=np.nan), False, "") == ""
        assert interval(raw(median=np.nan), True, "") == ""

    def test_it_says_what_is_seen(self):
        told = ElementTree.fromstring(interval(raw(), True, "0.9 to 1.1")).get("aria-label")
        assert told == "runs from 0.7 to 1.4 about 1; band 0.9 to 1.1"

    @given(st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=3), st.booleans())
    def test_nothing_leaves_the_drawing(self, values, runs):
        low, centre, high = sorted(values)
        numbers = raw(statistic=centre, low=low, high=high, median=centre, least=low, largest=high)
        found = places(interval(numbers, runs, ""))
        assert all(0 <= value <= WIDTH + 0.2 for value in found.values())
        assert found["left"] <= found["dot"] <= found["right"]


class TestGraph:
    EDGES = (("data", "train"), ("train", "table"), ("data", "table"), ("table", "<page>"))

    def test_each_node_stands_past_its_sources(self):
        assert layers(self.EDGES) == [["data"], ["train"], ["table"], ["<page>"]]
        assert layers([]) == []

    def test_it_draws_every_node_and_edge(self):
        root = ElementTree.fromstring(graph(self.EDGES, "Rules & more"))
        assert [t.text for t in root.iter("text")] == ["data", "train", "table", "<page>"]
        assert len(list(root.iter("path"))) == len(self.EDGES)
        assert root.get("aria-label") == "Rules & more"
        assert graph([], "") == ""


class TestInline:
    @staticmethod
    def svg(tmp_path) -> bytes:
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot(np.linspace(0, 1, 50) ** 3)
        axes.set_title("a title & more")
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "x"}):
            figure.savefig(tmp_path / "a.svg", metadata={"Date": None})
        return (tmp_path / "a.svg").read_bytes() + b"<!-- sharpflow-sha256:00 -->"

    def test_two_figures_share_no_id_and_refer_to_their_own(self, tmp_path):
        found = [inline(self.svg(tmp_path), name, "alt") for name in ("one", "two")]
        ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in found]
        assert not ids[0] & ids[1]
        for text, own in zip(found, ids, strict=True):
            asked = set(re.findall(r"url\(#([^)]+)\)", text)) | set(
                re.findall(r'href="#([^"]+)"', text)
            )
            assert asked
            assert asked <= own

    def test_it_carries_no_seal_no_address_and_no_date(self, tmp_path):
        text = inline(self.svg(tmp_path), "one", "What is seen.")
        assert not re.search(r"sharpflow-sha256|https?:|metadata|<\?xml|<!DOCTYPE", text)
        assert 'aria-label="What is seen."' in text
        assert "a title &amp; more" in text
        assert "#ffffff" not in text

    def test_its_style_is_its_own(self, tmp_path):
        style = re.search(r"<style[^>]*>(.*?)</style>", inline(self.svg(tmp_path), "one", ""), re.S)
        assert style
        assert all(rule.strip().startswith("#one ") for rule in style[1].split("}") if rule.strip())

    @pytest.mark.parametrize("text", [b"no svg", b"<html/>"])
    def test_anything_else_is_refused(self, text):
        with pytest.raises(ValueError, match="no SVG"):
            inline(text, "one", "")
