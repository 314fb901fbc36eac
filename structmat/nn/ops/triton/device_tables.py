"""The index tables of a network, as tensors on one device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.errors import StructmatError
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.nn.ops.triton import index_tables
from structmat.nn.ops.triton.index_tables import Route, Runs


@dataclass(frozen=True, eq=False)
class Way:
    """A route with its index arrays on a device."""

    height: int
    sources: Tensor
    targets: Tensor
    spans: Tensor
    entry: Tensor
    leave: Tensor
    runs: Runs


@dataclass(frozen=True, eq=False)
class Program:
    """The index tables of a network on one device, as created by `program`.

    Attributes
    ----------
    width, depth, size, units, entries : int
        The width and depth of the network, the number of wires in a unit, the number of units, and
        the total number of entries of the blocks.
    shapes : tuple
        The shapes (n, r, r) of the blocks.
    labels, rows, columns : (units, size) int32
        See `structmat.nn.ops.triton.index_tables.Units`.
    ways : tuple of Way
        The routes for R and for Rᵀ.
    kept : tuple of Way
        The same, with new rows for everything written.
    """

    width: int
    depth: int
    size: int
    units: int
    entries: int
    shapes: tuple[tuple[int, int, int], ...]
    labels: Tensor
    rows: Tensor
    columns: Tensor
    ways: tuple[Way, Way]
    kept: tuple[Way, Way]


def program(net: Network, device: torch.device | str) -> Program:
    """Return the index tables of a network on a device.

    Raises
    ------
    StructmatError
        If a switch has more than the 64 wires that the kernels support.

    Examples
    --------
    >>> from structmat.families import monarch
    >>> found = program(monarch(64), "cpu")
    >>> found.size, found.units, found.shapes
    (16, 8, ((8, 8, 8), (8, 8, 8)))
    """
    widest = max((bank.radix for bank in net.banks), default=0)
    if widest > index_tables.LARGEST:
        raise StructmatError(
            f"a switch of {widest} wires: the Triton kernels support up to {index_tables.LARGEST};"
            " structmat.nn.ops.reference supports any number"
        )
    straight, _, outputs = net.straightened()
    units = index_tables.packed(straight)

    def tensor(values: Index) -> Tensor:
        return torch.tensor(values.copy(), dtype=torch.int32, device=device)

    def on_device(way: Route, runs: Runs) -> Way:
        return Way(
            way.height,
            tensor(way.sources),
            tensor(way.targets),
            tensor(way.spans),
            tensor(way.entry),
            tensor(way.exit),
            runs,
        )

    with torch.inference_mode(mode=False):  # later calls may need gradients
        ways, kept = [], []
        for adjoint in (False, True):
            way = index_tables.route(straight, outputs, units, adjoint=adjoint, keep=False)
            ways.append(on_device(way, index_tables.runs(units, way)))
            way = index_tables.route(straight, outputs, units, adjoint=adjoint, keep=True)
            between = index_tables.runs(units, way).between
            kept.append(on_device(way, Runs(0, 0, 1, 1, between)))
        return Program(
            net.width,
            len(units.spans),
            units.size,
            len(units.wires),
            units.entries,
            tuple((bank.count, bank.radix, bank.radix) for bank in net.banks),
            tensor(units.labels),
            tensor(units.rows),
            tensor(units.columns),
            (ways[0], ways[1]),
            (kept[0], kept[1]),
        )
