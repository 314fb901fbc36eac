"""Fingerprints of base weights survive conversion, and warn about another model."""

import json

import pytest
import torch
from torch import nn

from structmat.adapters import load_adapter, save_adapter
from structmat.adapters.base_fingerprint import fingerprint
from structmat.adapters.checkpoint import SETTINGS, read_adapter
from structmat.cli import main
from structmat.convert import convert
from structmat.convert.base_model import KEY
from structmat.convert.tensor_files import FileWeights, ModelWeights, metadata_of
from structmat.errors import BaseModelWarning, FileError
from tests.convert.models import copied, linears, ours
from tests.convert.pretrained import made, mixtral
from tests.convert.test_converting import saved_model

files = pytest.importorskip("safetensors.torch")

TARGETS = ["up", "down"]
FORMATS = {
    "peft": ("butterfly(block=4, depth=2)", "inputs"),
    "peft-boft": ("butterfly(block=4, depth=2)", "inputs"),
    "peft-oft": ("block_diagonal(block=4)", "inputs"),
    "gsoft": ("block_diagonal(block=8)", "inputs"),
    "lycoris": ("block_diagonal(block=4)", "outputs"),
}


def adapter(folder, to="peft-boft", model=None):
    spec, side = FORMATS[to]
    model = linears() if model is None else model
    save_adapter(ours(model, spec, target_modules=TARGETS, side=side, scale=False), folder)
    return folder


def saved_fingerprints(folder):
    return read_adapter(folder)[0].fingerprints


@pytest.mark.parametrize("to", FORMATS)
def test_fingerprints_survive_conversion_to_every_format_and_back(tmp_path, to):
    if to.startswith("peft"):
        pytest.importorskip("peft")
    one = adapter(tmp_path / "ours", to)
    there = tmp_path / ("there.safetensors" if to in ("gsoft", "lycoris") else "there")
    convert(one, there, to=to)
    convert(there, tmp_path / "back", model=linears())
    before = saved_fingerprints(one)
    assert set(before) == {"0.up", "0.down"}
    assert saved_fingerprints(tmp_path / "back") == before
    load_adapter(linears(), tmp_path / "back")
    with pytest.warns(BaseModelWarning, match=r"the base weights of 2 of 2 adapted layers differ"):
        done = convert(there, tmp_path / "other", model=linears(1))
    assert any("use the original model" in note for note in done.notes)
    assert saved_fingerprints(tmp_path / "other") == before  # those of the original model


def test_lora_files_contain_fingerprints(tmp_path):
    one = adapter(tmp_path / "ours")
    options = {"to": "lora", "rank": 2, "model": linears()}
    convert(one, tmp_path / "lora", **options)
    convert(one, tmp_path / "lora.safetensors", prefix="unet", **options)
    for path in (tmp_path / "lora" / "adapter_model.safetensors", tmp_path / "lora.safetensors"):
        found = json.loads(metadata_of(path)[KEY])
        assert found == {n: f.to_dict() for n, f in saved_fingerprints(one).items()}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_a_second_time_is_recognised(tmp_path, shards, dtype):
    one = adapter(tmp_path / "ours")
    saved_model(linears().to(dtype), tmp_path / "model", shards)
    done = convert(one, tmp_path / "once", to="merged", model=tmp_path / "model")
    assert not any("base weights" in note for note in done.notes)
    with pytest.warns(BaseModelWarning, match="this adapter has already been merged into them"):
        convert(one, tmp_path / "twice", to="merged", model=tmp_path / "once")
    saved_model(linears(1).to(dtype), tmp_path / "other", shards)
    with pytest.warns(BaseModelWarning, match="use the original model"):
        convert(one, tmp_path / "wrong", to="merged", model=tmp_path / "other")


@pytest.mark.parametrize("options", [{"scale": True}, {"side": "outputs"}, {"bias": True}])
def test_merged_scales_outputs_and_biases_are_recognised(tmp_path, options):
    save_adapter(
        ours(linears(), "shuffle(block=4)", target_modules=TARGETS, **options), tmp_path / "ours"
    )
    saved_model(linears(), tmp_path / "model")
    convert(tmp_path / "ours", tmp_path / "once", to="merged", model=tmp_path / "model")
    with pytest.warns(BaseModelWarning, match="has already been merged into them"):
        convert(tmp_path / "ours", tmp_path / "twice", to="merged", model=tmp_path / "once")


def test_a_file_without_fingerprints_takes_those_of_the_given_model(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.OFTConfig(oft_block_size=8, use_cayley_neumann=False, target_modules=TARGETS)
    peft.get_peft_model(linears(), config).save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", model=linears())
    weights = ModelWeights(linears())
    assert saved_fingerprints(tmp_path / "ours") == {
        name: fingerprint(weights.tensor(f"{name}.weight")) for name in ("0.up", "0.down")
    }
    with pytest.warns(BaseModelWarning):
        load_adapter(linears(1), tmp_path / "ours")


def test_names_of_layers_may_differ_in_a_prefix(tmp_path):
    one = adapter(tmp_path / "ours")
    convert(one, tmp_path / "theirs", to="peft-boft")
    wrapped = nn.ModuleDict({"bert": linears(), "head": nn.Linear(2, 2)})
    convert(tmp_path / "theirs", tmp_path / "a", model=wrapped)
    wrapped["bert"][0]["up"].weight.data.normal_()
    with pytest.warns(BaseModelWarning, match=r"1 of 2 adapted layers .*most in 0\.up"):
        convert(tmp_path / "theirs", tmp_path / "b", model=wrapped)


def test_weights_that_transformers_stacks_are_read_as_in_memory(tmp_path):
    model = made(mixtral)
    model.save_pretrained(tmp_path / "model")
    weights, memory = FileWeights(tmp_path / "model"), ModelWeights(model)
    for key in sorted(memory.keys):
        rows = [0, len(memory.tensor(key)) - 1]
        assert torch.equal(weights.rows(key, rows), memory.rows(key, rows)), key
        assert torch.equal(memory.rows(key, rows), memory.tensor(key)[rows])


def test_damaged_fingerprints_in_the_metadata_are_rejected(tmp_path):
    convert(adapter(tmp_path / "ours"), tmp_path / "theirs", to="peft-boft")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    tensors = files.load_file(path)
    for text, message in (
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        ('{"0.up": 1}', "fingerprint of a base weight is"),
    ):
        files.save_file(tensors, path, {"format": "pt", KEY: text})
        with pytest.raises(FileError, match=f"adapter_model.safetensors: .*{message}"):
            convert(tmp_path / "theirs", tmp_path / "back")


def test_the_command_line_prints_the_warning_once(tmp_path, capsys):
    one = adapter(tmp_path / "ours")
    saved_model(linears(1), tmp_path / "other")
    options = ["--to", "lora", "--tolerance", "0.1", "--rank", "3"]
    main(
        ["convert", str(one), str(tmp_path / "lora"), *options, "--model", str(tmp_path / "other")]
    )
    said = capsys.readouterr()
    assert (said.out + said.err).count("use the original model") == 1
    assert "note: 2 of 2 layers exceed the tolerance 0.1" in said.out


def test_a_copy_of_a_model_in_another_dtype_does_not_warn(tmp_path):
    one = adapter(tmp_path / "ours")
    model = copied(linears(), linears(1)).to(torch.float16)
    convert(one, tmp_path / "theirs", to="peft-boft", model=model)
    found = json.loads((one / SETTINGS).read_text("utf-8"))
    for layer in found["layers"].values():
        del layer["fingerprint"]
    (one / SETTINGS).write_text(json.dumps(found), "utf-8")
    convert(one, tmp_path / "again", to="peft-boft", model=linears(1))
