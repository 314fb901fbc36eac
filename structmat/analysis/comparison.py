"""Tables that compare several networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from structmat._util.progress import bar
from structmat._util.text_table import Printed, Table, cell, in_html
from structmat.analysis.reachability import dense_depth
from structmat.analysis.report import affordable, formatted, interval, report
from structmat.errors import (
    StructmatError,
    abbreviated,
    checked_field,
    checked_integer,
    require,
)
from structmat.families import Rule, resolution
from structmat.networks.network import Network

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = dict[str, Any]

# The columns of a comparison, in order, and their titles in the table.
_COLUMNS = {
    "network": "network",
    "width": "width",
    "depth": "depth",
    "parameters": "parameters",
    "free_edges": "free edges",
    "dense": "dense",
    "depth_needed": "depth needed",
}
_MORE = {
    "dimension": "dimension",
    "redundant": "redundant",
    "mixing": "mixing",
    "fewest_reached": "reached",
    "concentration": "concentration",
}
_NAMES = ("network", "width")  # repeated in the second table of a full comparison, as text
_BOUNDS = ("dimension_lower", "dimension_upper")  # present in the rows, but shown as one column


@dataclass(frozen=True)
class Comparison(Printed):
    """A table of networks, with one row for each network and width.

    Attributes
    ----------
    rows : list of dict
        Each has the keys network, width, depth, parameters, free_edges, dense, depth_needed and
        refused, and in a full comparison also dimension, redundant, mixing, fewest_reached,
        concentration, dimension_lower and dimension_upper. If there is no such network, refused is
        the reason and the other values are None; otherwise refused is None.
    missing : int
        The number of rows that were not computed because of an interruption.
    """

    rows: list[Row]
    missing: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the rows as a JSON-serialisable dict, with the number of missing rows if any."""
        rows: dict[str, Any] = {"rows": [dict(row) for row in self.rows]}
        return rows | ({"missing": self.missing} if self.missing else {})

    def to_dataframe(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame with nullable types.

        Raises
        ------
        MissingExtraError
            If pandas is not installed; it is in the extra `finetune`.
        """
        pandas = require("pandas", "finetune")
        more = _BOUNDS if self._is_full else ()
        frame: pd.DataFrame = pandas.DataFrame(
            self.rows, columns=[*self._columns, *more, "refused"]
        )
        frame = frame.convert_dtypes()
        floats = dict.fromkeys(("mixing", "concentration"), "Float64")  # even if all are integers
        return frame.astype(floats) if self._is_full else frame

    @property
    def _is_full(self) -> bool:
        return any("dimension" in row for row in self.rows)

    @property
    def _columns(self) -> dict[str, str]:
        return _COLUMNS | (_MORE if self._is_full else {})

    @property
    def _left_out(self) -> str:
        return f"interrupted: {len(self.rows)} of {len(self.rows) + self.missing} rows"

    def _parts(self) -> list[object]:
        parts: list[object] = [self._table(_COLUMNS)]
        if self._is_full:
            parts += ["", self._table({key: _COLUMNS[key] for key in _NAMES} | _MORE)]
        reasons = dict.fromkeys(row["refused"] for row in self.rows if row["refused"] is not None)
        parts += ["", *reasons] if reasons else []
        return [*parts, *(["", self._left_out] if self.missing else [])]

    def _table(self, columns: dict[str, str]) -> Table:
        cells = [_cells(row, list(columns)) for row in self.rows]
        return Table(list(columns.values()), cells, rule=True)

    def _repr_html_(self) -> str:
        head = "".join(cell("th", title) for title in self._columns.values())
        rows = [_html_row(row, list(self._columns)) for row in self.rows]
        if self.missing:
            rows.append(cell("td", self._left_out, f' colspan="{len(self._columns)}"'))
        return in_html([head, *rows])


def compare(
    given: Any,
    widths: int | Sequence[int] | None = None,
    *,
    field: str = "real",
    full: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare networks in a table with one row for each network and width.

    A family that does not accept a width has a row that states the reason.

    Parameters
    ----------
    given : a topology, a sequence of them, or a mapping from labels to them
        Anything that `network` accepts: specs, families, networks, networkx graphs and files. A
        mapping may also contain functions from a width to a Network, which reject a width by
        raising a ValueError.
    widths : int or sequence of int, optional
        The widths to compare. By default each network is shown at its own width; specs, families
        and functions need a width.
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary, with r(r−1)/2 or r² parameters each; it
        affects the columns parameters, dimension and redundant.
    full : bool
        Whether to include the dimension, the mixing, the fewest outputs that an input reaches
        (up to width 16,384), and the concentration (up to 4,096), in a second table; this takes
        longer. See `report` for their meaning. If the bounds on the dimension that require no rank
        do not meet, and the rank would exceed about 6,000, the table shows these bounds, and the
        dimension in the rows is None; use `structmat.dimension`.
        Conditioning and spectrum are not included, because computing them from random blocks is
        too expensive at the widths usually compared; see `report`.
    progress : bool
        Whether to show a progress bar over the rows of a full comparison.

    Returns
    -------
    Comparison
        For a family, depth_needed is the smallest depth at which it is dense at this width
        (`dense_depth`); for a network or a function, the smallest number of leading stages that are
        dense; None if there is no such number. An interruption (KeyboardInterrupt) ends the table
        early: it contains the rows computed so far, if any, and the number of missing rows.

    Raises
    ------
    SpecError
        If a spec cannot be parsed or names no family.
    StructmatError
        If a width is not a positive integer, or is missing; or a function does not return a
        Network.

    Examples
    --------
    >>> print(compare(["butterfly(block=8, depth=2)", "shuffle(block=8)", "benes"], 384))
    network                      width  depth  parameters  free edges  dense  depth needed
    ---------------------------  -----  -----  ----------  ----------  -----  ------------
    butterfly(block=8, depth=2)    384      2       2,688       5,376     no             –
    shuffle(block=8)               384      3       4,032       8,064    yes             3
    benes                          384      –           –           –      –             –
    <BLANKLINE>
    benes(width=384): width must be 2^n with n ≥ 1; nearest are 256 and 512. mixed_radix(384)
    serves any width
    """
    checked_field(field)
    candidates = _labelled(given)
    pairs = _pairs(candidates, widths)
    rows: list[Row] = []
    count = len(pairs)
    try:
        with bar("compare", count, unit="row", shown=progress and full) as steps:
            for label, size in pairs:
                rows.append(_row(label, candidates[label], size, field=field, full=full))
                steps.update()
    except KeyboardInterrupt:
        if not rows:
            raise
    return Comparison(rows, count - len(rows))


def _pairs(candidates: Mapping[str, Any], widths: Any) -> list[tuple[str, int]]:
    """Return the label and the width of each row."""
    if isinstance(widths, Network | Rule) or resolution.is_graph(widths):
        raise StructmatError(
            f"widths={abbreviated(widths)}: to compare several topologies, pass a list, as in"
            ' compare(["butterfly", "benes"], 64)'
        )
    if widths is not None:
        one = not isinstance(widths, Iterable) or isinstance(widths, str)
        sizes = [checked_integer(width, "width", 1) for width in ([widths] if one else widths)]
        return list(product(candidates, sizes))
    for label, candidate in candidates.items():
        if not isinstance(candidate, Network):
            raise StructmatError(
                f"{label}: it has a network for each width; give the widths, as in"
                " compare(topologies, [64, 128])"
            )
    return [(label, net.width) for label, net in candidates.items()]


def _labelled(given: Any) -> dict[str, Any]:
    """Return the Rule, Network or function of each label."""
    if isinstance(given, Mapping):
        return {str(label): _candidate(one, label) for label, one in given.items()}
    alone = isinstance(given, str | Path | Rule | Network) or not isinstance(given, Iterable)
    several = [given] if alone or resolution.is_graph(given) else list(given)
    made: dict[str, Any] = {}
    for k, one in enumerate(several, 1):
        candidate = _candidate(one)
        label = f"network {k}"
        if isinstance(one, str | Path | Rule):
            label = str(one if isinstance(candidate, Network) else candidate)
        made[label] = candidate
    return made


def _candidate(one: Any, label: object = None) -> Any:
    where = "" if label is None else f"{label}: "
    try:
        found = resolution.rule(one)
    except StructmatError as error:
        raise type(error)(f"{where}{error}") from None
    if label is None and not isinstance(found, Rule | resolution.Fixed):
        raise StructmatError(
            f'{abbreviated(one)}: give a function a label, as in compare({{"mine": f}})'
        )
    return found.network if isinstance(found, resolution.Fixed) else found


def _row(label: str, candidate: Any, width: int, *, field: str, full: bool) -> Row:
    row: Row = dict.fromkeys([*_COLUMNS, *([*_MORE, *_BOUNDS] if full else []), "refused"])
    row |= {"network": label, "width": width}
    try:
        net = candidate if isinstance(candidate, Network) else candidate(width)
    except ValueError as error:  # includes StructmatError, which names the family
        reason = str(error) or "refused"
        return row | {
            "refused": reason if isinstance(candidate, Rule) else f"{label} at {width}: {reason}"
        }
    if not isinstance(net, Network):
        raise StructmatError(
            f"{label} at {width}: the function must return a Network, not {abbreviated(net)}"
        )
    found = report(net, field=field)
    if net.width != width:
        return row | {"refused": f"{label} at {width}: this network has width {net.width}"}
    row |= {key: getattr(found, key) for key in ("depth", "parameters", "free_edges", "dense")}
    if full:
        covered = found.dimension
        row |= {"dimension_lower": covered.lower, "dimension_upper": covered.upper}
        if covered.ranked:
            row |= {"dimension": covered.value, "redundant": covered.redundant}
        names = {"mixing", "fewest_reached", "concentration"}.intersection(affordable(width))
        row |= {name: getattr(found, name) for name in names}
    if isinstance(candidate, Rule):
        return row | {"depth_needed": dense_depth(candidate, width)}
    return row | {"depth_needed": found.dense_depth}


def _cells(row: Row, keys: list[str]) -> list[str]:
    cells = {key: formatted(row[key]) for key in keys}
    if "dimension" in cells and row.get(_BOUNDS[0]) is not None:
        cells["dimension"] = interval(*(row[key] for key in _BOUNDS))
    return list(cells.values())


def _html_row(row: Row, keys: list[str]) -> str:
    if row["refused"] is None:
        return "".join(cell("td", text) for text in _cells(row, keys))
    named = "".join(cell("td", formatted(row[key])) for key in keys[:2])
    return named + cell("td", row["refused"], f' colspan="{len(keys) - 2}"')
