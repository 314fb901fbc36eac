"""Orthogonal or unitary blocks from generators: the numpy reference implementation.

A bank of n switches of radix r has blocks of shape (n, r, r). The generators are real numbers. An
orthogonal block has r(r−1)/2 of them: the strict upper triangle of a skew-symmetric matrix, row by
row. A unitary block has r²: the real parts and then the imaginary parts of the strict upper
triangle, followed by the imaginary diagonal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from structmat.errors import BlockError, abbreviated, random_source, suggest
from structmat.families.resolution import checked
from structmat.linalg.shared_blocks import distinct, each
from structmat.networks.network import Network

Array = npt.NDArray[Any]
T = TypeVar("T")

LARGEST_ANGLE = 1e9  # beyond this norm, rounding Q to float64 changes exp(Q) by an ulp of float32


def generators_per_block(radix: int, *, field: str = "real") -> int:
    """Return the number of real generators of one block, the dimension of SO(r) or U(r).

    Examples
    --------
    >>> generators_per_block(8), generators_per_block(8, field="complex")
    (28, 64)
    """
    return radix * radix if field == "complex" else radix * (radix - 1) // 2


def count_generators(net: Network, *, field: str = "real") -> int:
    """Return the number of real generators of all blocks: Σ r(r−1)/2, or Σ r² for unitary blocks.

    Examples
    --------
    >>> net = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> count_generators(net), count_generators(net, field="complex")
    (2, 8)
    """
    return sum(bank.count * generators_per_block(bank.radix, field=field) for bank in net.banks)


def adjoint(arrays: Array) -> Array:
    """Return the (conjugate) transposes of a stack of matrices.

    Examples
    --------
    >>> adjoint(np.array([[[1j, 2]]])).tolist()
    [[[-1j], [(2-0j)]]]
    """
    return np.conj(np.swapaxes(arrays, -1, -2))


def skew(generators: npt.ArrayLike, radix: int) -> Array:
    """Return the skew-symmetric (or skew-Hermitian) matrices with the given generators.

    Parameters
    ----------
    generators : (..., r(r−1)/2) real, or (..., r²) real for skew-Hermitian matrices
    radix : int

    Returns
    -------
    (..., r, r) real or complex

    Raises
    ------
    BlockError
        If the number of generators fits neither case, or if any of them is not finite and real.

    Examples
    --------
    >>> skew([1.0, 2.0, 3.0], 3)
    array([[ 0.,  1.,  2.],
           [-1.,  0.,  3.],
           [-2., -3.,  0.]])
    """
    g = np.asarray(generators)
    if g.dtype.kind not in "iuf" or not np.isfinite(g).all():
        raise BlockError(f"generators of dtype {g.dtype}: they must be finite real numbers")
    g = g.astype(np.result_type(g.dtype, np.float32), copy=False)
    pairs = generators_per_block(radix)
    if g.ndim < 1 or g.shape[-1] not in (pairs, radix * radix):
        raise BlockError(
            f"generators of shape {g.shape}: a block of radix {radix} needs {pairs} numbers,"
            f" or {radix * radix} when unitary"
        )
    upper, lower = np.triu_indices(radix, 1)
    if g.shape[-1] == pairs:
        q = np.zeros((*g.shape[:-1], radix, radix), dtype=g.dtype)
        q[..., upper, lower] = g
        return q - np.swapaxes(q, -1, -2)
    q = np.zeros((*g.shape[:-1], radix, radix), dtype=np.result_type(g.dtype, np.complex64))
    q[..., upper, lower] = g[..., :pairs] + 1j * g[..., pairs : 2 * pairs]
    q = q - adjoint(q)
    diagonal = np.arange(radix)
    q[..., diagonal, diagonal] = 1j * g[..., 2 * pairs :]
    return q


def cayley(generators: npt.ArrayLike, radix: int) -> Array:
    """Return the blocks (I+Q)(I−Q)⁻¹.

    Every rotation without the eigenvalue −1 is obtained from exactly one Q. For finite generators
    of any size, the blocks are orthogonal up to rounding.

    Returns
    -------
    (..., r, r), of determinant 1 when real; unitary when complex

    Examples
    --------
    >>> cayley([1.0], 2)       # a quarter turn: tan(θ/2) = 1
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    q = skew(generators, radix)
    result: Array = 2 * _resolvent(_wide(q)) - np.eye(radix)
    return result.astype(q.dtype)


def _resolvent(q: Array) -> Array:
    """Return (I−Q)⁻¹.

    A real Q of odd size has an eigenvalue 0, whose contribution an explicit inverse would lose next
    to large eigenvalues. Such a Q is therefore partitioned as [[0, −bᵀ], [b, Q′]], and only
    (I−Q′)⁻¹ is inverted explicitly.
    """
    odd = q.shape[-1] % 2 == 1 and not np.iscomplexobj(q)
    inner = q[..., 1:, 1:] if odd else q
    m: Array = np.linalg.inv(np.eye(inner.shape[-1]) - inner)
    if not odd:
        return m
    b = q[..., 1:, :1]
    u, w = m @ b, adjoint(m) @ b
    size = np.abs(u).max(axis=(-2, -1), keepdims=True, initial=1)  # avoid overflow of the squares
    u, w = u / size, w / size
    root = np.sqrt(1 / size / size + adjoint(u) @ u)
    u, w, corner = u / root, w / root, 1 / root / size
    top = np.concatenate([corner * corner, -corner * adjoint(w)], axis=-1)
    rest = np.concatenate([corner * u, m - u @ adjoint(w)], axis=-1)
    return np.concatenate([top, rest], axis=-2)


def _wide(q: Array) -> Array:
    """Return a matrix converted to double precision."""
    return q.astype(np.complex128 if np.iscomplexobj(q) else np.float64)


def exponential(generators: npt.ArrayLike, radix: int) -> Array:
    """Return the blocks exp(Q), which include every rotation, or every unitary matrix.

    The exponential is computed from eigenvectors. These are orthonormal because −iQ is Hermitian,
    so the result is orthogonal to a few ulps for Q of any size, whereas scaling and squaring would
    lose orthogonality in proportion to ‖Q‖. In double precision, the angles are accurate to a few
    ulps times ‖Q‖.

    Raises
    ------
    BlockError
        As for `skew`, and if the generators of a block have a norm above 1e9, beyond which rounding
        makes the angles meaningless. Real blocks of radix 2 are computed as a cosine and a sine,
        and have no such limit.

    Examples
    --------
    >>> exponential([np.pi / 2], 2).round(12) + 0.0
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    q = skew(generators, radix)
    wide = _wide(q)
    if radix == 2 and not np.iscomplexobj(q):
        c, s = np.cos(wide[..., 0, 1]), np.sin(wide[..., 0, 1])
        rotations: Array = np.stack([c, s, 0 - s, c], axis=-1).reshape(q.shape)
        return rotations.astype(q.dtype)
    g = np.asarray(generators, dtype=np.float64)
    size = np.abs(g).max(initial=1)  # avoid overflow of the squares
    check_angles(float(size) * float(np.linalg.norm(g / size, axis=-1).max(initial=0)))
    angles, vectors = np.linalg.eigh(-1j * wide)
    result: Array = (vectors * np.exp(1j * angles)[..., None, :]) @ adjoint(vectors)
    return (result if np.iscomplexobj(q) else result.real).astype(q.dtype)


def check_angles(norm: float) -> None:
    """Raise an error for generators so large that rounding makes their angles meaningless.

    Raises
    ------
    BlockError
        If their norm is above `LARGEST_ANGLE`.
    """
    if norm > LARGEST_ANGLE:
        raise BlockError(
            f"generators of norm {norm:.1e}: exponentials are computed for norms up to"
            f" {LARGEST_ANGLE:.0e}, beyond which rounding makes their angles meaningless; use"
            " smaller generators, or parametrization='givens' or 'cayley'"
        )


def givens(generators: npt.ArrayLike, radix: int) -> Array:
    """Return products of one Givens rotation in every plane (i, j).

    B = G₀₁·G₀₂ ⋯ G₀₍ᵣ₋₁₎·G₁₂ ⋯, where Gᵢⱼ is the exponential of Q restricted to the plane (i, j);
    for real blocks the generators are the rotation angles. Unitary blocks are also multiplied by
    the phase exp(Qᵢᵢ) of wire i after the last Gᵢⱼ. At zero generators the block is the identity,
    and dB = dQ. Every rotation and every unitary matrix is attained, because Givens'
    column-by-column elimination finds the angles (J. SIAM 6, 1958).

    Returns
    -------
    (..., r, r), of determinant 1 when real; unitary when complex

    Examples
    --------
    >>> givens([np.pi / 2, 0, 0], 3).round(12) + 0.0
    array([[ 0.,  1.,  0.],
           [-1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    given = skew(generators, radix)
    q = _wide(given)
    made: Array = np.broadcast_to(np.eye(radix, dtype=q.dtype), q.shape).copy()
    for i in reversed(range(radix)):
        made[..., i, :] *= np.exp(q[..., i, i, None])
        for j in reversed(range(i + 1, radix)):
            entry = q[..., i, j, None]
            size = np.abs(entry)
            unit = entry.copy()
            for part in (unit.real, unit.imag) if np.iscomplexobj(entry) else (unit,):
                part /= np.where(size > 0, size, 1)  # a complex quotient would overflow
            c, s = np.cos(size), np.sin(size) * unit
            upper, lower = made[..., i, :].copy(), made[..., j, :].copy()
            made[..., i, :] = c * upper + s * lower
            made[..., j, :] = c * lower - np.conj(s) * upper
    return made.astype(given.dtype)


def householder(generators: npt.ArrayLike, radix: int) -> Array:
    """Return products of Householder reflections, which attain almost every block exactly once.

    With Q = [[iδ, −bᴴ], [b, Q′]] and B′ the block of Q′, B = H·diag(−1, B′), where H = I −
    (2/s)vvᴴ, v = (1, b) and s = vᴴv − iδ. For real blocks, H is a Householder reflection. At zero
    generators the block is the identity, and dB = 2dQ as for Cayley blocks; with (I−Q′)⁻¹b in place
    of b, the result would be the Cayley block. The first column (2/s)v − e₀ determines b and s
    unless it is −e₀, so every block is attained exactly once, except for a set of measure zero.

    Returns
    -------
    (..., r, r), of determinant 1 when real; unitary when complex

    Examples
    --------
    >>> householder([1.0], 2)
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    given = skew(generators, radix)
    q = _wide(given)
    made: Array = np.broadcast_to(-np.eye(radix, dtype=q.dtype), q.shape).copy()
    for i in reversed(range(radix)):
        v = q[..., i:, i, None].copy()
        v[..., 0, :] = 1
        size = np.abs(v).max(axis=(-2, -1), keepdims=True)  # avoid overflow of the squares
        v /= size
        s = adjoint(v) @ v - q[..., i, i, None, None] / size / size
        made[..., i:, i:] -= (2 / s) * v @ (adjoint(v) @ made[..., i:, i:])
    return made.astype(given.dtype)


def cayley_neumann(generators: npt.ArrayLike, radix: int) -> Array:
    """Return I + 2Q + 2Q² + 2Q³ + Q⁴, the Cayley transform with a truncated Neumann series.

    It is provided for compatibility with layers that use this series, such as OFT in PEFT. The
    result B equals (I+Q)(I+Q+Q²+Q³) = R(I − Q⁴), where R is the Cayley transform. Hence
    ‖R − B‖ = ‖Q‖⁴ exactly, and the singular values of B are |1 − |λ|⁴| for the eigenvalues λ of Q:
    B is nearly orthogonal for small Q, and far from orthogonal for ‖Q‖ ≥ 1.

    Returns
    -------
    (..., r, r)

    Examples
    --------
    >>> cayley_neumann([0.1], 2).round(4)
    array([[ 0.9801,  0.198 ],
           [-0.198 ,  0.9801]])
    """
    given = skew(generators, radix)
    q = _wide(given)
    one, square = np.eye(radix), q @ q
    result: Array = (one + 2 * q + square) @ (one + square)
    return result.astype(given.dtype)


PARAMETRIZATIONS = {
    "cayley": cayley,
    "exp": exponential,
    "givens": givens,
    "householder": householder,
    "cayley_neumann": cayley_neumann,
}


def checked_parametrization(name: str) -> str:
    """Return the name of a parametrization after checking that it exists.

    Raises
    ------
    BlockError
        If there is no such parametrization; the message suggests similar names.

    Examples
    --------
    >>> checked_parametrization("cayley")
    'cayley'
    """
    if name not in list(PARAMETRIZATIONS):  # a list, because the name may be unhashable
        raise BlockError(
            f"parametrization={abbreviated(name)}: no such parametrization"
            f"{suggest(str(name), PARAMETRIZATIONS)}"
        )
    return name


def random_blocks(
    net: Network,
    rng: np.random.Generator | int | None = None,
    dtype: npt.DTypeLike = float,
    *,
    special: bool = True,
) -> list[Array]:
    """Return independent Haar-distributed blocks, one array per bank.

    Parameters
    ----------
    net : Network
    rng : Generator, int or None
        Seed or generator, as accepted by `numpy.random.default_rng`.
    dtype : real or complex floating dtype
        With a complex dtype the blocks are Haar-distributed unitary matrices.
    special : bool
        Whether real blocks are Haar-distributed on SO(r) or on O(r).

    Returns
    -------
    list of (n, r, r)
        In the order of `net.banks`.

    Raises
    ------
    BlockError
        If the dtype is not a floating dtype.

    Examples
    --------
    >>> net = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> [b.shape for b in random_blocks(net, rng=0)]
    [(2, 2, 2), (2, 2, 2)]
    """
    net = checked(net, "random_blocks")
    banks = net.banks
    source = random_source(rng)
    kind = np.dtype(dtype)
    if kind.kind not in "fc":
        raise BlockError(f"dtype={kind}: blocks need a real or complex floating dtype")
    made = []
    for bank in banks:
        shape = (bank.count, bank.radix, bank.radix)
        normal: Array = source.standard_normal(shape)
        if kind.kind == "c":
            normal = normal + 1j * source.standard_normal(shape)
        q, r = np.linalg.qr(normal)
        diagonal = np.diagonal(r, axis1=1, axis2=2)
        q = (
            q * (diagonal / np.abs(diagonal))[:, None, :]
        )  # QR alone does not sample the Haar distribution (Mezzadri)
        if special and kind.kind == "f":
            q[:, :, 0] *= np.sign(np.linalg.det(q))[:, None]
        made.append(q.astype(kind))
    return made


def identity_blocks(net: Network, dtype: npt.DTypeLike = float) -> list[Array]:
    """Return identity blocks, one array per bank.

    Examples
    --------
    >>> identity_blocks(Network.of(2, [[[0, 1]]]))[0].tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    net = checked(net, "identity_blocks")
    banks = net.banks
    return [np.tile(np.eye(b.radix, dtype=dtype), (b.count, 1, 1)) for b in banks]


def adjoint_blocks(net: Network, blocks: Sequence[npt.ArrayLike]) -> list[Array]:
    """Return the blocks with which `net.inverse()` represents the (conjugate) transpose of R.

    Examples
    --------
    >>> net = Network.of(2, [[[0, 1]]])
    >>> adjoint_blocks(net, [[[[0.0, 1.0], [-1.0, 0.0]]]])[0].tolist()
    [[[0.0, -1.0], [1.0, 0.0]]]
    """
    net = checked(net, "adjoint_blocks")
    stages = by_stage(net, checked_blocks(net, blocks))
    return [adjoint(b) for stage in reversed(stages) for b in stage]


def by_stage(net: Network, blocks: Iterable[T]) -> list[list[T]]:
    """Group the blocks, which are arrays or tensors, by stage.

    Examples
    --------
    >>> by_stage(Network.of(2, [[], [[0, 1]]]), [np.eye(2)[None]])[0]
    []
    """
    rest = iter(blocks)
    return [[next(rest) for _ in stage.banks] for stage in net.stages]


def checked_blocks(net: Network, blocks: Sequence[npt.ArrayLike]) -> list[Array]:
    """Return the blocks as floating arrays of one dtype, one array per bank.

    Orthogonality is not checked: blocks of the right shape always define a product of sparse
    factors.

    Raises
    ------
    BlockError
        If the number of arrays or a shape does not fit, or if a value is not a finite number.
    """
    if not hasattr(blocks, "__len__"):
        raise BlockError(
            f"blocks={abbreviated(blocks)}: they must be a list of arrays, one for each bank; see"
            " random_blocks"
        )
    try:
        arrays = [np.asarray(b) for b in blocks]
        dtype = np.result_type(np.float32, *(a.dtype for a in arrays))
        arrays = [each(lambda a: a.astype(dtype, copy=False), a) for a in arrays]
    except (ValueError, TypeError):
        raise BlockError("blocks must be arrays of real or complex numbers") from None
    if dtype.kind not in "fc":
        raise BlockError(f"blocks of dtype {dtype}: they must be real or complex numbers")
    check_shapes(net, arrays)
    for k, array in enumerate(arrays):
        if not np.isfinite(distinct(array)).all():
            raise BlockError(f"blocks {k} contain NaN or infinity: every entry must be finite")
    return arrays


def check_shapes(net: Network, blocks: Sequence[Any]) -> None:
    """Raise a BlockError unless there is one (n, r, r) array, of any library, for each bank."""
    if len(blocks) != len(net.banks):
        raise BlockError(
            f"{len(blocks)} arrays of blocks: the network has {len(net.banks)} banks, and each"
            " needs one array; see random_blocks"
        )
    for k, (bank, array) in enumerate(zip(net.banks, blocks, strict=True)):
        shape = (bank.count, bank.radix, bank.radix)
        if tuple(array.shape) != shape:
            raise BlockError(f"blocks {k} of shape {tuple(array.shape)}: this bank needs {shape}")
