"""A task from a CSV file with a column of texts and one of labels."""

from __future__ import annotations

import csv
from pathlib import Path

from structmat.errors import FileError, suggest
from structmat.finetune.task import Task, distinct, stratified

FEWEST = 10  # distinct texts that a class needs, so that each part gets some


def csv_task(path: str | Path, *, text: str, label: str, seed: int = 0) -> Task:
    """Read a task from a CSV file in UTF-8 whose first row names the columns.

    Near-duplicate texts count once, and not at all where their labels differ, so no test text
    was trained on. The parts are split 70 : 10 : 20, class by class.

    Parameters
    ----------
    path : str or Path
    text, label : str
        The names of the two columns.
    seed : int
        Of the split.

    Raises
    ------
    FileError
        For a file that cannot be read, a column that is not there, a row without text or label,
        fewer than two classes, or a class with too few distinct texts.
    """
    path = Path(path)
    texts = _read(path, text, label)
    if len(texts) < 2:
        raise FileError(f"{path}: {len(texts)} class(es) in column {label!r}; two are needed")
    kept = distinct(texts)
    for name, group in kept.items():
        if len(group) < FEWEST:
            raise FileError(
                f"{path}: class {name!r} has {len(group)} distinct texts of {len(texts[name])};"
                f" every class needs {FEWEST}"
            )
    notes = [f"{name}: {len(texts[name])} texts, {len(kept[name])} distinct" for name in kept]
    return stratified(path.stem, kept, seed=seed, notes=notes)


def _read(path: Path, text: str, label: str) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for column in (text, label):
                _check_column(path, column, list(reader.fieldnames or ()))
            for row in reader:
                words, name = row[text], row[label]
                for column, value in ((text, words), (label, name)):
                    if value is None or not value.strip():
                        raise FileError(
                            f"{path}, line {reader.line_num}: column {column!r} is empty;"
                            " every row needs a text and a label"
                        )
                texts.setdefault(name.strip(), []).append(words.strip())
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise FileError(f"{path}: not a CSV file ({error})") from None
    return dict(sorted(texts.items()))


def _check_column(path: Path, column: str, columns: list[str]) -> None:
    if not columns:
        raise FileError(f"{path}: empty; the first row names the columns")
    if columns.count(column) != 1:
        problem = "several columns" if column in columns else "no column"
        raise FileError(f"{path}: {problem} {column!r}{suggest(column, columns)}")
