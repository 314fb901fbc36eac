"""The table of topologies that `structmat.choose` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from structmat._util.text_table import Paragraph, Printed, Table, cell, in_html, left
from structmat.analysis.lower_bounds import Bound
from structmat.errors import StructmatError
from structmat.families import Rule
from structmat.networks.network import Network
from structmat.search.choice.budgets import in_digits, in_units

_GOALS = {"dense": "dense", "mixing": "exactly mixing", "universal": "universal"}
_HEAD = ("", "network", "parameters", "stages", "radix", "mixing", "dim. ≤", "ms")


@dataclass(frozen=True)
class Row:
    """A topology of a `Choice`.

    Attributes
    ----------
    rule : Rule
        The topology; `str(rule)` is its spec.
    widths : tuple of int
    parameters, depth, largest : int
        The parameters of all layers, the stages at the width with the most, and the largest radix.
        `largest` is None for a network too large to be built.
    dimension : int
        An upper bound on the dimension, summed over the layers (`structmat.dimension` may be less).
    mixing : float or None
        `structmat.mixing` at the width with the largest; None if it was not needed for the ranking,
        or the network is too large.
    time, relative_time : float
        Seconds for all layers: modelled for 2,048 vectors in float32, or measured for 256 in
        float64; and the ratio of this time to the modelled time of dense matrices.
    memory : int
        Bytes for training with Adam on 2,048 vectors: parameters, blocks, and inputs of stages.
    reason : str
        Why this row is the first, or why the first row is better.
    evidence : dict from str to str
        How each property is known: "proved", "computed", "modelled" or "measured".
    also : tuple of str
        Specs of other families with the same network.
    """

    rule: Rule
    widths: tuple[int, ...]
    parameters: int
    depth: int
    largest: int | None
    dimension: int
    mixing: float | None
    time: float
    relative_time: float
    memory: int
    reason: str
    evidence: Mapping[str, str]
    also: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """The topology as text, which every command and function takes."""
        return str(self.rule)

    @property
    def network(self) -> Network:
        """The network.

        Raises
        ------
        StructmatError
            If there are several widths; `networks` has them all.
        """
        if len(self.widths) > 1:
            raise StructmatError(
                f"{self.spec}: it was chosen for {len(self.widths)} widths; use networks[width]"
            )
        return self.rule(self.widths[0])

    @property
    def networks(self) -> dict[int, Network]:
        """The network of each width."""
        return {width: self.rule(width) for width in self.widths}

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as a JSON-serialisable dict."""
        values = {key: value for key, value in self.__dict__.items() if key != "rule"}
        return {"network": self.spec} | values | {"evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Choice(Printed):
    """The result of `choose`: topologies in order of preference.

    Attributes
    ----------
    purpose, summary : str
        The purpose, and what it prefers.
    widths : dict from int to int
        The number of layers of each width.
    budget : dict from str to number
    rows : tuple of Row
        The best first.
    bounds : tuple of structmat.analysis.lower_bounds.Bound
        Lower bounds for any network of these widths, with the values of the best row; parameters
        are summed over the layers.
    notes : tuple of str
        What was proved, computed, modelled or measured.
    """

    purpose: str
    summary: str
    widths: Mapping[int, int]
    budget: Mapping[str, float]
    rows: tuple[Row, ...]
    bounds: tuple[Bound, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Row:
        """The first row."""
        return self.rows[0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a JSON-serialisable dict."""
        return {
            "purpose": self.purpose,
            "summary": self.summary,
            "widths": {str(width): count for width, count in self.widths.items()},
            "budget": dict(self.budget),
            "rows": [row.to_dict() for row in self.rows],
            "bounds": [asdict(bound) | {"excess": bound.excess} for bound in self.bounds],
            "notes": list(self.notes),
        }

    @property
    def _title(self) -> str:
        sizes = ", ".join(
            f"{width:,}" + (f" (×{count})" if count > 1 else "")
            for width, count in self.widths.items()
        )
        noun = "width" if len(self.widths) == 1 else "widths"
        limits = "".join(f"; at most {in_units(*limit)}" for limit in self.budget.items())
        return f"{self.purpose}, {noun} {sizes}{limits}: {self.summary}"

    @property
    def _below(self) -> list[str]:
        lines = [
            f"Any {_GOALS[bound.goal]} network has at least"
            f" {in_units(bound.quantity, bound.least)}; the first row has {bound.value:,}."
            for bound in self.bounds
        ]
        return [*lines, *self.notes]

    @property
    def _table(self) -> list[list[str]]:
        return [[str(k), *_cells(row)] for k, row in enumerate(self.rows, 1)]

    def _parts(self) -> list[object]:
        reasons = [
            Paragraph(f"{k}. {row.reason}", indent="   ") for k, row in enumerate(self.rows, 1)
        ]
        table = Table(_HEAD, self._table, left=(0, 1))
        return [Paragraph(self._title), "", table, "", *reasons, "", *map(Paragraph, self._below)]

    def _repr_html_(self) -> str:
        rows = ["".join(left("th", title) for title in (*_HEAD, "reason"))]
        rows += [
            "".join(left("td", text) for text in (*cells, row.reason))
            for cells, row in zip(self._table, self.rows, strict=True)
        ]
        paragraphs = "".join(cell("p", line) for line in self._below)
        return f"{cell('p', self._title)}\n{in_html(rows)}\n{paragraphs}"


def _cells(row: Row) -> list[str]:
    return [
        row.spec,
        f"{row.parameters:,}",
        f"{row.depth:,}",
        "–" if row.largest is None else f"{row.largest:,}",
        "–" if row.mixing is None else in_digits(row.mixing),
        f"{row.dimension:,}",
        f"{1e3 * row.time:.3g}",
    ]
