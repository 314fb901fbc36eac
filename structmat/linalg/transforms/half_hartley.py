"""The even and the odd part of a Hartley transform of odd width, as smaller orthogonal matrices."""

from __future__ import annotations

import math

import numpy as np

from structmat.families.number_theory import prime_factors
from structmat.linalg.transforms.assembly import (
    Array,
    Factored,
    beside,
    chained,
    permuted,
    signed,
    single,
)
from structmat.linalg.transforms.fourier import hartley_stages, real_radices
from structmat.linalg.transforms.roots_of_unity import cos_sin
from structmat.networks.network import Network
from structmat.networks.permutation import Index, digit_reversal
from structmat.networks.stage import Bank, Stage


def half_hartley(n: int, *, odd: bool = False) -> Factored:
    """Return the Hartley transform of odd width n, restricted to even or to odd inputs.

    On even inputs, x_j = x_(n−j), it is the cosine matrix with entries 2 cos(2πjk/n) / √n, 0 ≤ j, k
    ≤ (n−1)/2, of which the first row and column are divided by √2; on odd inputs the sine matrix 2
    sin(2πjk/n) / √n, 1 ≤ j, k ≤ (n−1)/2. Both are orthogonal.

    If n = r·m with a prime r, the inputs at multiples of r form a shorter input of the same kind.
    The others agree in pairs up to sign, those at s + r·i with those at −s − r·i, so each s < r/2
    needs one full Hartley transform of m points. The switches of the last stage, of radix r or
    smaller, join these transforms.

    Parameters
    ----------
    n : odd int
    odd : bool
        Whether the inputs are odd; n is then at least 3.

    Examples
    --------
    >>> from structmat.linalg.factors import matrix_of
    >>> half_hartley(45).network
    Network(width=23, depth=3, parameters=105)
    >>> made = matrix_of(*half_hartley(9, odd=True))
    >>> j = np.arange(1, 5)
    >>> bool(np.allclose(made, 2 / 3 * np.sin(2 * np.pi * np.outer(j, j) / 9)))
    True
    """
    primes = prime_factors(n)
    if len(primes) < 2:
        return single(_dense(n, odd=odd))
    radix = primes[-1]
    inner, low = n // radix, int(odd)
    classes = np.arange(1, (radix + 1) // 2)
    own = half_hartley(inner, odd=odd)
    order = digit_reversal(real_radices(inner))
    full = permuted(hartley_stages(inner), inputs=order)
    parts = beside(own, *[full for _ in classes])

    read = [radix * np.arange(low, (inner + 1) // 2)]
    read += [s + radix * np.arange(inner) for s in classes.tolist()]
    places = np.concatenate(read)
    folded = np.minimum(places, n - places)
    if odd:
        parts = signed(parts, inputs=np.where(places > n // 2, -1, 1))
    parts = permuted(parts, inputs=folded - low)
    return chained(parts, _last(n, radix, odd=odd))


def _dense(n: int, *, odd: bool) -> Array:
    k = np.arange(int(odd), (n + 1) // 2)
    cos, sin = cos_sin(np.outer(k, k), n)
    made: Array = 2 / math.sqrt(n) * (sin if odd else cos)
    if not odd:
        made[0] *= math.sqrt(0.5)
        made[:, 0] *= math.sqrt(0.5)
        made[0, 0] = 1 / math.sqrt(n)
    return made


def _last(n: int, radix: int, *, odd: bool) -> Factored:
    """Return the stage that joins the shorter transforms, with the frequencies as outputs."""
    inner, low = n // radix, int(odd)
    width = (n + 1) // 2 - low
    start = (inner + 1) // 2 - low  # of the wires of the full transforms
    s = np.arange(1, (radix + 1) // 2)
    k = np.arange(1, (inner + 1) // 2)[:, None]
    bases = start + (s - 1) * inner
    reads = np.concatenate([k - low, bases + k, bases + inner - k], axis=1)
    wide = k + inner * np.arange(radix)
    frequencies = np.minimum(wide, n - wide)
    cos, sin = cos_sin(frequencies[:, :, None] * s, n)
    if odd:
        cos, sin = sin, -cos
    same = (frequencies % inner == k)[:, :, None]  # otherwise it is −k modulo `inner`
    one = np.ones((*frequencies.shape, 1))
    if odd:
        one = np.where(same, 1.0, -1.0)
    direct, mirrored = cos - sin, cos + sin
    blocks = np.concatenate(
        [one, np.where(same, direct, mirrored), np.where(same, mirrored, direct)], axis=2
    ) / math.sqrt(radix)

    banks = [Bank(reads, frequencies - low)]
    made = [blocks]
    zero_reads: Index = np.concatenate([np.zeros(1 - low, dtype=np.int64), bases])
    zero_writes = inner * np.arange(low, (radix + 1) // 2) - low
    if len(zero_reads) == 1:
        stage = Stage(width, banks, np.stack([zero_reads, zero_writes], axis=1))
    else:
        stage = Stage(width, [*banks, Bank(zero_reads[None], zero_writes[None])])
        made.append(_dense(radix, odd=odd)[None])
    return Factored(Network(width, [stage]), made)
