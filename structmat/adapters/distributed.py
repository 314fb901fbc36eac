"""Models that several processes hold: what wraps them, and tensors that are whole again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, distributed, nn

from structmat.errors import StructmatError

# What torch puts around a module within a model, as it shows in the names of parameters.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")

# Classes of what is put around a whole model; by name, for DeepSpeed may not be installed.
_SHELLS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
_SHELLS |= {"DeepSpeedEngine"}


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside what torch.compile, data parallelism and engines put around it.

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
    """Return whether a model is only a shell: of a class of such a name, around `module`."""
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


def is_around(module: nn.Module) -> bool:
    """Return whether a module is one of torch's wrappers around a module of the same name.

    Examples
    --------
    >>> inside = nn.Linear(2, 2)
    >>> is_around(nn.ModuleDict({"_orig_mod": inside})), is_around(inside)
    (True, False)
    """
    return any(name in _WRAPPERS for name in module._modules)


def renewed(module: nn.Module) -> None:
    """Let a compiled wrapper call the module that is now inside it: it keeps the old call."""
    around: Any = module
    if isinstance(module._modules.get("_orig_mod"), nn.Module):
        around._initialize()


def is_sharded(value: Tensor) -> bool:
    """Return whether a process holds a part of a tensor only, as with FSDP2 (a DTensor)."""
    return distributed.is_available() and isinstance(value, _dtensor())


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _dtensor() -> type[Tensor]:
    from torch.distributed.tensor import DTensor

    return DTensor


def gathered(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors, detached; where some are sharded, every process must call this."""
    return {name: _whole(value) for name, value in values.items()}


def _whole(value: Tensor) -> Tensor:
    whole = value.detach()
    if is_sharded(value):
        whole = whole.full_tensor()  # type: ignore[attr-defined]
    if isinstance(value, nn.Parameter):
        return nn.Parameter(whole, requires_grad=False)
    return whole


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module as it was before torch.distributed derived another from it."""
    first, *others = type(module).__bases__
    derived = others and first.__module__.startswith("torch.distributed.")
    return others[0] if derived else type(module)


class Writers:
    """Which process writes what all of them hold, and when the others may go on.

    Of a sharded model it is the first process of the mesh; of one inside `DDP`, FSDP1 or an
    engine, the first of all. Elsewhere each process that asks writes, for its model may be its own.

    Parameters
    ----------
    model : nn.Module
        As the caller has it, with what is around it.
    values : dict of name → Tensor
        Before they are gathered.
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
        """Wait until the writing process has come here, too, where all must take part anyway."""
        if self._mesh is not None:
            for k in range(self._mesh.ndim):
                distributed.barrier(self._mesh.get_group(k))


def check_whole(model: nn.Module, verb: str) -> None:
    """Refuse a model of which this process holds a part.

    Raises
    ------
    StructmatError
        When a parameter is sharded.
    """
    name = next((name for name, p in model.named_parameters() if is_sharded(p)), None)
    if name is not None:
        raise StructmatError(
            f"{name} is sharded over several processes: {verb} the model before fully_shard"
        )
