"""Tiny models that transformers finds offline, as those of the Hub that it has downloaded."""

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


def test_a_model_is_found_by_its_name(cache):
    options = {"cache_dir": cache, "local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(NAME, **options)
    words = transformers.AutoTokenizer.from_pretrained(NAME, **options)
    tokens = words("hello world", return_tensors="pt")["input_ids"]
    assert words.decode(tokens[0]) == "hello world"
    assert int(tokens.max()) < model.config.vocab_size
    assert torch.isfinite(model(tokens).logits).all()


def test_another_is_not(cache):
    with pytest.raises(OSError, match="couldn't find"):
        transformers.AutoConfig.from_pretrained(
            "peft-internal-testing/another", cache_dir=cache, local_files_only=True
        )
