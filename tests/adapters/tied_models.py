"""Tiny transformers models whose layers share weights, and the layers to adapt in each."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

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
    """A BART with one embedding module under three names."""
    model = bart()
    model.resize_token_embeddings(44)
    return model


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
