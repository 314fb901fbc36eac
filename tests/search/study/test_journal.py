"""The journal stays complete whatever interrupts the writer, and faulty files are explained."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend

from structmat.errors import FileError
from structmat.search.study import journal
from structmat.search.study.journal import Journal

LOGS = st.lists(
    st.fixed_dictionaries({"op_code": st.integers(0, 9), "text": st.text(max_size=9)}), max_size=6
)


@settings(max_examples=30, deadline=None)  # each line is written to the disk
@given(
    st.lists(LOGS, max_size=5), st.binary(max_size=30).filter(lambda b: b"\n" not in b), st.data()
)
def test_lines_are_read_back_even_after_a_write_that_was_cut_off(
    tmp_path_factory, batches, torn, data
):
    """The reader and the writer are different objects, as in two processes."""
    path = tmp_path_factory.mktemp("journal") / "a"
    reader, expected = Journal(path), []
    for batch in batches:
        with path.open("ab") as file:
            file.write(torn)  # by a process that was killed
        assert list(reader.read_logs(0)) == expected
        Journal(path).append_logs(batch)
        expected += batch
        first = data.draw(st.integers(0, len(expected)))
        assert list(reader.read_logs(first)) == expected[first:]
    assert path.read_bytes().count(b"\n") == len(expected)
    if not torn:
        assert list(JournalFileBackend(str(path)).read_logs(0)) == expected


class Full:
    """A file on a disk that has room for only a few bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(data[: self._room])
        self._room -= written
        return written


@settings(max_examples=30, deadline=None)
@given(room=st.integers(0, 40))
def test_a_full_disk_leaves_the_complete_lines(tmp_path_factory, room):
    path = tmp_path_factory.mktemp("journal") / "a"
    full = Journal(path)
    kept, lost = {"op_code": 1, "kept": True}, {"op_code": 2, "text": 50 * "x"}
    full.append_logs([kept])
    before = path.read_bytes()
    opened = full._opened

    def short(mode):
        return _Replaced(opened(mode), room)

    full._opened = short
    with pytest.raises(OSError, match="No space left"):
        full.append_logs([lost])
    assert path.read_bytes() == before
    full._opened = opened
    full.append_logs([lost])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [kept, lost]


class _Replaced:
    def __init__(self, context, room):
        self._context, self._room = context, room

    def __enter__(self):
        return Full(self._context.__enter__(), self._room)

    def __exit__(self, *error):
        return self._context.__exit__(*error)


def test_a_lock_file_is_used_if_the_system_has_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "fcntl", None)
    found = Journal(tmp_path / "a")
    found.append_logs([{"op_code": 1}])
    assert list(found.read_logs(0)) == [{"op_code": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("text", ["width,depth\n", '{"format": "structmat.network"}\n', "[1]\n"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(FileError, match="other: line 1 is not a line of a search journal"):
        list(Journal(path).read_logs(0))
    assert path.read_text() == text


def test_replacing_a_journal_by_a_shorter_one_is_an_error(tmp_path):
    found = Journal(tmp_path / "a")
    found.append_logs([{"op_code": 1}])
    assert len(list(found.read_logs(0))) == 1
    (tmp_path / "a").write_text("")
    with pytest.raises(FileError, match="became shorter while it was in use"):
        list(found.read_logs(1))
