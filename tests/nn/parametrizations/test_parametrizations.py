"""Blocks from generators in torch agree with the numpy functions; gradients are compared."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

import structmat as sm
from structmat.errors import BlockError
from structmat.linalg import blocks as reference
from structmat.nn import Orthogonal, parametrizations
from structmat.nn.parametrizations import cayley_transform, generators, matrix_exponential
from structmat.nn.parametrizations.matrix_products import times
from structmat.testing import seeds

kinds = st.sampled_from(sorted(parametrizations.PARAMETRIZATIONS))
radices = st.integers(2, 6)
dtypes = st.sampled_from([torch.float32, torch.float64])
# The first forward-mode derivative makes torch script something, and torch deprecates scripting.
forward_mode = pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
PLAIN = {"cayley": cayley_transform.plain_cayley, "exp": matrix_exponential.plain_exponential}


def drawn(seed, radix, *, unitary, dtype=torch.float64, count=3):
    numbers = reference.generators_per_block(radix, field="complex" if unitary else "real")
    source = np.random.default_rng(seed)
    return torch.from_numpy(source.standard_normal((count, numbers))).to(dtype)


def reflected(g, radix):
    return cayley_transform.reflected(g, radix, unitary=generators.is_unitary(g, radix))


WAYS = {
    **parametrizations.PARAMETRIZATIONS,
    "reflections": reflected,
    "solving": cayley_transform.solved,
    "plain exp": PLAIN["exp"],
}
ways = st.sampled_from(sorted(WAYS))
orthogonal_ways = st.sampled_from(sorted(WAYS.keys() - {"cayley_neumann"}))


def oracle(way, g, radix):
    kind = {"reflections": "cayley", "solving": "cayley", "plain exp": "exp"}.get(way, way)
    return torch.from_numpy(reference.PARAMETRIZATIONS[kind](g.numpy(), radix))


def orthogonality(made):
    """Return the largest entry of |RᴴR − I|, in ulps, computed in double precision."""
    wide = made.to(torch.complex128 if made.is_complex() else torch.float64)
    gram = wide.mH @ wide
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return float(gram.abs().max()) / torch.finfo(made.dtype).eps


@given(ways, radices, st.booleans(), seeds())
def test_values_equal_those_of_numpy(way, radix, unitary, seed):
    g = drawn(seed, radix, unitary=unitary)
    ours, theirs = WAYS[way](g, radix), oracle(way, g, radix)
    assert ours.dtype == theirs.dtype
    largest = theirs.abs().max().clamp(min=1)  # a series cut short is not orthogonal
    assert (ours - theirs).abs().max() <= 50 * radix * torch.finfo(ours.dtype).eps * largest


@given(ways, st.integers(2, 9), st.booleans(), st.floats(-3, 3), seeds())
def test_float32_values_are_correctly_rounded(way, radix, unitary, size, seed):
    g = drawn(seed, radix, unitary=unitary, dtype=torch.float32) * 10**size
    ours, theirs = WAYS[way](g, radix), oracle(way, g.double(), radix)
    assert ours.is_contiguous()
    assert ours.dtype == (torch.complex64 if unitary else torch.float32)
    largest = theirs.abs().max().clamp(min=1)
    assert (ours - theirs).abs().max() <= 1.5 * torch.finfo(ours.dtype).eps * largest


@given(orthogonal_ways, st.integers(2, 12), st.booleans(), st.floats(-3, 3), dtypes, seeds())
def test_blocks_are_orthogonal_to_rounding_at_any_size(way, radix, unitary, size, dtype, seed):
    g = drawn(seed, radix, unitary=unitary, dtype=dtype, count=5)
    g = g * 10**size / g.norm(dim=-1, keepdim=True)
    products = dtype == torch.float64 and way in ("reflections", "householder", "givens")
    assert orthogonality(WAYS[way](g, radix)) <= (3 * radix if products else 10)


@pytest.mark.parametrize(
    ("way", "size"), [("reflections", 1e5), ("reflections", 1e8), ("exp", 1e5)]
)
def test_float32_blocks_of_large_generators_are_orthogonal(way, size):
    for radix in (2, 3, 8):
        g = size * drawn(0, radix, unitary=False, dtype=torch.float32, count=100)
        assert orthogonality(WAYS[way](g, radix)) <= 10


@forward_mode
@settings(max_examples=15)
@given(kinds, st.integers(2, 4), st.booleans(), seeds())
def test_first_and_second_derivatives_equal_finite_differences(kind, radix, unitary, seed):
    g = drawn(seed, radix, unitary=unitary, count=2).requires_grad_()

    def made(g):
        return parametrizations.PARAMETRIZATIONS[kind](g, radix)

    assert torch.autograd.gradcheck(made, (g,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(made, (g,), fast_mode=True)


@given(
    st.sampled_from(sorted(PLAIN)),
    st.integers(2, 9),
    st.booleans(),
    dtypes,
    st.floats(-2, 1),
    seeds(),
)
def test_gradients_equal_those_of_the_plain_implementation(kind, radix, unitary, dtype, size, seed):
    g = (10**size * drawn(seed, radix, unitary=unitary, dtype=dtype)).requires_grad_()
    ours = parametrizations.PARAMETRIZATIONS[kind](g, radix)
    w = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(seed))
    (got,) = torch.autograd.grad(ours, g, w)
    wide = g.detach().double().requires_grad_()
    theirs = PLAIN[kind](wide, radix)
    (wanted,) = torch.autograd.grad(theirs, wide, w.to(theirs.dtype))
    assert got.dtype == dtype
    ulps = 100 * radix * (1 + float(g.detach().norm(dim=-1).max()))
    assert (got - wanted).abs().max() <= ulps * torch.finfo(dtype).eps * w.abs().max()


@pytest.mark.parametrize("radix", [3, 8])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_blocks_and_gradients_of_a_large_bank_equal_those_of_its_parts(kind, radix):
    many = drawn(5, radix, unitary=False, dtype=torch.float32, count=1500).requires_grad_()
    made = parametrizations.PARAMETRIZATIONS[kind](many, radix)
    parts = torch.cat([parametrizations.PARAMETRIZATIONS[kind](g, radix) for g in many.split(10)])
    assert (made - parts).abs().max() <= 2 * torch.finfo(made.dtype).eps
    w = torch.arange(made.numel()).view_as(made).cos()
    (ours,) = torch.autograd.grad(made, many, w)
    (theirs,) = torch.autograd.grad(parts, many, w)
    assert (ours - theirs).abs().max() <= 1e-5


@given(st.integers(1, 9), st.sampled_from([1, 300]), st.booleans(), seeds())
def test_products_equal_those_of_torch(radix, count, unitary, seed):
    source = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if unitary else torch.float64
    a, b = torch.randn(2, count, radix, radix, dtype=dtype, generator=source)
    torch.testing.assert_close(times(a, b), a @ b, rtol=0, atol=1e-13)
    torch.testing.assert_close(times(times(a.mT, b), a), a.mT @ b @ a, rtol=0, atol=1e-12)


@forward_mode
@settings(max_examples=20)
@given(kinds, st.integers(2, 4), st.booleans(), seeds())
def test_torch_func_transforms_agree_with_autograd(kind, radix, unitary, seed):
    g = drawn(seed, radix, unitary=unitary, count=2)

    def made(g):
        return (
            torch.view_as_real(parametrizations.PARAMETRIZATIONS[kind](g, radix))
            if unitary
            else parametrizations.PARAMETRIZATIONS[kind](g, radix)
        )

    wanted = torch.autograd.functional.jacobian(made, g)
    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        torch.testing.assert_close(jacobian(made)(g), wanted)
    torch.testing.assert_close(torch.func.vmap(made)(g), made(g))
    torch.testing.assert_close(torch.func.vmap(made, in_dims=1)(g.mT.contiguous()), made(g))

    def total(g):
        return (made(g) ** 3).sum()

    each = torch.stack([torch.func.grad(total)(one) for one in g])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(total))(g), each)
    torch.testing.assert_close(
        torch.func.hessian(total)(g), torch.autograd.functional.hessian(total, g)
    )


# torch's compiler instantiates torch.autograd.Function, and torch deprecates that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("count", "radix"), [(2, 2), (400, 3), (2, 6), (400, 6)])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_compiled_blocks_and_gradients_are_the_same(kind, count, radix):
    torch.compiler.reset()
    g = drawn(1, radix, unitary=False, dtype=torch.float32, count=count).requires_grad_()
    plain = parametrizations.PARAMETRIZATIONS[kind]
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(g, radix), plain(g, radix))
    ours, theirs = (
        torch.autograd.grad(made(g, radix).cos().sum(), g)[0] for made in (compiled, plain)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("unitary", [False, True])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
@pytest.mark.parametrize("shape", [(0,), (), (2, 3), (2, 0, 3), (500,)])
def test_block_shapes_follow_the_generator_shapes(kind, shape, unitary):
    for radix in (2, 3, 1):
        if radix == 1 and not unitary:
            assert parametrizations.PARAMETRIZATIONS[kind](torch.ones(*shape, 0), 1).shape == (
                *shape,
                1,
                1,
            )
            continue
        numbers = reference.generators_per_block(radix, field="complex" if unitary else "real")
        g = torch.ones(*shape, numbers, requires_grad=True)
        made = parametrizations.PARAMETRIZATIONS[kind](g, radix)
        assert made.shape == (*shape, radix, radix)
        made.abs().sum().backward()
        assert g.grad.shape == g.shape
        meta = parametrizations.PARAMETRIZATIONS[kind](
            g.detach().to("meta").requires_grad_(), radix
        )
        assert (meta.shape, meta.dtype, meta.is_meta) == (made.shape, made.dtype, True)
        meta.abs().sum().backward()
        with FakeTensorMode():
            fake = parametrizations.PARAMETRIZATIONS[kind](
                torch.ones(*shape, numbers, requires_grad=True), radix
            )
            fake.abs().sum().backward()
        assert (fake.shape, fake.dtype) == (made.shape, made.dtype)


@given(radices, st.booleans(), seeds())
def test_to_generators_is_the_adjoint_of_skew(radix, unitary, seed):
    g, h = drawn(seed, radix, unitary=unitary, count=2)
    s = torch.randn(radix, radix, dtype=parametrizations.skew(g, radix).dtype)
    s = s + parametrizations.skew(h, radix)
    left = (s.conj() * parametrizations.skew(g, radix)).sum().real
    assert abs(left - generators.to_generators(s) @ g) < 1e-12


@given(radices, st.booleans(), seeds())
def test_cayley_and_exponential_agree_to_second_order(radix, unitary, seed):
    # (I+Q)(I−Q)⁻¹ = I + 2Q + 2Q² + O(Q³) and exp(2Q) = I + 2Q + 2Q² + O(Q³)
    g = drawn(seed, radix, unitary=unitary)
    g = 1e-4 * g / g.abs().sum(-1, keepdim=True).clamp(min=1e-300)
    difference = parametrizations.cayley(g, radix) - parametrizations.exponential(2 * g, radix)
    assert difference.abs().max() < 4e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_zero_generators_give_exact_identities(way, dtype):
    for radix in (2, 4, 7):
        made = WAYS[way](torch.zeros(5, radix * (radix - 1) // 2, dtype=dtype), radix)
        assert torch.equal(made, torch.eye(radix, dtype=dtype).expand(5, radix, radix))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_non_finite_generators_give_nan_blocks_and_gradients(kind, bad):
    g = torch.zeros(2, 3, requires_grad=True)
    with torch.no_grad():
        g[0, 1] = bad
    made = parametrizations.PARAMETRIZATIONS[kind](g, 3)
    made.sum().backward()
    assert made[0].isnan().any()
    assert g.grad[0].isnan().any()


@given(st.integers(2, 4), st.booleans())
def test_derivatives_at_the_identity_exist_to_second_order(radix, unitary):
    size = reference.generators_per_block(radix, field="complex" if unitary else "real")
    g = torch.zeros(1, size, dtype=torch.float64)
    for kind, made in parametrizations.PARAMETRIZATIONS.items():
        slope = 1 if kind in ("exp", "givens") else 2  # B = I + slope·Q + …
        h = drawn(radix, radix, unitary=unitary, count=1)
        _, turned = torch.autograd.functional.jvp(lambda g, made=made: made(g, radix), g, h)
        torch.testing.assert_close(turned, slope * parametrizations.skew(h, radix))
        g.requires_grad_()
        assert torch.autograd.gradgradcheck(
            lambda g, made=made: made(g, radix), (g,), fast_mode=True
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_layers_of_every_parametrization_start_as_the_identity(kind, dtype):
    q = Orthogonal(sm.butterfly(8), parametrization=kind, dtype=dtype)
    assert torch.equal(q.matrix(), torch.eye(8, dtype=dtype))
    assert q.orthogonality_error() == 0
    with torch.no_grad():
        for g in q.generators:
            g.fill_(0.5)
    error = q.orthogonality_error()
    assert error > 0.05 if kind == "cayley_neumann" else error < 1e-6


def test_an_unknown_parametrization_suggests_the_nearest():
    with pytest.raises(
        BlockError, match="parametrization='cayly': no such parametrization; did you mean cayley"
    ):
        parametrizations.checked_parametrization("cayly")


@pytest.mark.parametrize(
    "made", [parametrizations.skew, *parametrizations.PARAMETRIZATIONS.values()]
)
def test_a_wrong_number_of_generators_is_refused(made):
    with pytest.raises(BlockError, match=r"shape \(2, 5\): a block of radix 4 needs 6 numbers"):
        made(torch.zeros(2, 5), 4)
