"""Meshes: which pairs meet at which stage, depth of density, coverage of SO(d)."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError, WidthError
from structmat.linalg import factors as stagewise
from structmat.testing import assert_dense, seeds


def pairs_of(net):
    """Return the pairs that meet, stage by stage."""
    return [[tuple(row) for bank in s.banks for row in bank.reads.tolist()] for s in net.stages]


def dimensions_moved(net, seed):
    """Return the rank of the map from angles to rotations, at random angles.

    The derivative by one angle is (B_m ⋯ B_t) G (B_m ⋯ B_t)ᵀ R with G the generator of its plane.
    """
    source = np.random.default_rng(seed)
    after = np.eye(net.width)
    moved = []
    for pairs in reversed(pairs_of(net)):
        for i, j in pairs:
            plane = np.outer(after[:, i], after[:, j])
            moved.append((plane - plane.T)[np.triu_indices(net.width, 1)])
        for pair in pairs:
            c, s = np.cos(angle := source.uniform(-np.pi, np.pi)), np.sin(angle)
            after[:, pair] = after[:, pair] @ np.array([[c, -s], [s, c]])
    return np.linalg.matrix_rank(np.array(moved), tol=1e-9)


# Definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", range(2, 40))
def test_brickwall_is_a_repeated_path(width):
    """The stages are an edge colouring of the path, repeated and truncated."""
    repeated = sm.from_graph(nx.path_graph(width), repeat=width)
    assert sm.brickwall(width) == repeated[: width if width > 2 else 1]
    assert sm.brickwall(width).parameters == math.comb(width, 2)


@given(st.integers(3, 40), st.integers(1, 90))
def test_brickwall_is_dense_when_the_last_wire_reaches_the_first(width, depth):
    net = sm.brickwall(width, depth)
    assert net.depth == depth
    assert sm.is_dense(net) == (depth >= width - 1 + width % 2)


@pytest.mark.parametrize("width", range(2, 40))
def test_triangle_joins_neighbours_the_expected_number_of_times(width):
    net = sm.families.triangle(width)
    met = list(itertools.chain(*pairs_of(net)))
    assert all(j == i + 1 for i, j in met)
    assert [met.count((i, i + 1)) for i in range(width - 1)] == list(range(width - 1, 0, -1))
    assert net.depth == 2 * width - 3
    assert_dense(net)
    assert width == 2 or not sm.is_dense(net[:-1])


@pytest.mark.parametrize("width", range(2, 60))
def test_round_robin_is_the_complete_graph(width):
    net = sm.families.round_robin(width)
    assert net == sm.from_graph(nx.complete_graph(width))
    met = sorted(itertools.chain(*pairs_of(net)))
    assert met == list(itertools.combinations(range(width), 2))
    assert net.depth == max(1, width - 1 + width % 2)
    dense_at = width if width % 2 else width // 2
    assert_dense(net[:dense_at])
    assert width == 2 or not sm.is_dense(net[: dense_at - 1])


@pytest.mark.parametrize("power", range(1, 8))
def test_ruler_strides_follow_the_ruler_sequence(power):
    """A ruler of twice the length is two rulers with a longer mark between them."""
    strides = []
    for k in range(power):
        strides = [*strides, 2**k, *strides]
    width = 2**power
    net = sm.ruler(width)
    for pairs, stride in zip(pairs_of(net), strides, strict=True):
        assert pairs == [(i, i + stride) for i in range(width) if not i & stride]
    assert net.parameters == math.comb(width, 2)
    assert_dense(net[: width // 2])
    assert width == 2 or not sm.is_dense(net[: width // 2 - 1])


# Universality ---------------------------------------------------------------------------------


@given(st.integers(2, 9), seeds())
def test_triangle_nulls_any_rotation(width, seed):
    """Reck's elimination: each switch, in the order of the stages, makes one entry zero."""
    one = sm.Network.of(width, [[range(width)]])
    matrix = stagewise.matrix_of(one, sm.random_blocks(one, rng=seed))
    for t, pairs in enumerate(pairs_of(sm.families.triangle(width))):
        for i, j in pairs:
            row = width - 1 - (t - i) // 2
            a, b = matrix[row, [i, j]] / np.hypot(*matrix[row, [i, j]])
            matrix[:, [i, j]] = matrix[:, [i, j]] @ np.array([[b, a], [-a, b]])
    assert np.abs(matrix - np.eye(width)).max() < 1e-13 * width**2


@pytest.mark.parametrize("width", range(3, 9))
@pytest.mark.parametrize("family", ["brickwall", "triangle", "round_robin", "ruler"])
def test_no_parameter_is_redundant(family, width):
    if family != "ruler" or width in (4, 8):
        net = sm.parse(family)(width)
        assert net.parameters == math.comb(width, 2)
        assert dimensions_moved(net, seed=0) == net.parameters


@pytest.mark.parametrize(("width", "block"), [(8, 4), (6, 3), (12, 3), (16, 8), (20, 5), (5, 5)])
def test_a_ruler_of_blocks_covers_every_rotation_without_redundancy(width, block):
    net = sm.ruler(width, block)
    assert net.parameters == math.comb(width, 2)
    assert sm.dimension(net).lower == net.parameters
    assert {bank.radix for bank in net.banks[::2]} == {block}
    assert {bank.radix for bank in net.banks[1::2]} <= {2}
    assert_dense(net[: width // block])
    assert width == block or not sm.is_dense(net[: width // block - 1])


@pytest.mark.parametrize(("width", "block"), [(4, 4), (6, 4), (10, 4), (12, 6), (24, 8), (15, 6)])
def test_a_brickwall_of_blocks_joins_bundles_as_wires(width, block):
    half = block // 2
    net = sm.brickwall(width, block=block)
    assert net == sm.brickwall(width // half).dilate(half)
    assert sm.dimension(net).lower == math.comb(width, 2)


def test_a_brickwall_of_blocks_reaches_a_random_rotation():
    net = sm.brickwall(12, block=4)
    [[target]] = sm.random_blocks(sm.Network.of(12, [[range(12)]]), rng=0)
    assert sm.fit(net, target, rng=0, special=True, progress=False).error < 1e-5


def test_an_odd_block_of_a_brickwall_is_refused():
    with pytest.raises(StructmatError, match="block=3: a block joins two bundles"):
        sm.brickwall(9, block=3)


def test_brickwall_needs_all_its_stages_at_odd_widths():
    net = sm.brickwall(5, depth=4)
    assert dimensions_moved(net, seed=0) == net.parameters == 8


# Sizes and invalid input ----------------------------------------------------------------------


def test_wide_meshes_have_all_their_switches():
    assert (
        sm.families.triangle(1024).parameters == sm.brickwall(1024).parameters == math.comb(1024, 2)
    )
    assert sm.ruler(4096).parameters == math.comb(4096, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sm.brickwall(1), "brickwall.width=1, block=2.: width must be at least 2; nearest"),
        (lambda: sm.brickwall(9, block=4), "width must be a multiple of 2; nearest are 8 and 10"),
        (lambda: sm.brickwall(4, depth=2, block=4), "at least 6 for a depth above 1"),
        (lambda: sm.brickwall(2, depth=2), "at least 3 for a depth above 1; nearest is"),
        (lambda: sm.families.triangle(1), "width must be at least 2"),
        (lambda: sm.families.round_robin(1), "width must be at least 2"),
        (lambda: sm.ruler(12), "width must be 2.n with n ≥ 1; nearest are 8 and 16"),
        (lambda: sm.ruler(16, block=6), "width must be 6·2.k with k ≥ 0; nearest are 12 and 24"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(WidthError, match=message):
        make()
