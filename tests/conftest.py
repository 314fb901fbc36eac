"""Settings shared by all tests."""

import gc
import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import LEFT_OUT, launch, left_out
from tests.timeouts import PATIENCE

gc.disable()  # while modules are imported
# The first registers a family, and the second imports modules of PEFT's program: tests run them.
collect_ignore = ["user_script.py", "bench/peft_rehearsal.py"]

# No test asks the Hub; read when a library that could is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

# Measured times and machine code are kept for this run only, by all of its processes together, and
# none of the user's are used.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="structmat-")
    os.environ["STRUCTMAT_CACHE"] = _CACHE.name

# No test depends on time: the machine may be shared, and a first call may compile or load.
# The weekly run of continuous integration tries more examples of each law.
settings.register_profile(
    "structmat",
    deadline=None,
    max_examples=int(os.environ.get("STRUCTMAT_EXAMPLES", "30")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("structmat")


def pytest_collection_finish():
    """Exempt what lives until the end from garbage collection, which is rare later, too."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)  # a passage over all takes 0.1 s
    gc.enable()


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
