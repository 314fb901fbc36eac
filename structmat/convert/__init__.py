"""Convert adapters from and to the files of other libraries; one file a format."""

from structmat.convert.conversion import Conversion, convert

__all__ = ["Conversion", "convert"]
