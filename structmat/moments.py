"""How evenly a network spreads its inputs: mixing, and moments of the entries, without sampling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from structmat.network import Network, checked

Array = npt.NDArray[np.float64]

_DENSE = 512  # the width up to which all singular values are computed, not only the largest
_CHUNK = 2**22  # numbers held at once
_PROBES = 4


def mixing(net: Network) -> float:
    """Return how far a network is from spreading every input evenly: ‖W − J/d‖₂.

    W is the product of the averages of all stages, in which each wire takes the mean of its
    switch, and J/d the average of all d wires. The largest singular value of their difference is
    the second one of W: 1 where some signal stays apart from the rest, 0 for perfect mixing. Just
    then entries of R have the energy 1/d each for Haar blocks (see `energy`), and just then
    E[R ⊗ R] is that of a Haar matrix for Haar blocks of O(r).

    Perfect mixing takes (d/2)·log₂ d parameters at least (`lower_bounds`), which butterflies have,
    and switches whose radices have all prime factors of d. Density asks less.

    Parameters
    ----------
    net : Network
        Of any width: the matrix is not formed where it is large.

    Returns
    -------
    float
        Up to rounding.

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
    if checked(net, "mixing").width <= _DENSE:
        return float(np.linalg.norm(energy(net) - 1 / net.width, 2))
    back = net.inverse()

    def centred(x: Array) -> Array:
        return _averaged(net, x - x.mean(axis=0))

    def transposed(x: Array) -> Array:
        return _averaged(back, x - x.mean(axis=0))

    start = np.random.default_rng(0).standard_normal((net.width, _PROBES))
    start -= start.mean(axis=0)
    if np.linalg.norm(centred(start)) < net.width * np.finfo(float).eps * np.linalg.norm(start):
        return 0.0  # of nothing Lanczos finds no largest singular value
    difference = scipy.sparse.linalg.LinearOperator(
        (net.width, net.width), matvec=centred, rmatvec=transposed, dtype=np.dtype(np.float64)
    )
    largest = scipy.sparse.linalg.svds(
        difference, k=1, v0=start[:, 0], return_singular_vectors=False
    )
    return float(largest[0])


def energy(net: Network) -> Array:
    """Return E[R_ij²] for independent Haar blocks: the product W of the averages of all stages.

    A row of a Haar block is spread evenly over the sphere, so that a switch shares out the
    energy of its wires in equal parts. It holds for rotations, for all orthogonal blocks, and for
    unitary ones with |R_ij|². Where a single path leads from j to i, it is 1 over the radices
    along it.

    Returns
    -------
    (width, width)
        Doubly stochastic. Perfect mixing makes all entries 1/width.

    Examples
    --------
    >>> energy(Network.of(3, [[[0, 1]], [[1, 2]]]))
    array([[0.5 , 0.5 , 0.  ],
           [0.25, 0.25, 0.5 ],
           [0.25, 0.25, 0.5 ]])
    """
    return _averaged(net, np.eye(checked(net, "energy").width))


def _averaged(net: Network, x: Array) -> Array:
    """Return W x for columns x."""
    for stage in net.stages:
        after = x.copy()
        after[stage.moves[:, 1]] = x[stage.moves[:, 0]]
        for bank in stage.banks:
            after[bank.writes] = x[bank.reads].mean(axis=1, keepdims=True)
        x = after
    return x


def fourth_moments(net: Network, *, unitary: bool = False) -> Array:
    """Return E[R_ij⁴] for independent Haar blocks, exactly, paths crossing or not.

    For a column x of the product so far it follows the numbers E[x_a²·x_b²]. A switch turns its r
    wires into a point spread evenly over the sphere of their radius ρ, and for such a point
    E[y_a⁴] = 3·E[ρ⁴]/(r(r+2)) and E[y_a²·y_b²] = E[ρ⁴]/(r(r+2)). In a mixed radix network, where
    paths are unique, d²·E[R_ij⁴] = ∏ 3r/(r+2) over its radices; a Haar matrix has 3d/(d+2). So
    many small switches make entries of heavier tails.

    Parameters
    ----------
    net : Network
        Time grows with depth times the cube of its width.
    unitary : bool
        For unitary blocks and |R_ij|⁴, with 2 and r(r+1) in the place of 3 and r(r+2).

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
    width = checked(net, "fourth_moments").width
    found = np.empty((width, width))
    size = max(1, _CHUNK // width**2)
    for first in range(0, width, size):
        inputs = np.arange(first, min(first + size, width))
        squares = np.zeros((width, width, len(inputs)))  # E[x_a²·x_b²], inputs last
        squares[inputs, inputs, np.arange(len(inputs))] = 1.0
        for stage in net.stages:
            single = Network(width, [stage])
            squares = _averaged(single, _averaged(single, squares).swapaxes(0, 1))
            for bank in stage.banks:
                within = squares[bank.writes[:, 0], bank.writes[:, 0]]  # E[ρ⁴]/r² of each switch
                rows, columns = bank.writes[:, :, None], bank.writes[:, None, :]
                alike = 1 + np.eye(bank.radix) * (1 if unitary else 2)
                share = bank.radix / (bank.radix + (1 if unitary else 2))
                squares[rows, columns] = share * alike[:, :, None] * within[:, None, None]
        found[:, inputs] = np.einsum("iij->ij", squares)
    return found
