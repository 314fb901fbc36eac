"""Models of a single layer, one for each layer type, in double precision, and their inputs."""

import peft
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from structmat.peft import StructmatConfig

LAYERS = {
    "linear": lambda: nn.Linear(16, 8),
    "no bias": lambda: nn.Linear(16, 8, bias=False),
    "Conv1D": lambda: Conv1D(8, 16),
    "embedding": lambda: nn.Embedding(9, 16),
    "conv1d": lambda: nn.Conv1d(4, 8, 3, padding=1),
    "conv2d": lambda: nn.Conv2d(4, 8, (2, 1), stride=2),
    "conv3d": lambda: nn.Conv3d(2, 8, (1, 2, 1)),
}
INPUTS = {
    "embedding": lambda: torch.arange(9),
    "conv1d": lambda: torch.randn(2, 4, 5),
    "conv2d": lambda: torch.randn(2, 4, 5, 3),
    "conv3d": lambda: torch.randn(2, 2, 3, 4, 2),
}
FEATURES = {  # as PEFT counts them
    "linear": (16, 8),
    "no bias": (16, 8),
    "Conv1D": (16, 8),
    "embedding": (9, 16),
    "conv1d": (4, 8),
    "conv2d": (4, 8),
    "conv3d": (2, 8),
}


def plain(kind):
    torch.manual_seed(0)
    return nn.ModuleDict({"layer": LAYERS[kind]()}).double().eval()


def inputs(kind):
    torch.manual_seed(1)
    x = INPUTS.get(kind, lambda: torch.randn(3, 16))()
    return x.double() if x.is_floating_point() else x


def config(**options):
    chosen = {"topology": "mixed_radix", "target_modules": ["layer"], "init_weights": False}
    return StructmatConfig(**chosen | options)


def adapted(kind, *, two=True):
    """Return a PEFT model with a random adapter, or two of them, and its layer."""
    torch.manual_seed(2)
    model = peft.get_peft_model(plain(kind), config(), "one")
    if two:
        model.add_adapter("two", config(side="both", scale=True))
    model.eval()
    return model, model.base_model.model["layer"]
