"""Networks from the gossip problem, in which 2×2 switches are telephone calls."""

from __future__ import annotations

import numpy as np

from structmat.errors import checked_integer
from structmat.families.number_theory import below_two, ceil_log
from structmat.families.registry import Claims, family
from structmat.networks.network import Network
from structmat.networks.stage import Bank, Stage


def _knodel_refuses(width: int, depth: int | None) -> str | None:
    if depth is not None:
        checked_integer(depth, "depth", 1)
    return None if width % 2 == 0 else "width must be even"


def _knodel_claims(width: int, depth: int | None) -> Claims:
    least = ceil_log(width, 2)
    stages = least if depth is None else depth
    dense = stages >= least
    return Claims(stages, stages * width // 2, dense=dense, dense_at=least if dense else None)


@family("even", _knodel_refuses, claims=_knodel_claims)
def knodel(width: int, depth: int | None = None) -> Network:
    """Gossip among an even number of wires in the fewest rounds: the Knödel graph.

    The wires form d/2 pairs, and stage t joins the first wire of pair j to the second of pair
    j + 2^k − 1 modulo d/2, where k = t mod ⌊log₂ d⌋: wires 2j and 2(j + 2^k − 1) + 1. After k
    stages a wire depends on 2^(k−1) consecutive pairs. The network is therefore dense at depth
    ⌈log₂ d⌉, the minimum for 2×2 switches, at every even width and not only at powers of two. It
    has m·d/2 parameters.

    Parameters
    ----------
    width : int
        An even number.
    depth : int, optional
        The number of stages m; by default the smallest at which the network is dense.

    Raises
    ------
    WidthError
        For an odd width.

    References
    ----------
    W. Knödel, New gossips and telephones, 1975.
    P. Fraigniaud and J. G. Peters, Minimum linear gossip graphs and maximal linear (Δ, k)-gossip
    graphs, 2001.

    Examples
    --------
    >>> knodel(384)
    Network(width=384, depth=9, parameters=1728)
    >>> knodel(6, depth=2).stages[1].banks[0].reads.tolist()
    [[0, 3], [2, 5], [4, 1]]
    """
    pairs = np.arange(width // 2, dtype=np.int64)
    dimensions = []
    for k in range(width.bit_length() - 1):
        partners = 2 * ((pairs + (1 << k) - 1) % len(pairs)) + 1
        dimensions.append(Stage(width, [Bank(np.stack([2 * pairs, partners], axis=1))]))
    stages = ceil_log(width, 2) if depth is None else int(depth)
    return Network(width, [dimensions[t % len(dimensions)] for t in range(stages)])


def _gossip_claims(width: int) -> Claims:
    if width < 4:
        return Claims(2 * width - 3, 2 * width - 3, dense_at=2 * width - 3)
    depth = 2 * ceil_log(-(-width // 4), 2) + 2
    return Claims(depth, 2 * width - 4, dense_at=depth)


@family("any from 2 on", below_two, claims=_gossip_claims)
def gossip(width: int) -> Network:
    """Gossip with the fewest calls: dense with 2d − 4 parameters, the minimum for any network.

    Each stage halves the number of active wires, by having half of them pass their information to
    the others, until wires 0 to 3 are left. These exchange everything around a cycle of four in two
    stages, after which the gathering is reversed. This takes d − 4 switches, then 4, then d − 4, in
    2·⌈log₂(d/4)⌉ + 2 stages, and the network is dense only after the last one. Two wires need 1
    switch, three need 3. Larger switches do not help: a dense network with blocks of any size has
    at least 2d − 4 parameters (for d ≥ 4).

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
    B. Baker and R. Shostak, Gossips and telephones, 1972.
    R. Tijdeman, On a telephone problem, 1971.
    R. T. Bumby, A problem with telephones, 1981.

    Examples
    --------
    >>> gossip(384)
    Network(width=384, depth=16, parameters=764)
    >>> [stage.banks[0].reads.tolist() for stage in gossip(6).stages]
    [[[0, 4], [1, 5]], [[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 4], [1, 5]]]
    """
    if width < 4:
        return Network.of(width, [[[0, 1]], [[1, 2]], [[0, 1]]][: 2 * width - 3])
    gathering = []
    left = width
    while left > 4:
        stay = max(4, -(-left // 2))
        leave = np.arange(stay, left, dtype=np.int64)
        gathering.append(Stage(width, [Bank(np.stack([leave - stay, leave], axis=1))]))
        left = stay
    cycle = [Stage.of(width, pairs) for pairs in ([[0, 1], [2, 3]], [[0, 2], [1, 3]])]
    return Network(width, [*gathering, *cycle, *reversed(gathering)])
