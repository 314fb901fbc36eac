"""The fits to wider matrices and to the rotations of a model: the script, its record, the page."""

import itertools
import json
import statistics

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import fit_targets as script
import structmat as sm


@pytest.fixture(scope="module")
def record():
    return json.loads(script.PATH.read_text("utf-8"))


def test_the_record_contains_exactly_the_fits(record):
    sizes = script.Sizes()
    assert record["sizes"] == json.loads(json.dumps(vars(sizes)))
    expected = {
        (width, budget, topology, str(rule), seed)
        for width in sizes.widths
        for budget in sizes.budgets
        for topology, rule in script.of_size(width, budget * width).items()
        for seed in range(sizes.seeds)
    }
    keys = ("width", "budget", "topology", "spec", "seed")
    found = [tuple(row[key] for key in keys) for row in record["random"]]
    assert sorted(found) == sorted(expected)
    layers = [f"{n}.{kind}" for n, kind in itertools.product(sizes.layers, script.KINDS)]
    expected = itertools.product(sizes.topologies, layers, range(sizes.seeds))
    found = [(row["topology"], row["layer"], row["seed"]) for row in record["model"]]
    assert sorted(found) == sorted(expected)


def test_the_counts_of_the_record_are_those_of_the_networks(record):
    for spec, width, parameters, depth in {
        (row["spec"], row["width"], row["parameters"], row["depth"]) for row in record["random"]
    }:
        claims = sm.parse(spec).claims(width)
        assert claims.parameters in (parameters, None)
        assert claims.depth in (depth, None)
    for spec, parameters in {(row["topology"], row["parameters"]) for row in record["model"]}:
        assert sm.parse(spec)(384).parameters == parameters


def test_errors_fall_with_more_sweeps_and_shares_are_at_most_one(record):
    assert all(row["error"] <= row["half"] for row in record["random"])
    for row in record["model"]:
        assert 0 <= row["of_rotation"] <= 1
        assert 0 <= row["of_weight"] <= 1
    shares = {(r["layer"], r["seed"]): r["explained"] for r in record["layers"]}
    for row in record["model"]:
        assert row["of_weight"] <= shares[row["layer"], row["seed"]] < 1


def test_small_rotations_are_reached_as_far_as_pairs_of_wires_meet(record):
    """For a random direction, the share of its squared norm on k of n coordinates is k/n."""
    for row in record["model"]:
        expected = row["pairs"] / (384 * 383 / 2)
        assert row["of_rotation"] == pytest.approx(expected, rel=0.5)
    for spec in record["sizes"]["topologies"]:  # medians, as the page says
        rows = [row for row in record["model"] if row["topology"] == spec]
        median = statistics.median(row["of_rotation"] for row in rows)
        assert median == pytest.approx(rows[0]["pairs"] / (384 * 383 / 2), rel=0.1)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_the_rotation_of_a_weight_is_that_of_scipy(outputs, inputs, seed):
    before, after = np.random.default_rng(seed).standard_normal((2, outputs, inputs))
    r = script.procrustes(before, after)
    np.testing.assert_allclose(r @ r.T, np.eye(inputs), atol=1e-12)
    best, _ = scipy.linalg.orthogonal_procrustes(before, after)
    np.testing.assert_allclose(
        script.square(before @ r.T - after), script.square(before @ best - after), rtol=1e-9
    )


@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_a_weight_that_was_rotated_is_explained_completely(width, seed):
    source = np.random.default_rng(seed)
    before = source.standard_normal((width + 2, width))
    [[r]] = sm.random_blocks(sm.Network.of(width, [[range(width)]]), rng=seed)
    found = script.change(before, before @ r.T)
    assert found["explained"] == pytest.approx(1, abs=1e-10)
    assert found["rotated"] == pytest.approx(np.linalg.norm(r - np.eye(width)) / width**0.5)


def test_a_network_that_contains_the_rotation_reaches_it():
    before = np.random.default_rng(0).standard_normal((40, 8))
    r = sm.Rotation(sm.butterfly(8), sm.random_blocks(sm.butterfly(8), rng=1)).power(0.2).matrix()
    found = script.model_fit("butterfly", before, before @ r.T, script.Sizes())
    assert found["of_rotation"] > 0.99
    assert found["of_weight"] > 0.99
    assert found["pairs"] == found["parameters"] == 12
