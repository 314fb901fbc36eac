"""Conversion of convolutions and embeddings to merged models and LoRA."""

import pytest
import torch
from torch import nn

from structmat.adapters import merge, save_adapter
from structmat.audit import audit
from structmat.convert import convert
from structmat.errors import FileError
from tests.convert.models import ours, same

files = pytest.importorskip("safetensors.torch")
peft = pytest.importorskip("peft")


class Mixed(nn.Module):
    """An embedding and convolutions, one with groups."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 8)
        self.line = nn.Conv1d(8, 6, 3)
        self.plane = nn.Conv2d(4, 6, (1, 3), stride=2)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, padding=1)
        self.space = nn.Conv3d(4, 6, 2)

    def forward(self, tokens, x):
        """Return the output of each layer for its part of the input."""
        return (
            self.line(self.table(tokens).mT),
            self.plane(x[:, :, 0]),
            self.grouped(x[:, :, 0]),
            self.space(x),
        )


UNGROUPED = ["table", "line", "plane", "space"]
CASES = [
    {"side": side, "field": field}
    for side, field in [("inputs", "receptive"), ("inputs", "channels"), ("outputs", "receptive")]
]


def saved(folder, targets, **options):
    one = ours(Mixed(), "mixed_radix(largest=4)", target_modules=targets, scale=True, **options)
    save_adapter(one, folder / "ours")
    files.save_file(Mixed().state_dict(), folder / "model.safetensors")
    return one


@pytest.mark.parametrize("options", CASES)
def test_converting_to_merged_equals_merging_in_memory(tmp_path, options):
    one = saved(tmp_path, [*UNGROUPED, "grouped"], **options)
    convert(
        tmp_path / "ours",
        tmp_path / "merged.safetensors",
        to="merged",
        model=tmp_path / "model.safetensors",
    )
    found = files.load_file(tmp_path / "merged.safetensors")
    same(found, dict(merge(one, unload=True).state_dict()), 2e-6)


@pytest.mark.parametrize("options", CASES)
def test_lora_of_full_rank_has_the_same_outputs_in_peft(tmp_path, options):
    one = saved(tmp_path, UNGROUPED, **options)
    convert(tmp_path / "ours", tmp_path / "lora", to="lora", rank=16, model=Mixed())
    loaded = peft.PeftModel.from_pretrained(Mixed(), tmp_path / "lora").eval()
    given = torch.randint(9, (2, 7)), torch.randn(2, 4, 5, 5, 5)
    for theirs, own in zip(loaded(*given), one(*given), strict=True):
        torch.testing.assert_close(theirs, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", CASES)
def test_an_audit_of_files_agrees_with_the_model(tmp_path, options):
    one = saved(tmp_path, [*UNGROUPED, "grouped"], **options)
    mine = audit(one).layers
    theirs = audit(tmp_path / "ours", model=tmp_path / "model.safetensors").layers
    assert mine.keys() == theirs.keys()
    for name, row in theirs.items():
        for key in ("orthogonality_error", "singular_value_drift", "angle_drift", "energy_drift"):
            assert mine[name][key] == pytest.approx(row[key], abs=2e-5), (name, key)


def test_formats_for_linear_layers_refuse_convolutions_and_embeddings(tmp_path):
    saved(tmp_path, ["line"])
    with pytest.raises(
        FileError, match=r"line: PEFT's BOFT supports only linear .*, not Convolution with a weight"
    ):
        convert(tmp_path / "ours", tmp_path / "boft", to="peft-boft")
    (tmp_path / "table").mkdir()
    saved(tmp_path / "table", ["table"], side="outputs")
    with pytest.raises(FileError, match="table: LyCORIS supports only linear layers"):
        convert(tmp_path / "table" / "ours", tmp_path / "l.safetensors", to="lycoris")


def test_converting_stacked_experts_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    model = transformers.MixtralForCausalLM(config)
    one = ours(model, "mixed_radix(largest=4)", target_modules=r".*experts\.down_proj")
    save_adapter(one, tmp_path / "ours")
    with pytest.raises(
        FileError, match="down_proj: stacked expert weights are rotated, which conversion"
    ):
        convert(tmp_path / "ours", tmp_path / "again")
    (row,) = audit(one).layers.values()
    assert row["angle_drift"] < 1e-5
    assert "merge_difference" not in row
