"""All of torch's ways to differentiate a layer agree.

First and second derivatives are compared with finite differences, all other ways with loops over
`torch.autograd.grad`.
"""

import math

import pytest
import torch
from torch.autograd import forward_ad, functional
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

import structmat as sm
from structmat.nn import Orthogonal
from structmat.nn.parametrizations import PARAMETRIZATIONS
from structmat.nn.parametrizations.powers import power
from tests.random_modules import layer

# Torch's own rules for forward mode are compiled by torch.jit.script, which it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

REAL, COMPLEX = torch.float64, torch.complex128
# Two banks in a stage, wires that pass, a permutation; every stage reads others' results.
SMALL = sm.Network.of(5, [[[0, 1, 2], [3, 4]], [[1, 3]]])
# So many blocks that they are computed, and multiplied, in another way than a few.
MANY = sm.butterfly(1024, depth=1)
THREES = sm.shuffle(900, block=3, depth=1)
CASES = [
    *((SMALL, kind, REAL, "auto") for kind in PARAMETRIZATIONS),
    *((SMALL, kind, COMPLEX, "auto") for kind in PARAMETRIZATIONS),
    (SMALL, "cayley", REAL, "reference"),
]
WIDE = [
    (net, kind, dtype, "auto")
    for net in (MANY, THREES)
    for kind in ("cayley", "exp")
    for dtype in (REAL, COMPLEX)
]


class Case:
    """A layer as a function of vectors and generators."""

    def __init__(self, net, kind, dtype, plan):
        self.q = layer(net, 0, kind, dtype=dtype, plan=plan)
        self.names = [name for name, _ in self.q.named_parameters()]
        self.source = torch.Generator().manual_seed(1)
        self.dtype = dtype
        generators = [p.detach().clone() for p in self.q.parameters()]
        self.given = (self.draw(2, net.width), *generators)
        self.every = tuple(range(len(self.given)))

    def draw(self, *shape, dtype=None):
        return torch.randn(shape, dtype=dtype or self.dtype, generator=self.source)

    def like(self, tensors):
        return tuple(self.draw(*t.shape, dtype=t.dtype) for t in tensors)

    def __call__(self, x, *generators):
        return functional_call(self.q, dict(zip(self.names, generators, strict=True)), (x,))

    def loss(self, *given):
        y = self(*given)
        if not y.is_complex():
            return (y**3).sum()
        return (y.real**3 + y.imag**2 * y.real).sum()

    def leaves(self):
        return tuple(t.clone().requires_grad_() for t in self.given)


@pytest.fixture(params=CASES, ids=lambda c: f"{c[1]}-{str(c[2])[6:]}-{c[3]}")
def case(request):
    return Case(*request.param)


@pytest.fixture(params=WIDE, ids=lambda c: f"{c[0].width}-{c[1]}-{str(c[2])[6:]}")
def wide(request):
    return Case(*request.param)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)


def stacked(results):
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True))


def directions(case, of_gradients):
    """Return the derivative of a gradient in some directions, by a second backward pass."""
    leaves = case.leaves()
    first = torch.autograd.grad(case.loss(*leaves), leaves, create_graph=True)
    parts = [(g.conj() * t).sum().real for g, t in zip(first, of_gradients, strict=True)]
    return torch.autograd.grad(sum(parts), leaves)


def test_derivatives_agree_with_finite_differences(case):
    if case.dtype == COMPLEX and case.q.parametrization not in ("cayley", "exp"):
        return  # of torch's own operations, which the other tests go through
    leaves = case.leaves()
    assert torch.autograd.gradcheck(case, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(case, leaves, check_fwd_over_rev=True, fast_mode=True)


def check_transforms(case):
    leaves, given = case.leaves(), case.given
    close(grad(case.loss, case.every)(*given), torch.autograd.grad(case.loss(*leaves), leaves))
    y = case(*leaves)
    (v,), along = case.like([y]), case.like(given)
    made, pull = vjp(case, *given)
    close(made, y.detach())
    close(pull(v), torch.autograd.grad(y, leaves, v))
    close(jvp(case, given, along)[1], functional.jvp(case, given, along)[1])


def test_torch_func_transforms_agree(case):
    check_transforms(case)


def test_torch_func_transforms_of_many_blocks_agree(wide):
    check_transforms(wide)


def test_all_ways_to_compute_jacobians_and_hessians_agree():
    for kind in ("cayley", "exp"):  # with derivatives of their own
        case = Case(SMALL, kind, REAL, "auto")
        every, given = case.every, case.given
        wanted = functional.jacobian(case, given)
        close(jacrev(case, every)(*given), wanted)
        close(jacfwd(case, every)(*given), wanted)
        close(functional.jacobian(case, given, vectorize=True), wanted)
        close(functional.jacobian(case, given, vectorize=True, strategy="forward-mode"), wanted)
        wanted = functional.hessian(case.loss, given)
        close(hessian(case.loss, every)(*given), wanted)
        for outer in (jacrev, jacfwd):
            for inner in (jacrev, jacfwd):
                close(outer(inner(case.loss, every), every)(*given), wanted)
        for strategy in ("reverse-mode", "forward-mode"):
            close(
                functional.hessian(
                    case.loss, given, vectorize=True, outer_jacobian_strategy=strategy
                ),
                wanted,
            )


def check_batches(case):
    """Batches of x, of generators, of both, and of both at once, along any axis."""
    f, (x, *generators) = case, case.given
    xs = case.draw(2, 3, x.shape[-1])
    many = [case.draw(*g.shape, 3, dtype=g.dtype) for g in generators]
    last, none = [-1] * len(many), [None] * len(many)

    def alone(g=None, b=None):
        those = generators if g is None else [t[..., g] for t in many]
        return (x if b is None else xs[:, b], *those)

    close(vmap(case.q, 1, 2)(xs), torch.stack([f(*alone(b=b)) for b in range(3)], 2))
    close(vmap(f, (None, *last))(x, *many), torch.stack([f(*alone(k)) for k in range(3)]))
    pairs = [alone(k, k) for k in range(3)]
    close(vmap(f, (1, *last))(xs, *many), torch.stack([f(*pair) for pair in pairs]))
    nested = vmap(lambda *g: vmap(f, (1, *none))(xs, *g), -1)(*many)
    close(nested, torch.stack([torch.stack([f(*alone(k, b)) for b in range(3)]) for k in range(3)]))
    of_each = vmap(grad(f.loss, f.every), (1, *last))(xs, *many)
    close(of_each, stacked(grad(f.loss, f.every)(*pair) for pair in pairs))
    leaves = [t.clone().requires_grad_() for t in (xs, *many)]
    results = [
        vmap(f.loss, (1, *last))(*leaves).sum(),
        sum(f.loss(leaves[0][:, k], *[t[..., k] for t in leaves[1:]]) for k in range(3)),
    ]
    first = [torch.autograd.grad(y, leaves, create_graph=True) for y in results]
    close(*first)
    sums = [sum((t * t.conj()).real.sum() for t in grads) for grads in first]
    close(*(torch.autograd.grad(total, leaves) for total in sums))


def test_vmap_agrees_with_loops(case):
    check_batches(case)


def test_vmap_of_many_blocks_agrees_with_loops(wide):
    check_batches(wide)


def check_gradients_at_a_time(case):
    """Several gradients at once, of outputs and of gradients, in both kinds of batches."""
    leaves = case.leaves()
    for made in (
        (case(*leaves),),
        torch.autograd.grad(case.loss(*leaves), leaves, create_graph=True),
    ):
        several = [case.draw(3, *t.shape, dtype=t.dtype) for t in made]

        def back(*v, made=made):
            return torch.autograd.grad(made, leaves, v, retain_graph=True)

        wanted = stacked(back(*(t[k] for t in several)) for k in range(3))
        found = torch.autograd.grad(made, leaves, several, is_grads_batched=True, retain_graph=True)
        close(found, wanted)
        close(vmap(back)(*several), wanted)


def test_batched_gradients_agree_with_loops(case):
    check_gradients_at_a_time(case)


def test_batched_gradients_of_many_blocks_agree_with_loops(wide):
    check_gradients_at_a_time(wide)


def test_forward_mode_through_the_backward_pass_is_correct(case):
    leaves = case.leaves()
    y = case(*leaves)
    v, t = case.like([y, y])
    with forward_ad.dual_level():  # a dual incoming gradient
        back = torch.autograd.grad(y, leaves, forward_ad.make_dual(v, t), retain_graph=True)
        found = tuple(forward_ad.unpack_dual(g).tangent for g in back)
    close(found, torch.autograd.grad(y, leaves, t))
    along = case.like(leaves)
    with forward_ad.dual_level():  # and dual inputs
        duals = [forward_ad.make_dual(a, b) for a, b in zip(leaves, along, strict=True)]
        back = torch.autograd.grad(case.loss(*duals), leaves)
        found = tuple(forward_ad.unpack_dual(g).tangent for g in back)
    close(found, directions(case, along))


@pytest.mark.parametrize("of_layer", [False, True])
@pytest.mark.parametrize("turned", ["vectors", "weight"])
def test_second_derivatives_are_correct_without_a_gradient_of_x(of_layer, turned, monkeypatch):
    """Only the generators are trained, as in finetuning."""
    monkeypatch.setattr(
        "structmat.nn.ops.operator.rotates_weight", lambda *_, **__: turned == "weight"
    )
    q = layer(SMALL, 0)
    x, weight = torch.randn(7, 5, dtype=REAL), torch.randn(3, 5, dtype=REAL)
    results = []
    for y in (
        q.linear(x, weight) if of_layer else q.adjoint(x),
        x @ q.matrix() @ weight.T if of_layer else x @ q.matrix(),
    ):
        first = torch.autograd.grad((y**3).sum(), list(q.parameters()), create_graph=True)
        total = sum((g**2).sum() for g in first)
        results.append((*first, *torch.autograd.grad(total, list(q.parameters()))))
    close(*results)


@pytest.mark.parametrize("plan", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, COMPLEX])
def test_checkpoints_hooks_and_retained_graphs_change_no_gradient(dtype, plan):
    generators = {torch.bfloat16: torch.float32}.get(dtype, dtype)
    q = layer(sm.butterfly(8, block=4), 0, dtype=generators, plan=plan)
    x = torch.randn(9, 8, dtype=dtype, requires_grad=True)
    inputs = [x, *q.parameters()]

    def gradients(y, **options):
        loss = (y * y.conj()).real.float().sum() + y.real.float().sum()
        return torch.autograd.grad(loss, inputs, **options)

    y = q(x)
    wanted = gradients(y, retain_graph=True)
    seen = []
    handles = [
        y.register_hook(seen.append),
        q.register_full_backward_hook(lambda _, given, made: seen.append((given, made))),
        q.generators[0].register_hook(seen.append),
    ]
    again = [gradients(y)]  # the graph was kept, and the hook is on it
    assert len(seen) == 2
    again.append(gradients(q(x)))
    assert len(seen) == 4
    for handle in handles:
        handle.remove()
    for reentrant in (False, True):
        y = checkpoint(q, x, use_reentrant=reentrant)
        q.zero_grad()
        x.grad = None
        ((y * y.conj()).real.float().sum() + y.real.float().sum()).backward()
        again.append(tuple(t.grad for t in inputs))
    for found in again:
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == b.dtype
            scale = float(b.abs().max())
            within = 20 * torch.finfo(b.dtype).eps * scale
            torch.testing.assert_close(a, b, rtol=0, atol=within)


@pytest.mark.parametrize("unitary", [False, True])
def test_all_ways_to_differentiate_powers_agree(unitary):
    size = 9 if unitary else 3
    source = torch.Generator().manual_seed(0)

    def f(g):
        made = power(PARAMETRIZATIONS["exp"](g, 3), 0.3)
        return torch.view_as_real(made) if unitary else made

    g = torch.randn(2, size, dtype=REAL, generator=source).requires_grad_()
    assert torch.autograd.gradcheck(f, (g,), check_forward_ad=True, check_batched_grad=True)
    several = torch.randn(2, size, 2, dtype=REAL, generator=source)
    wanted = [functional.jacobian(f, several[..., k]) for k in range(2)]
    close(vmap(jacrev(f), -1)(several), torch.stack(wanted))
    close(jacfwd(f)(several[..., 0]), wanted[0])
    close(functional.jacobian(f, several[..., 0], vectorize=True), wanted[0])


def test_vmap_works_on_the_bare_operators():
    """The operators are called without the layer."""
    q = layer(sm.butterfly(8), 0)
    blocks = [b.detach() for b in q.blocks(REAL)]
    key = q._plans.key
    xs, weight = torch.randn(4, 3, 8, dtype=REAL), torch.randn(6, 8, dtype=REAL)
    pairs = [torch.stack([b, b.mT], 1) for b in blocks]

    def rotate(x, blocks, weight=None):
        return torch.ops.structmat.rotate(x, blocks, weight, None, key, "auto", adjoint=False)

    def back(grad, blocks):
        return torch.ops.structmat.rotate_gradients(
            grad, xs[0], blocks, None, key, "auto", adjoint=False, of_x=True, of_blocks=True
        )

    close(vmap(lambda x: rotate(x, blocks), 1)(xs), q(xs).transpose(0, 1).detach())
    each = [[b[:, k] for b in pairs] for k in range(2)]
    wanted = [torch.stack([rotate(x, one, weight) for x in xs]) for one in each]
    nested = vmap(lambda one: vmap(lambda x: rotate(x, one, weight))(xs), in_dims=1)(pairs)
    close(nested, torch.stack(wanted))
    wanted = [stacked(back(g, one) for g in xs) for one in each]
    nested = vmap(lambda one: vmap(lambda g: back(g, one))(xs), in_dims=1)(pairs)
    close(tuple(nested), stacked(wanted))


# Torch's compiler makes instances of autograd functions as it traces, which torch deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_torch_func_transforms_compile_into_one_graph():
    case = Case(SMALL, "cayley", REAL, "auto")
    x, *generators = case.given
    ways = {
        "vmap": lambda: vmap(case.q)(x),
        "gradients": lambda: vmap(grad(case.loss, 1), (0, *[None] * len(generators)))(
            x, *generators
        ),
        "tangents": lambda: jvp(case.q, (x,), (x,))[1],
    }
    for f in ways.values():
        torch._dynamo.reset()
        close(torch.compile(f, fullgraph=True, backend="eager")(), f())


def test_a_layer_without_blocks_is_differentiable():
    q = Orthogonal(sm.Network.of(3, []), dtype=REAL)
    x = torch.randn(2, 3, dtype=REAL)
    close(vmap(jacrev(q))(x), torch.eye(3, dtype=REAL).expand(2, 3, 3))
    assert math.isclose(float(grad(lambda x: q(x).square().sum())(x[0]).norm()), 2 * x[0].norm())
