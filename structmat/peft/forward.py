"""The forward pass of a layer with adapters, on activations where possible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from structmat.adapters.layouts import EmbeddingAdapter, runs_together
from structmat.errors import StructmatError
from structmat.nn.offloading import is_offloaded, loaded
from structmat.peft.weights import Adapted

BASE = "__base__"  # PEFT's name for no adapter, in mixed batches


def adapted(layer: Adapted, x: Tensor, names: list[str], *args: Any, **kwargs: Any) -> Tensor:
    """Return the outputs of a layer with some of its adapters.

    Parameters
    ----------
    layer : Adapted
        An unmerged layer.
    x : (batch, ...)
    names : list of str
        Adapters of the layer, in the order in which they act.
    """
    base, kind = layer.base_layer, layer.kind
    if not names:
        plain: Tensor = base(x, *args, **kwargs)
        return plain
    if not kind.calls_base:
        return kind.run(base, x, layer.effective(names))
    if layer.sees_weight:
        given = {"weight": layer.effective(names)}
        run: Tensor = torch.func.functional_call(base, given, (x, *args), kwargs, tie_weights=False)
        return run
    if issubclass(kind, EmbeddingAdapter):
        y: Tensor = base(x, *args, **kwargs)
        for name in names:
            if name in layer.structmat_inputs:  # rotating the table rotates its entries
                y = layer.structmat_inputs[name](y)
            y = layer.outputs_turned(y, name)
        return y
    changed = [n for n in names if n in layer.structmat_outputs or n in layer.structmat_scale]
    rotations: list[Any] = [
        layer.structmat_inputs[name] for name in reversed(names) if name in layer.structmat_inputs
    ]
    together = len(rotations) > 0 and not layer.quantised
    together = together and runs_together(base, x, stock=layer.stock)
    for rotation in rotations[:-1] if together else rotations:
        x = rotation.adjoint(x)
    if not (changed or together):
        called: Tensor = base(x, *args, **kwargs)
        return called
    bias = base.bias
    if layer.quantised or "forward" in base.__dict__:  # the products need a call of the layer
        y = base(x, *args, **kwargs)
        y = y if bias is None else y - bias.to(y.dtype)
    elif together:
        weight = kind.neurons(base, base.weight)
        y = rotations[-1].linear(x, weight, None if changed else bias)
    else:
        y = functional.linear(x, kind.neurons(base, base.weight))
    for name in changed:
        y = layer.outputs_turned(y, name)
    return y if bias is None or not changed else y + bias.to(y.dtype)


def mixed(layer: Adapted, x: Tensor, adapter_names: list[str], *args: Any, **kwargs: Any) -> Tensor:
    """Return the outputs of a layer with a separate adapter for each sample.

    Raises
    ------
    StructmatError
        If the number of names is not the number of samples, or adapters are merged.
    """
    if len(x) == 1:  # shared by all samples, such as positions
        x = x.expand(len(adapter_names), *x.shape[1:])
    if len(adapter_names) != len(x):
        raise StructmatError(
            "Length of `adapter_names` should be the same as the number of inputs, but got"
            f" {len(adapter_names)} and {len(x)}: give one for each sample, {BASE!r} for no adapter"
        )
    if layer.merged and not layer.disable_adapters:
        raise StructmatError(
            "Cannot pass `adapter_names` when there are merged adapters, please call"
            " `unmerge_adapter` first."
        )
    parts, places = [], []
    if is_offloaded(layer.base_layer):
        with loaded(layer.base_layer):
            return mixed(layer, x, adapter_names, *args, **kwargs)
    for name in dict.fromkeys(adapter_names):
        rows = [k for k, other in enumerate(adapter_names) if other == name]
        places.append(torch.tensor(rows, device=x.device))
        names = [] if layer.disable_adapters else layer.acting([name])
        parts.append(adapted(layer, x[places[-1]], names, *args, **kwargs))
    return torch.cat(parts)[torch.cat(places).argsort()]
