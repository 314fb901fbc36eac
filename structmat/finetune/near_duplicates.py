"""Near-duplicate texts: groups of texts with almost the same words, and their removal."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

NEAR = 0.8  # Jaccard similarity of word sets from which texts count as near duplicates

_ROUNDING = 1e-9  # since 0.56 · 25 is slightly more than 14


def normalised(text: str) -> str:
    """Return the words of a text, without case, digits, punctuation or extra spaces.

    Examples
    --------
    >>> normalised("Return the 2-D  FFT.")
    'return the d fft'
    """
    return " ".join(_words(text))


def near_groups(texts: Sequence[str], *, near: float = NEAR) -> list[int]:
    """Return, for each text, the position of the first text in its group of near duplicates.

    Two texts are near duplicates if their word sets have a Jaccard similarity of at least `near`;
    groups are the connected components of this relation. Equal texts are a special case.

    Parameters
    ----------
    texts : sequence of str
    near : float
        A number in (0, 1].

    Examples
    --------
    >>> near_groups(["One two.", "three", "one  two"])
    [0, 1, 0]
    """
    return _components(len(texts), _near_pairs([_word_set(text) for text in texts], near))


class Distinct(NamedTuple):
    """The positions of the texts to keep, and the number of texts dropped for each reason."""

    kept: list[int]
    equal: int  # equal to an earlier text with the same label
    near: int  # near duplicates of a text that is kept
    contradictory: int  # near duplicates with several labels


def first_of_each(texts: Sequence[str], labels: Sequence[str], groups: Sequence[int]) -> Distinct:
    """Keep the first text of each group, but none if the group has several labels.

    Examples
    --------
    >>> texts = ["One two.", "one  two", "One two.", "same", "same", "three"]
    >>> first_of_each(texts, ["a", "a", "a", "a", "b", "b"], near_groups(texts))
    Distinct(kept=[0, 5], equal=1, near=1, contradictory=2)
    """
    names: dict[int, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        names[group].add(label)
    kept: list[int] = []
    seen: set[str] = set()
    equal = contradictory = 0
    for position, (text, group) in enumerate(zip(texts, groups, strict=True)):
        if len(names[group]) > 1:
            contradictory += 1
        elif group == position:
            kept.append(position)
        else:
            equal += text in seen
        seen.add(text)
    return Distinct(kept, equal, len(texts) - len(kept) - equal - contradictory, contradictory)


def distinct(texts: Mapping[str, Iterable[str]], *, near: float = NEAR) -> dict[str, list[str]]:
    """Keep one text from each group of near duplicates, but none if the group has several labels.

    Parameters
    ----------
    texts : label → texts
    near : float
        The similarity of near duplicates, in (0, 1]; see `near_groups`.

    Returns
    -------
    label → texts
        The first text of each group, in the given order.

    Examples
    --------
    >>> distinct({"a": ["One two.", "one  two", "same here"], "b": ["Same here!", "three"]})
    {'a': ['One two.'], 'b': ['three']}
    """
    rows = [(text, label) for label, group in texts.items() for text in group]
    flat, labels = [text for text, _ in rows], [label for _, label in rows]
    kept: dict[str, list[str]] = {label: [] for label in texts}
    for position in first_of_each(flat, labels, near_groups(flat, near=near)).kept:
        kept[labels[position]].append(flat[position])
    return kept


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _word_set(text: str) -> frozenset[str]:
    """Return the set of words; a text without words, such as a number, counts as one word."""
    return frozenset(_words(text)) or frozenset([text.strip()])


def _near_pairs(sets: Sequence[frozenset[str]], near: float) -> Iterable[tuple[int, int]]:
    # Prefix filtering (Chaudhuri, Ganti, Kaushik 2006): sets that overlap by `near` share one of
    # the first n − ⌈near·n⌉ + 1 words in a common order, rarest first, so few pairs are compared.
    count = Counter(chain.from_iterable(sets))
    holders: dict[str, list[int]] = defaultdict(list)
    for position, words in enumerate(sets):
        order = sorted(words, key=lambda word: (count[word], word))
        prefix = order[: len(order) - math.ceil(near * len(order) - _ROUNDING) + 1]
        for other in {other for word in prefix for other in holders[word]}:
            shared = len(words & sets[other])
            if shared >= near * (len(words) + len(sets[other]) - shared) - _ROUNDING:
                yield other, position
        for word in prefix:
            holders[word].append(position)


def _components(size: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return, for each of `size` items, the smallest item in its connected component."""
    parent = list(range(size))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return [root(item) for item in range(size)]
