"""The record of the full run, and the page that quotes it."""

import json
from pathlib import Path

import numpy as np
import pytest

from structmat.finetune.methods import METHODS
from structmat.finetune.report import result_tables
from structmat.finetune.report.html_report import report_html
from structmat.finetune.report.significance import wilson

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
    for row in result_tables.results(record)[1]:
        assert f"| {' | '.join(row)} |" in page
    search = json.loads((DOCS / "results" / "tuning.json").read_text("utf-8"))
    for entry in search["methods"].values():
        cells = [f"{entry['accuracy'][f'{rate:g}']:.3f}" for rate in search["grid"]]
        assert f"| {' | '.join([entry['label'], *cells])} | {entry['selected_rate']:g} |" in page


def test_the_report_of_the_record_draws_every_network(record):
    page = report_html(record, METHODS)
    assert report_html(record, METHODS) == page
    networks = sum(method.topology is not None for method in METHODS)
    assert page.count('<svg viewBox="0 0') == 2 + 1 + 2 + networks  # accuracies, rates, training


def test_the_intervals_of_the_record_cover_texts_and_seeds(record):
    """The record has no answers to single texts, so the variance between texts is p(1 − p)/n."""
    texts, seeds = record["task"]["sizes"]["test"], record["seeds"]
    for row in record["methods"]:
        p = row["accuracy"]
        variances = p * (1 - p) / texts, np.var(row["accuracies"], ddof=1) / seeds
        freedom = sum(variances) ** 2 / sum(
            v**2 / (n - 1) for v, n in zip(variances, (texts, seeds), strict=True)
        )
        limits = wilson(p, p * (1 - p) / sum(variances), freedom)
        assert row["interval"] == pytest.approx(limits, abs=1e-12)
