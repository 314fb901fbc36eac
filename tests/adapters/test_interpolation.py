"""Models interpolated between pretrained and finetuned, or with only some stages kept."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import (
    AdaptedLayer,
    adapt,
    adapters,
    keep_stages,
    load_adapter,
    merge,
    path,
    save_adapter,
)
from structmat.errors import BlockError, StructmatError
from structmat.linalg import factors as stagewise
from structmat.testing import seeds
from tests.random_modules import randomised, state

KINDS = ["cayley", "exp", "givens", "householder"]
X = torch.randn(5, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def plain():
    torch.manual_seed(0)
    layers = [nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)]
    return nn.Sequential(*layers).double()


def adapted(seed=0, parametrization="cayley", **options):
    options = {"scale": True, "parametrization": parametrization} | options
    return randomised(adapt(plain(), "mixed_radix", **options), seed, 0.4).eval()


def tuned(seed=0, parametrization="cayley", **options):
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    options = {"side": "both", "scale": True, "parametrization": parametrization} | options
    config = StructmatConfig(topology="mixed_radix", target_modules=["0", "2", "4"], **options)
    return randomised(peft.get_peft_model(plain(), config), seed, 0.4).eval()


both = pytest.mark.parametrize("make", [adapted, tuned])


def layers(model):
    """Return the layers with adapters by name."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, AdaptedLayer)}
    return {n.removeprefix("base_model.model."): m for n, m in found.items()}


def weights(model):
    """Return the effective weights of the adapted layers, by name."""
    return {n: m.weight.detach() for n, m in layers(model).items()}


def expected(model, change):
    """Return the weights from dense matrices, with `change` applied to the list of factors."""
    made = {}
    for name, layer in layers(model).items():
        w = layer.base_layer.weight.detach().clone()
        for side in ("inputs", "outputs"):
            for rotation in getattr(layer, f"structmat_{side}").values():
                r = dense(rotation, change)
                w = w @ r.T if side == "inputs" else r @ w
        made[name] = w
    return made


def dense(rotation, change):
    factors = [
        torch.tensor(f.toarray())
        for f in stagewise.factors(
            rotation.network, [b.detach().numpy() for b in rotation.blocks(torch.float64)]
        )
    ]
    whole = torch.eye(rotation.network.width, dtype=torch.float64)
    for factor in change(factors):
        whole = factor @ whole
    return whole


def power(factor, t):
    """Return the power of an orthogonal matrix by its eigenvalues."""
    values, vectors = torch.linalg.eig(factor)
    return (vectors @ torch.diag(values**t) @ torch.linalg.inv(vectors)).real


@both
@given(seed=seeds(), t=st.floats(0, 1), parametrization=st.sampled_from(KINDS))
def test_interpolation_raises_every_stage_to_the_power_t(make, seed, t, parametrization):
    model = make(seed, parametrization, scale=False)
    oracle = expected(model, lambda factors: [power(f, t) for f in factors])
    for at, halfway in path(model, [t]):
        assert at == t
        assert halfway is model
        for name, weight in weights(model).items():
            torch.testing.assert_close(weight, oracle[name], rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("steps", [4, [0.0, 0.25, 0.5, 0.75, 1.0]])
def test_a_path_goes_from_the_plain_to_the_adapted_model(make, steps):
    model = make()
    end, start, held = model(X), plain()(X), state(model)
    outputs = {t: halfway(X) for t, halfway in path(model, steps)}
    assert list(outputs) == [0.0, 0.25, 0.5, 0.75, 1.0]
    torch.testing.assert_close(outputs[0.0], start, rtol=0, atol=1e-12)
    assert torch.equal(outputs[1.0], end)
    assert len({float((y - end).detach().norm()) for y in outputs.values()}) == 5
    assert torch.equal(model(X), end)
    assert same(state(model), held)


def same(one, other):
    pairs = ((one[k], other[k]) for k in one)
    return one.keys() == other.keys() and all(
        torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in pairs
    )


@both
def test_an_interrupted_path_restores_the_model(make):
    model = make()
    end, held = model(X), dict(model.named_parameters())
    for _ in path(model, 4):
        break
    assert torch.equal(model(X), end)

    def run():
        for t, _ in path(model, 4):
            if t > 0.3:
                raise KeyboardInterrupt(t)

    with pytest.raises(KeyboardInterrupt, match=r"0\.5"):
        run()
    walk = path(model, 4)
    next(walk)
    assert not torch.equal(model(X), end)
    walk.close()
    path(model, 4)  # not begun: nothing is changed
    assert torch.equal(model(X), end)
    now = dict(model.named_parameters())
    assert now.keys() == held.keys()
    assert all(now[k] is held[k] for k in held)  # the same parameters: an optimiser goes on


@both
def test_keep_stages_keeps_the_product_of_the_selected_factors(make):
    model = make(scale=False)
    end = model(X)
    for stages, change in (
        ([0], lambda factors: factors[:1]),
        (slice(-1, None), lambda factors: factors[-1:]),
        (iter([1, 0]), lambda factors: factors[:2]),
        ([], lambda factors: []),  # noqa: ARG005 (as the others)
    ):
        oracle = expected(model, change)
        with torch.no_grad():  # blocks of all stages are kept ready from now on
            torch.testing.assert_close(model(X), end)
        with keep_stages(model, stages) as fewer:
            assert fewer is model
            for name, weight in weights(model).items():
                torch.testing.assert_close(weight, oracle[name], rtol=0, atol=1e-12)
            assert not torch.allclose(model(X), end)
            fresh = copy.deepcopy(model)
            torch.testing.assert_close(fresh(X), model(X))
            with torch.no_grad():
                torch.testing.assert_close(model(X), fresh(X))
        assert torch.equal(model(X), end)
    with pytest.raises(ZeroDivisionError, match="mine"), keep_stages(model, [0]):
        raise ZeroDivisionError("mine")
    assert torch.equal(model(X), end)
    kept = keep_stages(model, [0])
    assert not torch.equal(model(X), end)
    kept.restore()
    kept.restore()
    assert torch.equal(model(X), end)


@both
def test_paths_and_keep_stages_can_be_nested(make):
    model = make()
    end = model(X)
    with keep_stages(model, slice(1)):
        first = model(X)
        with keep_stages(model, slice(0)):
            nothing = model(X)
        assert torch.equal(model(X), first)
        values = [halfway(X) for _, halfway in path(model, 2)]
        assert torch.equal(values[-1], first)
        torch.testing.assert_close(values[0], plain()(X), rtol=0, atol=1e-12)
    assert torch.equal(model(X), end)
    assert not torch.allclose(nothing, values[0])  # the scales stay


def test_interpolated_and_shortened_models_can_be_saved_and_merged(tmp_path):
    model = adapted()
    for t, halfway in path(model, [0.5]):
        save_adapter(halfway, tmp_path / "half")
        half = halfway(X)
        torch.testing.assert_close(merge(copy.deepcopy(halfway))(X), half, msg=str(t))
    torch.testing.assert_close(load_adapter(plain(), tmp_path / "half")(X), half)
    size = sum(p.numel() for p in model.parameters())
    keep_stages(model, slice(1))
    save_adapter(model, tmp_path / "first")
    again = load_adapter(plain(), tmp_path / "first")
    torch.testing.assert_close(again(X), model(X))
    assert {a.rotation.network.depth for a in adapters(again).values()} == {1}
    assert sum(p.numel() for p in again.parameters()) < size


def test_a_peft_model_merges_and_trains_only_the_kept_stages():
    model = tuned(scale=False)
    whole = model(X)
    with keep_stages(model, [0]):
        left = model(X)
        torch.testing.assert_close(copy.deepcopy(model).merge_and_unload()(X), left)
        left.square().sum().backward()
        for name, p in model.named_parameters():
            if "structmat" in name:  # first stages learn, and those left out do not
                assert bool(p.grad is not None and p.grad.any()) == (name[-1] == "0"), name
    assert torch.equal(model(X), whole)


def test_one_of_several_adapters_can_be_interpolated():
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    model = tuned(scale=False)
    options = {"target_modules": ["2"], "init_weights": False}
    model.add_adapter("other", StructmatConfig(topology="butterfly(block=4, depth=2)", **options))
    assert isinstance(model, peft.PeftModel)
    before = model(X)
    for _, halfway in path(model, [0.0], adapter_name="other"):
        assert torch.equal(halfway(X), before)  # which is not active
    model.base_model.set_adapter(["default", "other"])
    for _, halfway in path(model, [0.0], adapter_name="other"):
        torch.testing.assert_close(halfway(X), before)
    for _, halfway in path(model, [0.0]):
        torch.testing.assert_close(halfway(X), plain()(X))
    with keep_stages(model, [], adapter_name="other"):
        torch.testing.assert_close(model(X), before)
    with pytest.raises(StructmatError, match=r"no adapters called 'othr'.*did you mean other"):
        path(model, adapter_name="othr")


@both
def test_invalid_models_stages_and_steps_are_refused(make):
    with pytest.raises(
        StructmatError, match="no adapters to interpolate or restrict; adapt it first"
    ):
        path(plain())
    model = make()
    end = model(X)
    with pytest.raises(StructmatError, match=r"0: stage 7 of a network of depth"):
        keep_stages(model, [0, 7])
    uneven = make(topology_pattern={"2": "block_diagonal(block=4)"})
    before = uneven(X)
    with pytest.raises(StructmatError, match=r"2: stage 1 of a network of depth 1"):
        keep_stages(uneven, [1])  # layer 0 has one
    assert torch.equal(uneven(X), before)
    with pytest.raises(StructmatError, match=r"stages=1: it must be a list of stages or a slice"):
        keep_stages(model, 1)
    with pytest.raises(StructmatError, match="t='a': it must be a finite number"):
        next(path(model, ["a"]))
    with pytest.raises(StructmatError, match="steps=0"):
        path(model, 0)
    assert torch.equal(model(X), end)
    merge(model) if make is adapted else model.merge_adapter()
    for act in (path, lambda m: keep_stages(m, [0])):
        with pytest.raises(StructmatError, match="its adapter is merged"):
            act(model)


def test_interpolating_non_orthogonal_blocks_is_refused():
    model = adapted(parametrization="cayley_neumann")
    end = model(X)
    with pytest.raises(BlockError, match="orthogonal"):
        list(path(model, 2))
    assert torch.equal(model(X), end)
