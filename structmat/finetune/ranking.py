"""The ranking of methods by test accuracy: the best one, ties, and the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from structmat._util.text_table import counted
from structmat.finetune.significance import LEVEL, Correct, holm, paired


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
    """Return an accuracy with half the length of its confidence interval.

    Examples
    --------
    >>> plus_minus({"accuracy": 0.75, "interval": [0.7, 0.79]})
    '0.750 ± 0.045'
    """
    low, high = row["interval"]
    return f"{row['accuracy']:.3f} ± {(high - low) / 2:.3f}"


def headline(found: Mapping[str, Any]) -> list[str]:
    """Return the result of a comparison in a few sentences, the most important one first."""
    rows = {row["method"]: row for row in found["methods"]}
    ranked, name = found["ranking"], {key: row["label"] for key, row in rows.items()}
    if not rows:
        return ["No method has been trained."]
    if ranked is None or not ranked["pairs"]:
        lines = [f"{row['label']}: test accuracy {plus_minus(row)}." for row in rows.values()]
    elif ranked["winner"] is not None:
        top = ranked["winner"]
        largest = max(pair["adjusted_p"] for pair in ranked["pairs"] if pair["first"] == top)
        lines = [
            f"{name[top]} is the most accurate method: {plus_minus(rows[top])}"
            f" (p {_at_most(largest)} against each of the others)."
        ]
    else:
        tied = [rows[key] for key in ranked["tied"]]
        lines = [*_tied(tied), _cheapest(tied)]
        worse = [label for key, label in name.items() if key not in ranked["tied"]]
        if worse:
            lines.append(f"Significantly worse than {name[ranked['top']]}: {_listed(worse)}.")
    return lines + _baseline(found)


def _tied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    top, others = rows[0], [f"{row['label']} ({plus_minus(row)})" for row in rows[1:]]
    line = (
        f"Tie: the highest test accuracy, {plus_minus(top)} ({top['label']}), does not differ"
        " significantly from"
    )
    if len(others) == 1:
        return [f"{line} that of {others[0]}."]
    return [
        f"{line} those of {len(others)} other methods.",
        f"These are {_listed(others)}.",
    ]


def _cheapest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which of the tied methods has the fewest parameters, and which is the fastest."""
    least = min(row["trainable"] for row in rows)
    fewest = [row["label"] for row in rows if row["trainable"] == least]
    has = "has" if len(fewest) == 1 else "have"
    line = f"Of the tied methods, {_listed(fewest)} {has} the fewest parameters ({least:,})"
    if any(row["seconds_a_step"] is None for row in rows):
        return f"{line}."
    fastest = min(rows, key=lambda row: row["seconds_a_step"])
    subject = "" if fewest == [fastest["label"]] else f"{fastest['label']} "
    return f"{line} and {subject}takes the least time per step ({_time(fastest)})."


def _time(row: Mapping[str, Any]) -> str:
    seconds = row["seconds_a_step"]
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _baseline(found: Mapping[str, Any]) -> list[str]:
    """Return a warning if no method is better than always giving the most frequent label."""
    common = found["task"]["most_frequent"]
    if any(row["interval"][0] > common["share"] for row in found["methods"]):
        return []
    return [
        f"No method is significantly better than always answering {common['label']!r}, which is"
        f" right for {common['share']:.3f} of the test texts."
    ]


def _at_most(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"≤ {np.ceil(1000 * p) / 1000:.3f}"


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence; labels may contain commas, as in "torus, by hand"."""
    if len(names) < 3:
        return " and ".join(names)
    mark = "; " if any("," in name for name in names) else ", "
    return f"{mark.join(names[:-1])} and {names[-1]}"


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


def agreement_line(found: Mapping[str, Any]) -> str:
    """Return how many test texts all methods classify correctly, all wrongly, or differently."""
    counts = found["agreement"]
    total = sum(counts.values())
    return (
        f"Of {counted(total, 'test text')}, every method classifies {counts['right']:,} correctly,"
        f" and all give the same wrong answer to {counts['wrong']:,}; they disagree on"
        f" {counts['disagree']:,}."
    )
