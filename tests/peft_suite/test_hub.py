"""transformers finds the tiny models offline, like models downloaded from the Hub."""

import pytest
import torch
import transformers

from tests.peft_suite import hub

NAME = "peft-internal-testing/tiny-random-OPTForCausalLM"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "MODELS", {NAME: hub.MODELS[NAME]})
    monkeypatch.setattr(hub, "PIPELINES", {})
    hub.fill(tmp_path)
    return tmp_path


def test_a_model_loads_by_its_hub_name(cache):
    options = {"cache_dir": cache, "local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(NAME, **options)
    words = transformers.AutoTokenizer.from_pretrained(NAME, **options)
    tokens = words("hello world", return_tensors="pt")["input_ids"]
    assert words.decode(tokens[0]) == "hello world"
    assert int(tokens.max()) < model.config.vocab_size
    assert torch.isfinite(model(tokens).logits).all()


def test_an_unknown_name_is_not_found(cache):
    with pytest.raises(OSError, match="couldn't find"):
        transformers.AutoConfig.from_pretrained(
            "peft-internal-testing/another", cache_dir=cache, local_files_only=True
        )
