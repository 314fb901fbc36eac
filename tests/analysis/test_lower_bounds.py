"""Lower bounds: no network is below them, and some meet them."""

import json
from fractions import Fraction
from itertools import combinations
from math import comb, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis import lower_bounds as limits
from structmat.analysis.lower_bounds import lower_bounds, mixing_depth_bound, mixing_obstacle
from structmat.errors import StructmatError
from structmat.families.number_theory import prime_factors
from structmat.testing import families, networks
from theory._tools import layers


def least(net, goal, quantity):
    rows = [
        row.least for row in lower_bounds(net).rows if (row.goal, row.quantity) == (goal, quantity)
    ]
    return rows[0] if rows else None


def mixes(net):
    """Return whether the product of averages is J/d, in exact fractions."""
    rows = [[Fraction(i == j) for j in range(net.width)] for i in range(net.width)]
    for stage in net.stages:
        after = list(rows)
        for start, end in stage.moves.tolist():
            after[end] = rows[start]
        for bank in stage.banks:
            for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True):
                mean = [
                    sum(column) / bank.radix
                    for column in zip(*(rows[k] for k in reads), strict=True)
                ]
                for k in writes:
                    after[k] = mean
        rows = after
    return all(entry == Fraction(1, net.width) for row in rows for entry in row)


@given(
    st.one_of(networks(screens=True), families(max_width=24).map(lambda case: case[0](case[1]))),
    st.integers(1, 4),
)
def test_no_network_reaches_a_goal_below_its_bounds(net, times):
    many = net.repeat(times)
    reached = {
        "dense": bool((sm.path_counts(many) > 0).all()),
        "mixing": many.width <= 12 and mixes(many),
        "universal": many.width <= 6 and sm.dimension(many).value == comb(many.width, 2),
    }
    for row in lower_bounds(many).rows:
        assert row.value == getattr(many, row.quantity)
        assert row.excess == row.value - row.least
        assert row.excess >= 0 or not reached[row.goal], row
    assert reached["dense"] or not (reached["mixing"] or reached["universal"])


@given(st.integers(1, 12))
def test_the_butterfly_meets_its_bounds(power):
    net = sm.butterfly(2**power)
    excess = {(row.goal, row.quantity): row.excess for row in lower_bounds(net).rows}
    assert excess["dense", "depth"] == 0
    assert excess["dense", "nonzeros"] == 0
    assert excess["mixing", "parameters"] == 0
    assert (excess["dense", "parameters"] == 0) == (power <= 3)


@given(st.integers(2, 12), st.integers(1, 4))
def test_a_power_of_one_radix_meets_the_bound_on_edges(radix, depth):
    net = sm.mixed_radix(radix**depth, (radix,) * depth) if radix**depth < 3000 else sm.butterfly(4)
    assert least(net, "dense", "nonzeros") == net.nonzeros
    assert least(net, "dense", "depth") == net.depth


@given(st.integers(4, 200))
def test_gossip_meets_the_bound_on_parameters(width):
    net = sm.gossip(width)
    assert sm.is_dense(net)
    assert least(net, "dense", "parameters") == net.parameters == 2 * width - 4


@given(st.integers(2, 60).map(lambda k: 2 * k + 1))
def test_brickwalls_and_rulers_meet_the_bound_on_stages(width):
    """T13: odd widths need d stages of 2×2 switches, which the brick-wall attains."""
    net = sm.brickwall(width)
    assert least(net, "universal", "depth") == net.depth == width
    assert least(net, "universal", "parameters") == net.parameters


@given(st.integers(2, 500), st.integers(2, 20))
def test_the_universal_depth_bound_is_at_least_the_formula(width, block):
    depth = {(r.goal, r.quantity): r.least for r in lower_bounds(width, block=block).rows}[
        "universal", "depth"
    ]
    assert depth >= -(-(width - 1) // (block - 1))
    if width % block == 0:
        assert depth == -(-(width - 1) // (block - 1))


@pytest.mark.parametrize("block", range(2, 8))
@pytest.mark.parametrize("width", range(1, 25))
def test_the_universal_depth_bound_uses_the_best_partition(width, block):
    """The most parameters of a stage, over all partitions of the wires into switches."""
    most = [0]
    for wires in range(1, width + 1):
        sizes = range(1, min(block, wires) + 1)
        most.append(max(most[wires - r] + len(list(combinations(range(r), 2))) for r in sizes))
    found = {(r.goal, r.quantity): r.least for r in lower_bounds(width, block=block).rows}
    pairs = width * (width - 1) // 2
    stages = found["universal", "depth"]
    assert stages * most[width] >= pairs
    assert stages == 0 or (stages - 1) * most[width] < pairs


def test_the_universal_depth_bound_counts_remaining_wires():
    """On 5 wires a stage has at most switches of 3 and 2, so 4 parameters: 10 need 3 stages."""
    found = {(r.goal, r.quantity): r.least for r in lower_bounds(5, block=3).rows}
    assert found["universal", "depth"] == 3


@given(st.integers(1, 3000))
def test_closed_forms_are_rounded_up_exactly(width):
    odd = [prime for prime in prime_factors(width) if prime > 2]
    entropy = least(width, "mixing", "parameters")
    rest = entropy - sum(comb(prime, 2) for prime in odd)  # what 2×2 switches have to add
    needed = Fraction(width**width, prod(prime**prime for prime in odd))
    assert 4**rest >= needed
    assert rest == 0 or 4 ** (rest - 1) < needed


@given(st.integers(1, 3000), st.integers(2, 20))
def test_the_dense_depth_bound_follows_the_smallest_switch(width, block):
    """With s wires in the smallest switch of the first stage, s·b^(m−1) outputs are reached."""
    found = {(r.goal, r.quantity): r.least for r in lower_bounds(width, block=block).rows}
    depth = found["dense", "depth"]
    smallest = max(s for s in range(1, width + 1) if width >= s * -(-width // block))
    assert depth == 0 if width == 1 else smallest * block ** (depth - 1) >= width
    assert depth < 2 or smallest * block ** (depth - 2) < width
    assert block**depth >= width


@pytest.mark.parametrize("width", range(2, 7))
@pytest.mark.parametrize("block", [2, 3, 4])
def test_no_network_is_dense_in_fewer_stages(width, block):
    """Compare with all networks, by the sets of reachability matrices after each stage."""
    stages = {layer.tobytes(): layer for layer in layers(width, min(block, width)).astype(bool)}
    bound = lower_bounds(width, block=block).rows[0].least
    reached = {np.eye(width, dtype=bool).tobytes()}
    for _ in range(bound - 1):
        reached = {
            (stage.astype(int) @ np.frombuffer(one, dtype=bool).reshape(width, width) > 0).tobytes()
            for stage in stages.values()
            for one in reached
        }
        assert np.ones((width, width), dtype=bool).tobytes() not in reached
        if len(reached) * len(stages) > 20_000:
            return


def test_perfect_mixing_needs_a_radix_for_each_prime():
    assert mixing_depth_bound(18, 4) == sm.mixed_radix(18).depth
    assert mixing_obstacle(18, 3) is None
    with pytest.raises(StructmatError, match="mixes 10 wires perfectly: the prime factor 5 d"):
        mixing_depth_bound(10, 4)
    for width in range(2, 200):
        net = sm.mixed_radix(width)
        largest = max(bank.radix for bank in net.banks)
        assert mixing_obstacle(width, largest) is None
        assert mixing_obstacle(width, largest - 1)
        assert mixing_depth_bound(width, largest) <= net.depth
        assert least(net, "mixing", "parameters") <= net.parameters


@given(st.integers(1, 200).map(lambda k: 2 * k), st.integers(1, 12))
def test_edges_are_rounded_up_exactly(width, depth):
    pairs = [[i, i + 1] for i in range(0, width, 2)]
    found = least(sm.Network.of(width, [pairs]).repeat(depth), "dense", "nonzeros")
    assert found == pytest.approx(depth * width ** (1 + 1 / depth), rel=1e-12, abs=1)
    assert found**depth >= (depth * width) ** depth * width > (found - 1) ** depth


def test_the_bound_on_edges_is_given_only_where_proved():
    idle = sm.Network.of(4, [[[0, 1]], [[1, 2]], [[2, 3]], [[0, 1]]])
    assert least(idle, "dense", "nonzeros") is None
    assert least(idle[:3], "dense", "nonzeros") == 20
    assert least(idle[:2], "dense", "nonzeros") == 16
    assert least(idle[:0], "dense", "nonzeros") is None


def test_four_stages_of_unequal_switches_have_fewer_edges():
    pairs = [[i, i + 1] for i in range(0, 18, 2)]
    near = [[i, i + 2, i + 4] for i in range(0, 18, 6)]
    far = [[i, i + 6, i + 12] for i in range(0, 6, 2)]
    net = sm.Network.of(18, [pairs, near, far, pairs])
    assert sm.is_dense(net)
    assert net.nonzeros < 4 * 18 * 18 ** (1 / 4)
    assert least(net, "dense", "nonzeros") is None


def test_lower_bounds_have_text_and_json():
    text = str(lower_bounds(sm.butterfly(1024)))
    assert " ".join(text.splitlines()[0].split()) == ("goal quantity bound network excess reason")
    assert "universal  parameters  523,776    5,120  -518,656  SO(1024)" in text
    own = lower_bounds(sm.butterfly(16))
    assert own.to_dict()["rows"][1]["excess"] == 4
    assert "<td>32</td><td>4</td>" in own._repr_html_()
    bounds = lower_bounds(96, block=4)
    html = bounds._repr_html_()
    assert html.count("<tr>") == 1 + len(bounds.rows)
    assert "network" not in html
    assert "excess" not in html
    data = json.loads(json.dumps(bounds.to_dict()))
    assert (data["width"], data["block"]) == (96, 4)
    assert data["rows"][0] == {
        "goal": "dense",
        "quantity": "depth",
        "least": 4,
        "value": None,
        "reason": "an output depends on at most 4^m inputs",
        "excess": None,
    }


@pytest.mark.parametrize(
    ("width", "block", "message"),
    [
        (0, 2, "width=0"),
        (8.0, 2, "width=8.0"),
        ("benes", 2, "lower_bounds of 'benes': it takes a network"),
        (8, 1, "block=1: block must be an integer ≥ 2"),
        pytest.param(
            10**5000,
            2,
            r"^a width of 16,610 bits: bounds are computed up to a width of 10\^100",
            id="too long to print",
        ),
    ],
)
def test_lower_bounds_rejects_invalid_arguments(width, block, message):
    with pytest.raises(StructmatError, match=message):
        lower_bounds(width, block=block)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 1000])
def test_the_bound_on_nonzeros_agrees_in_decimal_and_integer_arithmetic(width):
    for depth in [*range(1, 40), 200]:
        least = limits._edges(width, depth)
        bound = (depth * width) ** depth * width
        assert (least - 1) ** depth < bound <= least**depth
    assert limits._edges(width, 10**9) >= 10**9 * width  # without a power of a billion digits


# Unitary blocks --------------------------------------------------------------------------------


@given(networks(max_width=6, screens=True), st.integers(1, 4))
def test_no_unitary_network_reaches_a_goal_below_its_bounds(net, times):
    many = net.repeat(times)
    reached = {
        "dense": bool((sm.path_counts(many) > 0).all()),
        "mixing": mixes(many),
        "universal": sm.dimension(many, field="complex").value == many.width**2,
    }
    has = {
        "depth": many.depth,
        "nonzeros": many.nonzeros,
        "parameters": sum(b.count * b.radix**2 for b in many.banks),
    }
    for row in lower_bounds(many, field="complex").rows:
        assert row.value == has[row.quantity]
        assert row.excess >= 0 or not reached[row.goal], row


def test_unitary_bounds_that_are_met():
    def least(net):
        rows = lower_bounds(net, field="complex").rows
        return {(row.goal, row.quantity): row.excess for row in rows}

    for width in (3, 9, 27):
        assert least(sm.mixed_radix(width))["mixing", "parameters"] == 0
    for width in (2, 6, 9):
        assert least(sm.brickwall(width))["universal", "parameters"] == 0
    assert least(sm.block_diagonal(7, 7))["universal", "parameters"] == 0
    assert least(sm.block_diagonal(3, 3))["dense", "parameters"] == 0
    assert least(sm.Network.of(1, [[[0]]]))["universal", "parameters"] == 0
    assert lower_bounds(8, field="complex").to_dict()["field"] == "complex"
