"""A server and a browser for the tests of the explorer."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from structmat.explorer.server import Server
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
