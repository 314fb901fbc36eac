"""Support for parameters that accelerate offloads to the CPU or disk between calls of a module.

Accelerate's hooks load the parameters of a module when the module is called. Parameter containers
are therefore called to obtain their parameters, and a layer whose weight is read without a call
must first be `loaded`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Generators(nn.ParameterList):
    """The generators of all banks of a rotation; calling the container returns them."""

    __call__ = nn.Module.__call__  # a ParameterList would raise an error

    def forward(self) -> tuple[Tensor, ...]:
        """Return the generators, one tensor for each bank."""
        own = tuple(self._parameters.values())  # much faster than iteration
        return own if len(own) == len(self) else tuple(self)  # type: ignore[return-value]


class Factors(nn.ParameterDict):
    """Output scaling factors by adapter name; calling the container returns them."""

    __call__ = nn.Module.__call__  # a ParameterDict would raise an error

    def forward(self) -> dict[str, Tensor]:
        """Return the factors by name."""
        return dict(self.items())


def is_offloaded(module: Any) -> bool:
    """Return whether the parameters of a module are offloaded until it is called.

    Examples
    --------
    >>> is_offloaded(nn.Linear(2, 2))
    False
    """
    return bool(_hooks(module)) and is_empty(module)


def is_empty(module: Any) -> bool:
    """Return whether a module has parameters on the meta device, which store no values.

    Examples
    --------
    >>> is_empty(nn.Linear(2, 2)), is_empty(nn.Linear(2, 2, device="meta"))
    (False, True)
    """
    holder: nn.Module = vars(module).get("owner", module)
    return any(p.is_meta for p in holder.parameters(recurse=False))


def _hooks(module: Any) -> list[Any]:
    """Return the hooks that load the parameters of a module, or of the experts owning a stack."""
    own = vars(vars(module).get("owner", module))
    if "_hf_hook" not in own:
        return []
    hook = own["_hf_hook"]
    return [h for h in getattr(hook, "hooks", (hook,)) if getattr(h, "offload", False)]


@contextmanager
def loaded(module: Any) -> Iterator[None]:
    """Keep a module's parameters loaded within a `with` block, even if the module is called."""
    holder: nn.Module = vars(module).get("owner", module)
    hooks = _hooks(module) if is_offloaded(module) else []
    for hook in hooks:
        hook.pre_forward(holder)
        hook.offload = False  # it still moves inputs and outputs
    try:
        yield
    finally:
        for hook in hooks:
            hook.offload = True
            hook.post_forward(holder, None)


def hold(module: Any, weight: nn.Parameter) -> None:
    """Replace the weight of a module, and the copy from which its offloading hooks load it."""
    module.weight = weight
    name = module.part if "owner" in vars(module) else "weight"  # `owner`: a stacked expert weight
    for hook in _hooks(module):
        if not isinstance(hook.weights_map, ChainMap):
            hook.weights_map = ChainMap({}, hook.weights_map)
        changed = hook.weights_map.maps[0]
        changed.pop(name, None)  # a weight on the meta device is loaded from the original map
        if not weight.is_meta:
            changed[name] = weight.detach().cpu()


def is_held(module: Any) -> bool:
    """Return whether a module's offloading hooks load the weight that was passed to `hold`.

    Examples
    --------
    >>> is_held(nn.Linear(2, 2))
    False
    """
    name = module.part if "owner" in vars(module) else "weight"
    return any(
        isinstance(hook.weights_map, ChainMap) and name in hook.weights_map.maps[0]
        for hook in _hooks(module)
    )


def applied(weight: nn.Parameter, fn: Callable[[Tensor], Tensor]) -> nn.Parameter:
    """Apply `nn.Module._apply` to a parameter that belongs to no module, and return the result.

    Examples
    --------
    >>> applied(nn.Parameter(torch.ones(2)), lambda t: t.to("meta")).device
    device(type='meta')
    """
    holder = nn.ParameterList([weight])
    holder._apply(fn)
    return holder[0]


def device_of(module: Any, weight: Tensor) -> torch.device:
    """Return the device on which a module computes: its weight's, or that of its hooks."""
    hooks = _hooks(module)
    if not hooks or hooks[0].execution_device is None:
        return weight.device
    return torch.device(hooks[0].execution_device)
