"""Fitting a network to a target matrix: the best blocks, and a floor under their error."""

from structmat.fitting.solving import Fit, fit

__all__ = ["Fit", "fit"]
