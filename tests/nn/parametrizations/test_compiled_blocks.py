"""Compiled blocks and their gradients equal those of torch, numpy and scipy, for plain tensors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import functional

import structmat as sm
from structmat.errors import BlockError
from structmat.linalg import blocks as in_numpy
from structmat.nn import Orthogonal
from structmat.nn.ops.backends import compiled
from structmat.nn.parametrizations import (
    PARAMETRIZATIONS,
    cayley,
    cayley_transform,
    compiled_blocks,
    exponential,
    givens_householder,
    matrix_exponential,
    skew,
)
from structmat.testing import networks, seeds

# The reference, the parametrization, and the largest generators for blocks of radix 16.
METHODS = {
    "cayley": (cayley_transform.solved, "cayley", 1e3),
    "exponential": (matrix_exponential.plain_exponential, "exp", 9.0),
    "givens": (givens_householder._givens, "givens", 1e5),
    "householder": (givens_householder._householder, "householder", 1e30),
}
EPS = torch.finfo(torch.float32).eps
# Each radix from 2 to 16 with one method at least, as all functions are written in the same way and
# take a while to compile.
RADICES = {
    "cayley": (2, 3, 4, 7, 16),
    "exponential": (2, 3, 4, 7, 10, 13, 16),
    "givens": (2, 3, 5, 8, 11, 14, 16),
    "householder": (2, 3, 6, 9, 12, 15, 16),
}
cases = pytest.mark.parametrize(
    ("code", "radix"), [(code, r) for code in METHODS for r in RADICES[code]]
)
kinds = st.sampled_from(["cayley", "exp", "givens", "householder"])
codes = pytest.mark.parametrize("code", METHODS)


def drawn(count, radix, size):
    source = torch.Generator().manual_seed(radix)
    generators = size * torch.randn(count, radix * (radix - 1) // 2, generator=source)
    return generators, torch.randn(count, radix, radix, generator=source)


def mixed(radix, largest):
    """Return blocks of zero, small, moderate and the largest generators, in two groups of lanes."""
    generators, slopes = drawn(11, radix, 1.0)
    sizes = torch.tensor([0.0, 1e-3, 0.03, 0.1, 0.3, 1.0, 3.0, 1.0, 1.0, 0.1, 0.0])
    generators *= sizes[:, None]
    generators[4] *= largest / generators[4].abs().max()
    return generators, slopes


@cases
def test_values_and_gradients_equal_those_in_float64(code, radix):
    reference, parametrization, largest = METHODS[code]
    generators, slopes = mixed(radix, largest)
    wide = generators.double().requires_grad_()
    wanted = reference(wide, radix)
    (gradient,) = torch.autograd.grad(wanted, wide, slopes.double())
    oracle = in_numpy.PARAMETRIZATIONS[parametrization](generators.double().numpy(), radix)
    found = compiled_blocks.blocks(code, generators, radix).double()
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=EPS)
    torch.testing.assert_close(found, torch.from_numpy(oracle), rtol=0, atol=EPS)
    assert (found.mT @ found - torch.eye(radix)).abs().max() <= 4 * EPS
    found = compiled_blocks.gradient(code, generators, slopes).double()
    bounds = 2 * EPS * gradient.norm(dim=1, keepdim=True)
    assert ((found - gradient).abs() <= bounds).all()


@pytest.mark.parametrize("radix", [3, 8, 16])
def test_exponentials_and_their_gradients_equal_those_of_scipy(radix):
    generators, slopes = mixed(radix, METHODS["exponential"][2])
    blocks = compiled_blocks.blocks("exponential", generators, radix)
    gradients = compiled_blocks.gradient("exponential", generators, slopes)
    q = skew(generators.double(), radix).numpy()
    upper = np.triu_indices(radix, 1)
    for k, g in enumerate(slopes.double().numpy()):
        wanted, derivative = scipy.linalg.expm_frechet(q[k].T, g)
        assert abs(blocks[k].numpy() - wanted.T).max() <= EPS
        gradient = (derivative - derivative.T)[upper]
        bound = 2 * EPS * np.linalg.norm(gradient)
        assert abs(gradients[k].numpy() - gradient).max() <= bound


@codes
def test_gradients_equal_finite_differences(code):
    radix = 5
    generators, slopes = drawn(9, radix, 0.5)
    along = drawn(9, radix, 1.0)[0].double().numpy() * 1e-4
    definition = in_numpy.PARAMETRIZATIONS[METHODS[code][1]]
    g, w = generators.double().numpy(), slopes.double().numpy()
    values = [(w * definition(g + k * along, radix)).sum((1, 2)) for k in (-2, -1, 1, 2)]
    wanted = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12
    found = compiled_blocks.gradient(code, generators, slopes).double().numpy()
    np.testing.assert_allclose((found * along).sum(1), wanted, rtol=0, atol=1e-9)


@codes
def test_a_block_does_not_depend_on_others(code):
    radix = 4
    generators, slopes = mixed(radix, METHODS[code][2])
    together = compiled_blocks.blocks(code, generators, radix)
    gradients = compiled_blocks.gradient(code, generators, slopes)
    for k in range(len(generators)):
        g, w = generators[k : k + 1], slopes[k : k + 1]
        assert torch.equal(compiled_blocks.blocks(code, g, radix)[0], together[k])
        assert torch.equal(compiled_blocks.gradient(code, g, w)[0], gradients[k])


@codes
def test_zero_generators_give_exact_identities(code):
    made = compiled_blocks.blocks(code, torch.zeros(9, 6), 4)
    assert torch.equal(made, torch.eye(4).expand(9, 4, 4))


@pytest.mark.parametrize("kind", ["cayley", "exp", "givens", "householder"])
def test_large_or_invalid_generators_are_left_to_torch(kind, monkeypatch):
    generators, slopes = drawn(10, 4, 1.0)
    bad = [float("nan"), float("inf"), -float("inf"), *([] if kind == "householder" else [1e6])]
    for value in bad:
        made = []
        for available in (compiled.available, lambda _: False):
            given = generators.clone()
            given[1, 0] = value
            given.requires_grad_()
            monkeypatch.setattr(compiled, "available", available)
            blocks = PARAMETRIZATIONS[kind](given, 4)
            made.append((blocks, *torch.autograd.grad(blocks, given, slopes)))
        torch.testing.assert_close(*made, rtol=0, atol=0, equal_nan=True)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("size", "radix", "dtype"),
    [
        (1.0, 17, torch.float32),
        (1.0, 1, torch.float32),
        (1.0, 4, torch.float64),
        (1.0, 4, torch.bfloat16),
        (2.0, 4, torch.float32),
    ],
)
def test_other_generators_are_not_supported(size, radix, dtype):
    generators = size * torch.ones(3, radix * (radix - 1) // 2, dtype=dtype)
    assert not compiled_blocks.supports(generators, radix, 1.0)
    assert not compiled_blocks.supports(torch.ones(0, 6), 4, 1.0)
    assert not compiled_blocks.supports(torch.ones(2, 16), 4, 1.0)  # unitary
    assert compiled_blocks.supports(torch.ones(2, 6), 4, 1.0)


def test_exponentials_of_too_large_generators_are_refused():
    with pytest.raises(BlockError, match="exponentials are computed for norms up to"):
        exponential(torch.full((2, 6), 1e10), 4)


@pytest.mark.parametrize("kind", ["cayley", "exp", "givens", "householder"])
def test_results_without_llvmlite_are_the_same_up_to_rounding(kind, monkeypatch):
    made = []
    for available in (compiled.available, lambda _: False):
        monkeypatch.setattr(compiled, "available", available)
        generators, slopes = drawn(20, 4, 0.5)
        generators.requires_grad_()
        blocks = PARAMETRIZATIONS[kind](generators, 4)
        (first,) = torch.autograd.grad(blocks, generators, slopes, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), generators)
        (plain,) = torch.autograd.grad(PARAMETRIZATIONS[kind](generators, 4), generators, slopes)
        made.append((blocks, first, second, plain))
    for found, wanted, ulps in zip(*made, (2, 20, 200, 20), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=ulps * EPS)


@codes
def test_threads_that_compute_blocks_at_the_same_time_do_not_interfere(code, monkeypatch):
    monkeypatch.setattr(compiled_blocks, "_ALONE", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        generators, slopes = drawn(300, 4, 0.5)

        def results(_):
            return (
                compiled_blocks.blocks(code, generators, 4),
                compiled_blocks.gradient(code, generators, slopes),
            )

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(results, range(40)))
    finally:
        torch.set_num_threads(before)
    wanted = results(None)
    assert all(torch.equal(a, b) for each in made for a, b in zip(each, wanted, strict=True))


@settings(max_examples=20)
@given(networks(), kinds, seeds())
def test_float32_layers_equal_float64_ones(net, kind, seed):
    source = torch.Generator().manual_seed(seed)
    x, w = torch.randn(2, 3, net.width, generator=source)
    made = []
    for dtype in (torch.float32, torch.float64):
        q = Orthogonal(net, parametrization=kind, dtype=dtype, plan="reference")
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for g in q.generators:
                g.copy_(torch.randn(g.shape, generator=source))
        leaf = x.to(dtype, copy=True).requires_grad_()
        y = q(leaf)
        made.append([y, *torch.autograd.grad(y, [leaf, *q.generators], w.to(dtype))])
    for found, wanted in zip(*made, strict=True):
        bound = 20 * EPS * (1 + net.depth) * float(x.norm() * (1 + w.norm()))
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=bound)


@pytest.mark.parametrize("plan", ["auto", "reference"])
@pytest.mark.parametrize("parametrization", ["cayley", "exp", "givens", "householder"])
def test_batched_gradients_equal_single_ones(plan, parametrization):
    q = Orthogonal(sm.butterfly(8), plan=plan, parametrization=parametrization)
    x = torch.randn(8, requires_grad=True)
    inputs = [x, *q.generators]
    batched = torch.autograd.grad(q(x), inputs, torch.eye(8), is_grads_batched=True)
    single = [torch.autograd.grad(q(x), inputs, row) for row in torch.eye(8)]
    for found, rows in zip(batched, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(rows))


@pytest.mark.parametrize("kind", ["cayley", "exp", "givens", "householder"])
def test_vectorized_jacobians_and_hessians_equal_plain_ones(kind):
    generators, _ = drawn(2, 3, 1.0)
    made = PARAMETRIZATIONS[kind]
    for derivative, function in (
        (functional.jacobian, lambda g: made(g, 3)),
        (functional.hessian, lambda g: made(g, 3).pow(3).sum() + made(g, 3).sum()),
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
