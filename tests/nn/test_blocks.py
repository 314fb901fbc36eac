"""Generators → blocks in torch: the numpy functions are the oracle, and gradients are compared."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structmat import blocks as reference
from structmat.errors import BlockError
from structmat.nn import blocks
from structmat.testing import seeds

kinds = st.sampled_from(sorted(blocks.KINDS))
radices = st.integers(2, 6)


def drawn(seed, radix, *, unitary, dtype=torch.float64, count=3):
    numbers = reference.generators_per_block(radix, unitary=unitary)
    source = np.random.default_rng(seed)
    return torch.from_numpy(source.standard_normal((count, numbers))).to(dtype)


@given(kinds, radices, st.booleans(), seeds())
def test_values_are_those_of_numpy(kind, radix, unitary, seed):
    g = drawn(seed, radix, unitary=unitary)
    ours = blocks.KINDS[kind](g, radix).numpy()
    theirs = reference.KINDS[kind](g.numpy(), radix)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=200 * radix * np.finfo(float).eps)


@given(kinds, st.integers(2, 4), st.booleans(), seeds())
def test_gradients_are_finite_differences(kind, radix, unitary, seed):
    g = drawn(seed, radix, unitary=unitary, count=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: blocks.KINDS[kind](g, radix), (g,))


@given(radices, st.booleans(), seeds())
def test_the_two_kinds_agree_to_third_order(radix, unitary, seed):
    # (I+Q)(I−Q)⁻¹ = I + 2Q + 2Q² + O(Q³) and exp(2Q) = I + 2Q + 2Q² + O(Q³)
    g = drawn(seed, radix, unitary=unitary)
    g = 1e-4 * g / g.abs().sum(-1, keepdim=True).clamp(min=1e-300)
    difference = blocks.cayley(g, radix) - blocks.exponential(2 * g, radix)
    assert difference.abs().max() < 4e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", sorted(blocks.KINDS))
def test_zero_generators_give_exact_identities(kind, dtype):
    made = blocks.KINDS[kind](torch.zeros(5, 6, dtype=dtype), 4)
    assert torch.equal(made, torch.eye(4, dtype=dtype).expand(5, 4, 4))


def test_an_unknown_kind_suggests_the_nearest():
    with pytest.raises(BlockError, match="blocks='cayly': no such kind; did you mean cayley"):
        blocks.checked_kind("cayly")


def test_a_wrong_number_of_generators_is_refused():
    with pytest.raises(BlockError, match=r"shape \(2, 5\): a block of radix 4 needs 6 numbers"):
        blocks.skew(torch.zeros(2, 5), 4)
