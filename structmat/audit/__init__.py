"""Audit a finetuned model: what it kept of the pretrained one."""

from structmat.audit.models import audit
from structmat.audit.tables import Audit

__all__ = ["Audit", "audit"]
