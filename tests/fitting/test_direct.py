"""Direct methods are exact up to rounding, and depend on the structure, not the name."""

import itertools

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.fitting.cosine_sine import cosine_sine_blocks
from structmat.fitting.determinant_signs import rotated
from structmat.fitting.givens_nulling import givens_blocks
from structmat.fitting.hierarchical_svd import hierarchical_blocks
from structmat.linalg import factors as stagewise
from structmat.testing import assert_orthogonal, networks, seeds
from tests.fitting.targets import distance, haar, rounding

# Exact fits -----------------------------------------------------------------------------------

SOLVABLE = [
    ("butterfly", 256),
    ("butterfly(block=16)", 256),
    ("butterfly(block=8, depth=3)", 96),
    ("monarch", 256),
    ("monarch", 221),
    ("mixed_radix", 240),
    ("mixed_radix(reverse=True)", 240),
    ("mixed_radix(radices=(4, 8, 8))", 256),
    ("shuffle(block=4)", 256),
    ("shuffle(block=2, depth=5)", 256),
    ("block_diagonal(block=8)", 256),
    ("deal(block=10)", 100),
    ("knodel(depth=2)", 64),
    ("omega", 64),
    ("baseline", 64),
    ("kautz(block=4)", 64),
]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(("spec", "width"), SOLVABLE)
def test_matrices_of_the_network_are_recovered_exactly(spec, width, special):
    net = sm.parse(spec)(width)
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=1, special=special))
    found = sm.fit(net, member, special=special)
    assert found.exact
    assert found.method == "hierarchical SVD"
    assert distance(stagewise.matrix_of(net, found.blocks), member) <= rounding(net)
    if special:
        assert all((np.linalg.det(b) > 0).all() for b in found.blocks)


@given(networks(wired=False), seeds())
def test_the_hierarchical_decomposition_is_exact_where_applicable(net, seed):
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=seed, special=False))
    blocks = hierarchical_blocks(net, member)
    if blocks is not None:
        assert distance(stagewise.matrix_of(net, blocks), member) <= rounding(net)


@given(networks(max_width=16, wired=False), seeds())
def test_the_hierarchical_decomposition_of_any_matrix_has_orthogonal_blocks(net, seed):
    target = np.random.default_rng(seed).standard_normal((net.width, net.width))
    for array in hierarchical_blocks(net, target) or []:
        for block in array:
            assert_orthogonal(block)


def test_fits_are_invariant_under_relabelling():
    net = sm.butterfly(64, block=4).relabel(np.random.default_rng(0).permutation(64))
    member = stagewise.matrix_of(net, sm.random_blocks(net, rng=1))
    assert sm.fit(net, member).exact


def test_one_switch_solves_the_orthogonal_procrustes_problem():
    net = sm.Network.of(6, [[[4, 2, 0, 1, 5, 3]]])
    target = np.random.default_rng(0).standard_normal((6, 6))
    best, _ = scipy.linalg.orthogonal_procrustes(np.eye(6), target)
    found = sm.fit(net, target)
    assert np.allclose(stagewise.matrix_of(net, found.blocks), best, atol=1e-13)
    assert found.lower_bound == pytest.approx(found.error, abs=1e-13)


# Every orthogonal matrix ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("width", [2, 4, 8, 16, 128])
def test_ruler_fits_any_target(width, dtype):
    net, target = sm.ruler(width), haar(width, dtype=dtype)
    found = sm.fit(net, target)
    assert found.exact
    assert distance(stagewise.matrix_of(net, found.blocks), target) <= rounding(net)


@pytest.mark.parametrize("name", ["ruler", "brickwall", "triangle"])
def test_wide_universal_networks_fit_any_target(name):
    net, target = sm.parse(name)(256), haar(256)
    found = sm.fit(net, target)
    assert found.exact
    assert distance(stagewise.matrix_of(net, found.blocks), target) <= rounding(net)


def test_the_middle_stage_of_the_ruler_has_the_cosines():
    target = haar(16)
    middle = cosine_sine_blocks(sm.ruler(16), target)[7]
    assert np.allclose(
        np.sort(middle[:, 0, 0]), np.sort(np.linalg.svd(target[:8, :8], compute_uv=False))
    )


@settings(max_examples=50)
@given(st.integers(2, 12), st.sampled_from(["brickwall", "triangle"]), seeds(), st.data())
def test_nulling_is_invariant_under_relabelling(width, name, seed, data):
    """This includes inverse networks and additional stages before them."""
    net = sm.parse(name)(width)
    if data.draw(st.booleans()):
        net = net.inverse()
    more = data.draw(st.integers(0, 2)) if width > 2 else 0
    extra = sm.brickwall(width, depth=3)[:more] if more else sm.Network(width)
    net = extra.then(net).relabel(data.draw(st.permutations(range(width))))
    dtype = data.draw(st.sampled_from([float, complex]))
    target = haar(width, seed, dtype=dtype)
    blocks = givens_blocks(net, target)
    assert distance(stagewise.matrix_of(net, blocks), target) <= rounding(net)
    for array in blocks:
        for block in array:
            assert_orthogonal(block, ulps=100)


@given(st.integers(3, 6), st.lists(st.integers(0, 1), min_size=2, max_size=14), seeds())
def test_nulling_is_exact_or_not_applicable(width, parities, seed):
    """The networks have even and odd stages in any order, with repetitions."""
    kinds = sm.brickwall(width, depth=2)
    net = sm.Network(width, [kinds[parity] for parity in parities])
    target = haar(width, seed)
    blocks = givens_blocks(net, target)
    alternations = 1 + sum(a != b for a, b in itertools.pairwise(parities))
    assert (blocks is not None) == (alternations >= width)
    if blocks is not None:
        assert distance(stagewise.matrix_of(net, blocks), target) <= rounding(net)


@pytest.mark.parametrize(
    "net",
    [
        sm.brickwall(8, depth=7),
        sm.brickwall(7)[1:],
        sm.families.triangle(6)[1:],
        sm.families.round_robin(6),
        sm.ruler(8),
        sm.mixed_radix(6, (3, 2)),
        sm.Network.of(4, [[[0, 1], [2, 3]]] * 6),
    ],
)
def test_nulling_declines_networks_that_are_too_small(net):
    assert givens_blocks(net, haar(net.width)) is None


@pytest.mark.parametrize(
    "net", [sm.brickwall(8, depth=7), sm.families.round_robin(8), sm.ruler(8)[1:], sm.butterfly(8)]
)
def test_halving_declines_other_networks(net):
    assert cosine_sine_blocks(net, haar(net.width)) is None


def test_halving_is_invariant_under_relabelling():
    net = sm.ruler(16).relabel(np.random.default_rng(0).permutation(16))
    assert distance(
        stagewise.matrix_of(net, cosine_sine_blocks(net, haar(16))), haar(16)
    ) <= rounding(net)


@pytest.mark.parametrize("net", [sm.ruler(8), sm.brickwall(7), sm.families.triangle(7)])
def test_direct_methods_are_exact_for_degenerate_targets(net):
    for target in (np.eye(net.width), -np.eye(net.width)[::-1], np.eye(net.width)[::-1]):
        for method in (cosine_sine_blocks, givens_blocks):
            blocks = method(net, target)
            if blocks is not None:
                assert distance(stagewise.matrix_of(net, blocks), target) <= rounding(net)


def test_a_universal_network_gives_the_nearest_rotation_to_any_matrix():
    target = np.random.default_rng(0).standard_normal((8, 8))
    for net in (sm.ruler(8), sm.brickwall(8)):
        found = sm.fit(net, target)
        assert found.exact
        assert np.allclose(
            stagewise.matrix_of(net, found.blocks), scipy.linalg.polar(target)[0], atol=1e-13
        )
        assert found.error == pytest.approx(found.lower_bound, abs=1e-13)


# Permutations and reflections -----------------------------------------------------------------


@given(st.permutations(range(16)), st.lists(st.sampled_from([1, -1]), min_size=16, max_size=16))
def test_signed_permutations_are_routed(p, signs):
    target = np.diag(signs)[p]
    for special in (False, True):
        found = sm.fit(sm.benes(16), target, special=special, starts=1, sweeps=2)
        if not special or np.linalg.det(target) > 0:
            assert found.method == "routing"
            assert (stagewise.matrix_of(sm.benes(16), found.blocks) == target).all()
        else:
            assert not found.exact
            assert found.lower_bound == pytest.approx(0.5)  # ‖R − T‖ ≥ 2 where determinants differ


def test_a_wire_in_no_switch_keeps_its_sign():
    net = sm.Network.of(3, [[[0, 1]]])
    assert sm.fit(net, np.diag([-1.0, 1.0, 1.0])).exact
    stuck = sm.fit(net, np.diag([1.0, 1.0, -1.0]))
    assert not stuck.exact
    assert stuck.error == pytest.approx(2 / 3**0.5)
    assert stuck.lower_bound == pytest.approx(2 / 3**0.5)


@given(networks(wired=False), seeds())
def test_reflections_are_moved_without_changing_the_matrix(net, seed):
    blocks = sm.random_blocks(net, rng=seed, special=False)
    rotate_stage = rotated(net, blocks)
    assert np.array_equal(stagewise.matrix_of(net, rotate_stage), stagewise.matrix_of(net, blocks))
    graph = nx.Graph()
    for number, (bank, array, before) in enumerate(
        zip(net.banks, rotate_stage, blocks, strict=True)
    ):
        for row, (wires, block, old) in enumerate(zip(bank.reads, array, before, strict=True)):
            odd = (np.linalg.det(block) < 0, np.linalg.det(old) < 0)
            graph.add_node((number, row), odd=odd)
            graph.add_edges_from(((number, row), int(wire)) for wire in wires)
    for part in nx.connected_components(graph):
        odd = [graph.nodes[node]["odd"] for node in part if isinstance(node, tuple)]
        after, before = np.sum(odd, axis=0)
        assert after == before % 2
