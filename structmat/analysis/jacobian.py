"""The derivative of a network with respect to its generators, conditioning, Lipschitz bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.analysis.dimension import dimension
from structmat.errors import BlockError, abbreviated, checked_field, suggest
from structmat.families.resolution import checked
from structmat.linalg.blocks import (
    checked_blocks,
    count_generators,
    generators_per_block,
    random_blocks,
)
from structmat.networks.network import Network

Array = npt.NDArray[Any]

_SLOPE = {"cayley": 2, "exp": 1}


def jacobian(net: Network, blocks: Sequence[npt.ArrayLike], *, field: str = "real") -> Array:
    """Return the derivative of R with respect to rotations of its blocks.

    To first order, rotating a block B to exp(εA)·B, with A = e_i·e_jᵀ − e_j·e_iᵀ, rotates R to
    R·exp(εK), with K = u_i·u_jᵀ − u_j·u_iᵀ. Here u_i is the row of wire i, which the block writes,
    in the product of the factors up to this stage. The derivatives for the blocks of one stage are
    therefore orthonormal, and no singular value exceeds the square root of the number of stages.

    For unitary blocks, the generators are also A = i(e_i·e_jᵀ + e_j·e_iᵀ) and A = i√2·e_i·e_iᵀ, and
    K = UᴴAU, where U has the rows u_i.

    Parameters
    ----------
    net : Network
    blocks : one (n, r, r) array for each bank
        Orthogonal, or unitary if `field` is "complex".
    field : {"real", "complex"}

    Returns
    -------
    (parameters, d(d−1)/2) or (parameters, d²)
        One row per parameter: bank by bank, block by block, with i < j in the order of
        `numpy.triu_indices`. A row contains K_ab for a < b in the same order. With unitary blocks,
        each of the three groups of generators of a bank has its rows, and a row contains Re K_ab,
        then Im K_ab, then Im K_aa/√2.

    Raises
    ------
    BlockError
        If the blocks do not fit, or are complex and the field is real.

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> jacobian(net, identity_blocks(net))
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    net = checked(net, "jacobian")
    is_complex = checked_field(field) == "complex"
    arrays = checked_blocks(net, blocks)
    if not is_complex and any(np.iscomplexobj(array) for array in arrays):
        raise BlockError('complex blocks need complex generators: give field="complex"')
    rest = iter(arrays)
    rows = np.eye(net.width, dtype=complex if is_complex else float)
    first, second = np.triu_indices(net.width, 1)
    found = [np.zeros((0, generators_per_block(net.width, field=field)))]
    for stage in net.stages:
        after = rows.copy()
        after[stage.moves[:, 1]] = rows[stage.moves[:, 0]]
        for bank in stage.banks:
            after[bank.writes] = next(rest) @ rows[bank.reads]
        rows = after
        for bank in stage.banks:
            i, j = (bank.writes[:, side].ravel() for side in np.triu_indices(bank.radix, 1))
            u, v = rows[i], rows[j]
            if not is_complex:
                found.append(u[:, first] * v[:, second] - u[:, second] * v[:, first])
                continue
            forward, back = (x.conj()[:, :, None] * y[:, None] for x, y in ((u, v), (v, u)))
            own = rows[bank.writes.ravel()]
            diagonal = own.conj()[:, :, None] * own[:, None]
            for k in (forward - back, 1j * (forward + back), 1j * 2**0.5 * diagonal):
                upper = k[:, first, second]
                phases = np.diagonal(k, axis1=1, axis2=2).imag / 2**0.5
                found.append(np.concatenate([upper.real, upper.imag, phases], axis=1))
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
        """The smallest singular value of the directions divided by the largest; 1 if none exist."""
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
    field: str = "real",
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
        By default independent Haar rotations, or unitary matrices.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.
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
    dtype = complex if checked_field(field) == "complex" else float
    at = random_blocks(net, rng, dtype) if blocks is None else blocks
    values = np.linalg.svd(jacobian(net, at, field=field), compute_uv=False)
    return Conditioning(values, dimension(net, field=field).value)


def lipschitz(net: Network, kind: str = "cayley", *, field: str = "real") -> float:
    """Return L such that ‖R(g) − R(h)‖_F ≤ L·‖g − h‖ for all generators g and h of the network.

    The factors are orthogonal, so the change in R is at most the sum of the changes in the factors:
    ‖R − R'‖ ≤ Σ ‖B_t − B'_t‖, in the spectral and the Frobenius norm. Blocks change by at most
    c·‖Q − Q'‖, with c = 2 for the Cayley transform C(Q) = (I+Q)(I−Q)⁻¹, because
    C(Q) − C(Q') = 2(I−Q)⁻¹(Q−Q')(I−Q')⁻¹, and c = 1 for exp(Q). Because ‖Q‖_F = √2·‖g‖, it follows
    that L = c·√(2m) for m stages with generators. Repeated stages attain L at the identity. For
    unitary blocks ‖Q‖_F ≤ √2·‖g‖, with 1 in place of √2 in stages of radix 1, which have only
    phases.

    Parameters
    ----------
    net : Network
    kind : "cayley" or "exp"
    field : {"real", "complex"}

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
    is_complex = checked_field(field) == "complex"
    squares = (
        2 if stage.parameters else int(is_complex and bool(stage.banks)) for stage in net.stages
    )
    return float(_SLOPE[kind] * np.sqrt(sum(squares)))


def component_error(net: Network, *, field: str = "real") -> float:
    """Return the factor between errors of the generators of all blocks and the error of R.

    If every block B becomes exp(σ Σ ξ_g A_g)·B, with the generators A_g of `jacobian` and
    independent errors ξ_g of mean 0 and variance 1, the root mean square of the relative Frobenius
    error of R is, to first order in σ, σ times the result. The reason is that each generator
    changes R by L A B P, with orthogonal L, B and P, whose norm is ‖A‖ = √2 whatever the blocks,
    and that the squared norms of independent changes add up. With G generators in total, the result
    is √(2G/d).

    For orthogonal blocks of radix 2, and for beam splitters whose phases are exact, σ is the
    standard deviation of the angle of each beam splitter.

    Parameters
    ----------
    net : Network
    field : {"real", "complex"}
        Whether the blocks are orthogonal, with r(r−1)/2 generators each, or unitary, with r².

    Examples
    --------
    >>> from structmat.families import brickwall, butterfly
    >>> [round(component_error(butterfly(d)) ** 2, 6) for d in (16, 64, 256)]     # log₂ d
    [4.0, 6.0, 8.0]
    >>> [round(component_error(brickwall(d)) ** 2, 6) for d in (16, 64, 256)]     # d − 1
    [15.0, 63.0, 255.0]
    """
    net = checked(net, "component_error")
    generators = count_generators(net, field=checked_field(field))
    return float(np.sqrt(2 * generators / net.width))
