"""Routing: which settings of the switches realise a permutation."""

from structmat.routing.settings import route

__all__ = ["route"]
