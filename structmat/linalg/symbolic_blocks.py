"""Blocks whose entries are sympy expressions in symbols named after stages and wires."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import sympy

from structmat.errors import BlockError, abbreviated
from structmat.linalg.blocks import Array
from structmat.networks.network import Network

Expression: TypeAlias = Any  # a sympy expression; sympy has no type annotations
_Row: TypeAlias = list[list[tuple[Expression, ...]]]  # entries, as sums of products of factors
Name: TypeAlias = tuple[str, tuple[int, ...]]  # a letter, and wires of a switch by position

PARAMETRIZATIONS = ("givens", "cayley", "entries")

_LATEX = {"theta": r"\theta", "phi": r"\varphi", "alpha": r"\alpha"}


class _WireSymbol(sympy.Symbol):  # type: ignore[misc]  # sympy has no type annotations
    """A symbol whose name consists of a letter, a stage and wires, such as theta_1_0_2."""

    def _latex(self, _: Any) -> str:
        letter, stage, *wires = self.name.split("_")
        comma = "" if all(len(wire) == 1 for wire in wires) else ","
        return rf"{_LATEX.get(letter, letter)}_{{{stage},{comma.join(wires)}}}"


def symbolic_blocks(
    net: Network, parametrization: str, *, unitary: bool = False
) -> tuple[list[Array], list[Expression]]:
    """Return the blocks of a network as sympy expressions, and their symbols in order.

    Parameters
    ----------
    net : Network
    parametrization : {"givens", "cayley", "entries"}
    unitary : bool
        Whether Givens blocks have phases, and the entries are complex.

    Returns
    -------
    blocks : list of (n, r, r) arrays of expressions
        In the order of `net.banks`.
    symbols : list
        Switch by switch, and within each switch in the order of the generators: angles, phases of
        planes, phases of wires.

    Examples
    --------
    >>> blocks, symbols = symbolic_blocks(Network.of(8, [[[0, 7]]]), "givens")
    >>> blocks[0][0, 0].tolist(), symbols
    ([cos(theta_1_0_7), sin(theta_1_0_7)], [theta_1_0_7])
    """
    entries = parametrization == "entries"
    blocks: list[Array] = []
    symbols: list[Expression] = []
    for t, stage in enumerate(net.stages, 1):
        for bank in stage.banks:
            generic, names = _block(parametrization, bank.radix, unitary=unitary)
            placed = [_symbol(letter, 0, places) for letter, places in names]
            made: list[Expression] = []
            for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True):
                sides = (writes if entries else reads, reads)
                new = [
                    _symbol(
                        letter,
                        t,
                        [side[p] for side, p in zip(sides, places, strict=False)],
                        real=not (entries and unitary),
                    )
                    for letter, places in names
                ]
                renamed = dict(zip(placed, new, strict=True))
                made += [e.xreplace(renamed) for e in generic]
                symbols += new
            blocks.append(expressions(made, (bank.count, bank.radix, bank.radix)))
    return blocks, symbols


def nonzero_terms(net: Network, parametrization: str) -> int:
    """Return the total number of terms in the entries of the factors, without building these.

    A Givens block of radix r has Catalan(r+1) − 1 terms in all. Any other entry counts as one term.

    Examples
    --------
    >>> nonzero_terms(Network.of(3, [[[0, 1, 2]], [[0, 1]]]), "givens")
    18
    """
    count = net.nonzeros
    if parametrization == "givens":
        for bank in net.banks:
            r = bank.radix
            count += bank.count * (math.comb(2 * r + 2, r + 1) // (r + 2) - 1 - r * r)
    return count


def expressions(entries: Iterable[Expression], shape: tuple[int, ...]) -> Array:
    """Return a read-only array of expressions.

    Examples
    --------
    >>> expressions([sympy.pi, sympy.S.One], (1, 2))
    array([[pi, 1]], dtype=object)
    """
    array = np.array(list(entries), dtype=object).reshape(shape)
    array.setflags(write=False)
    return array


def expression(value: Any) -> Expression:
    """Return a value as a sympy expression; text is not evaluated.

    Raises
    ------
    BlockError
        If it is not a finite number or expression.

    Examples
    --------
    >>> expression(2), expression(sympy.pi)
    (2, pi)
    """
    try:
        found = sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        found = None
    if not isinstance(found, sympy.Expr) or found.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise BlockError(f"{abbreviated(value)}: give finite numbers or sympy expressions")
    return found


def _symbol(letter: str, stage: int, wires: Iterable[int], *, real: bool = True) -> Expression:
    name = "_".join(map(str, (letter, stage, *wires)))
    return _WireSymbol(name, complex=True, real=True if real else None)


@lru_cache(maxsize=64)
def _block(
    parametrization: str, radix: int, *, unitary: bool
) -> tuple[list[Expression], list[Name]]:
    """Return the entries of a block on the wires 0 … r−1 in stage 0, and its symbols in order."""
    if parametrization == "givens":
        return _givens(radix, unitary=unitary)
    if parametrization == "cayley":
        return _cayley(radix)
    names = [("b", places) for places in itertools.product(range(radix), repeat=2)]
    return [_symbol(letter, 0, places) for letter, places in names], names


def _givens(radix: int, *, unitary: bool) -> tuple[list[Expression], list[Name]]:
    """Return the entries of the product that `structmat.linalg.blocks.givens` computes.

    Until the end, an entry is a list of terms, each a tuple of factors, because sympy would take
    minutes to expand products that contain phases.
    """
    pairs = list(itertools.combinations(range(radix), 2))
    made: list[_Row] = [[[()] if i == j else [] for j in range(radix)] for i in range(radix)]
    for i in reversed(range(radix)):
        if unitary:
            made[i] = _times(made[i], sympy.exp(sympy.I * _symbol("alpha", 0, (i,))))
        for j in reversed(range(i + 1, radix)):
            angle = _symbol("theta", 0, (i, j))
            phase = sympy.exp(sympy.I * _symbol("phi", 0, (i, j))) if unitary else sympy.S.One
            c, s = sympy.cos(angle), sympy.sin(angle)
            upper, lower = made[i], made[j]
            made[i] = _sums(_times(upper, c), _times(lower, s * phase))
            made[j] = _sums(_times(lower, c), _times(upper, -s / phase))
    names: list[Name] = [("theta", pair) for pair in pairs]
    if unitary:
        names += [("phi", pair) for pair in pairs] + [("alpha", (i,)) for i in range(radix)]
    return [sympy.Add(*(sympy.Mul(*term) for term in e)) for row in made for e in row], names


def _times(row: _Row, factor: Expression) -> _Row:
    return [[(*term, factor) for term in entry] for entry in row]


def _sums(one: _Row, other: _Row) -> _Row:
    return [a + b for a, b in zip(one, other, strict=True)]


def _cayley(radix: int) -> tuple[list[Expression], list[Name]]:
    names: list[Name] = [("q", pair) for pair in itertools.combinations(range(radix), 2)]
    q, one = sympy.zeros(radix), sympy.eye(radix)
    for letter, (i, j) in names:
        q[i, j] = _symbol(letter, 0, (i, j))
        q[j, i] = -q[i, j]
    made = (one + q) * (one - q).adjugate() / (one - q).det()
    return [sympy.cancel(e) for e in made], names
