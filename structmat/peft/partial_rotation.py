"""A rotation that may turn by a part of its angles, and by some of its stages only."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import powers
from structmat.nn.stage_selection import checked_stages, only


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

    def set_stages(self, stages: Iterable[int] | slice | None) -> None:
        """Turn by these stages only from now on, 0 being the first that acts; None means all.

        Raises
        ------
        StructmatError
            When a number is no stage of the network.
        """
        self.kept = None if stages is None else tuple(checked_stages(stages, self.network.depth))

    def _settings(self) -> Hashable:
        return super()._settings(), self.power, self.kept

    def _blocks_of(
        self, generators: Sequence[Tensor], dtype: torch.dtype, settings: Hashable
    ) -> list[Tensor]:
        """Return the blocks to the power, with the identity for stages that are left out."""
        plain, power, kept = cast("tuple[Hashable, float, tuple[int, ...] | None]", settings)
        made = super()._blocks_of(generators, dtype, plain)
        if kept is not None:
            made = only(self.network, made, kept)
        return made if power == 1 else [powers.power(block, power) for block in made]
