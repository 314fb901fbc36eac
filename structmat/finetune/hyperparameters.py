"""The training hyperparameters, in a module that the command line can import quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from structmat.errors import checked_integer


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The training hyperparameters, which are the same for every method.

    Parameters
    ----------
    epochs : int
        The number of passes over the texts.
    batch : int
        The number of texts per step and process.
    max_length : int
        The maximum number of tokens of a text; longer texts are truncated.
    evaluations : int
        The maximum number of points on the validation curve; the last is at the end of training.
    """

    epochs: int = 2
    batch: int = 32
    max_length: int = 64
    evaluations: int = 3

    def __post_init__(self) -> None:
        """Check that all numbers are positive integers."""
        for name in ("epochs", "batch", "max_length", "evaluations"):
            checked_integer(getattr(self, name), name, 1)

    def steps(self, texts: int, *, processes: int = 1) -> int:
        """Return the number of steps; an incomplete last batch of an epoch is skipped."""
        return math.ceil(self.epochs * (texts // min(self.batch, texts)) / processes)
