"""Support for distributed models: unwrapping them, and gathering sharded tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, distributed, nn

from structmat.errors import StructmatError
from structmat.nn.torch_internals import own_modules

# Torch's wrappers of a module within a model, as they appear in the names of parameters.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")

# Names of the classes that wrap a whole model; DeepSpeed may not be installed.
_SHELLS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
_SHELLS |= {"DeepSpeedEngine"}


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside any wrappers by torch.compile, data parallelism and training engines.

    Examples
    --------
    >>> inside = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(inside)) is inside
    True
    """
    around: Any = model
    while True:
        if isinstance(getattr(around, "_orig_mod", None), nn.Module):  # torch.compile
            around = around._orig_mod
        elif _is_wrapper(around):
            around = around.module
        else:
            return around


def _is_wrapper(model: nn.Module) -> bool:
    """Return whether a model only wraps its attribute `module`, judged by its class name."""
    names = (cls.__name__ for cls in type(model).__mro__)
    return not _SHELLS.isdisjoint(names) and hasattr(model, "module")


def plain_name(name: str) -> str:
    """Return the name that a module or parameter has in the model without wrappers.

    Examples
    --------
    >>> plain_name("encoder._orig_mod.0._checkpoint_wrapped_module.query")
    'encoder.0.query'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def is_torch_wrapper(module: nn.Module) -> bool:
    """Return whether a module is a wrapper by torch, which shares the name of the wrapped module.

    Examples
    --------
    >>> inside = nn.Linear(2, 2)
    >>> is_torch_wrapper(nn.ModuleDict({"_orig_mod": inside})), is_torch_wrapper(inside)
    (True, False)
    """
    return any(name in _WRAPPERS for name in own_modules(module))


def renewed(module: nn.Module) -> None:
    """Make a wrapper by torch.compile call its current inner module instead of a cached old one."""
    around: Any = module
    if isinstance(own_modules(module).get("_orig_mod"), nn.Module):
        around._initialize()


def is_sharded(value: Tensor) -> bool:
    """Return whether each process stores only part of a tensor, as with FSDP2 (a DTensor)."""
    return distributed.is_available() and isinstance(value, _dtensor())


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _dtensor() -> type[Tensor]:
    from torch.distributed.tensor import DTensor

    return DTensor


def gathered(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole, detached tensors; if any is sharded, every process must call this."""
    return {name: _whole(value) for name, value in values.items()}


def _whole(value: Tensor) -> Tensor:
    whole = value.detach()
    if is_sharded(value):
        whole = whole.full_tensor()  # type: ignore[attr-defined]
    if isinstance(value, nn.Parameter):
        return nn.Parameter(whole, requires_grad=False)
    return whole


class Writers:
    """Choice of the process that writes a distributed model, and synchronisation with it.

    For a sharded model, the first process of the mesh writes; for a model wrapped by `DDP`, FSDP1
    or a training engine, the first process. Otherwise, every process writes, since their models may
    differ.

    Parameters
    ----------
    model : nn.Module
        The model with its wrappers.
    values : dict of name → Tensor
        The tensors before they are gathered.
    """

    def __init__(self, model: nn.Module, values: Mapping[str, Tensor]) -> None:
        sharded: list[Any] = [value for value in values.values() if is_sharded(value)]
        self._mesh = sharded[0].device_mesh if sharded else None
        around = getattr(model, "_orig_mod", model)
        self._replicated = _is_wrapper(around) and _several()

    @property
    def mine(self) -> bool:
        """Whether this process writes."""
        if self._mesh is not None:
            return not any(self._mesh.get_coordinate())
        return not self._replicated or distributed.get_rank() == 0

    def wait(self) -> None:
        """Wait until the files of a sharded model are written.

        Every process must call this.
        """
        if self._mesh is not None:
            for k in range(self._mesh.ndim):
                distributed.barrier(self._mesh.get_group(k))


def check_whole(model: nn.Module, verb: str) -> None:
    """Raise an error if this process stores only part of a model.

    Raises
    ------
    StructmatError
        If a parameter is sharded.
    """
    name = next((name for name, p in model.named_parameters() if is_sharded(p)), None)
    if name is not None:
        raise StructmatError(
            f"{name} is sharded across several processes: {verb} the model before fully_shard"
        )
