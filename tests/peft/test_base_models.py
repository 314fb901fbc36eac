"""PEFT adapters contain fingerprints of the base weights, and loading warns about other models."""

import json
import warnings

import pytest
import torch
from torch import nn

peft = pytest.importorskip("peft")

from structmat.adapters.base_fingerprint import fingerprint, read_fingerprints  # noqa: E402
from structmat.convert import convert  # noqa: E402
from structmat.errors import BaseModelWarning  # noqa: E402
from structmat.peft import StructmatConfig  # noqa: E402

transformers = pytest.importorskip("transformers")


def base(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 5)).eval()


def config(**options):
    given = {
        "topology": "butterfly(block=4, depth=2)",
        "target_modules": ["0", "2"],
        "init_weights": False,
    }
    return StructmatConfig(**given | options)


def saved_in(folder):
    settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    return read_fingerprints(settings["fingerprints"])


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    peft.get_peft_model(base(), config()).save_pretrained(tmp_path)
    return tmp_path


def test_the_configuration_contains_the_fingerprint_of_each_layer(folder):
    found = saved_in(folder)
    assert found == {name: fingerprint(base()[int(name)].weight) for name in ("0", "2")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_copies_of_the_model_do_not_warn(folder, dtype):
    peft.PeftModel.from_pretrained(base().to(dtype), folder)


def test_other_models_and_merged_ones_warn(folder):
    with pytest.warns(BaseModelWarning, match="2 of 2 .*; use the original model"):
        peft.PeftModel.from_pretrained(base(1), folder)
    merged = peft.PeftModel.from_pretrained(base(), folder).merge_and_unload()
    with pytest.warns(BaseModelWarning, match="has already been merged into them"):
        peft.PeftModel.from_pretrained(merged, folder)


@pytest.mark.filterwarnings("ignore:Adapter cannot be set when the model is merged")
def test_a_second_adapter_is_compared_with_the_original_weights(folder):
    model = peft.PeftModel.from_pretrained(base(), folder, adapter_name="one")
    model.merge_adapter()
    model.load_adapter(folder, "two")
    model.base_model.model[2].base_layer.weight.data.normal_()
    with pytest.warns(BaseModelWarning, match="1 of 2 adapted layers .* most in 2 "):
        model.load_adapter(folder, "three")


def test_saving_takes_the_current_weights_merged_or_not(folder, tmp_path):
    model = peft.PeftModel.from_pretrained(base(), folder)
    model.merge_adapter()
    model.save_pretrained(tmp_path / "again")
    assert saved_in(tmp_path / "again") == saved_in(folder)
    other = peft.get_peft_model(base(), config())
    other.base_model.model.load_state_dict(
        {
            name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"): v
            for name, v in base(3).state_dict().items()
        },
        strict=False,
    )
    other.save_pretrained(tmp_path / "other")
    assert saved_in(tmp_path / "other")["0"] == fingerprint(base(3)[0].weight)


def test_weights_that_are_sharded_when_saved_keep_their_fingerprints(tmp_path, monkeypatch):
    model = peft.get_peft_model(base(), config())
    monkeypatch.setattr("structmat.adapters.base_check.is_sharded", lambda _: True)
    model.save_pretrained(tmp_path)
    assert saved_in(tmp_path)["0"] == fingerprint(base()[0].weight)


def test_files_without_fingerprints_do_not_warn(folder):
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text("utf-8"))
    del settings["fingerprints"]
    path.write_text(json.dumps(settings), "utf-8")
    peft.PeftModel.from_pretrained(base(1), folder)


def test_transformers_compares_the_weights_too(tmp_path):
    def make(seed=0):
        torch.manual_seed(seed)
        return transformers.BertModel(
            transformers.BertConfig(
                vocab_size=20,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        )

    model = make()
    model.add_adapter(config(target_modules=["query", "word_embeddings"]))
    model.save_pretrained(tmp_path)
    assert len(saved_in(tmp_path)) == 2
    for seed in (0, 1):
        other = make(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BaseModelWarning)
            other.load_adapter(str(tmp_path))
        found = [one for one in caught if one.category is BaseModelWarning]
        assert len(found) == seed


def test_an_embedding_with_added_tokens_does_not_warn(tmp_path):
    def make():
        torch.manual_seed(0)
        return nn.ModuleDict({"embed": nn.Embedding(20, 16), "out": nn.Linear(16, 16)})

    peft.get_peft_model(make(), config(target_modules=["embed", "out"])).save_pretrained(
        tmp_path / "a", save_embedding_layers=False
    )
    larger = make()
    rows = torch.cat([larger["embed"].weight.data, torch.randn(4, 16)])
    larger["embed"] = nn.Embedding.from_pretrained(rows)
    peft.PeftModel.from_pretrained(larger, tmp_path / "a")


def test_combined_adapters_have_fingerprints(folder, tmp_path):
    model = peft.PeftModel.from_pretrained(base(), folder, adapter_name="one")
    model.load_adapter(folder, "two")
    model.base_model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "mean")
    model.save_pretrained(tmp_path / "both", selected_adapters=["mean"])
    assert saved_in(tmp_path / "both" / "mean") == saved_in(folder)


def test_conversion_preserves_the_fingerprints(folder, tmp_path):
    convert(folder, tmp_path / "ours", model=base())
    convert(tmp_path / "ours", tmp_path / "again", to="peft")
    assert saved_in(tmp_path / "again") == saved_in(folder)
    peft.PeftModel.from_pretrained(base(), tmp_path / "again")
