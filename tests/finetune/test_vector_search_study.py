"""The study of vector search: the script, its record, and the page that quotes it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("faiss")

import vector_search_study as script


@pytest.fixture(scope="module")
def record():
    return json.loads(script.PATH.read_text("utf-8"))


def test_the_record_contains_exactly_the_runs(record):
    sizes = script.Sizes()
    assert record["sizes"] == json.loads(json.dumps(vars(sizes)))
    found = [(r["data"], r["width"], r["seed"], r["method"]) for r in record["runs"]]
    expected = [
        (data, width, seed, name)
        for data in script.DATA
        for width in sizes.widths
        for seed in range(sizes.seeds)
        for name in script.METHODS
        if name != script.OPQ or width <= script.WIDEST_OPQ
    ]
    assert sorted(found) == sorted(expected)
    assert list(record["milliseconds"]) == [str(width) for width in sizes.widths]


def test_the_tables_show_every_method(record):
    tables = list(script.tables(record))
    assert len(tables) == 7
    for name in script.METHODS:
        assert all(name in table for table in tables[1:5])


def test_two_rounds_help_sign_codes_of_uneven_vectors_as_the_page_says(record):
    def recalls(name, bits):
        rows = script._rows(record, data="synthetic", method=name)
        return np.array([row[bits] for row in sorted(rows, key=lambda r: (r["width"], r["seed"]))])

    two, haar = recalls("rotator(block=16, rounds=2)", "1"), recalls(script.HAAR, "1")
    assert abs(two.mean() - haar.mean()) < 0.01
    one = recalls(script.FULL, "1")
    assert (two - one).mean() > 0.3
    assert (recalls(script.FULL, "4") - recalls(script.TWO_ROUNDS, "4")).mean() > 0.04


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4]))
def test_a_product_with_a_multiple_of_a_vector_is_exact(seed, bits):
    y = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 8)))
    c = script.codes(y, bits)
    assert (c.abs() <= max(1, 2 ** (bits - 1) - 1)).all()
    estimate = (c * 5 * y).sum(-1) * y.square().sum(-1) / (c * y).sum(-1)
    torch.testing.assert_close(estimate, 5 * y.square().sum(-1))


def test_recall_is_that_of_exact_search_with_fine_codes():
    vectors = script.synthetic(16, 200)
    queries, vectors = vectors[:10], vectors[10:].contiguous()
    truth = script.nearest(vectors, queries.contiguous())
    oracle = torch.cdist(queries, vectors).topk(script.NEAREST, largest=False).indices
    assert torch.equal(truth.sort().values, oracle.sort().values)
    assert script.recall(lambda x: x, vectors, queries, truth, 16) > 0.95


def test_every_method_is_a_rotation():
    vectors = script.synthetic(24, 200)
    for make in script.METHODS.values():
        rotate = make(24, 1, vectors)
        gram = rotate(vectors) @ rotate(vectors).T
        torch.testing.assert_close(gram, vectors @ vectors.T, atol=1e-4, rtol=1e-4)


def test_two_rounds_of_blocks_of_8_reach_64_inputs():
    matrix = script.two_rounds(96, 0, torch.empty(0))(torch.eye(96))
    assert (matrix.abs() > 1e-6).sum(0).unique().tolist() == [64]


@pytest.mark.slow
def test_a_quick_run_is_saved_and_resumed(tmp_path, capsys):
    path = tmp_path / "quick.json"
    script.main(["--quick", "--output", str(path)])
    record = json.loads(path.read_text("utf-8"))
    assert len(record["runs"]) == 2 * 2 * len(script.METHODS)
    assert all(0 <= row["1"] <= 1 for row in record["runs"])
    script.main(["--quick", "--output", str(path)])
    assert json.loads(path.read_text("utf-8")) == record
    assert "Recall@10" in capsys.readouterr().out
