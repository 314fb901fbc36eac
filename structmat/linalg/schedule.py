"""Schedules: the sequence of permutations and block products that applies a network.

Applied naively, each stage gathers its wires, multiplies, and scatters the result. A schedule
leaves the result of each stage in the order of that stage and permutes it directly to the order
of the next one, so that m stages need at most m+1 permutations instead of 2m. Identity permutations
are dropped, and permutations that only transpose axes are marked as views.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from structmat._util.text_table import cell, counted, in_html, left
from structmat.errors import checked_integer
from structmat.families.resolution import checked
from structmat.networks import permutation
from structmat.networks.network import Network
from structmat.networks.permutation import Index, frozen


@dataclass(frozen=True, eq=False)
class Gather:
    """A reordering of the wires: `y = x[..., index]`.

    Attributes
    ----------
    index, inverse : (width,) integers
        The permutation and its inverse, as numpy arrays in a `Schedule`; see `on`.
    view : (shape, axes), or None
        If not None, this equals `x.reshape(shape).transpose(axes)`.
    """

    index: Any
    inverse: Any
    view: tuple[tuple[int, ...], tuple[int, ...]] | None

    def on(self, array: Callable[[Index], Any]) -> Gather:
        """Return this step with its index arrays converted by `array`, to a library or device."""
        return Gather(array(self.index), array(self.inverse), self.view)

    @property
    def T(self) -> Gather:  # noqa: N802 (as numpy calls it)
        """The inverse permutation."""
        view = self.view
        if view is not None:
            shape, axes = view
            order = sorted(range(len(axes)), key=axes.__getitem__)
            view = tuple(shape[axis] for axis in axes), tuple(order)
        return Gather(self.inverse, self.index, view)

    def to_dict(self) -> dict[str, Any]:
        """Return the step as a JSON-serialisable dict, without the index array."""
        if self.view is None:
            return {"does": "permute", "view": None}
        shape, axes = map(list, self.view)
        return {"does": "permute", "view": {"shape": shape, "axes": axes}}

    def __str__(self) -> str:
        if self.view is None:
            return f"gather {counted(len(self.index), 'wire')} by an index array"
        shape, axes = self.view
        return f"reshape the wires to {'×'.join(map(str, shape))}, transpose to axes {axes}"


@dataclass(frozen=True)
class Segment:
    """Consecutive wires, `start` to `start + count·radix`, multiplied by the blocks of a bank."""

    bank: int
    start: int
    count: int
    radix: int

    @property
    def end(self) -> int:
        """One past the last wire."""
        return self.start + self.count * self.radix


@dataclass(frozen=True)
class Product:
    """Multiplication of consecutive runs of wires by blocks; other wires are left unchanged."""

    stage: int
    segments: tuple[Segment, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the step as a JSON-serialisable dict; stages are numbered from 0."""
        blocks = [{"start": s.start, "count": s.count, "radix": s.radix} for s in self.segments]
        return {"does": "multiply", "stage": self.stage, "blocks": blocks}

    def __str__(self) -> str:
        parts = " and ".join(
            f"{counted(s.count, 'block')} {s.radix}×{s.radix}" for s in self.segments
        )
        return f"multiply by {parts} (stage {self.stage + 1})"


Step = Gather | Product


@dataclass(frozen=True)
class Cost:
    """The numbers of floating-point operations, of bytes moved, and of kernel launches."""

    flops: int
    bytes: int
    launches: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops, self.bytes + other.bytes, self.launches + other.launches
        )


@dataclass(frozen=True, eq=False)
class Schedule:
    """The steps that apply a network, in order (see `schedule`)."""

    network: Network
    steps: tuple[Step, ...]

    def cost(self, tokens: int, *, itemsize: int = 4) -> Cost:
        """Return the cost of applying R to `tokens` vectors of numbers with `itemsize` bytes each.

        A multiply-add counts as two operations; each step reads and writes every wire that it
        touches once; the blocks are read once per product.

        Examples
        --------
        >>> from structmat.families import shuffle
        >>> schedule(shuffle(384, block=8)).cost(1000).flops
        18432000
        """
        n = checked_integer(tokens, "tokens")
        width = self.network.width
        flops = moved = launches = 0
        for step in self.steps:
            if isinstance(step, Gather):
                moved += 2 * n * width
                launches += 1
                continue
            for s in step.segments:
                size = s.end - s.start
                flops += 2 * n * size * s.radix
                moved += 2 * n * size + size * s.radix
                launches += 1
        return Cost(flops, moved * itemsize, launches)

    def explain(self) -> str:
        """Describe the steps, one per line, and compare their cost with that of a dense product.

        Examples
        --------
        >>> from structmat.families import monarch
        >>> print(schedule(monarch(6)).explain())
        6 wires, 2 stages: 4 steps, 2 of them permutations (2 transposes, 0 index arrays)
          1  multiply by 3 blocks 2×2 (stage 1)
          2  reshape the wires to 3×2, transpose to axes (1, 0)
          3  multiply by 2 blocks 3×3 (stage 2)
          4  reshape the wires to 2×3, transpose to axes (1, 0)
        one vector: 60 operations, compared with 72 for a dense 6×6 product (ratio 0.83)
        """
        head, end = self._header_and_footer()
        return "\n".join([head, *(f"{k:3d}  {step}" for k, step in enumerate(self.steps, 1)), end])

    def to_dict(self) -> dict[str, Any]:
        """Return the steps and their cost as a JSON-serialisable dict.

        A permutation is described by its view, or by None if it needs an index array, which is not
        included because it is as long as the network is wide.

        Examples
        --------
        >>> from structmat.families import monarch
        >>> found = schedule(monarch(6)).to_dict()
        >>> found["steps"][0]
        {'does': 'multiply', 'stage': 0, 'blocks': [{'start': 0, 'count': 3, 'radix': 2}]}
        >>> found["steps"][1]
        {'does': 'permute', 'view': {'shape': [3, 2], 'axes': [1, 0]}}
        >>> found["operations"], found["dense_operations"]
        (60, 72)
        """
        return {
            "steps": [step.to_dict() for step in self.steps],
            "operations": self.cost(1).flops,
            "dense_operations": self._dense_flops,
        }

    @property
    def _dense_flops(self) -> int:
        return 2 * self.network.width**2

    def _header_and_footer(self) -> tuple[str, str]:
        """Return a header, which describes the steps, and a footer, which states their cost."""
        net = self.network
        gathers = [step for step in self.steps if isinstance(step, Gather)]
        views = sum(step.view is not None for step in gathers)
        flops = self.cost(1).flops
        full = self._dense_flops
        head = (
            f"{counted(net.width, 'wire')}, {counted(net.depth, 'stage')}:"
            f" {counted(len(self.steps), 'step')}, {len(gathers)} of them"
            f" {'a permutation' if len(gathers) == 1 else 'permutations'}"
            f" ({counted(views, 'transpose')}, {counted(len(gathers) - views, 'index array')})"
        )
        end = (
            f"one vector: {counted(flops, 'operation')}, compared with {full:,} for a dense"
            f" {net.width}×{net.width} product (ratio {flops / full:.2g})"
        )
        return head, end

    def _repr_html_(self) -> str:
        head, end = self._header_and_footer()
        rows = [cell("th", "step") + cell("th", "operation")]
        rows += [cell("td", f"{k}") + left("td", f"{step}") for k, step in enumerate(self.steps, 1)]
        return f"<div><p>{html.escape(head)}</p>\n{in_html(rows)}\n<p>{html.escape(end)}</p></div>"


def schedule(net: Network) -> Schedule:
    """Return the schedule of a network, with adjacent permutations combined into one.

    Raises
    ------
    StructmatError
        For a spec, a family, or anything else that is not a network.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> [type(step).__name__ for step in schedule(butterfly(8)).steps]
    ['Product', 'Gather', 'Product', 'Gather', 'Product', 'Gather']
    """
    return _schedule(checked(net, "schedule"))


@lru_cache(maxsize=64)
def _schedule(net: Network) -> Schedule:
    steps: list[Step] = []
    order = permutation.identity(net.width)  # the wire that is now at each position
    bank = 0
    for t, stage in enumerate(net.stages):
        start, end = stage.passing
        wanted = np.concatenate([*(b.reads.ravel() for b in stage.banks), start])
        if stage.banks:
            steps += _gather(order, wanted)
            segments = []
            first = 0
            for b in stage.banks:
                segments.append(Segment(bank, first, b.count, b.radix))
                first += b.reads.size
                bank += 1
            steps.append(Product(t, tuple(segments)))
            order = np.concatenate([*(b.writes.ravel() for b in stage.banks), end])
        else:  # only wires outside switches move: update which wire is at each position
            renamed = np.empty_like(order)
            renamed[start] = end
            order = renamed[order]
    steps += _gather(order, permutation.identity(net.width))
    return Schedule(net, tuple(steps))


def _gather(order: Index, wanted: Index) -> list[Gather]:
    """Return the step that reorders the wires from `order` to `wanted`, if they differ."""
    index = permutation.inverse(order)[wanted]
    if np.array_equal(index, permutation.identity(len(index))):
        return []
    back = permutation.inverse(index)
    return [Gather(frozen(index), frozen(back), permutation.strides(index))]
