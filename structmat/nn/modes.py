"""Detection of torch's execution modes: eager, compiled, traced, exported or transformed.

A cached tensor must be valid in every later call. Caches are therefore read and written only when
`eager` returns True; otherwise their content is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext


def eager(*tensors: Tensor) -> bool:
    """Return whether torch runs eagerly on plain tensors.

    Nothing is compiled, exported or traced; no transform of `torch.func`, forward-mode derivative,
    fake tensor mode or other dispatch or function mode is active; and no tensor is of a subclass
    or on the meta device. A default device, as `torch.device` sets in a `with` statement, does not
    matter: cached tensors are created with an explicit device.

    Examples
    --------
    >>> x = torch.ones(2)
    >>> eager(x), eager(x.to("meta")), torch.func.vmap(lambda row: row * eager(row))(x)
    (True, False, tensor([0., 0.]))
    """
    if recorded() or transformed() or torch._C._len_torch_dispatch_stack():
        return False
    if torch._C._len_torch_function_stack() and not _only_a_device():
        return False
    return all(type(t) in (Tensor, nn.Parameter) and not t.is_meta for t in tensors)


def _only_a_device() -> bool:
    modes = torch.overrides._get_current_function_mode_stack()
    return all(isinstance(mode, DeviceContext) for mode in modes)


def transformed() -> bool:
    """Return whether a transform of `torch.func` or a forward-mode derivative is active.

    These can transform torch's own operations, but not the custom operators of this library.

    Examples
    --------
    >>> transformed()
    False
    """
    if torch._C._are_functorch_transforms_active():
        return True
    return not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0


def refuses_functions() -> bool:
    """Return whether a `torch.autograd.Function` must be replaced by torch's own operations.

    Inside the `jvp` of a function, torch 2.13 disables forward mode, so the forward-mode derivative
    of another function would silently be zero. In addition, torch.compile cannot batch functions.

    Examples
    --------
    >>> from torch.func import jvp
    >>> once = lambda x: jvp(lambda y: y * refuses_functions(), (x,), (x,))[1]
    >>> x = torch.ones(1)
    >>> once(x), jvp(once, (x,), (x,))[1]
    (tensor([0.]), tensor([1.]))
    """
    if not torch._C._are_functorch_transforms_active():
        return False
    if torch.compiler.is_compiling():
        return True
    levels = torch._C._functorch.get_interpreter_stack() or ()
    jvp = torch._C._functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in levels) > 1


def recorded() -> bool:
    """Return whether computations are being recorded, by torch.compile or for export.

    Examples
    --------
    >>> recorded()
    False
    """
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def exporting() -> bool:
    """Return whether a program is being recorded that must run without this library.

    Under `torch.export`, `torch.onnx.export` and `torch.jit.trace`, only torch's own operations may
    be recorded.

    Examples
    --------
    >>> exporting()
    False
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch._C._get_tracing_state() is not None


def has_numbers(*tensors: Tensor) -> bool:
    """Return whether control flow may depend on the values of tensors.

    It may not if values are unknown, as for fake and meta tensors, or if a program is being
    recorded that must also be valid for other values.

    Examples
    --------
    >>> has_numbers(torch.ones(2)), has_numbers(torch.ones(2, device="meta"))
    (True, False)
    """
    if recorded() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(t) in (Tensor, nn.Parameter) and not t.is_meta for t in tensors)


def sizes(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor as plain integers that `torch.jit.trace` does not record.

    Examples
    --------
    >>> sizes(torch.ones(2, 3))
    (2, 3)
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is None:
        return tuple(x.shape)
    with untraced():
        return tuple(x.shape)


@contextmanager
def untraced() -> Iterator[None]:
    """Let `torch.jit.trace` treat tensors created here as constants, without a warning."""
    core: Any = torch._C
    state = core._get_tracing_state()
    if state is None:
        yield
        return
    core._set_tracing_state(None)
    try:
        yield
    finally:
        core._set_tracing_state(state)
