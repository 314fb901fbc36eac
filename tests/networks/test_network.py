"""Networks as values, and their algebra as laws about matrices."""

import copy
import json
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import FileError, StructmatError, WiringError
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import adjoint_blocks
from structmat.testing import networks, seeds

small = networks(max_width=8, max_depth=3)


def same(a, b, net, steps=1):
    """Compare two products of a network's factors: a few ulps for each factor, entries ≤ 1."""
    limit = 32 * (steps * net.depth + 1) * np.finfo(float).eps
    np.testing.assert_allclose(a, b, rtol=0, atol=limit)


def with_blocks(net, seed, dtype=complex):
    return sm.random_blocks(net, seed, dtype)


def by_stage(net, blocks):
    rest = iter(blocks)
    return [[next(rest) for _ in stage.banks] for stage in net.stages]


@given(small, seeds(), seeds())
def test_then_multiplies_on_the_left(net, seed, other_seed):
    other = net.inverse()
    first, second = with_blocks(net, seed), with_blocks(other, other_seed)
    r = stagewise.matrix_of(net.then(other), first + second)
    same(r, stagewise.matrix_of(other, second) @ stagewise.matrix_of(net, first), net, steps=2)
    assert net.then(other) == other @ net


@given(small, seeds())
def test_the_inverse_with_adjoint_blocks_is_the_adjoint(net, seed):
    blocks = with_blocks(net, seed)
    back = stagewise.matrix_of(net.inverse(), adjoint_blocks(net, blocks))
    same(back, stagewise.matrix_of(net, blocks).conj().T, net)
    assert net.inverse().inverse() == net


@given(small, seeds(), st.integers(0, 3))
def test_repeating_is_a_power(net, seed, times):
    blocks = with_blocks(net, seed)
    power = np.linalg.matrix_power(stagewise.matrix_of(net, blocks), times)
    same(stagewise.matrix_of(net.repeat(times), blocks * times), power, net, steps=3)
    assert net.repeat(times).depth == times * net.depth
    assert net * times == net**times == net.repeat(times)


@given(small, seeds(), seeds())
def test_the_mirrored_network_is_followed_by_its_inverse(net, seed, other_seed):
    mirrored, both = net.mirror(), net.then(net.inverse())
    assert mirrored.inverse() == mirrored
    assert mirrored.depth == max(2 * net.depth - 1, 0)
    there, back = with_blocks(net, seed), with_blocks(net.inverse(), other_seed)
    last = len(net.stages[-1].banks) if net.depth else 0
    cut = len(there) - last
    middle = [b @ a for a, b in zip(there[cut:], back[:last], strict=True)]
    joined = stagewise.matrix_of(mirrored, [*there[:cut], *middle, *back[last:]])
    same(joined, stagewise.matrix_of(both, there + back), net, steps=4)
    identity = stagewise.matrix_of(mirrored, sm.identity_blocks(mirrored))
    assert np.array_equal(identity, np.eye(net.width))


@given(small, seeds(), st.data())
def test_slices_multiply_to_the_network(net, seed, data):
    cut = data.draw(st.integers(0, net.depth))
    blocks = with_blocks(net, seed)
    banks = len(net[:cut].banks)
    early, late = (
        stagewise.matrix_of(net[:cut], blocks[:banks]),
        stagewise.matrix_of(net[cut:], blocks[banks:]),
    )
    same(late @ early, stagewise.matrix_of(net, blocks), net)
    assert net[:cut].then(net[cut:]) == net
    assert list(net) == [net[t] for t in range(len(net))]


@given(small, seeds(), st.data())
def test_relabelling_conjugates_by_the_permutation(net, seed, data):
    places = np.array(data.draw(st.permutations(range(net.width))))
    p = np.zeros((net.width, net.width))
    p[places, np.arange(net.width)] = 1  # wire i goes to places[i]
    blocks = with_blocks(net, seed)
    same(
        stagewise.matrix_of(net.relabel(places), blocks),
        p @ stagewise.matrix_of(net, blocks) @ p.T,
        net,
    )
    assert net.relabel(places).relabel(np.argsort(places)) == net


@given(small, seeds(), st.integers(1, 3))
def test_dilating_is_a_kronecker_product(net, seed, bundle):
    blocks = with_blocks(net, seed)
    wide = [np.stack([np.kron(b, np.eye(bundle)) for b in bank]) for bank in blocks]
    r = np.kron(stagewise.matrix_of(net, blocks), np.eye(bundle))
    same(stagewise.matrix_of(net.dilate(bundle), wide), r, net)
    pairs = sum(b.count * (b.radix * bundle) * (b.radix * bundle - 1) // 2 for b in net.banks)
    assert net.dilate(bundle).parameters == pairs


@given(small, small, seeds(), seeds())
def test_direct_sum_places_networks_side_by_side(net, other, seed, other_seed):
    first, second = with_blocks(net, seed), with_blocks(other, other_seed)
    both = net.direct_sum(other)
    stages = [by_stage(net, first), by_stage(other, second)]
    blocks = [b for t in range(both.depth) for side in stages for b in (side[t : t + 1] or [[]])[0]]
    r = np.zeros((both.width, both.width), dtype=complex)
    r[: net.width, : net.width] = stagewise.matrix_of(net, first)
    r[net.width :, net.width :] = stagewise.matrix_of(other, second)
    same(stagewise.matrix_of(both, blocks), r, both)
    assert both.parameters == net.parameters + other.parameters


@given(small, small, seeds(), seeds())
def test_the_product_is_the_kronecker_product(net, other, seed, other_seed):
    first, second = with_blocks(net, seed), with_blocks(other, other_seed)
    both = net.product(other)
    # in a bank of the product, copies of `other` follow each other, copies of a switch of `net`
    blocks = [np.tile(b, (net.width, 1, 1)) for b in second]
    blocks += [np.repeat(b, other.width, axis=0) for b in first]
    r = np.kron(stagewise.matrix_of(net, first), stagewise.matrix_of(other, second))
    same(stagewise.matrix_of(both, blocks), r, both)
    assert both.depth == net.depth + other.depth
    assert both.parameters == other.width * net.parameters + net.width * other.parameters


@given(small, small, small)
def test_products_are_associative_and_have_a_unit(a, b, c):
    assert a.product(b).product(c) == a.product(b.product(c))
    one = sm.Network(1)
    assert a.product(one) == a == one.product(a)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4))
def test_mixed_radix_is_a_product_of_single_switches(radices):
    width = int(np.prod(radices))
    net = sm.Network(1)
    for radix in radices:  # the first digit is the finest
        net = sm.Network.of(radix, [[range(radix)]]).product(net)
    assert net == sm.mixed_radix(width, radices)


@given(small, seeds())
def test_straightening_moves_the_wiring_to_the_ends(net, seed):
    straight, inputs, outputs = net.straightened()
    blocks = with_blocks(net, seed)
    eye = np.eye(net.width)
    r = eye[outputs] @ stagewise.matrix_of(straight, blocks) @ eye[inputs]
    same(r, stagewise.matrix_of(net, blocks), net)
    assert straight.is_straight
    assert np.array_equal(inputs, np.arange(net.width))
    assert [(b.count, b.radix) for b in straight.banks] == [(b.count, b.radix) for b in net.banks]
    wiring = stagewise.matrix_of(net, sm.identity_blocks(net))
    assert np.array_equal(wiring, eye[outputs])
    assert net.is_straight <= np.array_equal(wiring, eye)


@given(small)
def test_free_edges_are_twice_the_parameters(net):
    assert net.free_edges == net.nonzeros - net.depth * net.width == 2 * net.parameters
    graph = net.to_networkx()
    assert net.nonzeros == graph.number_of_edges()
    assert graph.graph == {"width": net.width, "depth": net.depth}
    assert graph.number_of_nodes() == (net.depth + 1) * net.width
    if net.depth:
        assert nx.is_directed_acyclic_graph(graph)


@given(small)
def test_edges_of_the_grid_graph_name_their_switch(net):
    """Each switch is a complete bipartite graph; an idle wire is in none."""
    for t, stage in enumerate(net.stages):
        layer = {}
        for (_, j), (_, i), switch in (
            net.to_networkx()
            .subgraph([(s, w) for s in (t, t + 1) for w in range(net.width)])
            .edges(data="switch")
        ):
            layer.setdefault(switch, []).append((i, j))
        bare = layer.pop(None, [])
        assert len(bare) == len(stage.passing[0])
        sizes = [bank.radix for bank in stage.banks for _ in range(bank.count)]
        assert [len(layer[k]) for k in sorted(layer)] == [r * r for r in sizes]


def labelled(most=6):
    """Draw networks with labels of every kind that a graph's nodes have."""
    names = st.one_of(st.integers(), st.text(max_size=3), st.tuples(st.integers(), st.text()))
    return networks(max_width=most, max_depth=3).flatmap(
        lambda net: st.lists(names, min_size=net.width, max_size=net.width).map(
            lambda labels: sm.Network(net.width, net.stages, labels=labels)
        )
    )


@given(labelled(), st.data())
def test_labels_stay_with_their_wires(net, data):
    bare = sm.Network(net.width, net.stages)
    assert bare.labels is None
    assert sm.Network.of(net.width, [], labels=net.labels).labels == net.labels
    assert net == bare
    assert hash(net) == hash(bare)
    for kept in (
        net.then(bare),
        bare.then(net),
        net @ bare,
        net.then(sm.Network(net.width, labels=range(net.width))),
        net.repeat(2),
        net.inverse(),
        net.mirror(),
        net[:1],
        net.straightened().network,
    ):
        assert kept.labels == net.labels
    places = data.draw(st.permutations(range(net.width)))
    moved = net.relabel(places)
    assert [moved.labels[place] for place in places] == list(net.labels)


@given(labelled(), labelled())
def test_combined_networks_have_combined_labels(net, other):
    numbered = sm.Network(other.width, other.stages)
    assert net.direct_sum(other).labels == net.labels + other.labels
    assert net.direct_sum(numbered).labels == (*net.labels, *range(other.width))
    assert numbered.direct_sum(net).labels == (*range(other.width), *net.labels)
    wires = [(i, j) for i in range(net.width) for j in range(other.width)]
    assert net.product(other).labels == tuple((net.labels[i], other.labels[j]) for i, j in wires)
    assert net.product(numbered).labels == tuple((net.labels[i], j) for i, j in wires)
    assert net.dilate(2).labels == tuple((name, k) for name in net.labels for k in range(2))
    for made in (numbered.direct_sum(numbered), numbered.product(numbered), numbered.dilate(2)):
        assert made.labels is None


@given(labelled())
def test_the_grid_graph_carries_the_labels(net):
    graph = net.to_networkx()
    assert all(graph.nodes[t, i]["label"] == net.labels[i] for t, i in graph)
    bare = sm.Network(net.width, net.stages).to_networkx()
    assert set(bare) == set(graph)
    assert not any(data for _, data in bare.nodes(data=True))


def test_labels_without_a_json_form_are_omitted():
    kept = sm.Network(3, labels=["a", 2**70, ("b", (1, ()))])
    assert sm.Network.from_json(kept.to_json()).labels == ("a", 2**70, ("b", (1, ())))
    kept = sm.Network(3, labels=np.arange(3) + 7)
    assert sm.Network.from_json(kept.to_json()).labels == (7, 8, 9)
    for name in (frozenset("a"), 1.5, True, None, (1, None), b"a", 10**5000, (-(10**5000),)):
        text = sm.Network(2, labels=["a", name]).to_json()
        assert "labels" not in json.loads(text)
        assert sm.Network.from_json(text).labels is None


@given(st.one_of(networks(), labelled()))
def test_networks_round_trip_through_json_copy_and_pickle(net):
    text = net.to_json()
    for twin in (
        sm.Network.from_json(text),
        sm.Network.from_json(text.encode()),
        copy.copy(net),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),  # noqa: S301 - our own bytes
    ):
        assert twin == net
        assert hash(twin) == hash(net)
        assert twin.labels == net.labels
        for bank in twin.banks:
            assert not bank.reads.flags.writeable
            assert not bank.writes.flags.writeable
    assert json.loads(text)["version"] == 1


@given(networks(), networks())
def test_equal_networks_have_equal_parts(net, other):
    same_parts = net.width == other.width and net.stages == other.stages
    assert (net == other) is same_parts
    assert net != net.then(sm.Network(net.width, [sm.Stage(net.width)]))
    assert len({net, sm.Network(net.width, net.stages)}) == 1


def test_networks_are_immutable():
    net = sm.Network.of(2, [[[0, 1]]])
    with pytest.raises(AttributeError, match="Network is immutable"):
        net.width = 3
    with pytest.raises(AttributeError, match="Network is immutable"):
        del net.stages
    assert isinstance(net.stages, tuple)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sm.Network(3, [sm.Stage(4)]), "stage 0 has width 4.*must have width 3"),
        (lambda: sm.Network(3, [[[0, 1]]]), "every stage must be a Stage object"),
        (lambda: sm.Network(0), "width=0: width must be an integer ≥ 1"),
        (lambda: sm.Network(2.5), "width=2.5"),
        (lambda: sm.Network(float("nan")), "width=nan"),
        (lambda: sm.Network.of(4, [[0, 1]]), "0: a switch is a list of wires"),
        (
            lambda: sm.Network.of(4, [0, 1]),
            r"^0: a stage is a list of switches, such as \[\[0, 1\]",
        ),
        (lambda: sm.Network.of(4, 5), "^5: stages must be a list of lists of switches"),
        (lambda: sm.Network.of(4, [[[0, 1], [1, 2]]]), "wire 1 is read 2 times"),
        (lambda: sm.Network(2).then(sm.Network(3)), r"width 2 then width 3.*direct_sum\(\)"),
        (lambda: sm.Network(2) @ sm.Network(3), "width 3 then width 2"),
        (lambda: sm.Network(2).then("butterfly"), "only a Network can follow"),
        (
            lambda: sm.Network(2).direct_sum("butterfly"),
            "only a Network can be added to a direct sum",
        ),
        (lambda: sm.Network(2).repeat(-1), "times=-1"),
        (lambda: sm.Network(2).repeat(1.0), "times=1.0"),
        (lambda: sm.Network(2).dilate(0), "bundle=0"),
        (lambda: sm.Network(2).product(2), "2: only a Network can be multiplied by a network"),
        (lambda: sm.Network(2, labels="abc"), "3 labels for 2 wires: give one for each wire"),
        (lambda: sm.Network(2, labels=["a", ["b"]]), r"label \['b'\]: labels must be hashable"),
        (lambda: sm.Network(2, labels=2), "labels=2: give one label for each wire"),
        (lambda: sm.Network(2).relabel([0, 0]), "each of the 2 wires once"),
        (lambda: sm.Network(2).relabel([0.0, 1.0]), "integers"),
    ],
)
def test_invalid_input_is_refused(make, message):
    with pytest.raises(StructmatError, match=message):
        make()


def test_invalid_indices_and_operands_raise_standard_errors():
    net = sm.Network.of(2, [[[0, 1]]])
    for which in (1, -2):
        with pytest.raises(IndexError, match=f"stage {which}: the network has 1 stage$"):
            net[which]
    assert net[-1] == net[0] == net.stages[0]
    for other in (2, np.eye(2)):
        with pytest.raises(TypeError, match=r"unsupported operand|does not support ufuncs"):
            net @ other
        with pytest.raises(TypeError, match=r"unsupported operand|does not support ufuncs"):
            other @ net


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"format": "structmat.network", "version": 1, "width": 2, "stages": [[[', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (None, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected the output of Network.to_json"),
        ('{"format": "other"}', "expected the output of Network.to_json"),
        ('{"format": "structmat.network", "version": 2}', "version 2.*upgrade"),
        ('{"format": "structmat.network", "version": true, "width": 1}', "has schema version True"),
        ('{"format": "structmat.network", "version": 1.0, "width": 1}', "has schema version 1.0"),
        ('{"format": "structmat.network", "version": 1, "stages": []}', "missing or invalid"),
        (
            '{"format": "structmat.network", "version": 1, "width": 2, "stages": 3}',
            "missing or invalid",
        ),
        (
            '{"format": "structmat.network", "version": 1, "width": 2, "stages": [[{"move": 1}]]}',
            "missing or invalid",
        ),
    ],
)
def test_invalid_json_is_refused(text, message):
    with pytest.raises(FileError, match=message):
        sm.Network.from_json(text)


@pytest.mark.parametrize(
    ("width", "stages", "message"),
    [
        ("2.0", "[]", "width=2.0"),
        ("NaN", "[]", "NaN is not a JSON number"),
        ("2", "[[[[[0, 1.0]]]]]", "integers"),
        ("2", "[[[[[0, NaN]]]]]", "NaN is not a JSON number"),
        ("2", "[[[[[0, 0]]]]]", "wire 0 is read 2 times"),
        ("2", "[[[[[0, 2]]]]]", "wire 2"),
        ("2", '[[{"moves": [[0, 1]]}]]', "read but not written"),
        ("2", '[], "labels": ["a"]', "1 labels for 2 wires"),
        ("2", '[], "labels": ["a", {"b": 1}]', "labels must be hashable"),
        ("2", '[], "labels": "ab"', "missing or invalid"),
    ],
)
def test_json_of_impossible_networks_is_refused(width, stages, message):
    text = f'{{"format": "structmat.network", "version": 1, "width": {width}, "stages": {stages}}}'
    with pytest.raises((WiringError, StructmatError), match=message):
        sm.Network.from_json(text)


@given(networks(max_width=4, max_depth=2), st.data())
def test_truncated_json_is_refused(net, data):
    text = net.to_json()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(FileError, match="not JSON"):
        sm.Network.from_json(text[:cut])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "matrix",
            r"it has no values; structmat\.Rotation\(net, blocks\) is a network with blocks",
        ),
        ("dimension", r"it is a function: structmat\.dimension\(net\)$"),
        ("dense_depth", r"it is a function: structmat\.dense_depth\(net\)$"),
        ("fit", r"it is a function: structmat\.fit\(net, target\)$"),
        ("route", r"it is a function: structmat\.route\(net, permutation\)$"),
        ("random", r"structmat\.Rotation\(net, structmat\.random_blocks\(net, rng=0\)\) has"),
        ("certify", r"structmat\.certify takes a structmat\.Rotation\(net, blocks\)$"),
        ("butterfly", r"Network has no butterfly; see structmat\.butterfly$"),
        ("errors", r"Network has no errors; see structmat\.errors$"),
        ("widht", "Network has no attribute 'widht'"),
    ],
)
def test_the_error_for_a_missing_attribute_names_the_alternative(name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(sm.butterfly(4), name)
