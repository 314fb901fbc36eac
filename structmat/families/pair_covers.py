"""Networks of few stages in which all pairs of wires meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain, combinations
from typing import TypeAlias

import numpy as np

from structmat.errors import WidthError, checked_integer
from structmat.families.affine_spaces import finite_field
from structmat.families.meshes import round_robin
from structmat.families.number_theory import divisors, prime_factors
from structmat.graph.edge_colouring import rounds
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage

_LARGEST = 1024  # the largest ring, whose tables have this number of rows and columns

Rounds = list[Index]  # for each round, blocks of wires as an array (blocks, wires in each)
Made: TypeAlias = tuple[int, Callable[[], Rounds]]  # a number of rounds, and a function for them


def pair_cover(width: int, block: int) -> Network:
    """Return a network in which every two wires meet in some switch, with few stages.

    Each stage partitions the wires into switches of b wires; if b does not divide d, the remaining
    wires form a smaller switch, or one wire is idle. If b divides d and both are powers of one
    prime, there are ⌈(d−1)/(b−1)⌉ stages, the minimum (`least_rounds`). For even b that divides d,
    there are at most 2d/b − 1 stages, those of a tournament of half-blocks. Other networks come
    from a greedy search. The derivative at the identity has full rank, so the dimension of the
    network is that of SO(d), d(d−1)/2.

    Parameters
    ----------
    width : int
        At least `block`.
    block : int
        Wires per switch, at least 2.

    Raises
    ------
    WidthError
        If the width is below the block.

    References
    ----------
    C. J. Colbourn and J. H. Dinitz, Handbook of Combinatorial Designs, 2007, sections III.3
    (orthogonal arrays) and VI.50 (the social golfer problem); theory/meeting_rounds.py (T62).

    Examples
    --------
    >>> pair_cover(128, block=16)
    Network(width=128, depth=9, parameters=8640)
    >>> [stage.banks[0].reads.tolist() for stage in pair_cover(8, block=4).stages]
    [[[0, 1, 6, 7], [2, 3, 4, 5]], [[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    size = checked_integer(block, "block", 2)
    if checked_integer(width, "width", 1) < size:
        raise WidthError(f"pair_cover(width={width}, block={size}): width must be at least {size}")
    return _cover(int(width), size)


def least_rounds(width: int, block: int) -> int:
    """Return a lower bound on the number of stages in which all pairs of wires meet.

    In each stage of switches of at most b wires, a wire meets at most b − 1 others, and at most
    ⌊d/b⌋·b(b−1)/2 + r(r−1)/2 pairs meet, where r is the remainder of d/b.

    Examples
    --------
    >>> least_rounds(128, 16), least_rounds(5, 2)
    (9, 5)
    """
    blocks, rest = divmod(width, block)
    pairs = blocks * block * (block - 1) + rest * (rest - 1)
    return max(-(-(width - 1) // (block - 1)), -(-width * (width - 1) // pairs))


@lru_cache(maxsize=64)  # networks of large widths have many stages
def _cover(width: int, block: int) -> Network:
    if block == 2:
        return round_robin(width)
    found = _shortest(width, block) if width % block == 0 else None
    blocks = _greedy(width, block) if found is None else found[1]()
    return Network(width, [_stage(width, wires) for wires in blocks])


def _stage(width: int, blocks: Index) -> Stage:
    """Return a stage with these blocks and one smaller switch of the remaining wires."""
    rest = np.setdiff1d(np.arange(width), blocks)
    banks = [Bank(blocks)]
    return Stage(width, [*banks, Bank(rest[None])] if len(rest) > 1 else banks)


@lru_cache(maxsize=1024)
def _shortest(width: int, block: int) -> Made | None:
    """Return the shortest construction: its number of rounds, and a function that builds them."""
    if width == block:
        return 1, partial(_whole, width)
    options = chain(_transversal(width, block), _tournament(width, block))
    return min(options, key=lambda option: option[0], default=None)


def _transversal(width: int, block: int) -> Iterator[Made]:
    """Yield covers by transversal designs: k groups of q bundles of b/k wires, with q = d/b.

    Bundle (x, y) is number y of group x. A block of round m contains the bundles (x, m·x + t) for
    all x. With coordinates in a ring, and groups x whose differences are invertible, two bundles of
    different groups meet in exactly one of the q rounds. Then the wires of each group must meet.
    """
    order = width // block
    if not 1 < order <= _LARGEST:
        return
    for groups in (k for k in divisors(block) if 3 <= k <= _invertible(order)):
        size = width // groups
        together = block // size  # groups that fit into a block
        if together and block % size == 0 and groups % together == 0:
            within: Made | None = 1, partial(_whole, size)
        else:
            within = _shortest(size, block) if size % block == 0 else None
        if within is not None:
            yield order + within[0], partial(_lines, width, block, groups, within[1])


def _whole(width: int) -> Rounds:
    return [np.arange(width)[None]]


def _lines(width: int, block: int, groups: int, within: Callable[[], Rounds]) -> Rounds:
    """Return the rounds of a transversal design, and those within all groups at once."""
    order, wires = width // block, np.arange(width).reshape(groups, width // block, -1)
    sums, products = _ring(order)
    x, t = np.arange(groups), np.arange(order)[:, None]
    made = [wires[x, sums[products[m, x], t]].reshape(-1, block) for m in range(order)]
    flat = wires.reshape(groups, -1)
    return made + [flat[:, rows].reshape(-1, block) for rows in within()]


def _tournament(width: int, block: int) -> Iterator[Made]:
    """Yield covers by a tournament of p parts: two parts meet, half-block by half-block.

    The pairs of parts of the last round of the tournament are covered recursively.
    """
    half = block // 2
    if block % 2:
        return
    for parts in (p for p in divisors(width) if p % 2 == 0 and p > 2 and width // p % half == 0):
        if (within := _shortest(2 * width // parts, block)) is not None:
            number = (parts - 2) * (width // parts // half) + within[0]
            yield number, partial(_matches, width, half, parts, within[1])


def _matches(width: int, half: int, parts: int, within: Callable[[], Rounds]) -> Rounds:
    """Return the rounds in which two parts meet, and those within all pairs of parts at once."""
    wires = np.arange(width).reshape(parts, -1, half)
    bundles = np.arange(wires.shape[1])
    *before, last = rounds(parts)
    made = [
        np.concatenate([wires[one], wires[other][:, (bundles + shift) % len(bundles)]], axis=-1)
        for one, other in (pairs.T for pairs in before)
        for shift in bundles
    ]
    flat = wires[last].reshape(len(last), -1)
    made += [flat[:, rows] for rows in within()]
    return [wires.reshape(-1, 2 * half) for wires in made]


def _powers(order: int) -> list[int]:
    """Return the powers of distinct primes whose product is a number.

    Examples
    --------
    >>> _powers(360)
    [8, 9, 5]
    """
    primes = prime_factors(order)
    return [p ** primes.count(p) for p in dict.fromkeys(primes)]


def _invertible(order: int) -> int:
    """Return a number of leading elements of `_ring` whose differences are all invertible."""
    return min(_powers(order))


def _ring(order: int) -> tuple[Index, Index]:
    """Return the tables of addition and multiplication of a product of finite fields.

    The first elements are (x, …, x) for x below the size of the smallest field.
    """
    fields = sorted(map(finite_field, _powers(order)), key=lambda tables: len(tables[0]))
    shape = [len(sums) for sums, _ in fields]
    elements = np.array(np.unravel_index(np.arange(order), shape))
    same = (elements == elements[0]).all(axis=0)
    elements = np.concatenate([elements[:, same], elements[:, ~same]], axis=1)
    number = np.empty(order, dtype=np.int64)
    number[np.ravel_multi_index(tuple(elements), shape)] = np.arange(order)
    sums, products = (
        number[
            np.ravel_multi_index(
                tuple(field[k][np.ix_(e, e)] for field, e in zip(fields, elements, strict=True)),
                shape,
            )
        ]
        for k in range(2)
    )
    return sums, products


def _greedy(width: int, block: int) -> Rounds:
    """Return a cover in which each wire joins the block with the most wires that it has not met."""
    unmet = ~np.eye(width, dtype=bool)
    made = []
    while unmet.any():
        free = np.ones(width, dtype=bool)
        blocks = []
        while free.sum() >= block:
            wires: list[int] = []
            gain = (unmet & free).sum(axis=1)  # the first wire of a block has met the fewest
            for _ in range(block):
                wires.append(int(np.where(free, gain, -1).argmax()))
                free[wires[-1]] = False
                gain = unmet[wires].sum(axis=0) * width + (unmet & free).sum(axis=1)
            blocks.append(wires)
        rest = np.flatnonzero(free).tolist()
        for wires in (*blocks, rest):
            for one, other in combinations(wires, 2):
                unmet[one, other] = unmet[other, one] = False
        made.append(np.array(blocks))
    return made
