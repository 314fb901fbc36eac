"""Benchmark of the Triton kernels on a GPU: `python -m structmat.bench.gpu`.

The kernels are first checked against the reference implementation. Then three quantities are
measured: the speed of a rotation relative to a memory copy; the time that the rotation adds to a
frozen layer's step, relative to LoRA; and the step time of a whole decoder block, relative to LoRA.
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

from structmat._util.text_table import Table
from structmat.adapters import adapt
from structmat.bench.interleaved import interleaved, relative
from structmat.bench.layer_benchmark import Batch, training_step
from structmat.bench.llama import Block, Shape, frozen, with_lora
from structmat.bench.machine import synchronize, torch_machine
from structmat.errors import StructmatError
from structmat.families import parse
from structmat.linalg.schedule import schedule
from structmat.networks.network import Network
from structmat.nn import Orthogonal
from structmat.nn.ops import reference
from structmat.nn.ops.backends import tiled, triton

FORMAT, VERSION = "structmat.bench.gpu", 1
DTYPE = torch.bfloat16
# The relative error allowed for a stage: for bfloat16 the spacing of adjacent numbers, because
# Triton's interpreter rounds towards zero; for float32 the error of three TF32 products and long
# sums.
STEPS = {torch.bfloat16: 2.0**-7, torch.float32: 2.0**-18}


@dataclass(frozen=True)
class Setting:
    """The settings of the benchmark.

    Attributes
    ----------
    spec : str
        The topology; the kernels use its stages unchanged, but the layers may fuse them.
    shape : Shape
        The shape of the decoder block, whose width is also that of the single layer.
    tokens, length : int
        The numbers of tokens in a batch and in each of its sequences.
    rank : int
        The rank of LoRA.
    rounds : int
        The number of rounds of each measurement; the median over rounds is used.
    calls : int
        The number of kernel calls in a round.
    """

    spec: str = "mixed_radix(largest=64)"
    shape: Shape = field(default_factory=Shape)
    tokens: int = 8192
    length: int = 2048
    rank: int = 16
    rounds: int = 20
    calls: int = 20


def measure(setting: Setting, device: str) -> dict[str, Any]:
    """Run the benchmark, and return all results as a JSON-serialisable dict.

    Raises
    ------
    StructmatError
        If the kernels do not run on the device, do not support the network, or are inaccurate.
    """
    if not triton.available(device):
        raise StructmatError(
            f"the Triton kernels do not run on {device}: they need Triton and CUDA"
        )
    net = parse(setting.spec)(setting.shape.width)
    if not triton.supports(net, DTYPE):
        raise StructmatError(f"{setting.spec} has switches of more than 64 wires; use largest=64")
    shape, tokens = setting.shape, setting.tokens
    return {
        "format": FORMAT,
        "version": VERSION,
        "setting": asdict(setting) | {"dtype": "bfloat16"},
        "errors": {  # first, so that inaccurate kernels are not timed
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
    """Return the errors of the kernels compared with the reference in double precision.

    The error in each result is relative to the norm of its vector, and that in the gradient for a
    vector to the norm of the result's gradient; errors in gradients for blocks are relative to the
    product of the norms of all vectors and all gradients of results.

    Raises
    ------
    StructmatError
        If an error exceeds the bound on rounding errors, which assumes rounding after each stage.
    """
    blocks, x, grad = _drawn(net, device, tokens, dtype)
    steps = reference.Steps.of(schedule(net), torch.device(device))
    tables = triton.prepared(schedule(net), device)
    errors: dict[str, float] = {}
    for adjoint in (False, True):
        y = triton.apply(tables, blocks, x, adjoint=adjoint)
        grad_x, sums = torch.empty_like(x), tiled.zeros_like(blocks)
        triton.gradients(tables, blocks, x, grad, adjoint=adjoint, grad_x=grad_x, sums=sums)
        exact = [b.to(dtype).double().requires_grad_() for b in blocks]
        points = x.double().requires_grad_()
        right = reference.apply(steps, exact, points, adjoint=adjoint)
        wanted = torch.autograd.grad(right, [points, *exact], grad.double())
        size = float(x.double().norm() * grad.double().norm())
        found = {
            "y": _relative_error(y, right.detach(), x),
            "grad_x": _relative_error(grad_x, wanted[0], grad),
            "grad_blocks": max(
                float((a.double() - b).norm()) / size for a, b in zip(sums, wanted[1:], strict=True)
            ),
        }
        errors |= {f"{name}{' of the adjoint' * adjoint}": e for name, e in found.items()}
    bound = 2 * (net.depth + 1) * STEPS[dtype]
    for name, error in errors.items():
        if not error <= bound:  # also catches NaN
            raise StructmatError(
                f"the Triton kernels are inaccurate here: the error of {name} is {error:.2g}, above"
                f" the bound {bound:.2g} for rounding; please report it, with the versions of torch"
                " and Triton"
            )
    return errors


def _relative_error(found: Tensor, right: Tensor, like: Tensor) -> float:
    return float(((found.double() - right).norm(dim=1) / like.double().norm(dim=1)).max())


def _drawn(
    net: Network, device: str, tokens: int, dtype: torch.dtype = DTYPE
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return random orthogonal blocks, vectors and gradients."""
    source = torch.Generator(device).manual_seed(0)
    q = Orthogonal(net, device=device, generator_scaling="none")
    with torch.no_grad():
        for g in q.generators:
            g.normal_(std=0.5, generator=source)
        blocks = q.blocks()
    x, grad = (
        torch.randn(tokens, net.width, device=device, generator=source).to(dtype) for _ in range(2)
    )
    return blocks, x, grad


def _kernel(net: Network, setting: Setting, device: str) -> dict[str, Any]:
    """Return the bandwidths of a copy, and of the rotation with the default and the best launch."""
    blocks, x, grad = _drawn(net, device, setting.tokens)
    tables = triton.prepared(schedule(net), device)
    moved = 2 * x.numel() * x.element_size()
    y, sums = torch.empty_like(x), tiled.zeros_like(blocks)

    def seconds(step: Callable[[], object]) -> float:
        return _seconds(step, device, setting)

    def with_config(config: triton.Config) -> float:
        return seconds(lambda: triton.apply(tables, blocks, x, config=config))

    copy = seconds(lambda: y.copy_(x))
    rule = triton.configured(tables, x)
    tried = {config: with_config(config) for config in _configs(rule, device)}
    best = min(tried, key=lambda config: tried[config])
    return {
        "radices": [sorted({bank.radix for bank in stage.banks}) for stage in net.stages],
        "copy": {"seconds": copy, "bytes a second": moved / copy},
        "forward": _speed(tried[rule], copy, moved, rule),
        "best forward": _speed(tried[best], copy, moved, best),
        "backward": {
            "seconds": seconds(
                lambda: triton.gradients(tables, blocks, x, grad, grad_x=y, sums=sums)
            ),
        },
    }


def _configs(rule: triton.Config, device: str) -> list[triton.Config]:
    """Return the default configuration and the alternatives that an autotuner would try."""
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
    """Return the median over rounds of the average time of a call, in seconds."""
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
    """Prepare a function that calls a step many times.

    On a GPU, it replays a recorded graph, so that the device rather than Python is timed.
    """
    step()  # compiles the kernels

    def run() -> None:
        for _ in range(calls):
            step()

    if device == "cpu":
        return run
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # torch requires a call on another stream before recording
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _ratios(
    build: Callable[[], nn.Module], size: Sequence[int], setting: Setting, device: str
) -> dict[str, Any]:
    """Return the step times of a module when frozen, with LoRA and rotated, and their ratios."""

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
    """Return the results as text."""
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
    compared = "LoRA adds none" if added is None else f"{added:.2f} times that of LoRA"
    return "\n\n".join(
        [
            str(Table(("kernel", "µs", "GB/s", "of the copy"), kernels)),
            str(Table(("step", "trained", "ms", "vs frozen"), steps)),
            f"Time added to a layer's step by the rotation: {compared}.\n"
            f"Time of a block's step: {found['block']['to LoRA']:.2f} times that of LoRA.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print a table and JSON, and return the exit code, 2 on errors.

    Examples
    --------
    >>> main(["--help"])
    Traceback (most recent call last):
    ...
    SystemExit: 0
    """
    parser = argparse.ArgumentParser(
        prog="python -m structmat.bench.gpu",
        description="Benchmark the Triton kernels on this machine's GPU.",
    )
    parser.add_argument(
        "spec", nargs="?", default=Setting.spec, help="the topology (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        if not torch.cuda.is_available():
            raise StructmatError("no GPU: torch finds no CUDA device")
        found = measure(Setting(options.spec), "cuda")
    except StructmatError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    sys.stdout.write(f"{table(found)}\n\n{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
