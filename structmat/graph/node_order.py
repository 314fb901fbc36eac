"""An order of the nodes of a graph that is independent of how the graph was built."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any


def in_order(nodes: Iterable[Any]) -> list[Any]:
    """Sort hashable objects: by `<` if it orders them all, and otherwise by kind and value.

    Numbers come first, then strings, then tuples and frozensets by their elements, then other
    objects by type name and repr. Objects with the same repr, or with a memory address in their
    repr, come last, in the given order.

    Examples
    --------
    >>> in_order(["b", 2, "a", (1, "b"), (1, 0), 1.5])
    [1.5, 2, 'a', 'b', (1, 0), (1, 'b')]
    >>> [sorted(node) for node in in_order([frozenset("b"), frozenset("ab"), frozenset("a")])]
    [['a'], ['a', 'b'], ['b']]
    """
    given = list(nodes)
    try:
        ordered = sorted(given)
        if all(a < b for a, b in pairwise(ordered)):  # `<` on sets is only a partial order
            return ordered
    except (TypeError, ValueError):
        pass
    keyed = [(_key(node), node) for node in given]
    common = {key for key, count in Counter(key for key, _ in keyed).items() if count > 1}
    sortable = [(key, node) for key, node in keyed if key not in common and _is_reproducible(key)]
    others = [node for key, node in keyed if key in common or not _is_reproducible(key)]
    return [node for _, node in sorted(sortable, key=lambda pair: pair[0])] + others


def _key(node: Any) -> tuple[Any, ...]:
    """Return the rank of the node's kind, and the value that orders nodes of this kind."""
    if isinstance(node, numbers.Real) and node == node:
        return 0, node
    if isinstance(node, str):
        return 1, str(node)
    if isinstance(node, tuple):
        return 2, tuple(map(_key, node))
    if isinstance(node, frozenset):
        return 3, tuple(sorted(map(_key, node)))
    return 4, type(node).__qualname__, repr(node)


def _is_reproducible(key: tuple[Any, ...]) -> bool:
    """Return whether a key is the same in every run, that is, contains no memory address."""
    if key[0] in (2, 3):
        return all(map(_is_reproducible, key[1]))
    return key[0] != 4 or " at 0x" not in key[2]
