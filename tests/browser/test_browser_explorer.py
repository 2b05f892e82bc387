"""The explorer in a real browser: what each control changes, and what can be taken away."""

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from synthetic_page import RATE, TABLES

SVG = "{http://www.w3.org/2000/svg}"
SHARPNESS = "gauss_newton_sharpness"


def values(page) -> dict[str, list[str]]:
    """The table of values: cells by the setting's name."""
    found = {}
    for row in page.locator(".explorer-values tbody tr").all():
        name, *cells = row.locator("th, td").all_inner_texts()
        found[name] = cells
    return found


def headings(page) -> list[str]:
    return page.locator(".explorer-values thead th").all_inner_texts()


def summaries(page) -> list[str]:
    """What the panels say of themselves."""
    panels = page.locator("#explorer-panels [role=img]").all()
    return [panel.get_attribute("aria-label") for panel in panels]


def box(page, name: str, value: str):
    return page.locator(f'input[name="{name}"][value="{value}"]')


def message(page) -> str:
    return page.locator("#explorer-message").inner_text()


def downloaded(page, button: str) -> str:
    with page.expect_download() as event:
        page.get_by_role("button", name=button).click()
    return event.value.path().read_text(encoding="utf-8")


def records(page) -> list[dict[str, str]]:
    text = downloaded(page, "Download CSV")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def recorded(experiment: str):
    """Recorded values by everything that says which."""
    frame = TABLES[experiment]
    keys = ["case", "width", "learning_rate", "seed", "quantity", "index", "step"]
    return frame.set_index(keys)["value"].sort_index()


def number(text: str) -> float:
    return float(re.split(r"[ \[]", text)[0])


def test_it_opens_on_the_sharpness_and_shows_the_recorded_values(visit):
    page = visit()
    assert headings(page) == ["Setting", "Runs", "Gauss-Newton sharpness", "Loss"]
    shown = values(page)
    assert len(shown) == 6
    true = recorded("dense")
    for case in ("tanh", "relu"):
        last = [true[case, 100, RATE, s, SHARPNESS, 0, 299] for s in (100, 101, 102)]
        runs, sharpness, loss = shown[f"{case}, width 100, η = 0.02"]
        assert runs == "3"
        assert number(sharpness) == pytest.approx(np.median(last), rel=1e-3)
        assert f"[{min(last):.4g}, {max(last):.4g}]" in sharpness
        assert ("1 without a value" in loss) == (case == "relu")
    assert page.locator("#explorer-without").is_hidden()
    assert "18 curves, steps 0 to 299" in summaries(page)[0]


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [("a.case", "relu", 3), ("a.width", "200", 4), ("a.rate", "0.01", 4)],
)
def test_a_choice_leaves_out_its_settings(visit, name, value, left):
    page = visit()
    box(page, name, value).uncheck()
    shown = values(page)
    assert len(shown) == left
    words = {"a.case": value, "a.width": f"width {value}", "a.rate": f"η = {value}"}[name]
    assert not [each for each in shown if words in each]
    box(page, name, value).check()
    assert len(values(page)) == 6


def test_seeds_are_chosen_one_by_one_or_at_once(visit):
    page = visit()
    box(page, "a.seed", "101").uncheck()
    assert {cells[0] for cells in values(page).values()} == {"2"}
    assert {row["seed"] for row in records(page)} == {"100", "102"}
    page.get_by_role("button", name="Seeds: first only").click()
    assert {cells[0] for cells in values(page).values()} == {"1"}
    page.get_by_role("button", name="Seeds: all").click()
    assert {cells[0] for cells in values(page).values()} == {"3"}
    for seed in ("100", "101", "102"):
        box(page, "a.seed", seed).uncheck()
    assert "choose at least one case" in message(page)
    assert values(page) == {}


def test_what_was_recorded_more_rarely_says_how_often(visit):
    page = visit("#explorer?a=dense&q=gauss_newton_sharpness,hessian_sharpness")
    captions = page.locator("#explorer-panels figcaption").all_inner_texts()
    assert captions == [
        "Gauss-Newton sharpness",
        "Hessian sharpness. Points: recorded every 25 steps",
    ]
    page.evaluate("location.hash = '#explorer?a=adaptive&q=hessian_trace'")
    page.get_by_text("Hessian trace. Points: recorded every 10 steps").wait_for()
    page.evaluate("location.hash = '#explorer?a=adaptive&q=hessian_sharpness'")
    page.get_by_text("recorded every 10 steps; an even stride shows one branch").wait_for()


def test_quantities_are_panels(visit):
    page = visit()
    box(page, "q", "norm_squared.1").check()
    box(page, "q", "loss").uncheck()
    assert headings(page)[2:] == ["Gauss-Newton sharpness", "Norm squared, entry 2"]
    assert len(summaries(page)) == 2
    assert number(values(page)["tanh, width 100, η = 0.02"][2]) == pytest.approx(22.99, rel=1e-3)
    box(page, "q", SHARPNESS).uncheck()
    box(page, "q", "norm_squared.1").uncheck()
    assert message(page) == "Choose at least one quantity."


def test_another_experiment_brings_its_own_choices(visit):
    page = visit()
    page.locator("select[name=a]").select_option("adaptive")
    assert list(values(page)) == ["adam"]
    assert box(page, "a.case", "tanh").count() == 0
    assert box(page, "a.width", "50").is_checked()


def test_two_experiments_lie_over_each_other_on_one_axis(visit):
    page = visit()
    box(page, "a.case", "relu").uncheck()
    page.locator("select[name=b]").select_option("adaptive")
    names = list(values(page))
    assert len(names) == 4
    assert names[-1] == "adaptive: adam"
    assert names[0].startswith("dense: tanh")
    assert "12 curves" in summaries(page)[0]
    assert {row["experiment"] for row in records(page)} == {"dense", "adaptive"}
    box(page, "b.seed", "100").uncheck()
    assert values(page)["adaptive: adam"][0] == "2"
    page.locator("select[name=b]").select_option("")
    assert len(values(page)) == 3


def test_units_of_the_threshold(visit):
    page = visit()
    before = number(values(page)["tanh, width 100, η = 0.01"][1])
    page.get_by_label("in units of the stability threshold").check()
    assert headings(page)[2] == "Gauss-Newton sharpness, in units of 2/η"
    assert headings(page)[3] == "Loss"
    assert number(values(page)["tanh, width 100, η = 0.01"][1]) == pytest.approx(
        before / (2 / 0.01), rel=1e-3
    )
    true = recorded("dense")
    row = next(r for r in records(page) if r["step"] == "150" and r["learning_rate"] == "0.01")
    key = row["case"], int(row["width"]), 0.01, int(row["seed"]), SHARPNESS, 0, 150
    assert abs(float(row["value"]) - true[key] / 200) <= float(row["within"]) * 1.01
    assert row["unit"] == "2/η"
    page.get_by_label("as recorded").check()
    assert headings(page)[2] == "Gauss-Newton sharpness"


def test_what_does_not_compare_with_a_threshold_is_not_drawn_in_its_units(visit):
    page = visit("#explorer?a=adaptive&q=gauss_newton_sharpness&y=threshold")
    assert "of 3 runs does not compare with the threshold" in message(page)
    assert values(page)["adam"][1] == "–"


def test_a_logarithmic_axis_leaves_out_what_is_not_positive(visit):
    page = visit("#explorer?a=dense&a.case=tanh&a.width=100&a.rate=0.02&a.seed=100&q=residual,loss")
    texts = [
        t.text for t in ElementTree.fromstring(downloaded(page, "Download SVG")).iter(f"{SVG}text")
    ]
    assert "0.1" not in texts
    page.get_by_label("logarithmic").check()
    lost = int((recorded("dense")["tanh", 100, RATE, 100, "residual", 0] <= 0).sum())
    assert f"Residual: {lost} values have no place" in message(page)
    texts = [
        t.text for t in ElementTree.fromstring(downloaded(page, "Download SVG")).iter(f"{SVG}text")
    ]
    assert {"0.1", "1"} <= set(texts)


def test_phases_are_shaded_and_named(visit):
    page = visit()
    assert page.locator("#explorer-phases").inner_text() == ""
    page.get_by_label("phases shaded").check()
    text = page.locator("#explorer-phases").inner_text()
    assert text.startswith("Phases of tanh, width 100, η = 0.02, seed 100, of the smoothed")
    assert "I below the threshold, rising" in text
    drawn = ElementTree.fromstring(downloaded(page, "Download SVG"))
    assert [r for r in drawn.iter(f"{SVG}rect") if r.get("fill-opacity") == "0.22"]
    page.locator("select[name=a]").select_option("adaptive")
    assert "No chosen run has phases" in page.locator("#explorer-phases").inner_text()


def test_steps_are_zoomed_by_numbers(visit):
    page = visit()
    page.get_by_label("First step").fill("100")
    page.get_by_label("First step").press("Tab")
    page.get_by_label("Last step").fill("150")
    page.get_by_label("Last step").press("Enter")
    assert {int(row["step"]) for row in records(page)} == set(range(100, 151))
    slider = page.locator("#explorer-cursor")
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("100", "150")
    page.get_by_label("First step").fill("200")
    page.get_by_label("First step").press("Tab")
    assert "must be less" in message(page)
    page.get_by_role("button", name="All steps").click()
    assert page.get_by_label("Last step").input_value() == "299"
    assert message(page) == ""


def test_dragging_over_one_panel_zooms_all(visit):
    page = visit()
    over = page.locator(".u-over")
    over.first.scroll_into_view_if_needed()
    place = over.first.bounding_box()
    y = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] / 3, y)
    page.mouse.down()
    page.mouse.move(place["x"] + 2 * place["width"] / 3, y, steps=4)
    page.mouse.up()
    first, last = (float(page.get_by_label(n).input_value()) for n in ("First step", "Last step"))
    assert (first, last) == (pytest.approx(299 / 3, abs=3), pytest.approx(598 / 3, abs=3))
    by_quantity = {row["quantity"]: set() for row in records(page)}
    for row in records(page):
        by_quantity[row["quantity"]].add(int(row["step"]))
    assert by_quantity[SHARPNESS] == by_quantity["loss"] == set(range(int(first), int(last) + 1))
    over.last.dblclick()
    assert page.get_by_label("First step").input_value() == "0"


def test_pointing_reads_a_curve(visit):
    page = visit(
        "#explorer?a=dense&a.case=tanh&a.width=100&a.rate=0.02&a.seed=100&q=norm_squared.1"
    )
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    place = over.bounding_box()
    for share in np.linspace(0.05, 0.95, 19):
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] * share)
    assert 148 <= int(page.locator("#explorer-step").inner_text()) <= 151
    told = re.search(
        r"seed 100: ([\d.]+) at step (\d+)", page.locator("#explorer-nearest").inner_text()
    )
    assert told
    assert float(told[1]) == pytest.approx(20 + int(told[2]) / 100, rel=1e-3)


def test_a_run_that_has_ended_has_no_value_later(visit):
    page = visit("#explorer?a=dense&a.case=tanh&a.width=100&a.rate=0.02&b=brief&q=loss")
    assert values(page)["brief: relu"] == ["3", "–"]
    page.locator("#explorer-cursor").fill("20")
    assert number(values(page)["brief: relu"][1]) == pytest.approx(1)


def test_the_slider_moves_the_step_and_is_heard(visit):
    page = visit(
        "#explorer?a=dense&a.case=tanh&a.width=100&a.rate=0.02&a.seed=100&q=norm_squared.1"
    )
    page.locator("#explorer-cursor").focus()
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert number(values(page)["tanh, width 100, η = 0.02"][1]) == pytest.approx(20.05)
    status = page.get_by_role("status").filter(has_text="Step 5.")
    status.wait_for(state="attached")
    assert "Norm squared, entry 2 20.05" in status.inner_text()


@pytest.mark.parametrize(("kept", "name"), [("all", "whole"), ("extremes", "small")])
def test_the_csv_has_what_was_recorded_within_what_it_says(visit, kept, name):
    quantities = f"{SHARPNESS},loss,norm_squared,hessian_sharpness,residual"
    page = visit(f"#explorer?a=dense&q={quantities}", page=name)
    found, true = records(page), recorded("dense")
    assert ("extremes" in {row["kept"] for row in found}) == (kept == "extremes")
    gaps = 0
    assert len(pd.read_csv(io.StringIO(downloaded(page, "Download CSV")), comment="#")) == len(
        found
    )
    for row in found:
        quantity, _, index = row["quantity"].partition(".")
        key = row["case"], int(row["width"]), float(row["learning_rate"]), int(row["seed"])
        value = true[(*key, quantity, int(index or 0), int(row["step"]))]
        if row["value"] == "":
            gaps += 1
            assert not np.isfinite(value)
        else:
            assert abs(float(row["value"]) - value) <= float(row["within"]) * 1.01
    assert gaps
    if kept == "all":
        assert (
            len(found)
            == len(true.loc[:, :, :, :, ["loss", SHARPNESS, "hessian_sharpness", "residual"]])
            + 18 * 300
        )
        assert gaps == 3 * 50


def test_bands_keep_the_furthest_values_of_each_curve(visit):
    page = visit(f"#explorer?a=dense&q={SHARPNESS}", page="small")
    assert "is drawn as a band" in page.locator("#explorer-section").inner_text()
    found = {}
    for row in records(page):
        if row["kept"] == "extremes":
            key = row["case"], int(row["width"]), float(row["learning_rate"]), int(row["seed"])
            found.setdefault(key, []).append((float(row["value"]), float(row["within"])))
    assert found
    true = recorded("dense")
    for key, pairs in found.items():
        whole = true[(*key, SHARPNESS, 0)]
        shown, within = np.array(pairs).T
        assert shown.max() == pytest.approx(whole.max(), abs=within.max() * 1.01)
        assert shown.min() == pytest.approx(whole.min(), abs=within.max() * 1.01)


def test_the_svg_draws_every_curve(visit):
    page = visit(
        "#explorer?a=dense&a.width=100&a.rate=0.02&q=gauss_newton_sharpness,hessian_sharpness"
    )
    drawn = ElementTree.fromstring(downloaded(page, "Download SVG"))
    groups = drawn.findall(f"{SVG}g")
    curves_in = [g for g in groups[0].findall(f"{SVG}path") if g.get("stroke-opacity")]
    assert len(curves_in) == 6
    assert len(groups[1].findall(f"{SVG}circle")) == 6 * 12, "measured apart, so not joined"
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    named = {"Gauss-Newton sharpness", "Hessian sharpness", "step"}
    assert named | {"tanh, width 100, η = 0.02 (3)"} <= set(texts)


def test_a_link_restores_the_view(visit):
    page = visit()
    box(page, "a.case", "relu").uncheck()
    box(page, "a.seed", "102").uncheck()
    page.locator("select[name=b]").select_option("adaptive")
    box(page, "q", "residual").check()
    page.get_by_label("in units of the stability threshold").check()
    page.get_by_label("phases shaded").check()
    page.get_by_label("logarithmic").check()
    page.get_by_label("Last step").fill("200")
    page.get_by_label("Last step").press("Tab")
    link = page.get_by_role("link", name="Link to this view").get_attribute("href")
    assert page.evaluate("location.hash") == link
    other = visit(link)
    for read in (values, headings, summaries, message):
        assert read(other) == read(page)
    assert records(other) == records(page)
    assert downloaded(other, "Download SVG") == downloaded(page, "Download SVG")
    controls = "els => els.map(e => [e.name, e.type === 'number' ? e.value : e.checked])"
    for each in ("input[type=checkbox]", "input[type=radio]", "input[type=number]"):
        assert other.eval_on_selector_all(each, controls) == page.eval_on_selector_all(
            each, controls
        )
    assert other.evaluate("scrollY") > 0


def test_a_link_to_what_is_not_there_says_so(visit):
    page = visit("#explorer?a=dense&a.case=swish&b=gone&q=loss,charm&steps=9,3&%zz=%zz")
    for part in ("case swish of dense", "experiment gone", "quantity charm", "steps 9 to 3"):
        assert part in message(page)
    assert headings(page)[2:] == ["Loss"]


def test_a_figure_leads_to_the_curves_that_it_draws(visit):
    page = visit("#explorer?a=adaptive")
    page.locator("section.figure").first.get_by_role("link", name="dense", exact=True).first.click()
    page.wait_for_function("document.querySelector('select[name=a]').value === 'dense'")
    assert len(values(page)) == 6
    plain = visit(java_script_enabled=False)
    assert plain.locator(".curves a").first.get_attribute("href") == "#explorer"


def test_another_link_on_an_open_page_is_followed(visit):
    page = visit()
    page.evaluate("location.hash = '#explorer?a=adaptive&q=residual'")
    page.wait_for_function("document.querySelector('select[name=a]').value === 'adaptive'")
    assert headings(page)[2:] == ["Residual"]
