"""Registration of structmat as a PEFT method."""

from __future__ import annotations

from typing import Any

from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, mapping
from transformers.integrations.peft import PeftAdapterMixin

from structmat.adapters.adapted_layer import PREFIX
from structmat.peft import compatibility, summaries
from structmat.peft.names import StructmatType
from structmat.peft.rollback import guard

# Methods that may fail after adding an adapter; `get_peft_model` calls `__init__` of a model.
_ENTRIES = ("__init__", "from_pretrained", "add_adapter", "load_adapter")


def register(config: type[Any], tuner: type[Any]) -> None:
    """Register the method with PEFT, and wrap functions that load, add or summarise adapters."""
    kind: Any = StructmatType.STRUCTMAT
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = PREFIX
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = config
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = tuner
    compatibility.install()
    models: list[type[Any]] = [PeftModel, *MODEL_TYPE_TO_PEFT_MODEL_MAPPING.values()]
    for cls in [*models, PeftAdapterMixin]:
        guard(cls, *_ENTRIES)
    summaries.install()
