"""The report as text: its statements, and markup that is complete and accessible."""

import re
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest

from structmat.finetune.report.disagreements import SHOWN
from structmat.finetune.report.html_report import report_html
from structmat.finetune.report.method_ranking import plus_minus
from structmat.finetune.report.sentences import headline
from tests.finetune.simulated import NAMES, simulated

EMPTY = {"meta", "circle", "path", "use", "rect", "br"}


class Elements(HTMLParser):
    """Collects elements with their attributes, and checks that they are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.all, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)

    def of(self, tag):
        return [attributes for name, attributes in self.all if name == tag]


@pytest.fixture(scope="module")
def case():
    found, methods = simulated((0.45, 0.74, 0.76, 0.75, 0.77, 0.72), search=True)
    page = report_html(found, methods, "classify = 1 < 2")
    return found, page, Elements(page)


def test_the_page_requests_nothing(case):
    _, page, elements = case
    assert [a for a in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy"] == [
        {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'",
        }
    ]
    assert not elements.of("script") + elements.of("link") + elements.of("img")
    links = re.findall(r"(?:\bsrc|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert [link for link in links if not link.startswith("#")] == []


def test_identifiers_are_unique_and_every_reference_has_its_target(case):
    _, page, elements = case
    count = Counter(a["id"] for _, a in elements.all if "id" in a)
    assert [name for name, n in count.items() if n > 1] == []
    used = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page)
    assert set(used) <= set(count)


def test_headings_tables_and_pictures_are_accessible(case):
    _, _, elements = case
    levels = [int(tag[1]) for tag, _ in elements.all if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert elements.of("html") == [{"lang": "en"}]
    assert all(a.get("scope") in ("col", "row") for a in elements.of("th"))
    assert all(a.get("aria-label") for a in elements.of("table"))
    pictures = [a for a in elements.of("svg") if "aria-hidden" not in a]
    assert len(pictures) == 2 + 1 + 2 + 4  # accuracies, rates, training, networks
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    for _, attributes in elements.all:
        if attributes.get("class") == "scroll":  # reachable by keyboard, to scroll
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "region"
            assert attributes["aria-label"]


def test_the_page_states_results_rates_rows_and_warnings(case):
    found, _, elements = case
    said = " ".join(" ".join(elements.texts).split())
    for line in headline(found):
        assert line in said
    for row in found["methods"]:
        assert f"{row['label']} {plus_minus(row)}" in said
        for rate, accuracy in row["search"].items():
            assert rate in said
            assert f"{accuracy:.3f}" in said
    assert "Selected at an edge of the grid" in said  # as all are in the simulated search
    assert "reviews: 1,210 rows, 180 dropped:" in said
    assert "174 near duplicates; --keep-duplicates keeps them" in said
    assert "Warning: 6 steps may be too few" in said
    assert "BOFT(2, 8): drawn at width 32 (2 stages, not dense), used at widths 384 and" in said
    assert "classify = 1 < 2" in said
    assert "complaint 400 310 200 30 80" in said


def test_examples_are_shown_with_their_label_and_every_answer(case):
    found, page, elements = case
    assert len(found["examples"]) == SHOWN
    assert page.count("<blockquote>") == SHOWN
    assert "<b>" not in page  # texts are data, not markup
    said = " ".join(" ".join(elements.texts).split())
    for example in found["examples"]:
        assert example["text"] in said
        assert set(example["answers"]) == set(NAMES)


def test_equal_records_make_equal_pages(case):
    found, page, _ = case
    again, methods = simulated((0.45, 0.74, 0.76, 0.75, 0.77, 0.72), search=True)
    again["date"] = found["date"]
    assert report_html(again, methods, "classify = 1 < 2") == page


def test_a_report_on_one_method_has_no_comparison():
    found, methods = simulated((0.9,), names=("boft",), rate=0.01)
    page = report_html(found, methods)
    said = " ".join(" ".join(Elements(page).texts).split())
    assert "Learning rates: <code>--rate</code>, the same for all methods." in page
    assert "Differences from" not in said
    assert "tie" not in said.split()


def test_the_default_rates_are_said_to_be_defaults():
    found, methods = simulated((0.5, 0.9), names=("head", "boft"))
    page = report_html(found, methods)
    assert "Learning rates: the default of each method" in page
    assert "<code>--tune</code> searches for rates" in page


# Colours -----------------------------------------------------------------------------------


def variables(block):
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def luminance(colour):
    channels = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_requires(place):
    style = (files("structmat.finetune.report") / "report.css").read_text("utf-8")
    colours = variables(re.findall(r":root \{(.*?)\}", style, re.S)[place])
    for ground in (colours["card"], colours["paper"]):
        for name in ("ink", "quiet", "accent", "good", "bad"):
            assert contrast(colours[name], ground) >= 4.5, name  # text
        for k in range(1, 7):
            assert contrast(colours[f"c{k}"], ground) >= 3, k  # graphics
