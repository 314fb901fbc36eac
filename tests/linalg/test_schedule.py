"""A schedule applies its network with few permutations."""

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.linalg.schedule import Gather, Product, schedule
from structmat.testing import families, networks, seeds


def run(plan, blocks, x):
    """Execute the steps of a schedule, each in the simplest way."""
    for step in plan.steps:
        if isinstance(step, Gather):
            x = x[..., step.index]
            continue
        y = x.copy()
        for s in step.segments:
            for k in range(s.count):
                wires = slice(s.start + k * s.radix, s.start + (k + 1) * s.radix)
                y[..., wires] = x[..., wires] @ blocks[s.bank][k].T
        x = y
    return x


def check(net, seed, dtype):
    blocks = sm.random_blocks(net, seed, dtype)
    x = np.random.default_rng(seed).uniform(-1, 1, (3, net.width)).astype(dtype)
    limit = 16 * (net.depth + 1) * net.width * np.finfo(dtype).eps
    expected = x
    for factor in stagewise.factors(net, blocks):
        expected = (factor @ expected.T).T
    np.testing.assert_allclose(run(schedule(net), blocks, x), expected, rtol=0, atol=limit)


@given(networks(screens=True), seeds(), st.sampled_from([np.float64, np.complex128]))
def test_running_a_schedule_applies_the_network(net, seed, dtype):
    check(net, seed, dtype)


@given(families(max_width=48), seeds())
def test_running_a_schedule_applies_the_family(case, seed):
    family, width = case
    check(family(width), seed, np.float64)


@given(networks(screens=True))
def test_permutations_are_fused(net):
    steps = schedule(net).steps
    working = [t for t, stage in enumerate(net.stages) if stage.banks]
    products = [step for step in steps if isinstance(step, Product)]
    gathers = [step for step in steps if isinstance(step, Gather)]
    assert [step.stage for step in products] == working
    assert len(gathers) <= len(working) + 1
    pairs = itertools.pairwise(steps)
    assert not any(isinstance(a, Gather) and isinstance(b, Gather) for a, b in pairs)
    for step in gathers:
        assert sorted(step.index.tolist()) == list(range(net.width))
        assert not np.array_equal(step.index, np.arange(net.width))
        assert np.array_equal(step.index[step.inverse], np.arange(net.width))
    numbers = [s.bank for step in products for s in step.segments]
    assert numbers == list(range(len(net.banks)))
    sizes = [(s.count, s.radix) for step in products for s in step.segments]
    assert sizes == [(bank.count, bank.radix) for bank in net.banks]


@given(
    st.one_of(networks(screens=True), families(max_width=48).map(lambda case: case[0](case[1]))),
    seeds(),
)
def test_views_permute_like_their_index_arrays(net, seed):
    x = np.random.default_rng(seed).standard_normal((2, net.width))
    for step in schedule(net).steps:
        if isinstance(step, Gather) and step.view is not None:
            shape, axes = step.view
            seen = x.reshape(2, *shape).transpose(0, *(1 + a for a in axes)).reshape(2, -1)
            assert np.array_equal(seen, x[:, step.index])


@pytest.mark.parametrize(
    "spec",
    [
        "butterfly(block=8)",
        "butterfly(block=2, depth=3)",
        "mixed_radix",
        "monarch",
        "shuffle(block=8)",
        "block_diagonal(block=8)",
        "benes",
    ],
)
def test_regular_families_need_no_index_array(spec):
    for step in schedule(sm.parse(spec)(512)).steps:
        assert isinstance(step, Product) or step.view is not None


@given(networks(screens=True), st.integers(0, 50), st.sampled_from([2, 4, 8]))
def test_costs_are_the_sums_over_steps(net, tokens, itemsize):
    cost = schedule(net).cost(tokens, itemsize=itemsize)
    gathers = sum(isinstance(step, Gather) for step in schedule(net).steps)
    touched = sum(bank.reads.size for bank in net.banks)
    entries = sum(bank.count * bank.radix**2 for bank in net.banks)
    assert cost.flops == 2 * tokens * entries
    assert cost.bytes == itemsize * (2 * tokens * (gathers * net.width + touched) + entries)
    assert cost.launches == gathers + len(net.banks)


@given(networks(screens=True))
def test_explaining_has_a_line_for_every_step(net):
    plan = schedule(net)
    lines = plan.explain().splitlines()
    assert len(lines) == len(plan.steps) + 2
    counts = (net.width, net.depth, len(plan.steps))
    parsed = re.match(r"(\d+) wires?, (\d+) stages?: (\d+) steps?,", lines[0])
    assert tuple(map(int, parsed.groups())) == counts


def test_a_schedule_is_cached():
    assert schedule(sm.butterfly(16)) is schedule(sm.butterfly(16))


def test_a_schedule_cannot_be_changed():
    for step in schedule(sm.butterfly(8)).steps:
        if isinstance(step, Gather):
            assert not step.index.flags.writeable
            assert not step.inverse.flags.writeable


@given(networks(screens=True))
def test_json_describes_every_step(net):
    plan = schedule(net)
    found = json.loads(json.dumps(plan.to_dict()))
    assert found["operations"] == plan.cost(1).flops
    assert found["dense_operations"] == 2 * net.width**2
    for step, parsed in zip(plan.steps, found["steps"], strict=True):
        if parsed["does"] == "multiply":
            assert parsed["stage"] == step.stage
            parts = [(part["start"], part["count"], part["radix"]) for part in parsed["blocks"]]
            assert parts == [(s.start, s.count, s.radix) for s in step.segments]
        elif parsed["view"] is None:
            assert (parsed["does"], step.view) == ("permute", None)
        else:
            seen = np.arange(net.width).reshape(parsed["view"]["shape"])
            assert np.array_equal(seen.transpose(parsed["view"]["axes"]).ravel(), step.index)


def test_only_networks_have_a_schedule():
    with pytest.raises(StructmatError, match="schedule of 3: it takes a network"):
        schedule(3)


@pytest.mark.parametrize("tokens", [-1, 2.5, float("nan"), True])
def test_invalid_numbers_of_tokens_are_refused(tokens):
    with pytest.raises(StructmatError, match=f"tokens={tokens}"):
        schedule(sm.butterfly(4)).cost(tokens)


def test_a_wide_butterfly_stores_no_square_array():
    width = 65_536
    net = sm.butterfly(width, block=2, depth=16)
    assert (net.depth, net.parameters) == (16, 16 * width // 2)
    arrays = [a for bank in net.banks for a in (bank.reads, bank.writes)]
    arrays += [stage.moves for stage in net.stages]
    for step in schedule(net).steps:
        if isinstance(step, Gather):
            arrays += [step.index, step.inverse]
    assert max(array.size for array in arrays) <= width


def test_explanations_use_the_singular_for_one():
    plan = sm.schedule(sm.Network.of(4, [[[0, 2], [1, 3]]]))
    text = plan.explain() + sm.schedule(sm.Network.of(2, [[[0, 1]]])).explain()
    assert "2 wires, 1 stage: 1 step, 0 of them permutations" in text
    assert "multiply by 1 block 2×2 (stage 1)" in text
    assert not re.search(r"\b1 [a-z]+s\b", text)
