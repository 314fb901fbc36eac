"""Shuffles, dealt hands and Kautz digraphs against the minimum depth for their blocks."""

import tracemalloc

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError


def least_depth(width, block):
    """Return the lower bound on the depth: a stage multiplies the number of inputs by at most b."""
    return next(m for m in range(1, 99) if block**m >= width)


# Shuffle --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(2, 14))
def test_shuffle_is_dense_at_the_minimum_depth_for_every_width(block):
    for width in range(block, 209, block):
        net = sm.shuffle(width, block)
        least = least_depth(width, block)
        assert net.depth == least
        assert sm.is_dense(net)
        assert least == 1 or not sm.is_dense(net[:-1])
        assert net.parameters == least * width * (block - 1) // 2


@given(st.integers(2, 8), st.integers(1, 12), st.integers(1, 4))
def test_shuffle_is_gsoft_straightened(block, hands, depth):
    """Alternating diagonal blocks and i → (i mod r)·b + ⌊i/r⌋, as a wired network."""
    width = block * hands
    wires = np.arange(width).reshape(-1, block)
    to = np.array([(i % hands) * block + i // hands for i in range(width)])
    stage = sm.Stage(width, [sm.Bank(wires, to[wires])])
    assert sm.shuffle(width, block, depth) == sm.Network(width, [stage] * depth).straightened()[0]


# Deal -----------------------------------------------------------------------------------------


def by_hand(width, block, depth):
    """Deal wires one at a time, as people do; return the hands of each stage, as sets."""
    hands = -(-width // block)
    sizes = sorted(len(range(hand, width, hands)) for hand in range(hands))
    pile = list(range(width))
    stages = []
    for deal_number in range(depth):
        rest = list(pile)
        stages.append([[rest.pop(0) for _ in range(size)] for size in sizes])
        sizes.reverse()
        dealt = [[] for _ in range(hands)]
        for place, wire in enumerate(reversed(pile) if deal_number % 2 else pile):
            dealt[place % hands].append(wire)
        pile = [wire for hand in dealt for wire in hand]
        if deal_number % 2:
            pile.reverse()
    return [{frozenset(hand) for hand in stage if len(hand) > 1} for stage in stages]


@given(st.integers(2, 60), st.data())
def test_deal_agrees_with_dealing_cards(width, data):
    block = data.draw(st.integers(2, width))
    depth = data.draw(st.integers(1, 5))
    net = sm.families.deal(width, block, depth)
    assert net.depth == depth
    assert net.is_straight
    assert [
        {frozenset(row) for bank in stage.banks for row in bank.reads.tolist()}
        for stage in net.stages
    ] == by_hand(width, block, depth)
    sizes = {bank.radix for stage in net.stages for bank in stage.banks}
    assert max(sizes) <= block
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("block", [*range(2, 9), 12, 16, 21])
def test_deal_is_dense_at_most_one_stage_above_the_bound(block):
    """The depth that the family computes from hands agrees with a computation by wires."""
    for width in range(block, 150):
        net = sm.families.deal(width, block)
        least = least_depth(width, block)
        assert sm.dense_depth(f"deal(block={block})", width, most=least + 2) == net.depth
        assert net.depth in (least, least + 1)
        if width % block == 0:
            assert net.depth == least
            assert net == sm.shuffle(width, block)
        elif block == 2:
            assert net.depth == least + 1


def test_deal_claims_at_most_one_stage_above_the_bound():
    for width in range(2, 141):
        for block in range(2, width + 1):
            promised = sm.parse(f"deal(block={block})").claims(width)
            assert promised.depth - least_depth(width, block) in (0, 1)


def test_claims_of_deal_use_memory_linear_in_the_width():
    width = 100_000
    tracemalloc.start()
    try:
        promised = sm.parse("deal(block=2)").claims(width)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert promised.dense_at == least_depth(width, 2)
    assert peak < 1_000 * width


def test_deal_supports_the_widths_of_models():
    assert sm.is_dense(sm.families.deal(11008, 16))
    for width in (11008, 28672, 50257, 151_936):
        net = sm.families.deal(width, 16)
        assert net.depth <= least_depth(width, 16) + 1
        assert net.parameters == sm.parse("deal(block=16)").claims(width).parameters


# Kautz ----------------------------------------------------------------------------------------


def successors(width, block):
    """Return the adjacency matrix of Imase and Itoh's digraph: [j, i] where i leads to j."""
    follows = np.zeros((width, width), dtype=np.int64)
    for i in range(width):
        for a in range(1, block + 1):
            follows[(-block * i - a) % width, i] += 1
    return follows


@pytest.mark.parametrize("block", range(2, 7))
def test_kautz_counts_the_walks_of_the_digraph(block):
    """The path counts are walk counts, up to a relabelling of the outputs."""
    for width in range(block, 61, block):
        walks = np.eye(width, dtype=np.int64)
        for depth in range(1, 5):
            walks = successors(width, block) @ walks
            net = sm.families.kautz(width, block, depth)
            assert sorted(map(tuple, sm.path_counts(net))) == sorted(map(tuple, walks))


@pytest.mark.parametrize(("block", "length"), [(2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2)])
def test_kautz_at_kautz_widths_is_the_kautz_digraph(block, length):
    """The iterated line digraph of the complete digraph on b + 1 nodes, and one stage deeper."""
    graph = nx.complete_graph(block + 1, create_using=nx.DiGraph)
    for _ in range(length - 1):
        graph = nx.convert_node_labels_to_integers(nx.line_graph(graph))
    width = (block + 1) * block ** (length - 1)
    ours = nx.from_numpy_array(successors(width, block).T, create_using=nx.DiGraph)
    assert nx.is_isomorphic(ours, graph)
    assert sm.families.kautz(width, block).depth == length + 1


@pytest.mark.parametrize("block", range(2, 10))
def test_kautz_is_dense_at_the_minimum_depth(block):
    for width in range(block, 151, block):
        net = sm.families.kautz(width, block)
        assert net.depth == least_depth(width, block)
        assert sm.is_dense(net)


@given(st.integers(2, 8), st.integers(1, 12), st.integers(1, 5))
def test_kautz_is_the_relabelled_shuffle(block, hands, depth):
    width = block * hands
    names = np.arange(width).reshape(block, hands).T.ravel()  # of wire i of the shuffle
    renamed = sm.shuffle(width, block, depth).relabel(names)
    for ours, theirs in zip(
        sm.families.kautz(width, block, depth).stages, renamed.stages, strict=True
    ):
        switches = [{frozenset(row) for row in s.banks[0].reads.tolist()} for s in (ours, theirs)]
        assert switches[0] == switches[1]


# Invalid input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: sm.families.deal(7, 8),
            WidthError,
            r"at least 8, the block; nearest is 8\. mixed_radix",
        ),
        (
            lambda: sm.families.deal(7, 1),
            StructmatError,
            "block=1: block must be an integer ≥ 2",
        ),
        (lambda: sm.families.deal(7, 2, depth=0), StructmatError, "depth=0"),
        (
            lambda: sm.families.kautz(7, 2),
            WidthError,
            "must be a multiple of 2; nearest are 6 and 8",
        ),
        (lambda: sm.families.kautz(8, 2, depth=0), StructmatError, "depth=0"),
    ],
)
def test_invalid_arguments_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
