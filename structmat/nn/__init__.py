"""The torch layer, and adapters that finetune a model with it. Importing this loads torch."""

from structmat.nn.adapters import Adapter
from structmat.nn.auditing import audit
from structmat.nn.auditreport import Audit
from structmat.nn.checkpoints import load_adapter, save_adapter
from structmat.nn.conversion.converting import Conversion, convert
from structmat.nn.model import adapt, adapters, merge, unmerge
from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.paths import Kept, keep_stages, path

__all__ = [
    "Orthogonal",
    "adapt",
    "adapters",
    "Adapter",
    "merge",
    "unmerge",
    "save_adapter",
    "load_adapter",
    "convert",
    "Conversion",
    "audit",
    "Audit",
    "path",
    "keep_stages",
    "Kept",
]
