"""Conversion of adapters to and from the file formats of other libraries."""

from structmat.convert.conversion import Conversion, convert

__all__ = ["Conversion", "convert"]
