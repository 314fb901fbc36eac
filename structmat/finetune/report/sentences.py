"""Sentences that state the results, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from structmat._util.text_table import counted
from structmat.finetune.report.method_ranking import plus_minus


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
    return "< 0.001" if p < 0.001 else f"≤ {math.ceil(1000 * p) / 1000:.3f}"


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence; labels may contain commas, as in "torus, by hand"."""
    if len(names) < 3:
        return " and ".join(names)
    mark = "; " if any("," in name for name in names) else ", "
    return f"{mark.join(names[:-1])} and {names[-1]}"


def uncertainty(found: Mapping[str, Any]) -> str:
    """Return how the intervals and ties were determined."""
    several = found["seeds"] > 1
    if several:
        spread = (
            "± is half the width of a 95 % confidence interval for the mean over"
            f" {found['seeds']} seeds; it accounts for the choice of test texts and of seeds."
        )
    else:
        spread = (
            "± is half the width of a 95 % confidence interval (Wilson), which accounts for the"
            " choice of test texts. With one seed, it ignores differences between training runs;"
            " use --seeds 3."
        )
    ranked = found["ranking"]
    if ranked is None or not ranked["pairs"]:
        return spread
    count = len(ranked["pairs"])
    corrected = f", with Holm’s correction for {count} comparisons" if count > 1 else ""
    return (
        f"{spread} Methods tie if their answers to the same test texts do not differ significantly"
        f" ({ranked['test']}, 5 % level{corrected})."
    )


def rates_line(found: Mapping[str, Any]) -> str:
    """Return how the learning rates were found."""
    search = found["search"]
    if search is not None:
        sizes, epochs = search["sizes"], search["hyperparameters"]["epochs"]
        return (
            f"Learning rates: each method was trained with {len(search['grid'])} rates (--tune) on"
            f" {counted(sizes['train'], 'training text')} for {counted(epochs, 'epoch')}, with one"
            " seed; the rate with the highest accuracy on"
            f" {counted(sizes['validation'], 'validation text')} was selected, or the smallest of"
            " several. Test texts were not used."
        )
    if found["methods"][0]["rate_source"] == "given":
        return "Learning rates: --rate, the same for all methods."
    return (
        "Learning rates: the default of each method, not adapted to this task; --tune searches for"
        " rates, and --rate sets one for all methods."
    )


def agreement_line(found: Mapping[str, Any]) -> str:
    """Return how many test texts all methods classify correctly, all wrongly, or differently."""
    counts = found["agreement"]
    total = sum(counts.values())
    return (
        f"Of {counted(total, 'test text')}, every method classifies {counts['right']:,} correctly,"
        f" and all give the same wrong answer to {counts['wrong']:,}; they disagree on"
        f" {counts['disagree']:,}."
    )
