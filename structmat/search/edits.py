"""Edits of a straight network: small changes of its switches and stages, as values.

A free topology is any sequence of stages, each of which partitions the wires into switches and idle
wires. Edits connect all free topologies of a width, so random edits can reach each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from structmat._util.text_table import counted
from structmat.errors import WiringError, abbreviated, checked_integer, random_source
from structmat.families.random_networks import random_stage
from structmat.families.resolution import checked
from structmat.networks.network import Network
from structmat.networks.stage import Stage

Switch: TypeAlias = tuple[int, ...]

_COPIES = 0.5  # the probability that an added stage is a copy of another


@dataclass(frozen=True)
class Edit:
    """The replacement of some consecutive stages of a network by others.

    Attributes
    ----------
    start : int
        The first stage that is replaced.
    before, after : tuple of Stage
        The stages that are replaced, and those that replace them. `before` is empty if the edit
        only inserts stages, and `after` if it only removes some.
    text : str
        The edit in words.
    """

    start: int
    before: tuple[Stage, ...]
    after: tuple[Stage, ...]
    text: str = field(default="replace stages", compare=False)

    @property
    def inverse(self) -> Edit:
        """The edit that undoes this one."""
        return Edit(self.start, self.after, self.before, f"undo: {self.text}")

    def __str__(self) -> str:
        return self.text


def edited(net: Network, edit: Edit) -> Network:
    """Return a network after an edit.

    Raises
    ------
    WiringError
        If the network does not have the stages that the edit replaces.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]]])
    >>> edit = swap_wires(net, 0, 1, 2)
    >>> print(edit)
    exchange wires 1 and 2 of stage 0
    >>> [bank.reads.tolist() for bank in edited(net, edit).banks]
    [[[0, 2], [1, 3]]]
    >>> edited(edited(net, edit), edit.inverse) == net
    True
    """
    end = edit.start + len(edit.before)
    if net.stages[edit.start : end] != edit.before:
        raise WiringError(
            f"{edit}: the network does not have the stages that this edit replaces; make the edit"
            " from the network to which it is applied"
        )
    stages = (*net.stages[: edit.start], *edit.after, *net.stages[end:])
    return Network(net.width, stages, labels=net.labels)


def swap_wires(net: Network, stage: int, first: int, second: int) -> Edit:
    """Return the edit that exchanges two wires of one stage: each takes the place of the other.

    Applied twice, it restores the switches.
    """
    switches = _switches(net, stage, (first, second))
    places = {first: second, second: first}
    swapped = [[places.get(wire, wire) for wire in switch] for switch in switches]
    return _change(net, stage, swapped, f"exchange wires {first} and {second} of stage {stage}")


def move_wire(net: Network, stage: int, wire: int, to: int | None = None) -> Edit:
    """Return the edit that moves a wire of one stage to the switch of another, or makes it idle.

    If the other wire is idle, the two become a switch. A wire that is left alone becomes idle.

    Parameters
    ----------
    net : Network
    stage, wire : int
    to : int, optional
        The other wire; without it, the wire becomes idle.
    """
    switches = _switches(net, stage, [wire] if to is None else [wire, to])
    rest = [tuple(w for w in switch if w != wire) for switch in switches]
    if to is None:
        return _change(net, stage, rest, f"make wire {wire} of stage {stage} idle")
    moved = [(*switch, wire) if to in switch else switch for switch in rest]
    text = f"move wire {wire} of stage {stage} to the switch of wire {to}"
    return _change(net, stage, moved, text)


def split_switch(net: Network, stage: int, wires: Sequence[int]) -> Edit:
    """Return the edit that separates some wires of a switch from its other wires.

    Raises
    ------
    WiringError
        If the wires are not some, but not all, of the wires of one switch.
    """
    part = tuple(wires)
    for switch in _switches(net, stage, part):
        if part and set(part) < set(switch):
            whole = switch
            break
    else:
        raise WiringError(
            f"wires={abbreviated(part)} of stage {stage}: give some, but not all, wires of one"
            " switch"
        )
    others = [switch for switch in _switches(net, stage) if switch != whole]
    rest = tuple(wire for wire in whole if wire not in part)
    text = f"separate {_listed(part)} of stage {stage} from {_listed(rest)}"
    return _change(net, stage, [*others, part, rest], text)


def join_switches(net: Network, stage: int, first: int, second: int) -> Edit:
    """Return the edit that joins the switches of two wires of one stage.

    An idle wire counts as a switch of one wire.
    """
    switches = _switches(net, stage, (first, second))
    parts = [switch for switch in switches if first in switch or second in switch]
    others = [switch for switch in switches if switch not in parts]
    text = f"join the switches of wires {first} and {second} of stage {stage}"
    return _change(net, stage, [*others, sum(parts, ())], text)


def add_stage(net: Network, position: int, stage: Stage) -> Edit:
    """Return the edit that inserts a stage, which becomes stage number `position`.

    Raises
    ------
    WiringError
        If the stage is not straight, or has another width.
    """
    _check_stage(net, position, net.depth + 1)
    if stage.width != net.width or not stage.is_straight:
        raise WiringError(f"{stage}: it must be a straight stage of width {net.width}")
    return Edit(position, (), (stage,), f"add a stage as stage {position}")


def drop_stage(net: Network, stage: int) -> Edit:
    """Return the edit that removes a stage."""
    _check_stage(net, stage, net.depth)
    return Edit(stage, (net.stages[stage],), (), f"remove stage {stage}")


def exchange_stages(net: Network, first: int, second: int) -> Edit:
    """Return the edit that exchanges two stages."""
    for stage in (first, second):
        _check_stage(net, stage, net.depth)
    start, end = sorted((first, second))
    before = net.stages[start : end + 1]
    after = before if start == end else (before[-1], *before[1:-1], before[0])
    return Edit(start, before, after, f"exchange stages {start} and {end}")


# Random edits ------------------------------------------------------------------------------------


def random_edit(
    net: Network,
    rng: np.random.Generator | int | None = None,
    *,
    largest: int = 16,
    deepest: int | None = None,
) -> Edit:
    """Return a random edit that changes a network.

    The seven kinds of edits are tried in random order, with a random stage and random wires, until
    one of them is possible. An added stage is a copy of another stage or a random partition. Every
    network whose switches have at most `largest` wires can be reached from every other one.

    Parameters
    ----------
    net : Network
        A straight network of at least 2 wires.
    rng : Generator, int or None
    largest : int
        The maximum radix, at least 2. If the network has larger switches, edits make none larger
        than these.
    deepest : int, optional
        The maximum depth: no stage is added to a network that has so many stages.

    Raises
    ------
    WiringError
        If the network is not straight, or there is no edit.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> print(random_edit(butterfly(8), rng=0))
    separate wire 7 of stage 0 from wire 6
    """
    net = _straight(net)
    source = random_source(rng)
    most = checked_integer(largest, "largest", 2)
    deep = None if deepest is None else checked_integer(deepest, "deepest", 0)
    for k in source.permutation(len(_KINDS)):
        if edit := _KINDS[int(k)](net, source, most, deep):
            return edit
    raise WiringError(
        f"{net}: there is no edit with deepest={deep}; a network needs at least 2 wires, and a"
        " stage or room for one"
    )


def random_partition(width: int, block: int, rng: np.random.Generator | int | None = None) -> Stage:
    """Return a stage of switches of b wires that partition the wires uniformly at random.

    If b does not divide the width, the remaining wires form one smaller switch; a single remaining
    wire is idle. A block above the width gives one switch on all wires.

    Examples
    --------
    >>> random_partition(10, 4, rng=0)
    Stage(width=10, 2×4 + 1×2)
    """
    size = checked_integer(block, "block", 2)
    wires = checked_integer(width, "width", 1)
    if wires == 1:
        return Stage(1)
    return random_stage(wires, min(size, wires), random_source(rng))


def random_network(
    width: int,
    rng: np.random.Generator | int | None = None,
    *,
    depth: int,
    block: int = 2,
    switches: int | None = None,
) -> Network:
    """Return a random free topology.

    Parameters
    ----------
    width, depth : int
    rng : Generator, int or None
    block : int
        The radix of the switches, from 2 to the width.
    switches : int, optional
        The number of switches, which are distributed over the stages at random. By default, every
        stage is a `random_partition`.

    Raises
    ------
    WiringError
        If the stages have no room for so many switches.

    Examples
    --------
    >>> random_network(8, rng=0, depth=4, switches=12)
    Network(width=8, depth=4, parameters=12)
    """
    wires, size = checked_integer(width, "width", 2), checked_integer(block, "block", 2)
    stages = checked_integer(depth, "depth", 0)
    source = random_source(rng)
    if switches is None:
        return Network(wires, [random_partition(wires, size, source) for _ in range(stages)])
    count, places = checked_integer(switches, "switches"), wires // size
    if count > stages * places:
        raise WiringError(
            f"switches={count:,}: {stages:,} stages of {wires:,} wires have room for"
            f" {stages * places:,} switches of radix {size}; use fewer switches or more stages"
        )
    taken = source.choice(stages * places, count, replace=False) // max(1, places)
    made = []
    for number in np.bincount(taken, minlength=stages):
        rows = source.permutation(wires)[: number * size].reshape(number, size)
        made.append(Stage.of(wires, rows.tolist()))
    return Network(wires, made)


Proposal: TypeAlias = Callable[[Network, np.random.Generator, int, int | None], Edit | None]


def _random_swap(
    net: Network, rng: np.random.Generator, _largest: int, _deepest: int | None
) -> Edit | None:
    if not net.depth:
        return None
    stage = int(rng.integers(net.depth))
    switches = _switches(net, stage)
    busy = [wire for switch in switches for wire in switch if len(switch) > 1]
    if not busy or len(switches) == 1:
        return None
    first = busy[rng.integers(len(busy))]
    others = [wire for switch in switches if first not in switch for wire in switch]
    return swap_wires(net, stage, first, others[rng.integers(len(others))])


def _random_move(
    net: Network, rng: np.random.Generator, largest: int, _deepest: int | None
) -> Edit | None:
    if not net.depth:
        return None
    stage, wire = int(rng.integers(net.depth)), int(rng.integers(net.width))
    goals: list[int | None] = []
    for switch in _switches(net, stage):
        if wire not in switch:
            goals += [switch[0]] if len(switch) < largest else []
        elif len(switch) > 1:
            goals.append(None)
    return move_wire(net, stage, wire, goals[rng.integers(len(goals))]) if goals else None


def _random_split(
    net: Network, rng: np.random.Generator, _largest: int, _deepest: int | None
) -> Edit | None:
    if not net.depth:
        return None
    stage = int(rng.integers(net.depth))
    busy = [switch for switch in _switches(net, stage) if len(switch) > 1]
    if not busy:
        return None
    switch = busy[rng.integers(len(busy))]
    return split_switch(
        net, stage, rng.permutation(switch)[: rng.integers(1, len(switch))].tolist()
    )


def _random_join(
    net: Network, rng: np.random.Generator, largest: int, _deepest: int | None
) -> Edit | None:
    if not net.depth:
        return None
    stage = int(rng.integers(net.depth))
    switches = _switches(net, stage)
    first = switches[rng.integers(len(switches))]
    others = [s for s in switches if s is not first and len(s) + len(first) <= largest]
    if not others:
        return None
    return join_switches(net, stage, first[0], others[rng.integers(len(others))][0])


def _random_addition(
    net: Network, rng: np.random.Generator, largest: int, deepest: int | None
) -> Edit | None:
    if net.width < 2 or (deepest is not None and net.depth >= deepest):
        return None
    position = int(rng.integers(net.depth + 1))
    if net.depth and rng.random() < _COPIES:
        stage = net.stages[rng.integers(net.depth)]
        if all(bank.radix <= largest for bank in stage.banks):
            return add_stage(net, position, stage)
    radices = [bank.radix for bank in net.banks if 2 <= bank.radix <= largest]
    radices = radices or [*range(2, min(largest, net.width) + 1)]
    block = radices[rng.integers(len(radices))]
    return add_stage(net, position, random_partition(net.width, block, rng))


def _random_removal(
    net: Network, rng: np.random.Generator, _largest: int, _deepest: int | None
) -> Edit | None:
    return drop_stage(net, int(rng.integers(net.depth))) if net.depth else None


def _random_exchange(
    net: Network, rng: np.random.Generator, _largest: int, _deepest: int | None
) -> Edit | None:
    if net.depth < 2:
        return None
    first, second = rng.choice(net.depth, 2, replace=False).tolist()
    alike = sorted(_switches(net, first)) == sorted(_switches(net, second))
    return None if alike else exchange_stages(net, first, second)


_KINDS: tuple[Proposal, ...] = (
    _random_swap,
    _random_move,
    _random_split,
    _random_join,
    _random_addition,
    _random_removal,
    _random_exchange,
)


# Stages as lists of switches ---------------------------------------------------------------------


def _switches(net: Network, stage: int, wires: Iterable[int] = ()) -> list[Switch]:
    """Return the switches of a stage in ascending order, and each idle wire as a switch of its own.

    Raises an error if one of the given wires does not exist, or is given twice.
    """
    net = _straight(net)
    _check_stage(net, stage, net.depth)
    given = list(wires)
    for wire in given:
        if not 0 <= checked_integer(wire, "wire") < net.width:
            raise WiringError(f"wire {wire}: the network has wires 0 to {net.width - 1}")
        if given.count(wire) > 1:
            raise WiringError(f"wire {wire} is given twice: give different wires")
    found = net.stages[stage]
    rows = [sorted(row) for bank in found.banks for row in bank.reads.tolist()]
    return sorted(map(tuple, [*rows, *found.idle[:, None].tolist()]))


def _change(net: Network, stage: int, switches: Iterable[Iterable[int]], text: str) -> Edit:
    """Return the edit that gives a stage other switches; those of one wire become idle."""
    several = sorted(sorted(switch) for switch in switches)
    after = Stage.of(net.width, [switch for switch in several if len(switch) > 1])
    return Edit(stage, (net.stages[stage],), (after,), text)


def _straight(net: Network) -> Network:
    net = checked(net, "an edit")
    if not net.is_straight:
        raise WiringError(f"{net}: edits apply to straight networks; use straightened().network")
    return net


def _check_stage(net: Network, stage: int, count: int) -> None:
    if not 0 <= checked_integer(stage, "stage") < count:
        raise WiringError(f"stage {stage}: the network has {counted(net.depth, 'stage')}")


def _listed(wires: Sequence[int]) -> str:
    return f"{'wire' if len(wires) == 1 else 'wires'} {', '.join(map(str, wires))}"
