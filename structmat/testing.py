"""Hypothesis strategies that draw networks and blocks, and two assertions about them.

They need the extra `testing`: pip install "structmat[testing]".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from structmat.blocks import Array, identity_blocks, random_blocks
from structmat.errors import StructmatError, require, whole
from structmat.families import Entry, Family, catalogue, parse
from structmat.families.arithmetic import factorizations
from structmat.network import Network
from structmat.reachability import is_dense, reach
from structmat.stage import Bank, Stage

try:
    from hypothesis import strategies as st
except ModuleNotFoundError:
    require("hypothesis", "testing")  # says which extra brings it
    raise

Case = tuple[Family, int]


def networks(
    *, max_width: int = 12, max_depth: int = 4, wired: bool | None = None
) -> st.SearchStrategy[Network]:
    """Draw networks of every form: mixed radices, idle wires, several banks, and every family.

    They shrink towards few wires, few stages, small switches and wires in order.

    Parameters
    ----------
    max_width, max_depth : int
        The most wires and stages.
    wired : bool, optional
        True for networks that are not straight, False for straight ones, which is what
        finetuning takes; by default both.

    Raises
    ------
    StructmatError
        For bounds that leave no network.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(networks(max_width=6))
    ... def test_inverse_of_inverse(net):
    ...     assert net.inverse().inverse() == net
    >>> test_inverse_of_inverse()
    """
    width = whole(max_width, "max_width", 2 if wired else 1)
    depth = whole(max_depth, "max_depth", 1 if wired else 0)
    drawn = _drawn(width, depth, straight=wired is False)
    cases = _cases(width, depth)
    if cases:
        members = _sampled(cases).map(lambda case: case[0](case[1]))
        drawn = st.one_of(drawn, members)
    if wired is None:
        return drawn
    return drawn.filter(lambda net: net.is_straight is not wired)


def families(*, max_width: int = 32, max_depth: int = 8) -> st.SearchStrategy[Case]:
    """Draw a registered family, as a spec with valid options, and a width that it takes.

    The options named block, depth, radices, largest and rng are varied; a family that cannot be
    built from these is left out.

    Parameters
    ----------
    max_width, max_depth : int
        The most wires and stages of the network that the family builds at this width.

    Raises
    ------
    StructmatError
        For bounds that leave no family.

    Examples
    --------
    >>> from hypothesis import find
    >>> family, width = find(families(), lambda case: case[0].name == "shuffle")
    >>> print(family, width)
    shuffle(block=2) 2
    """
    width = whole(max_width, "max_width", 1)
    cases = _cases(width, whole(max_depth, "max_depth", 0))
    if not cases:
        raise StructmatError(f"max_width={width}, max_depth={max_depth}: no family is so small")
    return _sampled(cases)


def seeds() -> st.SearchStrategy[int]:
    """Draw seeds of random generators.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(seeds(), lambda seed: True)
    0
    """
    return st.integers(0, 2**32 - 1)


def blocks_for(
    net: Network, dtype: npt.DTypeLike = float, *, special: bool = True
) -> st.SearchStrategy[list[Array]]:
    """Draw orthogonal (or unitary) blocks of a network: the identity, or independent Haar ones.

    Parameters
    ----------
    net : Network
    dtype, special
        As `structmat.random_blocks` takes them.

    Examples
    --------
    >>> from hypothesis import find
    >>> net = Network.of(2, [[[0, 1]]])
    >>> find(blocks_for(net), lambda blocks: True)[0].tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    haar = seeds().map(lambda seed: random_blocks(net, seed, dtype, special=special))
    return st.one_of(st.builds(identity_blocks, st.just(net), st.just(dtype)), haar)


def assert_orthogonal(matrix: npt.ArrayLike, ulps: float = 100.0) -> None:
    """Assert that a matrix is orthogonal, or unitary when complex, up to rounding.

    Parameters
    ----------
    matrix : (d, d) real or complex
    ulps : float
        The largest error of an entry of RᴴR, in units of the dtype's machine epsilon. Rounding
        errors add up: a product of m factors deserves a multiple of m.

    Raises
    ------
    AssertionError
        Saying where it fails and by how much.

    Examples
    --------
    >>> assert_orthogonal([[0.6, -0.8], [0.8, 0.6]])
    >>> assert_orthogonal([[1.0, 0.5], [0.0, 1.0]])
    Traceback (most recent call last):
    ...
    AssertionError: not orthogonal: columns 0 and 1 have product 0.5 where 0 is due, \
off by 2.25e+15 ulps of float64 (100 allowed)
    """
    r = np.asarray(matrix)
    if r.ndim != 2 or r.shape[0] != r.shape[1]:
        raise AssertionError(f"not orthogonal: a matrix of shape {r.shape} is not square")
    if r.dtype.kind not in "fc":
        r = r.astype(float)
    wide = r.astype(np.result_type(r.dtype, np.float64))  # the check itself must round less
    product = np.conj(wide.T) @ wide
    error = np.abs(product - np.eye(len(r)))
    row, column = np.unravel_index(int(np.argmax(error)), error.shape)  # NaN counts as largest
    off = float(error[row, column] / np.finfo(r.dtype).eps)
    if not off <= ulps:
        who = f"column {row}" if row == column else f"columns {row} and {column}"
        squared = "has squared norm" if row == column else "have product"
        raise AssertionError(
            f"not orthogonal: {who} {squared} {product[row, column]:.6g} where"
            f" {int(row == column)} is due, off by {off:.3g} ulps of {r.dtype} ({ulps:g} allowed)"
        )


def assert_dense(net: Network) -> None:
    """Assert that every input of a network reaches every output.

    Raises
    ------
    AssertionError
        Naming an input and an output that are not connected, and how many such pairs there are.

    Examples
    --------
    >>> assert_dense(Network.of(2, [[[0, 1]]]))
    >>> assert_dense(Network.of(3, [[[0, 1]], [[1, 2]]]))
    Traceback (most recent call last):
    ...
    AssertionError: not dense: input 2 does not reach output 0; 1 of 9 pairs are not connected \
in Network(width=3, depth=2, parameters=2)
    """
    if is_dense(net):
        return
    deaf = np.argwhere(~reach(net))
    output, source = deaf[0].tolist()
    raise AssertionError(
        f"not dense: input {source} does not reach output {output}; {len(deaf)} of"
        f" {net.width**2} pairs are not connected in {net!r}"
    )


# How networks are drawn -----------------------------------------------------------------------


@st.composite
def _drawn(draw: st.DrawFn, max_width: int, max_depth: int, *, straight: bool) -> Network:
    width = draw(st.integers(1, max_width))
    wirings = st.permutations(range(width))
    sizes = st.lists(st.integers(1, width), max_size=width)
    depth = draw(st.integers(0, max_depth))
    stages = []
    for _ in range(depth):
        reads = draw(wirings)
        writes = reads if straight or not draw(st.booleans()) else draw(wirings)
        stages.append(_cut(width, reads, writes, draw(sizes)))
    return Network(width, stages)


def _cut(width: int, reads: list[int], writes: list[int], sizes: list[int]) -> Stage:
    """Cut both orders into switches of these sizes; a size of 1, or the rest, are bare wires."""
    banks: list[Bank] = []
    bare: list[int] = []
    first = 0
    for size, run in itertools.groupby(sizes):
        rows = []
        for _ in run:
            cut = range(first, min(first + size, width))
            first = cut.stop
            if len(cut) == size > 1:
                rows.append(cut)
            else:
                bare += cut
        if rows:
            banks.append(Bank(*([[side[k] for k in c] for c in rows] for side in (reads, writes))))
    bare += range(first, width)
    return Stage(width, banks, [[reads[k], writes[k]] for k in bare] or None)


# How families are drawn -----------------------------------------------------------------------


def _sampled(cases: dict[str, list[Case]]) -> st.SearchStrategy[Case]:
    # First the name, because some families have far more options than others. The one with most
    # members comes first: examples shrink to it, and among many there is a small one.
    names = st.sampled_from(sorted(cases, key=lambda name: (-len(cases[name]), name)))
    return names.flatmap(lambda name: st.sampled_from(cases[name]))


def _cases(max_width: int, max_depth: int) -> dict[str, list[Case]]:
    found = {e.name: _members(e, max_width, max_depth) for e in catalogue()}
    return {name: cases for name, cases in found.items() if cases}


@lru_cache(maxsize=256)
def _members(known: Entry, max_width: int, max_depth: int) -> list[Case]:
    """Return the members of one family, by width, that stay within these bounds."""
    cases = []
    for width in range(1, max_width + 1):
        for options in _options(known, width, max_depth):
            text = ", ".join(f"{key}={value!r}" for key, value in options.items())
            try:
                rule = parse(f"{known.name}({text})")
                if rule.takes(width) and ("depth" in options or rule(width).depth <= max_depth):
                    cases.append((rule, width))
            except StructmatError:  # options that exclude each other
                continue
    return cases


def _options(known: Entry, width: int, max_depth: int) -> Iterator[dict[str, Any]]:
    values: dict[str, list[Any]] = {
        "block": list(range(2, min(width, 8) + 1)),
        "depth": list(range(1, max_depth + 1)),
        "radices": list(factorizations(width)),
        "largest": [4],
        "reverse": [True],
        "rng": [0],
    }
    absent = object()
    choices = []
    for name, option in known.options.items():
        optional = option.default is not option.empty and name != "rng"  # unseeded: not repeatable
        choices.append([absent] * optional + values.get(name, []))
    for chosen in itertools.product(*choices):
        pairs = zip(known.options, chosen, strict=True)
        yield {name: value for name, value in pairs if value is not absent}
