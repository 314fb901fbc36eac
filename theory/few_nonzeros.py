"""A fully indecomposable orthogonal matrix has at least 4d − 4 non-zeros.

Statement. Let a d×d pattern, d ≥ 2, be fully indecomposable (it has no r×(d − r) zero submatrix, 1
≤ r < d) and quadrangular (two rows, or two columns, that overlap do so in at least two places; the
support of every orthogonal matrix is quadrangular by T27). Then it has at least 4d − 4 ones. The
product of the two stages of brickwall(d, 2) attains this bound for every d ≥ 3. So a layer of a
grid graph with fewer edges is not fully indecomposable, or admits no orthogonal matrix. (A fully
indecomposable stage is a single switch, with d² non-zeros.)

The source proves the bound for every d; the check enumerates every pattern up to d = 5. The product
of the two stages has 4d − 4 non-zeros: a wire on a switch of the second stage is reached either
from two switches of the first stage, and its row has 4 non-zeros, or from a switch and an idle
wire, and its row has 3; a wire that is idle in the second stage is reached from one switch, and its
row has 2.

Source: L. B. Beasley, R. A. Brualdi and B. L. Shader, Combinatorial orthogonality, 1993.
"""

from __future__ import annotations

import itertools
from math import comb

import numpy as np

import structmat as sm

NUMBER = "T30"
STATUS = "checked by exhaustion"


def fewest(size: int) -> int:
    """Return the fewest ones in a quadrangular, fully indecomposable pattern, by enumeration.

    Rows are encoded as binary numbers and sorted, because their order does not matter.
    """
    values = range(1, 1 << size)
    chosen = itertools.chain.from_iterable(itertools.combinations_with_replacement(values, size))
    rows = list(np.fromiter(chosen, dtype=np.int64).reshape(-1, size).T)
    assert len(rows[0]) == comb(len(values) + size - 1, size)
    bits = np.array([value.bit_count() for value in range(1 << size)])
    fine = np.ones(len(rows[0]), dtype=bool)
    columns = [sum((row >> j & 1) << i for i, row in enumerate(rows)) for j in range(size)]
    for lines in (rows, columns):
        for a, b in itertools.combinations(lines, 2):
            fine &= bits[a & b] != 1
    for some in range(1, (1 << size) - 1):
        union = np.zeros_like(rows[0])
        for i, row in enumerate(rows):
            if some >> i & 1:
                union |= row
        fine &= bits[union] > some.bit_count()
    return int(sum(bits[row] for row in rows)[fine].min())


def check() -> str:
    """Enumerate the patterns up to size 5; count the non-zeros of two stages of the brick-wall."""
    for d in range(2, 6):
        assert fewest(d) == 4 * d - 4, d
    for d in range(3, 200):
        net = sm.brickwall(d, 2)
        reached = sm.reach(net).astype(int)
        assert reached.sum() == 4 * d - 4, d
        for pattern in (reached, reached.T):
            assert not (pattern @ pattern.T == 1).any(), d
    return "all patterns up to size 5, brick-walls of two stages up to 199 wires"
