"""Powers and means of blocks satisfy their laws at all angles and agree with scipy."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError, StructmatError
from structmat.linalg import factors as stagewise
from structmat.nn import Orthogonal
from structmat.nn.parametrizations import eigenvalues, powers
from structmat.testing import networks, seeds
from tests.random_modules import arrays, layer

radices = st.integers(1, 7)
dtypes = st.sampled_from([torch.float64, torch.complex128])
exponents = st.floats(-3, 3, allow_nan=False)
EPS = np.finfo(float).eps


def drawn(radix, dtype, seed, count=3, largest=3.0):
    """Return blocks whose eigenangles are below `largest`."""
    source = torch.Generator().manual_seed(seed)
    q = torch.randn(count, radix, radix, dtype=dtype, generator=source)
    q = q - q.mH
    norms = torch.linalg.matrix_norm(q, 2, keepdim=True).clamp(min=1e-300)
    sizes = largest * torch.rand(count, 1, 1, dtype=torch.float64, generator=source)
    return torch.linalg.matrix_exp(q / norms * sizes)


def close(a, b, radix, ulps=200):
    torch.testing.assert_close(a, b, rtol=0, atol=ulps * radix * EPS)


@given(radices, dtypes, seeds(), exponents)
def test_powers_are_orthogonal_and_agree_with_scipy(radix, dtype, seed, t):
    blocks = drawn(radix, dtype, seed)
    made = powers.power(blocks, t)
    assert made.dtype == dtype
    close(made.mH @ made, torch.eye(radix, dtype=dtype).expand_as(made), radix)
    for block, one in zip(blocks.numpy(), made.numpy(), strict=True):
        expected = scipy.linalg.expm(t * scipy.linalg.logm(block))
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-9)


@given(radices, seeds(), exponents, st.sampled_from([0.5, 2.0, 2.5, 3.1, 3.1415]))
def test_functions_of_angles_agree_with_the_eigenvector_formula(radix, seed, t, largest):
    blocks = drawn(radix, torch.float64, seed, largest=largest)
    parts = [lambda a: (t * a).cos(), lambda a: (t * a).sin()]
    by_vectors = eigenvalues._by_vectors(blocks, *parts)
    close(eigenvalues.of_angles(blocks, *parts), by_vectors.real, radix)
    close(by_vectors.imag, torch.zeros_like(blocks), radix, ulps=1e6)


@given(radices, dtypes, seeds())
def test_eigenvectors_are_orthonormal_and_reconstruct_the_blocks(radix, dtype, seed):
    blocks = drawn(radix, dtype, seed, largest=3.14)
    angles, vectors = eigenvalues.eigen(blocks)
    one = torch.eye(radix, dtype=vectors.dtype).expand_as(vectors)
    close(vectors.mH @ vectors, one, radix)
    values = torch.polar(torch.ones_like(angles), angles)
    close((vectors * values[..., None, :]) @ vectors.mH, blocks.to(vectors.dtype), radix)
    expected = np.sort(np.angle(np.linalg.eigvals(blocks.numpy())))
    np.testing.assert_allclose(angles.sort().values, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("angles", [(np.pi - 1e-6, np.pi - 0.5), (np.pi, 2.8, 2.5), (np.pi, 0.3)])
def test_eigenvectors_are_accurate_wherever_the_widest_gap_is(angles):
    radix = 2 * len(angles)
    planes = [[[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in angles]
    for seed in range(5):
        basis = scipy.stats.ortho_group.rvs(radix, random_state=seed)
        block = torch.from_numpy(basis @ scipy.linalg.block_diag(*planes) @ basis.T)
        found, vectors = eigenvalues.eigen(block)
        values = torch.polar(torch.ones_like(found), found)
        one = torch.eye(radix, dtype=vectors.dtype)
        close(vectors.mH @ vectors, one, radix, ulps=20)
        close((vectors * values) @ vectors.mH, block.to(vectors.dtype), radix, ulps=20)


@given(radices, dtypes, seeds(), exponents, exponents)
def test_exponents_add(radix, dtype, seed, s, t):
    blocks = drawn(radix, dtype, seed)
    close(powers.power(blocks, s) @ powers.power(blocks, t), powers.power(blocks, s + t), radix)


@given(radices, dtypes, seeds())
def test_integer_powers_are_products_and_powers_0_and_1_are_exact(radix, dtype, seed):
    blocks = drawn(radix, dtype, seed)
    assert torch.equal(powers.power(blocks, 1), blocks)
    assert torch.equal(powers.power(blocks, 0), torch.eye(radix, dtype=dtype).expand_as(blocks))
    close(powers.power(blocks, 3), blocks @ blocks @ blocks, radix)
    close(powers.power(blocks, -1), blocks.mH, radix)


@settings(max_examples=30)
@given(st.integers(2, 5), dtypes, seeds(), st.floats(-2, 2), st.booleans())
def test_gradients_equal_finite_differences(radix, dtype, seed, t, at_identity):
    """This includes equal eigenvalues, such as those of the identity."""
    source = torch.Generator().manual_seed(seed)
    q = torch.randn(2, radix, radix, dtype=dtype, generator=source) * (not at_identity)
    q.requires_grad_()

    def run(q):
        return powers.power(torch.linalg.matrix_exp(0.2 * (q - q.mH)), t)

    assert torch.autograd.gradcheck(run, q, fast_mode=True)


@pytest.mark.parametrize("large", [2.49, 2.9, 3.07, 3.11])
@pytest.mark.parametrize("small", [0.0, 1e-3, 1.0])
def test_a_large_angle_does_not_reduce_the_accuracy_of_a_small_one(large, small):
    def turned(basis, t):
        planes = [[[np.cos(t * a), np.sin(t * a)], [-np.sin(t * a), np.cos(t * a)]] for a in angles]
        return torch.from_numpy(basis @ scipy.linalg.block_diag(*planes) @ basis.T)

    angles = (large, small)
    for seed in range(10):
        basis = scipy.stats.ortho_group.rvs(4, random_state=seed)
        for t in (0.5, -0.3, 1.7):
            close(powers.power(turned(basis, 1.0), t), turned(basis, t), 4, ulps=60)


@given(st.integers(1, 3), st.integers(0, 4), seeds(), st.floats(-1, 1))
def test_half_turns_have_real_powers(pairs, others, seed, t):
    radix = 2 * pairs + others
    spread = np.random.default_rng(seed)
    basis = scipy.stats.ortho_group.rvs(radix, random_state=spread) if radix > 1 else np.eye(1)
    block = basis @ np.diag([-1.0] * (2 * pairs) + [1.0] * others) @ basis.T
    block = torch.from_numpy(block)
    root = powers.power(block, 0.5)
    close(root @ root, block, radix)
    made = powers.power(block, t)
    close(made.mT @ made, torch.eye(radix, dtype=block.dtype), radix)
    angle = np.angle(np.linalg.eigvals(made.numpy()))
    expected = [abs(t) * np.pi] * (2 * pairs) + [0.0] * others
    np.testing.assert_allclose(np.sort(abs(angle)), np.sort(expected), rtol=0, atol=1e-7)


def plane_turned(radix, pairs, short, seed):
    """Return a random basis, and a block that rotates its first planes by π − short."""
    basis = scipy.stats.ortho_group.rvs(radix, random_state=seed) if radix > 1 else np.eye(1)
    middle = np.eye(radix)
    for k in range(0, 2 * pairs, 2):
        c, s = -np.cos(short), np.sin(short)
        middle[k : k + 2, k : k + 2] = [[c, s], [-s, c]]
    return basis, torch.from_numpy(basis @ middle @ basis.T)


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_roots_are_accurate_for_angles_close_to_pi(pairs, others):
    radix = 2 * pairs + others
    for seed in range(3):
        for short in (1e-3, 1e-5, 1e-6, 1e-7, 3e-8):
            basis, block = plane_turned(radix, pairs, short, seed)
            root = powers.power(block, 0.5)
            close(root @ root, block, radix)
            half = np.eye(radix)
            for k in range(0, 2 * pairs, 2):
                c, s = np.sin(short / 2), np.cos(short / 2)
                half[k : k + 2, k : k + 2] = [[c, s], [-s, c]]
            error = np.abs(root.numpy() - basis @ half @ basis.T).max()
            assert error <= 1000 * radix * EPS / short  # of two nearly equal eigenvalues
        for short in (3e-9, 1e-10, 1e-12, 1e-15):  # either way
            _, block = plane_turned(radix, pairs, short, seed)
            root = powers.power(block, 0.5)
            close(root.mT @ root, torch.eye(radix, dtype=block.dtype), radix)
            assert (root @ root - block).abs().max() <= 4 * short + 200 * radix * EPS


@given(radices, dtypes, st.sampled_from([0.1, 0.3, -1.7, 1 / 3]))
def test_gradients_at_equal_eigenvalues_are_exact(radix, dtype, t):
    leaf = torch.eye(radix, dtype=dtype).requires_grad_()
    w = torch.arange(radix * radix, dtype=torch.float64).view(radix, radix).cos().to(dtype)
    (gradient,) = torch.autograd.grad(powers.power(leaf, t), leaf, w)
    close(gradient, t * w, radix)


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9])
def test_gradients_at_nearly_equal_eigenvalues_are_accurate(apart):
    angles, t = torch.tensor([0.5, 0.5 + apart], dtype=torch.float64), 0.3
    leaf = torch.diag(torch.polar(torch.ones_like(angles), angles)).requires_grad_()
    w = torch.tensor([[0.3, 1 + 2j], [-2 + 1j, 0.7]], dtype=torch.complex128)
    (gradient,) = torch.autograd.grad(powers.power(leaf, t), leaf, w)
    # (z^t − y^t)/(z − y) for z = e^{i(m + h)} and y = e^{i(m − h)}
    middle, half = 0.5 + apart / 2, apart / 2
    slope = np.exp(1j * (t - 1) * middle) * np.sin(t * half) / np.sin(half)
    for i, j in ((0, 1), (1, 0)):
        assert abs(complex(gradient[i, j]) - np.conj(slope) * complex(w[i, j])) <= 1e-13


@pytest.mark.parametrize("t", [0.5, -0.3, 1.7, 2.5])
@pytest.mark.parametrize(("pairs", "others"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)])
def test_gradients_at_half_turns_are_correct_in_differentiable_directions(t, pairs, others):
    radix = 2 * pairs + others
    _, block = plane_turned(radix, pairs, 0.0, 7)
    one = torch.eye(radix, dtype=block.dtype)
    source = torch.Generator().manual_seed(0)
    leaf = block.clone().requires_grad_()
    made = powers.power(leaf, t)
    slopes = torch.randn(radix, radix, dtype=block.dtype, generator=source)
    (gradient,) = torch.autograd.grad(made, leaf, slopes)
    made = made.detach()

    def along(turned, result):
        return float((gradient * turned).sum()), float((slopes * result).sum())

    # A change of basis takes the block and its power along; within the half turns it is free.
    space = (one - block) / 2
    for _ in range(3):
        k = torch.randn(radix, radix, dtype=block.dtype, generator=source)
        k = k - k.mT
        k = k - space @ k @ space
        left, right = along(k @ block - block @ k, k @ made - made @ k)
        assert left == pytest.approx(right, abs=1e-10)
    # The angles of the power change by t times as much as those of the half-turn planes.
    log = powers.logarithm(powers.power(block, 0.5))
    left, right = along(log @ block, t * log @ made)
    assert left == pytest.approx(right, abs=1e-10)
    # Directions that separate the two eigenvalues have no derivative; it is set to zero.
    if pairs == 1:
        anything = torch.randn(radix, radix, dtype=block.dtype, generator=source)
        parted = space @ (anything + anything.mT) @ space
        parted = parted - space * parted.trace() / 2
        assert along(parted, parted)[0] == pytest.approx(0, abs=1e-10)


def test_means_and_cayley_generators_are_refused_only_near_half_turns():
    for radix, pairs in ((2, 1), (3, 1), (5, 2)):
        one = torch.eye(radix, dtype=torch.float64)
        for short in (1e-2, 1e-4, 4e-6):
            _, block = plane_turned(radix, pairs, short, 3)
            q = powers.generators(block[None], "cayley")
            net = sm.Network.of(radix, [[list(range(radix))]])
            made = Orthogonal(net, dtype=torch.float64, generator_scaling="none")
            with torch.no_grad():
                made.generators[0].copy_(q)
            error = (made.blocks(torch.float64)[0][0] - block).abs().max()
            assert error <= 100 * radix * EPS * (1 + 2 / short)
            middle = powers.mean([one, block], [0.5, 0.5])
            close(middle, powers.power(block, 0.5), radix, ulps=1000 / short)
        for short in (3e-7, 1e-9, 0.0):
            _, block = plane_turned(radix, pairs, short, 3)
            with pytest.raises(BlockError, match="eigenvalue −1, which Cayley blocks cannot have"):
                powers.generators(block, "cayley")
            with pytest.raises(BlockError, match="differ by a rotation by π"):
                powers.mean([one, block], [0.5, 0.5])


def test_invalid_blocks_and_exponents_are_refused():
    reflection = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    with pytest.raises(BlockError, match="determinant −1, so it has no real power"):
        powers.power(reflection, 0.5)
    with pytest.raises(BlockError, match="deviate from orthogonality by 3"):
        powers.power(2 * torch.eye(2), 0.5)
    with pytest.raises(BlockError, match="exponent=nan: it must be a finite number"):
        powers.power(torch.eye(2), float("nan"))
    with pytest.raises(BlockError, match="deviate from orthogonality by nan"):
        powers.power(torch.full((2, 2), float("nan")), 0.5)
    with pytest.raises(BlockError, match="eigenvalue −1, which Cayley blocks cannot have"):
        powers.generators(-torch.eye(2), "cayley")
    with pytest.raises(BlockError, match="parametrization='givens': generators can be"):
        powers.generators(torch.eye(2), "givens")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_blocks_orthogonal_up_to_rounding_are_accepted(dtype):
    block = drawn(3, torch.complex128 if dtype.is_complex else torch.float64, 0)
    eps = torch.finfo(dtype).eps
    off = (block * (1 + 3 * 15 * eps)).to(dtype)  # an error of 30 ulps times the radix
    made = powers.power(off, 0.5)
    assert (made @ made - block).abs().max() <= 3 * 100 * eps
    off = (block * (1 + 3 * 300 * eps)).to(dtype)  # an error of 600 ulps times the radix
    for refuse in (lambda: powers.power(off, 0.5), lambda: powers.mean([off], [1.0])):
        with pytest.raises(BlockError, match="blocks deviate from orthogonality by"):
            refuse()


@given(radices, dtypes, seeds(), st.sampled_from(["cayley", "exp"]))
def test_generators_reproduce_the_blocks(radix, dtype, seed, kind):
    net = sm.Network.of(3 * radix, [np.arange(3 * radix).reshape(3, radix).tolist()] * (radix > 1))
    blocks = drawn(radix, dtype, seed)
    q = Orthogonal(net, parametrization=kind, dtype=dtype, generator_scaling="none")
    with torch.no_grad():
        for g in q.generators:
            g.copy_(powers.generators(blocks, kind))
    for made in q.blocks(torch.float64):
        close(made.detach(), blocks, radix, ulps=2000)  # the tangent stretches at large angles


@given(radices, dtypes, seeds())
def test_the_logarithm_is_skew_and_exponentiates(radix, dtype, seed):
    blocks = drawn(radix, dtype, seed)
    log = powers.logarithm(blocks)
    assert torch.equal(log, -log.mH)
    close(torch.linalg.matrix_exp(log), blocks, radix)


# Means ----------------------------------------------------------------------------------------


@given(radices, dtypes, seeds(), st.lists(st.floats(0.1, 2), min_size=1, max_size=4))
def test_means_are_orthogonal_and_stationary(radix, dtype, seed, weights):
    """The weighted logarithms from the mean cancel, which characterises the Karcher mean."""
    stacks = [drawn(radix, dtype, seed + k, largest=0.7) for k in range(len(weights))]
    middle = powers.mean(stacks, [w / sum(weights) for w in weights])
    close(middle.mH @ middle, torch.eye(radix, dtype=dtype).expand_as(middle), radix)
    pull = sum(w * powers.logarithm(middle.mH @ b) for w, b in zip(weights, stacks, strict=True))
    close(pull, torch.zeros_like(pull), radix, ulps=1000)


@given(radices, dtypes, seeds(), st.floats(0.01, 0.99))
def test_the_mean_of_two_lies_on_the_geodesic(radix, dtype, seed, t):
    a, b = (drawn(radix, dtype, seed + k, largest=1.0) for k in range(2))
    expected = a @ powers.power(a.mH @ b, t)
    close(powers.mean([a, b], [1 - t, t]), expected, radix, ulps=1000)


@given(radices, dtypes, seeds(), st.floats(0.01, 2), st.floats(0.01, 2))
def test_weights_that_do_not_sum_to_1_scale_the_mean(radix, dtype, seed, s, t):
    """The mean of one block is its power; exponents of powers of one block add."""
    a = drawn(radix, dtype, seed, largest=1.0)
    close(powers.mean([a], [t]), powers.power(a, t), radix, ulps=1000)
    both = powers.mean([powers.power(a, 0.5), powers.power(a, -0.25)], [s, t])
    close(both, powers.power(a, 0.5 * s - 0.25 * t), radix, ulps=1000)


@given(radices, dtypes, seeds())
def test_means_are_equivariant_under_rotation(radix, dtype, seed):
    a, b, turn = (drawn(radix, dtype, seed + k, largest=0.7) for k in range(3))
    together = powers.mean([turn @ a, turn @ b], [0.3, 0.7])
    close(together, turn @ powers.mean([a, b], [0.3, 0.7]), radix, ulps=1000)


def test_invalid_weights_and_non_unique_means_are_refused():
    one = torch.eye(2)
    for weights in ([1.0], [], [-1.0, 2.0], [0.0, 0.0], [float("inf"), 1.0], [float("nan"), 1.0]):
        with pytest.raises(BlockError, match="each needs a weight ≥ 0"):
            powers.mean([one, one], weights)
    with pytest.raises(BlockError, match="rotation by π, so their mean is not unique"):
        powers.mean([one, -one], [0.5, 0.5])


@given(radices, seeds())
def test_means_of_float32_blocks_are_accurate(radix, seed):
    stacks = [drawn(radix, torch.float64, seed + k, largest=1.0) for k in range(3)]
    single = powers.mean([b.float() for b in stacks], [1, 2, 3])
    assert single.dtype == torch.float32
    expected = powers.mean(stacks, [1, 2, 3])
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


# Layers ---------------------------------------------------------------------------------------


ROTATIONS = ["cayley", "exp", "givens", "householder"]


@given(networks(), st.sampled_from(ROTATIONS), dtypes, seeds(), st.floats(-0.5, 1))
def test_interpolation_is_the_power_of_each_block(net, kind, dtype, seed, t):
    q = layer(net, seed, kind, dtype)
    path = q.interpolate(t)
    assert path.parametrization == (kind if kind == "cayley" else "exp")
    assert path.network == net
    for made, block in zip(path.blocks(torch.float64), q.blocks(torch.float64), strict=True):
        close(made.detach(), powers.power(block.detach(), t), max(net.width, 1), ulps=2000)
    ends = [q.interpolate(0).matrix(), q.interpolate(1).matrix()]
    idle = Orthogonal(net, dtype=dtype).matrix()
    for found, expected in zip(ends, [idle, q.matrix()], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11 * (1 + net.depth))


@given(networks(), seeds(), st.booleans(), st.data())
def test_keep_keeps_the_product_of_the_selected_factors(net, seed, reduced, data):
    q = layer(net, seed, reduced=reduced)
    stages = data.draw(st.sets(st.integers(0, net.depth - 1)) if net.depth else st.just(set()))
    kept = q.keep(stages)
    expected = np.eye(net.width)
    for t, factor in enumerate(stagewise.factors(net, arrays(q))):
        if t in stages:
            expected = factor @ expected
    tolerance = 100 * (net.depth + 1) * net.width * EPS
    np.testing.assert_allclose(kept.matrix().detach(), expected, rtol=0, atol=tolerance)
    assert kept.network.depth == len(stages)
    assert not any(a is b for a in kept.generators for b in q.generators)


def test_interpolating_non_orthogonal_blocks_is_refused():
    q = layer(sm.butterfly(8), 0, "cayley_neumann")
    with pytest.raises(BlockError, match="deviate from orthogonality by"):
        q.interpolate(0.5)


def test_interpolate_and_keep_preserve_mode_dropout_and_dtype():
    q = Orthogonal(sm.butterfly(8), dropout=(0.5, 0.25), dtype=torch.float32, reduced=True).eval()
    for other in (q.interpolate(0.5), q.keep([1])):
        assert not other.training
        assert other.dropout == q.dropout
        assert not other.reduced
        assert {g.dtype for g in other.generators} == {torch.float32}


@pytest.mark.parametrize(
    ("stages", "said"),
    [([3], "stage 3 of a network of depth 3"), ([-1], "stage=-1"), ([0.5], "stage=0.5")],
)
def test_invalid_stages_are_refused(stages, said):
    with pytest.raises(StructmatError, match=said):
        Orthogonal(sm.butterfly(8)).keep(stages)


# Derivatives of higher order ------------------------------------------------------------------

HALF = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2


def cubes(of_skew, q, x):
    return (of_skew(q - q.mT) @ x).pow(3).sum()


def by_power(skew):
    return powers.power(torch.linalg.matrix_exp(skew), 0.5)


def by_exponential(skew):
    return torch.linalg.matrix_exp(0.5 * skew)


def twice_backward(f, q):
    q = q.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(q), q, create_graph=True)
    return torch.autograd.grad(first.pow(2).sum(), q)[0]


def thrice_backward(f, q):
    return twice_backward(lambda z: twice_backward_graph(f, z), q)


def twice_backward_graph(f, z):
    (first,) = torch.autograd.grad(f(z), z, create_graph=True)
    return first.pow(3).sum()


def tangent_of_gradient(f, q):
    with torch.autograd.forward_ad.dual_level():
        z = torch.autograd.forward_ad.make_dual(q.clone().requires_grad_(), q + 1)
        return torch.autograd.forward_ad.unpack_dual(torch.autograd.grad(f(z), z)[0]).tangent


WAYS = {
    "hessian": lambda f, q: torch.func.hessian(f)(q),
    "forward twice": lambda f, q: torch.func.jacfwd(torch.func.jacfwd(f))(q),
    "backward twice": lambda f, q: torch.func.jacrev(torch.func.jacrev(f))(q),
    "batched": lambda f, q: torch.func.vmap(torch.func.hessian(f))(torch.stack([q, 2 * q])),
    "third": lambda f, q: torch.func.jvp(torch.func.hessian(f), (q,), (q + 1,))[1],
    "graph": twice_backward,
    "graph thrice": thrice_backward,
    "tangent": tangent_of_gradient,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch.func, about itself
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [HALF, torch.zeros_like(HALF)])  # equal eigenvalues at zero
def test_higher_derivatives_equal_those_of_the_exponential(way, at):
    x = torch.arange(18.0, dtype=torch.float64).view(2, 3, 3) / 9
    found = WAYS[way](lambda q: cubes(by_power, q, x), at)
    wanted = WAYS[way](lambda q: cubes(by_exponential, q, x), at)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
