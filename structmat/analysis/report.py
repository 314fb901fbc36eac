"""Reports on a single network."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from structmat._util.progress import bar
from structmat._util.text_table import Printed, Table, cell, in_html, spaced
from structmat.analysis.dimension import Dimension, dimension
from structmat.analysis.jacobian import Conditioning, conditioning, lipschitz
from structmat.analysis.lower_bounds import LowerBounds, lower_bounds
from structmat.analysis.mixing import concentration, fourth_moments, mixing
from structmat.analysis.reachability import (
    components,
    fewest_reached,
    leading_dense_depth,
    why_not_dense,
)
from structmat.analysis.sign_moments import haar_fourth_moment
from structmat.analysis.spectrum import LEAST_WIDTH, SpectralStatistics, spectral_statistics
from structmat.errors import checked_field
from structmat.families.resolution import checked
from structmat.linalg.blocks import count_generators
from structmat.networks.network import Network

_RANK = 6000  # dimension at which computing a rank takes about a minute

_PARTS = (
    "mixing",
    "fewest_reached",
    "concentration",
    "fourth_moment",
    "sensitivity",
    "dimension",
    "conditioning",
    "bounds",
    "spectrum",
)
_MOST = {  # the maximum width at which `complete` computes a part
    "fewest_reached": 2**14,
    "concentration": 4096,
    "fourth_moment": 64,
    "conditioning": 64,
    "spectrum": 64,
}
_TABLES = ("bounds", "spectrum")


@dataclass(frozen=True)
class Report(Printed):
    """The result of `report`; the expensive parts are computed on access.

    Text, HTML and `to_dict` contain the parts computed so far; `complete` computes the others,
    except those that are too expensive at the network's width.

    Attributes
    ----------
    width, depth, parameters, nonzeros, free_edges : int
        The properties of the network with the same names.
    dense : bool
        Whether every input influences every output.
    dense_depth : int or None
        The smallest number of leading stages that are dense; None if the network is not dense.
    network : Network
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary, which `parameters` and the expensive parts
        depend on.
    """

    width: int
    depth: int
    parameters: int
    nonzeros: int
    free_edges: int
    dense: bool
    dense_depth: int | None
    network: Network = field(repr=False)
    field: str = "real"

    @cached_property
    def components(self) -> int:
        """The number of connected components of the wires."""
        return len(components(self.network).sizes)

    @cached_property
    def why_not_dense(self) -> str | None:
        """Why the network is not dense, and whether more stages help; None if it is dense.

        With more than one component, no number of repetitions of its stages suffices (see
        `components`).
        """
        return None if self.dense else why_not_dense(self.network)

    @cached_property
    def mixing(self) -> float:
        """The deviation from perfect mixing (`structmat.mixing`)."""
        return mixing(self.network)

    @cached_property
    def fewest_reached(self) -> int:
        """The smallest number of outputs that an input influences.

        For all blocks, the input leaves at least 1/fewest_reached of its energy on one output.
        """
        return self.width if self.dense else fewest_reached(self.network)[0]

    @cached_property
    def concentration(self) -> float:
        """The largest expected energy of an input on an output, relative to an even spread.

        It holds for Haar blocks, and for flat blocks with random signs before every stage, and is 1
        for perfect mixing (`structmat.analysis.mixing.concentration`).
        """
        return concentration(self.network)

    @cached_property
    def fourth_moment(self) -> float:
        """The largest E[|R_ij|⁴] for Haar blocks, relative to that of a Haar matrix."""
        largest = float(fourth_moments(self.network, field=self.field).max())
        return largest / haar_fourth_moment(self.width, field=self.field)

    @cached_property
    def bounds(self) -> LowerBounds:
        """Lower bounds at this width, compared with this network (`structmat.lower_bounds`)."""
        return lower_bounds(self.network, field=self.field)

    @cached_property
    def dimension(self) -> Dimension:
        """The dimension of the set of matrices that the network can represent.

        For connected components of more than about 6,000 dimensions, only the bounds that require
        no rank are computed; `structmat.dimension` also computes the rank.
        """
        return dimension(self.network, field=self.field, largest=_RANK)

    @cached_property
    def conditioning(self) -> Conditioning:
        """The conditioning of the derivative at random blocks, drawn with seed 0."""
        return conditioning(self.network, field=self.field, rng=0)

    @cached_property
    def spectrum(self) -> SpectralStatistics:
        """The eigenangles for random blocks, drawn with seed 0, compared with Haar matrices."""
        return spectral_statistics(self.network, field=self.field, rng=0)

    @cached_property
    def sensitivity(self) -> float:
        """A Lipschitz constant of R with respect to the generators of Cayley blocks."""
        return lipschitz(self.network, field=self.field)

    def complete(self, *, progress: bool = True) -> Self:
        """Compute all parts that are affordable at this width, and return the same report.

        Parameters
        ----------
        progress : bool
            Whether to show a progress bar.

        Notes
        -----
        Computing the dimension takes time cubic in its value, up to about a minute for each
        connected component. Above width 64, the spectrum and the fourth moment are omitted, and so
        is the conditioning, which takes time proportional to the sixth power of the width; above
        4,096, the concentration; above 16,384, the fewest outputs reached. Below width 6 (3 for
        unitary blocks), the spectrum is undefined. An interruption does not discard the parts that
        have been computed.
        """
        parts = affordable(self.width, field=self.field)
        with bar("report", len(parts), unit="part", shown=progress) as steps:
            for part in parts:
                getattr(self, part)
                steps.update()
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the values computed so far by name, as a JSON-serialisable dict.

        The field is included only if it is complex.
        """
        names = [f.name for f in fields(self) if f.name not in ("network", "field")]
        found: dict[str, Any] = {"field": self.field} if self.field == "complex" else {}
        found |= {name: getattr(self, name) for name in names}
        found |= {"components": self.components, "why_not_dense": self.why_not_dense}
        for part in self._found():
            value = getattr(self, part)
            found[part] = value if isinstance(value, int | float) else value.to_dict()
        return found

    def _found(self) -> list[str]:
        return [part for part in _PARTS if part in vars(self)]

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for key, value in self.to_dict().items():
            if key == "dimension":
                found = self.dimension
                rows.append((key, interval(found.lower, found.upper)))
                most, least = found.redundant, found.parameters - found.upper
                rows.append(("redundant", interval(most if found.ranked else least, most)))
            elif key == "conditioning":
                rows.append((key, self.conditioning.shown))
            elif key not in (*_TABLES, "why_not_dense"):
                rows.append((_title(key), formatted(value)))
        return rows

    def _parts(self) -> list[object]:
        first, *rows = self._rows()
        tables = [getattr(self, part) for part in _TABLES if part in self._found()]
        why = [] if self.why_not_dense is None else [f"not dense: {self.why_not_dense}"]
        return spaced([Table(first, rows), *why, *tables])

    def _repr_html_(self) -> str:
        table = in_html(cell("th", a) + cell("td", b) for a, b in self._rows())
        more = [] if self.why_not_dense is None else [cell("p", f"not dense: {self.why_not_dense}")]
        more += [getattr(self, part)._repr_html_() for part in _TABLES if part in self._found()]
        return "\n".join([table, *more])


def report(net: Network, *, field: str = "real") -> Report:
    """Return a report on one network: its cost, its reachability and its dimension.

    The counts, and whether the network is dense, are computed immediately. The other parts, from
    the mixing to the spectrum, are computed on access, or all at once by `Report.complete`.

    Parameters
    ----------
    net : Network
    field : {"real", "complex"}
        Whether the blocks are orthogonal or unitary.

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
    >>> report(butterfly(64, block=8, depth=4), field="complex").dimension.value  # 2 × 608 + 64
    1280
    """
    net = checked(net, "report")
    checked_field(field)
    fewest = leading_dense_depth(net)
    return Report(
        width=net.width,
        depth=net.depth,
        parameters=count_generators(net, field=field),
        nonzeros=net.nonzeros,
        free_edges=net.free_edges,
        dense=fewest is not None,
        dense_depth=fewest,
        network=net,
        field=field,
    )


def affordable(width: int, *, field: str = "real") -> list[str]:
    """Return the names of the parts that `Report.complete` computes at this width."""
    least = {"spectrum": LEAST_WIDTH[field]}
    return [part for part in _PARTS if least.get(part, 0) <= width <= _MOST.get(part, width)]


def _title(key: str) -> str:
    return key.replace("_", " ")


def formatted(value: Any) -> str:
    """Return a value as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def interval(lower: int, upper: int) -> str:
    """Return bounds as text, as one number if they are equal."""
    return formatted(lower) if lower == upper else f"{lower:,} to {upper:,}"
