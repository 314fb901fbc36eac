import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import FileError
from structmat.finetune.csv_task import FEWEST, csv_task


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


def read(path, text="text", label="label"):
    return csv_task(path, text=text, label=label)


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


def test_duplicates_are_dropped_before_the_split(tmp_path):
    path = write(tmp_path / "a.csv", rows("a", 12) * 2 + rows("b", 12))
    task = read(path)
    assert sum(task.sizes.values()) == 24
    assert "a: 24 texts, 12 distinct" in task.notes
    assert any("dropped 12 rows whose text repeats another" in note for note in task.notes)


def test_dropped_rows_are_counted_with_the_reason(tmp_path):
    shared = rows("c", 3)
    lines = [*rows("a", 12), *rows("b", 12), *rows("b", 2), *rows("rare", 4), *rows("odd", 1)]
    lines += [*shared, *((text, "a") for text, _ in shared), ("", "a"), (" ", "b"), ("words", "")]
    path = write(tmp_path / "a.csv", [*lines, ("cut here", " b", "a")])
    task = read(path)
    assert task.labels == ("a", "b")
    assert sum(task.sizes.values()) == 24
    said = "; ".join(task.notes)
    for part in (
        "dropped 2 rows whose text repeats another text with the same label",
        "dropped 6 rows whose text has several labels",
        "dropped 2 rows whose column 'text' is empty",
        "dropped 1 row whose column 'label' is empty",
        "dropped 1 row with more fields than columns",
        "dropped 3 labels with fewer than 10 distinct texts",
        "'rare' (4)",
        "'c' (0)",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; its first row must contain the column"),
        ("txt,label\na,b\n", "no column 'text'; did you mean txt?"),
        ("text,label,label\na,b,c\n", "several columns 'label'"),
        ("text,label\na,x\n ,x\n", "two are needed; dropped 1 row whose column 'text' is empty"),
        ("text,label\na,\n", "0 classes; .*dropped 1 row whose column 'label' is empty"),
        ("text,label\na\n", "0 classes; .*dropped 1 row whose column 'label' is empty"),
        ("text,label\na,x\nb,x\n", "column 'label' has 0 classes; at least two are needed"),
        (
            "text,label\na,x\nb,y\n",
            rf"dropped 2 labels with fewer than {FEWEST} distinct texts, .*: 'x' \(1\), 'y' \(1\)",
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
