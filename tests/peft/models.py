"""Tiny models of commonly finetuned architectures, with random weights, and their inputs."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")


@dataclass(frozen=True)
class Case:
    """A model, the layers to adapt, a topology and a dtype."""

    name: str
    targets: Any
    topology: str
    dtype: torch.dtype = torch.float32

    def model(self):
        torch.manual_seed(0)
        return MODELS[self.name]().to(self.dtype).eval()

    def call(self, model, **options):
        out = model(**inputs(self.name, self.dtype), **options)
        return out if isinstance(out, torch.Tensor) else out[0]


class Convolutions(nn.Module):
    """Convolutions with stride, dilation, groups, circular padding and non-square kernels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 8, (3, 1), stride=2, padding=(1, 0), padding_mode="circular")
        self.grouped = nn.Conv2d(8, 12, 2, groups=4, dilation=(1, 2), bias=False)
        self.last = nn.Linear(12, 5)

    def forward(self, x):
        y = self.grouped(self.first(x).relu()).relu()
        return self.last(y.mean((-1, -2)))


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 12)])
        self.head = nn.Linear(12, 3, bias=False)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def bert():
    return transformers.BertForSequenceClassification._from_config(
        transformers.BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            vocab_size=50,
            num_labels=3,
        )
    )


def gpt2():
    return transformers.GPT2LMHeadModel._from_config(
        transformers.GPT2Config(
            n_embd=32,
            n_layer=2,
            n_head=2,
            vocab_size=50,
            n_positions=32,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def llama():
    return transformers.LlamaForCausalLM._from_config(
        transformers.LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=48,
            vocab_size=50,
        )
    )


def vit():
    return transformers.ViTForImageClassification._from_config(
        transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            num_labels=3,
        )
    )


def t5():
    return transformers.T5ForConditionalGeneration._from_config(
        transformers.T5Config(
            d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, vocab_size=50
        )
    )


MODELS = {
    "perceptron": Perceptron,
    "convolutions": Convolutions,
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama,
    "vit": vit,
    "t5": t5,
}


def inputs(name, dtype=torch.float32, batch=4, seed=1):
    source = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=source).to(dtype)

    ids = torch.randint(0, 50, (batch, 6), generator=source)
    return {
        "perceptron": lambda: {"x": numbers(batch, 12)},
        "convolutions": lambda: {"x": numbers(batch, 4, 9, 8)},
        "vit": lambda: {"pixel_values": numbers(batch, 3, 16, 16)},
        "t5": lambda: {"input_ids": ids, "decoder_input_ids": ids},
    }.get(name, lambda: {"input_ids": ids})()


CASES = [
    Case("perceptron", r"layers\.\d|head", "mixed_radix"),
    Case("convolutions", ["first", "grouped", "last"], "mixed_radix"),
    Case("bert", ["query", "value", "dense"], "shuffle(block=8)"),
    Case("gpt2", ["c_attn", "c_proj", "c_fc"], "butterfly(block=4, depth=2)"),
    Case("llama", "all-linear", "monarch"),
    Case("vit", ["q_proj", "fc1", "projection"], "block_diagonal(block=8)"),
    Case("t5", ["q", "v", "wo"], "mixed_radix"),
    Case("bert", ["query", "value", "dense"], "shuffle(block=8)", torch.bfloat16),
    Case("llama", "all-linear", "monarch", torch.float64),
]
IDS = [f"{c.name}-{str(c.dtype).removeprefix('torch.')}" for c in CASES]
