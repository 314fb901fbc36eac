"""structmat's PEFT method; importing this module registers it with PEFT.

`get_peft_model`, `PeftModel.from_pretrained`, transformers' `add_adapter` and everything else that
works with a PEFT method then accepts a `StructmatConfig`. The extra `peft` is required.
"""

from structmat.errors import require

require("peft", "peft")

from structmat.peft.config import StructmatConfig  # noqa: E402 (after the check above)
from structmat.peft.layer import StructmatLayer  # noqa: E402
from structmat.peft.parameter_counts import Counts, counts  # noqa: E402
from structmat.peft.registration import register  # noqa: E402
from structmat.peft.tuner import StructmatModel  # noqa: E402

__all__ = ["StructmatConfig", "StructmatModel", "StructmatLayer", "Counts", "counts"]

register(StructmatConfig, StructmatModel)
