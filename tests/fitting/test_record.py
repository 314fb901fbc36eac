"""The record of the fits at width 512, the script that made it, and the page that quotes it."""

import importlib.util
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

import structmat as sm

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fit_512", DOCS / "fit_512.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(script):
    return json.loads(script.PATH.read_text("utf-8"))


def test_the_record_contains_every_network_of_the_script(script, record):
    networks = {
        (topology, name): net for topology, nets in script.series().items() for name, net in nets
    }
    assert [(row["topology"], row["network"]) for row in record["networks"]] == list(networks)
    for row, net in zip(record["networks"], networks.values(), strict=True):
        assert eval(row["network"], vars(sm.families) | vars(sm)) == net  # noqa: S307 - what the script wrote
        assert (row["parameters"], row["depth"]) == (net.parameters, net.depth)
        for key in ("error", "half", "lower_bound"):
            assert len(row[key]) == record["seeds"] == 10
        for least, error, half in zip(row["lower_bound"], row["error"], row["half"], strict=True):
            assert least <= error <= half


@pytest.mark.parametrize("name", ["butterfly(512, block=16, depth=1)", "ruler(512)[:1]"])
def test_the_script_reproduces_the_record(script, record, name):
    """These fits converge in one sweep; longer fits depend on rounding."""
    (row,) = [row for row in record["networks"] if row["network"] == name]
    again = script.fitted(eval(name, vars(sm.families) | vars(sm)), 3)  # noqa: S307
    assert again["error"] == pytest.approx(row["error"][3], abs=2e-5)
    assert again["lower_bound"] == pytest.approx(row["lower_bound"][3], abs=2e-5)


def test_the_frontier_contains_only_networks_of_the_paper(script, record):
    points = dict(script.frontier(record))
    boft = [row for row in record["networks"] if row["network"].startswith("butterfly(512, block")]
    assert len(boft) == 9 + 8 + 6
    for row in boft:
        error = statistics.median(row["error"])
        assert any(p <= row["parameters"] and e <= error for p, e in points.items())
    assert np.all(np.diff(list(points.values())) < 0)


def test_the_page_quotes_the_record(script, record):
    page = " ".join((DOCS / "fitting.md").read_text("utf-8").split())
    for row in script.equal_rows(record) + script.verdict_rows(record):
        assert f"| {' | '.join(row)} |" in page
    drop = max(
        statistics.median(row["half"]) - statistics.median(row["error"])
        for row in record["networks"]
    )
    assert f"by at most {drop:.3f}" in page
    assert f"{record['sweeps']} sweeps" in page


def test_the_findings_of_the_paper_are_reproduced(script, record):
    error = {row["network"]: statistics.median(row["error"]) for row in record["networks"]}

    def boft(depth, block):
        return error[f"butterfly(512, block={block}, depth={depth})"]

    assert boft(9, 2) < boft(1, 16)
    assert abs(boft(6, 4) - boft(2, 16)) < 0.01
    for block, deepest in ((2, 9), (4, 8), (16, 6)):
        assert all(boft(k + 1, block) < boft(k, block) for k in range(1, deepest))


def test_the_statements_about_other_networks_hold(script, record):
    """Networks of two or more stages are not above the curve, except where blocks of 2 are best."""
    x, y = zip(*script.frontier(record), strict=True)
    error = {row["network"]: statistics.median(row["error"]) for row in record["networks"]}
    for row in record["networks"]:
        if row["topology"].startswith(("BOFT", "ruler")):
            continue
        gap = error[row["network"]] - np.interp(row["parameters"], x, y)
        if row["parameters"] > 2304:
            assert (gap <= script.ON) == (row["depth"] > 1)
            assert gap < -script.ON or row["depth"] <= 2 or "blocks of 2" not in row["topology"]
        else:
            assert gap > script.ON or row["topology"] in (
                "butterfly, cycled",
                "random, blocks of 2",
            )
    for block, deepest in ((4, 8), (16, 6)):
        for k in range(1, deepest + 1):
            shuffled = error[f"shuffle(512, block={block}, depth={k})"]
            assert shuffled <= error[f"butterfly(512, block={block}, depth={k})"] + script.ON
    deep = {row["network"]: row for row in record["networks"] if row["parameters"] == 23040}
    fell = {name: statistics.median(row["half"]) - error[name] for name, row in deep.items()}
    assert max(fell, key=fell.get) == min(deep, key=error.get) == "butterfly(512).repeat(10)[:90]"
    assert error["butterfly(512).repeat(10)[:45]"] < error["butterfly(512, block=16, depth=6)"]
    assert sm.isomorphism(sm.butterfly(512), sm.shuffle(512, 2)) is not None
    for row in record["networks"]:
        if row["topology"] == "butterfly, cycled" and row["depth"] >= 18:
            assert row["lower_bound"] == [0] * 10


def test_redundant_parameters_of_six_butterfly_stages_follow_the_formula():
    """The page states the number for width 512; the formula is verified at smaller widths."""
    widths = [(64, 3, 16), (32, 2, 16)]
    for width, depth, block in widths:
        found = sm.dimension(sm.butterfly(width, block, depth))
        assert found.proved
        assert found.redundant == (depth - 1) * width * (block - 2) // 4
    assert 5 * 512 * 14 // 4 == 8960
