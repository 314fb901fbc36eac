import json
import os

import pytest

from structmat._util.files import (
    make_directory,
    new_directory,
    read_bytes,
    read_json,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from structmat.errors import FileError


def names(path):
    return sorted(p.name for p in path.iterdir())


def fill_half_and_stop(target):
    with new_directory(target) as directory:
        (directory / "half").touch()
        raise KeyboardInterrupt("now")


def test_writing_replaces_the_old_file_and_leaves_no_temporary_file(tmp_path):
    for text in ("old", "new"):
        write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_only_regular_files_are_replaced(tmp_path):
    """A rename would replace a device such as /dev/null by a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, kind in (
        ("pipe", "not a regular file"),
        ("link", "not a regular file"),
        ("folder", "a directory"),
    ):
        with pytest.raises(FileError, match=f"{name} is {kind}; give the name of a file"):
            write_bytes(tmp_path / name, b"data")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["folder", "link", "pipe"]


def test_unencodable_characters_are_escaped(tmp_path):
    write_text(tmp_path / "a.txt", "new \ud800")  # as in a file's name that is not in UTF-8
    assert (tmp_path / "a.txt").read_text() == "new \\ud800"
    write_json(tmp_path / "a.json", ["\ud800"])
    assert read_json(tmp_path / "a.json") == ["\ud800"]
    assert names(tmp_path) == ["a.json", "a.txt"]


def test_reading_stops_at_the_size_limit(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"1234")
    assert read_bytes(path, most=4) == read_bytes(path, most=None) == b"1234"
    with pytest.raises(FileError, match=r"a\.bin: a file must have at most 3 bytes; hint"):
        read_bytes(path, "; hint", most=3)
    for name in (tmp_path, tmp_path / "none", tmp_path / "null\0"):
        with pytest.raises(FileError, match=r"directory|null"):
            read_bytes(name)


def fill_half_and_break(path):
    with replacing(path) as new:
        new.write_bytes(b"half")
        raise OSError("full")


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(OSError, match="full"):
        fill_half_and_break(tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_writing_preserves_links_and_permissions(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "there" / "file.txt")
    write_text(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file.txt").read_text() == "text"
    plain = tmp_path / "plain"
    plain.touch()  # as the umask says
    assert link.stat().st_mode == plain.stat().st_mode


def test_json_round_trips_and_non_finite_numbers_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": (1, float("nan")), "b": float("inf"), 3: "ᵀ"})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [1, None], "b": None, "3": "ᵀ"}
    assert read_json(tmp_path / "a.json") == json.loads(text)


def test_damaged_json_is_read_as_none(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "b.json") is None


def test_a_directory_is_replaced_atomically(tmp_path):
    target = tmp_path / "d"
    with new_directory(target) as directory:
        (directory / "old").touch()
    with pytest.raises(KeyboardInterrupt, match="now"):
        fill_half_and_stop(target)
    assert names(target) == ["old"]
    with new_directory(target) as directory:
        (directory / "new").touch()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["d"]


def test_a_file_at_the_path_of_a_new_directory_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file: cannot create the directory"):
        make_directory(tmp_path / "file")


def test_a_replaced_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    with replacing(tmp_path / "a.bin") as new:
        new.touch(mode=0o600)
    assert (tmp_path / "a.bin").stat().st_mode == usual.stat().st_mode
