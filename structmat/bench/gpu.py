"""Measure the fused kernels on a GPU: `python -m structmat.bench.gpu`.

First the kernels are checked against the plain path; then three questions are answered. How near
is a rotation to the speed at which memory is copied? What does it add to the step of a frozen
layer, beside what LoRA adds? What does a whole decoder block's step take, by LoRA's?
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from structmat._util.text_table import plain
from structmat.adapters import adapt
from structmat.bench.interleaved import interleaved, relative
from structmat.bench.layers import Batch, training_step
from structmat.bench.llama import Block, Shape, frozen, with_lora
from structmat.bench.machine import synchronize, torch_machine
from structmat.errors import StructmatError
from structmat.families import parse
from structmat.networks.network import Network
from structmat.nn import Orthogonal
from structmat.nn.ops import triton
from structmat.nn.ops.reference import plan_for, rotate

FORMAT, VERSION = "structmat.bench.gpu", 1
DTYPE = torch.bfloat16
# What a stage may be off by: for bfloat16 the step between neighbouring numbers, as Triton's
# interpreter rounds towards zero; for float32 what three products of TF32 and long sums leave out.
STEPS = {torch.bfloat16: 2.0**-7, torch.float32: 2.0**-18}


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes
    ----------
    spec : str
        The topology; the kernels take its stages as they are, the layers may multiply them out.
    shape : Shape
        Of the block; its width is that of the single layer, too.
    tokens, length : int
        In a batch, and in each sequence of it.
    rank : int
        Of LoRA.
    rounds : int
        Of each measurement; the median counts.
    calls : int
        Of a kernel in a round.
    """

    spec: str = "mixed_radix(largest=64)"
    shape: Shape = field(default_factory=Shape)
    tokens: int = 8192
    length: int = 2048
    rank: int = 16
    rounds: int = 20
    calls: int = 20


def measure(setting: Setting, device: str) -> dict[str, Any]:
    """Return all numbers, as they are written in JSON.

    Raises
    ------
    StructmatError
        When the kernels do not run on the device, do not take the network, or are wrong.
    """
    if not triton.available(device):
        raise StructmatError(f"the fused kernels do not run on {device}: they need Triton and CUDA")
    net = parse(setting.spec)(setting.shape.width)
    if not triton.supports(net, DTYPE):
        raise StructmatError(f"{setting.spec}: switches of more than 64 wires; choose a largest=64")
    shape, tokens = setting.shape, setting.tokens
    return {
        "format": FORMAT,
        "version": VERSION,
        "setting": asdict(setting) | {"dtype": "bfloat16"},
        "errors": {  # first: what is wrong is not measured
            str(dtype).removeprefix("torch."): checked(net, device, tokens, dtype)
            for dtype in STEPS
        },
        "kernel": _kernel(net, setting, device),
        "layer": _ratios(
            lambda: nn.Linear(shape.width, shape.width, bias=False),
            (tokens, shape.width),
            setting,
            device,
        ),
        "block": _ratios(
            lambda: Block(shape),
            (tokens // setting.length, setting.length, shape.width),
            setting,
            device,
        ),
        "machine": torch_machine(),
    }


def checked(net: Network, device: str, tokens: int, dtype: torch.dtype = DTYPE) -> dict[str, float]:
    """Return how far the kernels are from the plain path in double precision.

    For the result and the gradient of the vectors, by the length of a vector; for the gradients of
    the blocks, by the product of the lengths of all vectors and all their gradients.

    Raises
    ------
    StructmatError
        When one is further off than a rounding after each stage explains.
    """
    blocks, x, grad = _drawn(net, device, tokens, dtype)
    program = triton.program(net, device)
    errors: dict[str, float] = {}
    for adjoint in (False, True):
        y = triton.forward(program, blocks, x, adjoint=adjoint)
        grad_x, grad_blocks = triton.backward(program, blocks, x, grad, adjoint=adjoint)
        exact = [b.to(dtype).double().requires_grad_() for b in blocks]
        points = x.double().requires_grad_()
        right = rotate(plan_for(net, torch.device(device)), exact, points, adjoint=adjoint)
        wanted = torch.autograd.grad(right, [points, *exact], grad.double())
        size = float(x.double().norm() * grad.double().norm())
        found = {
            "y": _off(y, right.detach(), x),
            "grad_x": _off(grad_x, wanted[0], grad),
            "grad_blocks": max(
                float((a.double() - b).norm()) / size
                for a, b in zip(grad_blocks, wanted[1:], strict=True)
            ),
        }
        errors |= {f"{name}{' of the adjoint' * adjoint}": e for name, e in found.items()}
    bound = 2 * (net.depth + 1) * STEPS[dtype]
    for name, error in errors.items():
        if not error <= bound:  # nor NaN
            raise StructmatError(
                f"the fused kernels are wrong here: {name} is off by {error:.2g}, where roundings"
                f" explain {bound:.2g}; please report it, with the versions of torch and Triton"
            )
    return errors


def _off(found: Tensor, right: Tensor, like: Tensor) -> float:
    return float(((found.double() - right).norm(dim=1) / like.double().norm(dim=1)).max())


def _drawn(
    net: Network, device: str, tokens: int, dtype: torch.dtype = DTYPE
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return random blocks that are orthogonal, vectors and gradients."""
    source = torch.Generator(device).manual_seed(0)
    q = Orthogonal(net, device=device)
    with torch.no_grad():
        for g in q.generators:
            g.normal_(std=0.5, generator=source)
        blocks = q.blocks()
    x, grad = (
        torch.randn(tokens, net.width, device=device, generator=source).to(dtype) for _ in range(2)
    )
    return blocks, x, grad


def _kernel(net: Network, setting: Setting, device: str) -> dict[str, Any]:
    """Return the bandwidths of a copy and of the rotation, by rule and with the best launch."""
    blocks, x, grad = _drawn(net, device, setting.tokens)
    program = triton.program(net, device)
    moved = 2 * x.numel() * x.element_size()
    y = torch.empty_like(x)

    def seconds(step: Callable[[], object]) -> float:
        return _seconds(step, device, setting)

    def with_config(config: triton.Config) -> float:
        return seconds(lambda: triton.forward(program, blocks, x, config=config))

    copy = seconds(lambda: y.copy_(x))
    rule = triton.configured(program, x)
    tried = {config: with_config(config) for config in _configs(rule, device)}
    best = min(tried, key=lambda config: tried[config])
    return {
        "radices": [sorted({bank.radix for bank in stage.banks}) for stage in net.stages],
        "copy": {"seconds": copy, "bytes a second": moved / copy},
        "forward": _speed(tried[rule], copy, moved, rule),
        "best forward": _speed(tried[best], copy, moved, best),
        "backward": {
            "seconds": seconds(lambda: triton.backward(program, blocks, x, grad)),
        },
    }


def _configs(rule: triton.Config, device: str) -> list[triton.Config]:
    """Return the rule's configuration and others to try: all that a tuner would."""
    if device == "cpu":
        return [rule]
    others = [
        triton.Config(vectors, rule.programs * each, warps, stages)
        for vectors in (16, 32, 64)
        for each in (1, 2, 4)
        for warps in (4, 8)
        for stages in (1, 2, 3)
    ]
    return list(dict.fromkeys([rule, *others]))


def _speed(took: float, copy: float, moved: int, config: triton.Config) -> dict[str, Any]:
    return {
        "seconds": took,
        "bytes a second": moved / took,
        "of the copy": copy / took,
        "config": asdict(config),
    }


def _seconds(step: Callable[[], object], device: str, setting: Setting) -> float:
    """Return the median over rounds of the seconds of a call, of many calls in a row."""
    run = _many(step, device, setting.calls)
    found = []
    for _ in range(setting.rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        found.append((time.perf_counter() - start) / setting.calls)
    return statistics.median(found[1:])


def _many(step: Callable[[], object], device: str, calls: int) -> Callable[[], object]:
    """Return the function that calls a step many times.

    On a GPU that is a recorded graph, so that the device is timed and not how fast Python launches.
    """
    step()  # compiles

    def run() -> None:
        for _ in range(calls):
            step()

    if device == "cpu":
        return run
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # torch asks for a call on another stream before it records
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _ratios(
    build: Callable[[], nn.Module], size: Sequence[int], setting: Setting, device: str
) -> dict[str, Any]:
    """Return the step of a module, frozen, with LoRA and rotated, and how they compare."""

    def bare() -> nn.Module:
        return frozen(build, device, DTYPE)

    modules = {
        "frozen": bare(),
        "lora": with_lora(bare(), setting.rank),
        "rotated": adapt(bare(), setting.spec),
    }
    source = torch.Generator(device).manual_seed(1)
    inputs, grad = (torch.randn(*size, device=device, generator=source).to(DTYPE) for _ in range(2))
    batch = Batch(inputs.requires_grad_(), grad)
    steps = {name: training_step(module.train(), batch) for name, module in modules.items()}
    times = interleaved(steps, rounds=setting.rounds)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    added = {name: median[name] - median["frozen"] for name in ("lora", "rotated")}
    return {
        "seconds": median,
        "to frozen": relative(times, "frozen"),
        "to LoRA": relative(times)["rotated"],
        "added by LoRA's": added["rotated"] / added["lora"] if added["lora"] > 0 else None,
        "parameters": {
            name: sum(p.numel() for p in module.parameters() if p.requires_grad)
            for name, module in modules.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """Return the numbers as text."""
    kernel = found["kernel"]
    kernels = [
        (
            name,
            f"{1e6 * kernel[name]['seconds']:,.0f}",
            f"{kernel[name]['bytes a second'] / 1e9:,.0f}",
            f"{100 * kernel[name].get('of the copy', 1.0):.0f} %",
        )
        for name in ("copy", "forward", "best forward")
    ]
    kernels.append(("backward", f"{1e6 * kernel['backward']['seconds']:,.0f}", "—", "—"))
    steps = [
        (
            f"{subject}, {name}",
            f"{found[subject]['parameters'][name]:,}",
            f"{1e3 * found[subject]['seconds'][name]:,.2f}",
            f"{found[subject]['to frozen'][name]:.2f}",
        )
        for subject in ("layer", "block")
        for name in ("frozen", "lora", "rotated")
    ]
    added = found["layer"]["added by LoRA's"]
    beside = "where LoRA adds none" if added is None else f"{added:.2f} of what LoRA adds"
    return "\n\n".join(
        [
            plain(("kernel", "µs", "GB/s", "of the copy"), kernels),
            plain(("step", "trained", "ms", "× frozen"), steps),
            f"Time that rotating adds to a layer's step: {beside}.\n"
            f"A block's step takes {found['block']['to LoRA']:.2f} of LoRA's.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and JSON, and return the exit code: 2 where nothing can be measured.

    Examples
    --------
    >>> main(["--help"])
    Traceback (most recent call last):
    ...
    SystemExit: 0
    """
    parser = argparse.ArgumentParser(
        prog="python -m structmat.bench.gpu",
        description="Measure the fused kernels on the GPU at hand.",
    )
    parser.add_argument(
        "spec", nargs="?", default=Setting.spec, help="the topology (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        if not torch.cuda.is_available():
            raise StructmatError("no GPU: torch sees no CUDA device here")
        found = measure(Setting(options.spec), "cuda")
    except StructmatError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    sys.stdout.write(f"{table(found)}\n\n{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
