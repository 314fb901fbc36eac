"""Parameters that accelerate keeps elsewhere, on the CPU or on disk, between calls of a module.

Its hooks load the parameters of a module when that module is called. So containers of parameters
are called here, and a layer whose weight is read without a call is `loaded` first.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Generators(nn.ParameterList):
    """The generators of all banks of a rotation; a call returns them."""

    __call__ = nn.Module.__call__  # which a ParameterList refuses

    def forward(self) -> tuple[Tensor, ...]:
        """Return the generators, one tensor for each bank."""
        return tuple(self)


class Factors(nn.ParameterDict):
    """Factors of outputs by the name of an adapter; a call returns them."""

    __call__ = nn.Module.__call__  # which a ParameterDict refuses

    def forward(self) -> dict[str, Tensor]:
        """Return the factors by name."""
        return dict(self.items())


def is_offloaded(module: Any) -> bool:
    """Return whether the parameters of a module are elsewhere until it is called.

    Examples
    --------
    >>> is_offloaded(nn.Linear(2, 2))
    False
    """
    return bool(_hooks(module)) and is_empty(module)


def is_empty(module: Any) -> bool:
    """Return whether a module has parameters on the meta device, which hold no numbers.

    Examples
    --------
    >>> is_empty(nn.Linear(2, 2)), is_empty(nn.Linear(2, 2, device="meta"))
    (False, True)
    """
    holder: nn.Module = vars(module).get("owner", module)
    return any(p.is_meta for p in holder.parameters(recurse=False))


def _hooks(module: Any) -> list[Any]:
    """Return the hooks that load the parameters of a module, or of the owner of a stack."""
    own = vars(vars(module).get("owner", module))
    if "_hf_hook" not in own:
        return []
    hook = own["_hf_hook"]
    return [h for h in getattr(hook, "hooks", (hook,)) if getattr(h, "offload", False)]


@contextmanager
def loaded(module: Any) -> Iterator[None]:
    """Keep the parameters of a module loaded in a `with` statement, even if it is called inside."""
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
    """Put another weight in a module, and in what its hooks load its weight from."""
    module.weight = weight
    name = module.part if "owner" in vars(module) else "weight"  # of a stack of experts
    for hook in _hooks(module):
        if not isinstance(hook.weights_map, ChainMap):
            hook.weights_map = ChainMap({}, hook.weights_map)
        changed = hook.weights_map.maps[0]
        changed.pop(name, None)  # a weight on the meta device is where it was at first
        if not weight.is_meta:
            changed[name] = weight.detach().cpu()


def applied(weight: nn.Parameter, fn: Callable[[Tensor], Tensor]) -> nn.Parameter:
    """Return a parameter of no module after what `nn.Module._apply` does to those of one.

    Examples
    --------
    >>> applied(nn.Parameter(torch.ones(2)), lambda t: t.to("meta")).device
    device(type='meta')
    """
    holder = nn.ParameterList([weight])
    holder._apply(fn)
    return holder[0]


def device_of(module: Any, weight: Tensor) -> torch.device:
    """Return where a module computes: the device of its weight, or the one it is loaded to."""
    hooks = _hooks(module)
    if not hooks or hooks[0].execution_device is None:
        return weight.device
    return torch.device(hooks[0].execution_device)
