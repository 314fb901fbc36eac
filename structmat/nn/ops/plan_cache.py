"""A cache of execution plans for each network, which the torch operator looks up by key.

The key is the same in every process. The tensors of a plan are created on the first use of a
device, but never while a graph is traced.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable
from functools import lru_cache
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from structmat.analysis import gauge
from structmat.errors import StructmatError
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.nn import torch_internals
from structmat.nn.ops.execution_plan import BACKENDS, ExecutionPlan, execution_plan
from structmat.nn.ops.reference import Steps

_T = TypeVar("_T")


class PlanCache:
    """The execution plans of a network, by device and fused stages.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    network : Network
    key : str
        A digest of the wiring.
    selected : dict
        The selected plans, as the ends of their fused runs of stages, by cache key;
        `structmat.nn.ops.plan_selection` fills it.
    uses : Counter
        How often each plan selected by timing was used, by cache key.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.key = _key(network)
        self.selected: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self.uses: Counter[tuple[Any, ...]] = Counter()
        self._made: dict[Hashable, Any] = {}

    def plan(self, ends: tuple[int, ...], device: torch.device) -> ExecutionPlan:
        """Return the plan in which the runs of stages with these ends are fused."""
        backends = tuple(backend for backend in BACKENDS if backend.available(device))
        return self._cached(
            (ends, device, backends),
            lambda: execution_plan(self.network, ends, backends, device),
        )

    def steps(self, device: torch.device) -> Steps:
        """Return the steps of the network itself, for the reference implementation."""
        return self._cached(device, lambda: Steps.of(schedule(self.network), device, views=True))

    def places(self, device: torch.device, *, field: str) -> tuple[Tensor | None, ...]:
        """Return, for each bank, the indices of the generators that `reduced` keeps.

        A bank that keeps all of its generators yields None.
        """
        kept = kept_generators(self.network, field=field)
        return self._cached(
            (device, field),
            lambda: tuple(
                None if k.all() else torch.tensor(np.flatnonzero(k), device=device) for k in kept
            ),
        )

    def _cached(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the value cached under a key, or compute it; only eager mode stores values."""
        if not torch_internals.eager():
            with torch_internals.untraced():
                return make()
        if key not in self._made:
            with torch.inference_mode(mode=False):  # a later call may need gradients
                self._made[key] = make()
        found: _T = self._made[key]
        return found


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def kept_generators(net: Network, *, field: str) -> tuple[npt.NDArray[np.bool_], ...]:
    """Return, for each bank, a mask (n, g) of the generators that `structmat.reduced` keeps."""
    return gauge.reduced(net, field=field).kept


@torch_internals.constant
def steps_of(key: str, device: torch.device) -> Steps:
    """Return `PlanCache.steps` for the cache with this key."""
    return found(key).steps(device)


@torch_internals.constant
def places_of(key: str, device: torch.device, *, field: str) -> tuple[Tensor | None, ...]:
    """Return `PlanCache.places` for the cache with this key."""
    return found(key).places(device, field=field)


def _key(net: Network) -> str:
    """Return a digest of the wiring that is the same in every process."""
    digest = hashlib.sha256(f"{net.width}".encode())
    for stage in net.stages:
        digest.update(b"stage")
        for bank in stage.banks:
            digest.update(f"bank {bank.count} {bank.radix}".encode())  # separates the arrays
            digest.update(bank.reads.tobytes())
            digest.update(bank.writes.tobytes())
        for wires in stage.passing:
            digest.update(wires.tobytes())
    return digest.hexdigest()[:32]


_ALIVE: WeakValueDictionary[str, PlanCache] = WeakValueDictionary()
_LOCK = RLock()  # two caches for one key would have different lifetimes


def _unlock() -> None:
    """Replace the lock in a forked process, in which no thread is left to release the old one."""
    global _LOCK
    _LOCK = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@lru_cache(maxsize=64)  # a model has many layers of a few widths
def cache_for(net: Network) -> PlanCache:
    """Return the cache of a network; while it is referenced, `found` can look it up."""
    made = PlanCache(net)
    with _LOCK:
        return _ALIVE.setdefault(made.key, made)


def found(key: str) -> PlanCache:
    """Return the cache with this key.

    Raises
    ------
    StructmatError
        If no such cache exists in this process.
    """
    cache = _ALIVE.get(key)
    if cache is None:
        raise StructmatError(
            f"key {key}: no layer with its network exists in this process; create one with"
            " Orthogonal(network) first"
        )
    return cache
