"""Rollback of a model to its state before an adapter was added, if adding it fails."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from structmat.adapters.distributed import renewed
from structmat.adapters.retying import guard_ties
from structmat.nn.torch_internals import own_modules
from structmat.peft.layer import StructmatLayer

# Functions that remove the adapters added since a guarded function began, the most recent last.
_made: ContextVar[list[Callable[[], None]] | None] = ContextVar("structmat_made", default=None)


class Before:
    """A snapshot of the structure of a model, its trained parameters and its active adapters.

    It refers to modules and parameters without copying them.

    Parameters
    ----------
    model : nn.Module
    configs : mapping from adapter to configuration
        The configurations of the tuner, including the new adapter's.
    adapter : str
        The name of the new adapter.
    """

    def __init__(self, model: nn.Module, configs: Mapping[str, Any], adapter: str) -> None:
        self._model = model
        self._configs: Any = configs
        self._adapter = adapter
        self._config = configs[adapter]
        self._options = {key: copy.copy(value) for key, value in vars(self._config).items()}
        self._children = [(m, dict(own_modules(m))) for m in model.modules()]
        self._trained = [(p, p.requires_grad) for p in model.parameters()]
        self._active = [
            (m, m._active_adapter)
            for m in model.modules()
            if isinstance(m, StructmatLayer | AuxiliaryTrainingWrapper)
        ]
        self._adapted = hasattr(model, "peft_config")

    def restore(self) -> None:
        """Remove everything added since the snapshot, all of which belongs to the new adapter."""
        model: Any = self._model
        adapter = self._adapter
        for module, children in self._children:
            if isinstance(module, StructmatLayer):
                for part in (*module.adapter_layer_names, *module.other_param_names):
                    if adapter in getattr(module, part):
                        del getattr(module, part)[adapter]
            if isinstance(module, AuxiliaryTrainingWrapper):
                module._adapters.discard(adapter)
            if own_modules(module) != children:
                own_modules(module).clear()
                own_modules(module).update(children)
                renewed(module)
        guard_ties(model, StructmatLayer)
        for owner, active in self._active:
            owner._active_adapter = active
        for parameter, trained in self._trained:
            parameter.requires_grad_(trained)
        self._configs.pop(adapter, None)
        vars(self._config).update(self._options)
        if not self._adapted:
            if hasattr(model, "peft_config"):
                del model.peft_config
            if getattr(model, "_hf_peft_config_loaded", False):  # set before anything is injected
                model._hf_peft_config_loaded = False


def remember(before: Before) -> None:
    """Restore this snapshot if the enclosing guarded function, if there is one, later fails."""
    made = _made.get()
    if made is not None:
        made.append(before.restore)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of PEFT or transformers so that it leaves no adapter behind if it fails.

    Only structmat adapters are affected.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        outer, made = _made.get(), list[Callable[[], None]]()
        token = _made.set(made)
        try:
            result = function(*args, **kwargs)
        except BaseException:
            for undo in reversed(made):
                undo()
            raise
        finally:
            _made.reset(token)
        if outer is not None:
            outer.extend(made)
        return result

    return run


def guard(cls: type[Any], *names: str) -> None:
    """Guard the named methods that the class itself defines, skipping any already guarded."""
    for name in names:
        held = vars(cls).get(name)
        function = held.__func__ if isinstance(held, classmethod) else held
        if function is None or hasattr(function, "_structmat_guarded"):
            continue
        run: Any = guarded(function)
        run._structmat_guarded = True
        setattr(cls, name, classmethod(run) if isinstance(held, classmethod) else run)
