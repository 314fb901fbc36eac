"""Cliques as switches: larger blocks from graphs."""

import functools
import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import GraphError
from structmat.graph.cliques import clique_partition, clique_stages
from tests.graph.graph_strategies import bipartite_graphs, dense_graphs, graphs, switches


def hamming(radices):
    """The graph of the words with these digits, the finest last, which differ in one."""
    return functools.reduce(nx.cartesian_product, map(nx.complete_graph, reversed(radices)))


def flat(word):
    return (*flat(word[0]), word[1]) if isinstance(word, tuple) else (word,)


any_graph = st.one_of(graphs(9), dense_graphs(9), bipartite_graphs())


@given(any_graph)
def test_edges_are_covered_greedily_by_largest_cliques(graph):
    rest = graph.copy()
    for clique in clique_partition(len(graph), graph.edges):
        assert len(clique) == max(map(len, nx.find_cliques(rest)))
        pairs = list(itertools.combinations(clique, 2))
        assert all(rest.has_edge(*pair) for pair in pairs)
        rest.remove_edges_from(pairs)
    assert rest.number_of_edges() == 0


@given(any_graph)
def test_each_clique_is_one_switch_and_each_stage_disjoint(graph):
    net = sm.from_graph(graph, switches="cliques")
    assert net.is_straight
    assert net.width == len(graph)
    assert all(net.stages[t].banks for t in range(net.depth))
    found = sorted(tuple(sorted(switch)) for stage in switches(net) for switch in stage)
    assert found == sorted(clique_partition(len(graph), graph.edges))
    busiest = max(sum(wire in switch for switch in found) for wire in range(net.width))
    conflicts = nx.Graph()
    conflicts.add_nodes_from(found)
    conflicts.add_edges_from(
        pair for pair in itertools.combinations(found, 2) if set(pair[0]) & set(pair[1])
    )
    most = max((degree for _, degree in conflicts.degree), default=-1) + 1
    assert busiest <= net.depth <= most


@given(graphs())
def test_without_triangles_cliques_are_edges(graph):
    if not any(nx.triangles(graph).values()):
        assert sm.from_graph(graph, switches="cliques") == sm.from_graph(graph)


@given(bipartite_graphs())
def test_bipartite_graphs_have_no_larger_cliques(graph):
    assert sm.from_graph(graph, switches="cliques") == sm.from_graph(graph)


@pytest.mark.parametrize(
    "radices",
    [(2, 3), (3, 2), (3, 3), (4, 4, 4), (2, 2, 3), (5, 2, 3), (8, 8), (3, 4, 2, 2), (2, 2, 2, 2)],
)
def test_a_hamming_graph_is_the_mixed_radix_butterfly(radices):
    net = sm.from_graph(hamming(radices), switches="cliques")
    assert net == sm.mixed_radix(int(np.prod(radices)), radices)
    digits = [flat(word)[::-1] for word in net.labels]  # the finest first
    strides = np.cumprod([1, *radices[:-1]])
    assert [int(strides @ word) for word in digits] == list(range(net.width))


def test_a_relabelled_hamming_graph_is_mixed_radix_up_to_relabelling():
    product = hamming((4, 3, 3))
    wire = {word: i for i, word in enumerate(sorted(product))}
    places = np.random.default_rng(0).permutation(36)
    scrambled = nx.relabel_nodes(product, {word: int(places[wire[word]]) for word in product})
    net = sm.from_graph(scrambled, switches="cliques")
    assert net.depth == 3
    order = sorted(range(3), key=lambda t: -net[t].banks[0].radix)  # the 4-cliques come first
    digits = sm.Network(36, [net[t] for t in order])
    assert sm.isomorphism(digits, sm.mixed_radix(36, (4, 3, 3))) is not None


@pytest.mark.parametrize("nodes", [1, 2, 3, 10])
def test_a_complete_graph_is_one_switch(nodes):
    net = sm.from_graph(nx.complete_graph(nodes), switches="cliques")
    assert switches(net) == ([[tuple(range(nodes))]] if nodes > 1 else [])


def test_cliques_that_meet_in_a_node_go_into_different_stages():
    graph = nx.windmill_graph(3, 4)  # three K4 at node 0
    net = sm.from_graph(graph, switches="cliques", repeat=2)
    assert [[bank.radix for bank in stage.banks] for stage in net] == [[4]] * 6


def test_the_line_graph_of_the_petersen_graph_has_a_switch_of_three_for_each_node():
    net = sm.from_graph(nx.line_graph(nx.petersen_graph()), switches="cliques")
    assert [bank.radix for bank in net.banks] == [3] * net.depth
    assert sum(bank.count for bank in net.banks) == 10
    assert net.labels == tuple(sorted(nx.line_graph(nx.petersen_graph())))


def test_large_and_small_cliques_share_a_stage():
    graph = nx.Graph([*itertools.combinations(range(4), 2), (4, 5)])
    [stage] = sm.from_graph(graph, switches="cliques")
    assert [(bank.count, bank.radix) for bank in stage.banks] == [(1, 4), (1, 2)]


def test_the_better_of_two_colouring_rules_is_used():
    # A crown read in its worst order: first fit needs a stage for each pair, saturation two.
    stages = clique_stages(8, [(0, 1), (6, 7), (1, 2), (5, 6), (2, 3), (4, 5), (3, 4), (0, 7)])
    assert len(stages) == 2
    path = [(i, i + 1) for i in range(7)]
    assert len(clique_stages(8, path)) == 2


def test_too_many_cliques_are_refused():
    graph = nx.complete_multipartite_graph(*[3] * 12)  # 3¹² maximal cliques (Moon and Moser)
    with pytest.raises(GraphError, match=r'more than 100594 maximal cliques: .*switches="edges"'):
        sm.from_graph(graph, switches="cliques")
