"""The names by which PEFT knows the method."""

import enum
from typing import Any


class StructmatType(str, enum.Enum):  # noqa: UP042 (PEFT shows what str() has after a dot)
    """The method, as PEFT's own `PeftType` names its methods.

    `peft.utils.register_peft_method` takes the members of that enumeration only; the tables it
    fills, and transformers, take any string that has a `value`.
    """

    STRUCTMAT = "STRUCTMAT"


PREFIX = "structmat_"  # of what belongs to an adapter, in the names of parameters

_CLASSIFIERS = ("classifier", "score")
_HEADS = {"SEQ_CLS": _CLASSIFIERS, "TOKEN_CLS": _CLASSIFIERS, "QUESTION_ANS": ("qa_outputs",)}


def heads(config: Any) -> tuple[str, ...]:
    """Return the names of modules that PEFT trains whole for the task of a configuration."""
    return _HEADS.get(getattr(config.task_type, "value", config.task_type) or "", ())
