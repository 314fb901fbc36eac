"""Interpolation between a pretrained and a finetuned model, and restriction to some stages.

Both work in place, on models adapted by `adapt` and on PEFT models with structmat adapters, and
both can be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import nn

from structmat.adapters.adapted_layer import ONLY, AdaptedLayer, checked_power
from structmat.adapters.distributed import check_whole
from structmat.errors import StructmatError, checked_integer, suggest
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.stage_selection import listed


def path(
    model: nn.Module, steps: int | Iterable[float] = 10, *, adapter_name: str | None = None
) -> Iterator[tuple[float, nn.Module]]:
    """Interpolate between the pretrained and the finetuned model, raising blocks to the power t.

    The rotation angles of each block are multiplied by t, and trained output scales s become
    1 + t·(s − 1), so the intermediate weights are pretrained weights that are rotated and, if there
    are scales, scaled. Parameters that are trained directly, such as biases and heads, stay
    unchanged. The model is modified in place and restored when the iteration ends, stops early or
    fails.

    Parameters
    ----------
    model : nn.Module
        A model adapted by `adapt`, or a model with adapters from `structmat.peft`, such as a PEFT
        model.
    steps : int or iterable of float
        The number of steps from t = 0 to t = 1, or the values of t.
    adapter_name : str, optional
        The PEFT adapter to interpolate; by default the active ones.

    Yields
    ------
    (float, nn.Module)
        The value t and the model, always the same object.

    Raises
    ------
    StructmatError
        If `steps` is invalid, or the model has no such adapters, or they are merged or sharded.
    BlockError
        If a block has no such power; see `Orthogonal.interpolate`.

    Examples
    --------
    >>> from structmat.adapters import adapt, path
    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> model = adapt(model, "butterfly", generator_scaling="none")
    >>> _ = nn.init.ones_(model[0].rotation.generators[0])  # a rotation by 90°
    >>> _ = model[0].base_layer.weight.data.copy_(torch.tensor([[2**0.5, 0.0]]))
    >>> for t, halfway in path(model, [0, 0.5]):
    ...     print(t, [round(w, 3) for w in halfway[0].weight[0].tolist()])
    0.0 [1.414, 0.0]
    0.5 [1.0, -1.0]
    """
    if isinstance(steps, Iterable):
        values = [checked_power(t, "t") for t in steps]
    else:
        count = checked_integer(steps, "steps", 1)
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
    """Keep only some stages of every rotation, permanently or within a `with` statement.

    The BOFT paper drops factors of a trained model in this way (its Figure 10). The remaining
    factors still rotate the pretrained weights. In a model adapted by `adapt`, the other stages are
    removed: the model is faster, and `save_adapter` saves only the remaining stages. In a PEFT
    model, the other stages act as the identity: merging uses only the remaining stages, but
    `save_pretrained` saves all.

    Parameters
    ----------
    model : nn.Module
        As for `path`.
    stages : iterable of int, or slice
        The stages to keep, where 0 is the first to act, so `range(2)` keeps the first two. Networks
        may differ in depth: `slice(-2, None)` keeps the last two stages of each, or its only one.
    adapter_name : str, optional
        The PEFT adapter to modify; by default the active ones.

    Returns
    -------
    Kept
        A handle whose `restore()` restores the stages, as does leaving `with keep_stages(...):`.

    Raises
    ------
    StructmatError
        If the model has no such adapters, they are merged or sharded, or a network has no stage
        with a given index. The model is unchanged.

    Examples
    --------
    >>> from structmat.adapters import adapt, keep_stages
    >>> model = adapt(nn.Sequential(nn.Linear(8, 1)), "butterfly")
    >>> with keep_stages(model, range(2)):
    ...     print(model[0].rotation)
    Orthogonal(width=8, depth=2, parameters=8, parametrization='cayley')
    >>> model[0].rotation
    Orthogonal(width=8, depth=3, parameters=12, parametrization='cayley')
    """
    wanted = listed(stages)
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
    """The handle returned by `keep_stages` to undo it; as a context manager it yields the model."""

    def __init__(self, model: nn.Module, parts: list[_Movable]) -> None:
        self._model = model
        self._parts = parts

    def restore(self) -> None:
        """Restore the previous stages; calling it again has no effect."""
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
class _Replaced:
    """A layer adapted by `adapt`, whose rotations are replaced."""

    layer: AdaptedLayer
    rotations: Mapping[str, Orthogonal]  # by the name of the layer's attribute
    scale: nn.Parameter | None

    @torch.no_grad()
    def move(self, t: float) -> None:
        if t == 1:
            self.restore()
            return
        self._put({side: rotation.interpolate(t) for side, rotation in self.rotations.items()})
        if self.scale is not None:
            self.layer.structmat_scale[ONLY] = nn.Parameter(1 + t * (self.scale - 1))

    def keep(self, stages: list[int] | slice) -> None:
        self._put({side: rotation.keep(stages) for side, rotation in self.rotations.items()})

    def restore(self) -> None:
        self._put(self.rotations)
        if self.scale is not None:
            self.layer.structmat_scale[ONLY] = self.scale

    def _put(self, rotations: Mapping[str, Orthogonal]) -> None:
        for side, rotation in rotations.items():
            getattr(self.layer, side)[ONLY] = rotation


@dataclass(frozen=True)
class _Set:
    """A PEFT layer, whose rotations are set to a power or to stages, since its files store all."""

    layer: AdaptedLayer
    powers: Mapping[str, float]
    stages: list[tuple[Any, Any]]  # each rotation and the stages that it keeps

    def move(self, t: float) -> None:
        self.layer.set_scales({name: t * power for name, power in self.powers.items()})

    def keep(self, stages: list[int] | slice) -> None:
        for name in self.powers:
            self.layer.keep_stages(name, stages)

    def restore(self) -> None:
        self.move(1)
        for rotation, kept in self.stages:
            rotation.set_stages(kept)


def _movable(model: nn.Module, adapter_name: str | None) -> dict[str, _Movable]:
    """Return the adapters of a model to interpolate or restrict, by layer name."""
    found: dict[str, _Movable] = {}
    known: set[str] = set()
    for place, layer in model.named_modules():
        if not isinstance(layer, AdaptedLayer):
            continue
        if layer.merged:
            raise StructmatError(
                f"{place}: its adapter is merged, so it can be neither interpolated nor restricted"
                " to some stages; unmerge the model first"
            )
        known.update(layer.structmat_power)
        names = layer.acting(None if adapter_name is None else [adapter_name])
        if not names:
            continue
        if layer.saves_networks:
            found[place] = _Replaced(layer, layer.by_side(), layer.scale)
        else:
            powers = {name: layer.structmat_power[name] for name in names}
            kept: list[Any] = [rotation for name in names for rotation in layer.rotations(name)]
            found[place] = _Set(layer, powers, [(rotation, rotation.kept) for rotation in kept])
    if not found:
        called = "" if adapter_name is None else f" called {adapter_name!r}"
        raise StructmatError(
            f"the model has no adapters{called} to interpolate or restrict"
            f"{suggest(adapter_name or '', known) if known else '; adapt it first'}"
        )
    if any(isinstance(part, _Replaced) for part in found.values()):
        check_whole(model, "interpolate or restrict")
    return found
