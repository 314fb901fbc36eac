"""PEFT helper functions work on every type of adapted layer."""

import copy

import accelerate
import peft
import pytest
import torch
from peft import functional as peft_functional
from peft import helpers
from peft.tuners.lora.conversion import convert_to_lora
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import save_and_load
from peft.utils.hotswap import hotswap_adapter
from peft.utils.other import fsdp_auto_wrap_policy
from torch import nn

from structmat.adapters.layouts import ConvolutionLayout
from structmat.errors import FileError
from structmat.peft import StructmatConfig
from tests.adapters.layouts.test_experts import mixture
from tests.peft.single_layers import FEATURES, LAYERS, adapted, config, inputs, plain
from tests.random_modules import state, unchanged

kinds = pytest.mark.parametrize("kind", LAYERS)


def lora(kind):
    made = peft.LoraConfig(target_modules=["layer"], r=2, init_lora_weights=False)
    return peft.get_peft_model(plain(kind), made, "one")


@kinds
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_in_and_out_features_equal_those_of_lora(kind):
    _, layer = adapted(kind)
    theirs = lora(kind).base_model.model["layer"]
    assert (layer.in_features, layer.out_features) == FEATURES[kind]
    assert (theirs.in_features, theirs.out_features) == FEATURES[kind]
    assert layer.r.keys() == {"one", "two"}  # diffusers counts them
    assert (
        set(layer.r.values()) == {layer.structmat_inputs["one"].network.depth} or len(layer.r) > 1
    )


@kinds
def test_the_adapter_names_of_a_layer_follow_adding_and_deleting(kind):
    model, layer = adapted(kind)
    counted = layer.r  # may be held by others
    model.delete_adapter("two")
    assert counted.keys() == {"one"}
    model.add_adapter("three", copy.deepcopy(model.peft_config["one"]))
    assert counted.keys() == {"one", "three"} == layer.structmat_power.keys()


def test_features_of_stacked_experts_are_those_of_a_single_expert():
    name = "mixtral" if "mixtral" in names_of_experts() else names_of_experts()[0]
    made = StructmatConfig(topology="mixed_radix", target_parameters=["experts.down_proj"])
    model = peft.get_peft_model(mixture(name), made)
    layer = next(m for m in model.modules() if isinstance(m, BaseTunerLayer))
    _, outputs, inputs_ = layer.base_layer.sizes
    assert (layer.in_features, layer.out_features) == (inputs_, outputs)


def names_of_experts():
    from tests.adapters.layouts.test_experts import MODELS

    return sorted(MODELS)


# Each check takes a model, its adapted layer and an input, and must not change the outputs.


def casts_nothing(model, layer, x):
    expected = layer(x)
    assert layer.cast_input_dtype_enabled
    with helpers.disable_input_dtype_casting(model):
        assert not layer.cast_input_dtype_enabled
        assert torch.equal(layer(x), expected)
    assert layer.cast_input_dtype_enabled
    with helpers.disable_input_dtype_casting(model, active=False):
        assert layer.cast_input_dtype_enabled


def base_weights(model, layer, x):
    assert layer.get_base_layer() is layer.base_layer
    weight = layer.get_base_weight().clone()
    layer.set_base_weight(2 * weight)
    assert torch.equal(layer.base_layer.weight, 2 * weight)
    layer.set_base_weight(weight)


def states_of_the_base(model, layer, x):
    found = save_and_load.get_base_model_state_dict(model)
    kind = next(k for k in LAYERS if type(LAYERS[k]()) is type(layer.base_layer))
    assert found.keys() >= {"layer.weight"}
    assert found.keys() <= plain(kind).state_dict().keys() | {"layer.bias"}
    result = save_and_load.set_base_model_state_dict(model, found)
    assert not result.missing_keys
    assert not result.unexpected_keys


def tensors_of_an_adapter(model, layer, x):
    for name in ("one", "two"):
        found = peft.get_peft_model_state_dict(model, adapter_name=name)
        assert found
        assert not any(name in part for key in found for part in key.split("."))
        result = peft.set_peft_model_state_dict(model, found, adapter_name=name)
        assert not result.unexpected_keys


def switching(model, layer, x):
    expected = layer(x)
    peft_functional.set_adapter(model, "two")
    assert layer.active_adapters == ["two"]
    assert not torch.allclose(layer(x), expected, atol=1e-3)
    peft_functional.set_adapter(model, "one", inference_mode=True)
    assert not any(p.requires_grad for p in model.parameters())
    peft_functional.set_requires_grad(model, "two")
    assert {n.split(".")[-3] for n, p in model.named_parameters() if p.requires_grad} <= {
        "two",
        "layer",  # the scale of "two" is a parameter by itself
    }
    peft_functional.set_requires_grad(model, ["one", "two"], requires_grad=False)
    peft_functional.set_requires_grad(model, "one")


def deleting(model, layer, x):
    other = copy.deepcopy(model)
    own = other.base_model.model["layer"]
    left = peft_functional.delete_adapter(other, "two", prefix="structmat_")
    assert left == ["one"]
    assert own._get_available_adapters() == {"one"}
    assert own._all_available_adapter_names() == ["one"]
    assert torch.equal(own(x), layer(x))


def dtypes(model, layer, x):
    before = {n: p.dtype for n, p in model.named_parameters()}
    peft_functional.cast_adapter_dtype(model, "one")
    assert {n: p.dtype for n, p in model.named_parameters()} == before
    other = copy.deepcopy(model)
    peft.utils.cast_mixed_precision_params(other, torch.bfloat16)
    assert {p.dtype for p in other.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in other.parameters() if p.requires_grad} == {torch.float32}
    other.base_model.model["layer"](x.bfloat16() if x.is_floating_point() else x).sum().backward()


def devices(model, layer, x):
    for name in ("one", "two"):
        layer._move_adapter_to_device_of_base_layer(name)
        layer._move_adapter_to_device_of_base_layer(name, torch.device("cpu"))
    assert all(p.dtype == torch.float64 for p in layer.parameters())


def statuses(model, layer, x):
    (found,) = model.get_layer_status()
    assert found.name == "model.layer"
    assert found.available_adapters == ["one", "two"]
    assert found.active_adapters == ["one"]
    assert found.merged_adapters == []
    assert found.requires_grad == {"one": True, "two": False}
    assert found.module_type == f"structmat.{type(layer).__name__}"


def modes(model, layer, x):
    expected = layer(x)
    with model.disable_adapter():
        assert not any(p.requires_grad for p in model.parameters())
        assert torch.equal(layer(x), layer.base_layer(x))
    assert any(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(layer(x), expected)


def hooks_of_accelerate(model, layer, x):
    class Counting(accelerate.hooks.ModelHook):
        count = 0

        def post_forward(self, _, output):
            Counting.count += 1
            return output

    expected = [layer(x)]
    model.set_adapter("two")
    expected.append(layer(x))
    accelerate.hooks.add_hook_to_module(layer, Counting())
    accelerate.hooks.add_hook_to_module(layer.base_layer, Counting())
    torch.testing.assert_close(layer(x), expected[1])
    model.set_adapter("one")
    torch.testing.assert_close(layer(x), expected[0])
    assert Counting.count >= (2 if issubclass(layer.layout, ConvolutionLayout) else 4)
    accelerate.hooks.remove_hook_from_module(model, recurse=True)


def policies(model, layer, x):
    assert callable(fsdp_auto_wrap_policy(model))


HELPERS = [
    casts_nothing,
    base_weights,
    states_of_the_base,
    tensors_of_an_adapter,
    switching,
    deleting,
    dtypes,
    devices,
    statuses,
    modes,
    hooks_of_accelerate,
    policies,
]


@kinds
@pytest.mark.parametrize("helper", HELPERS, ids=lambda h: h.__name__)
def test_peft_helpers_work_and_leave_the_model_unchanged(kind, helper):
    model, layer = adapted(kind)
    x = inputs(kind)
    before, expected = state(model), layer(x)
    helper(model, layer, x)
    torch.testing.assert_close(layer(x), expected)
    assert unchanged(model, before)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("kind", ["linear", "no bias", "Conv1D"])
def test_an_adapter_of_a_linear_layer_converts_to_lora(kind):
    model, layer = adapted(kind, two=False)
    x = inputs(kind)
    assert layer.supports_lora_conversion("one")
    assert model.base_model.supports_lora_conversion("one")
    made, found = convert_to_lora(model, rank=8, adapter_name="one")
    theirs = peft.get_peft_model(plain(kind), made)
    peft.set_peft_model_state_dict(theirs, found)
    torch.testing.assert_close(
        theirs.eval().base_model.model["layer"](x), layer(x), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("kind", ["embedding", "conv2d"])
def test_converting_other_layers_to_lora_is_refused(kind):
    model, layer = adapted(kind, two=False)
    assert not layer.supports_lora_conversion("one")
    with pytest.raises(TypeError, match="do not support LoRA conversion"):
        convert_to_lora(model, rank=2, adapter_name="one")


def test_lora_only_helpers_raise_an_error(tmp_path):
    model, _ = adapted("linear")
    with (
        pytest.raises(ValueError, match="only supported for models with `LoraLayer`s"),
        helpers.rescale_adapter_scale(model, 0.5),
    ):
        pass
    assert not helpers.check_if_peft_model(tmp_path)
    model.save_pretrained(tmp_path)
    assert helpers.check_if_peft_model(tmp_path / "one")
    with pytest.raises(ValueError, match="Hotswapping only supports LORA"):
        hotswap_adapter(model, tmp_path / "one", "one")


# Mismatched shapes ----------------------------------------------------------------------------


def two(width):
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Linear(16, 4), "b": nn.Linear(width, 4)}).double()


def test_ignore_mismatched_sizes_skips_layers_of_other_shapes(tmp_path):
    settings = config(target_modules=["a", "b"])
    source = peft.get_peft_model(two(16), settings)
    source.save_pretrained(tmp_path)
    model = two(12)
    with pytest.raises(FileError, match=r"b\.structmat_inputs.* has shape"):
        peft.PeftModel.from_pretrained(model, tmp_path)
    with (
        pytest.warns(UserWarning, match=r"sizes: no adapter is loaded for base_model.model.b: "),
        pytest.warns(UserWarning, match="Found missing adapter keys"),  # PEFT's
    ):
        again = peft.PeftModel.from_pretrained(model, tmp_path, ignore_mismatched_sizes=True)
    a, b = (again.base_model.model[name] for name in "ab")
    torch.testing.assert_close(a.weight, source.base_model.model["a"].weight)
    torch.testing.assert_close(b.weight, b.base_layer.weight)
    found = peft.get_peft_model_state_dict(source)
    with pytest.warns(UserWarning, match=r"no adapter is loaded for base_model\.model\.b:"):
        peft.set_peft_model_state_dict(again, found, ignore_mismatched_sizes=True)
    with pytest.raises(FileError, match="has shape"):
        peft.set_peft_model_state_dict(again, found)


def test_diffusers_numbers_the_next_adapter_correctly():
    """diffusers names the next adapter by the number of adapters that a layer has."""
    utils = pytest.importorskip("diffusers.utils.peft_utils")
    model, _ = adapted("linear")
    assert utils.get_adapter_name(model) == "default_2"
