"""Tiny random models under the names of the pretrained models that PEFT's tests load.

They are written in the layout of the Hub cache, so tests find them offline without replacing any
function.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import PreTrainedTokenizerFast

COMMIT = "0" * 40
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
VOCABULARY = 512
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def _text(kind: str, architecture: str, **options: Any) -> Callable[[], Any]:
    """Return a function that makes a text model of this architecture."""

    def make() -> Any:
        config = getattr(transformers, f"{kind}Config")(**{**TEXT, **options})
        return getattr(transformers, architecture)(config)

    return make


def _few_heads(kind: str, architecture: str, **options: Any) -> Callable[[], Any]:
    # With an initializer range of 0.02, logits are too small for an adapter to have an effect.
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.1}
    return _text(kind, architecture, **sizes, **options)


def _opt(layers: int = 2) -> Callable[[], Any]:
    sizes = {"ffn_dim": 64, "word_embed_proj_dim": 32, "num_hidden_layers": layers}
    return _text("OPT", "OPTForCausalLM", **sizes)


def _gpt(kind: str, architecture: str, **options: Any) -> Callable[[], Any]:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    return _text(kind, architecture, **sizes, **options)


def _t5() -> Any:
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2}
    config = transformers.T5Config(
        **sizes, num_heads=4, decoder_start_token_id=0, tie_word_embeddings=False
    )
    return transformers.T5ForConditionalGeneration(config)


def _bart() -> Any:
    sides = {
        f"{side}_{what}": value
        for side in ("encoder", "decoder")
        for what, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
    }
    config = transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=32, max_position_embeddings=512, **sides
    )
    return transformers.BartForConditionalGeneration(config)


def _deberta(kind: str) -> Callable[[], Any]:
    more = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
    return _text(kind, f"{kind}Model", **more)


def _clip() -> Any:
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT))


def _clip_projecting() -> Any:
    config = transformers.CLIPTextConfig(**TEXT, projection_dim=32)
    return transformers.CLIPTextModelWithProjection(config)


def _resnet() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=10, hidden_sizes=[10, 20], depths=[1, 1], num_labels=3
    )
    return transformers.ResNetForImageClassification(config)


BERT = _text("Bert", "BertForSequenceClassification", num_labels=2)
ROBERTA = {"max_position_embeddings": 514, "num_labels": 2}
LLAMA = _few_heads("Llama", "LlamaForCausalLM")

MODELS: dict[str, Callable[[], Any]] = {
    "bert-base-uncased": BERT,
    "gpt2": _gpt("GPT2", "GPT2LMHeadModel"),
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM": _few_heads(
        "Gemma3Text", "Gemma3ForCausalLM"
    ),
    "hf-internal-testing/tiny-random-LlamaForCausalLM": LLAMA,
    "hf-internal-testing/tiny-random-MistralForCausalLM": _few_heads(
        "Mistral", "MistralForCausalLM"
    ),
    "hf-internal-testing/tiny-random-gpt2": _gpt("GPT2", "GPT2LMHeadModel"),
    "peft-internal-testing/opt-125m": _opt(12),
    "peft-internal-testing/tiny-clip-text-2": _clip_projecting,
    "peft-internal-testing/tiny-dummy-qwen2": _few_heads("Qwen2", "Qwen2ForCausalLM"),
    "peft-internal-testing/tiny-random-BartForConditionalGeneration": _bart,
    "peft-internal-testing/tiny-random-BertForSequenceClassification": BERT,
    "peft-internal-testing/tiny-random-BertModel": _text("Bert", "BertModel"),
    "peft-internal-testing/tiny-random-BloomForCausalLM": _text(
        "Bloom", "BloomForCausalLM", n_layer=5, n_head=4
    ),
    "peft-internal-testing/tiny-random-DebertaModel": _deberta("Deberta"),
    "peft-internal-testing/tiny-random-DebertaV2Model": _deberta("DebertaV2"),
    "peft-internal-testing/tiny-random-GPT2LMHeadModel": _gpt("GPT2", "GPT2LMHeadModel"),
    "peft-internal-testing/tiny-random-GPTJForCausalLM": _gpt(
        "GPTJ", "GPTJForCausalLM", rotary_dim=4
    ),
    "peft-internal-testing/tiny-random-GPTNeoXForCausalLM": _text("GPTNeoX", "GPTNeoXForCausalLM"),
    "peft-internal-testing/tiny-random-LlamaForCausalLM": LLAMA,
    "peft-internal-testing/tiny-random-OPTForCausalLM": _opt(),
    "peft-internal-testing/tiny-random-ResNetForImageClassification": _resnet,
    "peft-internal-testing/tiny-random-RobertaForSequenceClassification": _text(
        "Roberta", "RobertaForSequenceClassification", **ROBERTA
    ),
    "peft-internal-testing/tiny-random-RobertaModel": _text("Roberta", "RobertaModel", **ROBERTA),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration": _t5,
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": _t5,
    "peft-internal-testing/tiny-random-gpt2": _gpt("GPT2", "GPT2LMHeadModel"),
    "peft-internal-testing/tiny-random-t5": _t5,
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": _few_heads(
        "Llama", "LlamaForSequenceClassification"
    ),
    "trl-internal-testing/tiny-Qwen3ForCausalLM": _few_heads("Qwen3", "Qwen3ForCausalLM"),
    "trl-internal-testing/tiny-random-LlamaForCausalLM": LLAMA,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are single bytes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    bos, pad, eos, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, pad_token=pad, eos_token=eos, unk_token=unknown
    )


def diffusion() -> Any:
    """Return a tiny Stable Diffusion pipeline."""
    import diffusers

    unet = diffusers.UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    decoder = diffusers.AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet[:200])]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    vocabulary |= {"<|startoftext|>": len(tokens), "<|endoftext|>": len(tokens) + 1}
    words = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    return diffusers.StableDiffusionPipeline(
        vae=decoder,
        text_encoder=_clip().eval(),
        tokenizer=words,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


PIPELINES: dict[str, Callable[[], Any]] = {"hf-internal-testing/tiny-sd-pipe": diffusion}


def fill(cache: Path) -> None:
    """Write all models into an empty directory, to be used as `HF_HUB_CACHE`."""
    transformers.utils.logging.disable_progress_bar()
    words = tokenizer()
    for name, make in MODELS.items():
        torch.manual_seed(0)
        folder = _folder(cache, name)
        model = make()
        model.save_pretrained(folder)
        if hasattr(model.config, "vocab_size"):
            words.save_pretrained(folder)
        else:
            size = {"height": 32, "width": 32}
            kind = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}
            kind |= {"do_resize": True, "do_normalize": True, "crop_pct": 1.0, "crop_size": size}
            (folder / "preprocessor_config.json").write_text(json.dumps(kind), "utf-8")
    for name, make in PIPELINES.items():
        torch.manual_seed(0)
        make().save_pretrained(_folder(cache, name))


def _folder(cache: Path, name: str) -> Path:
    own = cache / f"models--{name.replace('/', '--')}"
    (own / "refs").mkdir(parents=True)
    (own / "refs" / "main").write_text(COMMIT, "utf-8")
    return own / "snapshots" / COMMIT
