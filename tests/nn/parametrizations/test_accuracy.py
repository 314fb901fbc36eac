"""Blocks and their derivatives, for generators of every size, compared with mpmath."""

import mpmath
import numpy as np
import pytest
import torch

from structmat.errors import BlockError
from structmat.linalg import blocks as reference
from structmat.nn import parametrizations
from structmat.nn.parametrizations import cayley_transform, generators, matrix_exponential

EPS = float(np.finfo(float).eps)
SHAPES = [(2, False), (3, False), (4, False), (1, True), (2, True), (3, True)]
SIZES = [1e-310, 1e-30, 1e-8, 1.0, 1e4, 1e6, 1e8, 1e20, 1e30, 1e150]
EXACT = sorted(parametrizations.PARAMETRIZATIONS.keys() - {"cayley_neumann"})


def drawn(radix, *, unitary, size, dtype=torch.float64, count=1, seed=0):
    numbers = reference.generators_per_block(radix, field="complex" if unitary else "real")
    source = torch.Generator().manual_seed(seed)
    g = torch.randn(count, numbers, generator=source, dtype=torch.float64)
    return (size * g).to(dtype)


def orthogonality(made):
    """Return the largest entry of |RᴴR − I|, in ulps."""
    wide = made.detach().to(torch.complex128 if made.is_complex() else torch.float64)
    gram = wide.mH @ wide
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return float(gram.abs().max()) / torch.finfo(made.dtype).eps


# The oracle: the definitions in multiple precision ---------------------------------------------


def skew(g, radix):
    unitary, pairs = len(g) == radix * radix, radix * (radix - 1) // 2
    q = mpmath.zeros(radix)
    for k, (i, j) in enumerate(zip(*np.triu_indices(radix, 1), strict=True)):
        i, j = int(i), int(j)
        q[i, j] = mpmath.mpc(g[k], g[pairs + k]) if unitary else g[k]
        q[j, i] = -mpmath.conj(q[i, j])
    for i in range(radix if unitary else 0):
        q[i, i] = mpmath.mpc(0, g[2 * pairs + i])
    return q


def exact_exp(q):
    halvings = max(0, int(mpmath.ceil(mpmath.log(mpmath.mnorm(q, 1) + 1, 2)))) + 64
    made = term = mpmath.eye(q.rows)
    for k in range(1, 20):
        term = term * (q / mpmath.mpf(2) ** halvings) / k
        made = made + term
    for _ in range(halvings):
        made = made * made
    return made


def exact_givens(q):
    made = mpmath.eye(q.rows)
    for i in range(q.rows):
        for j in range(i + 1, q.rows):
            plane, size = mpmath.eye(q.rows), abs(q[i, j])
            unit = q[i, j] / size if size else size
            plane[i, i] = plane[j, j] = mpmath.cos(size)
            plane[i, j] = unit * mpmath.sin(size)
            plane[j, i] = -mpmath.conj(plane[i, j])
            made = made * plane
        phase = mpmath.eye(q.rows)
        phase[i, i] = mpmath.exp(q[i, i])
        made = made * phase
    return made


def exact_householder(q):
    made = mpmath.eye(q.rows)
    for i in range(q.rows):
        v = mpmath.zeros(q.rows, 1)
        v[i] = 1
        for j in range(i + 1, q.rows):
            v[j] = q[j, i]
        s = (v.H * v)[0] - q[i, i]
        made = made * (mpmath.eye(q.rows) - 2 / s * v * v.H)
    return made * -1


def exact_cayley(q):
    one = mpmath.eye(q.rows)
    return (one - q) ** -1 * (one + q)


def exact_neumann(q):
    return mpmath.eye(q.rows) + 2 * q + 2 * q**2 + 2 * q**3 + q**4


ORACLES = {
    "cayley": exact_cayley,
    "exp": exact_exp,
    "givens": exact_givens,
    "householder": exact_householder,
    "cayley_neumann": exact_neumann,
}


def exact(kind, g, radix, along, weights):
    """Return the block, and two derivatives of Re⟨weights, block⟩ along a direction."""
    top = max(abs(mpmath.mpf(v)) for v in g)
    with mpmath.workdps(int(130 + 3 * abs(mpmath.log10(top)))):
        g, along = ([mpmath.mpf(v) for v in values] for values in (g, along))
        step = top * mpmath.mpf(10) ** -25
        step = min(step, mpmath.mpf(10) ** -25)
        made = [
            ORACLES[kind](skew([v + k * step * h for v, h in zip(g, along, strict=True)], radix))
            for k in (-1, 0, 1)
        ]

        def paired(block):
            return sum(
                mpmath.re(mpmath.conj(complex(weights[i, j])) * block[i, j])
                for i in range(radix)
                for j in range(radix)
            )

        low, here, high = (paired(block) for block in made)
        first, second = (high - low) / (2 * step), (high - 2 * here + low) / step**2
        block = np.array([[complex(made[1][i, j]) for j in range(radix)] for i in range(radix)])
        return block, float(first), float(second)


def first_and_second(kind, g, radix, along, weights):
    """Return the block, its gradient without and with a graph, and a second derivative along h."""
    made = parametrizations.PARAMETRIZATIONS[kind](g, radix)
    w = weights.to(made.dtype)[None]
    (plain,) = torch.autograd.grad(made, g, w, retain_graph=True)
    (slopes,) = torch.autograd.grad(made, g, w, create_graph=True)
    (second,) = torch.autograd.grad((slopes * along).sum(), g)
    return made.detach(), plain, slopes.detach(), second


def weighted(radix, *, unitary):
    source = np.random.default_rng(radix)
    w = source.standard_normal((radix, radix)) + unitary * 1j * source.standard_normal(
        (radix, radix)
    )
    return torch.from_numpy(w if unitary else w.real)


@pytest.mark.parametrize(("radix", "unitary"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_values_and_two_derivatives_agree_with_mpmath(kind, dtype, radix, unitary):
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    # Half of the sizes for larger blocks in single precision: multiple precision is slow.
    for size in SIZES if dtype == torch.float64 or radix < 3 else SIZES[1::2]:
        if not tiny / 1e3 < size < torch.finfo(dtype).max / 10:
            continue
        if kind == "cayley_neumann" and size > (1e8 if dtype == torch.float32 else 1e30):
            continue  # its fourth powers are more than the dtype holds
        if kind == "exp" and size > 1e8 and (radix > 2 or unitary):
            continue  # refused
        g = drawn(radix, unitary=unitary, size=size, dtype=dtype).requires_grad_()
        along = drawn(radix, unitary=unitary, size=1.0, dtype=dtype, seed=1)
        weights = weighted(radix, unitary=unitary)
        made, plain, slopes, second = first_and_second(kind, g, radix, along, weights)
        numbers = g.detach()[0].tolist()
        block, first_along, second_along = exact(kind, numbers, radix, along[0].tolist(), weights)
        largest = 1.0
        if kind == "cayley_neumann":  # of the terms of its series, which may cancel
            norm = float(g.detach().double().norm()) * 2**0.5
            largest += 2 * norm + 2 * norm**2 + 2 * norm**3 + norm**4
        # What rounding Q to float64 does to angles, where blocks have some of |Q|.
        turned = 8 * EPS * float(g.detach().double().norm()) if kind in ("exp", "givens") else 0
        turned *= radix > 2 or unitary
        within = (4 * radix * eps + turned) * largest
        assert abs(made[0].numpy() - block).max() <= within, size
        if kind == "cayley_neumann":
            assert orthogonality(made) <= 10 or size > 1e-4
        else:
            products = dtype == torch.float64 and kind in ("givens", "householder")
            assert orthogonality(made) <= (10 * radix if products else 10), size
        # Slopes are exact by their size, and so are the second ones.
        cost = 200 * radix * (eps + EPS * float(g.detach().double().norm()))
        if cost > 0.1:
            assert all(t.isfinite().all() for t in (plain, slopes, second)), size
            continue
        stretch = float(along.double().norm())
        for got in (plain, slopes):
            error = abs(float((got.double() * along.double()).sum()) - first_along)
            assert error <= cost * stretch * float(got.double().norm()) + 1e3 * tiny, size
        error = abs(float((second.double() * along.double()).sum()) - second_along)
        assert error <= cost * stretch * float(second.double().norm()) + 1e3 * tiny, size


# Both implementations, all dtypes, and non-finite values --------------------------------------


@pytest.mark.parametrize(("radix", "unitary"), [*SHAPES, (8, False), (16, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", EXACT)
def test_blocks_agree_with_the_reference_for_generators_of_every_size(kind, dtype, radix, unitary):
    eps = torch.finfo(dtype).eps
    for size in SIZES:
        if not torch.finfo(dtype).tiny / 1e3 < size < torch.finfo(dtype).max / 10:
            continue
        if kind == "exp" and size > 1e8 / radix and (radix > 2 or unitary):
            continue
        g = drawn(radix, unitary=unitary, size=size, dtype=dtype, count=3)
        ours, theirs = (
            parametrizations.PARAMETRIZATIONS[kind](g, radix),
            reference.PARAMETRIZATIONS[kind](g.numpy(), radix),
        )
        assert orthogonality(torch.from_numpy(theirs)) <= 10 * radix
        # A norm taken in another order is another number; angles are as large as it.
        turned = 8 * radix * EPS * size * (kind == "exp" or (kind == "givens" and unitary))
        assert abs(ours.numpy() - theirs).max() <= 10 * radix * eps + turned, size


@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_generators_are_computed_in_float32(kind, dtype):
    for radix, unitary in SHAPES:
        g = drawn(radix, unitary=unitary, size=0.7, dtype=dtype, count=3).requires_grad_()
        wide = g.detach().float().requires_grad_()
        made, same = (
            parametrizations.PARAMETRIZATIONS[kind](g, radix),
            parametrizations.PARAMETRIZATIONS[kind](wide, radix),
        )
        assert made.dtype == same.dtype
        torch.testing.assert_close(made, same, rtol=0, atol=4e-7)
        for result, leaf in ((made, g), (same, wide)):
            result.abs().pow(3).sum().backward()
            assert leaf.grad.dtype == leaf.dtype
        torch.testing.assert_close(g.grad, wide.grad.to(dtype), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("count", [2, 2000])
@pytest.mark.parametrize(("radix", "unitary"), [(2, False), (3, False), (4, False), (3, True)])
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_non_finite_generators_affect_only_their_own_block(kind, radix, unitary, count):
    for bad in (np.nan, np.inf, -np.inf):
        g = drawn(radix, unitary=unitary, size=1.0, dtype=torch.float32, count=count)
        clean = parametrizations.PARAMETRIZATIONS[kind](g, radix)
        g[1, -1] = bad
        g.requires_grad_()
        made = parametrizations.PARAMETRIZATIONS[kind](g, radix)
        assert made[1].isnan().any()
        assert (made[0] - clean[0]).abs().max() <= 1e-6
        made.abs().sum().backward()
        assert g.grad[1].isnan().any()
        assert g.grad[0].isfinite().all()


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("size", [1e4, 1e8, 1e20])
def test_a_large_bank_of_large_generators_equals_its_parts(kind, size):
    for radix in (3, 4):
        if kind == "exp" and size > 1e8:
            continue
        g = drawn(radix, unitary=False, size=size, dtype=torch.float32, count=1500).requires_grad_()
        made = parametrizations.PARAMETRIZATIONS[kind](g, radix)
        parts = torch.cat(
            [parametrizations.PARAMETRIZATIONS[kind](part, radix) for part in g.split(100)]
        )
        assert orthogonality(made) <= 10
        assert (made - parts).abs().max() <= 2 * torch.finfo(made.dtype).eps
        w = torch.arange(made.numel()).view_as(made).cos()
        (ours,), (theirs,) = (torch.autograd.grad(m, g, w) for m in (made, parts))
        if size <= 1e8:
            bound = 1e-5 * theirs.norm(dim=-1, keepdim=True)
            assert ((ours - theirs).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", EXACT)
def test_one_large_block_does_not_reduce_the_accuracy_of_others(kind, dtype):
    g = drawn(4, unitary=False, size=0.3, dtype=dtype, count=3)
    mixed = torch.cat([g, 1e8 * g[:1]]).requires_grad_()
    alone = g.clone().requires_grad_()
    made, wanted = (
        parametrizations.PARAMETRIZATIONS[kind](mixed, 4),
        parametrizations.PARAMETRIZATIONS[kind](alone, 4),
    )
    eps = torch.finfo(dtype).eps
    assert (made[:3] - wanted).abs().max() <= 10 * eps
    w = torch.arange(48).view(3, 4, 4).cos().to(dtype)
    (ours,), (theirs,) = (
        torch.autograd.grad(made[:3], mixed, w),
        torch.autograd.grad(wanted, alone, w),
    )
    assert (ours[:3] - theirs).abs().max() <= 100 * eps


# Exponentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e10, 1e20, 1e30, 1e200])
def test_exponentials_of_too_large_generators_are_refused(size):
    for radix, unitary in SHAPES:
        g = drawn(radix, unitary=unitary, size=size, count=2)
        g[0] = 0.1
        if radix == 2 and not unitary:
            assert orthogonality(parametrizations.exponential(g, 2)) <= 4
            assert (
                abs(reference.exponential(g, 2) - parametrizations.exponential(g, 2).numpy()).max()
                < 1e-15
            )
            continue
        for made in (parametrizations.exponential, reference.exponential):
            with pytest.raises(BlockError, match=r"exponentials are computed for norms up to"):
                made(g, radix)
        # Compiled code cannot check values, so it returns NaN.
        plain = matrix_exponential.plain_exponential(g, radix)
        assert plain[1].isnan().any()
        assert (plain[0] - parametrizations.exponential(g[:1], radix)[0]).abs().max() < 1e-14


@pytest.mark.parametrize("norm", [0.1, 0.4, 0.8, 1.6, 12.8, 819.2])
def test_exponentials_are_accurate_in_float64_at_the_norm_limits(norm):
    """Rodrigues' formula for three wires, where the norm is that of the generators."""
    g = drawn(3, unitary=False, size=1.0, count=7)
    g *= norm * (1 - 1e-9) / g.norm(dim=-1, keepdim=True)
    q, angle = reference.skew(g.numpy(), 3), np.linalg.norm(g.numpy(), axis=-1)[:, None, None]
    wanted = np.eye(3) + np.sin(angle) / angle * q + (1 - np.cos(angle)) / angle**2 * (q @ q)
    made = parametrizations.exponential(g, 3)
    assert abs(made.numpy() - wanted).max() <= 10 * EPS * (1 + norm)
    assert orthogonality(made) <= 10


@pytest.mark.parametrize("norm", [0.4, 0.8, 102.4])
def test_exponentials_are_accurate_in_float32_at_the_norm_limits(norm):
    """The values are compared before they are rounded to single precision."""
    g = drawn(3, unitary=False, size=1.0, count=7)
    g *= norm * (1 - 1e-9) / g.norm(dim=-1, keepdim=True)
    made = matrix_exponential._doubled(g, 3, single=True)
    assert (made - parametrizations.exponential(g, 3)).abs().max() <= np.finfo(np.float32).eps / 8


@pytest.mark.parametrize("norm", [0.4, 0.8, 1.6])
def test_unitary_exponentials_are_accurate_when_the_norm_is_underestimated(norm):
    """The norm λ of iλvvᴴ is nearly √2 times that of its generators."""
    radix = 24
    source = np.random.default_rng(0)
    v = np.exp(2j * np.pi * source.random(radix))[:, None] / radix**0.5
    projector = v @ v.conj().T
    above = (1j * projector)[np.triu_indices(radix, 1)]
    g = np.concatenate([above.real, above.imag, np.diagonal(projector).real])
    turn = norm * (1 - 1e-9) / np.linalg.norm(g)
    assert turn > 1.35 * norm
    made = parametrizations.exponential(torch.from_numpy(turn * g), radix).numpy()
    wanted = np.eye(radix) + (np.exp(1j * turn) - 1) * projector
    assert abs(made - wanted).max() <= 10 * EPS
    assert abs(v.conj().T @ made @ v - np.exp(1j * turn)) <= 20 * EPS


@pytest.mark.parametrize(("radix", "unitary"), [(3, False), (4, False), (2, True), (5, True)])
def test_a_single_exponential_is_as_accurate_as_several(radix, unitary):
    """torch's exponential of a batch of one has errors of 2e-10 at some norms."""
    for size in (1e-3, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0):
        g = drawn(radix, unitary=unitary, size=size, count=2)
        several = matrix_exponential.plain_exponential(g, radix)
        for k in range(2):
            one = matrix_exponential.plain_exponential(g[k : k + 1], radix)[0]
            assert (one - several[k]).abs().max() <= 100 * EPS * (1 + size)
            assert (
                one - torch.linalg.matrix_exp(parametrizations.skew(g, radix))[k]
            ).abs().max() <= 1e-13
        w = weighted(radix, unitary=unitary)
        slopes = []
        for part in (g[:1], g):
            leaf = part.clone().requires_grad_()
            total = (parametrizations.exponential(leaf, radix)[0] * w).sum().real
            (first,) = torch.autograd.grad(total, leaf, create_graph=True)
            (second,) = torch.autograd.grad(first[0].square().sum(), leaf)
            slopes.append((first[0].detach(), second[0]))
        for ours, theirs in zip(*slopes, strict=True):
            assert (ours - theirs).abs().max() <= 1e-13 * (1 + float(theirs.abs().max()))


@pytest.mark.parametrize("norm", [0.02, 0.03, 0.04, 0.048, 0.3, 1.0])
@pytest.mark.parametrize("radix", [3, 4, 8])
def test_matrix_exp_of_one_matrix_is_accurate_where_torchs_is_not(radix, norm):
    q = parametrizations.skew(drawn(radix, unitary=False, size=1.0), radix)
    q = q * norm / torch.linalg.matrix_norm(q, 1)
    exact = torch.linalg.matrix_exp(torch.cat([q, q]))[0]
    assert (matrix_exponential._matrix_exp(q)[0] - exact).abs().max() <= 8 * EPS
    assert (matrix_exponential._matrix_exp(q[0]) - exact).abs().max() <= 8 * EPS


def test_gradients_are_accurate_for_any_size_of_the_incoming_gradient():
    g = drawn(4, unitary=False, size=0.5, count=3).requires_grad_()
    made = parametrizations.exponential(g, 4)
    w = torch.arange(48, dtype=torch.float64).view(3, 4, 4).cos()
    (wanted,) = torch.autograd.grad(made, g, w, retain_graph=True)
    for size in (1e-30, 1e10, 1e30):
        for graph in (False, True):
            (got,) = torch.autograd.grad(made, g, size * w, create_graph=graph, retain_graph=True)
            torch.testing.assert_close(got / size, wanted, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("kind", sorted(parametrizations.PARAMETRIZATIONS))
def test_batched_gradients_equal_single_ones(kind):
    for radix, unitary in SHAPES:
        g = drawn(radix, unitary=unitary, size=2.0, count=2).requires_grad_()
        made = parametrizations.PARAMETRIZATIONS[kind](g, radix)
        w = torch.randn(
            3, *made.shape, dtype=made.dtype, generator=torch.Generator().manual_seed(0)
        )
        for graph in (False, True):
            (ours,) = torch.autograd.grad(
                made, g, w, is_grads_batched=True, retain_graph=True, create_graph=graph
            )
            each = [torch.autograd.grad(made, g, one, retain_graph=True)[0] for one in w]
            torch.testing.assert_close(ours, torch.stack(each))


@pytest.mark.parametrize("turn", [0.3, 0.9, 1 - 1e-9, 1 + 1e-9, 1.1])
def test_unitary_givens_blocks_are_accurate_on_both_sides_of_the_series_limit(turn):
    for phase in (0.0, 0.7, 2.0):
        c, s = np.cos(phase), np.sin(phase)
        g = torch.tensor([[turn * c, turn * s, 0.0, 0.0]], dtype=torch.float64).requires_grad_()
        made = parametrizations.PARAMETRIZATIONS["givens"](g, 2)
        unit = complex(c, s)
        wanted = np.array(
            [[np.cos(turn), unit * np.sin(turn)], [-unit.conjugate() * np.sin(turn), np.cos(turn)]]
        )
        assert abs(made[0].detach().numpy() - wanted).max() <= 4 * EPS
        (slopes,) = torch.autograd.grad(made[0, 0, 0].real, g, create_graph=True)
        along = torch.tensor([c, s, 0.0, 0.0], dtype=torch.float64)
        assert abs(float((slopes.detach() @ along).sum()) + np.sin(turn)) <= 20 * EPS
        (second,) = torch.autograd.grad((slopes @ along).sum(), g)
        assert abs(float((second @ along).sum()) + np.cos(turn)) <= 100 * EPS


@pytest.mark.parametrize("radix", [16, 33, 64])
def test_large_cayley_blocks_are_orthogonal_to_eight_ulps(radix):
    for size in (0.1, 10.0):
        g = drawn(radix, unitary=False, size=size, count=4)
        assert orthogonality(parametrizations.cayley(g, radix)) <= 8


def test_the_resolvent_is_the_inverse():
    for radix, unitary in [*SHAPES, (1, False), (7, False)]:
        q = parametrizations.skew(drawn(radix, unitary=unitary, size=1.0, count=4), radix)
        one = torch.eye(radix, dtype=q.dtype).expand_as(q)
        torch.testing.assert_close(
            cayley_transform.resolvent(q) @ (one - q), one, rtol=0, atol=1e-14
        )


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
@pytest.mark.parametrize("kind", ["cayley", "householder", "givens"])
def test_generators_whose_squares_overflow_give_orthogonal_blocks(kind, size):
    for radix in (2, 3, 4, 5):
        for place in (0, -1):
            g = torch.zeros(1, radix * (radix - 1) // 2, dtype=torch.float64)
            g[0, place] = size
            for made in (
                parametrizations.PARAMETRIZATIONS[kind](g, radix),
                torch.from_numpy(reference.PARAMETRIZATIONS[kind](g.numpy(), radix)),
            ):
                assert orthogonality(made) <= 10
                assert torch.linalg.det(made)[0] > 0


def test_known_below_compares_available_values_only():
    g = torch.tensor([0.5, -2.0])
    assert generators.known_below(g, 2)
    assert not generators.known_below(g, 1.5)
    assert not generators.known_below(torch.tensor([torch.nan]), 1)
    assert not generators.known_below(g.to("meta"), 3)
    assert generators.known_below(g[:0], 0)
