"""A layer with scaled generators φ equals a plain layer with the generators s·φ."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

import structmat as sm
from structmat.adapters.partial_rotation import PartialRotation
from structmat.analysis.generator_scale import generator_scale
from structmat.errors import StructmatError
from structmat.linalg.blocks import PARAMETRIZATIONS
from structmat.nn import Orthogonal, orthogonal
from structmat.testing import blocks_for, networks, seeds
from tests.random_modules import layer

REAL, COMPLEX = torch.float64, torch.complex128
kinds = st.sampled_from(sorted(PARAMETRIZATIONS))
dtypes = st.sampled_from([REAL, COMPLEX])


def plain(q):
    """Return the plain layer with the generators s·φ."""
    other = type(q)(
        q.network,
        parametrization=q.parametrization,
        dtype=COMPLEX if q.unitary else REAL,
        reduced=q.reduced,
        plan=q.plan,
        generator_scaling="none",
    )
    assert other.generator_scale == 1
    with torch.no_grad():
        for own, g in zip(other.generators, q.generators, strict=True):
            own.copy_(q.generator_scale * g)
    return other


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def drawn(seed, *shape, dtype=REAL):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(
    networks(max_width=6, max_depth=3, screens=True),
    kinds,
    dtypes,
    st.booleans(),
    st.sampled_from(["auto", "reference"]),
    seeds(),
)
def test_values_and_gradients_equal_those_of_the_plain_layer(net, kind, dtype, reduced, plan, seed):
    q = layer(net, seed, kind, dtype, reduced=reduced, plan=plan)
    p = plain(q)
    s = q.generator_scale
    field = "complex" if q.unitary else "real"
    assert s == generator_scale(net, kind, field, reduced=reduced)
    x = drawn(seed, 3, net.width, dtype=dtype).requires_grad_()
    weight = drawn(seed + 1, 3, net.width)
    runs = [lambda m: m(x), lambda m: m.adjoint(x)]
    runs += [] if q.unitary else [lambda m: m.linear(x, weight)]
    for run in runs:
        y, z = run(q), run(p)
        close(y, z)
        cube = torch.linspace(-1, 1, y.numel(), dtype=REAL).view(y.shape)
        slopes, expected = (
            torch.autograd.grad((v * cube).abs().pow(3).sum(), [x, *m.generators])
            for v, m in ((y, q), (z, p))
        )
        close(slopes[0], expected[0])
        close(slopes[1:], tuple(s * g for g in expected[1:]))
    with torch.no_grad():  # the cached blocks, before and after a change
        close(q(x), p(x))
        for m, step in ((q, 0.3), (p, 0.3 * s)):
            for g in m.generators:
                g.add_(step)
        close(q(x), p(x))
        close(q.adjoint(x), p.adjoint(x))


@settings(max_examples=20)
@given(
    networks(max_width=6, max_depth=3, screens=True),
    kinds,
    dtypes,
    st.booleans(),
    seeds(),
    st.data(),
)
def test_derived_layers_equal_those_of_the_plain_layer(net, kind, dtype, reduced, seed, data):
    q = layer(net, seed, kind, dtype, reduced=reduced)
    p = plain(q)
    kept = data.draw(st.lists(st.sampled_from(range(net.depth)), unique=True)) if net.depth else []
    few = q.keep(kept)
    assert few.generator_scale == generator_scale(few.network, kind, few._field)
    assert p.keep(kept).generator_scale == 1
    close(few.matrix(), p.keep(kept).matrix())
    if kind != "cayley_neumann":  # whose blocks are not orthogonal
        close(torch.from_numpy(q.rotation().matrix()), torch.from_numpy(p.rotation().matrix()))
    for copied in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):  # noqa: S301 (our own bytes)
        assert copied.generator_scale == q.generator_scale
        assert torch.equal(copied.matrix(), q.matrix())


@settings(max_examples=25)
@given(
    networks(max_width=6, max_depth=3, screens=True),
    st.sampled_from(["cayley", "exp", "givens"]),
    seeds(),
    st.booleans(),
)
def test_powers_equal_those_of_the_plain_layer(net, kind, seed, reduced):
    q = layer(net, seed, kind, reduced=reduced)
    p = plain(q)
    for t in (0, 0.5, 1):
        moved = q.interpolate(t)
        assert moved.generator_scale == generator_scale(net, moved.parametrization)
        close(moved.matrix(), p.interpolate(t).matrix())
    part = PartialRotation(net, parametrization=kind, dtype=REAL, reduced=reduced)
    part.load_state_dict(q.state_dict())
    part.set_power(0.5)
    close(part.matrix(), p.interpolate(0.5).matrix())


@settings(max_examples=15)
@given(
    st.data(),
    networks(max_width=6, max_depth=3, screens=True),
    st.sampled_from(["exp", "cayley"]),
    st.sampled_from([float, complex]),
)
def test_a_layer_from_a_rotation_has_its_values_for_every_scaling(data, net, kind, dtype):
    rotation = sm.Rotation(net, data.draw(blocks_for(net, dtype)))
    values = [np.linalg.eigvals(b) for b in rotation.blocks]
    assume(kind == "exp" or all(bool((abs(v + 1) > 1e-2).all()) for v in values))
    for scaling in ("step", "sgd", "none", 0.25):
        q = Orthogonal.from_rotation(rotation, kind, generator_scaling=scaling)
        close(q.matrix(), torch.tensor(rotation.matrix(), dtype=q.matrix().dtype))


@pytest.mark.parametrize("kind", sorted(PARAMETRIZATIONS))
def test_a_bank_of_single_wires_has_an_empty_gradient(kind):
    q = Orthogonal(sm.Network.of(2, [[[0], [1]]]), parametrization=kind)
    q(torch.ones(2)).sum().backward()
    assert q.generators[0].grad.shape == (2, 0)


def test_a_loaded_state_has_the_same_values_or_is_refused():
    net = sm.butterfly(8, block=4)
    q = layer(net, 0)
    file = io.BytesIO()
    torch.save(nn.Sequential(q).state_dict(), file)
    file.seek(0)
    saved = torch.load(file)
    assert [*saved] == ["0.generators.0", "0.generators.1"]  # tensors only
    other = nn.Sequential(Orthogonal(net, dtype=REAL))
    other.load_state_dict(saved)
    assert torch.equal(other[0].matrix(), q.matrix())
    bare = nn.Sequential(Orthogonal(net, dtype=REAL, generator_scaling="none"))
    with pytest.raises(RuntimeError, match=r"0.generators are multiplied by \d\.\d+ in the saved"):
        bare.load_state_dict(saved)
    del saved._metadata["0"]["generator_scale"]  # as saved before there were factors
    with pytest.raises(RuntimeError, match=r"by 1 in the saved layer, .*generator_scaling=1\.0"):
        other.load_state_dict(saved)
    bare.load_state_dict(saved)
    assert torch.equal(bare[0].generators[0], q.generators[0])
    other.load_state_dict(dict(saved))  # without metadata, tensors are only tensors
    other.load_state_dict({}, strict=False)


def test_a_layer_pickled_before_there_were_factors_has_the_factor_one():
    q = layer(sm.butterfly(8), 0)
    state = q.__getstate__()
    del state["_generator_scale"], state["_scaling"]
    old = Orthogonal.__new__(Orthogonal)
    old.__setstate__(state)
    assert old.generator_scale == 1
    close(old.matrix(), _with_generators(plain(q), q.generators).matrix())


def _with_generators(q, values):
    with torch.no_grad():
        for own, g in zip(q.generators, values, strict=True):
            own.copy_(g)
    return q


@pytest.mark.parametrize("dtype", [REAL, COMPLEX])
def test_function_transforms_see_the_scaled_generators(dtype):
    q = layer(sm.butterfly(8, block=4), 0, dtype=dtype, reduced=True)
    p, s = plain(q), q.generator_scale
    x = drawn(1, 5, 8, dtype=dtype)

    def run(m, g):
        given_ = {f"generators.{k}": one for k, one in enumerate(g)}
        return functional_call(m, given_, (x,))

    def loss(m, g):
        return run(m, g).abs().pow(3).sum()

    ours, theirs = (tuple(g.detach() for g in m.generators) for m in (q, p))
    for one, other in zip(
        grad(lambda g: loss(q, g))(ours), grad(lambda g: loss(p, g))(theirs), strict=True
    ):
        close(one, s * other)
    close(
        jvp(lambda g: run(q, g), (ours,), (ours,))[1],
        jvp(lambda g: run(p, g), (theirs,), (theirs,))[1],
    )
    several = tuple(torch.stack([g, -g, 2 * g]) for g in ours)
    close(
        vmap(lambda g: run(q, g))(several),
        vmap(lambda g: run(p, g))(tuple(s * g for g in several)),
    )


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export, about itself
def test_exported_traced_and_compiled_layers_scale_the_generators():
    net = sm.butterfly(8, block=4)
    both = nn.Sequential(
        layer(net, 0), layer(net, 1, "exp"), layer(sm.shuffle(8, block=2), 2)
    ).eval()
    x = drawn(3, 2, 8)
    expected = nn.Sequential(*map(plain, both))(x)
    close(torch.export.export(both, (x,)).module()(x), expected)
    close(torch.jit.trace(both, (x,))(x), expected)
    torch._dynamo.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    close(compiled(x), expected)
    ours, theirs = (
        torch.autograd.grad(f(x).pow(3).sum(), list(both.parameters())) for f in (compiled, both)
    )
    close(ours, theirs)


@pytest.mark.parametrize("scaling", ["none", "step", "sgd", 0.125])
def test_parametrized_weights_are_the_same_for_every_scaling(scaling):
    def made(scaling):
        torch.manual_seed(0)
        bare = nn.Linear(8, 3, dtype=REAL)
        return orthogonal(bare, topology="butterfly", generator_scaling=scaling)

    one, other = made(scaling), made("none")
    close(one.weight, other.weight)
    part = one.parametrizations.weight
    s = part[0]._layer[0].generator_scale
    for g, h in zip(part.parameters(), other.parametrizations.weight.parameters(), strict=True):
        close(s * g, h)
    with torch.no_grad():
        one.weight = other.weight
    close(one.weight, other.weight)


@settings(max_examples=20)
@given(networks(max_width=6, max_depth=3, screens=True), kinds, dtypes, st.booleans(), st.data())
def test_derived_layers_follow_the_rule_for_sgd(net, kind, dtype, reduced, data):
    options = {"parametrization": kind, "dtype": dtype}
    q = Orthogonal(net, reduced=reduced, generator_scaling="sgd", **options)
    rule = {"field": q._field, "optimiser": "sgd"}
    assert q.generator_scale == generator_scale(net, kind, reduced=reduced, **rule)
    kept = data.draw(st.lists(st.sampled_from(range(net.depth)), unique=True)) if net.depth else []
    few = q.keep(kept)
    assert few.generator_scale == generator_scale(few.network, kind, **rule)
    again = Orthogonal(net, generator_scaling=few.scale_for(net), **options)  # as from a file
    assert again.keep(kept).generator_scale in {
        few.generator_scale,
        generator_scale(few.network, kind, few._field),  # if the factors for net are the same
    }
    for copied in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):  # noqa: S301 (our own bytes)
        assert copied.keep(kept).generator_scale == few.generator_scale


def test_the_repr_shows_factors_other_than_the_default():
    net = sm.butterfly(8)
    step = generator_scale(net, "cayley")
    assert repr(Orthogonal(net)) == repr(Orthogonal(net, generator_scaling=step))
    assert repr(Orthogonal(net, generator_scaling="none")).endswith("'cayley', generator_scale=1)")
    assert "generator_scale=0.25" in repr(Orthogonal(net, generator_scaling=0.25))


@pytest.mark.parametrize(
    "bad", ["adam", 0, -1.0, float("nan"), float("inf"), 10**400, 1e-31, True, None, [1.0]]
)
def test_invalid_scalings_are_refused(bad):
    with pytest.raises(StructmatError, match='it must be "step", "sgd", "none" or a positive'):
        Orthogonal(sm.butterfly(8), generator_scaling=bad)


def test_the_factor_is_read_only():
    with pytest.raises(AttributeError, match="generator_scale"):
        Orthogonal(sm.butterfly(8)).generator_scale = 2.0
