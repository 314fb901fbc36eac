"""The storage of a search: memory, a journal file, or a database, which several processes share."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from structmat.errors import FileError, MissingExtraError, abbreviated, require

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import URL

_TRIES = 8  # attempts to create the tables of a database, while other processes create them, too
_CONNECTING = 10  # seconds to wait for a database server
_LOCKED = 60  # seconds to wait for another process that writes to an SQLite file
_FORM = (
    "a storage is the path of a journal file, or a database URL such as"
    " postgresql://user@host/database"
)
_SERVERS = ("postgresql", "mysql", "mariadb")


def opened(storage: str | os.PathLike[str] | None, *, create: bool = True) -> BaseStorage:
    """Open a storage; use it within `reported`, which rewords its errors.

    Parameters
    ----------
    storage : str, path or None
        The path of a journal file; a database URL, which contains "://"; or None for memory.
    create : bool
        Whether to create a journal file that does not exist.

    Raises
    ------
    FileError
        If there is no such journal, or it is not a journal; or the value is neither a path nor a
        URL.
    MissingExtraError
        If Optuna, or the driver of the database, is not installed.
    """
    optuna = require("optuna", "search")
    if storage is None:
        found: BaseStorage = optuna.storages.InMemoryStorage()
        return found
    given: Any = storage
    if not isinstance(given, str | os.PathLike) or str(given) == "" or "\0" in str(given):
        raise FileError(f"storage={abbreviated(given)}: {_FORM}")
    if _is_url(storage):
        return _database(_parsed(str(storage)))
    from structmat.search.study.journal import Journal

    path = Path(storage)
    if not create and not path.is_file():
        raise FileError(f"{path}: there is no such journal; {_FORM}")
    try:
        made: BaseStorage = optuna.storages.JournalStorage(Journal(path))
    except (AssertionError, LookupError, TypeError) as error:  # what Optuna raises in that case
        raise FileError(
            f"{path}: a line of the journal is missing or has an unknown form"
            f" ({type(error).__name__}: {error}); give another file, or a copy that is intact"
        ) from None
    return made


def named(storage: str | os.PathLike[str] | None) -> str:
    """Return the name of a storage for output, without the password of a database.

    Examples
    --------
    >>> named("postgresql://ann:secret@host/searches"), named(None)
    ('postgresql+psycopg://ann:***@host/searches', 'memory')
    """
    if storage is None:
        return "memory"
    if not _is_url(storage):
        return str(storage)
    url = _parsed(str(storage))
    hidden = {key: "***" if _is_secret(key) else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True)


@contextmanager
def reported(storage: str | os.PathLike[str] | None) -> Iterator[None]:
    """Reword the errors of a storage in one line, without the password of a database.

    Raises
    ------
    FileError
        In place of an error of the file system, the database or its driver.
    """
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{named(storage)}: cannot read or write ({error.strerror or error}); the trials that"
            " finished are kept, so repeat the command once this is corrected"
        ) from error
    except Exception as error:
        if not _is_database_error(error):
            raise
        cause = error.__cause__ if error.__cause__ is not None else error
        text = str(getattr(cause, "orig", None) or cause)
        raise FileError(
            f"{named(storage)}: the database cannot be used"
            f" ({_without_secrets(' '.join(text.split()), storage)}); the trials that finished are"
            " kept, so repeat the command once this is corrected"
        ) from None  # the message of the cause may contain the password


def _is_url(storage: str | os.PathLike[str]) -> bool:
    return isinstance(storage, str) and "://" in storage


def _parsed(text: str) -> URL:
    require("optuna", "search")
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise FileError(
            f"a storage that begins with {abbreviated(text.partition('://')[0])}:// cannot be"
            f" parsed; {_FORM}"
        ) from None
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def _database(url: URL) -> BaseStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import NoSuchModuleError, OperationalError

    backend = url.get_backend_name()
    options: dict[str, Any] = {"pool_pre_ping": True}  # a trial may outlast a connection
    if backend in _SERVERS:
        options["connect_args"] = {"connect_timeout": _CONNECTING}
    elif backend == "sqlite":
        options["connect_args"] = {"timeout": _LOCKED}
    text = url.render_as_string(hide_password=False)
    for attempt in range(_TRIES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                found: BaseStorage = RDBStorage(text, engine_kwargs=options)
        except ImportError:
            driver = url.drivername.partition("+")[2] or url.drivername
            raise MissingExtraError(
                f"the driver {driver} of the database is not installed; install it, for PostgreSQL"
                ' with: pip install "psycopg[binary]"'
            ) from None
        except NoSuchModuleError:
            raise FileError(f"database {url.drivername} is not supported; {_FORM}") from None
        except Exception as error:
            again = _is_database_error(error) and attempt + 1 < _TRIES
            refused = isinstance(error, OperationalError) and "exists" not in str(error)
            if refused or not again:
                raise
            time.sleep(0.1 * (attempt + 1))
        else:
            return found
    raise AssertionError("unreachable")


def _is_database_error(error: BaseException) -> bool:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, StorageInternalError | SQLAlchemyError)


def _is_secret(key: str) -> bool:
    return "pass" in key.lower() or "secret" in key.lower()


def _without_secrets(text: str, storage: Any) -> str:
    """Return an error message of a database without its password."""
    url = _parsed(str(storage))
    secrets = [url.password, *(value for key, value in url.query.items() if _is_secret(key))]
    for secret in filter(None, secrets):
        for form in (str(secret), quote(str(secret)), quote_plus(str(secret))):
            text = text.replace(form, "***")
    return text
