"""Routing: settings of the switches that realise a permutation."""

from structmat.routing.settings import route

__all__ = ["route"]
