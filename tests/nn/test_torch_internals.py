"""Cached values are never stale and never come from a torch mode that has ended."""

import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import structmat as sm
from structmat.adapters import adapt
from structmat.nn import Orthogonal, parametrizations
from structmat.nn.ops import plan_cache
from structmat.nn.torch_internals import eager
from tests.random_modules import layer, randomised

# Torch's own rules for forward mode are compiled by torch.jit.script, which it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def adapted(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    return randomised(adapt(model, "butterfly", **options), 1).eval()


def scaled():
    """Return a PartialRotation without one of its stages."""
    partial_rotation = pytest.importorskip("structmat.adapters.partial_rotation")
    rotation = randomised(partial_rotation.PartialRotation(sm.butterfly(8), dtype=torch.float64), 1)
    rotation.set_stages([0, 2])
    return rotation


LAYERS = {
    "plain": lambda: layer(sm.butterfly(8), 1),
    "wired": lambda: layer(sm.random(8, block=3, depth=3, rng=0), 1),
    "exp": lambda: layer(sm.butterfly(8, block=4), 1, "exp"),
    "reduced": lambda: layer(sm.butterfly(8, block=4), 1, reduced=True),
    "reference": lambda: layer(sm.random(8, block=3, depth=2, rng=1), 1, plan="reference"),
    "adapted": adapted,
    "outputs": lambda: adapted(side="outputs", scale=True),
    "turn": scaled,
}


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Changing(TorchFunctionMode):
    """Make torch.tensor return a tensor subclass."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        return made.as_subclass(Mine) if func is torch.tensor else made


class Mine(torch.Tensor):
    pass


def values(q):
    return {n: p.detach() for n, p in q.named_parameters() if p.requires_grad}


def with_fake_tensors(q):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert q(mode.from_tensor(X)).shape == q(X).shape


def with_transforms(q):
    several = {n: torch.stack([v, v]) for n, v in values(q).items()}
    vmap(lambda p: functional_call(q, p, (X,)))(several)
    vmap(q)(X)
    grad(lambda x: q(x).sum())(X)


def with_tangents(q):
    with forward_ad.dual_level():
        q(forward_ad.make_dual(X, X))
        dual = {n: forward_ad.make_dual(v, v) for n, v in values(q).items()}
        functional_call(q, dual, (X,))


def within(mode):
    def run(q):
        with mode():
            q(X)

    return run


PASTS = {
    "fake": with_fake_tensors,
    "func": with_transforms,
    "forward": with_tangents,
    "make_fx": lambda q: make_fx(q)(X),
    "dispatch": within(Watching),
    "function": within(Changing),
    "meta": within(lambda: torch.device("meta")),
    "inference": within(torch.inference_mode),
    "other values": lambda q: functional_call(q, {n: 2 * v for n, v in values(q).items()}, (X,)),
}


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_torch_modes_leave_no_trace_in_the_caches(kind, past):
    """This holds for the layer used in the mode and for a later one of the same network."""
    plan_cache.cache_for.cache_clear()
    make = LAYERS[kind]
    expected = make()(X).detach()
    plan_cache.cache_for.cache_clear()
    q = make()
    with torch.no_grad():
        PASTS[past](q)
    for seen in (q, make()):
        with torch.no_grad():
            found = seen(X)
        assert type(found) is torch.Tensor
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        y = seen(X)
        torch.autograd.grad(y.sum(), [p for p in seen.parameters() if p.requires_grad])
        torch.testing.assert_close(y.detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_forward_mode_works_without_gradients(kind, before):
    """Forward-gradient training needs this; the backward pass is the oracle."""
    q = LAYERS[kind]()
    p = values(q)

    def f(p):
        return functional_call(q, p, (X,))

    source = torch.Generator().manual_seed(2)
    for _ in range(2):
        t = {n: torch.randn(v.shape, generator=source, dtype=v.dtype) for n, v in p.items()}
        y = f({n: v.requires_grad_() for n, v in p.items()})
        weight = torch.randn(y.shape, generator=source, dtype=y.dtype)
        slopes = torch.autograd.grad((y * weight).sum(), list(p.values()))
        expected = sum((g * t[n]).sum() for g, n in zip(slopes, p, strict=True))
        p = {n: v.detach() for n, v in p.items()}
        with torch.no_grad():
            if before:
                q(X)
            _, tangent = jvp(f, (p,), (t,))
        found = (tangent.detach() * weight).sum()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("adjoint", [False, True])
def test_generators_changed_during_a_forward_pass_are_not_cached_stale(adjoint, monkeypatch):
    """Another thread could do so; cached blocks belong to the generators they came from."""
    q = layer(sm.butterfly(8), 1)
    cayley, left = parametrizations.PARAMETRIZATIONS["cayley"], [2]

    def slow(generators, radix):
        made = cayley(generators, radix)
        if left[0]:
            left[0] -= 1
            q.generators[0].data.add_(1)
        return made

    monkeypatch.setitem(parametrizations.PARAMETRIZATIONS, "cayley", slow)
    for _ in range(3):
        with torch.no_grad():
            (q.adjoint if adjoint else q)(X)
    with torch.no_grad():
        found = (q.adjoint if adjoint else q)(X)
    r = q.matrix().detach()
    torch.testing.assert_close(found, X @ (r if adjoint else r.T), rtol=1e-10, atol=1e-10)


def test_powers_and_stages_changed_during_a_forward_pass_take_effect(monkeypatch):
    q = scaled()
    cayley = parametrizations.PARAMETRIZATIONS["cayley"]
    changes = [lambda: q.set_power(0.5), lambda: q.set_stages([1])]

    def slow(generators, radix):
        made = cayley(generators, radix)
        if changes:
            changes.pop(0)()
        return made

    monkeypatch.setitem(parametrizations.PARAMETRIZATIONS, "cayley", slow)
    with torch.no_grad():
        for _ in range(3):
            q(X)
        torch.testing.assert_close(q(X), X @ q.matrix().T, rtol=1e-10, atol=1e-10)


def test_a_layer_can_change_its_dtype_after_a_call():
    q = layer(sm.butterfly(8, block=4), 1)

    def assign():
        q.load_state_dict({n: v.float() for n, v in q.state_dict().items()}, assign=True)

    with torch.no_grad():
        for change in (
            lambda: setattr(q, "kind", "exp"),
            lambda: setattr(q.generators[0], "data", q.generators[0].data.float()),
            q.float,
            q.double,
            assign,
        ):
            change()
            torch.testing.assert_close(q(X), X @ q.matrix(torch.float64).T, rtol=1e-6, atol=1e-6)


def test_threads_share_a_plan_cache_and_a_fork_has_its_own_lock():
    net = sm.butterfly(8, block=4)
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(plan_cache.cache_for.__wrapped__(net)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(program) for program in made}) == 1
    assert plan_cache.found(made[0].key) is made[0]
    held, done = threading.Event(), threading.Event()

    def hold():
        with plan_cache._LOCK:
            held.set()
            done.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    plan_cache._unlock()  # as in the child, where the other thread is gone
    assert plan_cache.cache_for.__wrapped__(net) is made[0]
    done.set()
    other.join()


def test_eager_is_true_for_plain_tensors_only():
    x = torch.ones(2)
    assert eager(x, nn.Parameter(x))
    assert not eager(x.to("meta"))
    assert not eager(x.as_subclass(Mine))
    with torch.device("cpu"):
        assert eager(x)
    for mode in (Watching, Changing, FakeTensorMode):
        with mode():
            assert not eager(x)
    with forward_ad.dual_level():
        assert not eager(x)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("context", [torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduced": True},
        {"dtype": torch.complex64},
        {"dtype": torch.complex64, "plan": "reference", "reduced": True},
    ],
    ids=str,
)
def test_layers_compile_into_one_graph_with_and_without_gradients(context, options):
    torch.compiler.reset()
    nets = sm.butterfly(8, block=4), sm.random(8, block=3, depth=2, rng=0)
    q = randomised(nn.Sequential(*(Orthogonal(net, **options) for net in nets)), 1)
    x = X.float()
    with context():
        compiled = torch.compile(q, fullgraph=True, backend="eager")
        y, expected = compiled(x), q(x)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        if torch.is_grad_enabled():
            found, wanted = (
                torch.autograd.grad(v.abs().sum(), list(q.parameters())) for v in (y, expected)
            )
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.compiler.reset()
