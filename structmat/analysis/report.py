"""Reports on a single network, and tables that compare several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from structmat._util.progress import bar
from structmat._util.text_table import cell, in_html, plain
from structmat.analysis.dimension import Dimension, dimension
from structmat.analysis.jacobian import Conditioning, conditioning, lipschitz
from structmat.analysis.lower_bounds import LowerBounds, lower_bounds
from structmat.analysis.mixing import mixing
from structmat.analysis.reachability import (
    components,
    dense_depth,
    leading_dense_depth,
    why_not_dense,
)
from structmat.analysis.spectrum import SpectralStatistics, spectral_statistics
from structmat.errors import StructmatError, abbreviated, checked_integer, require
from structmat.families import Family, resolution
from structmat.families.resolution import checked
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
_MORE = {"dimension": "dimension", "redundant": "redundant", "mixing": "mixing"}
_BOUNDS = ("dimension_lower", "dimension_upper")  # present in the rows, but shown as one column
_RANK = 6000  # dimension at which computing a rank takes about a minute

_PARTS = ("mixing", "sensitivity", "dimension", "conditioning", "bounds", "spectrum")
_LEAST = {"spectrum": 6}  # minimum and maximum widths at which `complete` computes a part
_MOST = {"conditioning": 64, "spectrum": 64}
_TABLES = ("bounds", "spectrum")


@dataclass(frozen=True)
class Report:
    """The result of `report`; the expensive parts are computed on access.

    Text, HTML and `to_dict` contain what has been computed so far; `complete` computes the rest.

    Attributes
    ----------
    width, depth, parameters, nonzeros, free_edges : int
        As for the network.
    dense : bool
        Whether every input influences every output.
    dense_depth : int or None
        The smallest number of leading stages that is dense; None if the network is not.
    network : Network
    """

    width: int
    depth: int
    parameters: int
    nonzeros: int
    free_edges: int
    dense: bool
    dense_depth: int | None
    network: Network = field(repr=False)

    @cached_property
    def components(self) -> int:
        """The number of connected components of the wires."""
        return len(components(self.network).sizes)

    @cached_property
    def why_not_dense(self) -> str | None:
        """Why the network is not dense, and whether more stages help; None if it is dense.

        With more than one component, no number of stages suffices (see `components`).
        """
        return None if self.dense else why_not_dense(self.network)

    @cached_property
    def mixing(self) -> float:
        """The deviation from perfect mixing (`structmat.mixing`)."""
        return mixing(self.network)

    @cached_property
    def bounds(self) -> LowerBounds:
        """Lower bounds at this width, compared with this network (`structmat.lower_bounds`)."""
        return lower_bounds(self.network)

    @cached_property
    def dimension(self) -> Dimension:
        """The dimension of the set of matrices that the network covers (`structmat.dimension`).

        For components of more than about 6,000 dimensions whose bounds do not meet, only the bounds
        that require no rank are computed; `structmat.dimension` computes the rank as well.
        """
        return dimension(self.network, largest=_RANK)

    @cached_property
    def conditioning(self) -> Conditioning:
        """The conditioning of the derivative with respect to the blocks, drawn with seed 0."""
        return conditioning(self.network, rng=0)

    @cached_property
    def spectrum(self) -> SpectralStatistics:
        """Eigenangles of random members, drawn with seed 0, compared with Haar rotations."""
        return spectral_statistics(self.network, rng=0)

    @cached_property
    def sensitivity(self) -> float:
        """A Lipschitz constant of R with respect to the generators of Cayley blocks."""
        return lipschitz(self.network)

    def complete(self, *, progress: bool = True) -> Self:
        """Compute all parts, and return the same report.

        Parameters
        ----------
        progress : bool
            Whether to show a progress bar, if tqdm is installed.

        Notes
        -----
        The dimension takes time cubic in its value, up to about a minute. Above width 64 the
        conditioning, whose time is proportional to the sixth power of the width, and the spectrum
        are omitted; the spectrum is undefined below 6 wires. Parts that have been computed are
        kept, also if this is interrupted.
        """
        parts = [p for p in _PARTS if _LEAST.get(p, 0) <= self.width <= _MOST.get(p, self.width)]
        with bar("report", len(parts), unit="part", shown=progress) as steps:
            for part in parts:
                getattr(self, part)
                if steps is not None:
                    steps.update()
        return self

    def to_dict(self) -> Row:
        """Return the values computed so far by name, as a JSON-serialisable dict."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "network"}
        found |= {"components": self.components, "why_not_dense": self.why_not_dense}
        for part in self._found():
            value = getattr(self, part)
            found[part] = value if isinstance(value, float) else value.to_dict()
        return found

    def _found(self) -> list[str]:
        return [part for part in _PARTS if part in vars(self)]

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for key, value in self.to_dict().items():
            if key == "dimension":
                found = self.dimension
                rows.append((key, _between(found.lower, found.upper)))
                most, least = found.redundant, found.parameters - found.upper
                rows.append(("redundant", _between(most if found.ranked else least, most)))
            elif key == "conditioning":
                rows.append((key, self.conditioning.shown))
            elif key not in (*_TABLES, "why_not_dense"):
                rows.append((_title(key), _shown(value)))
        return rows

    def __str__(self) -> str:
        first, *rows = self._rows()
        tables = [str(getattr(self, part)) for part in _TABLES if part in self._found()]
        why = [] if self.why_not_dense is None else [f"not dense: {self.why_not_dense}"]
        return "\n\n".join([plain(first, rows), *why, *tables])

    def _repr_html_(self) -> str:
        table = in_html(cell("th", a) + cell("td", b) for a, b in self._rows())
        more = [] if self.why_not_dense is None else [cell("p", f"not dense: {self.why_not_dense}")]
        more += [getattr(self, part)._repr_html_() for part in _TABLES if part in self._found()]
        return "\n".join([table, *more])


def report(net: Network) -> Report:
    """Return a report on one network: its cost, its reachability, and the dimension it covers.

    Counts and density are computed immediately. The dimension, the mixing, the lower bounds, the
    sensitivity, the conditioning and the spectrum are computed on access, or all at once by
    `Report.complete`.

    Raises
    ------
    StructmatError
        For anything but a Network.

    Examples
    --------
    >>> from structmat.families import benes, butterfly
    >>> print(report(benes(1024)))
    width         1,024
    depth            19
    parameters    9,728
    nonzeros     38,912
    free edges   19,456
    dense           yes
    dense depth      10
    components        1
    >>> boft = report(butterfly(64, block=8, depth=4))
    >>> boft.dimension.value, boft.dimension.proved
    (608, True)
    """
    net = checked(net, "report")
    fewest = leading_dense_depth(net)
    return Report(
        width=net.width,
        depth=net.depth,
        parameters=net.parameters,
        nonzeros=net.nonzeros,
        free_edges=net.free_edges,
        dense=fewest is not None,
        dense_depth=fewest,
        network=net,
    )


@dataclass(frozen=True)
class Comparison:
    """A table of networks, with one row for each network and width.

    Attributes
    ----------
    rows : list of dict
        Each with the keys network, width, depth, parameters, free_edges, dense, depth_needed and
        refused; a full comparison also has dimension, redundant, mixing, dimension_lower and
        dimension_upper. If there is no such network, refused holds the reason and the other values
        are None; otherwise refused is None.
    missing : int
        The number of rows not computed because of an interruption.
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
        return frame.astype({"mixing": "Float64"}) if self._is_full else frame  # also if all are 0

    @property
    def _is_full(self) -> bool:
        return any("dimension" in row for row in self.rows)

    @property
    def _columns(self) -> dict[str, str]:
        return _COLUMNS | (_MORE if self._is_full else {})

    @property
    def _left_out(self) -> str:
        return f"interrupted: {len(self.rows)} of {len(self.rows) + self.missing} rows"

    def __str__(self) -> str:
        cells = [_cells(row, list(self._columns)) for row in self.rows]
        lines = [plain(list(self._columns.values()), cells, rule=True)]
        reasons = dict.fromkeys(row["refused"] for row in self.rows if row["refused"] is not None)
        lines += ["", *reasons] if reasons else []
        return "\n".join([*lines, *(["", self._left_out] if self.missing else [])])

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
    full: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare networks in a table with one row for each network and width.

    A family that does not accept a width has a row that states the reason.

    Parameters
    ----------
    given : a topology, a sequence of them, or a mapping from labels to them
        What `network` takes: specs, families, networks, networkx graphs, files, and in a mapping
        functions from a width to a Network, which reject a width by raising a ValueError.
    widths : int or sequence of int, optional
        By default each network at its own width; specs, families and functions need one.
    full : bool
        Whether to include the dimension and the mixing, which takes longer. If the bounds on the
        dimension that require no rank do not meet, and the rank would exceed about 6,000, the table
        shows these bounds, and the dimension in the rows is None; use `structmat.dimension`.
        Conditioning and spectrum are properties of random members, and too expensive at the
        widths usually compared; see `report`.
    progress : bool
        Whether to show a progress bar over the rows of a full comparison, if tqdm is installed.

    Returns
    -------
    Comparison
        For a family, depth_needed is the smallest depth that is dense at this width
        (`dense_depth`); for a network or a function, the smallest number of leading stages that is
        dense; None if there is none. An interruption (KeyboardInterrupt) ends the table early: it
        contains the rows computed so far, if any, and the number of missing rows.

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
    benes(width=384): width must be 2^n, n at least 1; nearest are 256 and 512. mixed_radix(384)
    serves any width
    """
    candidates = _labelled(given)
    pairs = _pairs(candidates, widths)
    rows: list[Row] = []
    count = len(pairs)
    try:
        with bar("compare", count, unit="row", shown=progress and full) as steps:
            for label, size in pairs:
                rows.append(_row(label, candidates[label], size, full=full))
                if steps is not None:
                    steps.update()
    except KeyboardInterrupt:
        if not rows:
            raise
    return Comparison(rows, count - len(rows))


def _pairs(candidates: Mapping[str, Any], widths: Any) -> list[tuple[str, int]]:
    """Return the label and the width of each row."""
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
    """Return the Family, Network or function of each label."""
    if isinstance(given, Mapping):
        return {str(label): _candidate(one, label) for label, one in given.items()}
    alone = isinstance(given, str | Path | Family | Network) or not isinstance(given, Iterable)
    several = [given] if alone or resolution.is_graph(given) else list(given)
    made: dict[str, Any] = {}
    for k, one in enumerate(several, 1):
        candidate = _candidate(one)
        label = f"network {k}"
        if isinstance(one, str | Path | Family):
            label = str(one if isinstance(candidate, Network) else candidate)
        made[label] = candidate
    return made


def _candidate(one: Any, label: object = None) -> Any:
    where = "" if label is None else f"{label}: "
    try:
        found = resolution.rule(one)
    except StructmatError as error:
        raise type(error)(f"{where}{error}") from None
    if label is None and not isinstance(found, Family | resolution.Fixed):
        raise StructmatError(
            f'{abbreviated(one)}: give a function a label, as in compare({{"mine": f}})'
        )
    return found.network if isinstance(found, resolution.Fixed) else found


def _row(label: str, candidate: Any, width: int, *, full: bool) -> Row:
    row: Row = dict.fromkeys([*_COLUMNS, *([*_MORE, *_BOUNDS] if full else []), "refused"])
    row |= {"network": label, "width": width}
    try:
        net = candidate if isinstance(candidate, Network) else candidate(width)
    except ValueError as error:  # includes StructmatError, which names the family
        reason = str(error) or "refused"
        return row | {
            "refused": reason if isinstance(candidate, Family) else f"{label} at {width}: {reason}"
        }
    if not isinstance(net, Network):
        raise StructmatError(
            f"{label} at {width}: the function must return a Network, not {abbreviated(net)}"
        )
    found = report(net)
    if net.width != width:
        return row | {"refused": f"{label} at {width}: this network has width {net.width}"}
    row |= {key: value for key, value in found.to_dict().items() if key in row}
    if full:
        covered = found.dimension
        row |= {"dimension_lower": covered.lower, "dimension_upper": covered.upper}
        if covered.ranked:
            row |= {"dimension": covered.value, "redundant": covered.redundant}
        row |= {"mixing": found.mixing}
    if isinstance(candidate, Family):
        return row | {"depth_needed": dense_depth(candidate, width)}
    return row | {"depth_needed": found.dense_depth}


# Tables ------------------------------------------------------------------------------------


def _title(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _between(lower: int, upper: int) -> str:
    return _shown(lower) if lower == upper else f"{lower:,} to {upper:,}"


def _cells(row: Row, keys: list[str]) -> list[str]:
    cells = {key: _shown(row[key]) for key in keys}
    if row.get(_BOUNDS[0]) is not None:
        cells["dimension"] = _between(*(row[key] for key in _BOUNDS))
    return list(cells.values())


def _html_row(row: Row, keys: list[str]) -> str:
    if row["refused"] is None:
        return "".join(cell("td", text) for text in _cells(row, keys))
    named = "".join(cell("td", _shown(row[key])) for key in keys[:2])
    return named + cell("td", row["refused"], f' colspan="{len(keys) - 2}"')
