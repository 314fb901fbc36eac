"""A finetuned model on the way from the pretrained one, and with some of its stages only.

Both act on models of `adapt` and on PEFT models with adapters of structmat, in place, and both can
be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import nn

from structmat.adapters.distributed import check_whole
from structmat.adapters.layouts import Adapter
from structmat.errors import StructmatError, suggest, whole
from structmat.nn.orthogonal_layer import Orthogonal


def path(
    model: nn.Module, steps: int | Iterable[float] = 10, *, adapter_name: str | None = None
) -> Iterator[tuple[float, nn.Module]]:
    """Yield the model on its way from pretrained to finetuned: every block B to the power t.

    Each block turns by t times its angles, and trained output scales s go to 1 + t·(s − 1), so
    the weights on the way are rotations of the pretrained ones. What is trained whole, as biases
    and heads are, stays as it is. The model is changed in place, and is as it was when the
    iteration ends, breaks off or fails.

    Parameters
    ----------
    model : nn.Module
        From `adapt`, or a PEFT model or any other with adapters of `structmat.peft` in it.
    steps : int or iterable of float
        How many steps from t = 0 to t = 1, or the values of t themselves.
    adapter_name : str, optional
        Which PEFT adapter moves; by default the active ones.

    Yields
    ------
    (float, nn.Module)
        t, and the model, the same one each time.

    Raises
    ------
    StructmatError
        When the model has no adapters, or they are merged or sharded.
    BlockError
        When a block has no such power; see `Orthogonal.interpolate`.

    Examples
    --------
    >>> from structmat.adapters import adapt, path
    >>> model = adapt(nn.Sequential(nn.Linear(2, 1, bias=False)), "butterfly")
    >>> _ = nn.init.ones_(model[0].rotation.generators[0])  # a quarter turn
    >>> _ = model[0].base.weight.data.copy_(torch.tensor([[2**0.5, 0.0]]))
    >>> for t, halfway in path(model, [0, 0.5]):
    ...     print(t, [round(w, 3) for w in halfway[0].weight[0].tolist()])
    0.0 [1.414, 0.0]
    0.5 [1.0, -1.0]
    """
    if isinstance(steps, Iterable):
        values = [float(t) for t in steps]
    else:
        count = whole(steps, "steps", 1)
        values = [k / count for k in range(count + 1)]
    return _walk(model, values, list(_movable(model, adapter_name).values()))


def _walk(
    model: nn.Module, values: list[float], parts: list[_Movable]
) -> Iterator[tuple[float, nn.Module]]:
    try:
        for t in values:
            for part in parts:
                part.move(t)
            yield t, model
    finally:
        for part in parts:
            part.restore()


def keep_stages(
    model: nn.Module, stages: Iterable[int] | slice, *, adapter_name: str | None = None
) -> Kept:
    """Leave out all but some stages of every rotation, from now on or within a `with`.

    The BOFT paper drops factors of a trained model in this way (its Figure 10). What is left is a
    rotation of the pretrained weights. In a model of `adapt` the other stages are gone: it is
    faster, and `save_adapter` saves what is left. In a PEFT model they are the identity: merging
    takes what is left, and `save_pretrained` saves the whole.

    Parameters
    ----------
    model : nn.Module
        As for `path`.
    stages : iterable of int, or slice
        0 is the first that acts, so `range(2)` keeps the first two. Networks differ in depth:
        `slice(-2, None)` keeps the last two of each, or the one that there is.
    adapter_name : str, optional
        Of which PEFT adapter; by default of the active ones.

    Returns
    -------
    Kept
        Its `restore()` brings the stages back, as leaving `with keep_stages(...):` does.

    Raises
    ------
    StructmatError
        When the model has no adapters, they are merged or sharded, or a number is no stage of one
        of the networks. The model is unchanged.

    Examples
    --------
    >>> from structmat.adapters import adapt, keep_stages
    >>> model = adapt(nn.Sequential(nn.Linear(8, 1)), "butterfly")
    >>> with keep_stages(model, range(2)):
    ...     print(model[0].rotation)
    Orthogonal(width=8, depth=2, parameters=8, blocks='cayley')
    >>> model[0].rotation
    Orthogonal(width=8, depth=3, parameters=12, blocks='cayley')
    """
    wanted = stages if isinstance(stages, slice) else list(stages)
    parts = _movable(model, adapter_name)
    done: list[_Movable] = []
    try:
        for name, part in parts.items():
            done.append(part)
            try:
                part.keep(wanted)
            except StructmatError as error:
                raise type(error)(f"{name}: {error}") from None
    except BaseException:
        for part in done:
            part.restore()
        raise
    return Kept(model, done)


class Kept:
    """What `keep_stages` did, to be undone; in a `with` statement it gives the model.

    Made by `keep_stages`.
    """

    def __init__(self, model: nn.Module, parts: list[_Movable]) -> None:
        self._model = model
        self._parts = parts

    def restore(self) -> None:
        """Let all stages act again that did before; doing it twice does nothing more."""
        while self._parts:
            self._parts.pop().restore()

    def __enter__(self) -> nn.Module:
        return self._model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


class _Movable(Protocol):
    """The adapters of one layer."""

    def move(self, t: float) -> None: ...

    def keep(self, stages: list[int] | slice) -> None: ...

    def restore(self) -> None: ...


@dataclass(frozen=True)
class _Adapted:
    """A layer of `adapt`, whose rotation is replaced."""

    adapter: Adapter
    rotation: Orthogonal
    scale: nn.Parameter | None

    @torch.no_grad()
    def move(self, t: float) -> None:
        if t == 1:
            self.restore()
            return
        self.adapter.rotation = self.rotation.interpolate(t)
        if self.scale is not None:
            self.adapter.scale = nn.Parameter(1 + t * (self.scale - 1))

    def keep(self, stages: list[int] | slice) -> None:
        self.adapter.rotation = self.rotation.keep(stages)

    def restore(self) -> None:
        self.adapter.rotation = self.rotation
        self.adapter.scale = self.scale


@dataclass(frozen=True)
class _Tuned:
    """A layer of `structmat.peft`, which knows powers and stages itself."""

    layer: Any
    powers: Mapping[str, float]
    stages: list[tuple[Any, Any]]  # of each rotation, those that it keeps

    def move(self, t: float) -> None:
        for name, power in self.powers.items():
            self.layer.set_scale(name, t * power)

    def keep(self, stages: list[int] | slice) -> None:
        for name in self.powers:
            self.layer.keep_stages(name, stages)

    def restore(self) -> None:
        for name, power in self.powers.items():
            self.layer.set_scale(name, power)
        for turn, kept in self.stages:
            turn.set_stages(kept)


def is_tuned(module: nn.Module) -> bool:
    """Return whether a module is a layer of `structmat.peft`, which need not be installed."""
    return hasattr(type(module), "keep_stages")


def _movable(model: nn.Module, adapter_name: str | None) -> dict[str, _Movable]:
    """Return what can be moved in a model, by the name of the layer."""
    found: dict[str, _Movable] = {}
    names: set[str] = set()
    for place, module in model.named_modules():
        if isinstance(module, Adapter) or is_tuned(module):
            if module.merged:
                raise StructmatError(
                    f"{place}: its adapter is merged, so the layer has one weight only; unmerge"
                    " the model first"
                )
            if isinstance(module, Adapter):
                if adapter_name is None:
                    found[place] = _Adapted(module, module.rotation, module.scale)
                continue
            layer: Any = module
            names.update(layer.structmat_power)
            wanted = layer.active_adapters if adapter_name is None else [adapter_name]
            powers = {n: layer.structmat_power[n] for n in layer.acting(wanted)}
            if powers:
                kept = [(turn, turn.kept) for n in powers for turn in layer.turns(n)]
                found[place] = _Tuned(layer, powers, kept)
    if not found:
        asked = "" if adapter_name is None else f" called {adapter_name!r}"
        raise StructmatError(
            f"the model has no adapters{asked} that could be moved"
            f"{suggest(adapter_name or '', names) if names else '; adapt it first'}"
        )
    if any(isinstance(part, _Adapted) for part in found.values()):
        check_whole(model, "take a part of")
    return found
