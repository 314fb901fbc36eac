"""Access to private parts of torch, each with its reason, and the execution modes they reveal.

Torch has no public way to ask whether it runs eagerly or a call is being compiled, traced, exported
or transformed. A cached tensor must be valid in every later call; caches are therefore read and
written only when `eager` returns True, and otherwise their content is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext  # no public function identifies this mode

_F = TypeVar("_F", bound=Callable[..., Any])


def eager(*tensors: Tensor) -> bool:
    """Return whether torch runs eagerly on plain tensors.

    That is: nothing is being compiled, exported or traced; no transform of `torch.func`,
    forward-mode derivative, fake tensor mode or other dispatch or function mode is active; and no
    tensor belongs to a subclass or is on the meta device. A default device, as set by `with
    torch.device(...)`, does not matter, because cached tensors are created with an explicit device.

    Examples
    --------
    >>> x = torch.ones(2)
    >>> eager(x), eager(x.to("meta")), torch.func.vmap(lambda row: row * eager(row))(x)
    (True, False, tensor([0., 0.]))
    """
    if not has_numbers(*tensors) or transformed():
        return False
    # No public function returns the active modes.
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
    if torch._C._are_functorch_transforms_active():  # torch.func has no public query
        return True
    # The public `dual_level` does not expose its level.
    return not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0


def is_batched(tensor: Tensor) -> bool:
    """Return whether a tensor is a batch of torch's older vmap, which `is_grads_batched` uses.

    Such a tensor has the type of a plain one, but no memory of its own.

    Examples
    --------
    >>> is_batched(torch.ones(2))
    False
    """
    return bool(torch._C._dispatch_keys(tensor).has(torch._C._dispatch_key_parse("Batched")))


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
    # Only the interpreter stack records how many of the transforms are `jvp`.
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
    # `untraced` suspends this state of torch.jit.trace.
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

    It may not if values are unknown, as for fake and meta tensors, or if a recorded program must
    also be valid for other values.

    Examples
    --------
    >>> has_numbers(torch.ones(2)), has_numbers(torch.ones(2, device="meta"))
    (True, False)
    """
    if recorded() or torch._C._len_torch_dispatch_stack():  # a fake mode is a dispatch mode
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
    core: Any = torch._C  # the tracer cannot be paused otherwise
    state = core._get_tracing_state()
    if state is None:
        yield
        return
    core._set_tracing_state(None)
    try:
        yield
    finally:
        core._set_tracing_state(state)


def constant(function: _F) -> _F:
    """Make torch.compile treat the results of a function as constants, without tracing it.

    This is `torch.compiler.assume_constant_result`, which would import the compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def not_a_view(made: Tensor) -> Tensor:
    """Return a tensor in the same memory that torch does not regard as a view.

    Torch raises an error if a view returned by an operator is modified in place, as some models do
    with the outputs of layers. Only this private operator avoids a copy.
    """
    return torch.ops.aten._unsafe_view(made, made.shape)


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return a module's own parameters by name; `named_parameters` omits those that are None.

    Examples
    --------
    >>> own_parameters(nn.Linear(1, 1, bias=False))["bias"] is None
    True
    """
    return module._parameters


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """Return a module's own buffers by name; `named_buffers` omits those that are None.

    Examples
    --------
    >>> [*own_buffers(nn.BatchNorm1d(1))]
    ['running_mean', 'running_var', 'num_batches_tracked']
    """
    return module._buffers


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return a module's children by name; `named_children` yields a shared child only once.

    Examples
    --------
    >>> act = nn.ReLU()
    >>> [*own_modules(nn.Sequential(act, act))]
    ['0', '1']
    """
    return module._modules


def has_hooks(module: nn.Module, *, backward: bool = True, of_all_modules: bool = False) -> bool:
    """Return whether a module has hooks; torch has no public query.

    Optionally, hooks for the backward pass are ignored, or global hooks for all modules are
    included.

    Examples
    --------
    >>> has_hooks(nn.ReLU()), has_hooks(nn.ReLU(), of_all_modules=True)
    (False, False)
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or (backward and (module._backward_hooks or module._backward_pre_hooks))
        or (of_all_modules and nn.modules.module._has_any_global_hook())
    )
