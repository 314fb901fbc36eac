"""Schedules of topologies: functions from the number of a round to a topology."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from structmat.adapters.recipes import Topology, builder
from structmat.errors import StructmatError, abbreviated, checked_integer
from structmat.families import Rule, butterfly
from structmat.families.pair_covers import pair_cover
from structmat.networks.network import Network

Schedule: TypeAlias = Callable[[int], Any] | Sequence[Any] | None  # a function round → topology


def random_rounds(block: int, depth: int = 1, *, seed: int = 0) -> Callable[[int], str]:
    """Return a schedule of networks whose stages are random partitions into blocks of b wires.

    POET draws its blocks in this way. The network of a round is determined by the seed and the
    number of the round.

    Parameters
    ----------
    block : int
        Wires per switch; if it does not divide a width, the remaining wires form a smaller switch.
    depth : int
        The number of stages in each round.
    seed : int

    Examples
    --------
    >>> random_rounds(16)(0)
    'random(block=16, depth=1, rng=2968811710)'
    """
    checked_integer(block, "block", 2)
    checked_integer(depth, "depth", 1)
    checked_integer(seed, "seed", 0)

    def topology(number: int) -> str:
        (rng,) = np.random.SeedSequence((seed, number)).generate_state(1)
        return f"random(block={block}, depth={depth}, rng={rng})"

    return topology


def stage_rounds(
    topology: Topology, depth: int = 1, *, shift: int | None = None
) -> Callable[[int], Callable[[int], Network]]:
    """Return a schedule whose rounds go through the stages of a network, cyclically.

    Round r has the stages r·shift, …, r·shift + depth − 1, modulo the number of stages.

    Parameters
    ----------
    topology : str, path, Family, Network, networkx graph, or callable width → Network
        Any topology that `adapt` accepts, such as "affine(block=16)", in which every two wires meet
        in exactly one stage.
    depth : int
        The number of stages in each round.
    shift : int, optional
        By default `depth`, so that all stages are used equally often.

    Examples
    --------
    >>> schedule = stage_rounds("ruler", depth=2, shift=1)
    >>> strides = lambda net: [int(stage.banks[0].reads[0, 1]) for stage in net.stages]
    >>> [strides(schedule(number)(8)) for number in range(3)]
    [[1, 2], [2, 1], [1, 4]]
    """
    build = builder(topology)
    size = checked_integer(depth, "depth", 1)
    step = size if shift is None else checked_integer(shift, "shift", 1)

    def at(number: int) -> Callable[[int], Network]:
        def network(width: int) -> Network:
            stages = build(width).stages
            if not stages:
                raise StructmatError(f"the topology has no stages at width {width}")
            chosen = [(number * step + k) % len(stages) for k in range(size)]
            return Network(width, [stages[t] for t in chosen])

        return network

    return at


def pair_rounds(block: int, depth: int = 1) -> Callable[[int], Callable[[int], Network]]:
    """Return a schedule of the stages of `pair_cover`, in which all pairs meet in few rounds.

    Two wires meet if they are in the same block. If `pair_cover` has m stages, all pairs have met
    after ⌈m/depth⌉ rounds. With random blocks, about 2·ln d times as many rounds are needed
    (theory/random_meetings.py).

    Parameters
    ----------
    block : int
        Wires per switch.
    depth : int
        The number of stages in each round.

    Examples
    --------
    >>> schedule = pair_rounds(4)
    >>> [schedule(number)(8).stages[0].banks[0].reads.tolist() for number in range(3)]
    [[[0, 1, 6, 7], [2, 3, 4, 5]], [[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    checked_integer(block, "block", 2)
    return stage_rounds(lambda width: pair_cover(width, block), depth)


def butterfly_rounds(
    block: int, depth: int = 1, *, shift: int | None = None
) -> Callable[[int], Callable[[int], Network]]:
    """Return a schedule that goes through the stages of the deepest block butterfly of each width.

    At width b·2^k, the butterfly is dense. At another multiple of b, it has as many stages as the
    powers of two in the width permit, and consists of several parts that never interact.

    Parameters
    ----------
    block : int
        Wires per switch, even.
    depth, shift
        As for `stage_rounds`.

    Examples
    --------
    >>> [butterfly_rounds(4)(number)(16).stages[0].banks[0].reads[0].tolist() for number in (0, 1)]
    [[0, 1, 2, 3], [0, 1, 4, 5]]
    """
    checked_integer(block, "block", 2)
    return stage_rounds(lambda width: _deepest_butterfly(width, block), depth, shift=shift)


def _deepest_butterfly(width: int, block: int) -> Network:
    blocks = width // block
    if width % block or blocks == 0:
        return butterfly(width, block, depth=1)  # raises the error
    return butterfly(width, block, depth=(blocks & -blocks).bit_length())


def checked_schedule(schedule: Schedule) -> Callable[[int], Any]:
    """Return a schedule as a function from the number of a round to a topology, or to None.

    Raises
    ------
    StructmatError
        If it is neither None, a list nor a function of the round.

    Examples
    --------
    >>> rounds = checked_schedule(["monarch", "benes"])
    >>> rounds(0), rounds(3)
    ('monarch', 'benes')
    """
    if schedule is None:
        return lambda _number: None
    given: Any = schedule
    if isinstance(given, list | tuple) and given:
        return lambda number: given[number % len(given)]
    if isinstance(given, str | Network | Rule) or not callable(given) or isinstance(given, type):
        raise StructmatError(
            f"schedule={abbreviated(given)}: it must be a list of topologies, a function from the"
            " number of the round to a topology, such as random_rounds(16), or None to keep the"
            " topology"
        )
    made: Callable[[int], Any] = given
    return made
