"""Routing: switch settings that realise a permutation."""

from structmat.routing.switch_settings import route

__all__ = ["route"]
