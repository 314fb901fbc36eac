"""The names by which PEFT knows the method."""

import enum


class StructmatType(str, enum.Enum):  # noqa: UP042 (PEFT shows what str() has after a dot)
    """The method, as PEFT's own `PeftType` names its methods.

    `peft.utils.register_peft_method` takes the members of that enumeration only; the tables it
    fills, and transformers, take any string that has a `value`.
    """

    STRUCTMAT = "STRUCTMAT"


PREFIX = "structmat_"  # of what belongs to an adapter, in the names of parameters
