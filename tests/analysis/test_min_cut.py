"""Rank bounds by cuts, against networkx on the grid graph and exact ranks modulo a prime."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.min_cut import cut, rank_bounds
from structmat.errors import WiringError
from structmat.linalg import modular
from structmat.linalg.modular import MERSENNE
from structmat.testing import networks, seeds


@st.composite
def cases(draw, **options):
    """Draw a network, some of its outputs and some of its inputs, in any order."""
    net = draw(networks(**options))
    wires = st.lists(st.integers(0, net.width - 1), unique=True)
    return net, draw(wires), draw(wires)


def separated(net, outputs, inputs, removed):
    """Return whether removing these nodes from the grid graph leaves no path."""
    graph = net.to_networkx()
    graph.remove_nodes_from(removed)
    reached = set()
    for j in inputs:
        if (0, j) in graph:
            reached |= nx.descendants(graph, (0, j)) | {(0, j)}
    return not reached & {(net.depth, i) for i in outputs}


@given(cases())
def test_rank_bound_is_the_minimum_vertex_cut(case):
    """Menger: the number of disjoint paths, found by networkx, is the same."""
    net, outputs, inputs = case
    graph = nx.DiGraph()
    graph.add_nodes_from(["from", "to"])
    for node in net.to_networkx().nodes:
        graph.add_edge((node, "in"), (node, "out"), capacity=1)
    for tail, head in net.to_networkx().edges:
        graph.add_edge((tail, "out"), (head, "in"), capacity=1)
    graph.add_edges_from((("from", ((0, j), "in")) for j in inputs), capacity=1)
    graph.add_edges_from(((((net.depth, i), "out"), "to") for i in outputs), capacity=1)
    assert sm.rank_bound(net, outputs, inputs) == nx.maximum_flow_value(graph, "from", "to")


@given(cases(max_width=4, max_depth=2))
def test_no_smaller_set_of_nodes_is_a_cut(case):
    net, outputs, inputs = case
    least = sm.rank_bound(net, outputs, inputs)
    nodes = list(net.to_networkx().nodes)
    for fewer in itertools.combinations(nodes, max(least - 1, 0)):
        assert least == 0 or not separated(net, outputs, inputs, fewer)


@given(cases())
def test_the_cut_separates_and_is_as_small_as_the_bound(case):
    net, outputs, inputs = case
    found = cut(net, outputs, inputs)
    removed = {tuple(node) for node in found.tolist()}
    assert found.shape == (sm.rank_bound(net, outputs, inputs), 2)
    assert len(removed) == len(found)
    assert separated(net, outputs, inputs, removed)


def exact(net, seed, prime=MERSENNE):
    """R modulo a prime, at blocks that are Cayley transforms of random integer matrices."""
    rng = np.random.default_rng(seed)
    rows = np.eye(net.width)
    for stage in net.stages:
        after = rows.copy()
        after[stage.moves[:, 1]] = rows[stage.moves[:, 0]]
        for bank in stage.banks:
            blocks = None
            while blocks is None:
                size = (bank.count, bank.radix, bank.radix)
                upper = np.triu(rng.integers(1, prime, size), 1).astype(float)
                lower = np.swapaxes(upper, 1, 2)
                blocks = modular.cayley(upper + (prime - lower) * (lower > 0), prime)
            after[bank.writes] = modular.product(blocks, rows[bank.reads], prime)
        rows = after
    return rows


@given(cases(), seeds())
def test_the_rank_for_almost_all_blocks_is_the_bound(case, seed):
    """The rank at random blocks is lower with probability about degree / 2³¹, and never higher."""
    net, outputs, inputs = case
    part = exact(net, seed)[np.ix_(outputs, inputs)]
    assert modular.rank(part, MERSENNE) == sm.rank_bound(net, outputs, inputs)


@given(networks(screens=True))
def test_for_one_input_and_one_output_the_bound_is_reachability(net):
    pairs = list(itertools.product(range(net.width), repeat=2))
    bounds = rank_bounds(net, [([i], [j]) for i, j in pairs])
    assert np.array_equal(bounds.reshape(net.width, -1), sm.reach(net))


@given(cases(), st.data())
def test_the_bound_is_symmetric_and_monotone(case, data):
    net, outputs, inputs = case
    bound = sm.rank_bound(net, outputs, inputs)
    assert bound == sm.rank_bound(net.inverse(), inputs, outputs)
    fewer = data.draw(st.integers(0, len(outputs)))
    assert sm.rank_bound(net, outputs[:fewer], inputs) >= bound - (len(outputs) - fewer)
    assert sm.rank_bound(net, outputs[:fewer], inputs) <= bound <= min(len(outputs), len(inputs))
    assert sm.rank_bound(net, range(net.width), inputs) == len(inputs)


@given(networks(screens=True), st.data())
def test_complementary_bounds_differ_by_the_difference_of_sizes(net, data):
    """For an orthogonal R: rank R[S, T] = |S| + |T| − d + rank R[not S, not T]."""
    d = net.width
    s, t = (data.draw(st.lists(st.booleans(), min_size=d, max_size=d)) for _ in range(2))
    s, t = np.array(s), np.array(t)
    both, neither = rank_bounds(
        net, [(np.flatnonzero(s), np.flatnonzero(t)), (np.flatnonzero(~s), np.flatnonzero(~t))]
    )
    assert both - neither == s.sum() + t.sum() - d


@pytest.mark.parametrize(
    ("outputs", "inputs", "message"),
    [
        ([0, 4], [0], "outputs: wire 4: the network has wires 0 to 3"),
        ([0], [-1], "inputs: wire -1: the network has wires 0 to 3"),
        ([0], [1, 1], "inputs: a wire is repeated; give each wire once"),
        ([[0]], [1], r"outputs of shape \(1, 1\): give a list of wires"),
        (0, [1], r"outputs of shape \(\): give a list of wires"),
        ([0.0], [1], "outputs: wires must be integers"),
    ],
)
def test_rank_bound_rejects_invalid_arguments(outputs, inputs, message):
    with pytest.raises(WiringError, match=message):
        sm.rank_bound(sm.butterfly(4), outputs, inputs)
