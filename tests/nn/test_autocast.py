"""Autocast in the forward or backward pass does not reduce the precision of a rotation."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

import structmat as sm
from structmat.adapters import adapt
from structmat.audit import audit
from structmat.nn import Orthogonal
from structmat.nn.ops import operator
from structmat.nn.parametrizations import PARAMETRIZATIONS
from tests.random_modules import layer, randomised

# Whether autocast is entered around the forward pass and around the backward passes.
MODES = {"forward": (True, False), "backward": (False, True), "both": (True, True)}
NET = sm.Network.of(8, [[[0, 1, 2], [3, 4, 5]], [[2, 3], [5, 7]], [[0, 2, 4], [1, 3, 7]]])
DTYPE = torch.float32


def cast(enabled):
    return torch.autocast("cpu", torch.bfloat16) if enabled else nullcontext()


def passes(place, forward, backward, *, twice=True):
    """Return the values of a place, and its first and second derivatives."""
    with cast(forward):
        y, inputs = place()
        with torch.no_grad():
            without, _ = place()
    source = torch.Generator().manual_seed(0)
    weights = torch.randn(y.shape, generator=source)
    with cast(backward):
        # Products of numbers, which autocast leaves as they are.
        first = torch.autograd.grad((y**2 * weights).sum(), inputs, create_graph=twice)
        if not twice:
            return [y, without, *first]
        return [y, without, *first, *torch.autograd.grad(sum((g**2).sum() for g in first), inputs)]


def off(found, wanted):
    """Return the largest relative error of a tensor."""
    assert all(a.dtype == b.dtype for a, b in zip(found, wanted, strict=True))
    return max(
        float((a - b).detach().norm() / b.detach().norm().clamp(min=1e-30))
        for a, b in zip(found, wanted, strict=True)
    )


def of_layer(call="forward", **options):
    q = layer(NET, 0, dtype=DTYPE, **options)
    source = torch.Generator().manual_seed(1)
    x = torch.randn(60, 8, generator=source).requires_grad_()
    weight, bias = torch.randn(5, 8, generator=source), torch.randn(5, generator=source)

    def place():
        given = (x, weight, bias) if call == "linear" else (x,)
        return getattr(q, call)(*given), [x, *q.parameters()]

    return place


def of_blocks(kind):
    q = layer(sm.shuffle(900, block=3, depth=1), 0, kind, dtype=DTYPE)
    return lambda: (torch.cat([b.flatten() for b in q.blocks()]), list(q.parameters()))


def of_weight(base, **options):
    adapter = adapt(base, "mixed_radix", target_modules=".*", **options)
    randomised(adapter, 0)
    return lambda: (adapter.weight, [p for p in adapter.parameters() if p.requires_grad])


class Stacked(nn.Module):
    """Stacked expert weights, as in transformers."""

    is_transposed = False

    def __init__(self):
        super().__init__()
        self.is_transposed = False
        self.down_proj = nn.Parameter(torch.randn(2, 6, 9))


def of_experts():
    model = adapt(nn.Sequential(Stacked()), "mixed_radix", target_modules=["down_proj"])
    randomised(model, 0)
    adapter = model[0]._modules["down_proj"]
    return lambda: (adapter.weight, list(adapter.rotation.parameters()))


PLACES = {
    **{
        f"{call}, {plan}": lambda call=call, plan=plan: of_layer(call, plan=plan)
        for call in ("forward", "adjoint", "linear")
        for plan in ("auto", "reference")
    },
    **{
        f"{kind}, {plan}": lambda kind=kind, plan=plan: of_layer(kind=kind, plan=plan)
        for kind in PARAMETRIZATIONS
        for plan in ("auto", "reference")
    },
    **{f"blocks, {kind}": lambda kind=kind: of_blocks(kind) for kind in PARAMETRIZATIONS},
    "linear": lambda: of_weight(nn.Linear(12, 9)),
    "linear, outputs and scale": lambda: of_weight(nn.Linear(12, 9), side="outputs", scale=True),
    "convolution": lambda: of_weight(nn.Conv2d(4, 6, 3)),
    "channels": lambda: of_weight(nn.Conv1d(9, 6, 3), field="channels"),
    "embedding": lambda: of_weight(nn.Embedding(20, 9)),
    "experts": of_experts,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_rotation_keeps_its_precision_in_every_pass(place):
    made = PLACES[place]()
    plainly = passes(made, *(False, False))
    for forward, backward in MODES.values():
        assert off(passes(made, forward, backward), plainly) < 1e-5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plan", ["auto", "reference"])
@pytest.mark.parametrize("turned", ["vectors", "chunks", "weight"])
def test_fused_linear_keeps_its_precision_in_every_pass(turned, plan, mode, monkeypatch):
    """With the vectors rotated, at once or in chunks, and with the weight rotated."""
    monkeypatch.setattr(operator, "rotates_weight", lambda *_, **__: turned == "weight")
    if turned == "chunks":
        monkeypatch.setattr(operator, "_BETWEEN", 7 * 8 * DTYPE.itemsize)
    place = of_layer("linear", plan=plan)
    assert off(passes(place, *MODES[mode]), passes(place, *(False, False))) < 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_powers_keep_their_precision_in_every_pass(mode):
    pytest.importorskip("peft")
    from structmat.adapters.partial_rotation import PartialRotation

    rotation = randomised(PartialRotation(NET, dtype=DTYPE), 0)
    rotation.set_power(0.3)
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def place():
        return rotation(x), [x, *rotation.parameters()]

    plainly = passes(place, *(False, False), twice=False)
    assert off(passes(place, *MODES[mode], twice=False), plainly) < 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_a_peft_layer_keeps_its_precision_in_every_pass(mode):
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    config = StructmatConfig(topology="mixed_radix", target_modules=["0"], scale=True)
    model = randomised(peft.get_peft_model(nn.Sequential(nn.Linear(12, 9)), config), 0)
    tuned = model.base_model.model[0]
    trained = [p for p in model.parameters() if p.requires_grad]

    def place():
        return tuned.weight, trained

    assert off(passes(place, *MODES[mode]), passes(place, *(False, False))) < 1e-5


class InDouble(nn.Module):
    """A rotation computed in float64, which autocast does not affect."""

    def __init__(self, rotation):
        super().__init__()
        self.exact = copy.deepcopy(rotation).double()
        self.width = rotation.width

    def forward(self, x):
        return self.exact(x.double()).to(x.dtype)

    def adjoint(self, x):
        return self.exact.adjoint(x.double()).to(x.dtype)

    def linear(self, x, weight, bias=None):
        wide = None if bias is None else bias.double()
        return self.exact.linear(x.double(), weight.double(), wide).to(x.dtype)


ACTIVATIONS = {
    "linear": (lambda: nn.Linear(16, 40), {}, (50, 16)),
    "outputs": (lambda: nn.Linear(16, 40), {"side": "outputs", "scale": True}, (50, 16)),
    "convolution": (lambda: nn.Conv1d(16, 12, 3), {}, (8, 16, 20)),
    "channels": (lambda: nn.Conv1d(16, 40, 3), {"field": "channels"}, (2, 16, 20)),
    "embedding": (lambda: nn.Embedding(40, 16), {"scale": True}, None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_only_the_products_of_the_base_layer_are_cast(name, mode):
    """The result equals that with a rotation that autocast does not affect.

    For a few seeds, float32 rounding changes how the products of the layer round to bfloat16; a
    rotation in bfloat16 would differ for all seeds.
    """
    make, options, shape = ACTIVATIONS[name]
    forward, backward = MODES[mode]
    errors = []
    for seed in range(8):
        torch.manual_seed(seed)
        adapter = adapt(make(), "mixed_radix", target_modules=".*", **options)
        randomised(adapter, seed)
        x = torch.randint(40, (30,)) if shape is None else torch.randn(shape)
        exact = copy.deepcopy(adapter)
        side = exact.structmat_outputs if "side" in options else exact.structmat_inputs
        side["default"] = InDouble(adapter.rotation)
        results = []
        for module in (adapter, exact):
            trained = [p for p in module.parameters() if p.requires_grad]
            with cast(forward):
                y = module(x)
            with cast(backward):
                grads = torch.autograd.grad((y.float() ** 2).sum(), trained)
            results.append([y.detach().float(), *(g.float() for g in grads)])
        errors.append(off(*results))
    assert min(errors) < 1e-4


def test_audits_and_interpolation_ignore_autocast():
    model = randomised(adapt(nn.Sequential(nn.Linear(32, 16)), "butterfly"), 0)
    q = model[0].rotation
    with cast(enabled=True):
        found = audit(model).layers["0"]
        assert q.orthogonality_error() < 1e-5
        assert found["merge_difference"] < 1e-5
        assert found["orthogonality_error"] < 1e-5
        torch.testing.assert_close(model[0].merged_weight(), model[0].weight.detach())
        half = q.interpolate(0.5)
    torch.testing.assert_close(half.matrix(), q.interpolate(0.5).matrix(), rtol=0, atol=1e-5)


def test_the_reference_implementation_rounds_a_bias_with_the_product():
    q = Orthogonal(sm.butterfly(2), plan="reference")
    x, bias = torch.ones(1, 2).bfloat16(), torch.ones(1).bfloat16()
    weight = torch.tensor([[256.0, 1.0]]).bfloat16()  # 257 is 256 in bfloat16, and so is 256 + 1
    assert q.linear(x, weight, bias).item() == 258
