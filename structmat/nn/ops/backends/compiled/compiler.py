"""Compilation to machine code for this processor, with a cache in memory and on disk.

The name of a cached file is a digest of everything that determines its content: the source of the
code generator, the function, the processor and its features, and the versions of LLVM and llvmlite.
A cached file therefore cannot be out of date. A missing or damaged file is written again; if that
fails, the code is kept in memory only. Callers must hold the lock
`structmat.nn.ops.backends.compiled.workers.LLVM`.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import time
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int64
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
from llvmlite import binding, ir

from structmat import __version__
from structmat._util.files import cache_folder, make_directory, write_bytes
from structmat._util.text_table import counted
from structmat.errors import FileError
from structmat.nn.ops.backends.compiled import cell_code, cells, driver_code, writer
from structmat.nn.ops.backends.compiled.cells import Cell
from structmat.nn.ops.backends.compiled.writer import Numbers

_log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size


@cache  # without a limit, because functions are small and never unloaded
def cell_functions(
    numbers: Numbers, cell: Cell, *, adjoint: bool, gradients: bool, last: bool
) -> tuple[int, int]:
    """Compile the functions `forward` and `backward` of a cell, and return their addresses.

    The address of a function that is not needed is 0: without gradients, there is no backward
    pass; with gradients, the results of the last pass are not needed.
    """

    def write(module: ir.Module) -> None:
        if not (gradients and last):
            cell_code.forward(module, "forward", numbers, cell, adjoint=adjoint, save=gradients)
        if gradients:
            cell_code.backward(module, "backward", numbers, cell, adjoint=adjoint, saved=not last)

    return _addresses(
        write,
        f"cell {numbers} {cell} {adjoint} {gradients} {last}",
        ("forward", "backward"),
        f"cells of {counted(cell.size, 'wire')},"
        f" {counted(len(cell.switches), 'switch', 'switches')},"
        f" {'adjoint' if adjoint else 'forward'}{', gradients' if gradients else ''}, {numbers}",
    )


@cache
def driver(numbers: Numbers, stored: str, *, gradients: bool) -> Callable[..., None]:
    """Compile a driver, as a Python function of integers that releases the GIL."""
    write, count = (
        (driver_code.gradients_driver, driver_code.GRADIENTS_ARGUMENTS)
        if gradients
        else (driver_code.apply_driver, driver_code.APPLY_ARGUMENTS)
    )
    address, _ = _addresses(
        lambda module: write(module, "driver", numbers, stored),
        f"driver {numbers} {stored} {gradients}",
        ("driver", "none"),
        f"the driver{' of gradients' if gradients else ''}, {numbers}, vectors of {stored}",
    )
    return CFUNCTYPE(None, *[c_int64] * count)(address)


@cache
def function(
    write: Callable[[ir.Module, str, int], None],
    size: int,
    *,
    arguments: int,
    sources: tuple[ModuleType, ...] = (),
    unroll: bool = True,
) -> Callable[..., None]:
    """Compile the function that `write` emits for a size, as a Python function of integers.

    `sources` are the modules that `write` uses, besides its own and those of this package. Without
    unrolling of loops, compilation takes about half the time.
    """
    digests = " ".join(map(_digest, (write, *sources)))
    address, _ = _addresses(
        lambda module: write(module, write.__name__, size),
        f"{write.__module__} {digests} {write.__name__} {size} {unroll}",
        (write.__name__, "none"),
        f"{write.__module__.rpartition('.')[2]}.{write.__name__}, size {size}",
        unroll=unroll,
    )
    return CFUNCTYPE(None, *[c_int64] * arguments)(address)


def _digest(thing: Any) -> str:
    """Return a digest of the source of a module, or of the module that defines a function."""
    try:
        source = inspect.getsource(inspect.getmodule(thing) or thing)
    except OSError:  # distributed as bytecode only
        source = __version__
    return hashlib.sha256(source.encode()).hexdigest()


def _addresses(
    write: Callable[[ir.Module], None],
    described: str,
    names: tuple[str, str],
    title: str,
    *,
    unroll: bool = True,
) -> tuple[int, int]:
    """Return the addresses of functions, or 0 for one that `write` does not emit."""
    key = hashlib.sha256(f"{_version()}\n{described}".encode()).hexdigest()
    data = _read(key)
    if data is None:
        start = time.perf_counter()
        data = _compiled(write, key, unroll=unroll)
        _keep(key, data)
        _log.info("compiled %s in %.2f s", title, time.perf_counter() - start)
    engine = _engine()
    engine.add_object_file(binding.object_file.ObjectFileRef.from_data(data))
    engine.finalize_object()
    first, second = (int(engine.get_function_address(f"{name}_{key}")) for name in names)
    return first, second


@cache
def _version() -> str:
    """Describe everything that determines the machine code, except the function itself."""
    modules = sys.modules[__name__], writer, cells, cell_code, driver_code
    source = " ".join(map(_digest, modules))
    llvm = ".".join(map(str, binding.llvm_version_info))
    return f"{source} {llvmlite.__version__} {llvm} {processor()} {features()}"


@cache
def processor() -> str:
    """Return LLVM's name of this processor."""
    return str(binding.get_host_cpu_name())


@cache
def features() -> str:
    """Return LLVM's description of the features of this processor."""
    return str(binding.get_host_cpu_features().flatten())


@cache
def _machine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=processor(), features=features(), opt=3, jit=True)


@cache
def _engine() -> Any:
    return binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())


def _compiled(write: Callable[[ir.Module], None], key: str, *, unroll: bool) -> bytes:
    """Compile functions to an object file; the key is appended to make their names unique."""
    module = ir.Module()
    write(module)
    for function in module.functions:
        if not function.is_declaration:
            function.name = f"{function.name}_{key}"
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    machine = _machine()
    options = binding.create_pipeline_tuning_options(2)
    options.loop_unrolling = unroll
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return bytes(machine.emit_object(parsed))


def _file(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "kernels" / f"{key[:32]}.o"


def _read(key: str) -> bytes | None:
    """Return the cached object file, or None if it is missing or its digest is wrong."""
    path = _file(key)
    try:
        data = b"" if path is None else path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST], data[_DIGEST:]
    return content if content and hashlib.sha256(content).digest() == digest else None


def _keep(key: str, data: bytes) -> None:
    path = _file(key)
    if path is None:
        return
    try:
        write_bytes(make_directory(path.parent) / path.name, hashlib.sha256(data).digest() + data)
    except (FileError, OSError):
        return  # the next process compiles it again
