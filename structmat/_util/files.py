"""Reading of files, and atomic writing: files get a temporary name first, then their own."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from structmat._util.text_location import quoted, undecodable
from structmat.errors import FileError

CACHE = "STRUCTMAT_CACHE"  # the environment variable that names the folder for cached files


def cache_folder() -> Path | None:
    """Return the folder for cached files: $STRUCTMAT_CACHE, or else in the user's cache folder.

    The result is None if the variable is not set and there is no home directory.
    """
    named = os.environ.get(CACHE)
    if named:
        return Path(named)
    try:
        folder = user_cache_path("structmat", appauthor=False)
    except RuntimeError:  # no home directory; older versions of platformdirs leave the ~ in place
        return None
    return folder if folder.is_absolute() else None


def make_directory(path: Path) -> Path:
    """Create a directory for output, with its parents, and return it.

    Raises
    ------
    FileError
        If the directory cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot create the directory ({error.strerror})") from None
    if not os.access(path, os.W_OK):
        raise FileError(f"{path}: cannot be written to; choose another directory")
    return path


LONGEST = 2**28  # maximum size of a JSON file in bytes; parsing takes several times as much memory
_CHUNK = 2**24  # bytes read at once


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file, which becomes `path` if no error occurs.

    The name has the suffix of `path`, because a suffix may determine the format. A symbolic link is
    preserved, and its target is replaced.

    Raises
    ------
    FileError
        If `path` is a directory, a device or a pipe. A rename would replace a device by a file.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as new:
    ...         _ = new.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        kind = "a directory" if target.is_dir() else "not a regular file"
        raise FileError(f"{path} is {kind}; give the name of a file")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".structmat-") as folder:
        new = Path(folder) / path.name
        yield new
        usual = Path(folder) / f"{path.name}.mode"
        usual.touch()  # some libraries write files that only their owner may read
        new.chmod(usual.stat().st_mode)
        new.replace(target)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, atomically replacing any previous one."""
    with replacing(path) as new:
        new.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file, atomically replacing any previous one."""
    # A file name that is not in UTF-8 contains surrogates, which cannot be encoded.
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON, with NaN and infinity as null, so that every parser can read it."""
    return write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def read_bytes(path: Path, hint: str = "", *, most: int | None = LONGEST) -> bytes:
    """Return the contents of a file, or raise an error if it is missing or too long.

    Parameters
    ----------
    path : Path
    hint : str
        Text to append to error messages, such as the expected contents.
    most : int or None
        The maximum number of bytes to read, from devices and pipes as well; None for the file size.

    Raises
    ------
    FileError
        If the file cannot be read, or is longer than `most` bytes.

    Examples
    --------
    >>> read_bytes(Path("no.json"), "; expected the output of Network.to_json")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: no.json: No such file or directory; expected the output of \
Network.to_json
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            limit = about.st_size if most is None else most
            chunks, size = [], about.st_size if stat.S_ISREG(about.st_mode) else 0
            while size <= limit and (chunk := file.read(_CHUNK)):
                chunks.append(chunk)
                size = max(size, sum(map(len, chunks)))
    except (OSError, ValueError) as error:  # a name with a null character raises ValueError
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}{hint}") from None
    if size > limit:
        raise FileError(f"{path}: a file must have at most {limit:,} bytes{hint}")
    return b"".join(chunks)


def parse_json(text: str | bytes, what: object, hint: str = "") -> Any:
    """Parse JSON text in memory proportional to its length.

    Raises
    ------
    FileError
        If the text is truncated or not JSON, contains NaN or infinity (which JSON does not allow),
        has integers with more digits than Python parses, or is nested beyond Python's limit.

    Examples
    --------
    >>> parse_json('{"width": NaN}', "a.json")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: a.json is truncated or not JSON (NaN is not a JSON number)
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        reason = "nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} in {quoted(error.doc, error.lineno, error.colno)}"
    except UnicodeDecodeError as error:
        reason = f"not in UTF-8 in {undecodable(error.object)}"
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise FileError(f"{what} is truncated or not JSON ({reason}){hint}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path, *, most: int = LONGEST) -> Any:
    """Return the value of a JSON file, or None if it is missing or damaged."""
    try:
        return parse_json(read_bytes(path, most=most), path)
    except FileError:
        return None


@contextmanager
def new_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary directory to fill, which becomes `path` if no error occurs.

    Parameters
    ----------
    path : Path
    replace : bool
        Whether to replace a directory that is not empty. An empty one is always replaced.

    Raises
    ------
    OSError
        If the directory is not empty and must not be replaced.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary.chmod(0o755)  # mkdtemp restricts access to the owner
    try:
        yield temporary
        if replace:
            shutil.rmtree(path, ignore_errors=True)  # a rename cannot replace a non-empty directory
        elif path.exists():
            path.rmdir()
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def finite(value: Any) -> Any:
    """Return a JSON-serialisable value, with null for NaN and infinity.

    Examples
    --------
    >>> finite({3: (1, float("nan"))})
    {'3': [1, None]}
    """
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
