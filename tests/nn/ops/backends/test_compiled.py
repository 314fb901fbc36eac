"""Values and gradients of the compiled kernels compared with the reference, and the cells they use.

Each new wiring, dtype and direction has to be compiled, so most networks are taken from a fixed
list; only small ones are random.
"""

import functools
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.linalg.schedule import schedule
from structmat.nn import Orthogonal
from structmat.nn.ops import reference
from structmat.nn.ops.backends import compiled, tiled
from structmat.nn.ops.backends.compiled import cells
from structmat.nn.ops.execution_plan import backend_for
from structmat.nn.ops.plan_cache import cache_for
from structmat.testing import networks, seeds
from structmat.testing.members import widest
from tests.random_modules import layer

pytest.importorskip("llvmlite")

CPU = torch.device("cpu")
WIDE = {  # the dtype in which the reference computes
    torch.float32: torch.float64,
    torch.float64: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
}
DTYPES = list(WIDE)
REAL_AND_COMPLEX = DTYPES[:4]


def blocks_dtype(dtype):
    return torch.float32 if dtype.itemsize == 2 else dtype


def irregular(width, radices, seed, *, wired=False):
    """Return a network with randomly ordered wires; those that the radices leave over are idle."""
    source = np.random.default_rng(seed)
    stages = []
    for row in radices:
        orders = [source.permutation(width) for _ in range(1 + wired)]
        ends = np.cumsum([0, *row])
        banks = [
            sm.Bank(*([order[a:b].reshape(-1, size) for order in orders]))
            for size, a, b in groups(row, ends)
        ]
        moves = [order[ends[-1] :].tolist() for order in orders] if wired else None
        rest = None if moves is None else [list(pair) for pair in zip(*moves, strict=True)]
        stages.append(sm.Stage(width, banks, rest))
    return sm.Network(width, stages)


def groups(row, ends):
    """Yield each run of equal sizes, with the positions at which it starts and ends."""
    for size, run in itertools.groupby(range(len(row)), lambda k: row[k]):
        places = list(run)
        yield size, ends[places[0]], ends[places[-1] + 1]


NETWORKS = [
    sm.butterfly(64),  # cells of several switches
    sm.butterfly(64, depth=5),
    sm.benes(32),
    sm.shuffle(48, block=4),
    sm.butterfly(48, block=6),
    sm.mixed_radix(60),
    sm.monarch(63),
    sm.monarch(289),  # switches of 17 wires: products in loops
    sm.block_diagonal(128, 64),
    sm.block_diagonal(256, 256),  # the largest switch
    sm.brickwall(9),
    sm.random(40, block=5, depth=3, rng=0),
    sm.families.clos(24, (4, 6)),
    sm.families.omega(16),
    irregular(45, [[3, 2, 2, 4], [5] * 3 + [3] * 4, [20, 2, 2]], 0),
    irregular(30, [[2] * 15, [3] * 8, [7, 2, 2]], 1, wired=True),
    irregular(19, [[2] * 4, [], [2] * 9], 2, wired=True),
]
NETS = st.one_of(
    st.sampled_from(NETWORKS), networks(max_width=9, max_depth=3, screens=True)
).filter(lambda net: net.banks)
TOKENS = st.sampled_from([0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 127, 129, 256, 257, 300])
FEW = settings(max_examples=25)


def drawn(net, seed, tokens, dtype=torch.float32):
    """Return orthogonal or unitary blocks, vectors and the gradient of the output."""
    kind = blocks_dtype(dtype)
    q = layer(net, seed, dtype=torch.complex128 if kind.is_complex else torch.float64)
    blocks = [b.detach().to(kind) for b in q.blocks(WIDE[dtype])]
    source = torch.Generator().manual_seed(seed)
    x, grad = (
        torch.randn(tokens, net.width, generator=source, dtype=kind).to(dtype) for _ in range(2)
    )
    return blocks, x, grad


def exact(net, blocks, x, grad, *, adjoint):
    """Return the values and all gradients of the reference implementation, in double precision."""
    wide = WIDE[x.dtype]
    blocks = [b.to(wide, copy=True).requires_grad_() for b in blocks]
    x = x.to(wide, copy=True).requires_grad_()
    y = reference.apply(reference.Steps.of(schedule(net), CPU), blocks, x, adjoint=adjoint)
    found = torch.autograd.grad(y, [x, *blocks], grad.to(wide), materialize_grads=True)
    return [y.detach(), *found]


def prepared(net):
    return compiled.prepared(schedule(net), CPU)


def by_kernels(net, blocks, x, grad, *, adjoint):
    made = prepared(net)
    y = compiled.apply(made, blocks, x, adjoint=adjoint)
    grad_x, sums = torch.empty_like(x), tiled.zeros_like(blocks)
    compiled.gradients(made, blocks, x, grad, adjoint=adjoint, grad_x=grad_x, sums=sums)
    assert y.dtype == x.dtype
    return [y, grad_x, *sums]


def check(net, seed, tokens, *, adjoint=False, dtype=torch.float32):
    blocks, x, grad = drawn(net, seed, tokens, dtype)
    agree(net, blocks, x, grad, by_kernels(net, blocks, x, grad, adjoint=adjoint), adjoint=adjoint)


def agree(net, blocks, x, grad, found, *, adjoint):
    """Compare values and gradients with the reference, relative to the norm of each vector."""
    wanted = exact(net, blocks, x, grad, adjoint=adjoint)
    assert [f.shape for f in found] == [w.shape for w in wanted]
    radix = max(bank.radix for bank in net.banks)
    unit = 4 * torch.finfo(blocks[0].dtype).eps * (1 + net.depth) * radix**0.5
    stored = torch.finfo(x.dtype).eps if x.dtype.itemsize == 2 else 0.0  # a single rounding
    for value, right, size in ((found[0], wanted[0], x), (found[1], wanted[1], grad)):
        length = size.to(WIDE[x.dtype]).norm(dim=1, keepdim=True)
        error = (value.to(right.dtype) - right).abs()
        least = torch.finfo(torch.float16).tiny * stored  # of subnormal numbers
        assert (error <= unit * length + 0.51 * stored * right.abs() + least).all()
    wide = WIDE[x.dtype]
    scale = float(x.to(wide).norm() * grad.to(wide).norm())
    for value, right in zip(found[2:], wanted[2:], strict=True):
        assert float((value.to(wide) - right).norm()) <= unit * scale


# Values and gradients ---------------------------------------------------------------------------


@FEW
@given(NETS, seeds(), TOKENS, st.booleans(), st.sampled_from(DTYPES))
def test_values_and_gradients_equal_those_of_the_reference(net, seed, tokens, adjoint, dtype):
    check(net, seed, tokens, adjoint=adjoint, dtype=dtype)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("number", range(len(NETWORKS)))
def test_every_network_agrees_with_the_reference(number, adjoint):
    """Few vectors in one direction and many in the other; gradients apply both directions."""
    dtype = DTYPES[(number + 3 * adjoint) % len(DTYPES)]
    tokens = (2, 21)[(number + adjoint) % 2]
    check(NETWORKS[number], number, tokens, adjoint=adjoint, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "adjoint"), [(torch.float32, False), (torch.complex128, True)], ids=str
)
@pytest.mark.parametrize("radix", [2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 33])
def test_every_radix_agrees_with_the_reference(radix, dtype, adjoint):
    net = irregular(3 * radix + 1, [[radix] * 3] * 2, radix)
    check(net, radix, 20, adjoint=adjoint, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_of_vectors_agrees_with_the_reference(dtype, monkeypatch):
    """Include vectors processed one by one, short rows, and several tiles and chunks."""
    monkeypatch.setattr(compiled, "_CHUNK", 16)
    for tokens in [*range(1, 20), 63, 64, 65, 127, 128, 129, 255, 257, 1000]:
        check(NETWORKS[0], tokens, tokens, dtype=dtype, adjoint=bool(tokens % 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.bfloat16], ids=str)
def test_values_do_not_depend_on_the_size_of_a_tile(dtype, monkeypatch):
    net = NETWORKS[0]
    blocks, x, grad = drawn(net, 0, 150, dtype)
    whole = by_kernels(net, blocks, x, grad, adjoint=False)
    bytes_of_a_row = net.width * 2 * 64
    for size in (1, 2 * bytes_of_a_row, 3 * bytes_of_a_row):  # rows of 1 and of 2 to 6 vectors
        monkeypatch.setattr(compiled, "_TILE", size)
        parts = by_kernels(net, blocks, x, grad, adjoint=False)
        assert torch.equal(parts[0], whole[0])
        assert torch.equal(parts[1], whole[1])
        agree(net, blocks, x, grad, parts, adjoint=False)


@pytest.mark.parametrize("dtype", REAL_AND_COMPLEX, ids=str)
@pytest.mark.parametrize("net", [NETWORKS[0], NETWORKS[5]], ids=str)
def test_blocks_need_not_be_orthogonal(net, dtype):
    source = torch.Generator().manual_seed(0)
    shapes = [(b.count, b.radix, b.radix) for b in net.banks]
    blocks = [torch.randn(s, generator=source, dtype=dtype) / s[-1] ** 0.5 for s in shapes]
    _, x, grad = drawn(net, 0, 21, dtype)
    for adjoint in (False, True):
        wanted = exact(net, blocks, x, grad, adjoint=adjoint)
        found = by_kernels(net, blocks, x, grad, adjoint=adjoint)
        for one, right in zip(found, wanted, strict=True):
            size = float(right.abs().max())
            difference = float((one.to(right.dtype) - right).abs().max())
            assert difference <= 100 * torch.finfo(dtype).eps * size


@given(NETS, seeds(), st.sampled_from([1, 20]), st.sampled_from(REAL_AND_COMPLEX))
@FEW
def test_the_adjoint_inverts_the_network(net, seed, tokens, dtype):
    blocks, x, _ = drawn(net, seed, tokens, dtype)
    made = prepared(net)
    back = compiled.apply(made, blocks, compiled.apply(made, blocks, x), adjoint=True)
    size = 1 + float(x.abs().max())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(back / size, x / size, rtol=0, atol=40 * eps * (1 + net.depth))


@pytest.mark.parametrize("dtype", REAL_AND_COMPLEX, ids=str)
@pytest.mark.parametrize("number", [0, 5, 6, 8])
def test_the_orthogonality_error_is_at_most_ten_ulps_per_stage(number, dtype):
    net = NETWORKS[number]
    blocks, _, _ = drawn(net, 0, 0, dtype)
    wide = [b.to(WIDE[dtype]) for b in blocks]
    departure = max(
        float((b @ b.mH - torch.eye(b.shape[-1], dtype=b.dtype)).abs().max()) for b in wide
    )
    r = compiled.apply(prepared(net), blocks, torch.eye(net.width, dtype=dtype)).to(WIDE[dtype])
    error = float((r @ r.mH - torch.eye(net.width, dtype=r.dtype)).abs().max())
    eps = torch.finfo(dtype).eps
    assert departure <= 4 * eps  # the blocks themselves, once rounded
    assert error <= 10 * eps * net.depth


# Strides, conjugation, aliases and empty tensors -------------------------------------------------


def views(x):
    """Yield tensors equal to x (tokens, width) with other memory layouts."""
    tokens, width = x.shape
    wide = x.new_full((2 * tokens, width + 3), float("nan"))
    wide[::2, 1:-2] = x
    yield wide[::2, 1:-2]
    yield x.T.contiguous().T
    spread = x.new_full((tokens, 2 * width), float("nan"))
    spread[:, ::2] = x
    yield spread[:, ::2]
    if x.is_complex():
        yield torch.complex(x.real, -x.imag).conj()
    else:
        yield torch._neg_view(-x)


@pytest.mark.parametrize("tokens", [2, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.bfloat16], ids=str)
def test_results_do_not_depend_on_memory_layout(dtype, tokens):
    net = NETWORKS[5]
    blocks, x, grad = drawn(net, 0, tokens, dtype)
    plainly = by_kernels(net, blocks, x, grad, adjoint=False)
    strided = [b.mT.contiguous().mT for b in blocks]
    if dtype.is_complex:
        strided = [torch.complex(b.real, -b.imag).conj() for b in strided]
    for one, other in zip(views(x), views(grad), strict=True):
        found = by_kernels(net, strided, one, other, adjoint=False)
        for a, b in zip(found, plainly, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("tokens", [3, 20])
def test_expanded_and_overlapping_vectors_are_accepted(tokens):
    net = NETWORKS[0]
    blocks, x, _ = drawn(net, 0, 2 * tokens)
    made = prepared(net)
    for seen in (
        x[:1].expand(tokens, -1),
        x[:tokens, :1].expand(-1, net.width),
        x.view(-1).as_strided((tokens, net.width), (1, 1)),
        x.view(-1).as_strided((tokens, net.width), (0, 0)),
    ):
        right = compiled.apply(made, blocks, seen.contiguous())
        assert torch.equal(compiled.apply(made, blocks, seen), right)
        out = torch.empty(net.width, tokens).T
        assert compiled.apply(made, blocks, seen, out) is out
        assert torch.equal(out, right)
        grad_x, sums = torch.empty(net.width, tokens).T, tiled.zeros_like(blocks)
        compiled.gradients(made, blocks, seen, seen, grad_x=grad_x, sums=sums)
        back = compiled.apply(made, blocks, seen.contiguous(), adjoint=True)
        torch.testing.assert_close(grad_x, back, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [2, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float16], ids=str)
def test_results_are_written_to_outputs_with_any_strides(dtype, tokens):
    net = NETWORKS[5]
    blocks, x, grad = drawn(net, 0, tokens, dtype)
    made = prepared(net)
    y, wanted = by_kernels(net, blocks, x, grad, adjoint=True)[:2]
    for out in views(torch.zeros_like(x)):
        around = out._base.clone() if out._base is not None else None
        assert compiled.apply(made, blocks, x, out, adjoint=True) is out
        assert torch.equal(out, y)
        sums = tiled.zeros_like(blocks)
        compiled.gradients(made, blocks, x, grad, adjoint=True, grad_x=out, sums=sums)
        assert torch.equal(out, wanted)
        compiled.gradients(made, blocks, x, grad, adjoint=True, grad_x=out, sums=None)
        assert torch.equal(out, compiled.apply(made, blocks, grad, adjoint=False))
        if around is not None:
            out.zero_()
            assert torch.equal(out._base.nan_to_num(9), around.nan_to_num(9))


def test_results_can_overwrite_the_vectors():
    net = NETWORKS[0]
    for tokens in (2, 300):
        blocks, x, _ = drawn(net, 0, tokens)
        made = prepared(net)
        right = compiled.apply(made, blocks, x)
        assert compiled.apply(made, blocks, x, x) is x
        assert torch.equal(x, right)


def test_gradients_for_blocks_are_accumulated():
    net = NETWORKS[0]
    blocks, x, grad = drawn(net, 0, 21)
    wanted = by_kernels(net, blocks, x, grad, adjoint=False)[2:]
    sums = [torch.ones_like(b) for b in blocks]
    compiled.gradients(prepared(net), blocks, x, grad, grad_x=None, sums=sums)
    for one, other in zip(sums, wanted, strict=True):
        assert torch.equal(one, 1 + other)


def test_empty_inputs_have_empty_results_and_zero_gradients():
    net = NETWORKS[0]
    for dtype in DTYPES:
        blocks, x, grad = drawn(net, 0, 0, dtype)
        y, grad_x, *sums = by_kernels(net, blocks, x, grad, adjoint=False)
        assert y.shape == grad_x.shape == (0, net.width)
        assert not any(s.any() for s in sums)
        compiled.gradients(prepared(net), blocks, x, grad, grad_x=grad_x, sums=None)


# Special numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [3, 40])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_with_infinities_or_nan_does_not_affect_the_others(value, dtype, tokens):
    net = NETWORKS[0]
    blocks, x, grad = drawn(net, 0, tokens, dtype)
    right = by_kernels(net, blocks, x, grad, adjoint=False)
    others = torch.arange(tokens) != 1
    for spoilt in (x, grad):
        spoilt[1] = value
    found = by_kernels(net, blocks, x, grad, adjoint=False)
    for one, other in zip(found[:2], right[:2], strict=True):
        assert torch.equal(one[others], other[others])
        assert not one[1].isfinite().any()


@pytest.mark.parametrize("tokens", [3, 40])
def test_nan_affects_only_the_outputs_that_its_wire_influences(tokens):
    net = sm.block_diagonal(8, 2)
    blocks, x, _ = drawn(net, 0, tokens)
    x[1, 3] = float("nan")
    found = compiled.apply(prepared(net), blocks, x).isnan()
    wanted = torch.zeros_like(found)
    wanted[1, 2:4] = True
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_numbers_are_converted_as_by_torch(dtype, tokens):
    """Idle wires convert all 65,536 numbers; products are float32 numbers that must be rounded."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    width = 64
    idle = sm.Network.of(width, [[[0, 1]]])
    one = [torch.eye(2)[None]]
    for rows in every.view(-1, tokens if tokens == 1 else 32, width)[:: 50 if tokens == 1 else 1]:
        same_bits(compiled.apply(prepared(idle), one, rows)[:, 2:], rows[:, 2:])
    pairs = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))]
    wide = sm.block_diagonal(width, 2)
    for factor in (1.0, 0.3, 1 + 2.0**-9, 1 + 2.0**-12, 2.0**-10, 2.0**-13, 1.5 * 2.0**-12):
        blocks = [factor * torch.eye(2).expand(width // 2, 2, 2)]
        x = pairs.view(-1, width)
        x = torch.where(x.isfinite(), x, 1.0)[: tokens if tokens == 1 else None]
        y, wanted = compiled.apply(prepared(wide), blocks, x), (x.float() * factor).to(dtype)
        same_bits(y + 0, wanted + 0)  # without negative zeros, since 0 is added to each product


def same_bits(found, wanted):
    """Compare bits, except those of NaN, for which torch's own conversions disagree."""
    assert torch.equal(found.isnan(), wanted.isnan())
    kept = ~wanted.isnan()
    assert torch.equal(found[kept].view(torch.int16), wanted[kept].view(torch.int16))


def test_rounding_in_half_precision_overflows_to_infinity_and_breaks_ties_to_even():
    net = sm.Network.of(2, [[[0, 1]]])
    for dtype in (torch.float16, torch.bfloat16):
        most, eps = torch.finfo(dtype).max, torch.finfo(dtype).eps
        for number, factor in [
            (most, 1 + eps / 8),
            (most, 1 + eps),
            (-most, 2.0),
            (1.0, 1 + eps / 2),  # between 1 and 1 + eps
            (1.0, 1 + 3 * eps / 2),
            (torch.finfo(dtype).tiny, eps / 2),  # the smallest subnormal number, halved
            (torch.finfo(dtype).tiny, 3 * eps / 2),
        ]:
            for tokens in (1, 20):
                x = torch.full((tokens, 2), number, dtype=dtype)
                y = compiled.apply(prepared(net), [factor * torch.eye(2)[None]], x)
                same_bits(y, (x.float() * torch.tensor(factor)).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_subnormal_numbers_are_not_flushed_to_zero(dtype):
    net = sm.block_diagonal(32, 2)
    x = torch.full((20, 32), torch.finfo(dtype).tiny / 8, dtype=dtype)
    blocks = [torch.eye(2, dtype=dtype).repeat(16, 1, 1)]
    assert torch.equal(compiled.apply(prepared(net), blocks, x), x)


# Division into cells ------------------------------------------------------------------------------


@functools.cache
def of_every_family():
    """Return two networks of each family; listed when a test asks, since this takes a while."""
    pairs = [itertools.islice(widest(known, 64, 8), 2) for known in sm.catalogue()]
    return [family(width) for pair in pairs for family, width in pair]


def obey_the_order_of_the_switches(net):
    """Assert that the cells contain the switches of a straight network, in a valid order."""
    switches = [
        (wires, number, k)
        for number, bank in enumerate(net.banks)
        for k, wires in enumerate(bank.reads.tolist())
    ]
    done = []
    for each in cells.passes(net):
        reached = [wire for s in each for row in s.wires.tolist() for wire in row]
        assert len(reached) == len(set(reached))
        for s in each:
            assert s.wires.shape == (len(s.offsets), s.cell.size)
            assert s.wires.dtype == np.int32
            assert s.banks.dtype == s.offsets.dtype == np.int64
            for row, offsets in zip(s.wires.tolist(), s.offsets.tolist(), strict=True):
                for local, bank, offset in zip(s.cell.switches, s.banks, offsets, strict=True):
                    radix = net.banks[bank].radix
                    assert offset % radix**2 == 0
                    done.append(([row[j] for j in local], int(bank), offset // radix**2))
    assert sorted(done, key=str) == sorted(switches, key=str)
    for wire in range(net.width):  # the switches of every wire are in the original order
        met = [[s for s in made if wire in s[0]] for made in (done, switches)]
        assert met[0] == met[1]


@given(networks(max_width=20, max_depth=6, screens=True))
def test_cells_contain_every_switch_once_and_in_order(net):
    obey_the_order_of_the_switches(net.straightened()[0])


@pytest.mark.parametrize("alike", [1, 4])
def test_the_cells_of_every_family_contain_every_switch_once_and_in_order(alike, monkeypatch):
    monkeypatch.setattr(cells, "_ALIKE", alike)
    sizes = Counter()
    for net in [*of_every_family(), *NETWORKS]:
        straight = net.straightened()[0]
        obey_the_order_of_the_switches(straight)
        for each in cells.passes(straight):
            sizes.update(len(s.cell.switches) for s in each)
    assert len(sizes) > 3  # some cells have several switches


def test_cells_of_several_switches_fit_in_registers_and_share_their_wiring():
    for net in [*of_every_family(), sm.butterfly(1024), sm.shuffle(256, block=8)]:
        for each in cells.passes(net.straightened()[0]):
            for s in each:
                if len(s.cell.switches) > 1:
                    assert s.cell.size <= cells.REGISTERS
                    assert len(s.wires) >= 4


# Supported calls ---------------------------------------------------------------------------------


def test_switches_of_at_most_256_wires_and_equal_dtypes_are_supported():
    net, large = sm.butterfly(64), sm.block_diagonal(514, 257)
    single = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    pairs = {(d, d) for d in single}
    pairs |= {(torch.float16, torch.float32), (torch.bfloat16, torch.float32)}
    dtypes = [*single, torch.float16, torch.bfloat16]
    for pair in itertools.product(dtypes, dtypes):
        assert compiled.supports(net, *pair) == (pair in pairs)
        assert backend_for(net, CPU, *pair) is (compiled if pair in pairs else tiled)
        assert not compiled.supports(large, *pair)
        assert backend_for(large, CPU, *pair) is tiled
    assert compiled.supports(sm.block_diagonal(512, 256), torch.float32, torch.float32)
    assert not compiled.available(torch.device("cuda"))
    assert not compiled.available(torch.device("meta"))


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(
    ("net", "vectors", "blocks"),
    [
        (sm.block_diagonal(514, 257), torch.float32, torch.float32),
        (sm.butterfly(32, block=4), torch.float32, torch.float64),
        (sm.butterfly(32, block=4), torch.bfloat16, torch.float64),
    ],
    ids=str,
)
def test_unsupported_calls_use_the_tiled_backend(net, vectors, blocks, adjoint, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    q = layer(net, 0, dtype=blocks)
    r = q.matrix().T if adjoint else q.matrix()
    monkeypatch.setattr(compiled, "apply", refuse)
    monkeypatch.setattr(compiled, "gradients", refuse)
    x = torch.randn(20, net.width).to(vectors).requires_grad_()
    y = (q.adjoint if adjoint else q)(x)
    rtol = 2 * torch.finfo(vectors).eps
    torch.testing.assert_close(y, (x.to(blocks) @ r.T).to(vectors), rtol=rtol, atol=1e-5)
    y.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 40])
def test_the_layer_agrees_with_and_without_compiled_kernels(dtype, tokens, monkeypatch):
    net = sm.butterfly(32, block=4)
    used = []
    apply = compiled.apply
    monkeypatch.setattr(compiled, "apply", lambda *a, **k: used.append(1) or apply(*a, **k))
    made, calls = [], []
    for _ in range(2):
        q = layer(net, 0, dtype=blocks_dtype(dtype))
        source = torch.Generator().manual_seed(0)
        x = torch.randn(tokens, 32, generator=source, dtype=blocks_dtype(dtype)).to(dtype)
        with torch.no_grad():
            values = [q(x), q.adjoint(x)]
        x.requires_grad_()
        y = q(x)
        grads = torch.autograd.grad(y.abs().square().sum() + y.real.sum(), [x, *q.generators])
        made.append([*values, y.detach(), *grads])
        calls.append(len(used))
        monkeypatch.setattr(compiled, "available", lambda _: False)
    assert calls[0] == calls[1] > 0
    eps = torch.finfo(dtype).eps
    for one, other in zip(*made, strict=True):
        size = float(1 + one.abs().max())
        torch.testing.assert_close(one / size, other / size, rtol=0, atol=20 * eps)


def test_explain_describes_the_cells():
    text = Orthogonal(sm.butterfly(64)).explain(100)
    assert text.splitlines() == [
        "64 wires, 6 stages, 100 vectors of 4-byte numbers on a cpu: compiled, 2 passes",
        "  1  4 cells of 16 wires: 32 blocks 2×2",
        "  2  16 cells of 4 wires: 4 blocks 2×2",
    ]
    mixed = str(prepared(irregular(11, [[3, 2, 2]], 0)))
    assert "compiled, 1 pass\n" in mixed
    assert "1 cell of 3 wires: 1 block 3×3" in mixed
    assert "2 cells of 2 wires: 1 block 2×2" in mixed


def test_the_kernels_run_the_network_without_fusing_its_stages():
    net = sm.butterfly(64)
    plan = cache_for(net).plan(tuple(range(1, 7)), CPU)
    assert plan.network == net
    backend, steps = plan._backend([torch.ones(1)], torch.ones(1))
    assert backend is compiled
    assert steps.width == 64
