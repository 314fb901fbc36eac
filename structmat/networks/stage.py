"""Stages and their banks of switches: immutable values, validated once when constructed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from structmat.errors import WiringError, abbreviated, checked_width
from structmat.networks import permutation
from structmat.networks.permutation import Index, frozen

T = TypeVar("T")


class Value:
    """Base class of immutable values, which are hashed, compared and pickled by their parts."""

    __slots__ = ()

    def _parts(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _key(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a new one")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), self._parts()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class Bank(Value):
    """Switches of one radix that act in parallel, as (n, r) arrays of the wires read and written.

    Parameters
    ----------
    reads : (n, r) integers
        Row k holds the wires that switch k reads, in the order of its block's columns.
    writes : (n, r) integers, optional
        The wires it writes, in the order of its block's rows; by default those it reads.

    Raises
    ------
    WiringError
        For repeated or negative wires, shapes that differ, or values that are not integers.

    Notes
    -----
    A switch of radix 1 mixes nothing: its block is the sign ±1, without a free parameter, or for
    unitary blocks a phase, with one. A stage of such switches on every wire is a phase screen.

    Examples
    --------
    >>> Bank([[0, 2], [1, 3]])
    Bank(2 switches of radix 2)
    """

    __slots__ = ("reads", "writes")

    reads: Index
    writes: Index

    def __init__(self, reads: npt.ArrayLike, writes: npt.ArrayLike | None = None) -> None:
        read = frozen(_wires(reads, "reads"))
        write = read if writes is None else frozen(_wires(writes, "writes"))
        if read.shape != write.shape:
            raise WiringError(
                f"reads {read.shape} and writes {write.shape}: a switch writes as many wires"
                " as it reads"
            )
        if np.array_equal(read, write):
            write = read
        object.__setattr__(self, "reads", read)
        object.__setattr__(self, "writes", write)

    @property
    def count(self) -> int:
        """The number of switches."""
        return int(self.reads.shape[0])

    @property
    def radix(self) -> int:
        """The number of wires of each switch."""
        return int(self.reads.shape[1])

    @property
    def is_straight(self) -> bool:
        """Whether each switch writes the wires that it reads, in the same order."""
        return self.writes is self.reads

    @property
    def parameters(self) -> int:
        """The number of free parameters of the orthogonal blocks, r(r−1)/2 for each switch."""
        return self.count * (self.radix * (self.radix - 1) // 2)

    def _parts(self) -> tuple[Any, ...]:
        return (self.reads,) if self.is_straight else (self.reads, self.writes)

    def _key(self) -> tuple[Any, ...]:
        return self.reads.shape, self.reads.tobytes(), self.writes.tobytes()

    def __repr__(self) -> str:
        switches = "switch" if self.count == 1 else "switches"
        wired = "" if self.is_straight else ", wired"
        return f"Bank({self.count} {switches} of radix {self.radix}{wired})"


def _wires(values: npt.ArrayLike, name: str) -> Index:
    wires = permutation.indices(values, name)
    if wires.ndim != 2 or wires.shape[0] < 1:
        raise WiringError(
            f"{name} of shape {wires.shape}: a bank needs a row of wires for each switch, (n, r)"
        )
    if wires.shape[1] < 1:
        raise WiringError(
            f"{name} of radix 0: a switch has at least 1 wire; leave out switches without wires"
        )
    if wires.min() < 0:
        raise WiringError(f"{name}: wire {wires.min()} is negative; wires count from 0")
    return wires


class Stage(Value):
    """One sparse orthogonal factor: banks of switches on disjoint wires.

    Parameters
    ----------
    width : int
        The number of wires.
    banks : iterable of Bank
        No wire is read twice or written twice.
    moves : (k, 2) integers, optional
        Wires in no switch that are moved, as (from, to). All other wires in no switch are idle:
        they pass unchanged.

    Raises
    ------
    WiringError
        If wires overlap, are out of range, or are read but never written.

    Examples
    --------
    >>> stage = Stage(5, [Bank([[0, 2], [1, 3]])])
    >>> stage.parameters, stage.nonzeros, stage.idle
    (2, 9, array([4]))
    """

    __slots__ = ("banks", "moves", "width")

    width: int
    banks: tuple[Bank, ...]
    moves: Index

    def __init__(
        self, width: int, banks: Iterable[Bank] = (), moves: npt.ArrayLike | None = None
    ) -> None:
        size = checked_width(width)
        banks = tuple(banks)
        for bank in banks:
            if not isinstance(bank, Bank):
                raise WiringError(f"{abbreviated(bank)}: a stage is made of Bank objects")
        moved = _moves(moves)
        _check_stage(size, banks, moved)
        object.__setattr__(self, "width", size)
        object.__setattr__(self, "banks", banks)
        object.__setattr__(self, "moves", frozen(moved))

    @classmethod
    def of(cls, width: int, switches: Iterable[Sequence[int]]) -> Self:
        """Build a straight stage from lists of wires, with one bank for each radix.

        Examples
        --------
        >>> Stage.of(6, [[5, 2, 3, 0], [1, 4]]).banks
        (Bank(1 switch of radix 4), Bank(1 switch of radix 2))
        """
        rows: dict[int, list[Sequence[int]]] = {}
        for switch in listed(switches, "a stage is a list of switches, such as [[0, 1], [2, 3]]"):
            if not isinstance(switch, Sequence | np.ndarray):
                raise WiringError(
                    f"{abbreviated(switch)}: a switch is a list of wires, such as [0, 1]"
                )
            rows.setdefault(len(switch), []).append(switch)
        return cls(width, [Bank(rows[radix]) for radix in sorted(rows, reverse=True)])

    @property
    def is_straight(self) -> bool:
        """Whether identity blocks make this stage the identity matrix."""
        return len(self.moves) == 0 and all(bank.is_straight for bank in self.banks)

    @property
    def passing(self) -> tuple[Index, Index]:
        """The wires in no switch, moved or idle, as arrays (from, to)."""
        to = np.full(self.width, -1, dtype=np.int64)
        idle = self.idle
        to[idle] = idle
        to[self.moves[:, 0]] = self.moves[:, 1]
        source = np.flatnonzero(to >= 0)
        return source, to[source]

    @property
    def idle(self) -> Index:
        """The wires that pass unchanged."""
        busy = np.zeros(self.width, dtype=bool)
        for bank in self.banks:
            busy[bank.reads] = True
        busy[self.moves[:, 0]] = True
        return np.flatnonzero(~busy)

    @property
    def parameters(self) -> int:
        """The number of free parameters of the blocks."""
        return sum(bank.parameters for bank in self.banks)

    @property
    def nonzeros(self) -> int:
        """The number of entries that may be non-zero, r² per switch and 1 for any other wire."""
        switched = sum(bank.reads.size for bank in self.banks)
        return sum(bank.reads.size * bank.radix for bank in self.banks) + self.width - switched

    def inverse(self) -> Stage:
        """Return the stage of the transposed factor, with reads and writes exchanged."""
        if self.is_straight:
            return self
        return Stage(
            self.width, [Bank(bank.writes, bank.reads) for bank in self.banks], self.moves[:, ::-1]
        )

    def rewired(self, sources: Index, targets: Index) -> Stage:
        """Return the stage with wire i read as `sources[i]` and written as `targets[i]`.

        Examples
        --------
        >>> swap = np.array([1, 0])
        >>> Stage(2, [Bank([[0, 1]])]).rewired(swap, swap).banks[0].reads
        array([[1, 0]])
        """
        start, end = self.passing
        return Stage(
            self.width,
            [Bank(sources[bank.reads], targets[bank.writes]) for bank in self.banks],
            np.stack([sources[start], targets[end]], axis=1),
        )

    def _parts(self) -> tuple[Any, ...]:
        return self.width, self.banks, self.moves

    def _key(self) -> tuple[Any, ...]:
        return self.width, self.banks, self.moves.tobytes()

    def __repr__(self) -> str:
        kinds = " + ".join(f"{bank.count}×{bank.radix}" for bank in self.banks) or "no switches"
        return f"Stage(width={self.width}, {kinds})"


def _moves(values: npt.ArrayLike | None) -> Index:
    """Return the moves sorted by source, without those that leave a wire in place."""
    moves = permutation.indices([] if values is None else values, "moves")
    if moves.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if moves.ndim != 2 or moves.shape[1] != 2:
        raise WiringError(f"moves of shape {moves.shape}: each is a pair (from, to), (k, 2) in all")
    moves = moves[moves[:, 0] != moves[:, 1]]
    sorted_moves: Index = moves[np.argsort(moves[:, 0], kind="stable")]
    return sorted_moves


def _check_stage(width: int, banks: tuple[Bank, ...], moves: Index) -> None:
    sides = []
    for side, column in (("read", 0), ("written", 1)):
        parts = [(b.reads, b.writes)[column].ravel() for b in banks] + [moves[:, column]]
        wires = np.sort(np.concatenate(parts))  # memory grows with the switches, not the width
        if len(wires) and (wires[0] < 0 or wires[-1] >= width):
            bad = int(wires[-1] if wires[-1] >= width else wires[0])
            raise WiringError(f"wire {bad}: a stage of width {width} has wires 0 to {width - 1}")
        again = wires[1:][wires[1:] == wires[:-1]]
        if len(again):
            wire = int(again[0])
            raise WiringError(
                f"wire {wire} is {side} {int((wires == wire).sum())} times: the switches of a stage"
                " must be disjoint; put them into two stages"
            )
        sides.append(wires)
    torn = np.setxor1d(sides[0], sides[1], assume_unique=True)
    if len(torn):
        wire = int(torn[0])
        is_read = wire in sides[0]
        raise WiringError(
            f"wire {wire} is {'read' if is_read else 'written'} but not"
            f" {'written' if is_read else 'read'}: every wire that is read must also be"
            " written, and conversely; add it to the moves"
        )


def listed(value: Iterable[T], rule: str) -> Iterable[T]:
    """Return `value` if it is iterable, else raise an error that states the rule.

    Raises
    ------
    WiringError

    Examples
    --------
    >>> listed(3, "a stage is a list of switches")
    Traceback (most recent call last):
    ...
    structmat.errors.WiringError: 3: a stage is a list of switches
    """
    given: Any = value
    if not isinstance(given, Iterable):
        raise WiringError(f"{abbreviated(value)}: {rule}")
    return value
