"""Sweeps from several starts, followed by a refinement; the best result is always kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from structmat.fitting.alternating_procrustes import procrustes_sweeps
from structmat.fitting.levenberg_marquardt import refinable, refined
from structmat.linalg.blocks import Array
from structmat.linalg.factors import matrix_of
from structmat.networks.network import Network


class Search:
    """The best blocks found so far, which survive an interruption.

    Parameters
    ----------
    net : Network
        A straight network.
    target : (width, width)
    special : bool
        Whether real blocks must be rotations.
    tolerance : float
        The relative decrease in the distance below which sweeps and steps stop.
    enough : float
        The distance at which sweeps and steps stop.

    Attributes
    ----------
    blocks : list of arrays, empty until the first sweep is done
    history : list of float
        The distance ‖R − T‖_F after each sweep and step that led to the blocks.
    method : str

    Examples
    --------
    >>> from structmat.linalg.blocks import identity_blocks
    >>> net = Network.of(2, [[[0, 1]]])
    >>> search = Search(net, -np.eye(2), special=True, tolerance=1e-6, enough=0.0)
    >>> search.sweep(identity_blocks(net), most=5)
    >>> search.history
    [0.0]
    """

    def __init__(
        self, net: Network, target: Array, *, special: bool, tolerance: float, enough: float
    ) -> None:
        self._net, self._target = net, target
        self._special, self._tolerance, self._enough = special, tolerance, enough
        self.blocks: list[Array] = []
        self.history = [np.inf]
        self.method = "alternating Procrustes"

    @property
    def done(self) -> bool:
        """Whether the distance is small enough."""
        return self.history[-1] <= self._enough

    def sweep(self, begin: Sequence[Array], most: int, steps: Any = None) -> None:
        """Sweep from the given blocks, up to `most` times; `steps` is a progress bar to update."""
        history: list[float] = []
        for blocks, distance in procrustes_sweeps(
            self._net, self._target, begin, special=self._special
        ):
            history.append(distance)
            if history is self.history or distance < self.history[-1]:
                self.blocks, self.history = blocks, history
            if steps is not None:
                steps.update()
            if len(history) == most or self._settled(history):
                return

    def refine(self) -> None:
        """Improve the best blocks over all generators at once, if the network is small enough."""
        if self.done or not refinable(self._net, self._target):
            return
        for blocks, distance in refined(self._net, self._target, self.blocks):
            if (
                not distance < self.history[-1]
            ):  # the rounding errors differ from those of the sweeps
                return
            self.blocks = blocks
            self.history.append(distance)
            self.method = "alternating Procrustes, refined"
            if self._settled(self.history):
                return

    def interrupt(self, begins: Sequence[Sequence[Array]]) -> None:
        """Record the interruption; if no sweep is complete, keep the best of the given blocks."""
        self.method += ", interrupted"
        if np.isfinite(self.history[-1]):
            return
        for begin in begins:
            distance = float(np.linalg.norm(matrix_of(self._net, begin) - self._target))
            if distance < self.history[-1]:
                self.blocks, self.history = list(begin), [distance]

    def _settled(self, history: Sequence[float]) -> bool:
        stalled = len(history) > 1 and history[-2] - history[-1] < self._tolerance * history[-2]
        return stalled or self.done
