"""diffusers' own conversion of original checkpoints is the oracle for the names of U-Net layers."""

import pytest
import torch

from structmat.convert.unet_names import is_sdxl, other_names
from tests.convert.pipelines import DIFFUSERS, SDXL, unet

single_file = pytest.importorskip("diffusers.loaders.single_file_utils")

DEEP = {
    "sample_size": 8,
    "layers_per_block": 2,
    "block_out_channels": (8, 8, 8, 8),
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "attention_head_dim": 4,
}  # Stable Diffusion 1.x, but narrow


@pytest.mark.parametrize("config", [DIFFUSERS, SDXL, DEEP], ids=["small", "sdxl", "sd1"])
def test_diffusers_reads_a_checkpoint_with_the_original_names(config):
    model = unet(config)
    keys = list(model.state_dict())
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    original = other_names(layers)
    assert original.keys() == set(layers)
    checkpoint = {}
    for k, key in enumerate(keys):
        layer, _, part = key.rpartition(".")
        checkpoint[f"model.diffusion_model.{original[layer]}.{part}"] = torch.tensor(k)
    found = single_file.convert_ldm_unet_checkpoint(checkpoint, model.config)
    assert {key: int(value) for key, value in found.items()} == {k: i for i, k in enumerate(keys)}
    assert other_names(original.values()) == {new: name for name, new in original.items()}
    assert is_sdxl(layers) == is_sdxl(original.values()) == (config is SDXL)


def test_layers_of_other_models_have_no_other_names():
    assert other_names(["encoder.layers.0.self_attn.q_proj", "conv_in"]) == {}
    assert other_names(["down_blocks.0.resnets.0.conv1", "unknown.0"]) == {
        "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2"
    }
