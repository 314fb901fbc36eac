"""A server and a browser for the tests of the explorer."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from structmat.explorer.server import Server
from tests.browser import LEFT_OUT, launch, left_out
from tests.timeouts import PATIENCE


@contextmanager
def running(**options):
    """Serve the explorer while the block runs."""
    with Server(**options, seconds=PATIENCE) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server():
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def browser():
    """A Chromium; without one the tests fail, unless BROWSER=none skips them."""
    if left_out():
        pytest.skip(LEFT_OUT)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        try:
            chromium = launch(driver)
        except FileNotFoundError as error:
            pytest.fail(str(error), pytrace=False)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser):
    """A function that returns a browser context; pages of equal options share one.

    Contexts share neither caches nor renderers, so a new one takes longer than a new page.
    """
    made = {}

    def of(**options):
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = browser.new_context(**options)
            made[key].set_default_timeout(1000 * PATIENCE)
        return made[key]

    yield of
    for one in made.values():
        one.close()


@pytest.fixture
def opened(context):
    """A function that opens an address; fails at the end if any page had an error."""
    pages, faults, requests = [], [], []

    def open_page(address, **options):
        page = context(**options).new_page()
        pages.append(page)
        page.on("console", lambda said: faults.append(said.text) if said.type != "log" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("body[data-shown]")
        return page

    open_page.requests = requests
    yield open_page
    for page in pages:
        page.close()
    assert faults == []
