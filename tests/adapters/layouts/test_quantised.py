"""Quantised linear layers: the inputs are rotated and the weight stays quantised.

Each library is tested where it is installed; all of them run on a CPU.
"""

import copy
import importlib.util

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter, unmerge
from structmat.adapters.layouts import QuantisedLinearLayout
from structmat.adapters.selection import select
from structmat.errors import StructmatError
from structmat.testing import seeds
from tests.random_modules import randomised

pytest.importorskip("peft")

# The warnings of these libraries about this machine and this torch do not concern structmat.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WIDTH, OUTPUTS = 64, 64


def eight_bits(linear):
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear8bitLt(WIDTH, OUTPUTS, linear.bias is not None, has_fp16_weights=False)
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def four_bits(linear):
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(
        WIDTH, OUTPUTS, linear.bias is not None, compute_dtype=torch.float32, quant_type="nf4"
    )
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def torchao(linear):
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(linear)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model[0]


def hqq(linear):
    quantize = pytest.importorskip("hqq.core.quantize")
    settings = quantize.BaseQuantizeConfig(nbits=4, group_size=16)
    return quantize.HQQLinear(linear, settings, compute_dtype=torch.float32, device="cpu")


LIBRARIES = {
    "bitsandbytes": (eight_bits, four_bits),
    "torchao": (torchao,),
    "hqq": (hqq,),
}
INSTALLED = [
    make
    for library, makers in LIBRARIES.items()
    if importlib.util.find_spec(library) is not None
    for make in makers
]
ROUNDING = {"eight_bits": 0.01, "torchao": 0.01, "four_bits": 0.16, "hqq": 0.12}
every = pytest.mark.parametrize("make", INSTALLED or [None])
some = pytest.mark.skipif(not INSTALLED, reason="no library that quantises is installed")


def model(make, *, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(make(nn.Linear(WIDTH, OUTPUTS, bias=bias)))


def adapted(make, seed=0, *, bias=True, **options):
    made = adapt(model(make, bias=bias), "butterfly(block=4, depth=3)", bias=True, **options)
    if make is torchao:
        quantization = pytest.importorskip("torchao.quantization")
        made[0].requantise = quantization.Int8WeightOnlyConfig
    return randomised(made, seed)


def plainly(value):
    """Return the data of a torchao tensor, for which torch.equal fails; others unchanged."""
    return getattr(value, "qdata", value)


def inputs():
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))


@some
@every
def test_a_new_adapter_does_not_change_the_quantised_layer(make):
    plain = model(make)
    assert list(select(plain)) == ["0"]  # by "all-linear"
    expected = plain(inputs())
    adapter = adapt(plain, "butterfly(block=4, depth=3)")
    assert adapter[0].layout is QuantisedLinearLayout
    torch.testing.assert_close(adapter(inputs()), expected, rtol=0, atol=1e-6)


@some
@every
@given(seed=seeds(), scale=st.booleans(), bias=st.booleans())
def test_outputs_and_gradients_match_the_dequantised_weight(make, seed, scale, bias):
    made = adapted(make, seed, scale=scale, bias=bias)
    adapter, x = made[0], inputs().requires_grad_()
    held = model(make, bias=bias)
    plain = held(torch.eye(WIDTH))  # the transposed dequantised weight, plus the bias
    if bias:
        plain = plain - held[0].bias
    weight = plain.detach().T @ adapter.rotation.matrix().T
    if scale:
        weight = adapter.scale[:, None] * weight
    torch.testing.assert_close(adapter.weight, weight, rtol=1e-4, atol=1e-4)
    expected = x @ weight.T + (adapter.bias if bias else 0)
    y = made(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    wanted = [x, *(p for p in made.parameters() if p.requires_grad)]
    assert len(wanted) == 1 + 3 + scale + bias
    cotangent = torch.ones_like(y)
    ours = torch.autograd.grad(y, wanted, cotangent)
    theirs = torch.autograd.grad(expected, wanted, cotangent)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


@some
@every
@pytest.mark.parametrize("scale", [False, True])
def test_merging_quantises_again_and_unmerging_restores(make, scale):
    made = adapted(make, scale=scale)
    x = inputs()
    unmerged, size = made(x), made[0].weight.abs().max()
    before = copy.copy(made[0].base_layer.state_dict())
    weight = made[0].weight.detach()
    merge(made)
    assert type(made[0].base_layer) is type(model(make)[0])  # in few bits again
    assert (made[0].weight - weight).abs().max() <= ROUNDING[make.__name__] * size
    torch.testing.assert_close(made(x), x @ made[0].weight.T + made[0].bias, rtol=1e-3, atol=1e-3)
    assert not any(
        p.requires_grad for n, p in made.named_parameters() if n == "0.base_layer.weight"
    )
    state = made.state_dict()
    for key, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(plainly(state[f"0.base_layer.{key}"]), plainly(value))
    unmerge(made)
    assert torch.equal(made(x), unmerged)
    unloaded = merge(made, unload=True)
    assert adapters(unloaded) == {}
    torch.testing.assert_close(unloaded(x), merge(adapted(make, scale=scale))(x))


@some
@every
def test_a_layer_can_be_merged_after_inference(make):
    """At the first inference bitsandbytes repacks 4-bit weights and casts scales to bfloat16."""
    made = adapted(make)
    weight = made[0].weight.detach()
    x = torch.randn(5, WIDTH)
    with torch.no_grad():
        y = made.eval()(x)
    near = 0.01 * weight.abs().max()
    assert (made[0].weight - weight).abs().max() <= near
    rounding = (ROUNDING[make.__name__] + 0.01) * weight.abs().max()
    merge(made)
    assert (made[0].weight - weight).abs().max() <= rounding
    with torch.no_grad():
        off = (made(x) - y).abs()
    assert (off <= 2 * rounding * x.abs().sum(-1, keepdim=True)).all()


@some
@every
def test_saving_and_loading_round_trips(make, tmp_path):
    made = adapted(make, scale=True)
    save_adapter(made, tmp_path)
    assert torch.equal(load_adapter(model(make), tmp_path)(inputs()), made(inputs()))


@some
@every
def test_training_changes_the_rotation_only(make):
    made = adapt(model(make), "butterfly(block=4, depth=3)")
    x, target = inputs(), torch.randn(5, OUTPUTS, generator=torch.Generator().manual_seed(3))
    held = made[0].weight.detach().clone()
    optimiser = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (made(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        for generator in made[0].rotation.generators:
            generator.zero_()
    torch.testing.assert_close(made[0].weight, held, rtol=0, atol=1e-6)


def test_merging_torchao_weights_requires_their_quantisation_settings():
    pytest.importorskip("torchao")
    made = adapted(torchao)
    made[0].requantise = None
    with pytest.raises(StructmatError, match="does not record how torchao quantised it"):
        merge(made)
    assert not made[0].merged


def test_torchao_settings_are_read_from_transformers_models():
    pytest.importorskip("torchao")

    class Config:
        def get_apply_tensor_subclass(self):
            return "settings"

    class Quantizer:
        quantization_config = Config()

    plain = model(torchao)
    plain.hf_quantizer = Quantizer()
    assert adapt(plain, "butterfly(block=4, depth=3)")[0].requantise() == "settings"


def test_quantised_layers_without_access_to_their_weight_are_refused():
    class QuantLinear(nn.Module):
        in_features, out_features = 8, 3

    QuantLinear.__module__ = "gptqmodel.nn_modules.qlinear"
    layer = nn.Sequential(QuantLinear())
    with pytest.raises(
        StructmatError, match=r"0: QuantLinear from gptqmodel: .* exclude this layer"
    ):
        adapt(layer, "butterfly")


def test_quantised_weights_of_non_linear_layers_are_refused():
    class Few(nn.Parameter):
        pass

    Few.__module__ = "torchao.quantization"
    layer = nn.Conv1d(2, 2, 2)
    layer.weight = Few(layer.weight.detach())
    with pytest.raises(StructmatError, match=r"Few .* exclude quantised"):
        adapt(layer, "mixed_radix", target_modules=".*")
