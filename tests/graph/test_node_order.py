"""The order of nodes depends on the nodes, not on their insertion."""

import fractions
import os
import subprocess
import sys

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.graph.node_order import in_order

atoms = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.fractions(),
    st.text(max_size=2),
    st.binary(max_size=2),
    st.complex_numbers(allow_nan=False),
    st.none(),
)
names = st.recursive(
    atoms,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)


@given(st.sets(names, min_size=1, max_size=6), st.data())
def test_the_order_does_not_depend_on_the_input_order(nodes, data):
    nans = [node for node in nodes if "nan" in repr(node)]
    given_order = [node for node in nodes if node not in nans]  # two NaNs cannot be told apart
    other = data.draw(st.permutations(given_order))
    assert in_order(other) == in_order(given_order)
    assert sorted(map(repr, in_order(other))) == sorted(map(repr, given_order))


@pytest.mark.parametrize(
    "ordered",
    [
        [1, 5, 30],
        ["a", "b", "ba"],
        [(0, 1), (0, 2), (1, 0)],
        [fractions.Fraction(1, 3), 0.5, 2, "1", "a", (0, 3), (0, "a"), frozenset("z"), 1j, 2j],
        [frozenset(), frozenset("a"), frozenset("ab"), frozenset("b")],
        [-float("inf"), 0, float("inf"), "x", float("nan")],
    ],
)
def test_nodes_are_ordered_by_value_or_else_by_type(ordered):
    assert in_order(ordered[::-1]) == ordered
    assert in_order(ordered[1::2] + ordered[::2]) == ordered


class Bare:
    """A node without a repr of its own."""


class Named:
    """A node whose repr is its name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"Named({self.name!r})"


def test_objects_are_ordered_by_their_repr():
    nodes = [Named(name) for name in "cab"]
    assert [node.name for node in in_order(nodes)] == ["a", "b", "c"]
    assert [node.name for node in in_order(nodes[::-1])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "nodes",
    [[Bare(), Bare(), Bare()], [(1, Bare()), (1, Bare())], [Named("a"), Named("a")]],
    ids=["addresses", "addresses within", "alike"],
)
def test_insertion_order_is_the_last_resort(nodes):
    assert in_order(nodes) == nodes
    assert in_order(nodes[::-1]) == nodes[::-1]
    named = [2, Named("b"), "x", Named("c"), (0, 1)]
    lasting = [2, "x", (0, 1), named[1], named[3]]
    for mixed in (nodes + named, named + nodes, named[:2] + nodes + named[2:]):
        assert in_order(mixed) == lasting + nodes


def test_equal_graphs_of_mixed_nodes_give_equal_networks():
    nodes = [3, "a", (1, "b"), frozenset("xyz"), frozenset("wxy"), 1.5, "b"]
    edges = [(nodes[i], nodes[(i + 3) % 7]) for i in range(7)]
    one, other = nx.Graph(edges), nx.Graph()
    other.add_nodes_from(nodes[::-1])
    other.add_edges_from((b, a) for a, b in edges[::-1])
    assert sm.from_graph(one) == sm.from_graph(other)
    assert sm.from_graph(one).labels == sm.from_graph(other).labels == tuple(in_order(nodes))


def test_sets_of_strings_keep_their_order_from_run_to_run():
    """The order within a frozenset of strings depends on the hash seed."""
    program = (
        "from structmat.graph.node_order import in_order;"
        "print([sorted(node) for node in in_order({frozenset('abc'), frozenset('bd'), 'a'})])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {"[['a'], ['a', 'b', 'c'], ['b', 'd']]\n"}
