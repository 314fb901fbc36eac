"""Density and path counts, against networkx and products of 0/1 patterns."""

import tracemalloc

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.analysis.reachability import fewest_reached, leading_dense_depth
from structmat.errors import SpecError, StructmatError, WidthError, WiringError
from structmat.testing import assert_dense, families, networks


def patterns(net):
    """Read the 0/1 pattern of each factor off the grid graph, in Python integers."""
    graph = net.to_networkx()
    made = [np.zeros((net.width, net.width), dtype=object) for _ in range(net.depth)]
    for (t, j), (_, i) in graph.edges:
        made[t][i, j] = 1
    return made


def paths(net):
    product = np.eye(net.width, dtype=int).astype(object)
    for a in patterns(net):
        product = a.dot(product)
    return product


@given(networks())
def test_reach_is_reachability_in_the_grid_graph(net):
    graph = net.to_networkx()
    expected = np.zeros((net.width, net.width), dtype=bool)
    for j in range(net.width):
        for t, i in nx.descendants(graph, (0, j)) | {(0, j)}:
            if t == net.depth:
                expected[i, j] = True
    assert np.array_equal(sm.reach(net), expected)
    assert sm.is_dense(net) == expected.all()


@given(networks(), st.data())
def test_selected_rows_of_reach_agree_with_all_rows(net, data):
    outputs = data.draw(st.lists(st.integers(0, net.width - 1)))
    rows = sm.reach(net, outputs)
    assert rows.dtype == bool
    assert np.array_equal(rows, (paths(net) > 0)[outputs])


@pytest.mark.parametrize(
    "family", ["shuffle(block=2)", "benes", "random(block=4, depth=12, rng=0)"]
)
def test_reach_of_wide_networks_uses_bounded_memory(family):
    """Half of the matrix in bits, and a sixteenth of it in bytes."""
    net = sm.parse(family)(16_384)
    tracemalloc.start()
    try:
        dense, rows = sm.is_dense(net), sm.reach(net, range(100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_384**2 / 8 / 2
    assert dense
    assert rows.shape == (100, 16_384)
    assert rows.all()


@given(networks())
def test_once_dense_a_network_stays_dense(net):
    dense = [bool((paths(net[:k]) > 0).all()) for k in range(net.depth + 1)]
    assert dense == sorted(dense)
    assert leading_dense_depth(net) == (dense.index(True) if True in dense else None)


@given(networks())
def test_path_counts_are_products_of_patterns(net):
    counts = sm.path_counts(net)
    assert np.array_equal(counts, paths(net))
    assert counts.dtype == np.int64
    assert np.array_equal(counts > 0, sm.reach(net))


@given(families(max_width=40, max_depth=6))
def test_path_counts_of_families_are_products_of_patterns(case):
    family, width = case
    net = family(width)
    assert np.array_equal(sm.path_counts(net), paths(net))


@pytest.mark.parametrize("depth", [62, 63, 64, 200])
def test_path_counts_never_overflow(depth):
    counts = sm.path_counts(sm.Network.of(3, [[[0, 1]]]).repeat(depth))
    assert counts.tolist() == [[2 ** (depth - 1)] * 2 + [0]] * 2 + [[0, 0, 1]]
    assert counts.dtype == (np.int64 if depth < 63 else object)


@given(networks(max_width=6), networks(max_width=6))
def test_reach_composes(net, other):
    both = net.direct_sum(other).then(net.direct_sum(other).inverse())
    half = sm.reach(net.direct_sum(other)).astype(int)
    assert np.array_equal(sm.reach(both), half.T @ half > 0)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 129, 2111, 2113])
def test_reach_is_correct_at_word_and_chunk_boundaries(width):
    """The even and the odd pairs of a ring: each input reaches few, known outputs."""
    even = [[i, i + 1] for i in range(0, width - 1, 2)]
    odd = [[i, i + 1] for i in range(1, width - 1, 2)]
    net = sm.Network.of(width, [even, odd])
    reached = sm.reach(net)
    near = np.zeros((width, width), dtype=bool)
    for j in range(width):
        pair = {j, j ^ 1} if (j | 1) < width else {j}
        for k in pair:
            other = k - 1 if k % 2 == 0 else k + 1
            near[[i for i in (k, other) if 0 <= i < width], j] = True
    assert np.array_equal(reached, near)
    assert np.array_equal(sm.reach(net, range(width)), near)
    assert not sm.is_dense(net) or width == 1
    if width > 2112:
        assert sm.is_dense(sm.Network.of(width, [[list(range(width))]]))
        most = sm.Network.of(width, [[list(range(width - 1))]])
        assert not sm.is_dense(most)


def test_dense_depth_is_that_of_the_slowest_chunk_of_inputs(monkeypatch):
    """The last input, alone in its chunk, reaches all outputs one stage before the first does."""
    monkeypatch.setattr("structmat.analysis.reachability._CHUNK", 64)
    most = [list(range(1, 65))]
    net = sm.Network.of(65, [most, [[0, 1]], most])
    reached = sm.reach(net[:2])
    assert reached[:, 64].all()
    assert not reached[:, 0].all()
    assert leading_dense_depth(net) == 3
    assert sm.reach(net).all()


@given(families(max_width=36, max_depth=6))
def test_dense_depth_is_the_least_that_is_dense(case):
    family, width = case
    most = 8
    depth = sm.dense_depth(family, width, most=most)
    nets = {}
    if family.has_depth:
        for k in range(1, most + 1):
            try:
                nets[k] = family.with_options(depth=k)(width)
            except WidthError:
                break
    else:
        nets = {k: family(width)[:k] for k in range(min(family(width).depth, most) + 1)}
    dense = [k for k, net in nets.items() if (sm.path_counts(net) > 0).all()]
    assert depth == (min(dense) if dense else None)
    if depth is not None:
        assert_dense(nets[depth])


@pytest.mark.parametrize(
    ("family", "width", "options", "error", "message"),
    [
        ("butterfly(block=4)", 6, {}, WidthError, "multiple of 4"),
        ("benes", 12, {}, WidthError, "2\\^n"),
        ("benes", 8.0, {}, StructmatError, "width=8.0"),
        ("benes", 8, {"most": 0}, StructmatError, "most=0: most must be an integer ≥ 1"),
        ("butterflies", 8, {}, SpecError, "did you mean butterfly"),
        (8, 8, {}, StructmatError, "topology=8: it must be a spec string"),
        ("benes", None, {}, StructmatError, "benes: a family has a network for each width"),
        (sm.benes(8), 16, {}, StructmatError, "the network has width 8, not 16"),
    ],
)
def test_dense_depth_rejects_invalid_arguments(family, width, options, error, message):
    with pytest.raises(error, match=message):
        sm.dense_depth(family, width, **options)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([4], "outputs: wire 4: the network has wires 0 to 3"),
        ([-1], "outputs: wire -1"),
        ([True], "wires must be integers"),
        (2, r"outputs of shape \(\): give a list of wires"),
    ],
)
def test_reach_rejects_rows_out_of_range(outputs, message):
    with pytest.raises(WiringError, match=message):
        sm.reach(sm.butterfly(4), outputs)


@given(st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16]), st.integers(1, 40))
def test_no_network_is_dense_below_the_lower_bound(block, blocks):
    """T6: an output depends on at most block^m inputs after m stages, whatever the wiring."""
    width = block * blocks
    depth = sm.dense_depth(f"shuffle(block={block})", width)
    assert block ** (depth - 1) < width <= block**depth or width == block


@given(networks(), st.data())
def test_fewest_reached_is_the_least_count_of_descendants(net, data):
    graph = net.to_networkx()
    counts = [
        sum(t == net.depth for t, _ in nx.descendants(graph, (0, j)) | {(0, j)})
        for j in range(net.width)
    ]
    least = min(counts)
    assert fewest_reached(net) == (least, counts.index(least))
    inputs = data.draw(st.lists(st.integers(0, net.width - 1), min_size=1))
    reached, start = fewest_reached(net, inputs)
    assert reached == min(counts[j] for j in inputs) == counts[start]
    assert start in inputs


def test_fewest_reached_rejects_invalid_inputs():
    with pytest.raises(WiringError, match="inputs is empty: give at least one input"):
        fewest_reached(sm.butterfly(4), [])
    with pytest.raises(WiringError, match="inputs: wire 4"):
        fewest_reached(sm.butterfly(4), [4])
