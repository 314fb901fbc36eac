"""A task read from a CSV file with a column of texts and a column of labels."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from structmat._util.text_location import quoted, undecodable
from structmat._util.text_table import counted
from structmat.errors import FileError, abbreviated, suggest
from structmat.finetune.near_duplicates import NEAR, first_of_each, near_groups
from structmat.finetune.task import Dropped, Selection, Task, stratified, usual

_LISTED = 5  # maximum number of labels listed in a note
_KEEP = "--keep-duplicates keeps them"
_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # of some spreadsheet programs, instead of commas
_NEARLY = f"{round(100 * NEAR)} % of the words in common, ignoring numbers"
# The reasons for dropping the texts that `first_of_each` counts, and the remedies.
_DUPLICATES = (
    ("duplicates", _KEEP),
    (f"near duplicates ({_NEARLY})", _KEEP),
    ("near duplicates with several labels", "correct the labels, or --keep-duplicates"),
)

FEWEST = 10  # minimum number of distinct texts in a class, so that each part gets some


def csv_task(
    path: str | Path, *, text: str, label: str, keep_duplicates: bool = False, seed: int = 0
) -> Task:
    """Read a task from a UTF-8 CSV file whose first row contains the column names.

    Of several near-duplicate texts only one is used, and none if their labels differ, so that no
    test text has a near duplicate in training. Rows without text or label, rows with more fields
    than columns, and classes with fewer than ten distinct texts are also dropped. `Task.selection`
    contains the numbers of dropped rows, the reasons and the remedies. Each class is split about
    70 : 10 : 20 into the three parts.

    Parameters
    ----------
    path : str or Path
    text, label : str
        The names of the two columns.
    keep_duplicates : bool
        Whether to use all near duplicates, whatever their labels. All texts of a group are then in
        the same part, so no test text has a near duplicate in training.
    seed : int
        The seed of the split.

    Raises
    ------
    FileError
        If the file cannot be read, a column is missing, or fewer than two classes with enough
        distinct texts are left; the message states how many rows each rule drops.
    """
    path = Path(path)
    texts, labels, dropped = _read(path, text, label)
    rows = len(texts) + sum(each.rows for each in dropped)
    groups = near_groups(texts)
    used = list(range(len(texts)))
    if not keep_duplicates:
        used, *counts = first_of_each(texts, labels, groups)
        dropped += [Dropped(n, *why) for n, why in zip(counts, _DUPLICATES, strict=True)]
    distinct: dict[str, set[int]] = {name: set() for name in labels}
    members: dict[int, list[str]] = defaultdict(list)
    for position in used:
        members[groups[position]].append(labels[position])
    for group, names in members.items():
        distinct[usual(names)].add(group)
    rare = {name: len(some) for name, some in distinct.items() if len(some) < FEWEST}
    small = sum(labels[position] in rare for position in used)
    dropped.append(Dropped(small, *_small(rare)))
    used = [position for position in used if labels[position] not in rare]
    dropped = [each for each in dropped if each.rows]
    left = len(distinct) - len(rare)
    if left < 2:
        raise FileError(
            f"{path}: column {abbreviated(label)} has {counted(left, 'class', 'classes')} with at"
            f" least {FEWEST} distinct texts; at least two are needed{_why(rows, dropped)}"
        )
    task = stratified(
        path.stem,
        [texts[position] for position in used],
        [labels[position] for position in used],
        [groups[position] for position in used],
        seed=seed,
    )
    count = Counter(labels)
    classes = tuple(count[name] for name in task.labels)
    return replace(task, selection=Selection(rows, classes, tuple(dropped)))


def _small(rare: dict[str, int]) -> tuple[str, str]:
    listed = ", ".join(f"{abbreviated(name)} ({n})" for name, n in list(rare.items())[:_LISTED])
    more = f" and {len(rare) - _LISTED:,} more" if len(rare) > _LISTED else ""
    return (
        f"in {counted(len(rare), 'class', 'classes')} with fewer than {FEWEST} distinct texts:"
        f" {listed}{more}",
        "add texts, or merge classes",
    )


def _why(rows: int, dropped: Sequence[Dropped]) -> str:
    if not rows:
        return "; the file has no rows"
    listed = "; ".join(f"{each.rows:,} {each.reason} ({each.remedy})" for each in dropped)
    return f". Of {counted(rows, 'row')}, these were dropped: {listed}" if dropped else ""


def _read(path: Path, text: str, label: str) -> tuple[list[str], list[str], list[Dropped]]:
    """Return the texts and labels of the complete rows, and the numbers of other rows."""
    texts, labels = [], []
    dropped: Counter[tuple[str, str]] = Counter()
    begin = 0  # the number of lines before the row that is read
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for column in (text, label):
                _check_column(path, column, list(reader.fieldnames or ()))
            begin = reader.line_num
            for row in reader:
                begin = reader.line_num
                words, name = ((row[column] or "").strip() for column in (text, label))
                if None in row:
                    dropped["with more fields than columns", "quote texts with commas"] += 1
                elif not words or not name:
                    what, empty = ("text", text) if not words else ("label", label)
                    dropped[f"without {what}", f"fill in the column {empty!r}"] += 1
                else:
                    texts.append(words)
                    labels.append(name)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        where = undecodable(path.read_bytes())
        raise FileError(f"{path} is not in UTF-8 in {where}; save it as CSV in UTF-8") from None
    except csv.Error as error:
        where = quoted(path.read_text("utf-8-sig"), begin + 1)
        raise FileError(f"{path} is not a CSV file ({error} in the row of {where})") from None
    return texts, labels, [Dropped(n, *why) for why, n in dropped.items()]


def _check_column(path: Path, column: str, columns: list[str]) -> None:
    if not columns:
        raise FileError(f"{path}: the file is empty; its first row must contain the column names")
    if columns.count(column) != 1:
        other = next((name for mark, name in _SEPARATORS.items() if mark in columns[0]), None)
        if other and len(columns) == 1:
            raise FileError(
                f"{path}: no column {abbreviated(column)}; the columns seem to be separated by"
                f" {other}; save the file with commas"
            )
        problem = "several columns" if column in columns else "no column"
        raise FileError(f"{path}: {problem} {abbreviated(column)}{suggest(column, columns)}")
