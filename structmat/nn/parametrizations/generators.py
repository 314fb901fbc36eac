"""Generators and the skew matrices they stand for, and in which dtype to compute with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.errors import BlockError
from structmat.linalg.blocks import generators_per_block
from structmat.nn import modes
from structmat.nn.precision import conjugate_transposed

_FLOATING = (
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
)
_PROMOTED = {(a, b): torch.promote_types(a, b) for a in _FLOATING for b in _FLOATING}


def promoted(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """Return `torch.promote_types(a, b)`, which an exporter would record as an operation.

    Examples
    --------
    >>> promoted(torch.bfloat16, torch.float16)
    torch.float32
    """
    found = _PROMOTED.get((a, b))
    return torch.promote_types(a, b) if found is None else found


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which to compute with numbers of this dtype.

    Raises
    ------
    BlockError
        For floating dtypes of 8 bits or fewer, in which torch does not compute.

    Examples
    --------
    >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float64)
    """
    if dtype.is_floating_point and dtype.itemsize < 2:
        raise BlockError(
            f"dtype={dtype}: generators and activations need at least 16 bits; keep adapters in"
            " float32, and cast activations to bfloat16 or wider"
        )
    return promoted(dtype, torch.float32)


_REAL = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of real and imaginary parts; a real dtype as it is.

    The same as `dtype.to_real()`, which torch.compile does not support.

    Examples
    --------
    >>> real_dtype(torch.complex64), real_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return _REAL.get(dtype, dtype)


def widened(values: Tensor) -> Tensor:
    """Return float64 numbers for float32 ones, where the device has such.

    Blocks of float32 are computed in these: a small block takes no longer so, every entry is
    exact to rounding, and settings that let matrix products of float32 be rounder still
    (`torch.set_float32_matmul_precision`) do not reach them.

    Examples
    --------
    >>> widened(torch.ones(1)).dtype
    torch.float64
    """
    if values.device.type == "mps":
        return values
    return values.to(torch.complex128 if values.is_complex() else torch.float64)


def known_below(values: Tensor, largest: float) -> bool:
    """Return whether all magnitudes are known to be at most `largest`, without a device sync.

    Examples
    --------
    >>> known_below(torch.tensor([1.0, -3.0]), 3), known_below(torch.tensor([torch.nan]), 3)
    (True, False)
    """
    if values.device.type != "cpu" or not modes.has_numbers(values):
        return False
    return not values.numel() or bool(values.abs().amax() <= largest)  # not so for NaN


def all_or_none(generators: Tensor) -> Tensor:
    """Return generators that are all NaN in a block where one is NaN or infinite.

    Otherwise a division by an infinite generator may give 0, and the block may look valid.

    Examples
    --------
    >>> all_or_none(torch.tensor([[1.0, 2.0], [3.0, torch.inf]]))
    tensor([[1., 2.],
            [nan, nan]])
    """
    return generators + (generators * 0).sum(dim=-1, keepdim=True)


def narrowed(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """Return real or complex blocks in the precision of a dtype, in at least float32.

    Examples
    --------
    >>> narrowed(torch.eye(2, dtype=torch.complex128), torch.float32).dtype
    torch.complex64
    """
    dtype = at_least_float32(dtype)
    dtype = promoted(dtype, torch.complex64) if blocks.is_complex() else dtype
    return blocks.to(dtype, memory_format=torch.contiguous_format)


def is_unitary(generators: Tensor, radix: int) -> bool:
    """Return whether there are as many generators as unitary blocks have.

    Raises
    ------
    BlockError
        For a number that neither real nor unitary blocks have.

    Examples
    --------
    >>> is_unitary(torch.zeros(5, 6), 4), is_unitary(torch.zeros(5, 16), 4)
    (False, True)
    """
    pairs = generators_per_block(radix)
    size = modes.sizes(generators)[-1]
    if size not in (pairs, radix * radix):
        raise BlockError(
            f"generators of shape {tuple(generators.shape)}: a block of radix {radix} needs"
            f" {pairs} numbers, or {radix * radix} when unitary"
        )
    return size != pairs


def skew(generators: Tensor, radix: int) -> Tensor:
    """Return the skew-symmetric (or skew-Hermitian) matrices of some generators.

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
        For any other number of generators.

    Examples
    --------
    >>> skew(torch.tensor([1.0, 2.0, 3.0]), 3)
    tensor([[ 0.,  1.,  2.],
            [-1.,  0.,  3.],
            [-2., -3.,  0.]])
    """
    unitary = is_unitary(generators, radix)
    upper, _ = _places(radix, generators.device)
    batch = generators.shape[:-1]
    if not unitary:
        q = generators.new_zeros(*batch, radix * radix).index_copy(-1, upper, generators)
        q = q.view(*batch, radix, radix)  # torch's older vmap does not support unflatten
        return q - q.mT
    pairs = len(upper)
    real, imaginary, diagonal = generators.split([pairs, pairs, radix], dim=-1)
    values = torch.complex(real, imaginary)
    q = values.new_zeros(*batch, radix * radix).index_copy(-1, upper, values)
    q = q.view(*batch, radix, radix)
    q = q - conjugate_transposed(q)
    return q + torch.diag_embed(torch.complex(torch.zeros_like(diagonal), diagonal))


def to_generators(slopes: Tensor) -> Tensor:
    """Return the slopes by generators, given those by the entries of their skew matrices.

    It is the adjoint of `skew`: in Re⟨S, skew(h)⟩ = ⟨to_generators(S), h⟩ both are the sum of
    the products of entries.

    Parameters
    ----------
    slopes : (..., r, r), real for real blocks and complex for unitary ones

    Returns
    -------
    (..., r(r−1)/2) or (..., r²), real

    Examples
    --------
    >>> to_generators(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
    tensor([2.])
    """
    radix = slopes.shape[-1]
    upper, lower = _places(radix, slopes.device)
    flat = slopes.reshape(*slopes.shape[:-2], radix * radix)  # not flatten: torch's older vmap
    above, below = flat.index_select(-1, upper), flat.index_select(-1, lower)
    if not slopes.is_complex():
        return above - below
    diagonal = slopes.diagonal(dim1=-2, dim2=-1).imag
    return torch.cat([above.real - below.real, above.imag + below.imag, diagonal], dim=-1)


def _places(radix: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where the entries above the diagonal, and those across, are in a flat matrix."""
    # Made anew at each call, in a few microseconds: a kept one could be a fake tensor, or one
    # of inference mode, and be met again where it may not be.
    above = torch.triu_indices(radix, radix, 1, device=device)
    upper, lower = torch.add(above.flip(0), above, alpha=radix).unbind()
    return upper, lower


def columns(generators: Tensor, radix: int) -> tuple[Tensor, Tensor | None]:
    """Return what is above the diagonal (r(r−1)/2, n), and for unitary blocks the diagonal."""
    unitary = is_unitary(generators, radix)
    flat = generators.reshape(math.prod(generators.shape[:-1]), generators.shape[-1])
    columns = all_or_none(widened(flat)).mT
    if not unitary:
        return columns, None
    pairs = radix * (radix - 1) // 2
    real, imaginary, diagonal = columns.split([pairs, pairs, radix])
    return torch.complex(real, imaginary), diagonal


def with_batch_first(blocks: Tensor, generators: Tensor) -> Tensor:
    """Return blocks (r, r, n) as (..., r, r), with the dtype and batch shape of the generators."""
    made = narrowed(blocks.permute(2, 0, 1), generators.dtype)
    return made.view(*generators.shape[:-1], *made.shape[1:])
