"""Meshes that cover all rotations, or have the dimension of SO(d)."""

from __future__ import annotations

from math import comb

import numpy as np

from structmat.errors import StructmatError, checked_integer
from structmat.families.butterflies import digit_bank
from structmat.families.number_theory import below_two
from structmat.families.registry import Claims, family
from structmat.graph.edge_colouring import rounds
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage


def _neighbours(width: int, first: int, last: int) -> Stage:
    """Return the stage that joins wires i and i + 1 for i = first, first + 2, … up to last."""
    wires = np.arange(first, last + 1, 2, dtype=np.int64)
    return Stage(width, [Bank(np.stack([wires, wires + 1], axis=1))])


def _brickwall_refuses(width: int, depth: int | None, block: int) -> str | None:
    half = _half(block)
    if depth is not None and checked_integer(depth, "depth", 1) > 1 and width == block:
        return f"width must be at least {3 * half} for a depth above 1"
    if width < block:
        return f"width must be at least {block}"
    return None if width % half == 0 else f"width must be a multiple of {half}"


def _half(block: int) -> int:
    size = checked_integer(block, "block", 2)
    if size % 2:
        raise StructmatError(
            f"block={size}: a block joins two bundles of equal size, so block must be even"
        )
    return size // 2


def _brickwall_depth(width: int, depth: int | None) -> int:
    if depth is None:
        return width if width > 2 else 1
    return depth


def _brickwall_claims(width: int, depth: int | None, block: int) -> Claims:
    bundles = width // _half(block)
    stages = _brickwall_depth(bundles, depth)
    switches = (stages + 1) // 2 * (bundles // 2) + stages // 2 * ((bundles - 1) // 2)
    least = bundles - 1 + bundles % 2
    dense = stages >= least
    return Claims(stages, switches * comb(block, 2), dense=dense, dense_at=least if dense else None)


@family(
    "any from 2 on; multiples of block/2 from block on",
    _brickwall_refuses,
    claims=_brickwall_claims,
)
def brickwall(width: int, depth: int | None = None, *, block: int = 2) -> Network:
    """Join neighbouring wires, alternating even and odd pairs: the brick-wall mesh of Clements.

    Stage t joins wires i and i + 1 for all i ≡ t mod 2. With d stages the mesh has d(d−1)/2
    parameters and covers every rotation, which no network of 2×2 switches does with fewer than d
    stages (odd d) or d − 1 (even d). It is dense from d − 1 stages on for even d, and from d stages
    on for odd d. Stages with even t have ⌊d/2⌋ parameters, those with odd t have ⌊(d−1)/2⌋.

    With a larger block b, each wire is replaced by a bundle of b/2 wires, and switches join
    neighbouring bundles. With one stage per bundle, 2d/b stages, the mesh covers every rotation,
    because whole blocks can be nulled instead of entries; some of its parameters are redundant.

    Parameters
    ----------
    width : int
        At least 2; for a larger block, a multiple of b/2 and at least b.
    depth : int, optional
        The number of stages; by default the number of bundles, 2d/b, at which all rotations are
        covered. With two bundles there is only one stage.
    block : int
        Wires per switch, even.

    Raises
    ------
    WidthError
        For any other width, and with two bundles for a depth above 1; StructmatError for an odd
        block.

    References
    ----------
    W. R. Clements et al., Optimal design for universal multiport interferometers, 2016,
    arXiv 1603.08788.

    Examples
    --------
    >>> brickwall(6)
    Network(width=6, depth=6, parameters=15)
    >>> [stage.banks[0].reads.tolist() for stage in brickwall(5, depth=2).stages]
    [[[0, 1], [2, 3]], [[1, 2], [3, 4]]]
    >>> brickwall(64, block=16)
    Network(width=64, depth=8, parameters=3360)
    """
    half = _half(block)
    bundles = width // half
    stages = range(2) if bundles > 2 else range(1)
    kinds = [_neighbours(bundles, t, bundles - 2) for t in stages]
    depths = range(_brickwall_depth(bundles, depth))
    return Network(bundles, [kinds[t % 2] for t in depths]).dilate(half)


def _triangle_claims(width: int) -> Claims:
    depth = 2 * width - 3
    return Claims(depth, width * (width - 1) // 2, dense_at=depth)


@family("any from 2 on", below_two, claims=_triangle_claims)
def triangle(width: int) -> Network:
    """Join neighbouring wires in a triangle of d(d−1)/2 switches: the mesh of Reck.

    Stage t of the 2d − 3 stages joins wires i and i + 1 for all i ≡ t mod 2 up to
    min(t, 2d − 4 − t), so the first two wires meet d − 1 times and the last two once. The mesh has
    d(d−1)/2 parameters, covers every rotation, and is dense only after its last stage. `brickwall`
    needs only d stages to cover every rotation.

    Parameters
    ----------
    width : int
        At least 2.

    Raises
    ------
    WidthError
        For width 1.

    References
    ----------
    M. Reck et al., Experimental realization of any discrete unitary operator, 1994.

    Examples
    --------
    >>> triangle(6)
    Network(width=6, depth=9, parameters=15)
    >>> [stage.banks[0].reads.tolist() for stage in triangle(3).stages]
    [[[0, 1]], [[1, 2]], [[0, 1]]]
    """
    last = 2 * width - 4
    return Network(width, [_neighbours(width, t % 2, min(t, last - t)) for t in range(last + 1)])


def _round_robin_claims(width: int) -> Claims:
    rounds = width - 1 + width % 2
    return Claims(rounds, width * (width - 1) // 2, dense_at=rounds if width % 2 else width // 2)


@family("any from 2 on", below_two, claims=_round_robin_claims)
def round_robin(width: int) -> Network:
    """Join every two wires exactly once, in the rounds of a tournament.

    Wires i and j meet in round (i + j) mod r, where r is the number of rounds. For odd d,
    r is d, and one wire per round is idle; for even d, r is d − 1, and the last wire meets the
    one that would otherwise meet itself. The network has d(d−1)/2 parameters, none of them
    redundant at the identity, where the Jacobian is invertible; whether the network covers every
    rotation is open from d = 5 on. It is dense from round d/2 on for even d (checked at every width
    up to 300), and only after the last round for odd d, because wire 0 meets the others one by one.
    It is the network of the complete graph.

    Parameters
    ----------
    width : int
        At least 2.

    Raises
    ------
    WidthError
        For width 1.

    References
    ----------
    É. Lucas, Récréations mathématiques II, 1883: the circle method.

    Examples
    --------
    >>> round_robin(6)
    Network(width=6, depth=5, parameters=15)
    >>> [stage.banks[0].reads.tolist() for stage in round_robin(4).stages]
    [[[0, 3], [1, 2]], [[0, 1], [2, 3]], [[0, 2], [1, 3]]]
    """
    return Network(width, [Stage(width, [Bank(pairs)]) for pairs in rounds(width)])


def _ruler_refuses(width: int, block: int) -> str | None:
    size = checked_integer(block, "block", 2)
    halves = width // size
    if width % size == 0 and halves & (halves - 1) == 0 and halves:
        return None
    return "width must be 2^n with n ≥ 1" if size == 2 else f"width must be {size}·2^k with k ≥ 0"


def _ruler_claims(width: int, block: int) -> Claims:
    return Claims(2 * width // block - 1, width * (width - 1) // 2, dense_at=width // block)


@family("2^n; block·2^k", _ruler_refuses, claims=_ruler_claims)
def ruler(width: int, block: int = 2) -> Network:
    """Join wires at strides that follow the marks of a ruler: 1, 2, 1, 4, 1, 2, 1, 8, ….

    Stage t = 1, …, d − 1 joins all wires whose numbers differ only in the bit that is the lowest
    set bit of t. The network is the cosine–sine decomposition, applied recursively down to single
    angles, so it covers every rotation with exactly d(d−1)/2 parameters, in d − 1 stages, the
    minimum for 2×2 switches. It is dense from stage d/2 on, the first with stride d/2.

    With a larger block b, the recursion ends at blocks of b wires: every other stage joins b
    neighbours, and the stages between them join pairs at strides b, 2b, b, 4b, …. The network still
    covers every rotation with exactly d(d−1)/2 parameters, in 2d/b − 1 stages, and is dense from
    stage d/b on.

    Parameters
    ----------
    width : int
        2^n with n ≥ 1; for another block b, b·2^k with k ≥ 0.
    block : int
        The number of wires at which the recursion ends, at least 2.

    Raises
    ------
    WidthError
        For any other width.

    References
    ----------
    C. C. Paige and M. Wei, History and generality of the CS decomposition, 1994.
    M. Möttönen et al., Quantum circuits for general multiqubit gates, 2004.

    Examples
    --------
    >>> ruler(8)
    Network(width=8, depth=7, parameters=28)
    >>> [int(stage.banks[0].reads[0, 1]) for stage in ruler(8).stages]
    [1, 2, 1, 4, 1, 2, 1]
    >>> ruler(12, block=3)
    Network(width=12, depth=7, parameters=66)
    """
    size = int(block)
    innermost = Stage(width, [digit_bank(width, size, 1)])
    marks = {
        1 << k: Stage(width, [digit_bank(width, 2, size << k - 1)])
        for k in range(1, (width // size).bit_length())
    }
    return Network(width, [marks.get(t & -t, innermost) for t in range(1, 2 * width // size)])
