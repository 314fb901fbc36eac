"""The study of quantised models: the script, its record, and the page that quotes it."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import structmat as sm

pytest.importorskip("transformers")

import quantisation_study as script
import studies


@pytest.fixture(scope="module")
def record():
    return json.loads(script.PATH.read_text("utf-8"))


def test_the_record_contains_exactly_the_runs(record):
    sizes = script.Sizes()
    assert record["sizes"] == json.loads(json.dumps(vars(sizes)))
    found = [(r["method"], r["bits"], r["seed"], r["outliers"]) for r in record["runs"]]
    assert sorted(found) == sorted(script.cases(sizes))
    assert set(record["shapes"]) == set(script.METHODS) - set(script.APPROXIMATE)


def test_the_tables_show_every_method(record):
    _, _, natural, outliers, ratios, correlations = script.tables(record)
    for name in script.METHODS:
        assert all(name in table for table in (natural, outliers))
        assert name in ratios or name == script.HAAR
    assert natural.count("±") == 2 * 2 * len(script.NAMES) + len(script.AT_8_BITS)
    assert correlations.count("±") == 4 * len(script.MEASURES)


def test_the_comparisons_on_the_page_hold(record):
    def log_ratios(name, bits):
        mine, base = (script._rows(record, n, bits, outliers=False) for n in (name, script.HAAR))
        return [math.log(a["error"] / b["error"]) for a, b in zip(mine, base, strict=True)]

    def significant(name, bits):
        wide = len(script.NAMES) - 1
        mean, half = studies.interval(log_ratios(name, bits), comparisons=wide)
        return 0 if abs(mean) < half else round(math.copysign(1, mean))

    for name in ("Hadamard, padded", script.LEARNED):
        assert [significant(name, bits) for bits in (4, 3)] == [-1, -1]
    assert [significant("Hadamard, sliced", bits) for bits in (4, 3)] == [1, 1]
    assert [significant(script.FULL, bits) for bits in (4, 3)] == [0, -1]
    assert [significant("rotator(block=16, rounds=2)", bits) for bits in (4, 3)] == [0, 0]
    assert significant(script.PLAIN, 4) == 1
    ratio = [math.exp(studies.interval(log_ratios(script.FULL, b))[0]) for b in (4, 3)]
    assert ratio == pytest.approx([0.95, 0.93], abs=0.005)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_rounding_moves_no_entry_by_more_than_half_a_step(bits, seed):
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 7)))
    made = script.rounded(x, bits)
    step = x.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((made - x).abs() <= step / 2 * (1 + 1e-12)).all()
    levels = made / step
    torch.testing.assert_close(levels, levels.round(), atol=1e-9, rtol=0)
    torch.testing.assert_close(script.rounded(made, bits), made)


@pytest.mark.parametrize("width", [12, 48])
def test_rotations_are_orthogonal_and_the_sliced_one_is_not(width):
    for matrix in (
        script.block_hadamard(width, 4, 0).matrix(),
        script.padded_hadamard(width, 0),
        script.haar(width, 0),
        script.special(sm.rotator(width)).matrix(),
    ):
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(width), atol=1e-12)
    sliced = script.sliced_hadamard(width, 0)
    np.testing.assert_allclose(np.square(sliced).sum(1), 1)
    assert np.linalg.norm(sliced.T @ sliced - np.eye(width)) > 0.5


def test_special_blocks_have_determinant_1_and_entries_of_the_same_size():
    rotation = sm.rotator(24, block=4, rng=3)
    made = script.special(rotation)
    for block, before in zip(made.blocks, rotation.blocks, strict=True):
        np.testing.assert_allclose(np.linalg.det(block), 1)
        np.testing.assert_array_equal(abs(block), abs(before))


def test_synthetic_outliers_do_not_change_the_layer():
    model = nn.ModuleDict({"a": nn.Linear(16, 3)})
    x = torch.randn(2, 16)
    before = model["a"](x)
    [name] = script.with_outliers(model, ["a"], 0)
    torch.testing.assert_close(model["a"](x), before)
    factor = model["a"].factor
    assert (factor == script.FACTOR).sum() == script.OUTLIERS
    assert model.get_submodule(name).weight.shape == (3, 16)


def test_retrieval_is_measured_by_the_rank_of_the_right_text():
    index = torch.eye(4)
    data = script.Data(None, (), [], [index[:2], index[2:]], index, [])
    sizes = script.Sizes(seeds=2, queries=2)
    assert script.measured(index[2:], data, 1, sizes) == {"error": 0, "recall": 1, "mrr": 1}
    swapped = script.measured(index[[3, 2]], data, 1, sizes)
    assert swapped["recall"] == 0
    assert swapped["error"] == pytest.approx(math.sqrt(2))


def test_learning_reduces_the_error():
    """The mean is tested, because a single run depends on rounding: quantised values jump."""
    outlier = torch.tensor([9.0, *[1.0] * 11])
    before, after = [], []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(64, 12, generator=generator) * outlier
        weight = torch.randn(8, 12, generator=generator)
        start = script.special(sm.rotator(12, rng=seed))
        layer = script.Orthogonal.from_rotation(start, dtype=torch.float32)
        learned = script.trained(layer, x, weight, 3, script.Sizes(steps=60), generator)
        for rotation, errors in ((start, before), (learned, after)):
            matrix = torch.tensor(rotation.matrix(), dtype=torch.float32)
            made = script.rounded(x @ matrix.T, 3) @ script.rounded(weight @ matrix.T, 3).T
            errors.append(float((made - x @ weight.T).norm()))
    assert sum(after) < 0.95 * sum(before)


@pytest.mark.slow
def test_a_quick_run_is_saved_and_resumed(tmp_path, capsys):
    path = tmp_path / "quick.json"
    script.main(["--quick", "--output", str(path)])
    record = json.loads(path.read_text("utf-8"))
    found = [(r["method"], r["bits"], r["seed"], r["outliers"]) for r in record["runs"]]
    assert sorted(found) == sorted(script.cases(script.QUICK, script.QUICK_NAMES))
    assert all(0 < row["error"] < 2 and 0 <= row["recall"] <= 1 for row in record["runs"])
    script.main(["--quick", "--output", str(path)])
    assert json.loads(path.read_text("utf-8"))["runs"] == record["runs"]
    assert "recall@1" in capsys.readouterr().out


def test_unevenness_of_known_matrices():
    flat = np.array([[1.0, 1], [1, -1]]) / math.sqrt(2)
    assert studies.unevenness(flat) == {"sigma": 0.0, "coherence": 1.0, "fourth": 1.0}
    haar = studies.unevenness(script.haar(64, 1))
    assert haar["fourth"] == pytest.approx(3 * 64 / 66, rel=0.1)  # Haar: 3/(d(d + 2)) on average
