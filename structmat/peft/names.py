"""The names under which PEFT knows the method, and checks of adapter names."""

import enum
from typing import Any, cast

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from structmat.adapters.adapted_layer import PREFIX
from structmat.errors import StructmatError
from structmat.nn.torch_internals import own_modules


class StructmatType(str, enum.Enum):  # noqa: UP042 (PEFT shows what str() has after a dot)
    """An enumeration like PEFT's `PeftType`, whose only value is this method.

    `peft.utils.register_peft_method` accepts only members of that enumeration; the tables it
    fills, and transformers, accept any string that has a `value`.
    """

    STRUCTMAT = "STRUCTMAT"


_CLASSIFIERS = ("classifier", "score")
_HEADS = {"SEQ_CLS": _CLASSIFIERS, "TOKEN_CLS": _CLASSIFIERS, "QUESTION_ANS": ("qa_outputs",)}


def heads(config: Any) -> tuple[str, ...]:
    """Return the names of modules that PEFT trains in full for a configuration's task type."""
    return _HEADS.get(getattr(config.task_type, "value", config.task_type) or "", ())


def check_name(model: nn.Module, adapter: Any) -> None:
    """Raise an error for an adapter name that torch cannot use as a key or that PEFT would confuse.

    Raises
    ------
    StructmatError
        If the name is unusable.
    """
    parts = {"generators", "base_layer", "original_module", "modules_to_save"}
    inside: tuple[str, ...] = ()  # parts named after adapters, whose names cannot conflict
    for name, module in model.named_modules():
        if not name.startswith(inside):
            parts.update(name.split("."))
            parts.update(part for part, _ in module.named_parameters(recurse=False))
            parts.update(part for part, _ in module.named_buffers(recurse=False))
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            children = own_modules(cast("nn.Module", module))  # a mixin of modules
            own = {*children} - {"base_layer", "original_module"}
            inside = (*inside, *(f"{name}.{part}" for part in own))
    if not isinstance(adapter, str) or not adapter or "." in adapter:
        why = "it must be text without a dot, since it becomes part of the names of tensors"
    elif any(hasattr(kind(), adapter) for kind in (nn.ModuleDict, nn.ParameterDict)):
        why = "torch's ModuleDict or ParameterDict has an attribute of this name"
    elif adapter in parts or adapter.isdigit() or adapter.startswith(PREFIX):
        why = "a part of the model or of its saved state has this name, and PEFT would confuse them"
    else:
        return
    raise StructmatError(f"adapter {adapter!r}: {why}; choose another name")
