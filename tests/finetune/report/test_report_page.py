"""The report in a browser: on telephones and large screens, in light and dark mode, and printed."""

import pytest

from structmat.finetune.report.html_report import report_html
from tests.finetune.simulated import simulated

WIDTHS, SCHEMES = (320, 420, 1280), ("light", "dark")

# Elements beyond the right edge that do not scroll by themselves.
OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
  .map(e => e.outerHTML.slice(0, 80))"""

# The colours of all drawn text in pictures, and of the ground behind it.
TEXT = """() => [...document.querySelectorAll("figure svg text")].map(e =>
  [getComputedStyle(e).fill, getComputedStyle(e.closest("section")).backgroundColor])"""

SIZES = """() => [...document.querySelectorAll(".charts svg text")].map(e =>
  e.getBoundingClientRect().height)"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    found, methods = simulated(
        (0.45, 0.74, 0.76, 0.75, 0.77, 0.72, 0.8, 0.7, 0.75),
        names=("head", "lora", "oft", "boft", "shuffle", "torus", "random", "dense-boft", "ruler"),
        seeds=2,
        search=True,
    )
    found["examples"][0]["text"] = "long" * 200  # a text without spaces
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(found, methods, "x = 1" * 60), "utf-8")
    return path.as_uri()


@pytest.fixture
def opened(context, address):
    pages, faults = [], []

    def open_page(width, scheme):
        page = context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        pages.append(page)
        page.on("console", lambda said: faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert faults == [address] * len(pages)  # nothing else was requested, and nothing logged


def grey(colour):
    """The mean of the channels of a computed colour, from 0 to 1, in any notation."""
    kind, numbers = colour.rstrip(")").split("(")
    parts = numbers.replace(",", " ").split()
    values = [float(part) for part in parts if part != "srgb"][:3]
    return sum(values) / 3 / (1 if kind == "color" else 255)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_pictures_are_legible(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    texts = page.evaluate(TEXT)
    assert len(texts) > 100
    for ink, ground in texts:
        assert abs(grey(ink) - grey(ground)) > 0.6, (ink, ground)
        assert (grey(ground) < 0.5) == (scheme == "dark")
    assert min(page.evaluate(SIZES)) >= 8  # CSS pixels


def test_tables_scroll_by_themselves_and_keep_the_names_of_their_rows(opened):
    page = opened(320, "light")
    moved = page.evaluate(
        """() => { const box = document.querySelector(".scroll");
        box.scrollLeft = 1000;
        const left = e => e.getBoundingClientRect().left;
        return [box.scrollLeft, left(box.querySelector("tbody th")) - left(box)]; }"""
    )
    assert moved[0] > 100
    assert abs(moved[1]) <= 1


def test_sections_are_reached_from_the_links(opened):
    page = opened(1280, "light")
    for link in page.query_selector_all("nav a"):
        link.click()
        target = page.evaluate("document.querySelector(':target').textContent")
        assert target == link.inner_text()


def test_the_printed_page_is_light_and_shows_all_columns(opened):
    page = opened(720, "dark")
    page.emulate_media(media="print")
    assert grey(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1
    assert not page.is_visible("nav")
    wide = """() => [...document.querySelectorAll(".scroll")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"""
    assert page.evaluate(wide) == []
    assert page.pdf().startswith(b"%PDF")
