"""A network inside another: the same matrix with the switches of a format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch

from structmat.convert.adaptation import Blocks, Turn
from structmat.errors import FileError, WidthError
from structmat.networks.network import Network

S = TypeVar("S")
Build = Callable[[int], Network | None]  # the network of a format at a width, if it has one


def sizes(turns: Mapping[str, Turn]) -> Iterator[tuple[str, int, Callable[[int], int]]]:
    """Yield the sizes of blocks to try: one for all layers, or one number of blocks for all.

    Each is "size" or "number", the value, and the size of the blocks at a width, 0 where that is
    no whole number. Blocks of more than twice the widest switch are not tried: some of them hold
    any network, with all of its structure lost.
    """
    radix = max((bank.radix for t in turns.values() for bank in t.network.banks), default=2)
    widths = {turn.network.width for turn in turns.values()}
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
    turns: Mapping[str, Turn], settings: Iterable[tuple[S, Build]], rule: str
) -> tuple[S, dict[str, Network]]:
    """Return the setting with the fewest parameters in which every layer has a place.

    Parameters
    ----------
    turns : dict of layer name → Turn
    settings : pairs of a setting and the networks it stands for
    rule : str
        What the networks of the format are, for the error message.

    Raises
    ------
    FileError
        When there is none: some layer's network is not of this format.
    """
    widths = {turn.network.width for turn in turns.values()}
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
            cost = sum(nets[turn.network.width].parameters for turn in turns.values())
            possible.append((cost, setting, nets))
    possible.sort(key=lambda found: found[0])
    for _, setting, nets in possible:
        if all(place(t.network, nets[t.network.width]) is not None for t in turns.values()):
            return setting, {name: nets[t.network.width] for name, t in turns.items()}
    raise FileError(_why_not(turns, [nets for _, _, nets in possible], rule))


def _why_not(turns: Mapping[str, Turn], tried: list[dict[int, Network]], rule: str) -> str:
    """Return what is in the way in the attempt that comes furthest."""
    furthest = (-1, "")
    for nets in tried:
        for k, (name, turn) in enumerate(turns.items()):
            inside = nets[turn.network.width]
            if place(turn.network, inside) is None:
                stage = first_outside(turn.network, inside)
                if (reached := k * 10**6 + stage) > furthest[0]:
                    wires = turn.network.stages[stage].banks[0].reads[0].tolist()
                    listed = ", ".join(map(str, wires[:8])) + (", …" if len(wires) > 8 else "")
                    furthest = (
                        reached,
                        f"{name}: stage {stage + 1} of its network has a switch of wires {listed}",
                    )
                break
    where = furthest[1] or f"widths {sorted({t.network.width for t in turns.values()})}"
    return f"{where}; {rule}. LoRA and a merged model take any network"


@functools.lru_cache(maxsize=1024)
def place(net: Network, inside: Network) -> tuple[int, ...] | None:
    """Return, for each stage of a network, the stage of another that can do its work; or None.

    A stage fits where each of its switches lies within one switch. The earliest that fits is
    taken: whatever is possible after a later one is possible after it, too.

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
    """Return the first stage of a network that does not fit, after those before it that do."""
    return next(k for k in range(net.depth) if place(net[: k + 1], inside) is None)


def placed(net: Network, blocks: Blocks, inside: Network) -> Blocks:
    """Return the blocks with which another network is the same matrix.

    Each of its stages has one bank; those with nothing to do get identities.

    Examples
    --------
    >>> pairs = Network.of(3, [[[2, 0]]])
    >>> turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)
    >>> placed(pairs, [turn], Network.of(3, [[[0, 1, 2]]]))
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


def _switch_of(net: Network, k: int) -> np.ndarray:
    """Return which switch of a stage of one bank each wire is in; an own number for a bare one."""
    (bank,) = net.stages[k].banks
    found = -1 - np.arange(net.width)
    found[bank.reads] = np.arange(bank.count)[:, None]
    return found


def _slot_of(net: Network, k: int) -> np.ndarray:
    (bank,) = net.stages[k].banks
    found = np.zeros(net.width, dtype=np.int64)
    found[bank.reads] = np.arange(bank.radix)
    return found
