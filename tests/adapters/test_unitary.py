"""Unitary adapters of linear layers with complex weights."""

import pytest
import torch
from torch import nn

import structmat as sm
from structmat.adapters import adapt, adapters, load_adapter, merge, path, save_adapter, unmerge
from structmat.errors import StructmatError
from structmat.testing import assert_orthogonal

OPTIONS = [
    {},
    {"side": "outputs"},
    {"side": "both", "scale": True, "bias": True},
    {"side": "both", "reduced": True, "parametrization": "exp"},
    {"plan": "reference", "parametrization": "householder"},
]
IDS = ["inputs", "outputs", "both", "reduced", "reference"]


class Modulus(nn.Module):
    """A real non-linearity between complex layers."""

    def forward(self, x):
        return x * torch.tanh(x.abs())


def model(seed=0, dtype=torch.complex128):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 6, dtype=dtype), Modulus(), nn.Linear(6, 4, dtype=dtype))


def topology(width):
    return sm.shuffle(width, block=2)


def randomised(net, seed=1):
    source = torch.Generator().manual_seed(seed)
    for p in (p for p in net.parameters() if p.requires_grad):
        p.data.add_(0.3 * torch.randn(p.shape, generator=source, dtype=p.dtype))
    return net


def inputs(count=5, dtype=torch.complex128):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(2), dtype=dtype)


def dense(layer):
    """Return s ⊙ (P·W·Rᴴ) from the matrices of the rotations."""
    w = layer.own_weight
    parts = layer.by_side()
    if "structmat_inputs" in parts:
        w = w @ parts["structmat_inputs"].matrix().mH
    if "structmat_outputs" in parts:
        w = parts["structmat_outputs"].matrix() @ w
    return w if layer.scale is None else layer.scale[:, None] * w


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_values_and_gradients_are_those_of_the_dense_weight(options):
    net = randomised(adapt(model(), topology, **options))
    x = inputs().requires_grad_()
    trained = [p for p in net.parameters() if p.requires_grad]
    for layer in adapters(net).values():
        assert all(r.unitary for r in layer.rotations())
        for r in layer.rotations():
            assert_orthogonal(r.matrix().detach().numpy(), ulps=100)
    first, second = adapters(net).values()
    hidden = nn.functional.linear(x, dense(first), first.bias)
    expected = nn.functional.linear(Modulus()(hidden), dense(second), second.bias)
    y = net(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for layer in (first, second):
        torch.testing.assert_close(layer.weight, dense(layer), rtol=1e-12, atol=1e-12)
    loss, other = (made.abs().square().sum() + made.real.sum() for made in (y, expected))
    wanted = torch.autograd.grad(other, [x, *trained], allow_unused=True)
    for found, plain in zip(torch.autograd.grad(loss, [x, *trained]), wanted, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_adapters_start_at_the_model_and_can_be_merged_saved_and_loaded(options, tmp_path):
    plain, x = model(), inputs()
    net = adapt(model(), topology, **options)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-13, atol=1e-13)
    y = randomised(net)(x).detach()
    assert (y - plain(x)).abs().max() > 0.01
    save_adapter(net, tmp_path / "a")
    again = load_adapter(model(), tmp_path / "a")
    torch.testing.assert_close(again(x), net(x), rtol=1e-13, atol=1e-13)
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    merge(net)
    torch.testing.assert_close(net(x), y, rtol=1e-12, atol=1e-12)
    weights = torch.linalg.svdvals(net[0].base_layer.weight)
    if "scale" not in options:
        torch.testing.assert_close(weights, torch.linalg.svdvals(plain[0].weight))
    unmerge(net)
    assert torch.equal(net[0].base_layer.weight, plain[0].weight)


def test_training_recovers_a_unitary_change():
    """The target differs from the model by rotations of the same network; plain gradient steps."""
    x = inputs(64)
    target = randomised(adapt(model(), topology), 3)(x).detach()
    net = adapt(model(), topology)
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = (net(x) - target).abs().square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_a_model_of_real_and_complex_layers():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.real = nn.Linear(8, 8)
            self.wave = nn.Linear(8, 8, dtype=torch.complex64)

        def forward(self, x):
            return self.wave(self.real(x).to(torch.complex64)).abs()

    torch.manual_seed(0)
    net = adapt(Mixed(), "butterfly(block=4)")
    kinds = {name: layer.rotation.unitary for name, layer in adapters(net).items()}
    assert kinds == {"real": False, "wave": True}
    shapes = {n: [tuple(g.shape) for g in a.rotation.generators] for n, a in adapters(net).items()}
    assert shapes == {"real": [(2, 6), (2, 6)], "wave": [(2, 16), (2, 16)]}
    x = torch.randn(3, 8)
    y = randomised(net)(x).detach()
    torch.testing.assert_close(merge(net)(x), y, rtol=1e-5, atol=1e-5)


def test_powers_and_files_of_another_field(tmp_path):
    net = randomised(adapt(model(), topology, parametrization="exp"))
    whole = adapters(net)["0"].rotation.matrix().detach()
    for _ in path(net, [0.5]):
        half = adapters(net)["0"].rotation.rotation()
        squared = [b @ b for b in half.blocks]
        assert abs(sm.Rotation(half.network, squared).matrix() - whole.numpy()).max() < 1e-12
    save_adapter(net, tmp_path / "a")
    real = nn.Sequential(nn.Linear(8, 6), Modulus(), nn.Linear(6, 4))
    with pytest.raises(StructmatError, match=r"shape .* in the file"):
        load_adapter(real, tmp_path / "a")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(8, 4, dtype=torch.complex64),
        nn.Conv1d(4, 4, 3, dtype=torch.complex64),
    ],
)
def test_other_complex_layers_are_refused(layer):
    with pytest.raises(StructmatError, match="complex ones of linear layers, can be"):
        adapt(nn.ModuleDict({"a": layer}), "butterfly", target_modules=["a"])
