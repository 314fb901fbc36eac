"""The fused kernels against the reference and torch's own gradients, in Triton's interpreter.

The interpreter runs one program after another, so it cannot show a race; test_index_tables.py
proves that there is none. It rounds to bfloat16 towards zero, a device to nearest.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.errors import BlockError, MissingExtraError
from structmat.linalg.schedule import schedule
from structmat.nn.ops import reference
from structmat.nn.ops.backends import tiled, triton
from structmat.nn.ops.backends.triton import launch
from structmat.nn.ops.operator import rotated
from structmat.nn.ops.plan_cache import cache_for
from structmat.testing import networks, seeds
from structmat.testing.members import widest

pytest.importorskip("triton")

CPU = torch.device("cpu")
STEP = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
FEW = settings(max_examples=12)  # the interpreter is slow


@pytest.fixture(autouse=True, scope="module")
def _interpreter():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield


def drawn(net, seed, tokens, dtype=torch.float32):
    """Return blocks, vectors and the gradient of the output."""
    source = torch.Generator().manual_seed(seed)
    blocks = [torch.tensor(b, dtype=torch.float32) for b in sm.random_blocks(net, seed)]
    x, grad = (torch.randn(tokens, net.width, generator=source).to(dtype) for _ in range(2))
    return blocks, x, grad


def exact(net, blocks, x, grad, *, adjoint):
    """Return the values and all gradients of the reference implementation, in double precision."""
    blocks = [b.double().requires_grad_() for b in blocks]
    x = x.double().requires_grad_()
    steps = reference.Steps.of(schedule(net), CPU)
    y = reference.apply(steps, blocks, x, adjoint=adjoint)
    found = torch.autograd.grad(y, [x, *blocks], grad.double(), materialize_grads=True)
    return [y.detach(), *found]


def by_kernels(net, blocks, x, grad, *, adjoint, **options):
    made = prepared(net)
    y = triton.apply(made, blocks, x, adjoint=adjoint, **options)
    grad_x, sums = torch.empty_like(x), tiled.zeros_like(blocks)
    triton.gradients(made, blocks, x, grad, adjoint=adjoint, grad_x=grad_x, sums=sums, **options)
    assert y.dtype == x.dtype
    return [y, grad_x, *sums]


def prepared(net):
    return triton.prepared(schedule(net), CPU)


def check(net, seed, tokens, *, adjoint, dtype=torch.float32, **options):
    blocks, x, grad = drawn(net, seed, tokens, dtype)
    found = by_kernels(net, blocks, x, grad, adjoint=adjoint, **options)
    # What rounds the blocks is torch; the kernels are judged by the blocks that they get.
    wanted = exact(net, [b.to(dtype) for b in blocks], x, grad, adjoint=adjoint)
    assert [f.shape for f in found] == [w.shape for w in wanted]
    # Each stage rounds once: a vector is off by no more than so many parts of its length. Sums
    # in float32 are off by their length more.
    unit = net.depth * STEP[dtype] * 1.1 + 200 * STEP[torch.float32]
    for value, right, size in ((found[0], wanted[0], x), (found[1], wanted[1], grad)):
        error = (value.double() - right).norm(dim=1)
        assert (error <= unit * size.double().norm(dim=1)).all()
    scale = float(x.double().norm() * grad.double().norm())
    for value, right in zip(found[2:], wanted[2:], strict=True):
        assert float((value.double() - right).norm()) <= 2 * unit * scale


@FEW
@given(
    networks(max_width=12, screens=True),
    seeds(),
    st.sampled_from([0, 1, 17, 40]),
    st.booleans(),
    st.sampled_from(list(STEP)),
)
def test_values_and_gradients_equal_those_of_the_reference(net, seed, tokens, adjoint, dtype):
    check(net, seed, tokens, adjoint=adjoint, dtype=dtype)


@pytest.mark.parametrize("known", sm.catalogue(), ids=lambda known: known.name)
def test_every_family_agrees_with_the_reference(known):
    for family, width in itertools.islice(widest(known, 16, 8), 1):
        check(family(width), 0, 17, adjoint=len(known.name) % 2 == 0)  # as good as at random


# The gradients in one direction apply the other.
@pytest.mark.parametrize(
    ("radix", "adjoint"),
    [(r, bool(k % 2)) for k, r in enumerate([2, 3, 4, 5, 7, 8, 16, 31, 32, 64])] + [(3, False)],
)
def test_every_radix_agrees_with_the_reference(radix, adjoint):
    order = np.random.default_rng(radix).permutation(3 * radix + 1)
    straight = np.arange(3 * radix).reshape(3, radix)
    strided = np.arange(3 * radix).reshape(radix, 3).T
    shuffled = order[: 3 * radix].reshape(3, radix)
    net = sm.Network.of(3 * radix + 1, [s.tolist() for s in (straight, strided, shuffled)])
    check(net, radix, 20, adjoint=adjoint)


@pytest.mark.parametrize("adjoint", [False, True])
def test_mixed_radices_in_one_stage_agree_with_the_reference(adjoint):
    sizes = [64, 17, 5, 3, 2, 2, 2, 1]
    order = np.random.default_rng(0).permutation(sum(sizes))
    cuts = np.split(order, np.cumsum(sizes)[:-1])
    switches = [cut.tolist() for cut in cuts if len(cut) > 1]
    ahead = np.arange(96).reshape(2, 48).T.tolist()
    check(sm.Network.of(len(order), [switches, ahead]), 0, 17, adjoint=adjoint)


# Whether the first stage reads the vectors itself and the last one writes the results itself.
ENDS = {
    (True, True): sm.butterfly(32),
    (True, False): sm.monarch(64),
    (False, False): sm.mixed_radix(18),
}


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_end_stages_read_and_write_the_vectors_directly(ends, adjoint):
    dtype = list(STEP)[(list(ENDS).index(ends) + adjoint) % len(STEP)]
    runs = prepared(ENDS[ends]).routes[adjoint].runs
    assert (runs.reads > 0, runs.writes > 0) == (ends[::-1] if adjoint else ends)
    check(ENDS[ends], 0, 40, adjoint=adjoint, dtype=dtype)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("net", [sm.block_diagonal(48, 16), sm.block_diagonal(48, 12)], ids=str)
def test_a_single_stage_agrees_with_the_reference(net, adjoint):
    check(net, 0, 40, adjoint=adjoint)


@pytest.mark.parametrize("adjoint", [False, True])
def test_networks_without_blocks_are_permutations(adjoint):
    order = [2, 0, 1, 4, 3]
    net = sm.Network(5, [sm.Stage(5, moves=[[k, order[k]] for k in range(5)])])
    check(net, 0, 17, adjoint=adjoint)
    check(sm.Network(5), 0, 17, adjoint=adjoint)


@FEW
@given(networks(max_width=12, screens=True), seeds())
def test_the_adjoint_inverts_the_network(net, seed):
    blocks, x, _ = drawn(net, seed, 20)
    made = prepared(net)
    back = triton.apply(made, blocks, triton.apply(made, blocks, x), adjoint=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("vectors", [16, 32, 64])
@pytest.mark.parametrize("programs", [1, 3])
def test_the_launch_configuration_changes_no_value(vectors, programs):
    config = triton.Config(vectors, programs, 4)
    check(sm.benes(8), 0, 70, adjoint=False, config=config)


@pytest.mark.parametrize("adjoint", [False, True])
def test_many_vectors_are_processed_in_chunks(adjoint, monkeypatch):
    net = sm.families.omega(16)
    blocks, x, grad = drawn(net, 0, 50)
    whole = by_kernels(net, blocks, x, grad, adjoint=adjoint)
    launched = []
    turn = launch._rotate
    monkeypatch.setattr(launch, "_KEPT", 1)
    monkeypatch.setattr(
        launch, "_rotate", lambda *a, **k: launched.append(len(a[3])) or turn(*a, **k)
    )
    parts = by_kernels(net, blocks, x, grad, adjoint=adjoint)
    assert launched == [50, 16, 16, 16, 16, 16, 16, 2, 2]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_noncontiguous_vectors_are_accepted():
    net = sm.butterfly(16)
    blocks, x, grad = drawn(net, 0, 32)
    strided = [t.T.contiguous().T for t in (x, grad)] + [b.mT.contiguous().mT for b in blocks]
    found = by_kernels(net, strided[2:], *strided[:2], adjoint=False)
    for one, other in zip(by_kernels(net, blocks, x, grad, adjoint=False), found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", STEP, ids=str)
def test_blocks_are_rounded_as_by_torch(dtype):
    net = sm.Network.of(3, [[[0, 1, 2]]])
    blocks, _, _ = drawn(net, 0, 1)
    columns = triton.apply(prepared(net), blocks, torch.eye(3, dtype=dtype))
    assert torch.equal(columns.T, blocks[0][0].to(dtype))


def test_gradients_of_non_orthogonal_blocks_are_correct():
    net = sm.mixed_radix(12)
    _, x, grad = drawn(net, 0, 17)
    blocks = [torch.randn(b.count, b.radix, b.radix) for b in net.banks]
    for adjoint in (False, True):
        found = by_kernels(net, blocks, x, grad, adjoint=adjoint)
        wanted = exact(net, blocks, x, grad, adjoint=adjoint)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b, x: (b, x[:, :8]), r"vectors of shape \(3, 8\)"),
        (lambda b, x: (b, x[0]), r"vectors of shape \(16,\)"),
        (lambda b, x: (b, x.double()), "dtype torch.float64: the Triton kernels take"),
        (lambda b, x: (b[1:], x), "this network needs float32 blocks of shapes"),
        (lambda b, x: ([c.half() for c in b], x), "dtypes .*float16"),
        (lambda b, x: ([c.to("meta") for c in b], x), "all must be on one device"),
    ],
)
def test_wrong_shapes_dtypes_and_devices_are_refused(change, reason):
    net = sm.monarch(16)
    blocks, x, _ = drawn(net, 0, 3)
    changed, values = change(blocks, x)
    made = prepared(net)
    with pytest.raises(BlockError, match=reason):
        triton.apply(made, changed, values)
    with pytest.raises(BlockError, match=reason):
        triton.gradients(made, changed, values, x, grad_x=None, sums=None)


def test_a_gradient_of_another_shape_is_refused():
    net = sm.monarch(16)
    blocks, x, grad = drawn(net, 0, 3)
    with pytest.raises(BlockError, match="their shapes must be equal"):
        triton.gradients(prepared(net), blocks, x, grad[:2], grad_x=None, sums=None)


@pytest.mark.parametrize("adjoint", [False, True])
def test_gradients_of_x_and_blocks_can_be_computed_separately(adjoint):
    net = sm.families.omega(16)
    blocks, x, grad = drawn(net, 0, 20)
    _, grad_x, *sums = by_kernels(net, blocks, x, grad, adjoint=adjoint)
    of_x, of_blocks = torch.empty_like(x), tiled.zeros_like(blocks)
    made = prepared(net)
    triton.gradients(made, blocks, x, grad, adjoint=adjoint, grad_x=of_x, sums=None)
    triton.gradients(made, blocks, x, grad, adjoint=adjoint, grad_x=None, sums=of_blocks)
    for one, other in zip([grad_x, *sums], [of_x, *of_blocks], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_the_kernels_are_available_on_cuda_or_in_the_interpreter(monkeypatch):
    assert triton.available("cpu")
    assert not triton.available("meta")
    assert torch.cuda.is_available() or not triton.available("cuda")
    with monkeypatch.context() as without:
        without.setattr(triton, "_has_triton", lambda: False)
        assert not triton.available("cpu")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not triton.available("cpu")


def test_without_triton_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    blocks, x, _ = drawn(sm.monarch(16), 0, 3)
    with pytest.raises(MissingExtraError, match=r"structmat\[gpu\]"):
        triton.apply(prepared(sm.monarch(16)), blocks, x)


def test_supports_depends_on_the_block_size_and_the_dtype():
    assert triton.supports(sm.block_diagonal(64, 64), torch.float16)
    assert not triton.supports(sm.block_diagonal(130, 65), torch.float16)
    assert not triton.supports(sm.monarch(16), torch.complex64)
    assert triton.supports(sm.Network(3), torch.float32)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_uses_the_kernels_if_available(dtype, adjoint, monkeypatch):
    """Use a network of no other test, because plans are cached."""
    net = sm.random(24, block=3, depth=3, rng=77 + adjoint)
    launched = []
    turn = launch._rotate
    monkeypatch.setattr(launch, "_rotate", lambda *a, **k: (launched.append(1), turn(*a, **k)))
    blocks, x, grad = drawn(net, 0, 20, dtype)
    wanted = exact(net, blocks, x, grad, adjoint=adjoint)
    blocks, x = [b.requires_grad_() for b in blocks], x.requires_grad_()
    y = rotated(cache_for(net), blocks, x, adjoint=adjoint)
    assert len(launched) == 1
    found = [y, *torch.autograd.grad(y, [x, *blocks], grad)]
    assert len(launched) == 3
    for a, b in zip(found, wanted, strict=True):
        size = float(b.abs().max())
        torch.testing.assert_close(
            a.double() / size, b / size, rtol=0, atol=10 * net.depth * STEP[dtype]
        )
