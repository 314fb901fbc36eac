"""Kronecker products of rotations, and cyclic shifts."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from structmat.errors import StructmatError, abbreviated
from structmat.families.number_theory import prime_factors
from structmat.linalg.blocks import adjoint
from structmat.linalg.rotation import Rotation
from structmat.linalg.shared_blocks import distinct, repeated
from structmat.linalg.transforms.assembly import Array, Factored, chained, permuted, transposed
from structmat.linalg.transforms.fourier import fourier_stages, reversal_of
from structmat.linalg.transforms.roots_of_unity import root
from structmat.linalg.transforms.transform import Transform, check_prime, checked_size, named
from structmat.networks.network import Network
from structmat.networks.permutation import digit_reversal
from structmat.networks.stage import Stage

_MOST = 2**53  # larger integers are not exact as floating-point numbers


def kron(first: Rotation, second: Rotation) -> Transform:
    """Return the Kronecker product of two rotations, on the product of their networks.

    Every stage of a factor becomes a stage of the product, in which each block occurs once for
    every wire of the other factor. The stages of `second` come first.

    Parameters
    ----------
    first, second : Rotation
        With blocks that are numpy arrays.

    Returns
    -------
    Transform
        With the matrix `numpy.kron(first.matrix(), second.matrix())`.

    Raises
    ------
    StructmatError
        If an argument is not a rotation, or the width exceeds 2^22.
    BlockError
        For blocks that are not numpy arrays.

    Examples
    --------
    >>> from structmat.linalg.transforms import dct, hadamard
    >>> r = kron(hadamard(2), dct(3))
    >>> dense = np.kron(hadamard(2).matrix(), dct(3).matrix())
    >>> r.network.depth, bool(np.allclose(r.matrix(), dense))
    (2, True)
    """
    for rotation in (first, second):
        if not isinstance(rotation, Rotation):
            raise StructmatError(f"{abbreviated(rotation)}: kron takes two rotations")
    network = first.network.product(second.network)
    inner, outer = second.network.width, first.network.width
    blocks = [_copies(block, outer, each=False) for block in second._numpy("kron")]
    blocks += [_copies(block, inner, each=True) for block in first._numpy("kron")]
    names = [getattr(rotation, "name", repr(rotation)) for rotation in (first, second)]
    return Transform(
        network, blocks, name=f"kron({', '.join(names)})", permutation="those of the two factors"
    )


def shift(n: int, steps: float = 1, *, diagonalised: bool = False) -> Transform:
    """Return the cyclic shift by some steps: output i + steps is input i, modulo n.

    Parameters
    ----------
    n : int
        From 1 to 65,536.
    steps : int
        An integer or, with `diagonalised`, any real number: the shift then multiplies frequency k,
        −n/2 < k ≤ n/2, by exp(−2πi·k·steps/n).
    diagonalised : bool
        Whether to return F* D F, with the Fourier transform F and a diagonal matrix D, as a network
        with unitary blocks. Otherwise the shift is one stage without switches.

    Raises
    ------
    StructmatError
        If n is not an integer or out of range, or `steps` is not a number of the required kind.

    Examples
    --------
    >>> (shift(4, 1) @ np.arange(4.0)).tolist()
    [3.0, 0.0, 1.0, 2.0]
    >>> half = shift(5, 0.5, diagonalised=True)
    >>> bool(np.allclose((half @ half).matrix(), shift(5).matrix()))
    True
    """
    width = checked_size(n)
    if not isinstance(diagonalised, bool):
        raise StructmatError(f"diagonalised={abbreviated(diagonalised)}: it must be True or False")
    amount = _steps(steps, whole=not diagonalised)
    wires = np.arange(width)
    if not diagonalised:
        whole = int(amount)
        moves = np.stack([wires, (wires + whole) % width], axis=1)
        made = Factored(Network(width, [Stage(width, moves=moves)]), [])
        words = f"the only stage moves wire i to wire i + {whole} modulo {width}"
        return named(made, f"shift({width}, {whole})", words, 0)
    check_prime(width)
    radices = prime_factors(width)
    part = permuted(fourier_stages(radices), inputs=digit_reversal(radices))
    network, blocks = part
    frequencies = np.where(wires > width // 2, wires - width, wires)
    whole = amount == int(amount)
    phases = (
        root(wires * (int(amount) % width), width)
        if whole
        else np.exp(-2j * math.pi / width * math.remainder(amount, width) * frequencies)
    )
    if network.depth:  # F's last stage, the phases and F*'s first stage have the same switches
        (bank,) = network.stages[-1].banks
        last = blocks[-1]
        middle = adjoint(last) @ (phases[bank.writes][:, :, None] * last)
        back = transposed(Factored(network[:-1], blocks[:-1]))
        part = chained(Factored(network, [*blocks[:-1], middle]), back)
    name = f"shift({width}, {int(amount) if whole else amount}, diagonalised=True)"
    return named(part, name, f"{reversal_of(radices)}; the last stage restores their order")


def _copies(block: Array, count: int, *, each: bool) -> Array:
    """Return `count` copies of a bank's blocks: of each block in a row, or of the whole bank."""
    own = distinct(block)
    if len(own) == 1:
        shared: Array = repeated(own, len(block) * count)
        return shared
    return np.repeat(block, count, axis=0) if each else np.tile(block, (count, 1, 1))


def _steps(steps: Any, *, whole: bool) -> float:
    real = isinstance(steps, numbers.Real) and not isinstance(steps, bool)
    amount = float(steps) if real and abs(steps) < _MOST else math.nan
    if math.isnan(amount) or (whole and amount != int(amount)):
        rule = "an integer" if whole else "a finite real number"
        remedy = "; with diagonalised=True it may be any real number" if whole else ""
        raise StructmatError(
            f"steps={abbreviated(steps)}: it must be {rule}, below 2^53 in size{remedy}"
        )
    return amount
