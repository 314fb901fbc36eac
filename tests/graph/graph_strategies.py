"""Strategies for graphs, and the switches made from them."""

from itertools import combinations

import networkx as nx
from hypothesis import strategies as st

import structmat as sm


def pairs(nodes: int) -> list[tuple[int, int]]:
    return list(combinations(range(nodes), 2))


@st.composite
def graphs(draw, most=12):
    """Draw any simple graph."""
    nodes = draw(st.integers(1, most))
    graph = nx.empty_graph(nodes)
    if nodes > 1:
        graph.add_edges_from(draw(st.lists(st.sampled_from(pairs(nodes)), unique=True)))
    return graph


@st.composite
def dense_graphs(draw, most=10):
    """Draw a complete graph less a few edges: there colourings are hard to extend."""
    graph = nx.complete_graph(draw(st.integers(2, most)))
    graph.remove_edges_from(draw(st.lists(st.sampled_from(pairs(len(graph))), max_size=6)))
    return graph


@st.composite
def bipartite_graphs(draw):
    left, right = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    graph = nx.empty_graph(left + right)
    every = [(i, left + j) for i in range(left) for j in range(right)]
    graph.add_edges_from(draw(st.lists(st.sampled_from(every), unique=True)))
    places = draw(st.permutations(range(left + right)))
    return nx.relabel_nodes(graph, dict(enumerate(places)))


def switches(net: sm.Network) -> list[list[tuple[int, ...]]]:
    """The switches of each stage."""
    return [[tuple(row) for bank in stage.banks for row in bank.reads.tolist()] for stage in net]
