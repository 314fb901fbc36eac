"""For d ≥ 3, no orthogonal matrix has the diagonal and the cyclic superdiagonal as its support.

Statement. Quadrangularity: if two rows of an orthogonal matrix are both non-zero in some column,
then they are both non-zero in at least two columns; the same holds with rows and columns exchanged.
Hence no orthogonal d×d matrix, d ≥ 3, has as its support the positions (i, i) and (i, i+1 mod d),
although the pattern has perfect matchings and every row and column has two entries. For d = 2 the
pattern has no zeros, and every rotation without zero entries has it as its support.

Proof. The inner product of two different rows is zero. If exactly one column has non-zero entries
in both, it is a single product of two non-zero numbers, a contradiction; the same argument applies
to columns. In the pattern, if d ≥ 3, rows i and i+1 mod d are both non-zero only in column i+1 mod
d.

Source: the condition is from Beasley, Brualdi and Shader (1993), Combinatorial orthogonality.
"""

from __future__ import annotations

import itertools

import sympy

NUMBER = "T27"
STATUS = "proved"


def shifted(width: int) -> sympy.Matrix:
    """Return a matrix with symbols on the diagonal and the cyclic superdiagonal."""
    a, b = sympy.symbols(f"a:{width}"), sympy.symbols(f"b:{width}")
    matrix = sympy.diag(*a)
    for i in range(width):
        matrix[i, (i + 1) % width] += b[i]
    return matrix


def solvable(matrix: sympy.Matrix) -> bool:
    """Return whether M Mᵀ = I has a complex solution without zeros (Nullstellensatz)."""
    entries = sorted(matrix.free_symbols, key=str)
    spare = sympy.Symbol("t")
    gram = matrix * matrix.T - sympy.eye(matrix.rows)
    equations = [g for g in gram if g != 0] + [spare * sympy.prod(entries) - 1]
    return list(sympy.groebner(equations, *entries, spare, order="grevlex").exprs) != [1]


def quadrangular(rows: list[tuple[int, ...]]) -> bool:
    """Return whether no two rows, and no two columns, overlap in exactly one place."""
    columns = list(zip(*rows, strict=True))
    pairs = [*itertools.combinations(rows, 2), *itertools.combinations(columns, 2)]
    return all(sum(x * y for x, y in zip(*pair, strict=True)) != 1 for pair in pairs)


def check() -> str:
    """Check that neighbouring rows have a one-term inner product, and test patterns of size 3.

    Gröbner bases show that no non-quadrangular pattern of size 3 is the support of an orthogonal
    matrix.
    """
    for width in range(3, 9):
        gram = shifted(width) * shifted(width).T
        for i in range(width):
            product = gram[i, (i + 1) % width]
            assert product.is_Mul, product
            assert len(product.free_symbols) == 2, product
    assert solvable(shifted(2)), "a 2×2 rotation has this support"
    assert not solvable(shifted(3))
    symbols = sympy.symbols("x:9")
    decided = 0
    for pattern in itertools.product([0, 1], repeat=9):
        rows = [pattern[0:3], pattern[3:6], pattern[6:9]]
        if rows != sorted(rows) or not all(any(r) for r in rows):
            continue  # the order of the rows does not matter; no row of unit norm is zero
        matrix = sympy.Matrix(3, 3, [s * p for s, p in zip(symbols, pattern, strict=True)])
        if not quadrangular(rows):
            assert not solvable(matrix), rows
            decided += 1
    return f"sizes 3 to 8 symbolically, and {decided} non-quadrangular patterns of size 3"
