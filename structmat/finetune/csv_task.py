"""A task read from a CSV file with a column of texts and a column of labels."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from structmat._util.text_table import counted
from structmat.errors import FileError, abbreviated, suggest
from structmat.finetune.task import NEAR, Task, deduplicated, stratified

_LISTED = 5  # maximum number of labels listed in a note
_NEARLY = f"at least {round(100 * NEAR)} % of the words in common"
FEWEST = 10  # minimum number of distinct texts in a class, so that each part gets some


def csv_task(path: str | Path, *, text: str, label: str, seed: int = 0) -> Task:
    """Read a task from a UTF-8 CSV file whose first row contains the column names.

    Of several near-duplicate texts only one is kept, and none if their labels differ, so that no
    test text occurs in training. Rows without text or label, rows with more fields than columns,
    and labels with too few distinct texts are also dropped. The notes of the task list the numbers
    of dropped rows and the reasons. Each class is split 70 : 10 : 20 into the three parts.

    Parameters
    ----------
    path : str or Path
    text, label : str
        The names of the two columns.
    seed : int
        The seed of the split.

    Raises
    ------
    FileError
        If the file cannot be read, a column is missing, or fewer than two classes with enough
        distinct texts are left; the message lists the dropped rows and labels.
    """
    path = Path(path)
    texts, dropped = _read(path, text, label)
    found = deduplicated(texts)
    dropped[f"whose text repeats another text with the same label ({_NEARLY})"] = found.repeated
    dropped[f"whose text has several labels ({_NEARLY})"] = found.contradictory
    notes = [f"dropped {counted(n, 'row')} {why}" for why, n in dropped.items() if n]
    rare = {name: len(group) for name, group in found.kept.items() if len(group) < FEWEST}
    if rare:
        listed = ", ".join(f"{abbreviated(name)} ({n})" for name, n in list(rare.items())[:_LISTED])
        more = f" and {len(rare) - _LISTED:,} more" if len(rare) > _LISTED else ""
        notes.append(
            f"dropped {counted(len(rare), 'label')} with fewer than {FEWEST} distinct texts,"
            f" which training, validation and test need: {listed}{more}"
        )
    kept = {name: group for name, group in found.kept.items() if name not in rare}
    if len(kept) < 2:
        why = "".join(f"; {note}" for note in notes)
        raise FileError(
            f"{path}: column {abbreviated(label)} has {counted(len(kept), 'class', 'classes')}; at"
            f" least two are needed{why}"
        )
    notes += [f"{name}: {len(texts[name])} texts, {len(kept[name])} distinct" for name in kept]
    return stratified(path.stem, kept, seed=seed, notes=notes)


def _read(path: Path, text: str, label: str) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return the texts of each label, and the number of rows dropped for each reason."""
    texts: dict[str, list[str]] = {}
    dropped: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for column in (text, label):
                _check_column(path, column, list(reader.fieldnames or ()))
            for row in reader:
                words, name = ((row[column] or "").strip() for column in (text, label))
                if None in row:
                    dropped["with more fields than columns; quotes may be missing"] += 1
                elif not words or not name:
                    empty = text if not words else label
                    dropped[f"whose column {empty!r} is empty"] += 1
                else:
                    texts.setdefault(name, []).append(words)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileError(f"{path} is not in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise FileError(f"{path} is not a CSV file ({error})") from None
    return dict(sorted(texts.items())), dropped


def _check_column(path: Path, column: str, columns: list[str]) -> None:
    if not columns:
        raise FileError(f"{path}: the file is empty; its first row must contain the column names")
    if columns.count(column) != 1:
        problem = "several columns" if column in columns else "no column"
        raise FileError(f"{path}: {problem} {abbreviated(column)}{suggest(column, columns)}")
