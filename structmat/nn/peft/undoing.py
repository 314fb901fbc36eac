"""A model as it was before an adapter came, to be that again when something goes wrong."""

from __future__ import annotations

from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from structmat.nn.peft.layer import StructmatLayer


class Before:
    """Which modules and parameters a model has, and which are trained: no copies.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._children = [(m, dict(m._modules)) for m in model.modules()]
        self._trained = [(p, p.requires_grad) for p in model.parameters()]
        self._adapted = hasattr(model, "peft_config")

    def restore(self, model: nn.Module, adapter: str) -> None:
        """Take out everything that has come since, which belongs to this adapter."""
        for module, children in self._children:
            if isinstance(module, StructmatLayer):
                for part in (*module.adapter_layer_names, *module.other_param_names):
                    if adapter in getattr(module, part):
                        del getattr(module, part)[adapter]
            if isinstance(module, AuxiliaryTrainingWrapper):
                module._adapters.discard(adapter)
            module._modules.clear()
            module._modules.update(children)
        for parameter, trained in self._trained:
            parameter.requires_grad_(trained)
        if not self._adapted and hasattr(model, "peft_config"):
            del model.peft_config
