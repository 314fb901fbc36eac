"""The compiled Cayley transform equals torch's, in values and gradients, for all plain tensors."""

import pytest
import torch
from torch.autograd import functional

import structmat as sm
from structmat.nn import Orthogonal
from structmat.nn.parametrizations import cayley, cayley_transform, compiled_cayley


def drawn(count, radix, size):
    source = torch.Generator().manual_seed(radix)
    generators = size * torch.randn(count, radix * (radix - 1) // 2, generator=source)
    return generators, torch.randn(count, radix, radix, generator=source)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("radix", [2, 3, 4, 7, 16])
def test_values_and_gradients_equal_those_in_float64(radix, count, size):
    generators, slopes = drawn(count, radix, size)
    assert compiled_cayley.supports(generators, radix, gradient=True)
    wide = generators.double().requires_grad_()
    wanted = cayley_transform.solved(wide, radix)
    (gradient,) = torch.autograd.grad((wanted * slopes).sum(), wide)
    found = compiled_cayley.blocks(generators, radix)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-7)
    found = compiled_cayley.gradient(generators, slopes).double()
    torch.testing.assert_close(found, gradient, rtol=0, atol=3e-7 * float(gradient.abs().max()))


@pytest.mark.parametrize("radix", [2, 16])
def test_large_or_invalid_generators_are_left_to_torch(radix):
    generators, _ = drawn(3, radix, 1.0)
    for value in (1e6, float("nan"), float("inf")):
        generators[1, 0] = value
        assert not compiled_cayley.supports(generators, radix)
    assert not compiled_cayley.supports(drawn(3, 17, 1.0)[0], 17)
    assert not compiled_cayley.supports(drawn(3, 4, 1.0)[0].double(), 4)


@pytest.mark.parametrize("plan", ["auto", "reference"])
@pytest.mark.parametrize("parametrization", ["cayley", "householder"])
def test_batched_gradients_equal_single_ones(plan, parametrization):
    q = Orthogonal(sm.butterfly(8), plan=plan, parametrization=parametrization)
    x = torch.randn(8, requires_grad=True)
    inputs = [x, *q.generators]
    batched = torch.autograd.grad(q(x), inputs, torch.eye(8), is_grads_batched=True)
    single = [torch.autograd.grad(q(x), inputs, row) for row in torch.eye(8)]
    for found, rows in zip(batched, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(rows))


def test_vectorized_jacobians_and_hessians_equal_plain_ones():
    generators, _ = drawn(2, 3, 1.0)
    for derivative, function in (
        (functional.jacobian, lambda g: cayley(g, 3)),
        (functional.hessian, lambda g: cayley(g, 3).square().sum() + cayley(g, 3).sum()),
    ):
        found = derivative(function, generators, vectorize=True)
        torch.testing.assert_close(found, derivative(function, generators))


def test_tensors_with_the_negative_bit_have_their_values():
    generators, slopes = drawn(9, 3, 1.0)
    negative = torch._neg_view(generators)
    torch.testing.assert_close(cayley(negative, 3), cayley(-generators, 3))
    generators.requires_grad_()
    (found,) = torch.autograd.grad(cayley(generators, 3), generators, torch._neg_view(slopes))
    (wanted,) = torch.autograd.grad(cayley(generators, 3), generators, -slopes)
    torch.testing.assert_close(found, wanted)


def test_cached_blocks_notice_the_negative_bit():
    q = Orthogonal(sm.butterfly(8))
    torch.nn.init.normal_(q.generators[0])
    x = torch.randn(2, 8)
    with torch.no_grad():
        q(x)
        q.generators[0].data = torch._neg_view(q.generators[0].data)
        found = q(x)
        q.plan = "reference"
        torch.testing.assert_close(found, q(x))
