"""The layer agrees with numpy in values and with finite differences in gradients."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError, StructmatError
from structmat.linalg import factors as stagewise
from structmat.nn import Orthogonal
from structmat.testing import assert_orthogonal, networks, seeds
from tests.random_modules import arrays, layer, randomised

kinds = st.sampled_from(["cayley", "exp"])
dtypes = st.sampled_from([torch.float64, torch.complex128])
EPS = np.finfo(float).eps


@given(networks(), kinds, dtypes, seeds())
def test_the_layer_agrees_with_numpy(net, kind, dtype, seed):
    q = layer(net, seed, kind, dtype)
    r = stagewise.matrix_of(net, arrays(q))
    assert_orthogonal(q.matrix().detach().numpy(), ulps=50 * (net.depth + 1) * net.width)
    tolerance = 20 * (net.depth + 1) * net.width * EPS
    np.testing.assert_allclose(q.matrix().detach().numpy(), r, rtol=0, atol=tolerance)
    x = np.random.default_rng(seed).standard_normal((2, 3, net.width))
    y = q(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(y, x @ r.T, rtol=0, atol=10 * tolerance)


@given(networks(), kinds, dtypes, seeds())
def test_the_adjoint_is_the_conjugate_transpose_and_the_inverse(net, kind, dtype, seed):
    q = layer(net, seed, kind, dtype)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, net.width))).to(dtype)
    tolerance = 100 * (net.depth + 1) * net.width * EPS
    expected = x @ q.matrix().conj()  # each row x ↦ Rᴴ x
    np.testing.assert_allclose(
        *(t.detach().numpy() for t in (q.adjoint(x), expected)), rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(q.adjoint(q(x)).detach().numpy(), x.numpy(), rtol=0, atol=tolerance)


@settings(max_examples=25)
@given(networks(max_width=6, max_depth=3), seeds(), st.sampled_from(["auto", "reference"]))
def test_a_real_layer_rotates_complex_vectors(net, seed, plan):
    q = layer(net, seed, "cayley", torch.float64, plan=plan)
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(3, net.width, dtype=torch.complex128, generator=source, requires_grad=True)
    r = q.matrix().to(x.dtype)
    tolerance = 100 * (net.depth + 1) * net.width * EPS
    for vectors in (x, x.conj()):
        torch.testing.assert_close(q(vectors), vectors @ r.mT, rtol=0, atol=tolerance)
        torch.testing.assert_close(q.adjoint(vectors), vectors @ r, rtol=0, atol=tolerance)
    weight = torch.randn(2, net.width, dtype=torch.complex128, generator=source)
    torch.testing.assert_close(q.linear(x, weight), x @ r @ weight.T, rtol=0, atol=10 * tolerance)
    with torch.no_grad():
        torch.testing.assert_close(q(x), x @ r.mT, rtol=0, atol=tolerance)
    assert torch.autograd.gradcheck(lambda x, *_: q(x), (x, *q.generators))
    none = torch.zeros(0, net.width, dtype=torch.complex128, requires_grad=True)
    y = q(none)
    y.backward(torch.zeros_like(y))
    assert none.grad.shape == none.shape


@pytest.mark.parametrize("plan", ["auto", "reference"])
def test_a_network_without_stages_returns_a_copy(plan):
    x = torch.ones(2, 4)
    q = Orthogonal(sm.Network(4, []), plan=plan)
    with torch.no_grad():
        y = q(x)
    y += 1
    assert torch.equal(x, torch.ones(2, 4))


@given(networks(), dtypes, seeds())
def test_h_and_t_apply_the_adjoint_with_the_same_parameters(net, dtype, seed):
    q = layer(net, seed, "cayley", dtype)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((4, net.width))).to(dtype)
    assert torch.equal(q.H(x), q.adjoint(x))
    assert torch.equal(q.H.adjoint(x), q(x))
    assert torch.equal(q.H.matrix(), q.matrix().mH)
    assert np.array_equal(q.H.rotation().matrix(), q.rotation().H.matrix())
    assert list(map(id, q.H.parameters())) == list(map(id, q.parameters()))
    assert q.H.H is q
    if dtype.is_complex:
        assert not hasattr(q, "T")
        assert not hasattr(q.H, "T")
    else:
        assert torch.equal(q.T(x), q.adjoint(x))
        assert q.T.T is q


@settings(max_examples=30)
@given(networks(max_width=6, max_depth=3), kinds, dtypes, seeds(), st.booleans())
def test_gradients_equal_finite_differences(net, kind, dtype, seed, backwards):
    q = layer(net, seed, kind, dtype)
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(2, net.width, dtype=dtype, generator=source, requires_grad=True)

    def run(x, *generators):
        prefix = "layer." if backwards else ""
        parameters = {f"{prefix}generators.{k}": g for k, g in enumerate(generators)}
        return torch.func.functional_call(q.H if backwards else q, parameters, (x,))

    assert torch.autograd.gradcheck(run, (x, *q.generators), fast_mode=True)


@settings(max_examples=15)
@given(networks(max_width=5, max_depth=2), seeds())
def test_second_derivatives_equal_finite_differences(net, seed):
    q = layer(net, seed)
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(1, net.width, dtype=torch.float64, generator=source, requires_grad=True)
    inputs = (x, *q.generators)
    assert torch.autograd.gradgradcheck(lambda x, *_: q(x), inputs, fast_mode=True)


@given(networks(), seeds())
def test_gradients_equal_those_of_a_product_of_dense_stages(net, seed):
    """Autograd differentiates the product of dense stage matrices, without a schedule."""
    assume(net.banks)
    q = layer(net, seed)
    x = torch.randn(
        5, net.width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    weight = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)
    ours = torch.autograd.grad((q(x) * weight).sum(), list(q.generators))

    blocks = iter(q.blocks())
    r = torch.eye(net.width, dtype=torch.float64)
    for stage in net.stages:
        start, end = (torch.from_numpy(side) for side in stage.passing)
        b = torch.zeros(net.width, net.width, dtype=torch.float64)
        b = b.index_put((end, start), torch.ones(len(end), dtype=torch.float64))
        for bank in stage.banks:
            rows = torch.from_numpy(bank.writes.copy())[:, :, None]
            columns = torch.from_numpy(bank.reads.copy())[:, None, :]
            b = b.index_put((rows, columns), next(blocks))
        r = b @ r
    theirs = torch.autograd.grad(((x @ r.T) * weight).sum(), list(q.generators))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-11)


@given(
    networks(wired=False), kinds, st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
)
def test_a_straight_network_starts_as_the_identity(net, kind, dtype):
    q = Orthogonal(net, parametrization=kind)
    x = torch.randn(3, net.width).to(dtype)
    assert torch.equal(q(x), x)
    assert torch.equal(q.adjoint(x), x)


@given(networks(wired=True))
def test_a_wired_network_starts_as_its_wiring(net):
    q = Orthogonal(net)
    assert np.array_equal(
        q.matrix().detach().numpy(), stagewise.matrix_of(net, sm.identity_blocks(net))
    )


@given(networks(), seeds())
def test_only_free_parameters_are_stored(net, seed):
    q = Orthogonal(net)
    assert sum(p.numel() for p in q.parameters()) == net.parameters
    assert all(buffer.numel() == 0 for buffer in q.buffers())
    assert sum(v.numel() for v in q.state_dict().values()) == net.parameters
    assert sum(p.numel() for p in Orthogonal(net, dtype=torch.complex64).parameters()) == sum(
        bank.count * bank.radix**2 for bank in net.banks
    )


@given(
    networks(),
    kinds,
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    seeds(),
)
def test_only_inputs_and_outputs_are_rounded_to_low_precision(net, kind, of_x, of_generators, seed):
    """All intermediate results have at least single precision."""
    q = layer(net, seed, kind, of_generators)
    exact = layer(net, seed, kind, of_generators).double()
    x = torch.randn(3, net.width, generator=torch.Generator().manual_seed(seed)).to(of_x)
    y = q(x)
    assert y.dtype == of_x
    assert all(block.dtype in (torch.float32, torch.float64) for block in q.blocks())
    computed = torch.promote_types(torch.promote_types(of_x, of_generators), torch.float32)
    error = (y.double() - exact(x.double())).abs().max()
    rounding = torch.finfo(of_x).eps + 50 * (net.depth + 1) * torch.finfo(computed).eps * net.width
    assert error <= rounding * x.double().norm(dim=-1).max().clamp(min=1)


def test_autocast_does_not_affect_the_layer():
    q = layer(sm.butterfly(16), 0, dtype=torch.float32)
    x = torch.randn(4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(q(x), q(x.clone()))
        inside = q(x)
    assert torch.equal(inside, q(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))])  # noqa: S301 (our own bytes)
def test_copies_are_equal_and_independent(copied):
    q = layer(sm.random(12, block=4, depth=3, rng=0), 1)
    x = torch.randn(2, 12, dtype=torch.float64)
    other = copied(q)
    assert torch.equal(other(x), q(x))
    randomised(other, 2)
    assert not torch.equal(other(x), q(x))


def test_saving_and_loading_the_state_dict_round_trips():
    net = sm.mixed_radix(12)
    q = layer(net, 3, dtype=torch.float32)
    file = io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    other = Orthogonal(net)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.matrix(), q.matrix())


def test_a_layer_can_be_cast_and_moved_from_the_meta_device():
    net = sm.random(12, block=4, depth=2, rng=0)
    q = layer(net, 3, dtype=torch.float32)
    x = torch.randn(2, 12)
    assert q.to(torch.bfloat16)(x).dtype == torch.float32  # of x; only generators were rounded
    meta = Orthogonal(net, device="meta")
    assert meta(torch.empty(5, 12, device="meta")).shape == (5, 12)
    filled = meta.to_empty(device="cpu")
    filled.load_state_dict(q.state_dict())
    assert torch.equal(filled(x), q.float()(x))  # index arrays are made anew, not left empty


def test_a_copy_first_used_in_inference_mode_can_be_trained():
    q = copy.deepcopy(layer(sm.butterfly(64), 0, dtype=torch.float32))
    x = torch.randn(1000, 64)
    with torch.inference_mode():
        q(x)
    q(x).sum().backward()
    assert all(g.grad is not None for g in q.generators)


@given(networks(), st.integers(0, 3))
def test_any_leading_axes_are_accepted(net, axes):
    q = layer(net, 0)
    shape = (2, 0, 3)[:axes]
    assert q(torch.zeros(*shape, net.width, dtype=torch.float64)).shape == (*shape, net.width)


# Multiplicative dropout ----------------------------------------------------------------------


@given(networks(), seeds(), st.floats(0, 1), st.floats(0, 1))
def test_dropout_keeps_orthogonality_and_support(net, seed, stages, blocks):
    q = layer(net, seed, dropout=(stages, blocks))
    torch.manual_seed(seed)
    one = torch.eye(net.width, dtype=torch.float64)
    dropped = q(one).T.detach().numpy()
    assert_orthogonal(dropped, ulps=50 * (net.depth + 1) * net.width)
    assert not dropped[~sm.reach(net)].any()


def test_dropout_of_all_blocks_is_the_identity_in_training_only():
    q = layer(sm.butterfly(16), 0, dropout=(1.0, 1.0))
    x = torch.randn(3, 16, dtype=torch.float64)
    assert torch.equal(q(x), x)
    assert not torch.equal(q.matrix(), torch.eye(16))  # the matrix is that of the trained blocks
    q.eval()
    torch.testing.assert_close(q(x), x @ q.matrix().T)


def test_dropout_picks_stages_and_blocks_at_the_stated_rates():
    """Both rates are measured on 400 stages of 100 switches; five standard errors allowed."""
    net = sm.block_diagonal(200, block=2).repeat(400)
    q = layer(net, 0, dropout=(0.3, 0.6), dtype=torch.float32)
    torch.manual_seed(0)
    one = torch.eye(2)
    gone = torch.stack([(b == one).all(-1).all(-1) for b in q._dropped(q.blocks())]).double()
    picked = gone.mean(1) > 0
    assert abs(picked.double().mean() - 0.3) < 5 * (0.3 * 0.7 / 400) ** 0.5
    assert abs(gone[picked].mean() - 0.6) < 5 * (0.6 * 0.4 / gone[picked].numel()) ** 0.5


# Invalid input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Orthogonal(16), StructmatError, "topology=16: it must be a spec string"),
        (
            lambda: Orthogonal(sm.butterfly(4), dtype="float64"),
            BlockError,
            "dtype='float64': it must be a torch.dtype, such as torch.float32",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4), parametrization="qr"),
            BlockError,
            "'qr': no such parametrization",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4), dtype=torch.int64),
            BlockError,
            "dtype=torch.int64: generators need a real or complex floating dtype",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4), dropout=0.1),
            StructmatError,
            "dropout=0.1: it must be two probabilities",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4), dropout=(0.1, 1.5)),
            StructmatError,
            r"dropout=\(0.1, 1.5\): it must be two probabilities",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4), dropout=(float("nan"), 0.5)),
            StructmatError,
            "it must be two probabilities",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4))(torch.zeros(3, 5)),
            BlockError,
            r"x of shape \(3, 5\): its last axis must be the width 4",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4))(np.zeros(4)),
            BlockError,
            r"x has type ndarray: the layer takes .*; make one with torch\.as_tensor\(x",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4)).adjoint([0.0] * 4),
            BlockError,
            "x has type list: the layer takes a torch.Tensor",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4)).linear(np.zeros(4), torch.zeros(2, 4)),
            BlockError,
            "x has type ndarray: the layer takes a torch.Tensor",
        ),
        (
            lambda: Orthogonal(sm.butterfly(4))(torch.zeros(3, 4, dtype=torch.int64)),
            BlockError,
            "x of dtype torch.int64: it must be floating",
        ),
    ],
)
def test_bad_input_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()
