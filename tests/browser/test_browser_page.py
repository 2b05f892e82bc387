"""The page in a real browser: by keyboard, for screen readers, without a script, in print."""

import pytest

EXPLORER = "#explorer-app :is(input, select, button, a, [tabindex='0'])"


def test_the_answer_needs_no_script(visit):
    page = visit(java_script_enabled=False)
    assert page.get_by_text("Λ hovers around 2/η").first.is_visible()
    assert page.get_by_text("not supported").first.is_visible()
    assert page.get_by_text(
        "This part needs JavaScript. All numbers are in the tables"
    ).is_visible()
    assert page.locator("#explorer-app").is_hidden()


def test_print_leaves_the_explorer_out_and_is_a_document(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.locator("#explorer-app").is_hidden()
    assert page.get_by_text("The explorer is not printed.").is_visible()
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [400, 1024, 1600])
def test_nothing_is_wider_than_the_window_and_targets_are_large(visit, width):
    page = visit("#explorer?a=dense&b=adaptive&phases=1", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(EXPLORER).all():
        # a label is part of the target of its box
        place = target.evaluate(
            "e => (r => [r.width, r.height])((e.closest('label') || e).getBoundingClientRect())"
        )
        assert min(place) >= 24, target.evaluate("e => e.outerHTML")


def test_no_link_of_a_long_navigation_is_out_of_sight_and_none_hides_where_it_leads(visit):
    page = visit(width=1024)
    links = page.locator(".top nav")
    links.evaluate("nav => nav.innerHTML += nav.innerHTML")
    assert links.evaluate("nav => nav.scrollWidth <= nav.clientWidth")
    page.locator("nav a[href='#claims']").first.click()
    head = "document.querySelector('.top').getBoundingClientRect()"
    assert page.evaluate(f"{head}.height") > 50  # two lines
    shown = "document.querySelector('#claims').getBoundingClientRect().top"
    page.wait_for_function(f"{shown} < 200")
    assert page.evaluate(f"{shown} >= {head}.bottom")


def test_a_narrowed_window_narrows_the_panels(visit):
    page = visit(width=1600)
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function("document.querySelector('.uplot').offsetWidth <= 400")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_every_control_is_reached_by_the_keyboard_alone(visit):
    page = visit("#explorer?a=dense&b=adaptive")
    name = "e => [e.id || e.name || e.textContent || e.className, e.value || ''].join(' ')"
    wanted = set(page.eval_on_selector_all(EXPLORER, f"els => els.map({name})"))
    # of the buttons of one group a single tab stop reaches all, by arrows
    wanted.discard("y threshold")
    page.locator("select[name=a]").focus()
    reached = set()
    for _ in range(len(wanted) + 10):
        reached.add(page.evaluate(f"({name})(document.activeElement)"))
        page.keyboard.press("Tab")
    assert wanted <= reached
    page.locator("input[name=y]:checked").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("input[name=y][value=threshold]").is_checked()
    assert page.get_by_role("columnheader", name="in units of 2/η").is_visible()


def test_keys_work_the_controls(visit):
    page = visit()
    page.locator('input[name="a.case"][value=relu]').focus()
    page.keyboard.press("Space")
    assert page.locator(".explorer-values tbody tr").count() == 3
    page.locator("select[name=b]").focus()
    page.keyboard.type("adaptive")
    page.keyboard.press("Enter")
    assert page.locator(".explorer-values tbody tr").count() == 4


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1600, "dark")])
def test_axe_finds_nothing_above_minor(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit("#explorer?a=dense&b=adaptive&phases=1&log=1", width=width, color_scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    told = [
        f"{v['id']}: {[n['html'] for n in v['nodes']]}" for v in found if v["impact"] != "minor"
    ]
    assert told == []
