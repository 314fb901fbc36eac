"""Layers that are reset to the identity, with the same or another network."""

import pytest
import torch
from hypothesis import given, settings

import structmat as sm
from structmat.errors import WidthError
from structmat.nn import Orthogonal
from structmat.testing import networks, seeds
from tests.random_modules import randomised


@settings(max_examples=25)
@given(networks(max_width=12), seeds())
def test_restarted_layers_equal_new_ones(net, seed):
    other = sm.mixed_radix(net.width) if net.width > 1 else net
    q = randomised(Orthogonal(net, dtype=torch.float64), seed)
    kept = list(q.generators)
    q.restart()
    assert list(map(id, q.generators)) == list(map(id, kept))
    assert torch.equal(q.matrix(), Orthogonal(net, dtype=torch.float64).matrix())

    q.restart(other)
    new = Orthogonal(other, dtype=torch.float64)
    shapes = [g.shape for g in new.generators]
    assert [g.shape for g in q.generators] == shapes
    assert q.generator_scale == new.generator_scale
    for mine, old in zip(q.generators, kept, strict=False):
        assert (mine is old) == (mine.shape == old.shape)
    x = torch.ones(2, net.width, dtype=torch.float64)
    torch.testing.assert_close(randomised(q, seed)(x), randomised(new, seed)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_dtype_and_frozen_parameters_are_kept(dtype):
    q = Orthogonal("butterfly", 8, dtype=dtype, generator_scaling="none").requires_grad_(
        requires_grad=False
    )
    q.restart("block_diagonal(block=4)")
    assert q.unitary == dtype.is_complex
    assert {(g.dtype, g.requires_grad) for g in q.generators} == {(torch.float32, False)}
    assert q.generator_scale == 1


def test_an_unsuitable_topology_leaves_the_layer_unchanged():
    q = randomised(Orthogonal("butterfly", 8), 0)
    before = q.matrix()
    with pytest.raises(WidthError, match="width must be"):
        q.restart("block_diagonal(block=3)")
    assert torch.equal(q.matrix(), before)
