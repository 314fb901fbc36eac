"""Weights that several modules share, by every way of sharing and in every operation.

The oracle is what the adapted model itself computes.
"""

import copy
import warnings

import pytest
import torch
from torch import nn

from structmat.errors import StructmatError
from structmat.nn import adapt, adapters, convert, load_adapter, merge, save_adapter, unmerge
from structmat.nn.sharing import names_of_layers, same_layers, shared_tensors
from tests.nn.drawing import randomised

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
from structmat.nn.peft import StructmatConfig  # noqa: E402 (needs peft)

SIZES = {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
CODED = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 16,
}
IDS = torch.arange(3, 9)[None]


def llama():
    config = transformers.LlamaConfig(
        **SIZES, hidden_size=16, intermediate_size=16, tie_word_embeddings=True
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    return transformers.GPT2LMHeadModel(config)


def bert():
    config = transformers.BertConfig(**SIZES, hidden_size=16, intermediate_size=16)
    return transformers.BertForMaskedLM(config)


def t5():
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return transformers.T5ForConditionalGeneration(config)


def umt5():
    config = transformers.UMT5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return transformers.UMT5ForConditionalGeneration(config)


def bart():
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(vocab_size=40, scale_embedding=True, **CODED)
    )


def resized():
    """One module of three names."""
    model = bart()
    model.resize_token_embeddings(44)
    return model


MODELS = (llama, gpt2, bert, t5, umt5, bart, resized)
CASES = [
    (llama, ["embed_tokens"]),
    (llama, ["lm_head"]),
    (llama, ["embed_tokens", "lm_head"]),
    (gpt2, ["wte"]),
    (gpt2, ["lm_head", "c_attn"]),
    (bert, ["word_embeddings"]),
    (bert, ["cls.predictions.decoder"]),
    (t5, ["shared"]),
    (t5, ["encoder.embed_tokens"]),
    (t5, ["lm_head"]),
    (umt5, ["shared"]),
    (bart, ["shared"]),
    (bart, ["embed_tokens", "q_proj"]),
    (bart, ["lm_head"]),
    (resized, ["shared"]),
    (resized, ["decoder.embed_tokens"]),
]
NAMED = [pytest.param(*case, id=f"{case[0].__name__}-{'-'.join(case[1])}") for case in CASES]


def made(build):
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():  # biases start at zero, and a lost one would not be seen
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def logits(model):
    more = {"decoder_input_ids": IDS + 7} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(IDS, **more).logits


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def reread(model, folder):
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()


@pytest.mark.parametrize(("build", "targets"), NAMED)
def test_a_transformers_model_merges_saves_and_loads_as_adapted(build, targets, tmp_path):
    plain = made(build)
    plain.save_pretrained(tmp_path / "plain")
    before = logits(plain)
    model = adapt(plain, "mixed_radix", target_modules=targets)
    close(logits(model), before)
    wanted = logits(randomised(model, 1))
    assert (wanted - before).abs().max() > 0.05  # what is never called would change nothing
    close(logits(merge(model)), wanted)
    close(logits(unmerge(model)), wanted)
    save_adapter(merge(model), tmp_path / "adapter")
    unmerge(model)
    close(logits(load_adapter(made(build), tmp_path / "adapter")), wanted)
    convert(tmp_path / "adapter", tmp_path / "files", to="merged", model=tmp_path / "plain")
    close(logits(type(plain).from_pretrained(tmp_path / "files").eval()), wanted)
    model = merge(model, unload=True)
    close(logits(model), wanted)
    close(logits(reread(model, tmp_path / "merged")), wanted)
    model.tie_weights()  # what is no longer tied stays apart
    if not model.config.is_encoder_decoder:
        close(logits(model), wanted)


@pytest.mark.parametrize(("build", "targets"), NAMED)
@pytest.mark.filterwarnings("ignore:.*(tie_word_embeddings|save_embedding_layers|tied)")
def test_a_peft_model_merges_saves_and_loads_as_adapted(build, targets, tmp_path):
    plain = made(build)
    plain.save_pretrained(tmp_path / "plain")
    before = logits(plain)
    config = StructmatConfig(topology="mixed_radix", target_modules=targets)
    model = peft.get_peft_model(plain, config)
    close(logits(model), before)
    wanted = logits(randomised(model, 1))
    assert (wanted - before).abs().max() > 0.05
    model.merge_adapter()
    close(logits(model), wanted)
    model.unmerge_adapter()
    close(logits(model), wanted)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(made(build), tmp_path / "adapter")
    close(logits(again), wanted)
    again.load_adapter(tmp_path / "adapter", "second")
    again.set_adapter("second")
    close(logits(again), wanted)
    with again.disable_adapter():
        close(logits(again), before)
    merged = model.merge_and_unload()
    close(logits(merged), wanted)
    close(logits(reread(merged, tmp_path / "merged")), wanted)
