"""Every number of the comparison with other libraries is quoted from a record."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import structmat
from structmat.finetune.report.method_ranking import plus_minus

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def rows(page, heading):
    """Return the cells of the first table below a heading, without the header."""
    table = re.search(rf"^## {heading}\n.*?((?:^\|[^\n]*\n)+)", page, re.M | re.S)[1]
    return [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines()[2:]]


@pytest.fixture(scope="module")
def page():
    return (DOCS / "comparison.md").read_text("utf-8")


@pytest.fixture(scope="module")
def measured():
    """Return the parameters, relative time and memory of each candidate in benchmarks.md."""
    text = (DOCS / "benchmarks.md").read_text("utf-8").partition("## Results on one machine")[2]
    number = r"([\d.,]+)"
    line = rf"^(\S.*?)  +{number}  +.*  {number}  +{number}$"
    return [
        {
            name: (parameters, times, memory)
            for name, parameters, times, memory in re.findall(line, block, re.M)
        }
        for block in text.split("```")[1:4:2]
    ]


def test_the_speed_table_quotes_the_benchmarks(page, measured):
    layer, _ = measured
    found = rows(page, "Speed")
    assert len(found) >= 9
    for name, *numbers in found:
        assert tuple(numbers) == layer[name]


def test_the_small_model_numbers_quote_the_benchmarks(page, measured):
    _, model = measured
    ours = {name: times for name, (_, times, _) in model.items()}
    dense = sorted(ours[n] for n in ("mixed_radix(largest=4)", "shuffle(block=4)"))
    text = page.replace("\n", " ")
    boft, oft = ours["butterfly(block=8, depth=2)"], ours["OFT b=16 (PEFT)"]
    assert f"{boft} times as long as with LoRA for BOFT(2, 8)" in text
    assert f"{dense[0]} to {ours['butterfly(block=6)']} times for dense networks" in text
    assert f"{oft} times for PEFT's OFT" in text


def test_the_accuracy_table_quotes_the_record(page):
    record = json.loads((DOCS / "results" / "finetune-full.json").read_text("utf-8"))
    methods = {row["label"]: row for row in record["methods"]}
    found = rows(page, "Accuracy")
    assert len(found) >= 6
    for label, accuracy, trainable in found:
        row = methods[label]
        assert accuracy == plus_minus(row)
        assert trainable == f"{row['trainable']:,}"


def test_the_readme_quotes_the_same_measurements(measured):
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.findall(r"^\| `?([^|`]+?)`? \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert len(found) >= 4
    for name, *numbers in found:
        assert tuple(numbers) == measured[0][name]


def test_the_citation_has_the_current_version():
    text = (DOCS / "cite.md").read_text("utf-8")
    assert re.findall(r"version = \{(.+?)\}", text) == [structmat.__version__]
