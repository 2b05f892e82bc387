"""A real browser that looks at a page."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from debian_chromium import found, why_not
from synthetic_page import make_page


@pytest.fixture(scope="module")
def addresses(tmp_path_factory) -> dict[str, str]:
    """Where the page is: `whole`, and `small` where curves had to become bands."""
    folder = tmp_path_factory.mktemp("page")
    places = {}
    for name, budget in (("whole", 600_000), ("small", 18_000)):
        path = folder / f"{name}.html"
        path.write_text(make_page(budget), encoding="utf-8")
        places[name] = path.as_uri()
    return places


@pytest.fixture(scope="module")  # its event loop would be in the way of other folders' tests
def browser():
    """Headless Chromium; skips where there is none and none can be installed."""
    api = pytest.importorskip("playwright.sync_api", reason="tests/browser.txt is not installed")
    if reason := why_not():
        pytest.skip(reason)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found(), args=arguments)
        yield started
        started.close()


@pytest.fixture
def visit(browser, addresses) -> Iterator[Any]:
    """Opens the page in a fresh window; at the end, nothing was logged or asked of a network."""
    said: list[str] = []
    contexts = []

    def open_page(fragment="", page="whole", width=1024, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        shown.on("pageerror", lambda error: said.append(f"error: {error}"))
        shown.on("request", lambda request: said.append(f"request: {request.url}"))
        shown.goto(addresses[page] + fragment)
        if options.get("java_script_enabled", True):
            shown.wait_for_selector("html[data-explorer=ready]")
        return shown

    yield open_page
    for context in contexts:
        context.close()
    asked = [line for line in said if not line.startswith("request: file:")]
    assert [line for line in asked if not line.startswith("request: blob:")] == []
    assert sum(line.startswith("request: file:") for line in said) == len(contexts)
