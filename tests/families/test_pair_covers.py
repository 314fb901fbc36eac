"""Networks in which all pairs of wires meet in few stages."""

from math import comb

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.families.number_theory import prime_factors
from structmat.families.pair_covers import least_rounds, pair_cover


def meetings(net):
    """Return the graph whose edges are the pairs of wires that share a switch."""
    graph = nx.empty_graph(net.width)
    for stage in net.stages:
        for bank in stage.banks:
            for wires in bank.reads.tolist():
                graph.add_edges_from(nx.complete_graph(wires).edges)
    return graph


def is_complete(graph):
    return nx.density(graph) == 1


@given(st.integers(2, 60).flatmap(lambda d: st.tuples(st.just(d), st.integers(2, d))))
def test_all_pairs_meet_in_stages_of_equal_shape(case):
    width, block = case
    net = pair_cover(width, block)
    assert is_complete(meetings(net))
    assert net.depth >= least_rounds(width, block)
    assert len({tuple((b.count, b.radix) for b in stage.banks) for stage in net.stages}) == 1
    for stage in net.stages:
        wires = [wire for bank in stage.banks for row in bank.reads.tolist() for wire in row]
        assert len(wires) == len(set(wires)) >= width - 1
        assert max(bank.radix for bank in stage.banks) <= block
    if block % 2 == 0 and width % block == 0:
        assert net.depth <= 2 * width // block - 1


@pytest.mark.parametrize("prime", [2, 3, 5, 7])
def test_powers_of_one_prime_attain_the_lower_bound(prime):
    powers = [prime**k for k in range(1, 9) if prime**k <= 256]
    for block in powers:
        for width in (d for d in powers if d >= block):
            net = pair_cover(width, block)
            assert net.depth == least_rounds(width, block) == -(-(width - 1) // (block - 1))
            assert is_complete(meetings(net)), net


@pytest.mark.parametrize(
    ("width", "block", "depth"), [(768, 16, 81), (160, 8, 29), (96, 8, 21), (7, 2, 7), (15, 3, 12)]
)
def test_other_sizes_take_a_known_number_of_stages(width, block, depth):
    assert pair_cover(width, block).depth == depth


@pytest.mark.parametrize(("width", "block"), [(16, 8), (27, 9), (24, 4), (10, 4)])
def test_the_network_has_the_dimension_of_all_rotations(width, block):
    assert sm.dimension(pair_cover(width, block), largest=0).lower == comb(width, 2)


@given(st.integers(2, 200), st.integers(2, 20))
def test_the_lower_bound_counts_meetings_of_a_wire_and_of_all_wires(width, block):
    bound = least_rounds(width, block)
    assert bound * (block - 1) >= width - 1
    if block == 2:
        assert bound == width - 1 + width % 2  # rounds of a tournament
    if width % block == 0 and len(set(prime_factors(width))) == 1:
        assert bound == -(-(width - 1) // (block - 1))


def test_sizes_without_a_network_are_refused():
    with pytest.raises(WidthError, match=r"pair_cover\(width=3, block=4\): width must be at least"):
        pair_cover(3, 4)
    with pytest.raises(StructmatError, match="block must be an integer ≥ 2"):
        pair_cover(8, 1)
