"""Gossip networks against known results: minimum rounds, minimum calls."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError


def calls_of(net):
    """Return the calls in order; each switch must be one of two wires."""
    assert {bank.radix for bank in net.banks} == {2}
    return [tuple(row) for bank in net.banks for row in bank.reads.tolist()]


def everyone_knows_all(width, calls):
    """Simulate the gossip protocol with sets, one call at a time."""
    known = [{i} for i in range(width)]
    for i, j in calls:
        known[i] = known[j] = known[i] | known[j]
    return all(len(k) == width for k in known)


@pytest.mark.parametrize("width", range(2, 513, 2))
def test_knodel_is_dense_at_the_minimum_depth(width):
    net = sm.families.knodel(width)
    least = next(m for m in range(1, 99) if 2**m >= width)
    assert net.depth == least
    assert net.parameters == least * width // 2
    assert sm.is_dense(net)
    assert least == 1 or not sm.is_dense(net[:-1])


@given(st.integers(1, 40), st.integers(1, 12))
def test_knodel_stages_are_the_dimensions_in_turn(half, depth):
    """Vertices (1, j) and (2, j), as the graph is defined, here wires 2j and 2j + 1."""
    width = 2 * half
    net = sm.families.knodel(width, depth)
    assert net.depth == depth
    for t, stage in enumerate(net.stages):
        k = t % math.floor(math.log2(width))
        edges = {((1, j), (2, (j + 2**k - 1) % half)) for j in range(half)}
        numbered = {tuple(sorted(2 * j + side - 1 for side, j in edge)) for edge in edges}
        assert {tuple(sorted(row)) for row in stage.banks[0].reads.tolist()} == numbered


def test_knodel_graphs_on_6_and_8_nodes_are_a_cycle_and_the_cube():
    assert nx.is_isomorphic(nx.Graph(calls_of(sm.families.knodel(6, depth=2))), nx.cycle_graph(6))
    assert nx.is_isomorphic(nx.Graph(calls_of(sm.families.knodel(8))), nx.hypercube_graph(3))


@pytest.mark.parametrize("width", [*range(2, 301), 384, 768, 1000])
def test_gossip_is_dense_with_the_fewest_calls(width):
    net = sm.gossip(width)
    calls = calls_of(net)
    assert everyone_knows_all(width, calls)
    assert len(calls) == net.parameters == {2: 1, 3: 3}.get(width, 2 * width - 4)
    assert net.depth <= 2 * math.ceil(math.log2(width))


@pytest.mark.parametrize("width", range(5, 60))
def test_every_call_of_gossip_is_necessary(width):
    """The number of calls is minimal, so omitting any call makes the protocol incomplete."""
    calls = calls_of(sm.gossip(width))
    for missing in range(0, len(calls), max(1, len(calls) // 15)):
        assert not everyone_knows_all(width, calls[:missing] + calls[missing + 1 :])


@pytest.mark.parametrize(("width", "fewest"), [(2, 1), (3, 3), (4, 4)])
def test_no_protocol_has_fewer_calls(width, fewest):
    pairs = list(itertools.combinations(range(width), 2))
    orders = itertools.product(pairs, repeat=fewest - 1)
    assert not any(everyone_knows_all(width, calls) for calls in orders)


def test_gossip_supports_the_widths_of_models():
    """All wires reach a hub before the cycle of the hubs, which reach all wires after it."""
    net = sm.gossip(50257)
    half = net.depth // 2
    assert net.parameters == 2 * 50257 - 4
    assert calls_of(net[half - 1 : half + 1]) == [(0, 1), (2, 3), (0, 2), (1, 3)]
    count = np.ones(net.width, dtype=np.int64)
    for stage in net[: half - 1].stages:
        i, j = stage.banks[0].reads.T
        count[i] += count[j]
    assert count[:4].sum() == net.width
    informed = np.arange(net.width) < 4
    for stage in net[half + 1 :].stages:
        i, j = stage.banks[0].reads.T
        assert informed[i].all()
        informed[j] = True
    assert informed.all()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: sm.families.knodel(7), WidthError, "width must be even; nearest are 6 and 8"),
        (
            lambda: sm.families.knodel(8, depth=0),
            StructmatError,
            "depth=0: depth must be an integer",
        ),
        (lambda: sm.gossip(1), WidthError, "width must be at least 2; nearest is 2"),
    ],
)
def test_invalid_widths_and_depths_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
