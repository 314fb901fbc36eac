"""The operator agrees with the reference in values and gradients, whatever is fused."""

import copy
import gc
import itertools
import pickle
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import StructmatError
from structmat.nn import Orthogonal
from structmat.nn.ops import operator, plan_cache
from structmat.nn.ops.backends import compiled, tiled
from structmat.nn.ops.cost_model import bucket, candidates
from structmat.nn.ops.operator import plain, rotated
from structmat.nn.ops.plan_cache import cache_for
from structmat.testing import networks, seeds
from tests.random_modules import layer

CPU = torch.device("cpu")
DTYPES = st.sampled_from([torch.float64, torch.complex128, torch.float32])
FAMILIES = [
    sm.butterfly(128),
    sm.benes(64),
    sm.shuffle(96, block=4),
    sm.butterfly(48, block=6),
    sm.butterfly(64, block=8, depth=4),
    sm.mixed_radix(60),
    sm.monarch(63),
    sm.random(40, block=5, depth=3, rng=0),
    sm.brickwall(17),
    sm.families.clos(24, (4, 6)),
    sm.families.omega(32),
]


def drawn(net, seed, dtype, tokens):
    """Return blocks, vectors and a gradient of the right shapes."""
    q = layer(net, seed, dtype=dtype)
    source = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(tokens, net.width, dtype=dtype, generator=source) for _ in range(2))
    return [b.detach().requires_grad_() for b in q.blocks(dtype)], x.requires_grad_(), weight


def close(dtype, terms):
    """Return tolerances for a sum of so many terms."""
    eps = torch.finfo(dtype).eps
    return {"rtol": 0, "atol": 60 * eps * (1 + terms) ** 0.5}


def gradients(y, weight, inputs):
    """Return the gradients of a real loss."""
    loss = (y * weight).sum()
    return torch.autograd.grad(loss.real if loss.is_complex() else loss, inputs)


@contextmanager
def only_torch():
    """Disable the compiled kernels, so that the tiled backend runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "available", lambda _: False)
        yield


@given(networks(max_width=20, max_depth=6), seeds(), DTYPES, st.booleans(), st.integers(0, 40))
def test_every_plan_has_the_values_and_gradients_of_the_reference(
    net, seed, dtype, adjoint, tokens
):
    blocks, x, weight = drawn(net, seed, dtype, tokens)
    if not blocks:
        return
    cache = cache_for(net)
    expected = plain(cache, blocks, x, adjoint=adjoint)
    wanted = gradients(expected, weight, [x, *blocks])
    for candidate in candidates(net, 10_000):
        cache.selected = {_asked(tokens, dtype): candidate.ends}
        with only_torch():
            y = rotated(cache, blocks, x, adjoint=adjoint)
            made = gradients(y, weight, [x, *blocks])
        scale = 1 + float(x.detach().abs().amax() if tokens else 0)
        torch.testing.assert_close(y / scale, expected / scale, **close(dtype, net.width))
        for found, plainly in zip(made, wanted, strict=True):
            torch.testing.assert_close(
                found / scale**2, plainly / scale**2, **close(dtype, 40 * net.width)
            )
    cache.selected.clear()


def _asked(tokens, dtype):
    return bucket(tokens), dtype, CPU, None  # nothing measured


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("net", FAMILIES, ids=str)
def test_families_agree_with_the_reference_if_split_into_tiles(net, adjoint, monkeypatch):
    """With many tiles, the last one shorter, fused and not fused."""
    monkeypatch.setattr(tiled, "_BUFFER", 48 * net.width * 8)
    blocks, x, weight = drawn(net, 1, torch.float64, 150)
    cache = cache_for(net)
    expected = plain(cache, blocks, x, adjoint=adjoint)
    wanted = gradients(expected, weight, [x, *blocks])
    for tokens in (1, 100_000):  # what the model fuses for few vectors, and for many
        monkeypatch.setattr(
            cache, "selected", {_asked(150, x.dtype): candidates(net, tokens)[0].ends}
        )
        with only_torch():
            y = rotated(cache, blocks, x, adjoint=adjoint)
            made = gradients(y, weight, [x, *blocks])
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for a, b in zip(made, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_tiles_are_an_odd_number_of_cache_lines():
    for width, radix in itertools.product((1, 3, 384, 1000, 4096, 65536), (1, 2, 64, 129, 256)):
        size = tiled.tile(width, 10**6, torch.float32, CPU, radix)
        assert size % 8 == 0
        assert size >= radix
        assert size // 8 % 2 == 1
    assert tiled.tile(4096, 5, torch.float32, CPU) == 5
    assert tiled.tile(4096, 0, torch.float32, CPU) == 1


@pytest.mark.parametrize("needs", ["x", "blocks"])
def test_only_the_required_gradients_are_computed(needs):
    net = sm.butterfly(32)
    blocks, x, weight = drawn(net, 0, torch.float64, 9)
    cache = cache_for(net)
    inputs = [x] if needs == "x" else blocks
    for t in {id(t): t for t in [x, *blocks] if not any(t is i for i in inputs)}.values():
        t.requires_grad_(requires_grad=False)
    wanted = gradients(plain(cache, blocks, x, adjoint=False), weight, inputs)
    found = gradients(rotated(cache, blocks, x), weight, inputs)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@given(networks(max_width=6, max_depth=3), seeds(), st.sampled_from(["float64", "complex128"]))
@settings(max_examples=8)
def test_first_and_second_derivatives_equal_finite_differences(net, seed, name):
    """Finite differences are the oracle."""
    blocks, x, _ = drawn(net, seed, getattr(torch, name), 2)
    if not blocks:
        return
    cache = cache_for(net)
    adjoint = bool(seed % 2)

    def f(x, *blocks):
        return rotated(cache, blocks, x, adjoint=adjoint)

    # in random directions; complex numbers are checked entry by entry all the same
    assert torch.autograd.gradcheck(f, (x, *blocks), fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (x, *blocks), fast_mode=True)


def test_third_derivatives_equal_those_of_the_reference():
    net = sm.butterfly(4)
    cache = cache_for(net)
    blocks, x, weight = drawn(net, 0, torch.float64, 2)

    def third(rotate):
        value = (rotate(x.sin(), blocks) ** 3 * weight).sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(value, blocks[:1], create_graph=True)
            value = (g**2).sum()
        return value

    found = third(lambda x, b: rotated(cache, b, x))
    wanted = third(lambda x, b: plain(cache, b, x, adjoint=False))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


# Torch's own rules for forward mode are compiled by torch.jit.script, which it deprecates.
FORWARD = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@FORWARD
@pytest.mark.parametrize("reference", [False, True])
def test_torch_func_transforms_are_supported(reference):
    q = layer(sm.random(12, block=3, depth=3, rng=0), 0)
    q.plan = "reference" if reference else "auto"
    r = q.matrix().detach()
    x = torch.randn(5, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(q)(x), x @ r.T)
        torch.testing.assert_close(torch.func.jacrev(q)(x[0]), r)
        torch.testing.assert_close(torch.func.jacfwd(q)(x[0]), r)
        _, tangent = torch.func.jvp(q, (x,), (2 * x,))
        torch.testing.assert_close(tangent, 2 * x @ r.T)
    parameters = dict(q.named_parameters())

    def loss(values, v):
        return (torch.func.functional_call(q, values, v) * x[0]).sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for k in range(len(x)):
        alone = torch.autograd.grad((q(x[k]) * x[0]).sum(), list(parameters.values()))
        for name, g in zip(parameters, alone, strict=True):
            torch.testing.assert_close(each[name][k], g)
    hessian = torch.func.hessian(loss, argnums=1)(parameters, x[1])
    torch.testing.assert_close(hessian, torch.zeros_like(hessian))


@FORWARD
def test_forward_mode_derivatives_are_correct():
    q = layer(sm.butterfly(8), 0)
    x = torch.randn(3, 8, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, 3 * x)
        _, tangent = torch.autograd.forward_ad.unpack_dual(q(dual))
    torch.testing.assert_close(tangent, 3 * q(x))


# Torch's compiler makes instances of autograd functions as it traces, which torch deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_makes_one_graph_for_any_number_of_vectors(backend):
    """Values and gradients are those of the uncompiled layer, without a graph break."""
    q = layer(sm.butterfly(32, block=4), 0, dtype=torch.float32)
    compiled = torch.compile(q, fullgraph=True, backend=backend, dynamic=True)
    for tokens in (3, 70, 500):
        x = torch.randn(2, tokens, 32, requires_grad=True)
        results = []
        for f in (q, compiled):
            y = f(x)
            results.append([y, *torch.autograd.grad(y.sin().sum(), [x, *q.generators])])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)


def test_the_operators_pass_torch_opcheck():
    net = sm.butterfly(16)
    cache = cache_for(net)
    blocks, x, weight = drawn(net, 0, torch.float64, 6)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(
        operator._rotate, (x, blocks, None, None, cache.key, "auto", False), test_utils=tests
    )
    torch.library.opcheck(
        operator._gradients,
        (weight, x, blocks, None, cache.key, "auto", True, True, True),
        test_utils=tests,
    )


def test_checkpointing_and_autocast_change_no_gradient():
    q = layer(sm.butterfly(32), 0, dtype=torch.float32)
    x = torch.randn(40, 32, requires_grad=True)

    def grads(y):
        return torch.autograd.grad(y.square().sum() + y.sum(), [x, *q.generators])

    plainly = grads(q(x))
    again = grads(torch.utils.checkpoint.checkpoint(q, x, use_reentrant=False))
    for a, b in zip(plainly, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for kind in ("cayley", "exp"):
        q = layer(sm.butterfly(32, block=4), 0, kind, dtype=torch.float32)
        plainly = grads(q(x))
        with torch.autocast("cpu", torch.bfloat16):
            y = q(x)
            within = grads(y)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, q(x), rtol=0, atol=0)
        for a, b in zip(plainly, within, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@given(networks(max_width=20, max_depth=6), seeds())
def test_bfloat16_is_rounded_once(net, seed):
    """Stages compute in float32: the only errors are those of the input and one rounding."""
    q = layer(net, seed, dtype=torch.float32)
    x = torch.randn(30, net.width, generator=torch.Generator().manual_seed(seed)).bfloat16()
    y = q(x)
    assert y.dtype == torch.bfloat16
    exact = q.double()(x.double())
    bound = (
        torch.finfo(torch.bfloat16).eps / 2 * exact.abs() + 1e-5 * x.double().norm(dim=-1)[:, None]
    )
    assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("spec", ["butterfly", "mixed_radix(largest=16)", "shuffle(block=4)"])
def test_float32_orthogonality_error_is_at_most_ten_ulps_per_stage(spec):
    net = sm.parse(spec)(256)
    q = layer(net, 0, dtype=torch.float32)
    x = torch.eye(256).repeat(40, 1)  # many vectors: fused
    r = q(x)[:256].double()
    error = (r @ r.T - torch.eye(256, dtype=torch.float64)).abs().max()
    assert error <= 10 * np.finfo(np.float32).eps * net.depth


def test_no_tensor_of_size_d_squared_is_allocated():
    """A d×d matrix of 16384 wires would take 1 GB; the largest allocation is measured."""
    width = 16_384
    q = Orthogonal(sm.butterfly(width, block=2))
    x = torch.randn(3, width, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        q(x).sum().backward()
    most = max(event.cpu_memory_usage for event in profile.events())
    assert most < 64 * width * 4 * 4
    assert torch.isfinite(x.grad).all()


def test_noncontiguous_vectors_and_gradients_are_accepted():
    q = layer(sm.butterfly(16), 0)
    x = torch.randn(16, 2, 7, dtype=torch.float64).permute(2, 1, 0).requires_grad_()
    y = q(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, x @ q.matrix().T)
    (g,) = torch.autograd.grad(y.sum(), x)  # an expanded gradient
    torch.testing.assert_close(g, torch.ones_like(x) @ q.matrix())


def test_the_gradient_can_be_computed_after_the_layer_is_deleted():
    x = torch.randn(4, 8, requires_grad=True)
    y = Orthogonal(sm.butterfly(8).dilate(1))(x)
    plan_cache.cache_for.cache_clear()
    gc.collect()
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_an_unknown_cache_key_is_refused():
    x, blocks = torch.randn(4, 8), [torch.eye(2).repeat(4, 1, 1)]
    with pytest.raises(StructmatError, match="no layer with its network exists"):
        operator._rotate(x, blocks, None, None, "0" * 32, "auto", adjoint=False)


def test_cache_keys_are_equal_exactly_for_equal_networks():
    nets = [sm.butterfly(16), sm.butterfly(16).inverse(), sm.shuffle(16, block=2), sm.brickwall(16)]
    assert len({cache_for(net).key for net in nets}) == len(nets)
    assert cache_for(sm.parse("butterfly")(16)) is cache_for(nets[0])
    idle = [sm.Network.of(4, [[[0, 1]], [[2, 3]]]), sm.Network.of(4, [[[0, 1], [2, 3]]])]
    assert cache_for(idle[0]).key != cache_for(idle[1]).key


def _pickled(q):
    return pickle.loads(pickle.dumps(q))  # noqa: S301 (our own)


@pytest.mark.parametrize("again", [copy.deepcopy, _pickled])
def test_copies_are_equal_and_independent(again):
    q = layer(sm.butterfly(16), 0)
    x = torch.randn(9, 16, dtype=torch.float64)
    with torch.no_grad():
        q(x)
    other = again(q)
    torch.testing.assert_close(other(x), q(x), rtol=0, atol=0)
    with torch.no_grad():
        other.generators[0].add_(1)
    assert not torch.allclose(other(x), q(x))


def test_cached_blocks_are_updated_when_generators_change():
    """The next call uses the new values, however a generator was changed."""
    q = layer(sm.butterfly(32), 0)
    x = torch.randn(2, 32, dtype=torch.float64)
    with torch.no_grad():
        for change in (
            lambda: q.generators[1].add_(0.5),
            lambda: q.generators[1].data.mul_(2),
            lambda: q.load_state_dict({k: v / 3 for k, v in q.state_dict().items()}),
            lambda: setattr(q.generators[0], "data", q.generators[0].data + 1),
            lambda: q.generators[2].numpy().__iadd__(1),
        ):
            before = q(x)
            change()
            after = q(x)
            assert not torch.allclose(before, after)
            torch.testing.assert_close(after, x @ q.matrix().T)
            torch.testing.assert_close(q.adjoint(after), x)
    assert torch.is_grad_enabled()
    torch.testing.assert_close(q(x), after)


def test_unknown_plans_are_refused():
    with pytest.raises(StructmatError, match="plan='fast': it must be one of auto, measure, re"):
        Orthogonal(sm.butterfly(4), plan="fast")


@given(
    networks(max_width=20, max_depth=6),
    seeds(),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from([None, "vectors", "weight"]),
)
def test_fused_linear_equals_rotation_followed_by_linear(net, seed, tokens, with_bias, of_layer):
    """With the vectors rotated, with the weight rotated and with the automatic choice."""
    with pytest.MonkeyPatch.context() as patch:
        if of_layer is not None:
            patch.setattr(operator, "rotates_weight", lambda *_, **__: of_layer == "weight")
        compare_layers(net, seed, tokens, with_bias)


def compare_layers(net, seed, tokens, with_bias):
    q = layer(net, seed)
    source = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=source)

    x, weight = draw(2, tokens, net.width).requires_grad_(), draw(7, net.width)
    bias, given_back = draw(7) if with_bias else None, draw(2, tokens, 7)
    expected = torch.nn.functional.linear(q.adjoint(x), weight, bias)
    found = q.linear(x, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    inputs = [x, *q.generators]
    for a, b in zip(
        gradients(found, given_back, inputs), gradients(expected, given_back, inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_explain_names_the_rotated_side(monkeypatch):
    monkeypatch.setattr(compiled, "available", lambda _: False)
    q = Orthogonal(sm.shuffle(384, block=4), plan="auto")
    assert "rotating the layer's weight (128 rows) rather than the 2,048 vectors" in q.explain(
        2048, 128
    )
    assert "rotating the 2,048 vectors rather than the layer's weight (1,536 rows)" in q.explain(
        2048, 1536
    )
    assert "rotated" not in q.explain(2048)
    monkeypatch.undo()  # for compiled kernels, rotating the vectors always takes less time here
    assert "rotating the 2,048 vectors rather than the layer's weight (384 rows)" in q.explain(
        2048, 384
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_weight_is_not_rotated_in_bfloat16(dtype, monkeypatch):
    """In bfloat16 the rotated weight would be rounded, as in merging."""
    q = Orthogonal(sm.butterfly(16))
    asked = []
    monkeypatch.setattr(operator, "rotates_weight", lambda *_, **__: asked.append(1) or True)
    q.linear(torch.randn(50, 16).to(dtype), torch.randn(3, 16).to(dtype))
    assert bool(asked) == (dtype == torch.float32)


@pytest.mark.parametrize("with_bias", [False, True])
def test_fused_linear_in_chunks_has_correct_second_derivatives(with_bias, monkeypatch):
    """With more vectors than fit into the buffer between rotation and layer."""
    monkeypatch.setattr(operator, "_BETWEEN", 3 * 16 * 8)
    monkeypatch.setattr(operator, "rotates_weight", lambda *_, **__: False)
    q = layer(sm.butterfly(16), 0)
    x, weight = torch.randn(11, 16, dtype=torch.float64), torch.randn(5, 16, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64) if with_bias else None
    x.requires_grad_()
    results = [
        q.linear(x, weight, bias),
        torch.nn.functional.linear(q.adjoint(x), weight, bias),
    ]
    inputs = [x, *q.generators]
    grads = [torch.autograd.grad(y.sin().sum(), inputs, create_graph=True) for y in results]
    again = [torch.autograd.grad(g[0].square().sum(), inputs) for g in grads]
    for a, b in zip(
        [results[0], *grads[0], *again[0]], [results[1], *grads[1], *again[1]], strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_fused_linear_is_correct_beyond_the_real_buffer_size(monkeypatch):
    """With the default buffer size, with and without gradients."""
    monkeypatch.setattr(operator, "rotates_weight", lambda *_, **__: False)
    q = layer(sm.butterfly(16), 0)
    tokens = operator._BETWEEN // (16 * 8) + 5
    x, weight = torch.randn(tokens, 16, dtype=torch.float64), torch.randn(5, 16).double()
    bias = torch.randn(5, dtype=torch.float64)
    y = q.linear(x, weight, bias)
    (found,) = torch.autograd.grad(y.sum(), q.generators[:1])
    wanted = x @ q.matrix() @ weight.T + bias
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    (expected,) = torch.autograd.grad(wanted.sum(), q.generators[:1])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * tokens)
    with torch.no_grad():
        torch.testing.assert_close(q.linear(x, weight, bias), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_fused_linear_compiles_into_one_graph():
    q = layer(sm.butterfly(16), 0, dtype=torch.float32)
    x, weight = torch.randn(11, 16), torch.randn(5, 16)
    compiled = torch.compile(q.linear, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, weight), q.adjoint(x) @ weight.T)


def test_linear_refuses_trainable_weights_wrong_shapes_and_unitary_blocks():
    q = Orthogonal(sm.butterfly(4))
    x, weight = torch.randn(2, 4), torch.randn(3, 4)
    with pytest.raises(
        StructmatError, match="the weight and the bias get no gradient; freeze them"
    ):
        q.linear(x, weight.requires_grad_())
    with pytest.raises(StructmatError, match="last axis must be the width 4"):
        q.linear(weight.T, weight.detach())
    with pytest.raises(StructmatError, match="unitary blocks yield complex vectors"):
        Orthogonal(sm.butterfly(4), dtype=torch.complex64).linear(x, weight.detach())


@pytest.mark.parametrize("plan", ["auto", "reference"])
@pytest.mark.parametrize("net", [sm.butterfly(16), sm.brickwall(9)])
def test_outputs_can_be_modified_in_place(net, plan):
    """Some models modify a view of the output of a layer."""
    q = layer(net, 0, plan=plan)
    source = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, net.width, generator=source).requires_grad_()
    weight, bias = torch.randn(6, net.width, generator=source), torch.randn(6, generator=source)
    for run in (q, q.adjoint, lambda x: q.linear(x, weight, bias)):
        changed = run(x)
        part = changed.view(2, 3, -1, 3 if changed.shape[-1] % 3 == 0 else 4).permute(0, 2, 1, 3)
        part /= 2.0
        changed += 1.0
        ours = torch.autograd.grad(changed.square().sum(), [x, *q.parameters()])
        wanted = run(x) / 2 + 1
        theirs = torch.autograd.grad(wanted.square().sum(), [x, *q.parameters()])
        torch.testing.assert_close(changed, wanted)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
