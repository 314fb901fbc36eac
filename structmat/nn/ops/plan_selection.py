"""Selection of an execution plan, by the cost model or by timing the candidate plans.

The plan determines which stages are fused; `structmat.nn.ops.execution_plan` selects the backend.

The cost model depends only on the network, the number of vectors, the dtype and the type of device,
so it selects the same plan in every process. With `plan="measure"`, a forward and a backward pass
on random vectors are timed for each promising candidate. The times are cached in memory and, for
later processes, in a file; the cache key consists of the network, the machine, the versions of
torch and structmat, the number of threads, the dtype, and the number of vectors rounded up to a
power of two. All plans give the same result up to rounding.

Other programs disturb timings. The candidates are therefore timed in interleaved rounds until the
two halves of the rounds agree on the fastest plan and on the times; if they never do, a later
process measures again. The selected plan is occasionally timed again, against each of the others in
turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import reduce

import torch

from structmat import __version__
from structmat._util.host import processor
from structmat._util.text_table import Table, counted
from structmat.errors import checked_integer
from structmat.linalg.fused_stages import fused
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.nn.ops import timing_cache
from structmat.nn.ops.backends import compiled, tiled
from structmat.nn.ops.cost_model import Candidate, bucket, candidates, rotates_weight
from structmat.nn.ops.execution_plan import Backend, backend_for
from structmat.nn.ops.plan_cache import PlanCache
from structmat.nn.ops.timing_cache import Ends, Timings

SMALL = 1 << 18  # total size of the vectors, in numbers, below which plans are not timed
_MOST = 1 << 24  # most numbers in the vectors timed; beyond that, time is proportional to size
_ROUNDS = 4, 32  # fewest and most rounds of timing
_SECONDS = 2.0  # once this much time has been measured, no round after the second is started
_TOLERANCE = 0.03  # the cost model decides between plans whose times differ by less
_CHECKS = {16 * 4**k: k for k in range(30)}  # uses at which the selected plan is timed again
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
        `torch.use_deterministic_algorithms(True)`, the cost model selects the plan. Nothing is
        timed while a CUDA graph is captured. There is nothing to select for a backend that fuses
        stages itself.

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
    if measure and not _capturing(device):
        cache.uses[cache_key] += 1
        check = _CHECKS.get(cache.uses[cache_key])
        if found is None or check is not None:
            try:
                found = _fastest_measured(cache, tokens, dtype, device, found, check or 0)
            except torch.cuda.OutOfMemoryError:  # timing requires additional memory
                found = found or _candidates(cache, tokens, dtype, device)[0].ends
            cache.selected[cache_key] = found
    elif found is None:
        found = _candidates(cache, tokens, dtype, device)[0].ends
        if not measure:
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


def _promising(
    cache: PlanCache, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[Candidate, ...]:
    plans = _candidates(cache, tokens, dtype, device)
    return tuple(p for p in plans if p.seconds <= _WORSE * plans[0].seconds)


def _fastest_measured(
    cache: PlanCache,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    current: Ends | None,
    check: int,
) -> Ends:
    """Return the fastest plan, or the current one if it is still faster than one of the others.

    Check 0 compares the current plan with the second fastest, which is the most likely to have
    become faster, check 1 with the third fastest, and so on.
    """
    plans = _promising(cache, tokens, dtype, device)
    if len(plans) == 1:
        return plans[0].ends
    times = measured(cache, tokens, dtype, device)
    if current is not None:
        this, *others = sorted(times, key=lambda p: (p.ends != current, times[p]))
        step = _stepper(cache, tokens, dtype, device)
        if _fastest(_timed(step, (this, others[check % len(others)])).seconds) == current:
            return current
        times = measured(cache, tokens, dtype, device, again=True)
    return _fastest({plan.ends: seconds for plan, seconds in times.items()})


def _fastest(times: Mapping[Ends, float]) -> Ends:
    """Return the first plan that is, within a tolerance, as fast as the fastest."""
    most = (1 + _TOLERANCE) * min(times.values())
    return next(ends for ends, seconds in times.items() if seconds <= most)


def measured(
    cache: PlanCache,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    again: bool = False,
) -> dict[Candidate, float]:
    """Return the cached or newly measured seconds per step of each promising candidate plan.

    With `again`, cached times are replaced; otherwise, provisional ones are combined with new ones.
    """
    plans = _promising(cache, tokens, dtype, device)
    name = _name(cache, tokens, dtype, device)
    known = timing_cache.recall(name)
    again = again or any(plan.ends not in known.seconds for plan in plans)
    if again or known.provisional:
        new = _timed(_stepper(cache, tokens, dtype, device), plans)
        known = new if again else known.with_rounds(new)
        timing_cache.remember(name, known)
    return {plan: known.seconds[plan.ends] for plan in plans}


def _timed(step: Callable[[Candidate], float], plans: tuple[Candidate, ...]) -> Timings:
    """Time plans in interleaved rounds until the two halves of the rounds agree."""
    for plan in plans:
        step(plan)  # a warm-up
    rounds: list[Timings] = []
    fewest, most = _ROUNDS
    spent = 0.0
    while True:
        rounds.append(Timings({plan.ends: step(plan) for plan in plans}, 1, 0.0))
        spent += sum(rounds[-1].seconds.values())
        half = len(rounds) // 2
        if not half:
            continue
        halves = [reduce(Timings.with_rounds, part) for part in (rounds[:half], rounds[half:])]
        both = Timings.with_rounds(*halves)
        agree = not both.provisional and len({_fastest(part.seconds) for part in halves}) == 1
        if len(rounds) == most or spent >= _SECONDS or (agree and len(rounds) >= fewest):
            return both


def _stepper(
    cache: PlanCache, tokens: int, dtype: torch.dtype, device: torch.device
) -> Callable[[Candidate], float]:
    """Prepare a function that times one step of a plan on random vectors, in seconds."""
    net = cache.network
    tokens = min(bucket(tokens), max(1, _MOST // net.width))
    source = torch.Generator().manual_seed(0)
    shapes = [(bank.count, bank.radix, bank.radix) for bank in net.banks]
    with torch.inference_mode(mode=False):
        x = torch.randn(tokens, net.width, generator=source, dtype=dtype).to(device)
        blocks = [
            torch.randn(s, generator=source, dtype=dtype).div_(s[-1]).to(device) for s in shapes
        ]

    def step(candidate: Candidate) -> float:
        plan = cache.plan(candidate.ends, device)
        with torch.inference_mode(mode=False), torch.no_grad():
            start = _now(device)
            acting = plan.fuse(blocks)
            plan.apply(acting, x)
            made, sums = torch.empty_like(x), tiled.zeros_like(acting)
            plan.gradients(acting, x, x, grad_x=made, sums=sums)
            plan.gradients_of_blocks(blocks, sums)
            return _now(device) - start

    return step


def _capturing(device: torch.device) -> bool:
    """Return whether a CUDA graph is being captured, during which nothing can be timed."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


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
    6 wires, 2 stages, 100 vectors of 4-byte numbers on a cpu: compiled, 2 passes
      1  3 cells of 2 wires: 1 block 2×2
      2  2 cells of 3 wires: 1 block 3×3
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
            said.append(f"rotating the layer's weight ({lines}) rather than the {vectors}")
            n = size
        else:
            said.append(f"rotating the {vectors} rather than the layer's weight ({lines})")
    title = (
        f"{counted(net.width, 'wire')}, {counted(net.depth, 'stage')},"
        f" {counted(n, 'vector')} of {dtype.itemsize}-byte numbers on a {device.type}: "
    )
    if backend.FUSES_STAGES:
        return "\n".join([*said, f"{title}{backend.prepared(schedule(net), device)}"])
    ends = selected(cache, n, dtype, device, measure=plan == "measure")
    timings = timing_cache.recall(_name(cache, n, dtype, device)) if plan == "measure" else None
    known = {} if timings is None else timings.seconds
    plans = sorted(_candidates(cache, n, dtype, device), key=lambda p: p.ends != ends)
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
    why = "the cheapest by the cost model; nothing was measured"
    if timings is not None and ends in known:
        why = (
            f"within {_TOLERANCE:.0%} of the shortest training step, measured here in"
            f" {counted(timings.rounds, 'round')} that differ by {timings.spread:.0%}"
        ) + ("; this is provisional" if timings.provisional else "")
    return "\n".join(
        [
            *said,
            f"{title}{plans[0]}",
            schedule(fused(net, ends).network).explain(),
            str(Table(header, rows)),
            f"selected: {why}",
            *_hints(net, device, dtype),
        ]
    )


def _hints(net: Network, device: torch.device, dtype: torch.dtype) -> list[str]:
    """Say why there are no compiled kernels for a network on a CPU, if there are none."""
    if device.type != "cpu":
        return []
    if any(bank.radix > compiled.LARGEST for bank in net.banks):
        return [f"compiled kernels need switches of at most {compiled.LARGEST} wires"]
    if compiled.available(device) or not compiled.supports(net, dtype, dtype):
        return []
    return ['compiled kernels need llvmlite: pip install "structmat[cpu]"']
