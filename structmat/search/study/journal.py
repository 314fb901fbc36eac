"""The journal of a search: a file to which several processes append, and which survives crashes."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock

from structmat.errors import FileError

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


class Journal(BaseJournalBackend):
    """A journal file in Optuna's format, one JSON object a line.

    Two properties distinguish it from `optuna.storages.journal.JournalFileBackend`:

    - A line is written completely or not at all. If the disk is full, the part that was written is
      removed, and a part left by a killed process is removed before the next line is written.
      Otherwise, the next line would be appended to it, and the journal would become unreadable.
    - The lock is held by the operating system, which releases it when a process is killed. A lock
      file would remain, and the other processes would wait for half a minute.

    Parameters
    ----------
    path : Path
        Created if it does not exist.

    Raises
    ------
    FileError
        By its methods, if the file is not a journal, or has been replaced by a shorter one.
    OSError
        If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = array("q", [0])  # the positions of the known lines, and of the next one
        with path.open("ab"):
            pass  # the file exists from now on

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the complete lines from this number on."""
        first = min(log_number_from, len(self._starts) - 1)
        position = self._starts[first]
        with self._opened("rb") as file:
            if os.fstat(file.fileno()).st_size < position:
                raise FileError(
                    f"{self._path}: the journal became shorter while it was in use; do not replace"
                    " the file of a running search"
                )
            file.seek(position)
            lines = file.read().split(b"\n")[:-1]  # what follows the last line end is incomplete
        for number, line in enumerate(lines, first):
            position += len(line) + 1
            if number + 1 == len(self._starts):
                self._starts.append(position)
            if number >= log_number_from:
                yield self._parsed(line, number + 1)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, all of them or none."""
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._opened("r+b") as file:
            end = _end(file)
            try:
                file.truncate(end)
                file.seek(end)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise

    @contextmanager
    def _opened(self, mode: str) -> Iterator[IO[bytes]]:
        """Open the file without a buffer, and lock it against writers, or against all others."""
        with self._path.open(mode, buffering=0) as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH if mode == "rb" else fcntl.LOCK_EX)
                yield file  # closing the file releases the lock
                return
            lock = JournalFileOpenLock(str(self._path))
            lock.acquire()
            try:
                yield file
            finally:
                lock.release()

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            log = json.loads(line)
        except ValueError:
            log = None
        if not isinstance(log, dict) or "op_code" not in log:
            raise FileError(
                f"{self._path}: line {number} is not a line of a search journal; give another file"
            )
        return log


def _end(file: IO[bytes]) -> int:
    """Return the position after the last complete line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
