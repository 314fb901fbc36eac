"""The place of structmat among the methods of PEFT."""

from __future__ import annotations

from typing import Any

from peft import mapping

from structmat.nn.peft import reporting
from structmat.nn.peft.names import PREFIX, StructmatType


def register(config: type[Any], tuner: type[Any]) -> None:
    """Make PEFT find the method by the name in a configuration, and show what it trains."""
    kind: Any = StructmatType.STRUCTMAT
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = PREFIX
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = config
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = tuner
    reporting.install()
