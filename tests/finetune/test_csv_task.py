import csv

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from structmat.errors import FileError
from structmat.finetune.csv_task import FEWEST, csv_task
from structmat.finetune.near_duplicates import near_groups


def write(path, rows, header=("text", "label"), encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def rows(label, count, *, start=0):
    return [
        (f"{label} " + " ".join("abcdefgh"[i] * (k + 2) for i in range(3)), label)
        for k in range(start, start + count)
    ]


def read(path, text="text", label="label", **options):
    return csv_task(path, text=text, label=label, **options)


def dropped(task):
    return {each.reason: (each.rows, each.remedy) for each in task.selection.dropped}


def texts_of(task):
    return [{e.text for e in part} for part in (task.train, task.validation, task.test)]


@given(
    odd=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1),
        max_size=5,
    )
)
def test_csv_files_round_trip(tmp_path_factory, odd):
    odd = [text for text in odd if text.strip()]
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    task = read(write(path, rows("yes", 20) + rows("no", 20) + [(t, "no") for t in odd]))
    found = {e.text for part in (task.train, task.validation, task.test) for e in part}
    assert {text for text, _ in rows("yes", 20)} <= found
    assert found <= {text for text, _ in rows("yes", 20) + rows("no", 20)} | {
        text.strip() for text in odd
    }


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = write(tmp_path / "a.csv", rows("a", 12) + rows("b", 12), encoding="utf-8-sig")
    assert read(path).labels == ("a", "b")


def nearly(text):
    return f"{text} {' '.join(text.split())} more"  # one new word in five


KEEP = "--keep-duplicates keeps them"
NEAR = "near duplicates (80 % of the words in common, ignoring numbers)"
SEVERAL = "near duplicates with several labels"


def test_duplicates_are_dropped_before_the_split(tmp_path):
    lines = rows("a", 12) * 2 + rows("b", 12)
    lines += [(nearly(text), label) for text, label in rows("b", 5)]
    task = read(write(tmp_path / "a.csv", lines))
    assert sum(task.sizes.values()) == 24
    assert task.selection.rows == 41
    assert task.selection.classes == (24, 17)
    assert dropped(task) == {"duplicates": (12, KEEP), NEAR: (5, KEEP)}


def test_dropped_rows_are_counted_with_the_reason_and_the_remedy(tmp_path):
    shared = rows("c", 3)
    lines = [*rows("a", 12), *rows("b", 12), *rows("b", 2), *rows("rare", 4), *rows("odd", 1)]
    lines += [*shared, *((text, "a") for text, _ in shared), ("", "a"), (" ", "b"), ("words", "")]
    path = write(tmp_path / "a.csv", [*lines, ("cut here", " b", "a")])
    task = read(path)
    assert task.labels == ("a", "b")
    assert sum(task.sizes.values()) == 24
    assert dropped(task) == {
        "without text": (2, "fill in the column 'text'"),
        "without label": (1, "fill in the column 'label'"),
        "with more fields than columns": (1, "quote texts with commas"),
        "duplicates": (2, KEEP),
        SEVERAL: (6, "correct the labels, or --keep-duplicates"),
        "in 3 classes with fewer than 10 distinct texts: 'rare' (4), 'odd' (1), 'c' (0)": (
            5,
            "add texts, or merge classes",
        ),
    }


@given(
    copies=st.lists(st.tuples(st.integers(0, 23), st.booleans(), st.booleans()), max_size=60),
    keep=st.booleans(),
)
def test_every_row_is_used_or_counted_and_no_group_is_divided(tmp_path_factory, copies, keep):
    """Copies, near copies and copies with the other label are added to 24 texts."""
    base = rows("a", 12) + rows("b", 12)
    lines = list(base)
    for place, near, other in copies:
        text, label = base[place]
        lines.append((nearly(text) if near else text, "b" if other else label))
    path = write(tmp_path_factory.mktemp("csv") / "data.csv", lines)
    try:
        task = read(path, keep_duplicates=keep)
    except FileError as error:  # too few groups with mostly this label are left
        event("refused")
        assert "1 class with at least" in str(error) or "0 classes" in str(error)  # noqa: PT017
        return
    used = sum(task.sizes.values())
    assert used + sum(rows for rows, _ in dropped(task).values()) == len(lines)
    if keep:
        assert used == len(lines)
    parts = [e.text for part in (task.train, task.validation, task.test) for e in part]
    groups = near_groups(parts)
    ends = np.cumsum(list(task.sizes.values()))
    sides = {(group, int(np.searchsorted(ends, k, "right"))) for k, group in enumerate(groups)}
    assert len(sides) == len(set(groups))


def test_kept_duplicates_are_used_and_stay_together(tmp_path):
    lines = rows("a", 12) * 3 + rows("b", 12) + [(nearly(text), "a") for text, _ in rows("b", 4)]
    task = read(write(tmp_path / "a.csv", lines), keep_duplicates=True)
    assert sum(task.sizes.values()) == len(lines)
    assert task.selection.dropped == ()
    train, validation, test = texts_of(task)
    assert len(train) + len(validation) + len(test) == len(train | validation | test)
    together = [{text, nearly(text)} for text, _ in rows("b", 4)]
    assert all(any(pair <= part for part in (train, validation, test)) for pair in together)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; its first row must contain the column"),
        ("txt,label\na,b\n", "no column 'text'; did you mean txt?"),
        ("text;label\na;b\n", "no column 'text'; .* separated by semicolons; save .* with commas"),
        ("text\tlabel\na\tb\n", "no column 'text'; .* separated by tabs; save .* with commas"),
        ("text,label,label\na,b,c\n", "several columns 'label'"),
        ("text,label\n", "0 classes .*; the file has no rows"),
        (
            "text,label\na,x\n ,x\n",
            r"Of 2 rows, these were dropped: 1 without text \(fill in the column 'text'\); 1 in 1",
        ),
        ("text,label\na,\n", r"Of 1 row, .*: 1 without label \(fill in the column 'label'\)"),
        ("text,label\na\n", r"Of 1 row, .*: 1 without label \(fill in the column 'label'\)"),
        ("text,label\na,x\nb,x\n", f"0 classes with at least {FEWEST} distinct texts; at least"),
        (
            "text,label\na,x\nb,y\n",
            rf"2 in 2 classes with fewer than {FEWEST} distinct texts: 'x' \(1\), 'y' \(1\)",
        ),
        (
            "text,label\n" + 40 * "a,x\nb,y\n",
            rf"Of 80 rows, .*: 78 duplicates \({KEEP}\); 2 in 2 classes",
        ),
        ('text,label\n"a,x\n', "not a CSV file"),
    ],
)
def test_invalid_content_is_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(FileError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_directory_and_another_encoding_are_refused(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        read(tmp_path / "none.csv")
    with pytest.raises(FileError, match="cannot be read"):
        read(tmp_path)
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\nchâteau,x\n".encode("latin-1"))
    with pytest.raises(FileError, match="not in UTF-8"):
        read(path)
