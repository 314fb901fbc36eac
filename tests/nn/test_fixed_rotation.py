"""Fixed rotations in torch agree with the numpy rotation, in values and gradients."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError, StructmatError
from structmat.linalg.shared_blocks import repeated_in
from structmat.nn import FixedRotation
from structmat.nn.ops.backends import compiled
from structmat.nn.ops.operator import rotated
from structmat.nn.ops.plan_cache import cache_for
from structmat.testing import networks, seeds

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64)


def vectors(shape, seed, dtype):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.complex(x, x.flip(-1)).to(dtype) if dtype.is_complex else x.to(dtype)


def wide(x):
    """Return a tensor in double precision, as a numpy array."""
    kind = torch.complex128 if x.is_complex() else torch.float64
    return x.detach().resolve_conj().to(kind).numpy()


def near(ours, theirs, dtype, depth):
    eps = torch.finfo(dtype).eps
    scale = np.abs(theirs).max(initial=1)
    assert ours.shape == theirs.shape
    assert np.abs(wide(ours) - theirs).max(initial=0) <= 20 * (1 + depth) * eps * scale


@settings(max_examples=10)  # each network compiles its kernels
@given(
    networks(max_width=16),
    seeds(),
    st.sampled_from(DTYPES),
    st.sampled_from([np.float64, np.complex128]),
    st.sampled_from([(), (1,), (3,), (2, 20)]),
)
def test_a_fixed_rotation_agrees_with_the_numpy_rotation(net, seed, dtype, kind, shape):
    r = sm.Rotation(net, repeated_in(net, [b[:1] for b in sm.random_blocks(net, seed, kind)]))
    q = FixedRotation(r)
    x = vectors((*shape, net.width), seed, dtype)
    result = dtype
    if kind is np.complex128 and net.banks and not dtype.is_complex:
        result = torch.complex128 if dtype == torch.float64 else torch.complex64
    for ours, theirs in ((q(x), r(wide(x))), (q.adjoint(x), r.H(wide(x)))):
        assert ours.dtype == result
        near(ours, theirs, dtype, net.depth)


@pytest.mark.parametrize(
    ("width", "field"),
    [(n, "real") for n in (2, 17, 37, 48, 768, 1000)] + [(n, "complex") for n in (2, 37, 768)],
)
def test_fixed_rotators_are_correct_for_any_number_of_vectors(width, field):
    r = sm.rotator(width, rng=width, field=field)
    q = FixedRotation(r)
    for count in (0, 1, 4, 5, 70):
        x = vectors((count, width), count, torch.float32)
        near(q(x), r(wide(x)), torch.float32, 10)
        near(q.adjoint(q(x)), wide(x), torch.float32, 20)
    if width < 200:
        near(q.matrix(torch.float64), r.matrix(), torch.float64, 10)


@pytest.mark.parametrize("field", ["real", "complex"])
def test_the_tiled_backend_accepts_shared_blocks(monkeypatch, field):
    monkeypatch.setattr(compiled, "available", lambda _: False)
    for width in (48, 37):
        r = sm.rotator(width, rng=1, field=field)
        q = FixedRotation(r)
        for count in (1, 70):
            x = vectors((count, width), count, torch.float64).requires_grad_()
            near(q(x), r(wide(x)), torch.float64, 10)
            near(q.adjoint(q(x)), wide(x), torch.float64, 20)
        g = vectors((70, width), 1, q(x).dtype)
        (found,) = torch.autograd.grad(q(x), x, g)
        expected = q.adjoint(g)
        assert torch.allclose(found, expected.real if field == "complex" else expected, atol=1e-12)


def test_gradients_are_multiplied_by_the_transpose():
    q = FixedRotation(sm.rotator(12, rng=1))
    x = vectors((7, 12), 0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(q, x)
    assert torch.autograd.gradgradcheck(q, x)
    assert torch.autograd.gradcheck(FixedRotation(sm.rotator(6, field="complex")).adjoint, x[:, :6])
    g = vectors((7, 12), 1, torch.float64)
    (found,) = torch.autograd.grad(q(x), x, g)
    assert torch.allclose(found, q.adjoint(g), atol=1e-14)
    tangent = torch.func.jvp(q, (x.detach(),), (g,))[1]
    assert torch.allclose(tangent, q(g), atol=1e-14)
    assert torch.allclose(torch.func.vmap(q)(g), q(g), atol=1e-14)
    for shape in ((0, 12), (0, 3, 12), (3, 0, 12)):
        assert torch.func.vmap(q)(x.new_ones(shape)).shape == shape
        assert torch.func.vmap(q.adjoint)(x.new_ones(shape)).shape == shape


def test_only_the_shape_of_the_vectors_is_saved_for_the_backward_pass():
    q = FixedRotation(sm.rotator(64))
    saved = []
    x = torch.ones(100, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.numel()) or t, lambda t: t
    ):
        q(x)
    assert sum(saved) < x.numel()


@settings(max_examples=5)  # each network compiles its kernels, with gradients
@given(networks(max_width=8), seeds())
def test_a_bank_given_as_one_block_has_the_gradient_of_the_sum(net, seed):
    if not net.banks:
        return
    blocks = [torch.tensor(b[:1], requires_grad=True) for b in sm.random_blocks(net, seed)]
    x = vectors((9, net.width), seed, torch.float64).requires_grad_()
    g = vectors((9, net.width), seed + 1, torch.float64)
    cache = cache_for(net)
    expanded = [
        b.detach().repeat(bank.count, 1, 1).requires_grad_()
        for bank, b in zip(net.banks, blocks, strict=True)
    ]
    for adjoint in (False, True):
        ours, theirs = (rotated(cache, b, x, adjoint=adjoint) for b in (blocks, expanded))
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
        one = torch.autograd.grad(ours, [x, *blocks], g)
        each = torch.autograd.grad(theirs, [x, *expanded], g)
        assert torch.allclose(one[0], each[0], rtol=0, atol=1e-12)
        for a, b in zip(one[1:], each[1:], strict=True):
            assert torch.allclose(a, b.sum(0, keepdim=True), rtol=0, atol=1e-10)


@pytest.mark.skipif(not compiled.available(torch.device("cpu")), reason="without llvmlite")
def test_compiled_kernels_read_a_shared_block_in_place(monkeypatch):
    copied = []
    dense = compiled._dense
    monkeypatch.setattr(compiled, "_dense", lambda b: copied.append(dense(b)) or copied[-1])
    q = FixedRotation(sm.rotator(768))
    x = torch.ones(40, 768)
    near(q(x), q.rotation(wide(x)), torch.float32, 10)
    assert sum(b.numel() for b in copied) < 3 * 768


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_exported_and_traced_programs_agree():
    q = FixedRotation(sm.rotator(48, rng=2))
    x = vectors((6, 48), 0, torch.float32)
    expected = q(x)
    programs = [
        torch.compile(q, fullgraph=True, backend="aot_eager"),
        torch.export.export(q, (x,)).module(),
        torch.jit.trace(q, x),
    ]
    for program in programs:
        assert torch.allclose(program(x), expected, atol=1e-5)
    y = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(programs[0](y), y, expected)
    assert torch.allclose(found, x, atol=1e-5)


def test_the_module_has_no_state_and_adapts_to_its_input():
    q = FixedRotation("rotator(96, block=16, seed=4, version=1)")
    assert not q.state_dict()
    assert not [*q.parameters()]
    assert not [*q.buffers()]
    q.load_state_dict({})
    x = vectors((5, 96), 0, torch.float64)
    before = q(x)
    assert torch.equal(q.half()(x), before)
    assert torch.equal(q.to(torch.bfloat16)(x), before)
    assert q(x.to("meta")).shape == x.shape
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):  # noqa: S301 (our own bytes)
        assert torch.equal(twin(x), before)
        assert twin.rotation.description == q.rotation.description
    assert len(pickle.dumps(q)) < 1500
    assert repr(q) == "FixedRotation('rotator(96, block=16, seed=4, version=1)')"
    plain = FixedRotation(sm.Rotation(q.rotation.network, q.rotation.blocks))
    assert repr(plain) == "FixedRotation(width=96, depth=2)"


def test_autocast_has_no_effect_and_inference_mode_works():
    q = FixedRotation(sm.rotator(96))
    x = vectors((9, 96), 0, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(q(x), q(x.clone()))
        assert q(x).dtype == torch.float32
    with torch.inference_mode():
        first = FixedRotation(sm.rotator(96))
        kept = first(x)
    assert torch.equal(kept, q(x))
    first(x.requires_grad_()).sum().backward()  # cached blocks are usable outside
    assert x.grad is not None


def test_bad_input_is_rejected_in_one_line():
    q = FixedRotation(sm.rotator(8, rng=0))
    with pytest.raises(BlockError, match="rotation=8: it must be a Rotation"):
        FixedRotation(8)
    with pytest.raises(StructmatError, match="a description has the form"):
        FixedRotation("rotator(8)")
    torch_blocks = [torch.tensor(b) for b in q.rotation.blocks]
    with pytest.raises(BlockError, match="a FixedRotation needs numpy blocks"):
        FixedRotation(sm.Rotation(q.rotation.network, torch_blocks))
    with pytest.raises(BlockError, match=r"x of shape \(2, 9\): its last axis must be the width 8"):
        q(torch.ones(2, 9))
    with pytest.raises(BlockError, match=r"x has type ndarray: the layer takes a torch\.Tensor"):
        q(np.ones(8))
    with pytest.raises(BlockError, match=r"x is a sparse_coo tensor: it must be dense"):
        q(torch.eye(8).to_sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strided nested tensors are a prototype
        nested = torch.nested.nested_tensor([torch.ones(1, 8), torch.ones(2, 8)])
    with pytest.raises(BlockError, match=r"x is a nested tensor: it must be dense"):
        q(nested)
    with pytest.raises(BlockError, match=r"x of dtype torch.int64: it must be floating"):
        q(torch.ones(8, dtype=torch.int64))
    with pytest.raises(BlockError, match=r"float8_e4m3fn: .* activations need at least 16 bits"):
        q(torch.ones(8).to(torch.float8_e4m3fn))
    for name in ("T", "H", "inverse"):
        with pytest.raises(AttributeError, match=rf"no {name}: use q\.adjoint\(x\), or FixedRot"):
            getattr(q, name)
    with pytest.raises(AttributeError, match="no attribute 'adjiont'"):
        _ = q.adjiont


def test_a_float16_overflow_is_an_error_and_nan_passes_through():
    q = FixedRotation(sm.rotator(64, rng=0))
    aligned = q.adjoint(torch.eye(64)[:8] * 1e5)  # vectors that become 1e5 on one wire
    assert aligned.abs().max() < 65504
    with pytest.raises(BlockError, match=r"vectors of norm up to 1e\+05 in float16: an entry"):
        q(aligned.half())
    assert torch.allclose(q(aligned)[0, 0], torch.tensor(1e5), rtol=1e-3)
    assert q(aligned.bfloat16()).isfinite().all()
    assert q((aligned / 2).half()).isfinite().all()
    for value in (float("nan"), float("inf")):
        x = torch.zeros(2, 64, dtype=torch.float16)
        x[0, 3] = value
        y = q(x)
        assert not y[0].isfinite().any()
        assert (y[1] == 0).all()
