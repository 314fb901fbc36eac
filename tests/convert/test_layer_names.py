"""Names of adapted layers match those in models' files, or an error states why they do not."""

from types import SimpleNamespace

import pytest

from structmat.convert.layer_names import Names
from structmat.errors import FileError

PROJECTIONS = [f"text_model.encoder.layers.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "qkv"]


def weights(*layers):
    """Return a stand-in for the weights of a model."""
    keys = frozenset(f"{name}.weight" for name in layers)
    return SimpleNamespace(keys=keys, renamed=lambda key: key)


def flat(prefix, name):
    return prefix + name.replace(".", "_")


@pytest.mark.parametrize("prefix", ["lora_te_", "lora_te1_", "lycoris_"])
@pytest.mark.parametrize(
    "inside", ["", "cond_stage_model.transformer.", "conditioner.embedders.0.transformer."]
)
@pytest.mark.parametrize("chosen", [PROJECTIONS, PROJECTIONS[3:4]])
def test_flat_names_match_a_part_of_a_checkpoint(prefix, inside, chosen):
    known = [inside + name for name in PROJECTIONS]
    other = ["model.diffusion_model.out.2", "conditioner.embedders.1.model.ln_final"]
    names = Names(weights(*known, *other), [flat(prefix, n) for n in chosen], is_flat=True)
    assert names.of == {flat(prefix, n): inside + n for n in chosen}


def test_flat_names_match_if_the_adapter_or_the_model_omits_a_prefix():
    known = [name.removeprefix("text_model.") for name in PROJECTIONS]
    names = Names(weights(*known), [flat("lora_te_", PROJECTIONS[0])], is_flat=True)
    assert names.of == {flat("lora_te_", PROJECTIONS[0]): known[0]}
    names = Names(weights(*PROJECTIONS), [flat("lora_te_", known[0])], is_flat=True)
    assert names.of == {flat("lora_te_", known[0]): PROJECTIONS[0]}


@pytest.mark.parametrize(
    ("known", "layers", "message"),
    [
        (["a.x.q", "b.x.q"], ["lora_unet_x_q"], r"matches a\.x\.q and b\.x\.q of this model"),
        (["a.b_c", "a.b.c"], ["lora_unet_a_b_c"], "does not match layers of this model"),
        (["a.0.x.q"], ["lora_unet_a_7_x_q"], "does not match layers of this model"),
        (["block.0.x.q"], ["lora_unet_block_0_x_q", "lora_unet_y"], "and 1 others do not match"),
        (["a"], [""], "belongs to a single layer"),
    ],
)
def test_names_without_a_unique_match_are_rejected(known, layers, message):
    with pytest.raises(FileError, match=message):
        Names(weights(*known), layers, is_flat=True)


@pytest.mark.parametrize("inside", ["", "model.diffusion_model."])
def test_dotted_names_of_unets_match_either_scheme(inside):
    original = ["input_blocks.1.1.proj_in", "input_blocks.1.0.in_layers.2", "out.2"]
    diffusers = ["down_blocks.0.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1", "conv_out"]
    known = weights(*(inside + name for name in original))
    names = Names(known, [f"diffusion_model.{name}" for name in original])
    assert list(names.of.values()) == [inside + name for name in original]
    names = Names(known, diffusers)
    assert list(names.of.values()) == [inside + name for name in original]
    assert names.is_renamed
    assert names.key("conv_out.bias") == f"{inside}out.2.bias"
    assert names.module("conv_out") == f"{inside}out.2"


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([], "none"),
        (["0.lora_A", "0.lora_B"], r"0\.lora_A, 0\.lora_B"),
        (["a", "b", "c", "d", "e"], "a, b, c, d and 1 more"),
    ],
)
@pytest.mark.parametrize("is_flat", [False, True])
def test_a_file_without_weights_of_layers_is_not_a_model(keys, found, is_flat):
    model = SimpleNamespace(keys=frozenset(keys), renamed=lambda key: key)
    message = f"not the weights of layers, but {found}; give the pretrained model, not an adapter$"
    with pytest.raises(FileError, match=message):
        Names(model, ["0"], is_flat=is_flat)


def test_a_list_of_all_names_does_not_end_with_an_ellipsis():
    with pytest.raises(FileError, match="this model, which has b: does the adapter"):
        Names(weights("b"), ["a"])
