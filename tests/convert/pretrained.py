"""Tiny transformers models whose files name or lay out tensors differently from memory."""

import torch
import transformers

TEXT = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
IMAGES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


def of_images_and_text(name, text, images, **options):
    config = getattr(transformers, f"{name}Config")(
        text_config=getattr(transformers, text)(**TEXT).to_dict(),
        vision_config=getattr(transformers, images)(**IMAGES).to_dict(),
        **options,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def llava():
    return of_images_and_text("Llava", "LlamaConfig", "CLIPVisionConfig")


def paligemma():
    return of_images_and_text(
        "PaliGemma", "GemmaConfig", "SiglipVisionConfig", projection_dim=32, image_token_index=49
    )


def gpt_neox():
    rest = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(**rest, tie_word_embeddings=False)
    )


def nomic():
    """Return a model whose files hold queries, keys and values as one matrix."""
    return transformers.NomicBertModel(transformers.NomicBertConfig(**TEXT))


def mixtral():
    """Return a model whose files contain each expert separately."""
    return transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**TEXT, num_local_experts=3, num_experts_per_tok=1)
    )


def bert():
    rest = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
    return transformers.BertForMaskedLM(transformers.BertConfig(**rest))


def llama(vocabulary=50, **options):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**TEXT, "vocab_size": vocabulary}, **options)
    )


def gpt2():
    """Return a model of layers with transposed weights, some of which are square."""
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=16)
    )


def made(build, seed=0):
    torch.manual_seed(seed)
    return build().eval()
