"""The matrix of a small network in sympy: each entry is a sum over the paths of the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import sympy

from structmat._util.text_table import counted
from structmat.analysis.reachability import path_counts
from structmat.errors import (
    BlockError,
    StructmatError,
    abbreviated,
    checked_field,
    checked_integer,
    suggest,
)
from structmat.families.resolution import checked, network
from structmat.linalg.blocks import Array, by_stage, check_shapes
from structmat.linalg.rotation import Rotation
from structmat.linalg.symbolic_blocks import (
    PARAMETRIZATIONS,
    Expression,
    expression,
    expressions,
    nonzero_terms,
    symbolic_blocks,
)
from structmat.networks import permutation
from structmat.networks.network import Network

_MOST = 2**14  # maximum number of terms of a matrix, and of all blocks; thousands take a second
_WIDEST = 1024  # maximum width: the paths between all pairs of inputs and outputs are counted
_LARGEST = 4  # maximum radix of Cayley blocks, which need the inverse of a symbolic matrix
_SHOWN, _LONGEST = 256, 2**14  # maximum numbers of terms and of characters shown in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class SymbolicMatrix:
    """The matrix R = B_m ⋯ B_1 of a network whose blocks contain sympy expressions.

    `symbolic` makes one with a symbol for each free parameter. Construct it directly for blocks of
    your own, such as exact Hadamard blocks.

    Parameters
    ----------
    network : Network
        A network of at most 1,024 wires.
    blocks : sequence of (n, r, r) arrays of sympy expressions or numbers
        One array for each bank, in the order of `random_blocks`. They need not be orthogonal.
    symbols : sequence of sympy symbols, optional
        The order of the symbols; those that do not occur in the blocks are omitted, and others
        follow in alphabetical order.

    Raises
    ------
    BlockError
        If the blocks do not fit the network, or are not finite sympy expressions or numbers.
    StructmatError
        For a network of more than 1,024 wires.

    Examples
    --------
    >>> hadamard = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)
    >>> net = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> 2 * SymbolicMatrix(net, [[hadamard, hadamard]] * 2).matrix()
    Matrix([
    [1,  1,  1,  1],
    [1, -1,  1, -1],
    [1,  1, -1, -1],
    [1, -1, -1,  1]])
    """

    network: Network
    blocks: tuple[Array, ...]
    symbols: tuple[Expression, ...] = ()

    def __post_init__(self) -> None:
        net = checked(self.network, "SymbolicMatrix")
        _check_width(net.width)
        blocks = _held(net, self.blocks)
        free = set().union(*(e.free_symbols for block in blocks for e in block.flat))
        first = [s for s in dict.fromkeys(self.symbols) if s in free]
        rest = sorted(free.difference(first), key=str)
        for name, value in (("network", net), ("blocks", blocks), ("symbols", (*first, *rest))):
            object.__setattr__(self, name, value)

    def paths(self, output: int, source: int) -> list[tuple[int, ...]]:
        """Return the paths from input `source` to output `output`, in lexicographic order.

        Each path lists the wire before the first stage and after each of the m stages, m + 1 in
        all.

        Raises
        ------
        WiringError
            If one of them is not a wire of the network.
        StructmatError
            If there are more than 16,384 paths.

        Examples
        --------
        >>> symbolic("benes", 4).paths(0, 3)
        [(3, 1, 0, 0), (3, 3, 2, 0)]
        """
        i, j = self._checked(output, source)
        return sorted(self._paths(i, self._influenced(j)))

    def entry(self, output: int, source: int) -> Expression:
        """Return R[output, source]: the sum over all paths of the products of their block entries.

        With 2×2 Givens blocks, each path contributes a product of one cosine or sine, up to sign,
        for each switch that it passes. Different paths have different products, so the number of
        terms is the number of paths.

        Raises
        ------
        WiringError, StructmatError
            As for `paths`.

        Examples
        --------
        >>> symbolic("benes", 4, parametrization="entries").entry(0, 3)
        b_1_1_3*b_2_0_1*b_3_0_0 + b_1_3_3*b_2_2_3*b_3_0_2
        >>> symbolic(Network.of(2, [[[0, 1]]])).entry(1, 0)
        -sin(theta_1_0_1)
        """
        i, j = self._checked(output, source)
        return self._sum(i, self._influenced(j))

    def matrix(self) -> Expression:
        """Return R as a (width, width) sympy matrix of the sums that `entry` returns.

        Raises
        ------
        StructmatError
            If the entries have more than 16,384 terms in all.

        Examples
        --------
        >>> symbolic(Network.of(3, [[[0, 1]], [[1, 2]]]), parametrization="entries").matrix()
        Matrix([
        [        b_1_0_0,         b_1_0_1,       0],
        [b_1_1_0*b_2_1_1, b_1_1_1*b_2_1_1, b_2_1_2],
        [b_1_1_0*b_2_2_1, b_1_1_1*b_2_2_1, b_2_2_2]])
        """
        _check_terms(self._terms, "the matrix", "compute single entries, by entry(i, j)")
        wires = range(self.network.width)
        columns = [[self._sum(i, found) for i in wires] for found in map(self._influenced, wires)]
        return sympy.Matrix(columns).T

    def factors(self) -> list[Expression]:
        """Return the sparse factors B_1, …, B_m as sympy matrices, in the order of application.

        Examples
        --------
        >>> first, second = symbolic("butterfly", 4, parametrization="entries").factors()
        >>> second.row(0)
        Matrix([[b_2_0_0, 0, b_2_0_2, 0]])
        """
        d = self.network.width
        return [
            sympy.ImmutableSparseMatrix(
                d, d, {(i, j): e for i, row in rows.items() for j, e in row.items()}
            )
            for rows in self._rows
        ]

    def subs(self, values: Mapping[Any, Any] | Iterable[Any]) -> SymbolicMatrix:
        """Return this matrix with all values substituted in the blocks simultaneously.

        Parameters
        ----------
        values : mapping or sequence
            Expressions or numbers for some symbols, or for other expressions in the blocks such as
            cos(θ); or one for each symbol, in the order of `symbols`. A key may be the name of a
            symbol.

        Raises
        ------
        StructmatError
            If a key does not occur in the blocks, a sequence has the wrong length, or a value is
            not a finite number or a sympy expression.

        Examples
        --------
        >>> r = symbolic(Network.of(2, [[[0, 1]]]))
        >>> r.subs([sympy.pi / 3]).matrix()
        Matrix([
        [       1/2, sqrt(3)/2],
        [-sqrt(3)/2,       1/2]])
        """
        given = self._mapping(values)
        blocks = (
            expressions((e.xreplace(given) for e in block.flat), block.shape)
            for block in self.blocks
        )
        return SymbolicMatrix(self.network, tuple(blocks), self.symbols)

    def rotation(self, values: Mapping[Any, Any] | Iterable[Any] = ()) -> Rotation:
        """Return the `Rotation` with the blocks evaluated at these values, in double precision.

        Parameters
        ----------
        values : mapping or sequence
            As for `subs`, with a value for every symbol.

        Raises
        ------
        StructmatError
            As for `subs`, and if a symbol remains.
        BlockError
            If a block is not orthogonal or unitary.

        Examples
        --------
        >>> symbolic(Network.of(2, [[[0, 1]]])).rotation([np.pi / 2]).matrix().round(12) + 0.0
        array([[ 0.,  1.],
               [-1.,  0.]])
        """
        done = self.subs(values)
        if done.symbols:
            raise StructmatError(
                f"{_listed(done.symbols)}: a rotation needs a number for each symbol; give"
                f" {counted(len(self.symbols), 'value')}, in the order of `symbols`"
            )
        entries = (e for block in done.blocks for e in block.flat)
        dtype = float if all(e.is_real for e in entries) else complex
        return Rotation(self.network, [block.astype(dtype) for block in done.blocks])

    @cached_property
    def _rows(self) -> list[dict[int, dict[int, Expression]]]:
        """The entries of each factor: for each output, a dict from inputs to entries."""
        made = []
        stages = by_stage(self.network, self.blocks)
        for stage, blocks in zip(self.network.stages, stages, strict=True):
            start, end = (wires.tolist() for wires in stage.passing)
            rows = {i: {j: sympy.S.One} for j, i in zip(start, end, strict=True)}
            for bank, array in zip(stage.banks, blocks, strict=True):
                wires = zip(bank.reads.tolist(), bank.writes.tolist(), array, strict=True)
                for reads, writes, block in wires:
                    for i, row in zip(writes, block, strict=True):
                        rows[i] = dict(zip(reads, row, strict=True))
            made.append(rows)
        return made

    @cached_property
    def _counts(self) -> Array:
        return path_counts(self.network)

    @property
    def _terms(self) -> int:
        """The total number of terms in all entries, written as sums over paths."""
        return sum(map(int, self._counts.flat))

    def _checked(self, output: Any, source: Any) -> tuple[int, int]:
        i, j = (
            int(permutation.some([wire], self.network.width, name)[0])
            for wire, name in ((output, "output"), (source, "source"))
        )
        entry = f"entry({i}, {j})"
        _check_terms(
            int(self._counts[i, j]),
            entry,
            f"use the first k stages only, symbolic(net[:k]).{entry}",
        )
        return i, j

    def _influenced(self, source: int) -> list[set[int]]:
        """Return the wires that an input influences, before the first stage and after each."""
        found = [{source}]
        for rows in self._rows:
            found.append({wire for wire, row in rows.items() if found[-1] & row.keys()})
        return found

    def _paths(self, output: int, influenced: list[set[int]]) -> list[tuple[int, ...]]:
        """Return the paths to an output, followed backwards along influenced wires only."""
        paths: list[tuple[int, ...]] = [(output,)] if output in influenced[-1] else []
        for rows, known in zip(reversed(self._rows), reversed(influenced[:-1]), strict=True):
            paths = [(k, *path) for path in paths for k in rows[path[0]] if k in known]
        return paths

    def _sum(self, output: int, influenced: list[set[int]]) -> Expression:
        """Return the sum over paths of the products of their block entries."""
        return sympy.Add(
            *(
                sympy.Mul(
                    *(rows[i][j] for rows, (j, i) in zip(self._rows, pairwise(path), strict=True))
                )
                for path in self._paths(output, influenced)
            )
        )

    def _mapping(self, values: Any) -> dict[Expression, Expression]:
        """Return the values by the expressions that they replace."""
        if not isinstance(values, Mapping):
            listed = list(values) if isinstance(values, Iterable) else [values]
            if len(listed) != len(self.symbols):
                raise StructmatError(
                    f"{counted(len(listed), 'value')}: the matrix has"
                    f" {counted(len(self.symbols), 'symbol')}; give one value for each, in the"
                    " order of `symbols`, or a mapping"
                )
            values = dict(zip(self.symbols, listed, strict=True))
        names = {str(symbol): symbol for symbol in self.symbols}
        keys = {k: names.get(k) if isinstance(k, str) else expression(k) for k in values}
        unknown = {k: found for k, found in keys.items() if found not in self.symbols}
        if any(found is not None for found in unknown.values()):
            entries = (e for block in self.blocks for e in block.flat)
            parts = {part for e in entries for part in sympy.preorder_traversal(e)}
            unknown = {k: found for k, found in unknown.items() if found not in parts}
        for key in unknown:
            raise StructmatError(
                f"{key}: it does not occur in the blocks; the symbols are {_listed(self.symbols)}"
            )
        return {keys[k]: expression(value) for k, value in values.items()}

    def __repr__(self) -> str:
        net = self.network
        count = len(self.symbols)
        return f"SymbolicMatrix(width={net.width}, depth={net.depth}, symbols={count})"

    def _repr_latex_(self) -> str | None:
        if self._terms > _SHOWN:
            return None
        text = sympy.latex(self.matrix(), fold_func_brackets=True)
        return f"$\\displaystyle {text}$" if len(text) <= _LONGEST else None


def symbolic(
    topology: Any,
    width: int | None = None,
    *,
    parametrization: str = "givens",
    field: str = "real",
) -> SymbolicMatrix:
    r"""Return the matrix of a small network in sympy, with symbols for its parameters.

    Each entry is a sum over paths. Symbols are named after stages, which are numbered from 1 like
    the factors B_1, …, B_m, and wires, which are numbered from 0: `theta_2_0_3`, in LaTeX θ_{2,03},
    is the angle by which stage 2 rotates the plane of the wires 0 and 3. In a notebook, a small
    matrix is displayed as LaTeX.

    Parameters
    ----------
    topology
        Anything that `network` accepts: a spec, a family, a network, a networkx graph or a file.
    width : int, optional
        Required for specs and families.
    parametrization : {"givens", "cayley", "entries"}
        - "givens": blocks are products of Givens rotations by angles θ, one for each pair of wires
          of a switch, in the order of `structmat.linalg.blocks.givens`.
        - "cayley": blocks are Cayley transforms, rational in the generators q; up to radix 4. For
          radix 2, q is the tangent of half the angle.
        - "entries": all entries b of a block are independent symbols. `b_2_0_3` is the entry in row
          0 and column 3 of the factor B_2. Blocks are then not orthogonal.
    field : {"real", "complex"}
        With "complex" the Givens blocks are unitary: the rotation in each plane has a phase φ too,
        and each wire a phase α. Symbols for entries are then complex.

    Raises
    ------
    StructmatError
        If an option has another value, or the network is too large: more than 1,024 wires, more
        than 16,384 terms in all blocks, or a Cayley block of radix above 4.

    Examples
    --------
    >>> r = symbolic("butterfly", 4)
    >>> r
    SymbolicMatrix(width=4, depth=2, symbols=4)
    >>> r.symbols
    (theta_1_0_1, theta_1_2_3, theta_2_0_2, theta_2_1_3)
    >>> r.entry(0, 3), r.paths(0, 3)
    (sin(theta_1_2_3)*sin(theta_2_0_2), [(3, 2, 0)])
    >>> print(sympy.latex(r.entry(0, 1), fold_func_brackets=True))
    \sin {\theta_{1,01}} \cos {\theta_{2,02}}
    >>> sympy.simplify(r.matrix().T * r.matrix()) == sympy.eye(4)
    True
    """
    _check_options(parametrization, field)
    if width is not None:  # a network of a million wires takes minutes to build
        _check_width(checked_integer(width, "width", 1))
    net = network(topology, width)
    _check_width(net.width)
    _check_size(net, parametrization)
    blocks, symbols = symbolic_blocks(net, parametrization, unitary=field == "complex")
    return SymbolicMatrix(net, tuple(blocks), tuple(symbols))


def _check_options(parametrization: Any, field: Any) -> None:
    if not isinstance(parametrization, str) or parametrization not in PARAMETRIZATIONS:
        raise StructmatError(
            f"parametrization={abbreviated(parametrization)}"
            f"{suggest(str(parametrization), PARAMETRIZATIONS)}"
        )
    if checked_field(field) == "complex" and parametrization == "cayley":
        raise StructmatError(
            "parametrization='cayley' with field='complex': Cayley blocks are real here; use"
            " parametrization='givens'"
        )


def _check_width(width: int) -> None:
    if width > _WIDEST:
        raise StructmatError(
            f"symbolic of {width:,} wires: there must be at most {_WIDEST:,}; use fewer wires, or"
            " compute numerically with structmat.Rotation"
        )


def _check_size(net: Network, parametrization: str) -> None:
    radix = max((bank.radix for bank in net.banks), default=1)
    if parametrization == "cayley" and radix > _LARGEST:
        raise StructmatError(
            f"parametrization='cayley' with a switch of radix {radix}: the radix must be at most"
            f" {_LARGEST}; use parametrization='entries'"
        )
    entries = parametrization == "givens" and radix > 2
    _check_terms(
        nonzero_terms(net, parametrization),
        "the factors",
        "use fewer wires or stages, or smaller switches"
        + (", or parametrization='entries'" if entries else ""),
    )


def _check_terms(count: int, what: str, remedy: str) -> None:
    if count > _MOST:
        raise StructmatError(
            f"{what} would have {count:,} terms, more than {_MOST:,}: {remedy}, or compute"
            " numerically with structmat.Rotation"
        )


def _held(net: Network, blocks: Any) -> tuple[Array, ...]:
    """Return the blocks as read-only arrays of sympy expressions."""
    try:
        arrays = [np.array(block, dtype=object) for block in blocks]
    except (TypeError, ValueError):
        raise BlockError(
            f"blocks={abbreviated(blocks)}: they must be a list of (n, r, r) arrays, one for each"
            " bank"
        ) from None
    check_shapes(net, arrays)
    return tuple(expressions(map(expression, array.flat), array.shape) for array in arrays)


def _listed(symbols: Sequence[Expression]) -> str:
    return abbreviated(", ".join(map(str, symbols))).strip("'") or "none"
