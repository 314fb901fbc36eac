"""A rotation that can be raised to a power and restricted to some of its stages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from structmat.nn.orthogonal_layer import Orthogonal
from structmat.nn.parametrizations import powers
from structmat.nn.stage_selection import checked_stages, only


class PartialRotation(Orthogonal):
    """An `Orthogonal` whose blocks can be raised to a power and whose stages can be omitted.

    Neither setting is saved or changes the generators. With power 1 and all stages, it behaves like
    `Orthogonal`.
    """

    power: float = 1.0
    kept: tuple[int, ...] | None = None

    def set_power(self, power: float) -> None:
        """Set the power, which multiplies all rotation angles."""
        self.power = power

    def set_stages(self, stages: Iterable[int] | slice | None) -> None:
        """Set the stages to keep, where 0 is the first to act; None means all.

        Raises
        ------
        StructmatError
            If the network has no stage with a given index.
        """
        self.kept = None if stages is None else tuple(checked_stages(stages, self.network.depth))

    def _settings(self) -> Hashable:
        return super()._settings(), self.power, self.kept

    def _blocks_of(
        self, generators: Sequence[Tensor], dtype: torch.dtype, settings: Hashable
    ) -> list[Tensor]:
        """Return the blocks raised to the power, with the identity for omitted stages."""
        plain, power, kept = cast("tuple[Hashable, float, tuple[int, ...] | None]", settings)
        made = super()._blocks_of(generators, dtype, plain)
        if kept is not None:
            made = only(self.network, made, kept)
        return made if power == 1 else [powers.power(block, power) for block in made]

    def __repr__(self) -> str:
        power = "" if self.power == 1 else f", power={self.power}"
        kept = "" if self.kept is None else f", kept={self.kept}"
        return f"Orthogonal({self.extra_repr()}{power}{kept})"
