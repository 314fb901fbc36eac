"""What a network can do, in one object, and many of them in one table."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from structmat.errors import StructmatError, require, whole
from structmat.families import Family, as_family
from structmat.network import Network
from structmat.reachability import dense_depth, first_dense

Row: TypeAlias = dict[str, Any]
Candidate: TypeAlias = str | Family | Network | Callable[[int], Network]

# What a row of a comparison says, in order, and what that is called in the table.
_COLUMNS = {
    "network": "network",
    "width": "width",
    "depth": "depth",
    "parameters": "parameters",
    "free_edges": "free edges",
    "dense": "dense",
    "depth_needed": "depth needed",
}


@dataclass(frozen=True)
class Report:
    """What `report` found out about a network, as plain values.

    Attributes
    ----------
    width, depth, parameters, nonzeros, free_edges : int
        As the network has them.
    dense : bool
        Whether every input reaches every output.
    dense_depth : int or None
        How few of the first stages are dense already; None where all of them are not.
    """

    width: int
    depth: int
    parameters: int
    nonzeros: int
    free_edges: int
    dense: bool
    dense_depth: int | None

    def to_dict(self) -> Row:
        """Return the values by name, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [(_title(key), _shown(value)) for key, value in self.to_dict().items()]
        longest = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(f"{a:<{longest[0]}}  {b:>{longest[1]}}" for a, b in lines)

    def _repr_html_(self) -> str:
        items = self.to_dict().items()
        return _html_table(_cell("th", _title(key)) + _cell("td", _shown(x)) for key, x in items)


def report(net: Network) -> Report:
    """Return every check of one network: what it costs and who can hear whom.

    Raises
    ------
    StructmatError
        For anything but a Network.

    Examples
    --------
    >>> from structmat.families import benes
    >>> print(report(benes(1024)))
    width         1,024
    depth            19
    parameters    9,728
    nonzeros     38,912
    free edges   19,456
    dense           yes
    dense depth      10
    """
    if not isinstance(net, Network):
        raise StructmatError(
            f"{net!r}: report takes a Network, such as parse(spec)(width);"
            " compare takes specs and widths"
        )
    fewest = first_dense(net)
    return Report(
        width=net.width,
        depth=net.depth,
        parameters=net.parameters,
        nonzeros=net.nonzeros,
        free_edges=net.free_edges,
        dense=fewest is not None,
        dense_depth=fewest,
    )


@dataclass(frozen=True)
class Comparison:
    """A table of networks, one row for each network and width.

    Attributes
    ----------
    rows : list of dict
        Each with the keys network, width, depth, parameters, free_edges, dense, depth_needed and
        refused. Where there is no such network, refused says why and the other values are None;
        else refused is None.
    """

    rows: list[Row]

    def to_dict(self) -> dict[str, list[Row]]:
        """Return the rows, ready for JSON."""
        return {"rows": [dict(row) for row in self.rows]}

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame, with types in which values may be missing.

        Raises
        ------
        MissingExtraError
            When pandas is not installed; it comes with the extra `finetune`.
        """
        pandas = require("pandas", "finetune")
        return pandas.DataFrame(self.rows, columns=[*_COLUMNS, "refused"]).convert_dtypes()

    def __str__(self) -> str:
        table = [list(_COLUMNS.values())]
        table += [[_shown(row[key]) for key in _COLUMNS] for row in self.rows]
        longest = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(f"{cell:{'<' if k == 0 else '>'}{longest[k]}}" for k, cell in enumerate(row))
            for row in table
        ]
        lines.insert(1, "  ".join("-" * size for size in longest))
        reasons = dict.fromkeys(row["refused"] for row in self.rows if row["refused"] is not None)
        return "\n".join([*lines, *(["", *reasons] if reasons else [])])

    def _repr_html_(self) -> str:
        head = "".join(_cell("th", title) for title in _COLUMNS.values())
        return _html_table([head, *map(_html_row, self.rows)])


def compare(
    families: str | Family | Iterable[str | Family] | Mapping[str, Candidate],
    widths: int | Sequence[int],
) -> Comparison:
    """Return a table of networks, one row for each of them at each width.

    A family that does not take a width still has its row, which says why.

    Parameters
    ----------
    families : specs or families, or a mapping from a label to what it stands for
        In a mapping also a Network, or a function from a width to a Network; such a function
        refuses a width by raising a ValueError.
    widths : int or sequence of int

    Returns
    -------
    Comparison
        Its depth_needed is, for a family, the smallest depth that is dense at this width
        (`dense_depth`); for a network or a function, how few of its first stages are; None
        where there is none.

    Raises
    ------
    SpecError
        For a spec that does not parse or names no family.
    StructmatError
        For widths that are no positive integers, or a function that returns no Network.

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
    candidates = _labelled(families)
    sizes = _sizes(widths)
    return Comparison([_row(label, one, d) for label, one in candidates.items() for d in sizes])


def _sizes(widths: Any) -> list[int]:
    several = widths if isinstance(widths, Iterable) and not isinstance(widths, str) else [widths]
    return [whole(width, "width", 1) for width in several]


def _labelled(families: Any) -> dict[str, Any]:
    """Return what each label stands for: a Family, a Network or a function."""
    if isinstance(families, Mapping):
        labelled = {
            str(label): as_family(one) if isinstance(one, str) else one
            for label, one in families.items()
        }
        for label, one in labelled.items():
            if not isinstance(one, Network) and not callable(one):
                raise StructmatError(
                    f"{label}: {one!r} is no spec, Family, Network or function from a width to"
                    " a Network"
                )
        return labelled
    if isinstance(families, str | Family):
        families = [families]
    if isinstance(families, Network) or not isinstance(families, Iterable):
        raise StructmatError(
            f"{families!r}: compare takes specs or families; give anything else a label, as in"
            ' compare({"mine": net}, net.width)'
        )
    return {str(one): one for one in map(as_family, families)}


def _row(label: str, candidate: Any, width: int) -> Row:
    row: Row = dict.fromkeys([*_COLUMNS, "refused"])
    row |= {"network": label, "width": width}
    try:
        net = candidate if isinstance(candidate, Network) else candidate(width)
    except ValueError as error:  # among them StructmatError, which names the family
        reason = str(error) or "refused"
        return row | {
            "refused": reason if isinstance(candidate, Family) else f"{label} at {width}: {reason}"
        }
    found = report(net)
    if net.width != width:
        return row | {"refused": f"{label} at {width}: this network has width {net.width}"}
    row |= {key: value for key, value in found.to_dict().items() if key in row}
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
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(tag: str, text: str, attributes: str = "") -> str:
    return f"<{tag}{attributes}>{html.escape(text)}</{tag}>"


def _html_row(row: Row) -> str:
    keys = list(_COLUMNS)
    if row["refused"] is None:
        return "".join(_cell("td", _shown(row[key])) for key in keys)
    named = "".join(_cell("td", _shown(row[key])) for key in keys[:2])
    return named + _cell("td", row["refused"], f' colspan="{len(keys) - 2}"')


def _html_table(rows: Iterable[str]) -> str:
    return "\n".join(["<table>", *(f"<tr>{cells}</tr>" for cells in rows), "</table>"])
