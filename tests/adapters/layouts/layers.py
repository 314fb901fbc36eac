"""Strategies that draw layers with every option varied, and helpers for adapter tests."""

import copy

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn
from transformers import pytorch_utils

from structmat.adapters import adapt
from tests.random_modules import randomised

dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
flags = st.booleans()
fields = st.sampled_from(["receptive", "channels"])
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MODES = ("zeros", "reflect", "replicate", "circular")


@st.composite
def convolutions(draw):
    """Draw a convolution of one to three dimensions with every option varied, and an input."""
    kind = draw(st.sampled_from(CONVOLUTIONS))
    axes = CONVOLUTIONS.index(kind) + 1

    def each(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(axes))

    groups, kernel, dilation = draw(st.integers(1, 3)), each(1, 3), each(1, 2)
    mode = draw(st.sampled_from(MODES))
    smallest = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    sizes = (8, 7, 5)[:axes] if draw(flags) else smallest
    least = [min(p, size - 1) for p, size in zip(each(0, 2), sizes, strict=True)]
    padding = draw(st.sampled_from(["same", "valid", None])) or least
    stride = 1 if padding == "same" else each(1, 3)
    channels = groups * draw(st.integers(2, 4))  # a single channel cannot be rotated
    layer = kind(
        channels,
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(flags),
        padding_mode=mode,
    )
    batch = draw(st.sampled_from([(), (1,), (2,)]))  # torch takes an input without a batch, too
    return layer, torch.randn(*batch, channels, *sizes)


@st.composite
def embeddings(draw):
    """Draw an embedding with its options, and fewer or more indices than it has entries."""
    entries, width = draw(st.integers(1, 12)), draw(st.integers(2, 12))
    layer = nn.Embedding(
        entries,
        width,
        padding_idx=draw(st.sampled_from([None, 0])),
        max_norm=draw(st.sampled_from([None, 1.0])),
        scale_grad_by_freq=draw(flags),
    )
    shape = draw(st.sampled_from([(), (1,), (2, 5)]))
    return layer, torch.randint(entries, shape)


@st.composite
def linears(draw):
    """Draw an nn.Linear or a Conv1D of transformers, and an input."""
    width, outputs = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    if draw(flags):
        layer = nn.Linear(width, outputs, bias=draw(flags))
    else:
        layer = pytorch_utils.Conv1D(outputs, width)
        nn.init.normal_(layer.bias)
    return layer, torch.randn(2, 3, width)


@st.composite
def layers(draw):
    """Draw a layer of each kind and an input for it."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    layer, x = draw(st.one_of(linears(), convolutions(), embeddings()))
    dtype = draw(dtypes)
    return layer.to(dtype), x.to(dtype) if x.is_floating_point() else x


def can_scale(layer):
    """Return whether a scale for each output can be trained."""
    return getattr(layer, "max_norm", None) is None


def adapted(layer, *, scale=False, seed=0, spec="mixed_radix", **options):
    scale = scale and can_scale(layer)
    adapter = adapt(
        copy.deepcopy(layer), spec, target_modules=".*", scale=scale, bias=True, **options
    )
    return randomised(adapter, seed)


def in_float64(layer):
    assume(layer.weight.dtype == torch.float64)


def rows(layer, weight, field="receptive"):
    """Return the weight as (groups, rotated rows, inputs), independently of the library."""
    if isinstance(layer, CONVOLUTIONS):
        split = weight.reshape(
            layer.groups, layer.out_channels // layer.groups, layer.weight.shape[1], -1
        )
        return split.flatten(2) if field == "receptive" else split.mT.flatten(1, 2)
    return (weight.T if isinstance(layer, pytorch_utils.Conv1D) else weight)[None]


def plainly(layer, x, weight, bias=None):
    """Return the output of the layer itself with another weight and bias."""
    values = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return torch.func.functional_call(layer, values, (x,))


def tolerance(layer, y):
    """Bound the error of rounding x, the weight and y once each, summed over all terms."""
    size = rows(layer, layer.weight).shape[-1]
    return 30 * size * torch.finfo(y.dtype).eps * max(1.0, float(y.detach().abs().max()))
