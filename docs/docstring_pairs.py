"""Docstrings that are split in two, for the studies that measure forgetting by their retrieval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from structmat.finetune.docstring_task import LIBRARIES, docstrings, masked, opening, paragraphs
from structmat.finetune.task import Task

SHORTEST = 60  # characters of the rest of a docstring


class Pair(NamedTuple):
    """The beginning and the rest of a docstring."""

    begins: str
    goes_on: str


def continuations(kept: Mapping[str, Sequence[str]], task: Task) -> dict[str, dict[str, str]]:
    """Return the rest of each docstring by library and beginning.

    Beginnings are among the distinct ones, `kept`, and not among the texts of the task.
    """
    used = {example.text for part in (task.train, task.validation, task.test) for example in part}
    found: dict[str, dict[str, str]] = {}
    for label, beginnings in kept.items():
        free = set(beginnings) - used
        found[label] = {}
        for documentation in docstrings(LIBRARIES[label]):
            begin = opening(documentation)
            text = " ".join(paragraphs(documentation))
            rest = masked(text[len(begin) :].strip())
            if len(rest) >= SHORTEST and masked(begin) in free:
                found[label].setdefault(masked(begin), rest)
    return found
