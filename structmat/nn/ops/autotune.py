"""Selection of the execution plan, by the cost model or by timing the candidate plans once.

The cost model depends only on the network, the number of vectors, the dtype and the type of the
device, so that it selects the same plan in every process. With `plan="measure"`, a forward and a
backward pass on random vectors are timed. The times are cached in memory and, for later processes,
in a file; the cache key consists of the network, the machine, the versions, the number of threads,
the dtype, and the number of vectors rounded up to a power of two. All plans give the same result,
up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from structmat import __version__
from structmat._util.host import processor
from structmat.linalg.schedule import schedule
from structmat.nn.ops import tiled, timing_cache
from structmat.nn.ops.cost_model import Choice, bucket, choices, explain, turns_weight
from structmat.nn.ops.execution_plan import Program
from structmat.nn.ops.timing_cache import Ends

SMALL = 1 << 18  # total size of the vectors below which nothing is measured
_MOST = 1 << 24  # largest total size of the vectors timed; beyond it, time is proportional to size
_ROUNDS = 3
_WORSE = 3.0  # candidates this many times slower than the best by the cost model are not timed


def chosen(
    program: Program,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    measure: bool = False,
) -> Ends:
    """Return the ends of the fused runs of stages of the selected plan for a number of vectors.

    Parameters
    ----------
    program : Program
    tokens : int
    dtype : torch dtype
        The dtype of the blocks.
    device : torch device
    measure : bool
        Whether to time the candidate plans if there are many vectors. Otherwise, and under
        `torch.use_deterministic_algorithms(True)`, the cost model selects the plan.

    Returns
    -------
    tuple of int
        As accepted by `structmat.linalg.fusion.merged`.
    """
    tokens = bucket(tokens)
    many = tokens * program.network.width >= SMALL
    measure = measure and many and not torch.are_deterministic_algorithms_enabled()
    # Times depend on the number of threads, which may change; the cost model does not.
    cache_key = tokens, dtype, device, _machine(device) if measure else None
    found = program.chosen.get(cache_key)
    if found is None:
        candidates = _candidates(program, tokens, dtype, device)
        found = candidates[0].ends
        if measure and len(candidates) > 1:
            times = measured(program, tokens, dtype, device)
            found = min(times, key=lambda candidate: times[candidate]).ends
        program.chosen[cache_key] = found
    return found


def _candidates(
    program: Program, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[Choice, ...]:
    return choices(program.network, bucket(tokens), itemsize=dtype.itemsize, device=device.type)


def measured(
    program: Program, tokens: int, dtype: torch.dtype, device: torch.device
) -> dict[Choice, float]:
    """Return the seconds per step of each promising candidate plan, from the cache or measured."""
    plans = _candidates(program, tokens, dtype, device)
    plans = tuple(p for p in plans if p.cost.seconds <= _WORSE * plans[0].cost.seconds)
    name = _name(program, bucket(tokens), dtype, device)
    known: Mapping[Ends, float] = timing_cache.recall(name)
    if any(plan.ends not in known for plan in plans):
        most = max(1, _MOST // program.network.width)
        seconds = _timed(program, plans, min(bucket(tokens), most), dtype, device)
        known = dict(zip((plan.ends for plan in plans), seconds, strict=True))
        timing_cache.remember(name, known)
    return {plan: known[plan.ends] for plan in plans}


def _timed(
    program: Program,
    plans: tuple[Choice, ...],
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[float]:
    """Return the shortest time of a step of each plan over a few interleaved rounds, in seconds."""
    net = program.network
    source = torch.Generator().manual_seed(0)
    shapes = [(bank.count, bank.radix, bank.radix) for bank in net.banks]
    with torch.inference_mode(mode=False), torch.no_grad():
        x = torch.randn(tokens, net.width, generator=source, dtype=dtype).to(device)
        blocks = [
            torch.randn(s, generator=source, dtype=dtype).div_(s[-1]).to(device) for s in shapes
        ]
        best = [float("inf")] * len(plans)
        for round_number in range(_ROUNDS + 1):
            for k, plan in enumerate(plans):
                tape = program.tape(plan.ends, device)
                start = _now(device)
                acting = tape.merge(blocks)
                tape.apply(acting, x, adjoint=False)
                made, sums = torch.empty_like(x), tiled.zeros_like(acting)
                tape.gradients(acting, x, x, adjoint=False, grad_x=made, sums=sums)
                tape.unmerge(blocks, sums)
                if round_number:  # round 0 is a warm-up
                    best[k] = min(best[k], _now(device) - start)
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _name(program: Program, tokens: int, dtype: torch.dtype, device: torch.device) -> str:
    return " ".join([program.key, str(tokens), str(dtype).removeprefix("torch."), _machine(device)])


def _machine(device: torch.device) -> str:
    what = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{processor()}, {torch.get_num_threads()} threads"
    )
    return f"{device.type} {what}, torch {torch.__version__}, structmat {__version__}"


def explained(
    program: Program,
    tokens: int,
    outputs: int | None,
    dtype: torch.dtype,
    device: torch.device,
    *,
    plan: str,
) -> str:
    """Describe how a program is run, for `Orthogonal.explain`."""
    net = program.network
    given = tokens
    if outputs is not None and turns_weight(
        net, tokens, outputs, itemsize=dtype.itemsize, device=device.type
    ):
        tokens = outputs
    if plan == "reference":
        return 'plan="reference": stage by stage\n' + schedule(net).explain()
    ends = chosen(program, tokens, dtype, device, measure=plan == "measure")
    candidates = _candidates(program, tokens, dtype, device)
    name = _name(program, bucket(tokens), dtype, device)
    known = timing_cache.recall(name) if plan == "measure" else {}
    return explain(
        net,
        given,
        outputs=outputs,
        itemsize=dtype.itemsize,
        device=device.type,
        chosen=next(c for c in candidates if c.ends == ends),
        measured={c: known[c.ends] for c in candidates if c.ends in known},
    )
