"""Rules that hold for every figure of the papers, drawn from the tables of the other tests."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import test_adapters as adapters
import test_attention as attention
import test_figures as li2022
import test_figures_adam as adam
import test_figures_edge as mechanism
import test_figures_ziyin2024 as ziyin2024
import test_noise_beyond as networks
import two_layer_linear

from sharpflow.figures import base, edge, style

MODULES = li2022.MODULES | mechanism.MODULES | ziyin2024.MODULES | adam.MODULES
MODULES |= adapters.MODULES | attention.MODULES | networks.MODULES
NAMES = list(MODULES)
PUBLISHED = re.compile(r"|Figures? \d+( and \d+)*(, (left|right|top|bottom|middle))?")


def tables_of(name: str) -> dict:
    if name in ziyin2024.MODULES:
        return ziyin2024.tables_of(name)
    for own in (adam, adapters, attention, networks):
        if name in own.MODULES:
            return own.tables_of(name)
    if name in mechanism.MODULES:
        net = mechanism.tables(two_layer_linear.table())
        return mechanism.given(name, net)
    if name == "plateau":
        runs = li2022.run_table(thresholds=(100.0, 400.0), widths=(32, 64))
        return {"sweep": li2022.table(runs, cases={"tanh": li2022.setup()})}
    return {"dense": li2022.table(li2022.run_table(cases=("relu", "tanh")))}


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple]:
    """Each figure with its tables, its words, and its SVG."""
    made = {}
    for name, module in MODULES.items():
        tables = tables_of(name)
        figure = module.draw(tables)
        svg = style.scalable(figure)
        made[name] = (figure, tables, base.words(module, tables), svg)
    return made


def panels(figure) -> list:
    """Axes that hold data: no colour bar."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def letters(figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in axes.texts if t.get_gid() == style.LETTER]


def test_every_module_of_a_paper_is_tested_here():
    found = {
        file.stem
        for paper in li2022.PAPERS
        for file in (li2022.ROOT / "papers" / paper / "figures").glob("*.py")
    }
    assert found == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_letters_in_order(name, drawn):
    figure, *_ = drawn[name]
    found = letters(figure)
    assert found == [chr(ord("a") + place) for place in range(len(found))]
    titled = [axes for axes in panels(figure) if axes.get_title(loc="left")]
    if len(panels(figure)) > 1:
        assert len(found) >= min(2, len(titled))
    else:
        assert not found


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_is_named(name, drawn):
    """At the lower and the left edge of the figure or of a stack that shares an axis."""
    figure, *_ = drawn[name]
    for axes in panels(figure):
        place = axes.get_subplotspec()
        shares = [
            other
            for other in axes.get_shared_x_axes().get_siblings(axes)
            if other.get_subplotspec().colspan == place.colspan
        ]
        pictured = axes.images and not axes.get_yticks().size
        assert pictured or any(other.get_xlabel() for other in [*shares, *row_of(axes, "column")])
        assert pictured or any(other.get_ylabel() for other in row_of(axes, "row"))


def row_of(axes, kind: str) -> list:
    """Axes of the figure that stand in the row, or in the column, of one."""
    place = axes.get_subplotspec()
    span = "rowspan" if kind == "row" else "colspan"
    return [
        other
        for other in panels(axes.figure)
        if getattr(other.get_subplotspec(), span) == getattr(place, span)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_shows_how_it_was_typed(name, drawn):
    figure, *_ = drawn[name]
    texts = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    texts += [getattr(axes, f"get_{kind}label")() for axes in figure.axes for kind in "xy"]
    for text in texts:
        if not text.startswith("_"):  # matplotlib's own, of what has no label
            assert "_" not in re.sub(r"\$[^$]*\$", "", text)


@pytest.mark.parametrize("name", NAMES)
def test_captions_are_short_and_the_numbers_are_a_table(name, drawn):
    _, _, words, _ = drawn[name]
    assert 20 < len(words["caption"].split()) < 90
    assert words["alt"] not in ("", words["title"])
    assert 15 < len(words["alt"].split()) < 90
    assert not re.search(r"nan|  |\.\.|\{|\}", words["alt"] + words["caption"])
    numbers = words["numbers"]
    assert numbers["rows"]
    assert all(len(row) == len(numbers["columns"]) for row in numbers["rows"])
    assert len(set(numbers["columns"])) == len(numbers["columns"])
    assert not [cell for row in numbers["rows"] for cell in row if cell in ("", "nan")]


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_figure_is_named_in_the_papers_form(name, drawn):
    _, _, words, _ = drawn[name]
    assert PUBLISHED.fullmatch(words["published"])
    assert bool(words["published"]) == (name in NUMBERED)


NUMBERED = {"phases", "output_norm", *ziyin2024.NAMES} - {"deep_linear", "noether_flow"}
"""Figures of which it is known which one of the paper's they are."""


@pytest.mark.parametrize("name", NAMES)
def test_svgs_are_light_undated_and_follow_the_page(name, drawn):
    figure, _, _, svg = drawn[name]
    assert len(svg) < 600_000
    tree = ElementTree.fromstring(svg)
    assert not re.search(r"<metadata|<dc:|\b20\d\d-\d\d-\d\d\b", svg)
    assert "#000000" not in svg
    texts = {node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert {text for text in titles if text and "$" not in text} <= texts


@pytest.mark.parametrize("name", NAMES)
def test_no_line_joins_what_was_recorded_now_and_then(name, drawn):
    """A line has a point at every step or two, or at every fiftieth of its axis."""
    figure, *_ = drawn[name]
    for axes in panels(figure):
        if "step" not in axes.get_xlabel() + "".join(
            o.get_xlabel() for o in row_of(axes, "column")
        ):
            continue
        for line in axes.lines:
            x = np.asarray(line.get_xdata(), dtype=float)
            if line.get_linestyle() == "None" or len(x) < 3:
                continue
            wide = np.median(np.diff(np.sort(x)))
            assert wide <= 3 or wide <= np.ptp(x) / 15, (axes.get_ylabel(), line.get_label())


@pytest.mark.parametrize("name", NAMES)
def test_compared_sharpness_is_in_one_unit_on_one_axis(name, drawn):
    figure, *_ = drawn[name]
    rows: dict[str, set] = {}
    for axes in panels(figure):
        for other in row_of(axes, "row"):
            label = other.get_ylabel()
            if re.search(r"η/2|/ threshold$", label):
                rows.setdefault(label, set()).add(axes.get_ylim())
    for label, limits in rows.items():
        if "growth" not in label:
            assert len(limits) == 1 or name == "freezing", label


def test_a_rule_would_find_a_line_through_sparse_records():
    figure, ((axes,),) = style.panel_grid(1, (3,))
    curves = li2022.pd.DataFrame({0: np.arange(5.0), 1: np.arange(5.0)}, index=np.arange(5) * 100)
    style.draw_apart(axes, curves, 0, style.BLUE)
    assert {line.get_linestyle() for line in axes.lines} == {"None"}
    style.draw_seeds(axes, curves, 0, style.BLUE)
    axes.set_xlabel("step")
    with pytest.raises(AssertionError):
        test_no_line_joins_what_was_recorded_now_and_then("x", {"x": (figure,)})


def test_units_are_thresholds_where_all_networks_have_one():
    tables = tables_of("phases")
    chosen = edge.results.networks(tables)
    unit = edge.unit(chosen)
    assert (unit.relative, unit.label(), unit.label("Λ₂")) == (True, "Λη/2", "Λ₂η/2")
    without = edge.results.Network("dense", "adam", 200, 0.1)
    assert not edge.unit([*chosen, without]).relative
