"""The widths for which a topology is chosen: one, several, or those of a model's linear layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from structmat.errors import StructmatError, abbreviated, checked_integer, checked_width

Widths = dict[int, int]  # the number of layers of each width, in order of width


def layer_widths(given: Any) -> Widths:
    """Return the number of layers of each width.

    Parameters
    ----------
    given : int, iterable of int, mapping from a name to an int, or model
        A model is anything with `named_modules()`, as torch modules have. Its linear layers are the
        modules with a weight matrix and an integer `in_features` or, like the `Conv1D` of
        transformers, an integer `nf`; their width is the number of inputs. The output embedding of
        a language model is left out, as in PEFT's "all-linear".

    Raises
    ------
    StructmatError
        If there is no width, or one is not an integer from 2 to 2^22; if a model has no linear
        layer, or one whose width is unknown until its first call.

    Examples
    --------
    >>> layer_widths(768), layer_widths([768, 3072, 768]), layer_widths({"query": 64})
    ({768: 1}, {768: 2, 3072: 1}, {64: 1})
    """
    if hasattr(given, "named_modules") and not isinstance(given, type):
        found = [width for width in _inputs(given) if width > 1]  # a single input cannot be rotated
        if not found:
            raise StructmatError(
                f"{type(given).__name__}: it has no linear layers; give the widths to rotate"
            )
        return _counted(found)
    if isinstance(given, Mapping):
        widths = list(given.values())
    elif isinstance(given, Iterable) and not isinstance(given, str):
        widths = list(given)
    else:
        widths = [given]
    if not widths:
        raise StructmatError(f"width={abbreviated(given)}: give at least one width")
    return _counted(widths)


def _counted(widths: Iterable[Any]) -> Widths:
    sizes = [checked_width(checked_integer(width, "width", 2)) for width in widths]
    return dict(sorted(Counter(sizes).items()))


def _inputs(model: Any) -> Iterable[int]:
    """Yield the number of inputs of each linear layer of a model, except its output embedding."""
    output = _output_embedding(model)
    for name, module in model.named_modules():
        if module is output:
            continue
        try:
            shape = getattr(getattr(module, "weight", None), "shape", None)
        except RuntimeError:  # a lazy layer of torch
            raise StructmatError(
                f"layer {abbreviated(name)}: its width is unknown before the first call; run the"
                " model once"
            ) from None
        if shape is None:
            continue
        if isinstance(getattr(module, "in_features", None), int):
            yield module.in_features
        elif isinstance(getattr(module, "nf", None), int) and len(shape) == 2:
            yield int(shape[0])


def _output_embedding(model: Any) -> Any:
    try:
        return model.get_output_embeddings()
    except (AttributeError, NotImplementedError):  # not a language model of transformers
        return None
