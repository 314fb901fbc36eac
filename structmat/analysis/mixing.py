"""Mixing, and exact second and fourth moments of the entries of R for Haar-distributed blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy

from structmat.analysis.sign_moments import moment_factor
from structmat.families.resolution import checked
from structmat.networks.network import Network

Array = npt.NDArray[np.float64]

_DENSE = 512  # largest width at which all singular values are computed, not only the largest
_CHUNK = 2**22  # numbers held in memory at once
_PROBES = 4


def mixing(net: Network) -> float:
    """Return ‖W − J/d‖₂, which measures how far a network is from distributing every input evenly.

    W is the product of the averaging matrices of all stages, which replace each wire by the mean of
    its switch, and J/d averages all d wires. The largest singular value of the difference is the
    second largest of W: it is 1 if some part of the signal remains separate from the rest, and 0
    for perfect mixing. Two statements are equivalent to perfect mixing: for Haar blocks the entries
    of R have E[R_ij²] = 1/d (see `energy`); and for Haar blocks of O(r), E[R ⊗ R] equals that of a
    Haar matrix. The same W belongs to unitary blocks, with |R_ij|² and E[R ⊗ R̄].

    Perfect mixing requires at least (d/2)·log₂ d parameters (`lower_bounds`), which radix-2
    butterflies attain. More generally, networks with one digit per stage mix perfectly, for
    example with the prime factors of d as radices. Density requires fewer parameters.

    Parameters
    ----------
    net : Network
        A network of any width: for large widths the matrix is not formed.

    Returns
    -------
    float
        Exact up to rounding.

    References
    ----------
    S. Boyd, A. Ghosh, B. Prabhakar, D. Shah, Randomized gossip algorithms, IEEE Transactions on
    Information Theory 52, 2006.

    Examples
    --------
    >>> from structmat.families import butterfly, gossip
    >>> [round(mixing(net), 3) for net in (butterfly(16), gossip(16), butterfly(16, depth=3))]
    [0.0, 0.75, 1.0]
    """
    net = checked(net, "mixing")
    if net.width <= _DENSE:
        return float(np.linalg.norm(energy(net) - 1 / net.width, 2))
    back = net.inverse()
    return mean_deviation(net.width, lambda x: averaged(net, x), lambda x: averaged(back, x))


def mean_deviation(
    width: int, product: Callable[[Array], Array], transposed: Callable[[Array], Array]
) -> float:
    """Return ‖W − J/d‖₂ of a doubly stochastic matrix W by Lanczos, without forming the matrix.

    Parameters
    ----------
    width : int
        d, at least 3.
    product, transposed : functions
        Functions that return W x and Wᵀ x for columns x, (width,) or (width, k).

    Examples
    --------
    >>> w = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> round(mean_deviation(3, lambda x: w @ x, lambda x: w.T @ x), 12)
    1.0
    """

    def centred(x: Array) -> Array:
        return product(x - x.mean(axis=0))

    start = np.random.default_rng(0).standard_normal((width, _PROBES))
    start -= start.mean(axis=0)
    if np.linalg.norm(centred(start)) < width * np.finfo(float).eps * np.linalg.norm(start):
        return 0.0  # Lanczos fails on the zero matrix
    difference = scipy.sparse.linalg.LinearOperator(
        (width, width),
        matvec=centred,
        rmatvec=lambda x: transposed(x - x.mean(axis=0)),
        dtype=np.dtype(np.float64),
    )
    largest = scipy.sparse.linalg.svds(
        difference, k=1, v0=start[:, 0], return_singular_vectors=False
    )
    return float(largest[0])


def mixes_exactly(net: Network) -> bool:
    """Decide in rational arithmetic whether a network mixes perfectly, that is, W = J/d.

    Parameters
    ----------
    net : Network
        Time and memory are proportional to the square of the width; widths up to about a hundred
        take less than a second.

    Examples
    --------
    >>> from structmat.families import mixed_radix, shuffle
    >>> mixes_exactly(mixed_radix(12)), mixes_exactly(shuffle(12, block=2))
    (True, False)
    """
    net = checked(net, "mixes_exactly")
    rows = np.eye(net.width, dtype=int).astype(object)  # integers of any size
    for stage in net.stages:  # the rows are those of W times the product of all these factors
        factor = math.lcm(*(bank.radix for bank in stage.banks))
        after = rows * factor
        after[stage.moves[:, 1]] = rows[stage.moves[:, 0]] * factor
        for bank in stage.banks:
            after[bank.writes] = rows[bank.reads].sum(axis=1, keepdims=True) * (
                factor // bank.radix
            )
        rows = after
    return bool((rows == rows[0, 0]).all())


def concentration(net: Network) -> float:
    """Return d·max W_ij, the largest expected energy on one output relative to an even spread.

    W is the product of the averaging matrices (`energy`), the expected squares of the entries of R.
    The value is 1 exactly for perfect mixing, at least d/n if some input reaches only n outputs, at
    most 1 + d·σ, where σ is the value of `mixing`, and at most d.

    Parameters
    ----------
    net : Network
        Time is proportional to the depth times the square of the width.

    Examples
    --------
    >>> from structmat.families import butterfly, gossip
    >>> [concentration(net) for net in (butterfly(16), butterfly(16, depth=3), gossip(16))]
    [1.0, 2.0, 5.25]
    """
    net = checked(net, "concentration")
    size = max(1, _CHUNK // net.width)
    largest = 0.0
    for first in range(0, net.width, size):
        inputs = np.eye(net.width, min(size, net.width - first), -first)
        largest = max(largest, float(averaged(net, inputs).max()))
    return net.width * largest


def energy(net: Network) -> Array:
    """Return E[R_ij²] for independent Haar blocks: the product W of all averaging matrices.

    A row of a Haar block is uniformly distributed on the sphere, so a switch distributes the energy
    of its wires equally among them. The same W applies to rotations, to orthogonal blocks, and,
    with |R_ij|², to unitary blocks. If there is a single path from j to i, entry (i, j) is 1 over
    the product of the radices along this path.

    Returns
    -------
    (width, width)
        Doubly stochastic. With perfect mixing, all entries are 1/width.

    Examples
    --------
    >>> energy(Network.of(3, [[[0, 1]], [[1, 2]]]))
    array([[0.5 , 0.5 , 0.  ],
           [0.25, 0.25, 0.5 ],
           [0.25, 0.25, 0.5 ]])
    """
    net = checked(net, "energy")
    return averaged(net, np.eye(net.width))


def averaged(net: Network, x: Array) -> Array:
    """Return W x for each column of x (width, k), without forming W.

    Examples
    --------
    >>> averaged(Network.of(2, [[[0, 1]]]), np.array([1.0, 0.0]))
    array([0.5, 0.5])
    """
    for stage in net.stages:
        after = x.copy()
        after[stage.moves[:, 1]] = x[stage.moves[:, 0]]
        for bank in stage.banks:
            after[bank.writes] = x[bank.reads].mean(axis=1, keepdims=True)
        x = after
    return x


def fourth_moments(net: Network, *, field: str = "real") -> Array:
    """Return E[R_ij⁴] for independent Haar blocks, exactly, even if paths cross.

    For each column x of the partial product, the moments E[x_a²·x_b²] are propagated. A switch maps
    its r wires to a point uniformly distributed on the sphere of their radius ρ, for which E[y_a⁴]
    = 3·E[ρ⁴]/(r(r+2)) and E[y_a²·y_b²] = E[ρ⁴]/(r(r+2)). In a mixed-radix network, where paths are
    unique, d²·E[R_ij⁴] = ∏ 3r/(r+2) over its radices; for a Haar matrix it is 3d/(d+2). With many
    small switches the entries therefore have heavier tails.

    Parameters
    ----------
    net : Network
        Time is proportional to the depth times the cube of the width.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary. For unitary ones the result is E[|R_ij|⁴],
        with 2 and r(r+1) in place of 3 and r(r+2).

    Returns
    -------
    (width, width)

    Examples
    --------
    >>> from structmat.families import mixed_radix
    >>> (fourth_moments(mixed_radix(4)) * 16)[0]                     # 6/4 · 6/4
    array([2.25, 2.25, 2.25, 2.25])
    >>> (fourth_moments(Network.of(4, [[range(4)]])) * 16)[0]        # 12/6
    array([2., 2., 2., 2.])
    """
    net = checked(net, "fourth_moments")
    more = moment_factor(field) - 1
    width = net.width
    found = np.empty((width, width))
    size = max(1, _CHUNK // width**2)
    for first in range(0, width, size):
        inputs = np.arange(first, min(first + size, width))
        squares = np.zeros((width, width, len(inputs)))  # E[x_a²·x_b²], inputs last
        squares[inputs, inputs, np.arange(len(inputs))] = 1.0
        for stage in net.stages:
            single = Network(width, [stage])
            squares = averaged(single, averaged(single, squares).swapaxes(0, 1))
            for bank in stage.banks:
                within = squares[bank.writes[:, 0], bank.writes[:, 0]]  # E[ρ⁴]/r² of each switch
                rows, columns = bank.writes[:, :, None], bank.writes[:, None, :]
                alike = 1 + np.eye(bank.radix) * more
                share = bank.radix / (bank.radix + more)
                squares[rows, columns] = share * alike[:, :, None] * within[:, None, None]
        found[:, inputs] = np.einsum("iij->ij", squares)
    return found
