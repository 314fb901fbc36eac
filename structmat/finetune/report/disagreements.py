"""Test texts on which methods disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from structmat.finetune.task import Example, usual

SHOWN = 8  # number of examples in a report

Answers = Mapping[str, Sequence[Sequence[int]]]  # method → seed → text → label


def agreement(test: Sequence[Example], answers: Answers) -> dict[str, int]:
    """Return the number of texts on which all methods are right, all are wrong, or they disagree.

    The answer of a method is the label that it gives with the most seeds or, in a tie, the tied
    label that it gives first. Different wrong answers are a disagreement.

    Examples
    --------
    >>> agreement([Example("x", 0), Example("y", 1)], {"a": [[0, 1]], "b": [[0, 0]]})
    {'right': 1, 'wrong': 0, 'disagree': 1}
    """
    counts = dict.fromkeys(("right", "wrong", "disagree"), 0)
    for place, (_, label) in enumerate(test):
        given = set(_answers(answers, place).values())
        counts["disagree" if len(given) > 1 else "right" if label in given else "wrong"] += 1
    return counts


def disagreements(
    test: Sequence[Example],
    labels: Sequence[str],
    answers: Answers,
    groups: Sequence[int],
    *,
    shown: int = SHOWN,
) -> list[dict[str, Any]]:
    """Return the texts on which the methods disagree most, as JSON-serialisable dicts.

    Texts for which the numbers of right and wrong methods are closest come first. The labels take
    turns, so frequent labels do not displace the others. Of near duplicates, only one is returned.

    Examples
    --------
    >>> test = [Example("x", 0), Example("y", 1)]
    >>> disagreements(test, ["no", "yes"], {"a": [[0, 1]], "b": [[0, 0]]}, [0, 1])
    [{'text': 'y', 'label': 'yes', 'answers': {'a': 'yes', 'b': 'no'}}]
    """
    found: dict[int, list[tuple[float, int]]] = {label: [] for label in range(len(labels))}
    for place, (_, label) in enumerate(test):
        given = list(_answers(answers, place).values())
        if len(set(given)) > 1:
            right = given.count(label) / len(given)
            found[label].append((abs(right - 0.5), place))
    turns = [
        (turn, distance, place)
        for some in found.values()
        for turn, (distance, place) in enumerate(sorted(some))
    ]
    places: list[int] = []
    used: set[int] = set()
    for *_, place in sorted(turns):
        if groups[place] not in used and len(places) < shown:
            used.add(groups[place])
            places.append(place)
    return [
        {
            "text": test[place].text,
            "label": labels[test[place].label],
            "answers": {name: labels[k] for name, k in _answers(answers, place).items()},
        }
        for place in places
    ]


def by_answer(example: Mapping[str, Any]) -> list[tuple[str, bool, list[str]]]:
    """Return the answers to an example, the right one first: label, whether right, the methods.

    Examples
    --------
    >>> by_answer({"label": "yes", "answers": {"a": "no", "b": "yes", "c": "no"}})
    [('yes', True, ['b']), ('no', False, ['a', 'c'])]
    """
    count = Counter(example["answers"].values())
    order = sorted(count, key=lambda answer: (answer != example["label"], -count[answer]))
    return [
        (
            answer,
            answer == example["label"],
            [name for name, given in example["answers"].items() if given == answer],
        )
        for answer in order
    ]


def _answers(answers: Answers, place: int) -> dict[str, int]:
    return {name: usual(seed[place] for seed in seeds) for name, seeds in answers.items()}
