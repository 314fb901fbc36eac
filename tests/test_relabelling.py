"""isomorphism: found whenever there is one, and only then."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match

import structmat as sm
from structmat.errors import WiringError
from structmat.testing import networks, seeds


def switches(net):
    """The switches of each stage as sets of wires."""
    rows = ([row for bank in stage.banks for row in bank.reads.tolist()] for stage in net)
    return [set(map(frozenset, stage)) for stage in rows]


def assert_isomorphic(a, b):
    places = sm.isomorphism(a, b)
    assert places is not None
    moved = a.straightened().network.relabel(places)
    assert switches(moved) == switches(b.straightened().network)


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
    """The same network with its wires renamed, and switches and banks in another order."""
    moved = net.relabel(rng.permutation(net.width))
    stages = []
    for stage in moved:
        banks = []
        for bank in rng.permutation(np.array(stage.banks, dtype=object)):
            turn = rng.permutation(bank.radix)
            order = rng.permutation(bank.count)
            banks.append(sm.Bank(bank.reads[order][:, turn], bank.writes[order][:, turn]))
        stages.append(sm.Stage(net.width, banks, stage.moves))
    return sm.Network(net.width, stages)


@st.composite
def matchings(draw):
    """Draw two networks of full stages of pairs: regular, so that refinement alone sees nothing."""
    width = draw(st.sampled_from([4, 6, 8]))
    depth = draw(st.integers(1, 3))
    wires = st.permutations(range(width))
    nets = [[draw(wires) for _ in range(depth)] for _ in range(2)]
    return tuple(
        sm.Network.of(width, [[w[i : i + 2] for i in range(0, width, 2)] for w in net])
        for net in nets
    )


@given(networks(max_width=10), seeds())
def test_relabelled_networks_are_found(net, seed):
    straight = net.straightened().network
    assert_isomorphic(straight, shuffled(straight, np.random.default_rng(seed)))


@given(networks(max_width=10, wired=True), seeds())
def test_wired_networks_are_relabelled_as_they_are_straightened(net, seed):
    other = net.relabel(np.random.default_rng(seed).permutation(net.width))
    assert_isomorphic(net, other)
    assert_isomorphic(net, net.straightened().network)


@given(st.one_of(matchings(), st.tuples(*[networks(max_width=5, max_depth=2, wired=False)] * 2)))
@settings(max_examples=200)
def test_the_answer_is_that_of_vf2(pair):
    a, b = pair
    assert (sm.isomorphism(a, b) is not None) == are_isomorphic(a, b)
    if are_isomorphic(a, b):
        assert_isomorphic(a, b)


def cycle(length):
    """An even cycle, its edges in two stages by turns."""
    edges = [[i, (i + 1) % length] for i in range(length)]
    return sm.Network.of(length, [edges[::2], edges[1::2]])


def beside(*nets):
    return nets[0] if len(nets) == 1 else beside(nets[0].beside(nets[1]), *nets[2:])


@pytest.mark.parametrize(
    ("one", "other"),
    [([8], [4, 4]), ([12], [4, 8]), ([6, 6], [12]), ([4, 12], [8, 8]), ([4] * 50 + [16], [8] * 27)],
)
def test_cycles_that_refinement_cannot_tell_apart(one, other):
    a, b = (beside(*map(cycle, lengths)) for lengths in (one, other))
    assert a.width == b.width
    assert sm.isomorphism(a, b) is None
    assert_isomorphic(a, a)
    assert_isomorphic(b, b)
    hub = list(range(a.width))  # connected, so that no part can be matched before all are
    joined = [sm.Network(a.width, [*net, *sm.Network.of(a.width, [[hub]])]) for net in (a, b)]
    assert sm.isomorphism(*joined) is None
    assert_isomorphic(joined[0], joined[0])


def chorded(chords):
    """An octagon in two stages, and chords as the third: refinement sees one kind of wire."""
    return sm.Network(8, [*cycle(8), *sm.Network.of(8, [chords])])


def test_parts_that_differ_are_told_apart_one_by_one():
    """Copies of two networks that refinement cannot tell apart, in one and in other numbers.

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
        beside(*copies * 10),
        beside(*copies[::-1] * 10),
        beside(*copies * 9, copies[0], copies[0]),
    )
    for joined in (sm.Network(160), hub):
        assert_isomorphic(one.then(joined), same.then(joined))
        assert sm.isomorphism(one.then(joined), other.then(joined)) is None


@given(seeds(), st.integers(6, 20))
@settings(max_examples=50)
def test_networks_with_hardly_a_symmetry_are_found(seed, pairs):
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
def test_networks_that_differ(a, b):
    assert sm.isomorphism(a, b) is None


@pytest.mark.parametrize("width", [1, 2, 5])
def test_networks_without_switches(width):
    assert_isomorphic(sm.Network(width), sm.Network(width))
    assert_isomorphic(sm.Network(width, [sm.Stage(width)]), sm.Network(width, [sm.Stage(width)]))


SYMMETRIC = "butterfly", "butterfly(block=8)", "butterfly(depth=3)", "monarch", "shuffle(block=8)"


@pytest.mark.parametrize("spec", [*SYMMETRIC, "benes"])
def test_symmetric_networks_of_many_wires(spec):
    net = sm.parse(spec)(512)
    assert_isomorphic(net, shuffled(net, np.random.default_rng(0)))


def test_the_reverse_butterfly_of_4096_wires():
    assert_isomorphic(sm.butterfly(4096), sm.mixed_radix(4096, reverse=True))


@pytest.mark.parametrize("other", [None, "butterfly", np.eye(2)], ids=["none", "spec", "matrix"])
def test_anything_but_networks_is_refused(other):
    for pair in ((other, sm.Network(2)), (sm.Network(2), other)):
        with pytest.raises(WiringError, match="only networks are compared"):
            sm.isomorphism(*pair)
