"""Methods of transformers models that cannot act on adapted layers, and would leave them half-done.

`tie_weights` puts a weight of one layer in another, and `resize_token_embeddings` puts new layers
in a model. In a model with adapters they would fail midway, or tie a layer to a merged weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from torch import nn

from structmat.errors import StructmatError

_FIRST = "before it is adapted, or after merge(model, unload=True) or PEFT's merge_and_unload()"


def guard_ties(model: nn.Module, adapted: type[nn.Module] | tuple[()] = ()) -> None:
    """Let both methods refuse where tied or resized layers are adapted, and work everywhere else.

    Parameters
    ----------
    model : nn.Module
        Of any library; only models of transformers have these methods.
    adapted : type of module, optional
        That of adapted layers; without it none are.
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
        f"{method}: an embedding or output head of this model has an adapter, which cannot be"
        f" changed so; call {method} {_FIRST}"
    )


def _tied(module: Any) -> Iterator[Any]:
    ties = getattr(module, "all_tied_weights_keys", None)
    for pair in ties.items() if isinstance(ties, dict) else ():
        for key in pair:
            try:
                yield module.get_submodule(key.rpartition(".")[0])
            except AttributeError:  # not there any more
                continue


def _embeddings(module: Any) -> Iterator[Any]:
    for method in ("get_input_embeddings", "get_output_embeddings"):
        try:
            yield getattr(module, method)()
        except (AttributeError, NotImplementedError):  # models without text have none
            continue
