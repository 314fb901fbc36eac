"""Networks of stages: immutable values, their algebra, and the networkx grid graph."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt

from structmat._util import text_table
from structmat.errors import (
    WIDEST,
    FileError,
    StructmatError,
    WiringError,
    abbreviated,
    checked_integer,
    checked_width,
)
from structmat.networks import permutation, serialization
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage, Value, listed

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

    from structmat.analysis.report import Report
    from structmat.explorer.widget import Explorer


class Straightened(NamedTuple):
    """A straight network with the two permutations that make it equal to the original network.

    For the original network `q` and any blocks, `q(x) == network(x[inputs])[outputs]`.
    """

    network: Network
    inputs: Index
    outputs: Index


_VALUES = "it has no values; structmat.Rotation(net, blocks) is a network with blocks"
_HINTS = {  # for attributes that users expect on a network
    "blocks": _VALUES,
    "matrix": _VALUES,
    "factors": _VALUES,
    "random": "structmat.Rotation(net, structmat.random_blocks(net, rng=0)) has random values",
    "Rotation": "structmat.Rotation(net, blocks)",
    "certify": "structmat.certify takes a structmat.Rotation(net, blocks)",
    "compare": "structmat.compare([net, ...])",
    "isomorphism": "structmat.isomorphism(net, other)",
}
_MOST = 2**25  # maximum of wires × stages: a quarter of a gigabyte of indices


def check_size(what: object, width: int, depth: int) -> None:
    """Raise an error for a network that would not fit into memory, before it is built.

    Raises
    ------
    StructmatError
        If width × stages exceeds 2^25.

    Examples
    --------
    >>> check_size("butterfly(block=2, depth=9999999)", 1024, 9999999)
    Traceback (most recent call last):
    ...
    structmat.errors.StructmatError: butterfly(block=2, depth=9999999): 9,999,999 stages of 1,024 \
wires; width × stages must be at most 33,554,432, so use fewer stages or wires
    """
    if width * depth > _MOST:
        stages = f"{depth:,}" if depth < WIDEST**2 else abbreviated(depth)
        raise StructmatError(
            f"{what}: {stages} stages of {width:,} wires; width × stages must be at most"
            f" {_MOST:,}, so use fewer stages or wires"
        )


class Network(Value):
    """A sequence of stages: R = B_m ⋯ B_1, where B_1 is applied first.

    Parameters
    ----------
    width : int
        The number of wires d; R is d×d.
    stages : iterable of Stage
        The stages in order of application, all of this width. An empty sequence is the identity.
    labels : iterable of hashables, optional
        Names of the wires, in order, such as the nodes of the graph from which they were made.
        Labels are ignored when networks are compared.

    Raises
    ------
    WiringError
        If a stage has another width, or there is not exactly one hashable label per wire.

    Examples
    --------
    >>> pairs = Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]])
    >>> pairs
    Network(width=4, depth=2, parameters=4)
    >>> pairs.free_edges        # the butterfly of the BOFT paper's Figure 2
    8
    """

    __slots__ = ("__dict__", "labels", "stages", "width")
    __array_ufunc__ = None  # makes `array @ net` an error instead of an elementwise operation

    width: int
    stages: tuple[Stage, ...]
    labels: tuple[Hashable, ...] | None

    def __init__(
        self,
        width: int,
        stages: Iterable[Stage] = (),
        *,
        labels: Iterable[Hashable] | None = None,
    ) -> None:
        size = checked_width(width)
        stages = tuple(stages)
        for position, stage in enumerate(stages):
            if not isinstance(stage, Stage):
                raise WiringError(
                    f"stage {position} is {abbreviated(stage)}: every stage must be a Stage object"
                )
            if stage.width != size:
                raise WiringError(
                    f"stage {position} has width {stage.width}: every stage of this network"
                    f" must have width {size}"
                )
        object.__setattr__(self, "width", size)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "labels", None if labels is None else _checked(labels, size))

    @classmethod
    def of(
        cls,
        width: int,
        stages: Iterable[Iterable[Sequence[int]]],
        *,
        labels: Iterable[Hashable] | None = None,
    ) -> Self:
        """Build a straight network from lists of switches, stage by stage.

        Examples
        --------
        >>> Network.of(3, [[[0, 1]], [[1, 2]]]).depth
        2
        """
        given = listed(stages, "stages must be a list of lists of switches: [[[0, 1], [2, 3]]]")
        return cls(width, [Stage.of(width, switches) for switches in given], labels=labels)

    # Counts ----------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """The number of stages m."""
        return len(self.stages)

    @property
    def banks(self) -> tuple[Bank, ...]:
        """All banks, stage by stage; lists of blocks are in the same order."""
        return tuple(bank for stage in self.stages for bank in stage.banks)

    @property
    def parameters(self) -> int:
        """The number of free parameters of all blocks, Σ r(r−1)/2."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def nonzeros(self) -> int:
        """The number of entries of all factors that may be non-zero."""
        return sum(stage.nonzeros for stage in self.stages)

    @property
    def free_edges(self) -> int:
        """The number of non-zeros minus the d edges of a bijection per stage (BOFT, section 3.1).

        This is twice the number of parameters.
        """
        return self.nonzeros - self.depth * self.width

    @property
    def is_straight(self) -> bool:
        """Whether identity blocks make every stage the identity matrix."""
        return all(stage.is_straight for stage in self.stages)

    # Algebra ---------------------------------------------------------------------------------

    def then(self, other: Network) -> Network:
        """Return the composition of two networks, of which this one acts first.

        The labels are those of this network, or those of `other` if it has none.

        Raises
        ------
        WiringError
            If the widths differ.

        Examples
        --------
        >>> a = Network.of(2, [[[0, 1]]])
        >>> a.then(a).depth
        2
        """
        if not isinstance(other, Network):
            raise WiringError(f"{abbreviated(other)}: only a Network can follow a network")
        if other.width != self.width:
            raise WiringError(
                f"width {self.width} then width {other.width}: both must have the same width;"
                " use direct_sum() to combine different widths"
            )
        labels = other.labels if self.labels is None else self.labels
        return Network(self.width, self.stages + other.stages, labels=labels)

    def __matmul__(self, other: Network) -> Network:
        """Return the product `self @ other`, in which `other` acts first, as for matrices."""
        if not isinstance(other, Network):
            return NotImplemented
        return other.then(self)

    @property
    def T(self) -> Network:  # noqa: N802 (as numpy calls it)
        """The network of Rᵀ (see `inverse`)."""
        return self.inverse()

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (width, width) of R."""
        return self.width, self.width

    def __mul__(self, times: int) -> Network:
        """Return this network repeated `times` times in sequence, as in specs (see `repeat`)."""
        return self.repeat(times)

    def __pow__(self, times: int) -> Network:
        """Return this network repeated `times` times in sequence, as for matrices."""
        return self.repeat(times)

    def inverse(self) -> Network:
        """Return the network of Rᵀ: the stages in reverse order, with reads and writes exchanged.

        Its blocks are the transposed blocks (`structmat.linalg.blocks.adjoint_blocks`).
        """
        return self._with([stage.inverse() for stage in reversed(self.stages)])

    def repeat(self, times: int) -> Network:
        """Return this network repeated `times` times in sequence.

        Examples
        --------
        >>> Network.of(2, [[[0, 1]]]).repeat(3).depth
        3
        """
        count = checked_integer(times, "times")
        check_size(f"repeat({abbreviated(count)})", self.width, self.depth * count)
        return self._with(self.stages * count)

    def mirror(self) -> Network:
        """Return this network followed by its inverse, with a common middle stage.

        Without that, the last stage would be followed by its own inverse, which joins the same
        wires again. With identity blocks, the result is the identity.

        Examples
        --------
        >>> from structmat.families import baseline, benes
        >>> baseline(8).mirror() == benes(8)
        True
        """
        if not self.stages:
            return self
        check_size("mirror()", self.width, 2 * self.depth - 1)
        *entering, last = self.stages
        middle = Stage(self.width, [Bank(bank.reads) for bank in last.banks])
        leaving = [stage.inverse() for stage in reversed(entering)]
        return self._with([*entering, middle, *leaving])

    def relabel(self, places: npt.ArrayLike) -> Network:
        """Return the network of P R Pᵀ: wire i becomes wire `places[i]`, and keeps its label.

        Examples
        --------
        >>> Network.of(3, [[[0, 1]]]).relabel([2, 0, 1]).stages[0].banks[0].reads
        array([[2, 0]])
        """
        p = permutation.checked(places, self.width)
        names = self.labels and tuple(self.labels[i] for i in permutation.inverse(p).tolist())
        return Network(self.width, [stage.rewired(p, p) for stage in self.stages], labels=names)

    def dilate(self, bundle: int) -> Network:
        """Return the network with each wire replaced by a bundle: radix r becomes r·bundle.

        This is the dilated network of Kruskal and Snir (1983). BOFT's block butterfly with block
        size b is the radix-2 butterfly dilated by b/2. A bundle in no switch remains idle. If a
        wire is labelled a, wire k of its bundle is labelled (a, k).

        Examples
        --------
        >>> Network.of(2, [[[0, 1]]]).dilate(2).stages[0].banks[0].reads
        array([[0, 1, 2, 3]])
        """
        size = checked_integer(bundle, "bundle", 1)
        checked_width(self.width * size)
        check_size(f"dilate({size})", self.width * size, self.depth)

        def wide(wires: Index) -> Index:
            spread = wires[..., None] * size + np.arange(size)
            return spread.reshape(*wires.shape[:-1], -1)

        def spread(stage: Stage) -> Stage:
            banks = [Bank(wide(bank.reads), wide(bank.writes)) for bank in stage.banks]
            moves = np.stack([wide(stage.moves[:, 0]), wide(stage.moves[:, 1])], axis=1)
            return Stage(self.width * size, banks, moves)

        names = self.labels and [(name, k) for name in self.labels for k in range(size)]
        return Network(self.width * size, [spread(stage) for stage in self.stages], labels=names)

    def direct_sum(self, other: Network) -> Network:
        """Return the direct sum of both networks, the shorter one extended by idle stages.

        If only one of them has labels, the wires of the other are labelled by their indices.

        Raises
        ------
        WiringError
            If `other` is not a Network.

        Examples
        --------
        >>> pair = Network.of(2, [[[0, 1]]])
        >>> pair.direct_sum(pair.repeat(2))
        Network(width=4, depth=2, parameters=3)
        """
        if not isinstance(other, Network):
            raise WiringError(f"{abbreviated(other)}: only a Network can be added to a direct sum")
        width = self.width + other.width
        shift = self.width
        stages = []
        for t in range(max(self.depth, other.depth)):
            banks: list[Bank] = []
            moves = np.zeros((0, 2), dtype=np.int64)
            if t < self.depth:
                banks += self.stages[t].banks
                moves = self.stages[t].moves
            if t < other.depth:
                stage = other.stages[t]
                banks += [Bank(bank.reads + shift, bank.writes + shift) for bank in stage.banks]
                moves = np.concatenate([moves, stage.moves + shift])
            stages.append(Stage(width, banks, moves))
        labelled = self.labels is not None or other.labels is not None
        return Network(width, stages, labels=self._names() + other._names() if labelled else None)

    def product(self, other: Network) -> Network:
        """Return the Cartesian product: wires are pairs, and each network acts on its coordinate.

        The pair (i, j) is wire i·other.width + j. The stages of `other`, which have short strides,
        come first, because the factors of a matrix product act from the right; those of this
        network follow, with one copy for every j. If all copies of a switch have the same block, R
        is therefore the Kronecker product of both matrices. Mixed-radix networks are products of
        single switches, and `product(Network(k))` is k independent copies, interleaved. Labels
        become pairs; if only one network has labels, the wires of the other are labelled by their
        indices.

        Raises
        ------
        WiringError
            If `other` is not a Network.

        References
        ----------
        G. Sabidussi, Graph multiplication, Mathematische Zeitschrift 72, 1960.

        Examples
        --------
        >>> from structmat.families import mixed_radix
        >>> two, three = Network.of(2, [[[0, 1]]]), Network.of(3, [[[0, 1, 2]]])
        >>> three.product(two) == mixed_radix(6, (2, 3))
        True
        """
        if not isinstance(other, Network):
            raise WiringError(
                f"{abbreviated(other)}: only a Network can be multiplied by a network"
            )
        size = other.width
        width = checked_width(self.width * size)
        check_size("product", width, self.depth + other.depth)

        def inner(wires: Index) -> Index:
            copies = np.arange(0, width, size)[:, None, None] + wires
            return copies.reshape(-1, wires.shape[1])

        def outer(wires: Index) -> Index:
            copies = wires[:, None, :] * size + np.arange(size)[:, None]
            return copies.reshape(-1, wires.shape[1])

        stages = [
            Stage(
                width,
                [Bank(copied(bank.reads), copied(bank.writes)) for bank in stage.banks],
                copied(stage.moves),
            )
            for net, copied in ((other, inner), (self, outer))
            for stage in net.stages
        ]
        labelled = self.labels is not None or other.labels is not None
        pairs = itertools.product(self._names(), other._names()) if labelled else None
        return Network(width, stages, labels=pairs)

    def straightened(self) -> Straightened:
        """Move all permutations to the ends: return a straight network and two permutations.

        By construction the input permutation is the identity, so wires keep their labels. The
        output permutation is the identity if identity blocks make the network the identity.

        Examples
        --------
        >>> crossed = Network(2, [Stage(2, [Bank([[0, 1]], [[1, 0]])])])
        >>> net, inputs, outputs = crossed.straightened()
        >>> net.is_straight, inputs, outputs
        (True, array([0, 1]), array([1, 0]))
        """
        inputs = permutation.identity(self.width)
        if self.is_straight:
            return Straightened(self, inputs, inputs.copy())
        carried = inputs.copy()  # the straight wire whose value each wire now carries
        stages = []
        for stage in self.stages:
            stages.append(Stage(self.width, [Bank(carried[bank.reads]) for bank in stage.banks]))
            after = carried.copy()
            start, end = stage.passing
            after[end] = carried[start]
            for bank in stage.banks:
                after[bank.writes] = carried[bank.reads]
            carried = after
        return Straightened(self._with(stages), inputs, carried)

    def _with(self, stages: Iterable[Stage]) -> Network:
        """Return a network with other stages on the same wires."""
        return Network(self.width, stages, labels=self.labels)

    def _names(self) -> tuple[Hashable, ...]:
        """Return the labels, or the indices of the wires."""
        return tuple(range(self.width)) if self.labels is None else self.labels

    # Sequence interface ----------------------------------------------------------------------

    def __len__(self) -> int:
        return self.depth

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    @overload
    def __getitem__(self, which: int) -> Stage: ...
    @overload
    def __getitem__(self, which: slice) -> Network: ...
    def __getitem__(self, which: int | slice) -> Stage | Network:
        if isinstance(which, slice):
            return self._with(self.stages[which])
        try:
            return self.stages[which]
        except IndexError:
            stages = text_table.counted(self.depth, "stage")
            raise IndexError(f"stage {which}: the network has {stages}") from None

    # Conversion ------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the network as JSON text with a schema version, for `from_json`.

        Labels are included if they consist of strings, integers and tuples of these, all of which
        JSON can represent, and are omitted otherwise.

        Examples
        --------
        >>> Network.of(2, [[[0, 1]]]).to_json()
        '{"format": "structmat.network", "version": 1, "width": 2, "stages": [[[[[0, 1]]]]]}'
        """
        return serialization.written(self.width, self.stages, self.labels)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the network that `to_json` serialised.

        Raises
        ------
        FileError
            If the text is truncated, of another schema version, or not a network.
        WiringError
            If the stages violate the rules of a network.

        Examples
        --------
        >>> net = Network.of(2, [[[0, 1]]])
        >>> Network.from_json(net.to_json()) == net
        True
        """
        if str(text).rstrip().endswith(".json"):
            raise FileError(
                f"{abbreviated(text)}: from_json takes the contents of a file; use"
                " structmat.network(path)"
            )
        width, stages, labels = serialization.read(text)
        return cls(width, stages, labels=labels)

    def to_networkx(self) -> nx.DiGraph[tuple[int, int]]:
        """Return the grid graph: a networkx DiGraph on nodes (t, wire), t = 0 … depth.

        An edge (t, j) → (t+1, i) means that entry (i, j) of factor t+1 may be non-zero. The width
        and depth are graph attributes. The attribute `switch` of an edge is the index of its switch
        within the stage, or None for a wire in no switch. If the network has labels, the attribute
        `label` of each node is the label of its wire.

        Examples
        --------
        >>> graph = Network.of(3, [[[0, 1]]]).to_networkx()
        >>> sorted(graph.edges)
        [((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1), (1, 0)), ((0, 1), (1, 1)), ((0, 2), (1, 2))]
        """
        import networkx as nx

        graph: nx.DiGraph[tuple[int, int]] = nx.DiGraph(width=self.width, depth=self.depth)
        names = None if self.labels is None else [{"label": name} for name in self.labels]
        for t in range(self.depth + 1):
            column = ((t, i) for i in range(self.width))
            graph.add_nodes_from(column if names is None else zip(column, names, strict=True))
        for t, stage in enumerate(self.stages):
            number = 0
            for bank in stage.banks:
                for reads, writes in zip(bank.reads.tolist(), bank.writes.tolist(), strict=True):
                    graph.add_edges_from(
                        (((t, j), (t + 1, i)) for j in reads for i in writes), switch=number
                    )
                    number += 1
            start, end = stage.passing
            graph.add_edges_from(
                (((t, j), (t + 1, i)) for j, i in zip(start.tolist(), end.tolist(), strict=True)),
                switch=None,
            )
        return graph

    # Functions of higher layers -------------------------------------------------------------

    def report(self, *, field: str = "real") -> Report:
        """Return a report on this network (see `structmat.report`).

        Examples
        --------
        >>> Network.of(4, [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]).report().dense
        True
        """
        from structmat.analysis.report import report

        return report(self, field=field)

    def plot(self, **options: Any) -> Axes:
        """Draw the network by `structmat.viz.grid`, which takes the same options."""
        from structmat.viz import grid

        return grid(self, **options)

    def explore(self) -> Explorer:
        """Open the network in the explorer, in a notebook (see `structmat.explore`)."""
        from structmat.explorer.exploring import explore

        return explore(self)

    def __getattr__(self, name: str) -> Any:
        if name in _HINTS:
            raise AttributeError(f"Network has no {name}: {_HINTS[name]}")
        library = sys.modules["structmat"]  # imported, for this module is a part of it
        if not name.startswith("_") and name in library.__all__:
            raise AttributeError(
                f"Network has no {name}; {_in_library(name, getattr(library, name))}"
            )
        raise AttributeError(f"Network has no attribute {abbreviated(name)}")

    def _parts(self) -> tuple[Any, ...]:
        return self.width, self.stages

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), labels=self.labels), self._parts()

    def _key(self) -> tuple[Any, ...]:
        return self.width, self.stages

    @cached_property
    def _hash(self) -> int:
        return hash(self._key())

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Network(width={self.width}, depth={self.depth}, parameters={self.parameters})"

    def _repr_html_(self) -> str:
        from structmat.viz import svg

        counted = text_table.counted
        counts = (
            f"{counted(self.width, 'wire')}, {counted(self.depth, 'stage')},"
            f" {counted(self.parameters, 'parameter')}"
        )
        picture = svg.drawn(self.width, self.stages, self.labels)
        return f"<div><p>Network: {counts}</p>\n{picture}</div>"


def _in_library(name: str, found: Any) -> str:
    """Return how a public name of the library is used, for a message."""
    needed = []
    if inspect.isfunction(found):
        parameters = inspect.signature(found).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty]
    if needed[:1] not in (["net"], ["topology"]):
        return f"see structmat.{name}"
    return f"it is a function: structmat.{name}({', '.join(['net', *needed[1:]])})"


def _checked(labels: Iterable[Hashable], width: int) -> tuple[Hashable, ...]:
    try:
        names = tuple(labels)
    except TypeError:
        raise WiringError(
            f"labels={abbreviated(labels)}: give one label for each wire, in order"
        ) from None
    if len(names) != width:
        raise WiringError(
            f"{len(names)} labels for {width} wires: give one for each wire, or labels=None"
        )
    for name in names:
        try:
            hash(name)
        except TypeError:
            raise WiringError(
                f"label {abbreviated(name)}: labels must be hashable, like the nodes of a graph"
            ) from None
    return names
