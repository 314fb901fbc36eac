"""Fitting a network to a target matrix, with a lower bound on the error."""

from structmat.fitting.solver import Fit, fit

__all__ = ["Fit", "fit"]
