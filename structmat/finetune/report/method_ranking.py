"""The ranking of methods by test accuracy: the best one, and those that tie with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from structmat.finetune.report.significance import LEVEL, Correct, holm, paired


def ranking(correct: Mapping[str, Correct], groups: Sequence[int]) -> dict[str, Any]:
    """Compare all pairs of methods, and return the ranking as a JSON-serialisable dict.

    Methods tie if the test of the difference between their accuracies is not significant, after
    Holm's correction for the number of pairs. The winner is the method that is significantly better
    than every other one, if there is one.

    Parameters
    ----------
    correct : mapping from method to a (seeds, texts) array of bool
        Whether each answer is right; at least one method.
    groups : sequence of int
        The group of near duplicates of each text.

    Returns
    -------
    dict
        With the keys level, test, pairs, top (the method with the highest accuracy), tied (the
        methods that tie with it, including itself) and winner (or None). In a pair, the first
        method has the higher accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> right = {"a": np.array([[True] * 40]), "b": np.array([[True] * 39 + [False]])}
    >>> found = ranking(right, range(40))
    >>> found["top"], found["winner"], found["tied"]
    ('a', None, ['a', 'b'])
    """
    order = sorted(correct, key=lambda name: -correct[name].mean())
    pairs = [(a, b, paired(correct[a], correct[b], groups)) for a, b in combinations(order, 2)]
    adjusted = holm([found.p for *_, found in pairs])
    rows = [
        {"first": a, "second": b, **found._asdict(), "adjusted_p": p}
        for (a, b, found), p in zip(pairs, adjusted, strict=True)
    ]
    top = order[0]
    worse = {row["second"] for row in rows if row["first"] == top and row["adjusted_p"] <= LEVEL}
    return {
        "level": LEVEL,
        "test": _test(seeds=len(correct[top]), grouped=len(set(groups)) < len(groups)),
        "correction": "Holm",
        "pairs": rows,
        "top": top,
        "tied": [name for name in order if name not in worse],
        "winner": top if len(order) > 1 and len(worse) == len(order) - 1 else None,
    }


def _test(*, seeds: int, grouped: bool) -> str:
    if seeds > 1:
        return "t test over texts and seeds"
    return "exact permutation test of groups" if grouped else "exact McNemar test"


def verdict(ranked: Mapping[str, Any] | None, method: str) -> str:
    """Return "best", "tie" or "worse" for a method, or "" without a comparison.

    Examples
    --------
    >>> verdict({"winner": None, "tied": ["a", "b"], "pairs": [1]}, "b"), verdict(None, "b")
    ('tie', '')
    """
    if ranked is None or not ranked["pairs"]:
        return ""
    if method == ranked["winner"]:
        return "best"
    return "tie" if method in ranked["tied"] else "worse"


def plus_minus(row: Mapping[str, Any]) -> str:
    """Return an accuracy with half the width of its confidence interval.

    Examples
    --------
    >>> plus_minus({"accuracy": 0.75, "interval": [0.7, 0.79]})
    '0.750 ± 0.045'
    """
    low, high = row["interval"]
    return f"{row['accuracy']:.3f} ± {(high - low) / 2:.3f}"


def differences(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of a table that compares every method with the most accurate one."""
    name = {row["method"]: row["label"] for row in found["methods"]}
    ranked = found["ranking"]
    return [
        (
            name[pair["second"]],
            _signed(-pair["difference"]),
            f"{_signed(-pair['high'])} to {_signed(-pair['low'])}",
            f"{pair['second_only']:,} : {pair['first_only']:,}",
            "< 0.001" if pair["adjusted_p"] < 0.001 else f"{pair['adjusted_p']:.3f}",
            verdict(ranked, pair["second"]),
        )
        for pair in ranked["pairs"]
        if pair["first"] == ranked["top"]
    ]


DIFFERENCES = ("method", "difference", "95 % interval", "right alone", "adjusted p", "result")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"
