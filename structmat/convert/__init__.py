"""Conversion of adapters from and to the file formats of other libraries."""

from structmat.convert.conversion import Conversion, convert

__all__ = ["Conversion", "convert"]
