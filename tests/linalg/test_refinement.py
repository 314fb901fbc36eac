"""Refined rotations have the same matrix, and smaller switches for Kronecker products."""

import functools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat.linalg.flat_blocks import flat_block
from structmat.linalg.refinement import refined
from structmat.linalg.shared_blocks import repeated
from structmat.testing import networks, seeds

FIELDS = st.sampled_from(["real", "complex"])


def signed(net, seed, field, factors):
    """Return a rotation with a Kronecker product in each switch, with random signs or phases."""
    source = np.random.default_rng(seed)

    def signs(*shape):
        angles = source.integers(0, 4 if field == "complex" else 2, shape)
        return np.array([1, -1, 1j, -1j])[angles] if field == "complex" else 1 - 2.0 * angles

    blocks = []
    for bank in net.banks:
        block = functools.reduce(np.kron, [flat_block(r, field=field) for r in factors])
        block = signs(bank.count, len(block), 1) * block * signs(bank.count, 1, len(block))
        blocks.append(block)
    return sm.Rotation(net, blocks)


def near(ours, theirs):
    assert np.abs(ours.matrix() - theirs.matrix()).max() <= 200 * ours.network.depth * 2.3e-16


@given(seeds(), FIELDS, st.lists(st.sampled_from([2, 2, 3, 5]), min_size=1, max_size=3))
def test_signed_kronecker_products_split_into_their_factors(seed, field, factors):
    radix = int(np.prod(factors))
    net = sm.families.mixed_radix(2 * radix, radices=(radix, 2)).relabel(
        np.random.default_rng(seed).permutation(2 * radix)
    )
    net = net[:1]
    r = signed(net, seed, field, factors)
    fine = refined(r)
    near(fine, r)
    near(refined(r.H), r.H)
    found = [{b.radix for b in stage.banks} for stage in fine.network.stages]
    assert sorted(map(max, found)) == sorted(factors)
    assert fine.network.nonzeros == sum(f * net.width for f in factors)


@given(networks(), seeds(), st.sampled_from([float, complex]))
def test_refinement_does_not_change_the_matrix(net, seed, dtype):
    r = sm.Rotation(net, sm.random_blocks(net, seed, dtype))
    near(refined(r), r)
    near(refined(refined(r)), r)


@given(networks(), seeds())
def test_generic_blocks_are_not_split(net, seed):
    r = sm.Rotation(net, sm.random_blocks(net, seed, special=False))
    ours, theirs = refined(r).network, net
    assert ours.parameters <= theirs.parameters
    if all(bank.radix < 4 for bank in net.banks):
        assert ours == theirs


def test_hadamard_blocks_become_stages_of_radix_2_that_share_a_block():
    net = sm.mixed_radix(64, largest=8)
    r = sm.Rotation(net, [repeated(flat_block(8)[None], 8)] * 2)
    fine = refined(r)
    assert [bank.radix for bank in fine.network.banks] == [2] * 6
    assert all(block.strides[0] == 0 for block in fine.blocks)
    near(fine, r)


def test_a_wired_network_is_returned_unchanged():
    wired = sm.Network(2, [sm.Stage(2, [sm.Bank([[0, 1]], [[1, 0]])])])
    r = sm.Rotation(wired, sm.random_blocks(wired, 0))
    assert refined(r) is r
