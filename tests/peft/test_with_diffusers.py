"""Use with diffusers, whose adapter weights become powers of rotations."""

import copy

import peft
import pytest
import torch

from structmat.adapters import keep_stages, path
from structmat.peft import StructmatConfig

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

# PEFT's, whenever a second adapter comes to a model without a PeftModel around it.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")

CROSS = ["to_q", "to_k", "to_v", "to_out.0"]


def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


def config(**options):
    targets = {"target_modules": [*CROSS, "conv1", "proj_in"]}
    return StructmatConfig(**{"topology": "mixed_radix", "init_weights": False} | targets | options)


def sample(model, **options):
    source = torch.Generator().manual_seed(1)
    x, text = (torch.randn(*shape, generator=source) for shape in ((2, 4, 8, 8), (2, 5, 12)))
    with torch.no_grad():
        return model(x, torch.tensor(3), text, **options).sample


def adapted():
    model = unet()
    model.add_adapter(config(), "one")
    model.add_adapter(config(side="outputs", scale=True), "two")
    return model


def layers(model):
    return {n: m for n, m in model.named_modules() if hasattr(m, "structmat_power")}


def test_adapter_weights_are_powers_of_rotations():
    model, start = adapted(), sample(unet())
    assert layers(model)
    model.set_adapters(["one", "two"], weights=[0.5, 0.25])
    assert {tuple(m.structmat_power.items()) for m in layers(model).values()} == {
        (("one", 0.5), ("two", 0.25))
    }
    mixed = sample(model)
    for name, layer in layers(model).items():  # still rotations of the weights
        layer.set_scale("two", 0.0)
        norms = [w.flatten(1).norm(dim=1) for w in (layer.weight, layer.base_layer.weight)]
        torch.testing.assert_close(*norms, msg=name)
    model.set_adapters(["one", "two"], weights=[0.0, 0.0])
    torch.testing.assert_close(sample(model), start, rtol=0, atol=1e-6)
    model.set_adapters(["one", "two"], weights=[0.5, 0.25])
    assert torch.equal(sample(model), mixed)
    assert not torch.allclose(mixed, start, atol=1e-2)


def test_adapter_weights_can_differ_between_unet_blocks():
    model = adapted()
    model.set_adapters(["one"], weights=[{"down": 1.0, "mid": 0.5, "up": 0.25}])
    wanted = {"mid_block": 0.5, "up_blocks": 0.25, "down_blocks": 1.0}
    attentions = {n: m for n, m in layers(model).items() if "attentions" in n}
    assert attentions
    for name, layer in attentions.items():
        assert layer.structmat_power["one"] == wanted[name.split(".")[0]], name


def test_the_scale_of_a_single_call_is_a_power_and_is_reset():
    model = adapted()
    model.set_adapters("one")
    whole = sample(model)
    half = sample(model, cross_attention_kwargs={"scale": 0.5})
    none = sample(model, cross_attention_kwargs={"scale": 0.0})
    assert {m.structmat_power["one"] for m in layers(model).values()} == {1.0}
    assert torch.equal(sample(model), whole)
    torch.testing.assert_close(none, sample(unet()), rtol=0, atol=1e-6)
    model.set_adapters(["one"], weights=[0.5])
    torch.testing.assert_close(sample(model), half, rtol=0, atol=1e-6)
    assert not torch.allclose(half, whole, atol=1e-2)


def test_adapters_can_be_disabled_fused_deleted_and_unloaded():
    model, start = adapted(), sample(unet())
    model.set_adapters("one")
    one = sample(model)
    model.disable_adapters()
    torch.testing.assert_close(sample(model), start, rtol=0, atol=1e-6)
    model.enable_adapters()
    model.fuse_lora(lora_scale=0.5)
    fused = sample(model)
    model.unfuse_lora()
    model.set_adapters(["one"], weights=[0.5])
    torch.testing.assert_close(sample(model), fused, rtol=1e-4, atol=1e-5)
    model.delete_adapters("two")
    model.set_adapters("one")
    assert torch.equal(sample(model), one)
    model.unload_lora()
    assert torch.equal(sample(model), start)


def test_an_adapter_saved_by_peft_loads_into_a_diffusers_model(tmp_path):
    model = peft.get_peft_model(unet(), config())
    expected = sample(model)
    model.save_pretrained(tmp_path)
    again = unet()
    again.add_adapter(StructmatConfig.from_pretrained(tmp_path), "mine")
    saved = peft.utils.load_peft_weights(tmp_path, device="cpu")
    plain = {name.removeprefix("base_model.model."): value for name, value in saved.items()}
    peft.set_peft_model_state_dict(again, plain, adapter_name="mine")
    assert torch.equal(sample(again), expected)
    merged = peft.PeftModel.from_pretrained(unet(), tmp_path).merge_and_unload()
    assert type(merged) is diffusers.UNet2DConditionModel
    torch.testing.assert_close(sample(merged), expected, rtol=1e-4, atol=1e-5)


def test_path_and_keep_stages_work_on_a_diffusers_model():
    model, start = adapted(), sample(unet())
    model.set_adapters("one")
    end = sample(model)
    outputs = [sample(halfway) for _, halfway in path(model, 2)]
    torch.testing.assert_close(outputs[0], start, rtol=0, atol=1e-6)
    assert torch.equal(outputs[2], end)
    with keep_stages(model, slice(1)):
        first = sample(model)
        torch.testing.assert_close(sample(copy.deepcopy(model)), first)
    assert torch.equal(sample(model), end)
    assert not torch.allclose(first, end, atol=1e-3)
