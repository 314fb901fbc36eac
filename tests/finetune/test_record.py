"""The record of the full run, and the page that quotes it."""

import json
from pathlib import Path

import pytest

from structmat.finetune import result_tables
from structmat.finetune.html_report import report_html
from structmat.finetune.methods import METHODS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def record():
    return json.loads((DOCS / "results" / "finetune-full.json").read_text("utf-8"))


def test_the_record_has_every_method_with_several_seeds(record):
    assert record["complete"]
    assert [row["method"] for row in record["methods"]] == [method.name for method in METHODS]
    search = json.loads((DOCS / "results" / "tuning.json").read_text("utf-8"))["methods"]
    for row in record["methods"]:
        assert row["rate"] == search[row["method"]]["selected_rate"]
    assert all(len(row["accuracies"]) == record["seeds"] >= 3 for row in record["methods"])


def test_the_page_quotes_the_record(record):
    page = (DOCS / "finetuning.md").read_text("utf-8")
    for row in result_tables.rows(record):
        assert f"| {' | '.join(row)} |" in page
    search = json.loads((DOCS / "results" / "tuning.json").read_text("utf-8"))
    for entry in search["methods"].values():
        cells = [f"{entry['accuracy'][f'{rate:g}']:.3f}" for rate in search["grid"]]
        assert f"| {' | '.join([entry['label'], *cells])} | {entry['selected_rate']:g} |" in page


def test_the_report_of_the_record_draws_every_network(record):
    page = report_html(record, METHODS)
    assert report_html(record, METHODS) == page
    assert page.count("<svg") == 2 + sum(method.topology is not None for method in METHODS)
