"""Selection of an execution plan, by the cost model or by timing the candidate plans once.

The cost model depends only on the network, the number of vectors, the dtype and the type of device,
so it selects the same plan in every process. With `plan="measure"`, a forward and a backward pass
on random vectors are timed for each promising candidate. The times are cached in memory and, for
later processes, in a file; the cache key consists of the network, the machine, the versions, the
number of threads, the dtype, and the number of vectors rounded up to a power of two. All plans give
the same result up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from structmat import __version__
from structmat._util.host import processor
from structmat._util.text_table import counted, plain
from structmat.errors import checked_integer
from structmat.linalg.fused_stages import fused
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.nn.ops import timing_cache
from structmat.nn.ops.backends import tiled
from structmat.nn.ops.cost_model import Candidate, bucket, candidates, rotates_weight
from structmat.nn.ops.execution_plan import Backend, backend_for
from structmat.nn.ops.plan_cache import PlanCache
from structmat.nn.ops.timing_cache import Ends

SMALL = 1 << 18  # total size of the vectors below which plans are not timed
_MOST = 1 << 24  # largest total size of the vectors timed; beyond it, time is proportional to size
_ROUNDS = 3
_WORSE = 3.0  # candidates whose modelled time exceeds the best by this factor are not timed


def selected(
    cache: PlanCache,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    vectors: torch.dtype | None = None,
    measure: bool = False,
) -> Ends:
    """Return the selected plan for a number of vectors, as the ends of its fused runs of stages.

    Parameters
    ----------
    cache : PlanCache
    tokens : int
    dtype : torch dtype
        The dtype of the blocks.
    device : torch device
    vectors : torch dtype, optional
        The dtype of the vectors; by default that of the blocks.
    measure : bool
        Whether to time the candidate plans if there are many vectors. Otherwise, and under
        `torch.use_deterministic_algorithms(True)`, the cost model selects the plan. There is
        nothing to select for a backend that fuses stages itself.

    Returns
    -------
    tuple of int
        As accepted by `structmat.linalg.fused_stages.fused`.
    """
    if backend_for(cache.network, device, vectors or dtype, dtype).FUSES_STAGES:
        return every_stage(cache.network)
    tokens = bucket(tokens)
    many = tokens * cache.network.width >= SMALL
    measure = measure and many and not torch.are_deterministic_algorithms_enabled()
    # Times, unlike the cost model, depend on the number of threads, which may change.
    cache_key = tokens, dtype, device, _machine(device) if measure else None
    found = cache.selected.get(cache_key)
    if found is None:
        plans = _candidates(cache, tokens, dtype, device)
        found = plans[0].ends
        if measure and len(plans) > 1:
            times = measured(cache, tokens, dtype, device)
            found = min(times, key=lambda candidate: times[candidate]).ends
        cache.selected[cache_key] = found
    return found


def every_stage(net: Network) -> Ends:
    """Return the plan in which no stages are fused."""
    return tuple(range(1, net.depth + 1))


def rates_of(backend: Backend, device: torch.device) -> str:
    """Return the name of the rates that the cost model assumes for a backend on a device."""
    return "compiled" if backend.FUSES_STAGES else device.type


def _candidates(
    cache: PlanCache, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[Candidate, ...]:
    return candidates(cache.network, bucket(tokens), itemsize=dtype.itemsize, device=device.type)


def measured(
    cache: PlanCache, tokens: int, dtype: torch.dtype, device: torch.device
) -> dict[Candidate, float]:
    """Return the cached or newly measured seconds per step of each promising candidate plan."""
    plans = _candidates(cache, tokens, dtype, device)
    plans = tuple(p for p in plans if p.seconds <= _WORSE * plans[0].seconds)
    name = _name(cache, tokens, dtype, device)
    known: Mapping[Ends, float] = timing_cache.recall(name)
    if any(plan.ends not in known for plan in plans):
        most = max(1, _MOST // cache.network.width)
        seconds = _timed(cache, plans, min(bucket(tokens), most), dtype, device)
        known = dict(zip((plan.ends for plan in plans), seconds, strict=True))
        timing_cache.remember(name, known)
    return {plan: known[plan.ends] for plan in plans}


def _timed(
    cache: PlanCache,
    plans: tuple[Candidate, ...],
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[float]:
    """Return the shortest step time of each plan over a few interleaved rounds, in seconds."""
    net = cache.network
    source = torch.Generator().manual_seed(0)
    shapes = [(bank.count, bank.radix, bank.radix) for bank in net.banks]
    with torch.inference_mode(mode=False), torch.no_grad():
        x = torch.randn(tokens, net.width, generator=source, dtype=dtype).to(device)
        blocks = [
            torch.randn(s, generator=source, dtype=dtype).div_(s[-1]).to(device) for s in shapes
        ]
        best = [float("inf")] * len(plans)
        for round_number in range(_ROUNDS + 1):
            for k, candidate in enumerate(plans):
                plan = cache.plan(candidate.ends, device)
                start = _now(device)
                acting = plan.fuse(blocks)
                plan.apply(acting, x)
                made, sums = torch.empty_like(x), tiled.zeros_like(acting)
                plan.gradients(acting, x, x, grad_x=made, sums=sums)
                plan.gradients_of_blocks(blocks, sums)
                if round_number:  # round 0 is a warm-up
                    best[k] = min(best[k], _now(device) - start)
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _name(cache: PlanCache, tokens: int, dtype: torch.dtype, device: torch.device) -> str:
    kind = str(dtype).removeprefix("torch.")
    return " ".join([cache.key, str(bucket(tokens)), kind, _machine(device)])


def _machine(device: torch.device) -> str:
    what = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{processor()}, {torch.get_num_threads()} threads"
    )
    return f"{device.type} {what}, torch {torch.__version__}, structmat {__version__}"


def explain(
    cache: PlanCache,
    tokens: int,
    outputs: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    *,
    plan: str = "auto",
) -> str:
    """Describe the selected plan for a number of vectors, the reason, and the other candidates.

    Parameters
    ----------
    cache : PlanCache
    tokens : int
        The number of vectors.
    outputs : int, optional
        The number of rows of the weight of a frozen linear layer that follows; the weight may be
        rotated instead of the vectors.
    dtype : torch dtype
        The dtype of the blocks.
    device : torch device, optional
        By default the CPU.
    plan : {"auto", "measure", "reference"}

    Examples
    --------
    >>> from structmat.families import monarch
    >>> print(explain(PlanCache(monarch(6)), 100))
    6 wires, 2 stages, 100 vectors of 4-byte numbers on a cpu: 2 · 3
    6 wires, 2 stages: 4 steps, 2 of them permutations (2 transposes, 0 index arrays)
    ...
    """
    net, n = cache.network, checked_integer(tokens, "tokens")
    device = torch.device("cpu") if device is None else device
    if plan == "reference":
        return 'plan="reference": stage by stage\n' + schedule(net).explain()
    said = []
    backend = backend_for(net, device, dtype, dtype)
    if outputs is not None:
        size = checked_integer(outputs, "outputs", 1)
        lines, vectors = counted(size, "row"), counted(n, "vector")
        rates = rates_of(backend, device)
        if rotates_weight(net, n, size, itemsize=dtype.itemsize, device=rates):
            said.append(f"the layer's weight is rotated, {lines}, not the {vectors}")
            n = size
        else:
            are = "is" if n == 1 else "are"
            said.append(f"the {vectors} {are} rotated, not the layer's {lines}")
    title = (
        f"{counted(net.width, 'wire')}, {counted(net.depth, 'stage')},"
        f" {counted(n, 'vector')} of {dtype.itemsize}-byte numbers on a {device.type}: "
    )
    if backend.FUSES_STAGES:
        return "\n".join([*said, f"{title}{backend.prepared(schedule(net), device)}"])
    ends = selected(cache, n, dtype, device, measure=plan == "measure")
    known = timing_cache.recall(_name(cache, n, dtype, device)) if plan == "measure" else {}
    best = next(p for p in _candidates(cache, n, dtype, device) if p.ends == ends)
    exact = candidates(net, n, itemsize=dtype.itemsize, device=device.type)  # not rounded up
    plans = {p.ends: p for p in (best, *exact)}.values()
    rows = [
        (
            ("→ " if p.ends == ends else "  ") + str(p),
            f"{p.cost.flops:.3g}",
            f"{p.cost.bytes:.3g}",
            f"{p.cost.launches}",
            f"{1e3 * p.seconds:.3g}",
            f"{1e3 * known[p.ends]:.3g}" if p.ends in known else "—",
        )
        for p in plans
    ]
    header = ("products (stages→radix)", "flops", "bytes", "launches", "model ms", "measured ms")
    why = (
        "the shortest training step, measured here"
        if ends in known
        else "the cheapest by the cost model; nothing was measured"
    )
    return "\n".join(
        [
            *said,
            f"{title}{best}",
            schedule(fused(net, ends).network).explain(),
            plain(header, rows),
            f"selected: {why}",
        ]
    )
