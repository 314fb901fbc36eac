"""Discrete Fourier and Hartley transforms: one digit of the wire number per stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from structmat.errors import WidthError
from structmat.families.butterflies import radices_refuse
from structmat.families.number_theory import prime_factors
from structmat.linalg.transforms.assembly import Array, Factored, Part, permuted, staged
from structmat.linalg.transforms.roots_of_unity import cos_sin, root
from structmat.linalg.transforms.transform import Transform, check_prime, checked_size, named
from structmat.networks.permutation import Index, digit_reversal


def dft(n: int, *, radices: Sequence[int] | None = None) -> Transform:
    """Return the discrete Fourier transform F of n points, F_kj = exp(−2πi jk/n) / √n.

    By Cooley and Tukey's algorithm, F = R P, where R is a matrix of `mixed_radix(n, radices)`, and
    P reverses the digits of the input's number; for powers of two, R is a matrix of `butterfly(n)`,
    and P the bit reversal. The twiddle factors are part of the blocks. A prime n is a single
    switch.

    Parameters
    ----------
    n : int
        From 1 to 65,536.
    radices : sequence of int, optional
        Radices whose product is n, in the order of the stages; by default the prime factors,
        smallest first.

    Returns
    -------
    Transform
        With unitary blocks, equal to `scipy.fft.fft` with `norm="ortho"`.

    Raises
    ------
    StructmatError
        If n is not an integer, is out of range, or is not the product of the radices.

    References
    ----------
    J. W. Cooley and J. W. Tukey, An algorithm for the machine calculation of complex Fourier
    series, Mathematics of Computation 19, 1965. The published operation count, for powers of two,
    is that of the split-radix algorithm: R. Yavne, An economical method for calculating the
    discrete Fourier transform, 1968.

    Examples
    --------
    >>> import structmat as sm
    >>> x = np.arange(12.0)
    >>> bool(np.allclose(dft(12) @ x, np.fft.fft(x, norm="ortho")))
    True
    >>> straight, _, outputs = dft(8).network.straightened()
    >>> straight == sm.butterfly(8).relabel(outputs), outputs.tolist()
    (True, [0, 4, 2, 6, 1, 5, 3, 7])
    """
    return _fourier(n, radices, "dft", conjugate=False)


def idft(n: int, *, radices: Sequence[int] | None = None) -> Transform:
    """Return the inverse discrete Fourier transform, with entries exp(2πi jk/n) / √n.

    It has the network of `dft`, with conjugate blocks; `dft(n).H` is the same matrix on the
    reversed network.

    Parameters
    ----------
    n : int
        From 1 to 65,536.
    radices : sequence of int, optional
        As for `dft`.

    Raises
    ------
    StructmatError
        As for `dft`.

    Examples
    --------
    >>> x = np.arange(6.0)
    >>> bool(np.allclose(idft(6) @ (dft(6) @ x), x))
    True
    """
    return _fourier(n, radices, "idft", conjugate=True)


def hartley(n: int) -> Transform:
    """Return the discrete Hartley transform of n points: entries (cos + sin)(2πjk/n) / √n.

    It is the real form of the Fourier transform: for real x, the real part of `dft(n) @ x` is the
    even part of the Hartley transform, and the imaginary part is minus its odd part. The matrix is
    real and symmetric. As for the Fourier transform, each stage transforms one digit of the wire
    number; a switch of radix 2r joins the frequencies k and −k of r shorter transforms, except
    where they are the same.

    Parameters
    ----------
    n : int
        From 1 to 65,536.

    Raises
    ------
    StructmatError
        If n is not an integer, or out of range.

    References
    ----------
    R. N. Bracewell, The fast Hartley transform, Proceedings of the IEEE 72, 1984. The published
    operation count, for powers of two, is that of the split-radix transform of real data plus the
    additions that combine its real and imaginary parts: H. V. Sorensen et al., Real-valued fast
    Fourier transform algorithms, 1987.

    Examples
    --------
    >>> x = np.arange(6.0)
    >>> spectrum = np.fft.fft(x, norm="ortho")
    >>> bool(np.allclose(hartley(6) @ x, spectrum.real - spectrum.imag))
    True
    """
    width = checked_size(n)
    check_prime(width)
    order = digit_reversal(real_radices(width))
    made = permuted(hartley_stages(width), inputs=order)
    levels = width.bit_length() - 1
    published = None
    if width == 1 << levels:
        published = 2 * width * levels - 3 * width + 4 if width > 1 else 0
    return named(made, f"hartley({width})", reversal_of(real_radices(width)), published)


def fourier_stages(radices: Sequence[int]) -> Factored:
    """Return the Fourier transform that reads its inputs in digit-reversed order."""

    def entries(out: Index, read: Index, inner: int, size: int) -> Array:
        return root(read // inner * out, size)

    def switches(radix: int, inner: int) -> list[Index]:
        return [np.arange(radix * inner).reshape(radix, inner).T]

    return _levels(radices, switches, entries)


def hartley_stages(n: int, *, mixed: tuple[Array, Array] | None = None) -> Factored:
    """Return the Hartley transform that reads its inputs in digit-reversed order.

    Parameters
    ----------
    n : int
    mixed : (c, s) arrays (n,), optional
        Output k is then c_k h_k + s_k h_(−k), where h is the Hartley transform.
    """

    def entries(out: Index, read: Index, inner: int, size: int) -> Array:
        def hartley(k: Index) -> Array:
            cos, sin = cos_sin(read // inner * k, size)
            plus, minus = (read - k) % inner == 0, (read + k) % inner == 0
            made: Array = cos * plus + sin * minus
            return made

        if mixed is None or size < n:
            return hartley(out)
        both: Array = mixed[0][out] * hartley(out) + mixed[1][out] * hartley(-out % n)
        return both

    def switches(radix: int, inner: int) -> list[Index]:
        wires = np.arange(radix * inner).reshape(radix, inner).T
        own = [0] if inner % 2 else [0, inner // 2]  # the frequencies k = −k
        above = np.arange(1, (inner + 1) // 2)
        return [np.concatenate([wires[above], wires[inner - above]], axis=1), wires[own]]

    return _levels(real_radices(n), switches, entries)


def real_radices(n: int) -> list[int]:
    """Return the prime factors of n in the order that minimises non-zeros of a real transform.

    Frequency 0 and, for even n, frequency n/2 are their own negatives. All switches of the first
    stage, and of the second if the first has radix 2, therefore have the radix itself; in the other
    stages, the switches of all other frequencies have twice the radix.

    Examples
    --------
    >>> real_radices(90)
    [2, 5, 3, 3]
    """
    first, *rest = prime_factors(n) or [1]
    if first == 2:
        return [2, *reversed(rest)]
    return prime_factors(n)[::-1]


def reversal_of(radices: Sequence[int]) -> str:
    """Return in words the input permutation of a transform with these radices.

    Examples
    --------
    >>> reversal_of((2, 2)), reversal_of((7,))
    ('the first stage reads the inputs in bit-reversed order', 'none')
    """
    if len(radices) < 2:
        return "none"
    if set(radices) == {2}:
        return "the first stage reads the inputs in bit-reversed order"
    return (
        f"the first stage reads the inputs in digit-reversed order (radices"
        f" {', '.join(map(str, radices))}), so its switches join those at distance"
        f" {math.prod(radices[1:])}"
    )


def _fourier(n: Any, radices: Sequence[int] | None, name: str, *, conjugate: bool) -> Transform:
    width = checked_size(n)
    check_prime(width)
    chosen = prime_factors(width)
    if radices is not None:
        refused = radices_refuse(width, radices, None, reverse=False)
        if refused is not None:
            raise WidthError(f"{name}(n={width}, radices={tuple(radices)}): {refused}")
        chosen = [int(radix) for radix in radices]
    network, blocks = permuted(fourier_stages(chosen), inputs=digit_reversal(chosen))
    if conjugate:
        blocks = [block.conj() for block in blocks]
    levels = width.bit_length() - 1
    published = 4 * width * levels - 6 * width + 8 if width == 1 << levels and width > 1 else None
    given = "" if radices is None else f", radices={tuple(chosen)}"
    return named(
        Factored(network, blocks), f"{name}({width}{given})", reversal_of(chosen), published
    )


def _levels(
    radices: Sequence[int],
    switches: Callable[[int, int], list[Index]],
    entries: Callable[[Index, Index, int, int], Array],
) -> Factored:
    """Return the stages of Cooley and Tukey's algorithm, the shortest transforms first.

    `switches(r, m)` returns the wires of the switches that combine r transforms of m points, whose
    values lie one after the other, into a transform of r·m points. `entries(out, read, m, r·m)`
    returns √r times the entries of their blocks.
    """
    width = math.prod(radices)
    stages = []
    inner = 1
    for radix in radices:
        size = radix * inner
        starts = np.arange(0, width, size)[:, None, None]
        parts = []
        for wires in switches(radix, inner):
            one = entries(wires[:, :, None], wires[:, None, :], inner, size) / math.sqrt(radix)
            shape = (len(starts), *one.shape)
            parts.append(
                Part(
                    (starts + wires).reshape(-1, wires.shape[1]),
                    np.broadcast_to(one, shape).reshape(-1, *one.shape[1:]),
                )
            )
        stages.append(parts)
        inner = size
    return staged(width, stages)
