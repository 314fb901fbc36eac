"""Guards for methods of transformers models that do not support adapted layers.

`tie_weights` assigns the weight of one layer to another, and `resize_token_embeddings` replaces
layers. In a model with adapters, they would fail midway, or tie a layer to a merged weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from torch import nn

from structmat.errors import StructmatError

_FIRST = "before it is adapted, or after merge(model, unload=True) or PEFT's merge_and_unload()"


def guard_ties(model: nn.Module, adapted: type[nn.Module] | tuple[()] = ()) -> None:
    """Make both methods raise an error exactly if layers that they would change are adapted.

    Parameters
    ----------
    model : nn.Module
        A model from any library; only transformers models have these methods.
    adapted : type of module, optional
        The type of adapted layers; by default no layer counts as adapted.
    """
    for module in model.modules():
        if not hasattr(type(module), "resize_token_embeddings"):
            continue
        for method, layers in (
            ("tie_weights", _tied(module)),
            ("resize_token_embeddings", _embeddings(module)),
        ):
            if any(isinstance(layer, adapted) for layer in layers):
                vars(module)[method] = partial(_refuse, method)
            elif isinstance(held := vars(module).get(method), partial) and held.func is _refuse:
                del vars(module)[method]


def _refuse(method: str, *_: Any, **__: Any) -> NoReturn:
    raise StructmatError(
        f"{method}: an embedding or output head of this model has an adapter, which this method"
        f" does not support; call {method} {_FIRST}"
    )


def _tied(module: Any) -> Iterator[Any]:
    ties = getattr(module, "all_tied_weights_keys", None)
    for pair in ties.items() if isinstance(ties, dict) else ():
        for key in pair:
            try:
                yield module.get_submodule(key.rpartition(".")[0])
            except AttributeError:  # the module was removed
                continue


def _embeddings(module: Any) -> Iterator[Any]:
    for method in ("get_input_embeddings", "get_output_embeddings"):
        try:
            yield getattr(module, method)()
        except (AttributeError, NotImplementedError):  # models without text have none
            continue
