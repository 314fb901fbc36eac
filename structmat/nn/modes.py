"""Whether torch runs eagerly, or computations are traced, transformed or recorded.

A cached tensor must be one that any later call may use. So caches are filled and read only where
`eager` holds; everywhere else their content is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext


def eager(*tensors: Tensor) -> bool:
    """Return whether torch runs eagerly, and on plain tensors.

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

    They can transform torch's own operations, but not an operator of this library.

    Examples
    --------
    >>> transformed()
    False
    """
    if torch._C._are_functorch_transforms_active():
        return True
    return not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0


def refuses_functions() -> bool:
    """Return whether torch's own operations must replace a `torch.autograd.Function`.

    Inside the `jvp` of a function, torch 2.13 switches forward mode off, so the forward-mode
    derivative of another function would silently be zero. And torch.compile cannot batch functions.

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
    """Return whether computations are recorded, by torch.compile or for export.

    Examples
    --------
    >>> recorded()
    False
    """
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def exporting() -> bool:
    """Return whether a program is recorded that must run without this library.

    `torch.export`, `torch.onnx.export` and `torch.jit.trace` record torch's own operations only.

    Examples
    --------
    >>> exporting()
    False
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch._C._get_tracing_state() is not None


def has_numbers(*tensors: Tensor) -> bool:
    """Return whether control flow may depend on the values in tensors.

    It may not where values are unknown, as in fake and meta tensors, or where the recorded program
    must be valid for other values, too.

    Examples
    --------
    >>> has_numbers(torch.ones(2)), has_numbers(torch.ones(2, device="meta"))
    (True, False)
    """
    if recorded() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(t) in (Tensor, nn.Parameter) and not t.is_meta for t in tensors)


def sizes(x: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor as plain integers, which `torch.jit.trace` does not trace.

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
