"""Embeddings, convolutions and quantised layers adapted by PEFT."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

from structmat.errors import StructmatError
from structmat.peft import StructmatConfig

peft = pytest.importorskip("peft")


class Mixed(nn.Module):
    """An embedding followed by a one- and a three-dimensional convolution."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.line = nn.Conv1d(8, 12, 3, stride=2, groups=2, padding=1, padding_mode="reflect")
        self.space = nn.Conv3d(3, 4, (1, 2, 2), dilation=(1, 1, 2))

    def forward(self, ids):
        y = self.line(self.table(ids).mT)
        y = self.space(y.unflatten(1, (3, 1, 4)).tanh())
        return y.flatten(1)


def plain():
    torch.manual_seed(0)
    return Mixed().double()


IDS = torch.randint(0, 9, (2, 16), generator=torch.Generator().manual_seed(1))
TARGETS = ["table", "line", "space"]


def adapted(**options):
    options = {"topology": "mixed_radix", "target_modules": TARGETS} | options
    return peft.get_peft_model(plain(), StructmatConfig(**options))


@pytest.mark.parametrize("field", ["receptive", "channels"])
@pytest.mark.parametrize("side", ["inputs", "outputs", "both"])
@pytest.mark.parametrize("scale", [False, True])
def test_train_save_load_merge_and_unload_an_adapter(side, scale, field, tmp_path):
    base, options = plain(), {"side": side, "scale": scale, "field": field}
    expected = base(IDS)
    torch.testing.assert_close(adapted(**options)(IDS), expected, rtol=0, atol=1e-12)
    model = adapted(**options, init_weights=False)
    unmerged = model(IDS)
    assert not torch.allclose(unmerged, expected, atol=1e-3)

    weights = {f"{n}.weight": getattr(model.base_model.model, n).weight for n in TARGETS}
    by_weight = torch.func.functional_call(base, weights, (IDS,))
    torch.testing.assert_close(unmerged, by_weight, rtol=0, atol=1e-12)
    wanted = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(unmerged.square().sum(), wanted)
    theirs = torch.autograd.grad(by_weight.square().sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)

    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(plain(), tmp_path)
    assert again.peft_config["default"].field == field
    torch.testing.assert_close(again(IDS), unmerged, rtol=0, atol=1e-12)
    with model.disable_adapter():
        assert torch.equal(model(IDS), expected)
    model.merge_adapter()
    torch.testing.assert_close(model(IDS), unmerged, rtol=0, atol=1e-12)
    model.unmerge_adapter()
    assert torch.equal(model(IDS), unmerged)
    torch.testing.assert_close(model.merge_and_unload()(IDS), unmerged, rtol=0, atol=1e-12)


def test_two_active_adapters_of_an_embedding_can_be_merged():
    model = adapted(target_modules=["table"], init_weights=False, side="both")
    options = {"topology": "butterfly", "target_modules": ["table"], "init_weights": False}
    model.add_adapter("other", StructmatConfig(**options, scale=True))
    model.base_model.set_adapter(["default", "other"])
    unmerged = model(IDS)
    model.merge_adapter()
    torch.testing.assert_close(model(IDS), unmerged, rtol=0, atol=1e-12)


def test_unknown_fields_are_refused():
    with pytest.raises(StructmatError, match="field='pixels'"):
        StructmatConfig(field="pixels")


def four_bits(linear):
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def eight_bits(linear):
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def hqq(linear):
    quantize = pytest.importorskip("hqq.core.quantize")
    settings = quantize.BaseQuantizeConfig(nbits=8, group_size=16)
    return quantize.HQQLinear(linear, settings, compute_dtype=torch.float32, device="cpu")


def torchao(linear):
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(linear)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model[0]


LIBRARIES = {"bitsandbytes": (four_bits, eight_bits), "hqq": (hqq,), "torchao": (torchao,)}
LIBRARY_OF = {four_bits: "bnb 4bit", eight_bits: "bnb 8bit", hqq: "hqq", torchao: "torchao"}
INSTALLED = [
    make
    for library, makers in LIBRARIES.items()
    if importlib.util.find_spec(library) is not None
    for make in makers
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")  # of what these libraries lack here
@pytest.mark.skipif(not INSTALLED, reason="no library that quantises is installed")
@pytest.mark.parametrize("make", INSTALLED or [None])
@pytest.mark.parametrize("side", ["inputs", "outputs", "both"])
def test_quantised_layers_are_adapted_saved_loaded_and_merged(make, side, tmp_path):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(make(nn.Linear(64, 64)))

    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    options = {"topology": "butterfly", "side": side, "scale": side != "inputs"}
    config = StructmatConfig(**options, target_modules=["0"])
    expected = model()(x)
    start = peft.get_peft_model(model(), copy.deepcopy(config))
    torch.testing.assert_close(start(x), expected, rtol=0, atol=1e-5)
    config.init_weights = False
    adapter = peft.get_peft_model(model(), config)
    layer = adapter.base_model.model[0]
    backend = LIBRARY_OF[make]
    (status,) = adapter.get_layer_status()
    assert status.quantization_backend == backend
    assert f"quantization_backend='{backend}'" in repr(layer)
    layer.quantization_backend = other = object()  # as on PEFT's own layers, it can be assigned
    assert layer.quantization_backend is other
    layer.quantization_backend = None
    unmerged = adapter(x)
    weight = layer.effective(["default"])
    torch.testing.assert_close(unmerged, x @ weight.T + layer.bias, rtol=1e-3, atol=1e-3)
    unmerged.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters() if p.requires_grad)
    adapter.save_pretrained(tmp_path)
    # To be trained further: for inference bitsandbytes multiplies in fewer bits.
    again = peft.PeftModel.from_pretrained(model(), tmp_path, is_trainable=True)
    torch.testing.assert_close(again(x), unmerged, rtol=0, atol=1e-5)
    if make is torchao:
        with pytest.raises(StructmatError, match="does not record how torchao quantised it"):
            adapter.merge_adapter()
        quantization = pytest.importorskip("torchao.quantization")
        layer.requantise = quantization.Int8WeightOnlyConfig
    own = layer.base_layer
    adapter.merge_adapter()
    assert type(layer.base_layer) is type(own)
    rounding = 0.16 if make is four_bits else 0.01
    off = rounding * weight.abs().max() * x.abs().sum(-1, keepdim=True)
    assert ((adapter(x) - unmerged).abs() <= off).all()
    adapter.unmerge_adapter()
    assert layer.base_layer is own
    assert torch.equal(adapter(x), unmerged)
