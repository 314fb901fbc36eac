"""Trainable parameters that the BOFT paper reports, counted on the real shapes (meta device)."""

import pytest
import torch

from structmat.adapters import adapt

transformers = pytest.importorskip("transformers")


def deberta_v3_base():
    config = transformers.DebertaV2Config(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        vocab_size=128100,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        max_relative_positions=-1,
        position_biased_input=False,
    )
    return transformers.DebertaV2Model._from_config(config)


def dinov2_large():
    config = transformers.Dinov2Config(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, mlp_ratio=4
    )
    return transformers.Dinov2Model._from_config(config)


@pytest.mark.parametrize(
    ("build", "spec", "rotations", "outputs", "reported"),
    [
        (deberta_v3_base, "block_diagonal(block=16)", 622_080, 82_944, "0.79M"),
        (deberta_v3_base, "butterfly(block=8, depth=2)", 580_608, 82_944, "0.75M"),
        (dinov2_large, "block_diagonal(block=16)", 1_658_880, 221_184, "2.10M"),
        (dinov2_large, "butterfly(block=8, depth=2)", 1_548_288, 221_184, "1.99M"),
        (dinov2_large, "butterfly(block=4, depth=4)", 1_327_104, 221_184, "1.77M"),
        (dinov2_large, "butterfly(block=2, depth=6)", 663_552, 221_184, "1.11M"),
    ],
)
def test_parameter_counts_equal_those_of_the_boft_paper(build, spec, rotations, outputs, reported):
    with torch.device("meta"):
        model = build()
    model = adapt(model, spec, scale=True, bias=True)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.is_meta for p in model.parameters())
    assert sum(n for name, n in trained.items() if ".generators." in name) == rotations
    assert sum(n for name, n in trained.items() if ".structmat_scale." in name) == outputs
    assert sum(n for name, n in trained.items() if name.endswith(".bias")) == outputs
    assert f"{sum(trained.values()) / 1e6:.2f}M" == reported
