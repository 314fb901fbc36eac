"""Embedding of one network in another, to represent a matrix by the switches of a format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from structmat.convert.common_form import Blocks, LayerRotation
from structmat.errors import FileError, WidthError
from structmat.networks.network import Network

S = TypeVar("S")
Build = Callable[[int], Network | None]  # the network of a format for a width, or None


def sizes(
    rotations: Mapping[str, LayerRotation],
) -> Iterator[tuple[str, int, Callable[[int], int]]]:
    """Yield the block sizes to try: one size, or one number of blocks, for all layers.

    Each item consists of "size" or "number", the value, and a function from a width to the block
    size, which is 0 if no such blocks fill the width. Blocks more than twice as large as the widest
    switch are not tried: large enough blocks could represent any network, but would lose its
    structure.
    """
    radix = max((bank.radix for t in rotations.values() for bank in t.network.banks), default=2)
    widths = {rotation.network.width for rotation in rotations.values()}
    for size in range(2, 2 * radix + 1):
        yield "size", size, functools.partial(_divisor, size)
    if len(widths) > 1:
        for number in range(1, min(widths) // 2 + 1):
            if all(width <= 2 * radix * number for width in widths):
                yield "number", number, functools.partial(_quotient, number)


def _divisor(size: int, width: int) -> int:
    return 0 if width % size else size


def _quotient(number: int, width: int) -> int:
    return 0 if width % number else width // number


def best(
    rotations: Mapping[str, LayerRotation], settings: Iterable[tuple[S, Build]], rule: str
) -> tuple[S, dict[str, Network]]:
    """Return the setting with the fewest parameters that can represent every layer.

    Stages that are identities are omitted if no setting can represent them.

    Parameters
    ----------
    rotations : dict of layer name → LayerRotation
    settings : pairs of a setting and the function that returns its network for a width, or None
    rule : str
        A description of the networks of the format, for the error message.

    Raises
    ------
    FileError
        If there is no such setting, because the format cannot represent some layer's network.
    """
    widths = {rotation.network.width for rotation in rotations.values()}
    possible = []
    for setting, build in settings:
        built = {}
        for width in widths:
            try:
                built[width] = build(width)
            except WidthError:
                built[width] = None
        nets = {width: net for width, net in built.items() if net is not None}
        if len(nets) == len(widths):
            cost = sum(nets[rotation.network.width].parameters for rotation in rotations.values())
            possible.append((cost, setting, nets))
    possible.sort(key=lambda found: found[0])
    for change in (_same, without_identities):
        tried = {name: change(rotation) for name, rotation in rotations.items()}
        for _, setting, nets in possible:
            if all(place(t.network, nets[t.network.width]) is not None for t in tried.values()):
                return setting, {name: nets[t.network.width] for name, t in rotations.items()}
    raise FileError(_why_not(rotations, [nets for _, _, nets in possible], rule))


def _why_not(
    rotations: Mapping[str, LayerRotation], tried: list[dict[int, Network]], rule: str
) -> str:
    """Return a message about the obstacle in the setting that succeeds for the most layers."""
    furthest = (-1, "")
    for nets in tried:
        for k, (name, rotation) in enumerate(rotations.items()):
            inside = nets[rotation.network.width]
            if place(rotation.network, inside) is None:
                stage = first_outside(rotation.network, inside)
                if (reached := k * 10**6 + stage) > furthest[0]:
                    wires = rotation.network.stages[stage].banks[0].reads[0].tolist()
                    listed = ", ".join(map(str, wires[:8])) + (", …" if len(wires) > 8 else "")
                    furthest = (
                        reached,
                        f"{name}: stage {stage + 1} of its network has a switch of wires {listed}",
                    )
                break
    where = furthest[1] or f"widths {sorted({t.network.width for t in rotations.values()})}"
    return f"{where}; {rule}. LoRA and merged models support any network"


@functools.lru_cache(maxsize=1024)
def place(net: Network, inside: Network) -> tuple[int, ...] | None:
    """Return, for each stage of a network, the stage of another that represents it, or None.

    A stage can represent another if each switch of the latter lies within one of its switches. The
    earliest such stage is optimal, since it leaves the most stages for the rest.

    Examples
    --------
    >>> pairs = Network.of(4, [[[0, 2], [1, 3]]])
    >>> place(pairs, Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]))
    (1,)
    >>> place(pairs, Network.of(4, [[[0, 1], [2, 3]]])) is None
    True
    """
    if net.width != inside.width:
        return None
    homes = [_switch_of(inside, k) for k in range(inside.depth)]
    found = []
    k = 0
    for stage in net.stages:
        while k < len(homes) and not all(
            bool((homes[k][bank.reads] == homes[k][bank.reads[:, :1]]).all())
            for bank in stage.banks
        ):
            k += 1
        if k == len(homes):
            return None
        found.append(k)
    return tuple(found)


def first_outside(net: Network, inside: Network) -> int:
    """Return the first stage that cannot be embedded after the stages before it."""
    return next(k for k in range(net.depth) if place(net[: k + 1], inside) is None)


def placed(net: Network, blocks: Blocks, inside: Network) -> Blocks:
    """Return the blocks with which another network represents the same matrix.

    Each stage of that network must have one bank; unused stages get identity blocks.

    Examples
    --------
    >>> pairs = Network.of(3, [[[2, 0]]])
    >>> quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)
    >>> placed(pairs, [quarter], Network.of(3, [[[0, 1, 2]]]))
    [tensor([[[ 0.,  0.,  1.],
              [ 0.,  1.,  0.],
              [-1.,  0.,  0.]]], dtype=torch.float64)]
    """
    stages = place(net, inside)
    assert stages is not None
    made = [
        torch.eye(bank.radix, dtype=torch.float64).repeat(bank.count, 1, 1) for bank in inside.banks
    ]
    rest = iter(blocks)
    for k, stage in zip(stages, net.stages, strict=True):
        switch, slot = _switch_of(inside, k), _slot_of(inside, k)
        step = torch.eye(made[k].shape[-1], dtype=torch.float64).repeat(len(made[k]), 1, 1)
        for bank in stage.banks:
            home = torch.tensor(switch[bank.reads[:, 0]])[:, None, None]
            at = torch.tensor(slot[bank.reads])
            step[home, at[:, :, None], at[:, None, :]] = next(rest)
        made[k] = step @ made[k]
    return made


def _same(rotation: LayerRotation) -> LayerRotation:
    return rotation


def without_identities(rotation: LayerRotation) -> LayerRotation:
    """Return the same rotation without the stages that are identities, unless all are.

    Formats of fixed structure contain such stages, which another format may lack.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> one, quarter = torch.eye(2).double(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    >>> rotation = LayerRotation(net, lambda: [quarter.repeat(2, 1, 1), one.repeat(2, 1, 1)])
    >>> without_identities(rotation).network.depth
    1
    """
    rest = iter(rotation.blocks())
    by_stage = [[next(rest) for _ in stage.banks] for stage in rotation.network.stages]
    kept = [k for k, blocks in enumerate(by_stage) if any(not _is_identity(b) for b in blocks)]
    if len(kept) in (0, len(by_stage)):
        return rotation
    stages = rotation.network.stages
    network = Network(rotation.network.width, [stages[k] for k in kept])
    return replace(rotation, network=network, blocks=functools.partial(_kept, rotation, kept))


def _kept(rotation: LayerRotation, stages: list[int]) -> Blocks:
    """Return the blocks of some stages."""
    rest = iter(rotation.blocks())
    by_stage = [[next(rest) for _ in stage.banks] for stage in rotation.network.stages]
    return [block for k in stages for block in by_stage[k]]


def _is_identity(blocks: torch.Tensor) -> bool:
    return bool((blocks == torch.eye(blocks.shape[-1], dtype=blocks.dtype)).all())


def _switch_of(net: Network, k: int) -> np.ndarray:
    """Return the switch of each wire in a stage of one bank; idle wires get distinct numbers."""
    (bank,) = net.stages[k].banks
    found = -1 - np.arange(net.width)
    found[bank.reads] = np.arange(bank.count)[:, None]
    return found


def _slot_of(net: Network, k: int) -> np.ndarray:
    (bank,) = net.stages[k].banks
    found = np.zeros(net.width, dtype=np.int64)
    found[bank.reads] = np.arange(bank.radix)
    return found
