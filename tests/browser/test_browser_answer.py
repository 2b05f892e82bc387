"""Answer and evidence in a real browser: links that unfold, the filter, figures enlarged, print."""

import pytest


def shown(page) -> list[str]:
    """Claims that the filter leaves."""
    return page.eval_on_selector_all(
        "details.claim", "all => all.filter(e => e.offsetHeight).map(e => e.dataset.verdict)"
    )


def test_a_tile_leads_to_its_claim_and_unfolds_it(visit):
    page = visit()
    tile = page.locator("a.tile").first
    target = tile.get_attribute("href")
    assert page.locator(target).is_hidden()
    tile.click()
    assert page.locator(target).is_visible()
    assert page.locator(f"details.claim:has({target})").evaluate("e => e.open")


def test_a_shared_link_unfolds_its_claim(visit):
    target = visit().locator("a.tile").last.get_attribute("href")
    page = visit(target)
    assert page.locator(target).is_visible()
    top = page.locator(f"details:has(> {target})").bounding_box()["y"]
    assert 0 < top < 900


def test_the_filter_goes_by_verdict_paper_and_text(visit):
    page = visit()
    everything = shown(page)
    assert {"supported", "not supported"} <= set(everything)
    count = page.locator("form.filter output")
    assert count.inner_text() == f"{len(everything)} of {len(everything)} claims"
    page.get_by_label("supported", exact=True).uncheck()
    assert "supported" not in shown(page)
    assert count.inner_text() == f"{len(shown(page))} of {len(everything)} claims"
    page.get_by_label("supported", exact=True).check()
    page.locator("select[name=paper]").select_option("ziyin2024")
    assert len(shown(page)) == page.locator("details.claim[data-paper=ziyin2024]").count()
    page.locator("select[name=paper]").select_option("")
    page.get_by_label("Text", exact=True).fill("HOVERS  around")
    assert 0 < len(shown(page)) < len(everything)
    page.get_by_label("Text", exact=True).fill("nothing of the kind")
    assert shown(page) == []


def test_a_link_shows_a_claim_that_the_filter_hides(visit):
    page = visit()
    page.get_by_label("Text", exact=True).fill("nothing of the kind")
    tile = page.locator("a.tile").first
    tile.click()
    assert page.locator(tile.get_attribute("href")).is_visible()


def test_a_figure_opens_large_and_goes_back_to_its_place(visit):
    page = visit()
    figure = page.locator("section.figure > figure").first
    figure.scroll_into_view_if_needed()
    small = figure.locator(":scope > :is(img, svg)").bounding_box()
    button = figure.get_by_role("button")
    assert button.text_content() == "Enlarge"
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    large = dialog.locator(":is(img, svg)").bounding_box()
    assert large["width"] > small["width"]
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert figure.locator(":scope > :first-child:is(img, svg)").count() == 1
    assert button.evaluate("e => e === document.activeElement")


def test_the_first_key_skips_to_the_answer(visit):
    page = visit()
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the answer"
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")


def test_without_a_script_all_claims_are_there_and_can_be_unfolded(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("form.filter").is_hidden()
    assert page.locator(".enlarge").count() == 0
    claims = page.locator("details.claim")
    assert all(claims.nth(i).is_visible() for i in range(claims.count()))
    claims.first.locator("summary").click()
    assert claims.first.locator("table").is_visible()


def test_what_is_folded_stays_so_in_print_and_what_is_for_the_screen_is_left_out(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.locator("details[open]").count() == 0
    for part in (".top", ".skip", "form.filter", ".enlarge"):
        assert page.locator(part).first.is_hidden()
    assert page.get_by_role("heading", name="What came out").is_visible()


@pytest.mark.parametrize("width", [400, 1600])
def test_targets_are_large(visit, width):
    page = visit(width=width)
    small = page.eval_on_selector_all(
        "main :is(a.tile, a.chip, button, summary, select, input), nav a",
        """all => all.map(e => [e, e.getBoundingClientRect()])
            .filter(([, r]) => r.width && Math.min(r.width, r.height) < 24)
            .filter(([e]) => !e.closest('#explorer-section'))
            .map(([e]) => e.outerHTML)""",
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme(visit, scheme):
    page = visit(color_scheme=scheme)
    background = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    light = sum(int(part) for part in background[4:-1].split(",")) > 3 * 128
    assert light == (scheme == "light")
    turned = page.locator("figure :is(img, svg)").first.evaluate("e => getComputedStyle(e).filter")
    assert (turned == "none") == (scheme == "light")
