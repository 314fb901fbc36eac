"""Classification tasks: distinct texts, split and balanced reproducibly."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple, TypeVar

from structmat.errors import FileError
from structmat.finetune.near_duplicates import near_groups

Label = TypeVar("Label", bound=Hashable)


class Example(NamedTuple):
    """A text and the index of its label."""

    text: str
    label: int


class Dropped(NamedTuple):
    """A number of rows that a task does not contain, the reason, and the remedy for the user."""

    rows: int
    reason: str
    remedy: str


class Selection(NamedTuple):
    """The rows of the file from which a task was read.

    `rows` is the number of all rows, `classes` contains the number of rows with each label of the
    task, and `dropped` the numbers of rows that the task does not contain.
    """

    rows: int
    classes: tuple[int, ...]
    dropped: tuple[Dropped, ...]


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
        Notes about the texts.
    selection : Selection, optional
        For a task read from a file: the numbers of the file's rows and of those dropped.
    """

    name: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    selection: Selection | None = None

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

    @property
    def test_groups(self) -> list[int]:
        """The group of near duplicates of each test text, as returned by `near_groups`."""
        return near_groups([example.text for example in self.test])

    def first(self, *, train: int, validation: int, test: int) -> Task:
        """Return the task with at most the given number of texts in each part.

        The parts are shortened class by class, so that balanced parts stay balanced. At least one
        text of each class is kept, even if this exceeds the given number.
        """
        return replace(
            self,
            train=_cut(self.train, train, len(self.labels)),
            validation=_cut(self.validation, validation, len(self.labels)),
            test=_cut(self.test, test, len(self.labels)),
        )


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
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[int],
    *,
    seed: int = 0,
) -> Task:
    """Split texts about 70 : 10 : 20, class by class, with each group in a single part.

    A group belongs to the class of its most frequent label. Every class needs at least three
    groups, and each part gets at least one. Groups are ordered by a hash of the seed and their
    first text, so the split does not depend on the order of the groups. A group with more texts
    than fit into the test or the validation part is used for training.

    Parameters
    ----------
    name : str
    texts, labels : sequence of str
    groups : sequence of int
        A number for each text; texts with equal numbers are never separated.
    seed : int

    Raises
    ------
    FileError
        If a class has too few groups.
    """
    names = tuple(sorted(set(labels)))
    number = {label: index for index, label in enumerate(names)}
    inside: dict[int, list[Example]] = defaultdict(list)
    for text, label, group in zip(texts, labels, groups, strict=True):
        inside[group].append(Example(text, number[label]))
    classes: list[list[list[Example]]] = [[] for _ in names]
    for members in inside.values():
        classes[usual(example.label for example in members)].append(members)
    parts: tuple[list[Example], ...] = ([], [], [])
    for label, mine in zip(names, classes, strict=True):
        if len(mine) < 3:
            raise FileError(f"{label} has {len(mine)} distinct texts; each class needs 3")
        for part, split in zip(parts, _split(mine, seed), strict=True):
            part.extend(chain.from_iterable(split))
    mixed = [tuple(sorted(part, key=lambda e: _rank(e.text, seed))) for part in parts]
    return Task(name, names, mixed[0], mixed[1], mixed[2])


def usual(labels: Iterable[Label]) -> Label:
    """Return the most frequent label; of equally frequent ones, the first.

    Examples
    --------
    >>> usual("abbca"), usual("ab")
    ('a', 'a')
    """
    return Counter(labels).most_common(1)[0][0]


def _split(groups: Sequence[list[Example]], seed: int) -> tuple[list[list[Example]], ...]:
    """Split the groups of a class into training, validation and test."""
    texts = sum(map(len, groups))
    room = [max(1, round(0.1 * texts)), max(1, round(0.2 * texts))]  # validation and test
    parts: tuple[list[list[Example]], ...] = ([], [], [])
    for group in sorted(groups, key=lambda group: _rank(group[0].text, seed)):
        fitting = next((k for k in (1, 0) if len(group) <= room[k]), None)
        if fitting is None:
            parts[0].append(group)
        else:
            room[fitting] -= len(group)
            parts[fitting + 1].append(group)
    for part in parts:
        if not part:  # for example, if all groups are large
            largest = max(parts, key=len)
            part.append(largest.pop(min(range(len(largest)), key=lambda k: len(largest[k]))))
    return parts


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
