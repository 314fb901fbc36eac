"""isomorphism finds an isomorphism exactly if there is one."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import (
    DiGraphMatcher,
    GraphMatcher,
    categorical_node_match,
)

import structmat as sm
from structmat.errors import StructmatError, WiringError
from structmat.linalg import factors as stagewise
from structmat.testing import networks, seeds


def switches(net):
    """The switches of each stage as sets of wires."""
    rows = ([row for bank in stage.banks for row in bank.reads.tolist()] for stage in net)
    return [set(map(frozenset, stage)) for stage in rows]


def assert_isomorphic(a, b):
    places = sm.isomorphism(a, b)
    assert places is not None
    assert switches(a.relabel(places)) == switches(b)


def are_isomorphic(a, b):
    """The oracle: vf2 on the graphs of wires and switches."""

    def drawn(net):
        graph = nx.Graph()
        graph.add_nodes_from(range(net.width), kind="wire")
        for t, stage in enumerate(switches(net)):
            for switch in stage:
                graph.add_node((t, switch), kind=t)
                graph.add_edges_from(((t, switch), wire) for wire in switch)
        return graph

    if (a.width, a.depth) != (b.width, b.depth):
        return False
    return GraphMatcher(drawn(a), drawn(b), categorical_node_match("kind", None)).is_isomorphic()


def shuffled(net, rng):
    """The network with relabelled wires and reordered switches and banks."""
    moved = net.relabel(rng.permutation(net.width))
    stages = []
    for stage in moved:
        banks = []
        for bank in rng.permutation(np.array(stage.banks, dtype=object)):
            permuted = rng.permutation(bank.radix)
            order = rng.permutation(bank.count)
            banks.append(sm.Bank(bank.reads[order][:, permuted], bank.writes[order][:, permuted]))
        stages.append(sm.Stage(net.width, banks, stage.moves))
    return sm.Network(net.width, stages)


@st.composite
def matchings(draw):
    """Draw two regular networks of pairs, which refinement alone does not distinguish."""
    width = draw(st.sampled_from([4, 6, 8]))
    depth = draw(st.integers(1, 3))
    wires = st.permutations(range(width))
    nets = [[draw(wires) for _ in range(depth)] for _ in range(2)]
    return tuple(
        sm.Network.of(width, [[w[i : i + 2] for i in range(0, width, 2)] for w in net])
        for net in nets
    )


@given(networks(max_width=10), seeds())
def test_relabelled_networks_are_isomorphic(net, seed):
    straight = net.straightened().network
    assert_isomorphic(straight, shuffled(straight, np.random.default_rng(seed)))


@given(st.one_of(matchings(), st.tuples(*[networks(max_width=5, max_depth=2, wired=False)] * 2)))
@settings(max_examples=200)
def test_the_result_agrees_with_vf2(pair):
    a, b = pair
    assert (sm.isomorphism(a, b) is not None) == are_isomorphic(a, b)
    if are_isomorphic(a, b):
        assert_isomorphic(a, b)


def cycle(length):
    """An even cycle, with its edges in two alternating stages."""
    edges = [[i, (i + 1) % length] for i in range(length)]
    return sm.Network.of(length, [edges[::2], edges[1::2]])


def direct_sum(*nets):
    return nets[0] if len(nets) == 1 else direct_sum(nets[0].direct_sum(nets[1]), *nets[2:])


@pytest.mark.parametrize(
    ("one", "other"),
    [([8], [4, 4]), ([12], [4, 8]), ([6, 6], [12]), ([4, 12], [8, 8]), ([4] * 50 + [16], [8] * 27)],
)
def test_different_cycles_are_distinguished_beyond_refinement(one, other):
    a, b = (direct_sum(*map(cycle, lengths)) for lengths in (one, other))
    assert a.width == b.width
    assert sm.isomorphism(a, b) is None
    assert_isomorphic(a, a)
    assert_isomorphic(b, b)
    hub = list(range(a.width))  # connected, so that no part can be matched before all are
    joined = [sm.Network(a.width, [*net, *sm.Network.of(a.width, [[hub]])]) for net in (a, b)]
    assert sm.isomorphism(*joined) is None
    assert_isomorphic(joined[0], joined[0])


def chorded(chords):
    """An octagon in two stages and chords as the third: to refinement all wires are alike."""
    return sm.Network(8, [*cycle(8), *sm.Network.of(8, [chords])])


def test_components_are_distinguished_one_by_one():
    """Copies of two networks that refinement does not distinguish, in various numbers.

    A search over all ways to match the copies would take 20! steps, also where a switch that
    holds all wires connects them.
    """
    copies = [
        chorded([[0, 4], [1, 5], [2, 6], [3, 7]]),
        chorded([[0, 3], [1, 2], [4, 7], [5, 6]]),
    ]
    assert sm.isomorphism(*copies) is None
    hub = sm.Network.of(160, [[range(160)]])
    one, same, other = (
        direct_sum(*copies * 10),
        direct_sum(*copies[::-1] * 10),
        direct_sum(*copies * 9, copies[0], copies[0]),
    )
    for joined in (sm.Network(160), hub):
        assert_isomorphic(one.then(joined), same.then(joined))
        assert sm.isomorphism(one.then(joined), other.then(joined)) is None


@given(seeds(), st.integers(6, 20))
@settings(max_examples=50)
def test_networks_with_few_symmetries_are_found(seed, pairs):
    rng = np.random.default_rng(seed)
    net = sm.random(2 * pairs, 2, 3, rng=rng)  # every wire looks the same until one is chosen
    assert_isomorphic(net, shuffled(net, rng))


def test_the_order_of_the_stages_counts():
    assert sm.isomorphism(sm.mixed_radix(6, (2, 3)), sm.mixed_radix(6, (3, 2))) is None
    assert_isomorphic(sm.mixed_radix(6, (2, 3)), sm.mixed_radix(6, (3, 2), reverse=True))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (sm.Network(3), sm.Network(4)),
        (sm.Network(3), sm.Network(3, [sm.Stage(3)])),
        (sm.Network.of(4, [[[0, 1], [2, 3]]]), sm.Network.of(4, [[[0, 1]]])),
        (sm.Network.of(4, [[[0, 1], [2, 3]]]), sm.Network.of(4, [[[0, 1, 2, 3]]])),
        (sm.random(256, 8, 3, rng=0), sm.random(256, 8, 3, rng=1)),
    ],
    ids=["width", "depth", "idle", "radix", "random"],
)
def test_different_networks_are_not_isomorphic(a, b):
    assert sm.isomorphism(a, b) is None


@pytest.mark.parametrize("width", [1, 2, 5])
def test_equal_networks_without_switches_are_isomorphic(width):
    assert_isomorphic(sm.Network(width), sm.Network(width))
    assert_isomorphic(sm.Network(width, [sm.Stage(width)]), sm.Network(width, [sm.Stage(width)]))


SYMMETRIC = "butterfly", "butterfly(block=8)", "butterfly(depth=3)", "monarch", "shuffle(block=8)"


@pytest.mark.parametrize("spec", [*SYMMETRIC, "benes"])
def test_isomorphisms_of_wide_symmetric_networks_are_found(spec):
    net = sm.parse(spec)(512).straightened().network
    assert_isomorphic(net, shuffled(net, np.random.default_rng(0)))


def test_the_reverse_butterfly_of_4096_wires_is_isomorphic_to_the_butterfly():
    assert_isomorphic(sm.butterfly(4096), sm.mixed_radix(4096, reverse=True))


# Isomorphism up to the ends -------------------------------------------------------------------


def scrambled(net, rng):
    """The network with wires relabelled in every column and reordered in its switches."""
    columns = [rng.permutation(net.width) for _ in range(net.depth + 1)]
    stages = []
    for stage, before, after in zip(net, columns, columns[1:], strict=False):
        moved = stage.rewired(before, after)
        banks = [
            sm.Bank(
                rng.permuted(bank.reads[order := rng.permutation(bank.count)], axis=1),
                rng.permuted(bank.writes[order], axis=1),
            )
            for bank in moved.banks
        ]
        stages.append(sm.Stage(net.width, banks, moved.moves))
    return sm.Network(net.width, stages)


def columns_by_vf2(a, b, ends=None):
    """The oracle: vf2 on the grid graphs, with a relabelling for every column."""

    def drawn(net, names):
        graph = net.to_networkx()
        for t, wire in graph:
            pinned = names is not None and t in (0, net.depth)
            graph.nodes[t, wire]["place"] = (t, int(names[t > 0][wire]) if pinned else None)
        return graph

    if (a.width, a.depth) != (b.width, b.depth):
        return None
    graphs = drawn(a, ends), drawn(b, None if ends is None else [range(b.width)] * 2)
    matcher = DiGraphMatcher(*graphs, categorical_node_match("place", None))
    if not matcher.is_isomorphic():
        return None
    return [
        np.array([matcher.mapping[t, wire][1] for wire in range(a.width)])
        for t in range(a.depth + 1)
    ]


def carried(a, b, columns, blocks):
    """The blocks of `b` that correspond to `blocks` of `a` under the relabelling."""
    factors = stagewise.factors(a, blocks)
    made = []
    for t, stage in enumerate(b):
        before, after = (np.argsort(columns[t + k]) for k in range(2))
        factor = factors[t].toarray()
        for bank in stage.banks:
            rows, cells = after[bank.writes][:, :, None], before[bank.reads][:, None, :]
            made.append(factor[rows, cells])
    return made


def assert_same_up_to_ends(a, b, seed=0):
    """Assert that `b` equals `a` up to a relabelling of inputs and outputs."""
    found = sm.isomorphism(a, b, ends=True)
    assert found is not None
    columns = columns_by_vf2(a, b, found)
    assert columns is not None
    blocks = sm.random_blocks(a, seed, special=False)
    theirs = carried(a, b, columns, blocks)
    matrix = stagewise.matrix_of(b, theirs)[np.ix_(found.outputs, found.inputs)]
    atol = np.finfo(float).eps * a.width * (a.depth + 1)
    np.testing.assert_allclose(matrix, stagewise.matrix_of(a, blocks), rtol=0, atol=atol)


@given(networks(max_width=6, max_depth=3), seeds())
def test_networks_scrambled_in_every_column_are_found(net, seed):
    assert_same_up_to_ends(net, scrambled(net, np.random.default_rng(seed)), seed)


def test_the_order_in_which_a_switch_lists_its_wires_does_not_matter():
    stages = [([[0, 1]], None), ([[1, 2]], [[2, 1]]), ([[2, 3]], None)]
    net = sm.Network(4, [sm.Stage(4, [sm.Bank(*rows)]) for rows in stages])
    assert_same_up_to_ends(net, sm.from_layers(net.to_networkx()))


@given(networks(max_width=6, max_depth=3), seeds())
def test_networks_are_isomorphic_up_to_ends_to_their_rebuilt_grid_graphs(net, seed):
    moved = net.relabel(np.random.default_rng(seed).permutation(net.width))
    assert_same_up_to_ends(net, sm.from_layers(moved.to_networkx()), seed)


@given(networks(max_width=6, max_depth=3, wired=True), seeds())
def test_straightening_is_an_isomorphism_up_to_the_ends(net, seed):
    assert_same_up_to_ends(net, net.straightened().network, seed)


@given(st.one_of(matchings(), st.tuples(*[networks(max_width=4, max_depth=3)] * 2)), seeds())
def test_the_result_up_to_the_ends_agrees_with_vf2(pair, seed):
    a, b = pair[0], scrambled(pair[1], np.random.default_rng(seed))
    if columns_by_vf2(a, b) is None:
        assert sm.isomorphism(a, b, ends=True) is None
    else:
        assert_same_up_to_ends(a, b, seed)


@given(networks(max_width=10, wired=False), seeds())
def test_an_isomorphism_of_wires_is_one_up_to_the_ends(net, seed):
    other = shuffled(net, np.random.default_rng(seed))
    assert sm.isomorphism(net, other, ends=True) is not None


def test_networks_may_be_isomorphic_up_to_the_ends_only():
    a, b = (sm.Network.of(3, [[[0, 1]], [[0, 2]], [last]]) for last in ([0, 1], [2, 1]))
    assert sm.isomorphism(a, b) is None
    assert_same_up_to_ends(a, b)  # the middle switch may exchange wires 0 and 2


@pytest.mark.parametrize(
    ("one", "other"),
    [([8], [4, 4]), ([6, 6], [12]), ([4, 12], [8, 8]), ([4] * 50 + [16], [8] * 27)],
)
def test_different_cycles_between_columns_are_distinguished_beyond_refinement(one, other):
    rng = np.random.default_rng(0)
    a, b = (scrambled(direct_sum(*map(cycle, lengths)), rng) for lengths in (one, other))
    assert sm.isomorphism(a, b, ends=True) is None
    assert sm.isomorphism(a, scrambled(a, rng), ends=True) is not None


BANYANS = "omega", "baseline", "mixed_radix(reverse=True)", "shuffle(block=2)"


@pytest.mark.parametrize("spec", BANYANS)
def test_banyans_are_butterflies_up_to_their_ends(spec):
    """The check of T22 on matrices; its own check, on switches, covers many wires."""
    assert_same_up_to_ends(sm.parse(spec)(8), sm.butterfly(8))
    assert sm.isomorphism(sm.parse(spec)(512), sm.butterfly(512), ends=True) is not None


@pytest.mark.parametrize("spec", ["benes", "omega", "monarch", "brickwall(depth=40)", "gossip"])
def test_scrambled_networks_of_many_wires_are_isomorphic_up_to_ends(spec):
    net = sm.parse(spec)(128)
    assert sm.isomorphism(net, scrambled(net, np.random.default_rng(0)), ends=True) is not None


@given(seeds(), st.integers(6, 20))
@settings(max_examples=50)
def test_scrambled_networks_with_few_symmetries_are_found(seed, pairs):
    rng = np.random.default_rng(seed)
    net = sm.random(2 * pairs, 2, 3, rng=rng)
    assert sm.isomorphism(net, scrambled(net, rng), ends=True) is not None


def test_a_wired_network_may_have_no_single_relabelling():
    """Only the grid graph counts, and it does not determine how wires continue."""
    for pair in ((sm.families.omega(8), sm.butterfly(8)), (sm.butterfly(8), sm.families.omega(8))):
        with pytest.raises(WiringError, match=r"is not straight, so .*ends=True.*, or compare"):
            sm.isomorphism(*pair)


@pytest.mark.parametrize("other", [None, "butterfly", np.eye(2)], ids=["none", "spec", "matrix"])
def test_only_networks_are_compared(other):
    for pair in ((other, sm.Network(2)), (sm.Network(2), other)):
        for ends in (False, True):
            with pytest.raises(StructmatError, match=r"(?s)isomorphism of .*: it takes a network"):
                sm.isomorphism(*pair, ends=ends)
