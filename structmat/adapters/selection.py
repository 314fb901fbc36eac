"""Selection of the layers to adapt, by regular expression, list or "all-linear"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from torch import nn

from structmat._util.text_table import counted
from structmat.adapters.distributed import plain_name, unwrapped
from structmat.adapters.layouts import Layer, LinearLayout, layout_for, named_layers
from structmat.adapters.shared_weights import same_layers
from structmat.errors import StructmatError, abbreviated, suggest

Targets: TypeAlias = str | Sequence[str]
T = TypeVar("T")

ALL_LINEAR = "all-linear"
HEADS = ("classifier", "score", "qa_outputs")  # names of output heads in transformers


def select(
    model: nn.Module, targets: Targets = ALL_LINEAR, exclude: Targets | None = None
) -> dict[str, Layer]:
    r"""Return the layers to adapt, by name, in the order of the model.

    Parameters
    ----------
    model : nn.Module
    targets : str or list of str
        A regular expression that must match the whole name; a list of names, each of which may
        omit leading parts ("query" for "encoder.layer.0.query"); or "all-linear": every
        linear layer (`nn.Linear`, quantised or not, and transformers' `Conv1D`) except the output
        head. Stacked expert weights are selected by their parameter names.
    exclude : str or list of str, optional
        Names to exclude, in either of the first two forms.

    Raises
    ------
    StructmatError
        If no layer is left, a listed name does not exist, `exclude` matches no layer, or a pattern
        is invalid.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> list(select(model)), list(select(model, ["0"])), list(select(model, r"\d", ["0"]))
    (['0', '2'], ['0'], ['2'])
    """
    # A shared layer is selected by any of its names.
    same = same_layers(model)
    every = [
        (name, same.get(id(layer), layer))
        for name, layer in named_layers(model, remove_duplicate=False)
    ]
    layers = {name: m for name, m in every if layout_for(m) is not None}
    if isinstance(targets, str) and targets == ALL_LINEAR:
        heads = {id(same[head]) for head in _heads(model) if head in same}
        selected = {
            name: layer
            for name, layer in layers.items()
            if _is_linear(layer) and id(layer) not in heads
        }
    else:
        selected = matching(layers, targets, "target_modules")
    if exclude is not None:
        left_out = matching(layers, exclude, "exclude_modules")
        if not left_out:
            raise StructmatError(
                f"exclude_modules={exclude!r} matches no layer of this model; it has"
                f" {_listed(layers)}"
            )
        out = {id(layer) for layer in left_out.values()}
        selected = {name: layer for name, layer in selected.items() if id(layer) not in out}
    if not selected:
        raise StructmatError(
            f"target_modules={targets!r}, exclude_modules={exclude!r}: no layer is left to adapt;"
            f" this model has {_listed(layers)}{_list_hint(targets, layers)}"
        )
    picked = {id(layer) for layer in selected.values()}
    first: dict[int, str] = {}
    for name, layer in every:
        first.setdefault(id(layer), name)
    return {first[id(m)]: m for name, m in every if id(m) in picked and first[id(m)] == name}


def _is_linear(layer: Layer) -> bool:
    layout = layout_for(layer)
    return layout is not None and issubclass(layout, LinearLayout)


def _list_hint(targets: Targets, layers: Mapping[str, Layer]) -> str:
    """Return a hint if a string, which is taken as a regular expression, is the end of a name."""
    if not isinstance(targets, str) or not any(ends_with(name, targets) for name in layers):
        return ""
    return (
        f"; a string is a regular expression that must match the whole name; use [{targets!r}] to"
        " match the ends of names"
    )


def matching(items: Mapping[str, T], names: Targets, option: str) -> dict[str, T]:
    """Return the items selected by a regular expression or a list of names.

    Raises
    ------
    StructmatError
        If a pattern is invalid, or a listed name matches nothing.
    """
    if isinstance(names, str):
        pattern = compiled(names, option)
        return {name: item for name, item in items.items() if pattern.fullmatch(name)}
    if not isinstance(names, Iterable):
        raise StructmatError(
            f"{option}={abbreviated(names)}: it must be a regular expression or a list of names"
        )
    for wanted in names:
        if not any(ends_with(name, wanted) for name in items):
            tails = {name.rsplit(".", 1)[-1] for name in items}
            others = f"the choices are {', '.join(sorted(tails))}"
            raise StructmatError(
                f"{option}: {wanted!r} matches no selectable layer of this model"
                f"{suggest(str(wanted), tails | set(items), fallback=others) if items else ''}"
            )
    return {n: item for n, item in items.items() if any(ends_with(n, wanted) for wanted in names)}


def compiled(pattern: str, option: str) -> re.Pattern[str]:
    """Return the compiled regular expression.

    Raises
    ------
    StructmatError
        If the pattern is invalid.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise StructmatError(
            f"{option}={pattern!r} is not a regular expression ({error}); use a list for plain"
            " names"
        ) from None


def ends_with(name: str, wanted: str) -> bool:
    """Return whether a name equals the wanted one, possibly after some leading parts.

    Examples
    --------
    >>> ends_with("encoder.query", "query"), ends_with("encoder.subquery", "query")
    (True, False)
    """
    return name == wanted or name.endswith(f".{wanted}")


def _heads(model: nn.Module) -> set[int]:
    """Return the identities of the layers in output heads, which predict tokens or classes."""
    heads: set[int] = set()
    model = unwrapped(model)
    embeddings = getattr(model, "get_output_embeddings", None)
    if callable(embeddings) and (head := embeddings()) is not None:
        heads.add(id(head))
    for name, module in model.named_modules():
        if plain_name(name) in HEADS:
            heads.update(id(part) for part in module.modules())
    return heads


def _listed(layers: Mapping[str, object], most: int = 6) -> str:
    if not layers:
        return "no layer that can be adapted"
    shown = ", ".join(list(layers)[:most])
    return (
        f"{counted(len(layers), 'layer')} that can be adapted:"
        f" {shown}{', …' if len(layers) > most else ''}"
    )
