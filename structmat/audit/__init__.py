"""Audit of finetuned models: how well they preserve invariants of the pretrained model."""

from structmat.audit.model_audit import audit
from structmat.audit.tables import Audit

__all__ = ["Audit", "audit"]
