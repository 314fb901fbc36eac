"""Compiled functions, by what they compute; each is compiled once in a process."""

from __future__ import annotations

from ctypes import CFUNCTYPE, c_int64
from functools import lru_cache
from typing import Any

from llvmlite import ir

from structmat.nn.ops.backends.compiled import code, compiler
from structmat.nn.ops.backends.compiled.cells import Cell

Kind = tuple[str, bool, int]  # real type, whether complex, lanes


@lru_cache(maxsize=None)
def of_cell(kind: Kind, cell: Cell, adjoint: bool, gradients: bool, last: bool) -> tuple[int, int]:
    """Return the addresses of the functions forward and backward of a cell, or 0 if not needed."""
    numbers = code.Numbers(*kind)
    module = ir.Module()
    if not gradients:
        code.forward(module, "forward", numbers, cell, adjoint=adjoint, save=False)
        return compiler.addresses(module, "forward")[0], 0
    code.backward(module, "backward", numbers, cell, adjoint=adjoint, saved=not last)
    if last:
        return 0, compiler.addresses(module, "backward")[0]
    code.forward(module, "forward", numbers, cell, adjoint=adjoint, save=True)
    forward, backward = compiler.addresses(module, "forward", "backward")
    return forward, backward


@lru_cache(maxsize=None)
def driver(kind: Kind, stored: str, gradients: bool) -> Any:
    """Return a driver as a function of integers."""
    numbers = code.Numbers(*kind)
    module = ir.Module()
    write, count = (
        (code.gradients_driver, code.GRADIENTS_ARGUMENTS)
        if gradients
        else (code.apply_driver, code.APPLY_ARGUMENTS)
    )
    write(module, "driver", numbers, stored)
    (address,) = compiler.addresses(module, "driver")
    return CFUNCTYPE(None, *[c_int64] * count)(address)
