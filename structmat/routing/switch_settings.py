"""Settings of the switches of a network that realise a permutation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from structmat.errors import StructmatError, abbreviated
from structmat.families.resolution import checked as checked_network
from structmat.networks.network import Network
from structmat.networks.permutation import Index, checked, identity
from structmat.routing.backtracking import compared, searched
from structmat.routing.clos_levels import Plan, plan_of
from structmat.routing.clos_routing import divided
from structmat.routing.exchange_signs import negations

Floats = npt.NDArray[np.float64]


def route(net: Network, permutation: npt.ArrayLike, *, special: bool = False) -> list[Floats]:
    """Return blocks with which the matrix of a network is a permutation matrix, `eye(d)[p]`.

    Output i is then exactly input p[i], and `Rotation(net, blocks)(x)` is x[p]. Every permutation
    can be routed in Beneš, Waksman and Clos networks, and in any network of the same structure,
    however it was built. These are routed level by level from both ends, by the looping algorithm
    or, where switches cannot divide their signals equally, by maximum flows. Sorting networks, such
    as the brick-wall mesh, are routed by sorting. If there is a single path from each input to each
    output, as in omega and butterfly networks, these paths determine the settings. In any other
    network settings are searched, up to a limit.

    Parameters
    ----------
    net : Network
        Any network; it need not be straight, and its switches may have any radix.
    permutation : (width,) integers
        The permutation p, in gather form.
    special : bool
        Whether all blocks must be rotations, of determinant 1; otherwise they are permutation
        matrices. A rotation that exchanges two signals must negate one of them. The negations are
        placed so that they cancel along the path of each signal: if the permutation is even, the
        result is exact; if it is odd, exactly one entry is −1 instead of 1, in the row of the last
        output. In a network of several connected components, this holds for each component
        separately.

    Returns
    -------
    list of (n, r, r) float64, one for each bank, in the order of `random_blocks`
        Blocks with entries 0 and 1, and −1 if `special` is True.

    Raises
    ------
    RoutingError
        If no setting of the switches realises the permutation. If possible, the message names two
        inputs that need the same wire after a stage, counted from 1 as in diagrams, or an input
        that does not reach its output.
    UndecidedError
        If the search reaches its limit, or the network is too large to search.
    WiringError
        If `permutation` is not a permutation of the wires.
    StructmatError
        If `net` is not a Network, or `special` is not a bool.

    References
    ----------
    D. Opferman and N. Tsao-Wu, On a Class of Rearrangeable Switching Networks, 1971.

    Examples
    --------
    >>> from structmat.families import benes, butterfly
    >>> from structmat.linalg.rotation import Rotation
    >>> p = [3, 1, 4, 7, 5, 0, 2, 6]
    >>> Rotation(benes(8), route(benes(8), p))([*range(8)]).astype(int).tolist()
    [3, 1, 4, 7, 5, 0, 2, 6]
    >>> route(butterfly(8), p)
    Traceback (most recent call last):
    ...
    structmat.errors.RoutingError: Network(width=8, depth=3, parameters=12) blocks this \
permutation: inputs 0 and 1 both need wire 1 after stage 1; waksman(8) routes every permutation
    """
    p = checked(permutation, checked_network(net, "route").width)
    if not isinstance(special, bool):
        raise StructmatError(f"special={abbreviated(special)}: special must be True or False")
    plan = plan_of(net)
    target = np.empty_like(p)
    target[plan.outputs] = p
    plan, held = _found(plan, target)
    columns = [
        _columns(wires, held[t], held[t + 1])
        for t, banks in enumerate(plan.stages)
        for wires in banks
    ]
    if special:
        signs = negations(plan, held, [_odd(taken) for taken in columns])
    else:
        signs = [np.ones_like(taken) for taken in columns]
    blocks = [np.zeros((bank.count, bank.radix, bank.radix)) for bank in net.banks]
    for origin, taken, sign in zip(plan.origin, columns, signs, strict=True):
        bank, switch = blocks[origin[0, 0]], origin[:, 1:]
        rows = identity(taken.shape[1])
        bank[switch, rows, taken] = np.take_along_axis(sign, taken, axis=1)
    return blocks


def _found(plan: Plan, target: Index) -> tuple[Plan, Index]:
    """Return a plan, and the signal on each wire before the first stage and after each."""
    held = compared(plan, target)
    if held is None:
        held = divided(plan, target)
    if held is None:
        centred = divided(plan.centred, target)
        if centred is not None:
            return plan.centred, centred
        held = searched(plan, target)
    return plan, held


def _columns(wires: Index, before: Index, after: Index) -> Index:
    """Return the column of the 1 in each row of each block, (n, r)."""
    column = np.empty_like(before)
    column[before[wires]] = identity(wires.shape[1])
    columns: Index = column[after[wires]]
    return columns


def _odd(columns: Index) -> npt.NDArray[np.bool_]:
    """Return which permutations are odd: those with an odd number of inversions."""
    inverted = columns[:, :, None] > columns[:, None, :]
    odd: npt.NDArray[np.bool_] = np.triu(inverted, 1).sum(axis=(1, 2)) % 2 == 1
    return odd
