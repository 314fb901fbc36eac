"""The derivative of a network with respect to its generators, conditioning, Lipschitz bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.dimension import dimension
from structmat.errors import BlockError, abbreviated, suggest
from structmat.families.resolution import checked
from structmat.linalg.blocks import checked_blocks, random_blocks
from structmat.networks.network import Network

Array = npt.NDArray[Any]

_SLOPE = {"cayley": 2, "exp": 1}


def jacobian(net: Network, blocks: Sequence[npt.ArrayLike]) -> Array:
    """Return the derivative of R with respect to rotations of its blocks.

    To first order, rotating a block B to exp(εA)·B, with A = e_i·e_jᵀ − e_j·e_iᵀ, rotates R to
    R·exp(εK), with K = u_i·u_jᵀ − u_j·u_iᵀ. Here u_i is the row of wire i, which the block writes,
    in the product of the factors up to this stage. The derivatives for the blocks of one stage are
    therefore orthonormal, and no singular value exceeds the square root of the number of stages.

    Parameters
    ----------
    net : Network
    blocks : one (n, r, r) array for each bank
        Real and orthogonal.

    Returns
    -------
    (parameters, d(d−1)/2)
        One row per parameter: bank by bank, block by block, with i < j in the order of
        `numpy.triu_indices`. A row contains K_ab for a < b in the same order.

    Raises
    ------
    BlockError
        If the blocks do not fit, or are complex.

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> jacobian(net, identity_blocks(net))
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    net = checked(net, "jacobian")
    arrays = checked_blocks(net, blocks)
    if any(np.iscomplexobj(array) for array in arrays):
        raise BlockError("complex blocks: the derivative is defined for rotations; use real blocks")
    rest = iter(arrays)
    rows = np.eye(net.width)
    first, second = np.triu_indices(net.width, 1)
    found = [np.zeros((0, len(first)))]
    for stage in net.stages:
        after = rows.copy()
        after[stage.moves[:, 1]] = rows[stage.moves[:, 0]]
        for bank in stage.banks:
            after[bank.writes] = next(rest) @ rows[bank.reads]
        rows = after
        for bank in stage.banks:
            i, j = (bank.writes[:, side].ravel() for side in np.triu_indices(bank.radix, 1))
            u, v = rows[i], rows[j]
            found.append(u[:, first] * v[:, second] - u[:, second] * v[:, first])
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The singular values of the derivative of a network at given blocks.

    Attributes
    ----------
    singular_values : (k,) array
        All singular values, in descending order.
    directions : int
        The dimension of the network: the number of singular values that are non-zero at almost all
        blocks. The others belong to gauge redundancies, along which R does not change.
    """

    singular_values: Array
    directions: int

    @property
    def ratio(self) -> float:
        """The smallest singular value of the directions over the largest; 1 without directions."""
        if self.directions == 0:
            return 1.0
        return float(self.singular_values[self.directions - 1] / self.singular_values[0])

    @property
    def resolved(self) -> bool:
        """Whether the ratio exceeds rounding errors."""
        return bool(self.ratio > len(self.singular_values) * np.finfo(float).eps)

    def to_dict(self) -> dict[str, Any]:
        """Return a summary as a JSON-serialisable dict."""
        values = self.singular_values[: self.directions].tolist() or [0.0]
        return {
            "directions": self.directions,
            "largest": values[0],
            "smallest": values[-1],
            "ratio": self.ratio,
            "resolved": self.resolved,
        }

    def __str__(self) -> str:
        return f"σ_min/σ_max = {self.shown} over {self.directions:,} directions"

    @property
    def shown(self) -> str:
        """The ratio as text, without a number if it does not exceed rounding errors."""
        return f"{self.ratio:.2g}" if self.resolved else "0 up to rounding"


def conditioning(
    net: Network,
    blocks: Sequence[npt.ArrayLike] | None = None,
    *,
    rng: np.random.Generator | int | None = None,
) -> Conditioning:
    """Return the singular values of `jacobian`: the conditioning of R with respect to its blocks.

    Along a direction with a small singular value, R hardly changes: gradients are small, and least
    squares problems in the generators are ill-posed. Some meshes that cover all of SO(d) are nearly
    singular at almost all blocks, increasingly so with their width.

    Parameters
    ----------
    net : Network
        The time taken is proportional to the sixth power of its width.
    blocks : one (n, r, r) array for each bank, optional
        By default independent Haar rotations.
    rng : Generator, int or None
        The source of random blocks.

    Examples
    --------
    >>> from structmat.families import brickwall, butterfly
    >>> conditioning(brickwall(16), rng=0).ratio < 1e-6
    True
    >>> conditioning(butterfly(16).repeat(4), rng=0).ratio > 1e-4
    True
    """
    net = checked(net, "conditioning")
    at = random_blocks(net, rng) if blocks is None else blocks
    values = np.linalg.svd(jacobian(net, at), compute_uv=False)
    return Conditioning(values, dimension(net).value)


def lipschitz(net: Network, kind: str = "cayley") -> float:
    """Return L such that ‖R(g) − R(h)‖_F ≤ L·‖g − h‖ for all generators g and h of the network.

    The factors are orthogonal, so the change in R is at most the sum of the changes in the factors:
    ‖R − R'‖ ≤ Σ ‖B_t − B'_t‖, in the spectral and the Frobenius norm. Blocks change by at most
    c·‖Q − Q'‖, with c = 2 for the Cayley transform C(Q) = (I+Q)(I−Q)⁻¹, because
    C(Q) − C(Q') = 2(I−Q)⁻¹(Q−Q')(I−Q')⁻¹, and c = 1 for exp(Q). Because ‖Q‖_F = √2·‖g‖, it follows
    that L = c·√(2m) for m stages with switches. Repeated stages attain L at the identity.

    Parameters
    ----------
    net : Network
    kind : "cayley" or "exp"

    Raises
    ------
    BlockError
        For an unknown parametrization.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> lipschitz(butterfly(256)), lipschitz(butterfly(256), kind="exp")
    (8.0, 4.0)
    """
    net = checked(net, "lipschitz")
    if kind not in _SLOPE:
        raise BlockError(
            f"kind={abbreviated(kind)}: unknown parametrization{suggest(kind, _SLOPE)}"
        )
    stages = net.stages
    return float(_SLOPE[kind] * np.sqrt(2 * sum(bool(stage.banks) for stage in stages)))
