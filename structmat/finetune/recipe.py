"""How long and in what portions to train; loads nothing, so that the command line knows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from structmat.errors import whole


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and in what portions to train; the same for every method.

    Parameters
    ----------
    epochs : int
        Times each text is seen.
    batch : int
        Texts a step, in each process.
    max_length : int
        Tokens of a text that are read.
    evaluations : int
        Points of the validation curve, the last at the end.
    """

    epochs: int = 2
    batch: int = 32
    max_length: int = 64
    evaluations: int = 3

    def __post_init__(self) -> None:
        """Refuse what is no positive whole number."""
        for name in ("epochs", "batch", "max_length", "evaluations"):
            whole(getattr(self, name), name, 1)

    def steps(self, texts: int, *, processes: int = 1) -> int:
        """Return the number of steps; an epoch leaves out its last part batch."""
        return math.ceil(self.epochs * (texts // min(self.batch, texts)) / processes)
