"""A rotation that may turn by a part of its angles, and by some of its stages only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from structmat.nn import powers
from structmat.nn.module import Orthogonal
from structmat.nn.stages import checked_stages, only


class Turn(Orthogonal):
    """An `Orthogonal` whose blocks act to a power, and only those of some stages.

    Both are states that nothing saves: generators stay as they are, and so do their gradients'
    places. At power 1, with all stages, it is an `Orthogonal`.
    """

    power: float = 1.0
    kept: tuple[int, ...] | None = None

    def set_power(self, power: float) -> None:
        """Turn by this part of all angles from now on."""
        self.power = power
        self._ready.clear()  # blocks that were kept are those of another power

    def set_stages(self, stages: Iterable[int] | slice | None) -> None:
        """Turn by these stages only from now on, 0 being the first that acts; None means all.

        Raises
        ------
        StructmatError
            When a number is no stage of the network.
        """
        self.kept = None if stages is None else tuple(checked_stages(stages, self.network.depth))
        self._ready.clear()

    def blocks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Return the blocks to the power, with the identity for stages that are left out."""
        made = super().blocks(dtype)
        if self.kept is not None:
            made = only(self.network, made, self.kept)
        return made if self.power == 1 else [powers.power(block, self.power) for block in made]
