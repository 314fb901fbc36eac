"""How a network answers its generators: the derivative, its conditioning, Lipschitz bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.blocks import checked_blocks, random_blocks
from structmat.errors import BlockError, suggest
from structmat.expressivity import dimension
from structmat.network import Network, checked

Array = npt.NDArray[Any]

_SLOPE = {"cayley": 2, "exp": 1}


def jacobian(net: Network, blocks: Sequence[npt.ArrayLike]) -> Array:
    """Return how R turns when its blocks do.

    A block B that turns to exp(εA)·B, with A = e_i·e_jᵀ − e_j·e_iᵀ, turns R to R·exp(εK) to first
    order. With U the product of the factors up to this block and u_i the row of U that it writes,
    K = u_i·u_jᵀ − u_j·u_iᵀ. So the turns of the blocks of one stage are orthonormal, and no
    singular value exceeds the root of the number of stages.

    Parameters
    ----------
    net : Network
    blocks : one (n, r, r) array for each bank
        Real and orthogonal.

    Returns
    -------
    (parameters, d(d−1)/2)
        A row for each parameter: bank by bank, block by block, i < j in the order of
        `numpy.triu_indices`. It holds K_ab for a < b in the same order.

    Raises
    ------
    BlockError
        For blocks that do not fit, or are complex.

    Examples
    --------
    >>> from structmat.blocks import identity_blocks
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> jacobian(net, identity_blocks(net))
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    arrays = checked_blocks(checked(net, "jacobian"), blocks)
    if any(np.iscomplexobj(array) for array in arrays):
        raise BlockError("complex blocks: the derivative is that of rotations; give real blocks")
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
    """The singular values of the derivative of a network at some blocks.

    Attributes
    ----------
    singular_values : (k,) array
        All, descending.
    directions : int
        The dimension of the network: how many are not zero at almost all blocks. The others
        belong to turns that blocks can trade, and which leave R as it is.
    """

    singular_values: Array
    directions: int

    @property
    def ratio(self) -> float:
        """The smallest singular value over the largest, of the directions; 1 where none is."""
        if self.directions == 0:
            return 1.0
        return float(self.singular_values[self.directions - 1] / self.singular_values[0])

    @property
    def resolved(self) -> bool:
        """Whether the ratio is above rounding errors; if not, it is at most of their size."""
        return bool(self.ratio > len(self.singular_values) * np.finfo(float).eps)

    def to_dict(self) -> dict[str, Any]:
        """Return a summary, ready for JSON."""
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
        """The ratio in words, without a number where rounding errors are as large."""
        return f"{self.ratio:.2g}" if self.resolved else "0 up to rounding"


def conditioning(
    net: Network,
    blocks: Sequence[npt.ArrayLike] | None = None,
    *,
    rng: np.random.Generator | int | None = None,
) -> Conditioning:
    """Return how evenly a network turns when its blocks do: the singular values of `jacobian`.

    A direction with a small singular value is one in which R hardly moves: gradients along it are
    small, and least squares on the generators are ill-posed. Some meshes that cover all of SO(d)
    are nearly singular at almost all blocks, and the more so the wider they are.

    Parameters
    ----------
    net : Network
        Time grows with the sixth power of its width.
    blocks : one (n, r, r) array for each bank, optional
        By default independent Haar rotations.
    rng : Generator, int or None
        Where these come from.

    Examples
    --------
    >>> from structmat.families import brickwall, butterfly
    >>> conditioning(brickwall(16), rng=0).ratio < 1e-6
    True
    >>> conditioning(butterfly(16).repeat(4), rng=0).ratio > 1e-4
    True
    """
    checked(net, "conditioning")
    at = random_blocks(net, rng) if blocks is None else blocks
    values = np.linalg.svd(jacobian(net, at), compute_uv=False)
    return Conditioning(values, dimension(net).value)


def lipschitz(net: Network, kind: str = "cayley") -> float:
    """Return L such that ‖R(g) − R(h)‖_F ≤ L·‖g − h‖ for all generators g and h of the network.

    R changes by no more than its factors in all, for they are orthogonal:
    ‖R − R'‖ ≤ Σ ‖B_t − B'_t‖, in the spectral norm and in Frobenius's. Blocks change by at most
    c·‖Q − Q'‖, with c = 2 for Cayley's (I+Q)(I−Q)⁻¹, since R − R' = 2(I−Q)⁻¹(Q−Q')(I−Q')⁻¹, and
    c = 1 for exp(Q). And ‖Q‖_F = √2·‖g‖. So L = c·√(2m) for m stages with switches. Repeated
    stages attain it at the identity.

    Parameters
    ----------
    net : Network
    kind : "cayley" or "exp"

    Raises
    ------
    BlockError
        For another kind of blocks.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> lipschitz(butterfly(256)), lipschitz(butterfly(256), kind="exp")
    (8.0, 4.0)
    """
    if kind not in _SLOPE:
        raise BlockError(f"kind={kind!r}: no such blocks{suggest(kind, _SLOPE)}")
    stages = checked(net, "lipschitz").stages
    return float(_SLOPE[kind] * np.sqrt(2 * sum(bool(stage.banks) for stage in stages)))
