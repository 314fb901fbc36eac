"""Fusion of neighbouring stages into one stage with larger blocks.

Two consecutive stages act independently on each connected component of their union. If the
components are small, one block per component replaces both stages, and the vectors are read once
instead of twice. `structmat.nn.ops.cost_model` decides which runs of stages are worth fusing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from structmat.networks.components import joined
from structmat.networks.network import Network
from structmat.networks.permutation import Index
from structmat.networks.stage import Bank, Stage

LARGEST = 64  # maximum radix of a fused switch
_LONGEST = 64  # maximum number of fused stages, so that the time is proportional to the depth
_MIXED = 3  # maximum number of distinct radices in a fused stage: each needs its own product


@dataclass(frozen=True, eq=False)
class Fused:
    """A coarser network, which represents all matrices of a given one.

    Attributes
    ----------
    network : Network
        Stage k is the union of `runs[k]`, and its switches are the components of that union. If
        the given network is not straight, a final stage without switches applies its output
        permutation.
    runs : tuple of Network
        The straight stages that are fused into each stage; a run of one stage is unchanged.
    """

    network: Network
    runs: tuple[Network, ...]


@lru_cache(maxsize=64)
def unions(net: Network) -> Mapping[tuple[int, int], Stage]:
    """Return the stages that can replace runs of stages, indexed by (first, end) of the run.

    Each single stage is included unchanged. A run of up to 64 stages is included if its components
    have at most 64 wires and at most three different sizes above one.

    Parameters
    ----------
    net : Network
        Any network; it is straightened first if necessary.

    Examples
    --------
    >>> from structmat.families import butterfly
    >>> found = unions(butterfly(256))
    >>> max(end - first for first, end in found)        # six stages of 2×2 make blocks of 64
    6
    >>> found[0, 6].banks[0].reads.shape
    (4, 64)
    """
    straight, _, _ = net.straightened()
    found: dict[tuple[int, int], Stage] = {}
    for first, stage in enumerate(straight.stages):
        found[first, first + 1] = stage
        part, busy = _components(stage), _busy(stage)
        for end in range(first + 2, min(first + _LONGEST, straight.depth) + 1):
            after = straight.stages[end - 1]
            part = joined(part, (bank.reads for bank in after.banks))
            busy |= _busy(after)
            union = _union(part, busy)
            if union is None:
                break
            found[first, end] = union
    return MappingProxyType(found)


@lru_cache(maxsize=256)
def fused(net: Network, ends: tuple[int, ...]) -> Fused:
    """Return the network with runs of stages fused.

    Parameters
    ----------
    net : Network
    ends : tuple of int
        The end of each run, in order; the last one is the depth. Each run must be in `unions`.

    Examples
    --------
    >>> from structmat.families import mixed_radix
    >>> coarse = fused(mixed_radix(384), (5, 8))       # eight stages, of 2 and 3
    >>> [stage.banks[0].radix for stage in coarse.network.stages]
    [32, 12]
    >>> [run.depth for run in coarse.runs]
    [5, 3]
    """
    straight, _, outputs = net.straightened()
    found = unions(net)
    runs = list(zip((0, *ends), ends, strict=False))
    stages = [found[run] for run in runs]
    wires = np.arange(net.width)
    if not np.array_equal(outputs, wires):
        stages.append(Stage(net.width, moves=np.stack([outputs, wires], axis=1)))
    return Fused(Network(net.width, stages), tuple(straight[first:end] for first, end in runs))


def _components(stage: Stage) -> Index:
    """Return the index of the switch of each wire; an idle wire has an index of its own."""
    return joined(np.arange(stage.width), (bank.reads for bank in stage.banks))


def _busy(stage: Stage) -> npt.NDArray[np.bool_]:
    """Return which wires are in switches, possibly of radix 1."""
    busy = np.zeros(stage.width, dtype=bool)
    for bank in stage.banks:
        busy[bank.reads] = True
    return busy


def _union(part: Index, busy: npt.NDArray[np.bool_]) -> Stage | None:
    """Return the stage with one switch per component, or None if the components are too large.

    A wire in a component of its own belongs to a switch only if it was in one, of radix 1.
    """
    sizes = np.bincount(part)
    radices = np.unique(sizes[part[busy]])
    if np.count_nonzero(radices > 1) > _MIXED or (len(radices) and radices[-1] > LARGEST):
        return None
    wires = np.argsort(part, kind="stable")  # sorted by component, preserving order within it
    wires = wires[busy[wires] | (sizes[part[wires]] > 1)]
    size = sizes[part[wires]]
    return Stage(len(part), [Bank(wires[size == r].reshape(-1, r)) for r in radices])
