"""Classification tasks: distinct texts, split and balanced reproducibly."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from structmat.errors import FileError

NEAR = 0.8  # Jaccard similarity of word sets from which texts count as near duplicates

_ROUNDING = 1e-9  # since 0.7 · 10 is slightly more than 7


class Example(NamedTuple):
    """A text and the index of its label."""

    text: str
    label: int


@dataclass(frozen=True)
class Task:
    """A text classification task, with three parts that share no text.

    Parameters
    ----------
    name : str
    labels : tuple of str
    train, validation, test : tuple of Example
        The parts, in an order that depends only on the seed and the texts.
    notes : tuple of str
        Notes about the texts, such as the numbers of dropped ones.
    """

    name: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of texts in each part."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of all labels and texts in order, which identifies the task."""
        digest = hashlib.sha256()
        for word in chain(self.labels, ("",)):
            digest.update(word.encode() + b"\0")
        for part in (self.train, self.validation, self.test):
            for text, label in part:
                digest.update(f"{label}\0{text}\0".encode())
            digest.update(b"\1")
        return digest.hexdigest()[:16]

    def first(self, *, train: int, validation: int, test: int) -> Task:
        """Return the task with at most the given number of texts in each part.

        The parts are shortened class by class, so that balanced parts stay balanced. At least one
        text of each class is kept, even if this exceeds the given number.
        """
        return Task(
            self.name,
            self.labels,
            _cut(self.train, train, len(self.labels)),
            _cut(self.validation, validation, len(self.labels)),
            _cut(self.test, test, len(self.labels)),
            self.notes,
        )


def normalised(text: str) -> str:
    """Return the words of a text, without case, digits, punctuation or extra spaces.

    Examples
    --------
    >>> normalised("Return the 2-D  FFT.")
    'return the d fft'
    """
    return " ".join(_words(text))


def distinct(texts: Mapping[str, Iterable[str]], *, near: float = NEAR) -> dict[str, list[str]]:
    """Keep one text from each group of near duplicates, but none if the group has several labels.

    Two texts are near duplicates if their word sets have a Jaccard similarity of at least `near`;
    groups are the connected components of this relation. Equal texts are a special case.

    Parameters
    ----------
    texts : label → texts
    near : float
        A number in (0, 1].

    Returns
    -------
    label → texts
        The first text of each group, in the given order.

    Examples
    --------
    >>> distinct({"a": ["One two.", "one  two", "same here"], "b": ["Same here!", "three"]})
    {'a': ['One two.'], 'b': ['three']}
    """
    return deduplicated(texts, near=near).kept


class Deduplicated(NamedTuple):
    """The texts that `distinct` keeps, and the number of texts dropped for each reason."""

    kept: dict[str, list[str]]
    repeated: int  # near duplicates of a text that is kept
    contradictory: int  # near duplicates with several labels


def deduplicated(texts: Mapping[str, Iterable[str]], *, near: float = NEAR) -> Deduplicated:
    """Return the texts that `distinct` keeps, and the numbers of dropped texts.

    Examples
    --------
    >>> deduplicated({"a": ["One two.", "one  two", "same here"], "b": ["Same here!", "three"]})
    Deduplicated(kept={'a': ['One two.'], 'b': ['three']}, repeated=1, contradictory=2)
    """
    labels = [label for label, group in texts.items() for _ in group]
    flat = [text for group in texts.values() for text in group]
    groups = _components(len(flat), _near_pairs([_word_set(t) for t in flat], near))
    seen: dict[int, set[str]] = defaultdict(set)
    for root, label in zip(groups, labels, strict=True):
        seen[root].add(label)
    kept: dict[str, list[str]] = {label: [] for label in texts}
    contradictory = sum(len(seen[root]) > 1 for root in groups)
    for position, (root, text, label) in enumerate(zip(groups, flat, labels, strict=True)):
        if root == position and len(seen[root]) == 1:
            kept[label].append(text)
    left = sum(map(len, kept.values()))
    return Deduplicated(kept, len(flat) - left - contradictory, contradictory)


def balanced(
    name: str,
    texts: Mapping[str, Sequence[str]],
    *,
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Task:
    """Split distinct texts into three parts with given numbers of texts from every class.

    Texts are sorted by a hash of the seed and the text, so that adding or removing a text does not
    reorder the others.

    Raises
    ------
    FileError
        If a class has too few texts.
    """
    need = train + validation + test
    parts: tuple[list[list[Example]], ...] = ([], [], [])
    for label, (key, group) in enumerate(texts.items()):
        if len(group) < need:
            raise FileError(f"{key} has {len(group)} distinct texts; each class needs {need}")
        order = sorted(group, key=lambda text: _rank(text, seed))
        examples = [Example(text, label) for text in order[:need]]
        parts[0].append(examples[:train])
        parts[1].append(examples[train : train + validation])
        parts[2].append(examples[train + validation :])
    mixed = [tuple(sorted(chain(*part), key=lambda e: _rank(e.text, seed))) for part in parts]
    return Task(name, tuple(texts), mixed[0], mixed[1], mixed[2], tuple(notes))


def stratified(
    name: str,
    texts: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Task:
    """Split distinct texts 70 : 10 : 20, class by class, with at least one per class in each part.

    Each class needs at least three texts. Texts are sorted by a hash of the seed and the text, as
    in `balanced`.
    """
    parts: tuple[list[Example], ...] = ([], [], [])
    for label, group in enumerate(texts.values()):
        order = [Example(t, label) for t in sorted(group, key=lambda text: _rank(text, seed))]
        validation = max(1, round(0.1 * len(order)))
        test = max(1, round(0.2 * len(order)))
        train = len(order) - validation - test
        parts[0].extend(order[:train])
        parts[1].extend(order[train : train + validation])
        parts[2].extend(order[train + validation :])
    mixed = [tuple(sorted(part, key=lambda e: _rank(e.text, seed))) for part in parts]
    return Task(name, tuple(texts), mixed[0], mixed[1], mixed[2], tuple(notes))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _word_set(text: str) -> frozenset[str]:
    """Return the set of words; a text without words, such as a number, counts as one word."""
    return frozenset(_words(text)) or frozenset([text.strip()])


def _rank(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _cut(part: Sequence[Example], size: int, classes: int) -> tuple[Example, ...]:
    room = Counter({label: max(1, size // classes) for label in range(classes)})
    kept = []
    for example in part:
        if room[example.label] > 0:
            room[example.label] -= 1
            kept.append(example)
    return tuple(kept)


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
