"""User-defined families and functions: loading the file or module that contains them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structmat as sm
from structmat._util.text_location import of_error
from structmat.errors import FileError

_NO_MODULE = "no such module; give the name of a module, or FILE.py"


def load(source: str, *, functions: bool = False) -> str:
    """Run a Python file, or import a module, that registers families; return the module's name.

    As in Python, a file can import modules from its directory, and a module is searched for in the
    working directory, too.

    Parameters
    ----------
    source : str
    functions : bool
        Whether the command uses functions of the module, which then need not register a family.

    Raises
    ------
    FileError
        If there is no such file or module, or if it fails or registers no family.
    """
    before = sm.catalogue()
    is_file = source.endswith(".py") or Path(source).name != source
    module = _run(source) if is_file else _import(source)
    if functions:
        return module
    homes = {entry.build.__module__ for entry in sm.catalogue()}
    if sm.catalogue() == before and not any(f"{h}.".startswith(f"{module}.") for h in homes):
        raise FileError(
            f"{source}: registers no family; decorate a function from a width to a Network with"
            " @structmat.family"
        )
    return module


def loaded_function(name: str, modules: Iterable[str]) -> Callable[..., Any] | None:
    """Return the function of this name in the first of the loaded modules that has one.

    Examples
    --------
    >>> loaded_function("sqrt", ["math"])(4)
    2.0
    """
    found = (getattr(sys.modules[module], name, None) for module in modules)
    return next((one for one in found if callable(one)), None)


def loaded_functions(module: str) -> list[str]:
    """Return the names of the functions that a loaded module defines.

    Examples
    --------
    >>> "dumps" in loaded_functions("json"), "JSONDecoder" in loaded_functions("json")
    (True, False)
    """
    found = vars(sys.modules[module]).items()
    return [
        key
        for key, value in found
        if getattr(value, "__module__", None) == module and inspect.isfunction(value)
    ]


def _run(source: str) -> str:
    path = Path(source)
    name = path.stem
    if not path.is_file():
        raise FileError(f"{source}: no such Python file; give FILE.py, or a module's name")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileError(f"{source}: no such Python file; give FILE.py, or a module's name")
    if name in sys.modules:
        raise FileError(f"{source}: a module {name} exists already; give the file another name")
    sys.path.insert(0, str(path.parent.resolve()))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(source, error) from error
    return name


def _import(source: str) -> str:
    if not all(part.isidentifier() for part in source.split(".")):
        raise FileError(f"{source or repr(source)}: {_NO_MODULE}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{source}.".startswith(f"{error.name}."):
            raise _failed(source, error) from error
        raise FileError(f"{source}: {_NO_MODULE}") from None
    except (Exception, SystemExit) as error:
        raise _failed(source, error) from error
    return source


def _failed(source: str, error: BaseException) -> FileError:
    why = error.msg if isinstance(error, SyntaxError) else error
    where = of_error(error)
    end = f"; {where}" if where else ""
    return FileError(f"{source}: cannot be imported ({type(error).__name__}: {why}){end}")
