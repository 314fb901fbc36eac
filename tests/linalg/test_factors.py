"""The factors and the matrix of a network agree with an entrywise product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError
from structmat.linalg import factors as stagewise
from structmat.linalg.blocks import adjoint_blocks
from structmat.testing import assert_orthogonal, families, networks, seeds

dtypes = st.sampled_from([np.float32, np.float64, np.complex64, np.complex128])


def layers(net, blocks):
    """Build every factor entry by entry, from the definition."""
    rest = iter(blocks)
    made = []
    for stage in net.stages:
        b = np.zeros((net.width, net.width), dtype=np.result_type(np.float32, *blocks))
        for bank in stage.banks:
            block = next(rest)
            for k in range(bank.count):
                for i in range(bank.radix):
                    for j in range(bank.radix):
                        b[bank.writes[k, i], bank.reads[k, j]] = block[k, i, j]
        moved = dict(stage.moves.tolist())
        busy = {int(j) for bank in stage.banks for j in bank.reads.ravel()}
        for j in set(range(net.width)) - busy:
            b[moved.get(j, j), j] = 1
        made.append(b)
    return made


def limit(net, dtype):
    """A few ulps for each factor: the entries of an orthogonal matrix are at most 1."""
    return 16 * (net.depth + 1) * np.finfo(dtype).eps


def vectors(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (x if np.dtype(dtype).kind == "c" else x.real).astype(dtype)


@given(networks(screens=True), seeds(), dtypes)
def test_the_matrix_is_the_product_of_the_layers(net, seed, dtype):
    blocks = sm.random_blocks(net, seed, dtype)
    expected = np.eye(net.width, dtype=dtype)
    for b in layers(net, blocks):
        expected = b @ expected
    r = stagewise.matrix_of(net, blocks)
    assert r.dtype == (dtype if net.banks else float)
    np.testing.assert_allclose(r, expected, rtol=0, atol=limit(net, dtype))


@given(networks(screens=True), seeds(), dtypes)
def test_the_factors_are_the_layers_and_multiply_to_the_matrix(net, seed, dtype):
    blocks = sm.random_blocks(net, seed, dtype)
    made = stagewise.factors(net, blocks)
    assert len(made) == net.depth
    for factor, layer, stage in zip(made, layers(net, blocks), net.stages, strict=True):
        assert np.array_equal(factor.toarray(), layer)
        assert factor.nnz == stage.nonzeros
    product = np.eye(net.width)
    for factor in made:
        product = factor @ product
    np.testing.assert_allclose(
        product, stagewise.matrix_of(net, blocks), rtol=0, atol=limit(net, dtype)
    )


@given(networks(screens=True))
def test_factors_store_the_edges_of_the_grid_graph(net):
    stored = set()
    for t, factor in enumerate(stagewise.factors(net, sm.identity_blocks(net))):
        row, column = factor.tocoo().coords  # zeros in a switch are stored too
        pairs = zip(row.tolist(), column.tolist(), strict=True)
        stored |= {((t, j), (t + 1, i)) for i, j in pairs}
    assert stored == set(net.to_networkx().edges)


@given(networks(screens=True), seeds(), dtypes, st.booleans())
def test_every_network_is_orthogonal(net, seed, dtype, special):
    r = stagewise.matrix_of(net, sm.random_blocks(net, seed, dtype, special=special))
    assert_orthogonal(r, ulps=16 * (net.depth + 1))


@given(families(max_width=48, max_depth=8), seeds(), dtypes)
def test_every_family_is_orthogonal(case, seed, dtype):
    family, width = case
    net = family(width)
    assert_orthogonal(
        stagewise.matrix_of(net, sm.random_blocks(net, seed, dtype)), ulps=16 * (net.depth + 1)
    )


@given(networks(screens=True), seeds(), dtypes)
def test_nonzeros_of_generic_blocks_are_the_reachable_entries(net, seed, dtype):
    """Theorem T1: a path, and the entry is not identically zero; no path, and it is zero."""
    r = stagewise.matrix_of(net, sm.random_blocks(net, seed, dtype))
    assert np.array_equal(r != 0, sm.reach(net))


@given(families(max_width=40, max_depth=6), seeds())
def test_nonzeros_of_families_are_the_reachable_entries(case, seed):
    family, width = case
    net = family(width)
    assert np.array_equal(stagewise.matrix_of(net, sm.random_blocks(net, seed)) != 0, sm.reach(net))


@given(networks(screens=True), seeds(), dtypes, st.sampled_from([(), (1,), (3,), (2, 0), (2, 3)]))
def test_a_rotation_of_vectors_is_the_dense_product(net, seed, dtype, batch):
    blocks = sm.random_blocks(net, seed, dtype)
    x = vectors((*batch, net.width), dtype, seed)
    y = sm.Rotation(net, blocks)(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    size = np.abs(x).max(initial=1.0) * np.sqrt(net.width)
    expected = x @ stagewise.matrix_of(net, blocks).T
    np.testing.assert_allclose(y, expected, rtol=0, atol=size * limit(net, dtype))


@given(networks(screens=True))
def test_identity_blocks_of_straight_networks_make_the_identity(net):
    r = stagewise.matrix_of(net, sm.identity_blocks(net))
    assert not net.is_straight or np.array_equal(r, np.eye(net.width))
    assert set(np.unique(r)) <= {0.0, 1.0}
    assert_orthogonal(r, ulps=0)


def test_dtypes_are_promoted():
    net = sm.butterfly(4)
    half = sm.identity_blocks(net, np.float16)
    assert stagewise.matrix_of(net, half).dtype == np.float32
    assert sm.Rotation(net, half)(np.ones(4)).dtype == np.float64
    assert sm.Rotation(net, half)(np.ones(4, dtype=np.complex64)).dtype == np.complex64
    assert sm.Rotation(net, sm.identity_blocks(net))([1, 2, 3, 4]).tolist() == [1, 2, 3, 4]
    assert stagewise.matrix_of(net, sm.identity_blocks(net, int)).dtype == np.float64
    empty = sm.Network(3)
    assert sm.Rotation(empty, [])([1, 2, 3]).tolist() == [1, 2, 3]
    assert np.array_equal(stagewise.matrix_of(empty, []), np.eye(3))
    assert stagewise.factors(empty, []) == []


def test_a_rotation_does_not_modify_its_input():
    net = sm.Network(2, [sm.Stage(2, moves=[[0, 1], [1, 0]])])
    x = np.array([1.0, 2.0])
    y = sm.Rotation(net, [])(x)
    assert (x.tolist(), y.tolist()) == ([1, 2], [2, 1])
    y = sm.Rotation(sm.Network(2), [])(x)
    y[0] = 5
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (3, "blocks=3: they must be a list of arrays, one for each bank; see random_blocks"),
        ([], "0 arrays of blocks: the network has 2 banks"),
        ([np.eye(2)] * 3, "3 arrays of blocks"),
        ([np.eye(2)] * 2, r"blocks 0 of shape \(2, 2\): this bank needs \(2, 2, 2\)"),
        ([np.ones((2, 2, 2)), np.ones((1, 2, 2))], r"blocks 1 of shape \(1, 2, 2\)"),
        ([np.full((2, 2, 2), np.nan)] * 2, "blocks 0 contain NaN or infinity"),
        ([np.ones((2, 2, 2)), np.full((2, 2, 2), np.inf)], "blocks 1 contain NaN or infinity"),
        ([np.full((2, 2, 2), "x")] * 2, "must be real or complex numbers"),
        ([np.full((2, 2, 2), None)] * 2, "real or complex numbers"),
        ([[[1.0], [1.0, 2.0]]] * 2, "must be arrays of real or complex numbers"),
    ],
)
@pytest.mark.parametrize(
    "function", [stagewise.matrix_of, stagewise.factors, sm.Rotation, adjoint_blocks]
)
def test_blocks_of_the_wrong_shape_are_rejected(function, blocks, message):
    with pytest.raises(BlockError, match=message):
        function(sm.butterfly(4), blocks)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"x of shape \(3,\): its last axis must be the width 4"),
        (1.0, r"x of shape \(\)"),
        (np.ones((4, 3)), "must be the width 4"),
        (["a", "b", "c", "d"], "must consist of real or complex numbers"),
        ([None] * 4, "must consist of real or complex numbers"),
    ],
)
def test_vectors_of_the_wrong_shape_are_rejected(x, message):
    net = sm.butterfly(4)
    with pytest.raises(BlockError, match=message):
        sm.Rotation(net, sm.identity_blocks(net))(x)
