"""Adapting or loading into a compiled model gives the names, files and values of a plain one."""

import copy
from contextlib import nullcontext

import peft
import pytest
import torch
from torch import nn

from structmat.adapters import adapt, adapters, load_adapter, merge, save_adapter, unmerge
from structmat.peft import StructmatConfig
from tests.peft.test_lifecycle import layers, same, tensors
from tests.random_modules import randomised

# Warnings that torch itself gives while it compiles.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", r"ignore:The \.grad attribute", "ignore:.*inference mode"
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        block = lambda: nn.ModuleDict({"up": nn.Linear(12, 24), "down": nn.Linear(24, 12)})  # noqa: E731
        self.blocks = nn.ModuleList([Block(block()), Block(block())])
        self.norm = nn.BatchNorm1d(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        return self.parts["down"](torch.tanh(self.parts["up"](x)))


def compiled(module):
    return torch.compile(module, backend="eager")


def by_region(model):
    for k, block in enumerate(model.blocks):
        model.blocks[k] = compiled(block)
    return model


def by_layer(model):
    for block in model.blocks:
        block.parts["up"] = compiled(block.parts["up"])
    model.head = compiled(model.head)
    return model


def in_place(model):
    model.compile(backend="eager")
    return model


WAYS = {
    "plain": lambda model: model,
    "compiled": compiled,
    "by region": by_region,
    "by layer": by_layer,
    "in place": in_place,
    "everywhere": lambda model: compiled(by_region(model)),
}
ways = pytest.mark.parametrize("way", WAYS)
others = pytest.mark.parametrize("other", ["plain", "compiled", "by region", "by layer"])
TARGETS = [["up", "down"], "all-linear", r"blocks\.\d\.parts\..*", ["blocks.0.parts.up", "down"]]


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def _eagerly():
    """Run compiled models eagerly, for tests of names and files."""
    with torch.compiler.set_stance("force_eager"):
        yield


def compiling(wanted):
    """Return a context that compiles, which takes seconds, or runs compiled models eagerly."""
    return nullcontext() if wanted else torch.compiler.set_stance("force_eager")


def inputs():
    return torch.randn(5, 12, generator=torch.Generator().manual_seed(1))


def tuned(way, targets, **options):
    model = WAYS[way](Net().eval())
    model(inputs())  # so that something is compiled that must not be called any more
    options = {"topology": "mixed_radix", "target_modules": targets} | options
    made = peft.get_peft_model(model, StructmatConfig(**options))
    return randomised(made, 3).eval()


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@ways
@pytest.mark.parametrize("targets", TARGETS, ids=str)
@pytest.mark.usefixtures("_eagerly")
def test_a_compiled_model_has_the_parameter_names_of_the_plain_one(way, targets):
    plain, model = tuned("plain", targets), tuned(way, targets)
    near(model(inputs()), plain(inputs()))
    assert same(*(peft.get_peft_model_state_dict(m) for m in (model, plain)))
    assert model.peft_config["default"] == plain.peft_config["default"]


@ways
def test_adapting_and_merging_a_compiled_model_equals_the_plain_one(way):
    options, targets = {"modules_to_save": ["head"], "bias": "all"}, ["up", "down"]
    plain = tuned("plain", targets, **options)
    expected = plain(inputs())
    assert not torch.allclose(expected, Net().eval()(inputs()), atol=1e-2)
    with compiling(way in ("compiled", "by region", "everywhere")):
        model = tuned(way, targets, **options)
        near(model(inputs()), expected)
        ours, theirs = (peft.get_peft_model_state_dict(m) for m in (model, plain))
        assert same(ours, theirs)
        assert len(layers(model)) == len(layers(plain)) == 4
        model.merge_adapter()
        near(model(inputs()), expected)
        model.unmerge_adapter()
        near(model(inputs()), expected)
        near(model.merge_and_unload()(inputs()), expected)
        assert not layers(model.base_model.model)


@ways
@others
@pytest.mark.usefixtures("_eagerly")
def test_peft_files_load_however_the_model_is_compiled(way, other, tmp_path):
    source = tuned(way, "all-linear", modules_to_save=["head"], bias="all")
    expected = source(inputs())
    source.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(WAYS[other](Net().eval()), tmp_path)
    near(again(inputs()), expected)


@ways
@pytest.mark.usefixtures("_eagerly")
def test_weighted_adapters_of_a_compiled_model_are_saved_and_loaded(way, tmp_path):
    model = tuned(way, "all-linear", topology_pattern={"parts.down": "butterfly(block=4, depth=2)"})
    alone = model(inputs())
    model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
    model.base_model.add_weighted_adapter(["default", "other"], [1.0, 0.0], "mean")
    model.set_adapter("mean")
    near(model(inputs()), alone)
    model.save_pretrained(tmp_path, selected_adapters=["mean"])
    near(peft.PeftModel.from_pretrained(Net().eval(), tmp_path / "mean")(inputs()), alone)


@pytest.mark.usefixtures("_eagerly")
def test_files_with_orig_mod_in_their_names_load(tmp_path):
    """PEFT writes such files for other methods."""
    source = tuned("compiled", "all-linear")
    source.save_pretrained(tmp_path)
    found = peft.utils.load_peft_weights(tmp_path, device="cpu")
    inner = {
        k.replace("base_model.model.", "base_model.model._orig_mod."): v for k, v in found.items()
    }
    for way in ("plain", "compiled"):
        model = peft.get_peft_model(
            WAYS[way](Net().eval()),
            StructmatConfig(topology="mixed_radix", target_modules="all-linear"),
        )
        peft.set_peft_model_state_dict(model, inner)
        near(model(inputs()), source(inputs()))


@pytest.mark.parametrize("method", ["structmat", "lora"])
def test_data_parallel_keeps_module_in_names_as_for_lora(method, tmp_path):
    chosen = {
        "structmat": lambda: StructmatConfig(topology="mixed_radix", target_modules=["up"]),
        "lora": lambda: peft.LoraConfig(target_modules=["up"], init_lora_weights=False),
    }
    model = randomised(peft.get_peft_model(nn.DataParallel(Net().eval()), chosen[method]()), 0)
    assert all(".module." in name for name in peft.get_peft_model_state_dict(model))
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(nn.DataParallel(Net().eval()), tmp_path)
    near(again(inputs()), model.eval()(inputs()))


# The adapters of `adapt` ----------------------------------------------------------------------


def turned(way):
    model = WAYS[way](Net().eval())
    model(inputs())
    model = adapt(model, "mixed_radix", target_modules=["up", "down"], trainable=["head"])
    return randomised(model, 3).eval()


SHELLS = {"in a shell": lambda model: nn.DataParallel(model)}


@pytest.mark.parametrize("way", [*WAYS, *SHELLS])
def test_adapting_a_compiled_or_data_parallel_model_equals_the_plain_one(way, monkeypatch):
    monkeypatch.setattr(f"{__name__}.WAYS", WAYS | SHELLS)
    plain = turned("plain")
    expected = plain(inputs())
    with compiling(way in ("in place", "by layer")):
        model = turned(way)
        near(model(inputs()), expected)
        assert len(adapters(model)) == len(adapters(plain)) == 4
        merge(model)
        near(model(inputs()), expected)
        unmerge(model)
        near(model(inputs()), expected)
        near(merge(model, unload=True)(inputs()), expected)
        assert not adapters(model)


@pytest.mark.usefixtures("_eagerly")
@pytest.mark.parametrize("way", [*WAYS, *SHELLS])
@pytest.mark.parametrize("other", ["plain", "compiled", "by region", "by layer", *SHELLS])
def test_adapter_files_load_however_the_model_is_compiled(way, other, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.WAYS", WAYS | SHELLS)
    source = turned(way)
    save_adapter(source, tmp_path)
    again = load_adapter(WAYS[other](Net().eval()), tmp_path)
    near(again(inputs()), source(inputs()))


def test_a_single_compiled_layer_can_be_adapted():
    layer = compiled(nn.Linear(8, 8))
    x = torch.randn(2, 8)
    plain = layer(x)
    model = randomised(adapt(layer, "butterfly"), 0)
    turned = model(x)
    assert not torch.allclose(turned, plain, atol=1e-2)
    assert list(adapters(model)) == ["_orig_mod"]
    near(merge(model, unload=True)(x), turned)
    assert tensors(model).keys() == {"_orig_mod.weight", "_orig_mod.bias"}
